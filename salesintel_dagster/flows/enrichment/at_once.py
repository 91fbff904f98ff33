"""Calls that wait for the same service, made side by side: a round's ten batches cost one answer's time, not ten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from salesintel_dagster.domain.enrichment.batch import Batch
from salesintel_dagster.domain.enrichment.ports import EnrichmentBatches

One = TypeVar("One")
Result = TypeVar("Result")


def at_once(concurrency: int, call: Callable[[One], Result], each: Sequence[One]) -> list[Result]:
    """Return what the calls return, in order. Raises what the first of them raises, when all have ended."""
    if concurrency == 1 or len(each) <= 1:
        return [call(one) for one in each]
    with ThreadPoolExecutor(min(concurrency, len(each))) as threads:
        return list(threads.map(call, each))


def replaced(batches: EnrichmentBatches, pairs: Sequence[tuple[Batch, Batch]], concurrency: int) -> list[bool]:
    """Write each batch over the one that was seen; tell which were still that. Raises LedgerUnavailable."""
    return at_once(concurrency, lambda pair: batches.replace(*pair), pairs)
