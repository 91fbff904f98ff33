"""What the flows need of the outside world, as small abstract classes.

Each has an in-memory fake in the tests and one adapter; the same contract tests run on both. Every method may
raise the errors of `domain.errors` named beside it and no others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from salesintel_dagster.domain.calendar import DayWindow
from salesintel_dagster.domain.embedding import EmbeddingSpec, VectorBytes
from salesintel_dagster.domain.fingerprint import SourceFingerprint
from salesintel_dagster.domain.progress import Progress
from salesintel_dagster.domain.retry import SOURCE_RETRY
from salesintel_dagster.domain.sale import RowRules, SourceRow


@dataclass(frozen=True, slots=True)
class SourceDay:
    """One day's rows, streamed from one snapshot of the source, and the evidence of how they were asked for.

    `fingerprint` is that of exactly these rows; None where the source cannot tell it, so that the day counts as
    changed whenever it is looked back at.
    """

    rows: Iterator[list[SourceRow]]
    evidence: Mapping[str, str]
    fingerprint: SourceFingerprint | None = None


class SaleSource(ABC):
    """Where sold products come from. One try a call, ended within its deadline; trying again is the flow's."""

    @property
    @abstractmethod
    def rules(self) -> RowRules:
        """What this source may send: its tenants and its default currency."""

    @abstractmethod
    def read(
        self, window: DayWindow, deadline_seconds: float = SOURCE_RETRY.deadline_seconds
    ) -> AbstractContextManager[SourceDay]:
        """Open one read-only snapshot of the window's rows, in the stable order (sold_at, sale_id, ...).

        Rows without a sold_at come last, so that they are quarantined and not lost. The deadline holds for the last
        row, too. Raises SourceUnavailable, SourceSchemaMismatch, SourceMappingInvalid (a query that the source does
        not accept).
        """

    @abstractmethod
    def fingerprint(
        self, window: DayWindow, deadline_seconds: float = SOURCE_RETRY.deadline_seconds
    ) -> SourceFingerprint:
        """Return the fingerprint of what `read` would give of the window now, without reading the rows.

        Raises what `read` raises.
        """


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """Bytes that really are a whole JPEG or PNG of `width` x `height` pixels."""

    data: bytes
    content_type: str
    width: int
    height: int


class ImageFetcher(ABC):
    """One try at one image. Retries, limits and the record of what happened are the flow's."""

    @abstractmethod
    def fetch(self, url: str, deadline_seconds: float) -> FetchedImage:
        """Download and verify one image within a total deadline. Raises ImageTransient, ImageRefused."""


class ObjectStore(ABC):
    """Keys and bytes. A put is atomic: a reader sees the old object or the new one."""

    @abstractmethod
    def put(self, key: str, body: bytes | Path, content_type: str) -> None:
        """Store bytes, or a file's content, under `key`. Raises StoreUnavailable."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return the object's bytes. Raises ObjectMissing, StoreUnavailable."""

    @abstractmethod
    def download(self, key: str, path: Path) -> None:
        """Write the object's bytes to a local file. Raises ObjectMissing, StoreUnavailable."""

    @abstractmethod
    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under `prefix`, in order. Raises StoreUnavailable."""


class Embedder(ABC):
    """One paid call: an image in, a vector out."""

    @property
    @abstractmethod
    def spec(self) -> EmbeddingSpec:
        """Model, dimension and preprocessing of every vector this embedder gives."""

    @abstractmethod
    def embed(self, image: bytes) -> VectorBytes:
        """Return a JPEG's or PNG's vector. Raises EmbeddingTransient, EmbeddingRefused (it), EmbedderUnusable (all)."""

    @abstractmethod
    def check(self) -> None:
        """Ask, at no cost, whether the model may be called. Raises EmbedderUnusable, EmbeddingTransient."""


@dataclass(frozen=True, slots=True)
class DayScope:
    """The rows one export day owns in the table: nothing outside it is ever touched."""

    day: date
    tenants: tuple[str, ...]
    source_system: str


@dataclass(frozen=True, slots=True)
class OtherDay:
    """A sale of a day that the table also holds under another day of the same source."""

    sale_id: str
    day: date


@dataclass(frozen=True, slots=True)
class DayFacts:
    """What the table holds of a day: the other side of the source check. Of the ids, the first ones are told."""

    rows: int
    price_sum: Decimal
    duplicate_sale_ids: tuple[str, ...] = ()
    other_days: tuple[OtherDay, ...] = ()


@dataclass(frozen=True, slots=True)
class Commit:
    """One atomic commit: what it replaced and what is there now."""

    snapshot_id: int | None
    rows_written: int
    rows_replaced: int
    data_files: int
    attempts: int
    seconds: float


class SalesTable(ABC):
    """The keyed Iceberg table. There is no append, upsert or partition overwrite on purpose: they double rows."""

    @abstractmethod
    def replace_day(
        self,
        scope: DayScope,
        rows: Callable[[], Iterator[pa.RecordBatch]],
        properties: Mapping[str, str],
        *,
        allow_empty: bool,
    ) -> Commit:
        """Replace the scope's rows by `rows()` (SALES_SCHEMA) in one commit; `rows` is called again on a retry.

        Raises EmptyReplacement, DuplicateKeys, OutsideScope, CommitConflict, SchemaDrift, TableUnavailable, and
        what `rows` raises.
        """

    @abstractmethod
    def day_facts(self, scope: DayScope) -> DayFacts:
        """Count the scope's rows and add up their prices, reading no vector. Raises TableUnavailable."""

    @abstractmethod
    def read_day(self, scope: DayScope, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """Stream some columns of the scope's rows. Raises TableUnavailable."""

    @abstractmethod
    def day_property(self, scope: DayScope, name: str) -> str | None:
        """Return property `name` of the newest commit that wrote the scope's day and source.

        None where no such commit is known (any more: old snapshots expire). Raises TableUnavailable.
        """


class ProgressLedger(ABC):
    """Progress per day and run. Losing it never fails an export."""

    @abstractmethod
    def record(self, progress: Progress) -> None:
        """Write the run's record; the day's newest record by started_at stands. Raises ProgressUnavailable."""

    @abstractmethod
    def newest(self, day: date) -> Progress | None:
        """Return the newest run's record of a day. Raises ProgressUnavailable."""

    @abstractmethod
    def history(self, day: date) -> list[Progress]:
        """Return every run's record of a day, newest first. Raises ProgressUnavailable."""

    @abstractmethod
    def lose(self, seen: Progress, at: datetime) -> bool:
        """Make LOST of a RUNNING record that still is as it was `seen`; tell whether it was.

        Also the day's newest record, where it is this run's. A newer run's is never touched, nor one that its run has
        written to since. Raises ProgressUnavailable.
        """
