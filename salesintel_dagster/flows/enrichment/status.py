"""How a job stands: its products by state, its batches, the provider's tokens, and when it may be done. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from salesintel_dagster.domain.enrichment.batch import FINAL, Batch, Reason, State, counts
from salesintel_dagster.domain.enrichment.job import Job
from salesintel_dagster.domain.enrichment.tokens import TokenLevel


@dataclass(frozen=True, slots=True)
class Why:
    """Why so many products of a job wait (`state` RETRY) or failed; `detail` is what was said of one, `product_id`."""

    state: State
    reason: Reason
    products: int
    product_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job as it stands. `states` are products by told state (`FAILED_NOT_FOUND` and so on)."""

    job: Job
    states: Mapping[str, int]
    batch_states: Mapping[str, int]
    tokens_left: int | None
    estimated_finish: datetime | None
    unsent: int
    whys: tuple[Why, ...] = ()

    @property
    def waits_for_table(self) -> bool:
        """Facts are paid for that the table does not take."""
        return any(why.state is State.RETRY and why.reason is Reason.STORE_FAILED for why in self.whys)

    @property
    def finished(self) -> int:
        """Products that are DONE or FAILED."""
        return sum(count for name, count in self.states.items() if name == State.DONE or name.startswith(State.FAILED))

    @property
    def is_final(self) -> bool:
        """Nothing is left to do."""
        return self.finished == self.job.products

    @property
    def state(self) -> str:
        """The job in one word."""
        if self.is_final:
            return State.FAILED if self.states.get(State.DONE, 0) == 0 else State.DONE
        return next((name for name in (State.RUNNING, State.RETRY) if self.states.get(name)), State.PENDING)


def status_of(job: Job, batches: Sequence[Batch], tokens: TokenLevel | None, now: datetime) -> JobStatus:
    """Return how a job stands."""
    left = sum(status.state not in FINAL for batch in batches for status in batch.statuses)
    found = JobStatus(
        job,
        dict(counts(batches)),
        dict(Counter(batch.state.value for batch in batches)),
        None if tokens is None else int(tokens.at(now)),
        _finish(batches, left, tokens, now),
        sum(batch.sent_at is None and not batch.is_final for batch in batches),
        _whys(batches),
    )
    # Nobody knows when a table comes back: the pace said six hours for what took two minutes then.
    return replace(found, estimated_finish=None) if found.waits_for_table else found


def _whys(batches: Sequence[Batch]) -> tuple[Why, ...]:
    """Return the reasons, those of waiting products first, with the first product of each as an example."""
    found: dict[tuple[State, Reason], list[tuple[str, str]]] = {}
    for batch in batches:
        for product, status in zip(batch.products, batch.statuses, strict=True):
            if status.reason is not None and status.state in {State.RETRY, State.FAILED}:
                said = (product.product_id, status.detail)
                found.setdefault((status.state, status.reason), []).append(said)
    ordered = sorted(found.items(), key=lambda one: (one[0][0] is State.FAILED, one[0][1]))
    return tuple(Why(state, reason, len(said), *said[0]) for (state, reason), said in ordered)


def _finish(batches: Sequence[Batch], left: int, tokens: TokenLevel | None, now: datetime) -> datetime | None:
    """Estimate from the pace so far and from the tokens, whichever is slower; None where nothing is known yet.

    A finished job gives the instant at which its last batch was.
    """
    if not left:
        return max((batch.finished_at for batch in batches if batch.finished_at), default=None)
    waits = [tokens.wait_seconds(left, now)] if tokens is not None else []
    begun = min((batch.started_at for batch in batches if batch.started_at), default=None)
    done = sum(status.state in FINAL for batch in batches for status in batch.statuses)
    if begun is not None and done:
        waits.append((now - begun).total_seconds() / done * left)
    nexts = [(batch.not_before - now).total_seconds() for batch in batches if batch.not_before and not batch.is_final]
    waits += [max(nexts)] if nexts else []
    return now + timedelta(seconds=max(waits)) if waits else None
