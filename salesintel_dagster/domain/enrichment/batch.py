"""A batch of products on its way through the provider: states, lease, and the allowed steps between them.

A batch is one value with a version: whoever changes it writes the next version over the one it has seen and is
refused where another was first. So the states of its products always add up to its products, whatever dies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from salesintel_dagster.domain.enrichment.product import CatalogProduct

MAX_DETAIL_CHARACTERS = 200
"""Of a reason in words: 50 of them in one item leave room for its products."""


class State(StrEnum):
    """Where a product stands, and a batch of them."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    RETRY = "RETRY"
    FAILED = "FAILED"


FINAL = frozenset({State.DONE, State.FAILED})
ALLOWED: Mapping[State, frozenset[State]] = {
    State.PENDING: frozenset({State.RUNNING}),
    State.RUNNING: frozenset({State.RUNNING, State.DONE, State.RETRY, State.FAILED}),
    State.RETRY: frozenset({State.RUNNING}),
    State.FAILED: frozenset({State.PENDING}),
    State.DONE: frozenset(),
}
"""RUNNING to RUNNING is the takeover of a batch whose owner died; FAILED to PENDING is a person's retry."""


class Reason(StrEnum):
    """Why a product is not done."""

    NOT_FOUND = "NOT_FOUND"
    INVALID = "INVALID"
    REFUSED = "REFUSED"
    PROVIDER_DOWN = "PROVIDER_DOWN"
    TIMEOUT = "TIMEOUT"
    OUT_OF_TOKENS = "OUT_OF_TOKENS"
    UNUSABLE = "UNUSABLE"
    STORE_FAILED = "STORE_FAILED"


@dataclass(frozen=True, slots=True)
class ProductStatus:
    """Where one product stands; `attempts` counts the tries that reached the provider or were meant to."""

    state: State = State.PENDING
    reason: Reason | None = None
    detail: str = ""
    attempts: int = 0

    def to(self, state: State, reason: Reason | None = None, detail: str = "", *, tried: bool = False) -> ProductStatus:
        """Return the status after an allowed step. Raises ValueError for any other: a defect of ours."""
        if state not in ALLOWED[self.state]:
            raise ValueError(f"a product does not go from {self.state} to {state}")
        return ProductStatus(state, reason, detail[:MAX_DETAIL_CHARACTERS], self.attempts + tried)

    @property
    def told(self) -> str:
        """The state as people and counts see it: a failed one by its reason."""
        return f"FAILED_{self.reason}" if self.state is State.FAILED and self.reason else self.state.value


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Which batch: the `number`-th of a plan (a job cut in one size) over a tenant's catalog, from 1."""

    tenant: str
    catalog_id: str
    plan: str
    number: int

    def __str__(self) -> str:
        """Return it as logs name it."""
        return f"{self.catalog_id}/{self.batch_id}"

    @property
    def batch_id(self) -> str:
        """Its name within the catalog, in the order of the numbers."""
        return f"{self.plan}-{self.number:05d}"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to make a batch's paid calls, until it ends or is given back."""

    owner: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as the ledger holds it. `body` is its message, word for word; `statuses` go with `products`.

    `not_before` is set while it waits (for tokens, or after a failure); `sent_at` when its message was handed over.
    """

    key: BatchKey
    body: str
    products: tuple[CatalogProduct, ...]
    statuses: tuple[ProductStatus, ...]
    created_at: datetime
    updated_at: datetime
    version: int = 1
    lease: Lease | None = None
    not_before: datetime | None = None
    sent_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def state(self) -> State:
        """The batch's own state, which follows from its products'."""
        return state_of({status.state for status in self.statuses})

    @property
    def is_final(self) -> bool:
        """All its products are DONE or FAILED."""
        return all(status.state in FINAL for status in self.statuses)

    def held_at(self, now: datetime) -> Lease | None:
        """Return the lease that is alive, if any."""
        return self.lease if self.lease is not None and self.lease.until > now else None

    def claimed(self, lease: Lease, now: datetime) -> Batch:
        """Return it with its open products RUNNING under the lease. The caller has seen that it is free."""
        statuses = tuple(
            status if status.state in FINAL else status.to(State.RUNNING, status.reason, status.detail)
            for status in self.statuses
        )
        return replace(
            self,
            statuses=statuses,
            lease=lease,
            not_before=None,
            started_at=self.started_at or now,
            updated_at=now,
            version=self.version + 1,
        )

    def kept(self, until: datetime, now: datetime) -> Batch:
        """Return it with its lease prolonged."""
        if self.lease is None:
            raise ValueError(f"batch {self.key} has no lease to keep")
        return replace(self, lease=replace(self.lease, until=until), updated_at=now, version=self.version + 1)

    def settled(self, statuses: tuple[ProductStatus, ...], not_before: datetime | None, now: datetime) -> Batch:
        """Return it with the outcome of a try and its lease given back."""
        if len(statuses) != len(self.products):
            raise ValueError(f"batch {self.key}: {len(statuses)} states for {len(self.products)} products")
        after = replace(
            self, statuses=statuses, lease=None, not_before=not_before, updated_at=now, version=self.version + 1
        )
        return replace(after, finished_at=now if after.is_final else None)

    def sent(self, now: datetime) -> Batch:
        """Return it with its message handed over."""
        return replace(self, sent_at=now, updated_at=now, version=self.version + 1)

    def reopened(self, now: datetime) -> Batch:
        """Return it with its FAILED products PENDING and its tries forgotten: a person asked for it."""
        statuses = tuple(
            ProductStatus()
            if status.state is State.FAILED
            else status
            if status.state in {State.DONE, State.RUNNING}
            else replace(status, attempts=0)
            for status in self.statuses
        )
        return replace(
            self,
            statuses=statuses,
            not_before=None,
            sent_at=None,
            finished_at=None,
            started_at=None,
            updated_at=now,
            version=self.version + 1,
        )


def state_of(states: Collection[State]) -> State:
    """Return the state of a batch: the liveliest of its products', DONE unless all of them failed."""
    for state in (State.RUNNING, State.RETRY, State.PENDING):
        if state in states:
            return state
    return State.FAILED if states and set(states) == {State.FAILED} else State.DONE


def counts(batches: Collection[Batch]) -> Counter[str]:
    """Count products by told state over batches."""
    return Counter(status.told for batch in batches for status in batch.statuses)
