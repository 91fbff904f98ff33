"""The enrichment's status table, queue and Iceberg table in memory; each call is heard on a `Wire`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from salesintel_dagster.adapters.enrichment_items import KEPT
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.day_frame import MAX_IDS_NAMED
from salesintel_dagster.domain.enrichment.batch import Batch, BatchKey
from salesintel_dagster.domain.enrichment.job import Job
from salesintel_dagster.domain.enrichment.ports import (
    BatchQueue,
    Enriched,
    EnrichmentBatches,
    EnrichmentJobs,
    EnrichmentTable,
    OpenJob,
    PaidRows,
    TokenLevels,
    UnfinishedJobs,
)
from salesintel_dagster.domain.enrichment.rows import ENRICHMENT_SCHEMA, Row, table_of
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import DuplicateKeys, SchemaDrift
from salesintel_dagster.domain.event_queue import QueueDepth, QueuedMessage
from salesintel_dagster.flows.enrichment.parts import EnrichmentLedger
from salesintel_dagster_tests.fakes.wire import Wire

START = datetime(2026, 11, 27, 6, tzinfo=UTC)


class HeldClock:
    """Time that moves only when somebody sleeps or a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self._elapsed, self.move, lambda: 0.0)

    def _elapsed(self) -> float:
        return (self.now - START).total_seconds()


class InMemoryJobs(EnrichmentJobs, UnfinishedJobs, EnrichmentBatches, TokenLevels, PaidRows):
    """All five sides of the status table over one set of dictionaries."""

    def __init__(self, wire: Wire | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self.wire = wire or Wire()
        self._clock = clock
        self.jobs: dict[tuple[str, str, str], Job] = {}
        self.opened: dict[tuple[str, str, str], datetime] = {}
        self.held: dict[BatchKey, Batch] = {}
        self.levels: dict[str, TokenLevel] = {}
        self.unstored: dict[BatchKey, dict[str, Row]] = {}
        self.unstored_at: dict[BatchKey, datetime] = {}

    @property
    def ledger(self) -> EnrichmentLedger:
        return EnrichmentLedger(self, self, self, self, self)

    def _alive(self, since: datetime | None) -> bool:
        return since is not None and since + KEPT >= self._clock.now()

    def _standing(self, key: tuple[str, str, str]) -> Job | None:
        job = self.jobs.get(key)
        return job if job is not None and self._alive(job.created_at) else None

    def add(self, job: Job, batches: Sequence[Batch]) -> Job:
        key = _key(job)
        if self._standing(key) is None:
            with self.wire.call("open"):
                if not self._alive(self.opened.get(key)):
                    self.opened[key] = job.created_at
            for batch in batches:
                with self.wire.call("put batch"):
                    if batch.key not in self.held or not self._alive(self.held[batch.key].created_at):
                        self.held[batch.key] = batch
            with self.wire.call("put job"):
                if self._standing(key) is None:
                    self.jobs[key] = job
        return self.jobs[key]

    def of_catalog(self, tenant: str, catalog_id: str) -> list[Job]:
        return self._newest_first(job for job in self.jobs.values() if _key(job)[:2] == (tenant, catalog_id))

    def of_user(self, tenant: str, user_id: str) -> list[Job]:
        return self._newest_first(job for job in self.jobs.values() if (job.tenant, job.user_id) == (tenant, user_id))

    def _newest_first(self, jobs: Iterable[Job]) -> list[Job]:
        alive = (job for job in jobs if self._alive(job.created_at))
        return sorted(alive, key=lambda job: (job.created_at, job.job_id), reverse=True)

    def all(self) -> list[OpenJob]:
        with self.wire.call("open jobs"):
            standing = ((self._standing(key), at) for key, at in sorted(self.opened.items()))
            return [OpenJob(job, at) for job, at in standing if job is not None]

    def close(self, opened: OpenJob) -> None:
        with self.wire.call("close"):
            if self.opened.get(_key(opened.job)) == opened.opened_at:
                del self.opened[_key(opened.job)]

    def reopen(self, job: Job, now: datetime) -> None:
        with self.wire.call("reopen"):
            self.opened[_key(job)] = now

    def of_job(self, job: Job) -> list[Batch]:
        with self.wire.call("batches"):
            found = [
                batch
                for key, batch in self.held.items()
                if (key.tenant, key.catalog_id, key.plan) == (job.tenant, job.catalog_id, job.plan)
                and self._alive(batch.created_at)
            ]
        return sorted(found, key=lambda batch: batch.key.number)

    def load(self, key: BatchKey) -> Batch | None:
        with self.wire.call("load"):
            found = self.held.get(key)
        return found if found is not None and self._alive(found.created_at) else None

    def replace(self, seen: Batch, after: Batch) -> bool:
        with self.wire.call("replace"):
            if self.held[seen.key].version == seen.version:
                self.held[seen.key] = after
                return True
        return self.held[seen.key] == after

    def last(self, provider: str) -> TokenLevel | None:
        with self.wire.call("last tokens"):
            found = self.levels.get(provider)
        return found if found is not None and self._alive(found.observed_at) else None

    def note(self, provider: str, level: TokenLevel) -> None:
        with self.wire.call("note tokens"):
            if provider not in self.levels or self.levels[provider].observed_at <= level.observed_at:
                self.levels[provider] = level

    def keep(self, batch: BatchKey, rows: pa.Table) -> None:
        with self.wire.call("keep rows"):
            self.unstored.setdefault(batch, {}).update({row["product_id"]: row for row in rows.to_pylist()})
            self.unstored_at[batch] = self._clock.now()

    def of(self, batch: BatchKey) -> pa.Table:
        with self.wire.call("rows kept"):
            alive = self._alive(self.unstored_at.get(batch))
            return table_of(self.unstored.get(batch, {}).values() if alive else ())

    def forget(self, batch: BatchKey) -> None:
        with self.wire.call("forget rows"):
            self.unstored.pop(batch, None)


def _key(job: Job) -> tuple[str, str, str]:
    return job.tenant, job.catalog_id, job.job_id


@dataclass(slots=True)
class _Kept:
    body: str
    sent_at: datetime
    visible_at: datetime
    receives: int = 0
    handle: str = ""


class InMemoryQueue(BatchQueue):
    """A queue with visibility and dead letters. `refuse` says which bodies a send does not take."""

    def __init__(
        self, clock: Clock, *, visibility: int = 300, max_receives: int = 10, wire: Wire | None = None
    ) -> None:
        self.wire = wire or Wire()
        self.kept: dict[str, _Kept] = {}
        self.dead: InMemoryQueue | None = None
        self.refuse: Callable[[str], bool] = lambda _body: False
        self.undeletable = 0
        self._clock = clock
        self._visibility = visibility
        self._max_receives = max_receives
        self._numbers = 0

    def send(self, bodies: Sequence[str]) -> tuple[int, ...]:
        failed = []
        with self.wire.call("send"):
            for position, body in enumerate(bodies):
                if self.refuse(body):
                    failed.append(position)
                else:
                    self._put(body)
        return tuple(failed)

    def _put(self, body: str) -> None:
        self._numbers += 1
        now = self._clock.now()
        self.kept[f"m-{self._numbers}"] = _Kept(body, now, now)

    def receive(self, most: int, wait_seconds: float) -> list[QueuedMessage]:  # noqa: ARG002 - time stands still here
        with self.wire.call("receive"):
            now, found = self._clock.now(), []
            for name, one in list(self.kept.items()):
                if one.visible_at > now or len(found) == min(most, 10):
                    continue
                one.receives += 1
                if self.dead is not None and one.receives > self._max_receives:
                    del self.kept[name]
                    self.dead._put(one.body)
                    continue
                self._numbers += 1
                one.handle, one.visible_at = f"h-{self._numbers}", now + timedelta(seconds=self._visibility)
                found.append(QueuedMessage(name, one.body, one.handle, one.receives, one.sent_at))
        return found

    def extend(self, messages: Collection[QueuedMessage], seconds: int) -> tuple[QueuedMessage, ...]:
        not_kept = []
        with self.wire.call("extend"):
            for message in messages:
                if (one := self._live(message)) is not None:
                    one.visible_at = self._clock.now() + timedelta(seconds=seconds)
                else:
                    not_kept.append(message)
        return tuple(not_kept)

    def delete(self, messages: Collection[QueuedMessage]) -> tuple[QueuedMessage, ...]:
        refused = []
        with self.wire.call("delete"):
            for message in messages:
                if self.undeletable:
                    self.undeletable -= 1
                    refused.append(message)
                elif self._live(message) is not None:
                    del self.kept[message.message_id]
        return tuple(refused)

    def _live(self, message: QueuedMessage) -> _Kept | None:
        one = self.kept.get(message.message_id)
        return one if one is not None and one.handle == message.handle else None

    def depth(self) -> QueueDepth:
        now = self._clock.now()
        waiting = sum(one.visible_at <= now for one in self.kept.values())
        return QueueDepth(waiting, len(self.kept) - waiting, 0)


@dataclass(slots=True)
class InMemoryEnrichmentTable(EnrichmentTable):
    """Rows by key. `fail` holds what the next merges raise."""

    wire: Wire = field(default_factory=Wire)
    rows: dict[tuple[str, str], dict[str, object]] = field(default_factory=dict)
    fail: list[Exception] = field(default_factory=list)
    commits: int = 0

    def merge(self, rows: pa.Table, properties: Mapping[str, str]) -> Enriched:  # noqa: ARG002 - no snapshots here
        if rows.schema.names != ENRICHMENT_SCHEMA.names:
            raise SchemaDrift(f"rows come with columns {rows.schema.names}")
        keyed = {(row["tenant_id"], row["product_id"]): row for row in rows.to_pylist()}
        if len(keyed) < rows.num_rows:
            raise DuplicateKeys("products that occur more than once"[:MAX_IDS_NAMED])
        with self.wire.call("merge"):
            if self.fail:
                raise self.fail.pop(0)
            new = {key: row for key, row in keyed.items() if not self._newer(key, row)}
            self.rows |= new
            self.commits += bool(new)
        return Enriched(len(new), len(keyed) - len(new), self.commits or None, 1)

    def _newer(self, key: tuple[str, str], row: dict[str, object]) -> bool:
        held = self.rows.get(key)
        return held is not None and held["enriched_at"] > row["enriched_at"]  # type: ignore[operator]

    def held(self, tenant: str, products: Collection[str], columns: Sequence[str]) -> pa.Table:
        with self.wire.call("held"):
            found = [row for (owner, product), row in self.rows.items() if owner == tenant and product in products]
        schema = pa.schema([ENRICHMENT_SCHEMA.field(name) for name in columns])
        return pa.Table.from_pylist([{name: row[name] for name in columns} for row in found], schema)

    def provider_counts(self) -> dict[str, int]:
        providers = [str(row["provider"]) for row in self.rows.values()]
        return {provider: providers.count(provider) for provider in dict.fromkeys(providers)}
