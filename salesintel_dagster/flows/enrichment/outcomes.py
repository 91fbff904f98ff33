"""What an outcome makes of a product: its next state, how long its batch waits, and the row it becomes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from salesintel_dagster.domain.enrichment.batch import FINAL, Batch, ProductStatus, Reason, State
from salesintel_dagster.domain.enrichment.facts import NoFacts, ProductFacts
from salesintel_dagster.domain.errors import ProviderRefused, ProviderThrottled
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.enrichment.parts import STORE_WAIT_SECONDS
from salesintel_dagster.flows.enrichment.requests import ASK_ALONE, Missed, Outcome, Paid


@dataclass(frozen=True, slots=True)
class Judgement:
    """A batch after its try: the states of its products, and how long it waits before the next try, if one is due."""

    statuses: tuple[ProductStatus, ...]
    wait_seconds: float | None


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and at what distance a product is tried; `jitter` in [0, 1)."""

    attempts: int
    retry: RetryPolicy
    jitter: float


def judged(
    batch: Batch, outcomes: Mapping[str, Outcome | None], patience: Patience, now: datetime, *, stored: bool
) -> Judgement:
    """Judge a batch by outcomes by product id; without `stored` the facts did not reach the table, and wait for it.

    A table that fails is no try of the product: it was paid for and is kept.
    """
    statuses = tuple(
        status
        if status.state in FINAL
        else _next(status, outcomes.get(product.product_id), patience.attempts, stored=stored)
        for product, status in zip(batch.products, batch.statuses, strict=True)
    )
    keys = {
        product.key for product, status in zip(batch.products, statuses, strict=True) if status.state is State.RETRY
    }
    waits = [
        _wait_seconds(status, outcomes.get(product.product_id), patience, len(keys), now)
        for product, status in zip(batch.products, statuses, strict=True)
        if status.state is State.RETRY
    ]
    return Judgement(statuses, max(waits, default=None))


def _next(status: ProductStatus, outcome: Outcome | None, attempts: int, *, stored: bool) -> ProductStatus:
    match outcome:
        case ProductFacts() | Paid() if stored:
            return status.to(State.DONE, tried=isinstance(outcome, ProductFacts))
        case ProductFacts() | Paid():
            detail = "paid for and kept; the table product_enrichment has not taken it yet"
            return status.to(State.RETRY, Reason.STORE_FAILED, detail, tried=isinstance(outcome, ProductFacts))
        case NoFacts():
            return status.to(State.FAILED, outcome.reason, outcome.detail, tried=True)
        case Missed(tried=True):
            return _missed(status, outcome, attempts)
        case Missed():
            return _waiting(status, outcome.failure.reason, outcome.failure.detail)
    return _waiting(status, Reason.OUT_OF_TOKENS, "waits for tokens")


def _missed(status: ProductStatus, outcome: Missed, attempts: int) -> ProductStatus:
    """Judge a try in vain. What was said of a whole request is no last word on one of its products (H2)."""
    reason, detail = outcome.failure.reason, outcome.failure.detail
    if reason in ASK_ALONE and not outcome.alone:
        return status.to(State.RETRY, reason, detail, tried=True)
    final = outcome.alone and isinstance(outcome.failure, ProviderRefused)
    return _again(status, reason, detail, 1 if final else attempts)


def _waiting(status: ProductStatus, reason: Reason, detail: str) -> ProductStatus:
    """Let a product wait; one that is to be asked for alone remembers why."""
    if status.reason in ASK_ALONE and status.attempts > 0:
        return status.to(State.RETRY, status.reason, detail)
    return status.to(State.RETRY, reason, detail)


def _again(status: ProductStatus, reason: Reason, detail: str, attempts: int) -> ProductStatus:
    last = status.attempts + 1 >= attempts
    return status.to(State.FAILED if last else State.RETRY, reason, detail, tried=True)


def _wait_seconds(
    status: ProductStatus, outcome: Outcome | None, patience: Patience, needed: int, now: datetime
) -> float:
    if status.reason is Reason.STORE_FAILED:
        return STORE_WAIT_SECONDS
    usual = patience.retry.wait_seconds(max(1, status.attempts), 0.0, patience.jitter) or patience.retry.base_seconds
    if isinstance(outcome, Missed) and isinstance(outcome.failure, ProviderThrottled):
        tokens = outcome.failure.tokens
        # A 429 beside a level that would do says that the level is wrong.
        return (tokens.wait_seconds(needed, now) if tokens is not None else 0.0) or usual
    return usual


def until(now: datetime, wait_seconds: float | None) -> datetime | None:
    """Return the instant after a wait, None for no wait."""
    return None if wait_seconds is None else now + timedelta(seconds=wait_seconds)
