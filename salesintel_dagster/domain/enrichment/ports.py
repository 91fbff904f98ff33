"""What the enrichment flow needs of the outside world. Every method may raise the errors named beside it, no others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from salesintel_dagster.domain.enrichment.batch import Batch, BatchKey
from salesintel_dagster.domain.enrichment.facts import Answer, LookUp
from salesintel_dagster.domain.enrichment.job import Job
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.event_queue import EventQueue


class EnrichmentProvider(ABC):
    """Who knows products. One request, one try; it never waits for tokens."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The provider as each row names it; a stand-in's begins with `local-`."""

    @property
    @abstractmethod
    def max_per_request(self) -> int:
        """Identifiers that one request takes."""

    @abstractmethod
    def look_up(self, request: LookUp) -> Answer:
        """Ask for facts. Raises ProviderThrottled, ProviderTransient, ProviderRefused, ProviderUnusable."""


class EnrichmentJobs(ABC):
    """The jobs of all catalogs. All methods raise LedgerUnavailable."""

    @abstractmethod
    def add(self, job: Job, batches: Sequence[Batch]) -> Job:
        """Make the job with all its batches, or make whole what an earlier call left; return the one that stands.

        The job is there for others only when all its batches are.
        """

    @abstractmethod
    def of_catalog(self, tenant: str, catalog_id: str) -> list[Job]:
        """Return the catalog's jobs, newest first."""

    @abstractmethod
    def of_user(self, tenant: str, user_id: str) -> list[Job]:
        """Return a user's jobs, newest first; one that was just made may not be among them yet."""


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job with something left to do; `opened_at` tells one opening from another."""

    job: Job
    opened_at: datetime


class UnfinishedJobs(ABC):
    """Which jobs still have something to do. All methods raise LedgerUnavailable."""

    @abstractmethod
    def all(self) -> list[OpenJob]:
        """Return the jobs that were made, or opened again, and not yet closed."""

    @abstractmethod
    def close(self, opened: OpenJob) -> None:
        """Take a job off the list, unless somebody has opened it again since."""

    @abstractmethod
    def reopen(self, job: Job, now: datetime) -> None:
        """Put a job on the list again."""


class EnrichmentBatches(ABC):
    """The batches of jobs. All methods raise LedgerUnavailable."""

    @abstractmethod
    def of_job(self, job: Job) -> list[Batch]:
        """Return the job's batches by number."""

    @abstractmethod
    def load(self, key: BatchKey) -> Batch | None:
        """Return one batch as it is now."""

    @abstractmethod
    def replace(self, seen: Batch, after: Batch) -> bool:
        """Write `after` over `seen`; tell whether it was still that. A write that landed unheard tells True."""


class TokenLevels(ABC):
    """The token level that the provider told last, for whoever asks next. All methods raise LedgerUnavailable."""

    @abstractmethod
    def last(self, provider: str) -> TokenLevel | None:
        """Return the newest level."""

    @abstractmethod
    def note(self, provider: str, level: TokenLevel) -> None:
        """Keep a level, unless a newer one is kept."""


class PaidRows(ABC):
    """Rows that were paid for and that the table has not taken yet. All methods raise LedgerUnavailable."""

    @abstractmethod
    def keep(self, batch: BatchKey, rows: pa.Table) -> None:
        """Keep a batch's rows (ENRICHMENT_SCHEMA), in the place of those of the same products."""

    @abstractmethod
    def of(self, batch: BatchKey) -> pa.Table:
        """Return the batch's rows, each product once; none where none are kept."""

    @abstractmethod
    def forget(self, batch: BatchKey) -> None:
        """Drop the batch's rows: the table has them."""


class BatchQueue(EventQueue):
    """The queue of batches, or its dead letters: an event queue that is sent to as well."""

    @abstractmethod
    def send(self, bodies: Sequence[str]) -> tuple[int, ...]:
        """Hand messages over; return the positions of those that the queue did not take. Raises QueueUnavailable."""


@dataclass(frozen=True, slots=True)
class Enriched:
    """One commit to the table: rows written, rows left alone because newer ones stand, and the snapshot, if any."""

    rows_written: int
    rows_kept: int
    snapshot_id: int | None
    attempts: int


class EnrichmentTable(ABC):
    """The Iceberg table of results: one row a (tenant_id, product_id)."""

    @abstractmethod
    def merge(self, rows: pa.Table, properties: Mapping[str, str]) -> Enriched:
        """Write rows (ENRICHMENT_SCHEMA, each key once) over those of the same keys, in one commit.

        A row that stands and was enriched later stays. Raises DuplicateKeys, SchemaDrift, CommitConflict,
        TableUnavailable.
        """

    @abstractmethod
    def held(self, tenant: str, products: Collection[str], columns: Sequence[str]) -> pa.Table:
        """Return some columns of a tenant's rows of these products. Raises TableUnavailable."""

    @abstractmethod
    def provider_counts(self) -> dict[str, int]:
        """Count the rows by provider. Raises TableUnavailable."""
