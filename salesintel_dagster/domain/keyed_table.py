"""The keyed Iceberg table `sales_history`, as a port: rows by (tenant_id, sale_id), each once at every snapshot.

There is no append, upsert or partition overwrite on purpose: they double rows under two writers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum, auto
from typing import NamedTuple

import pyarrow as pa

from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.domain.sale_event import SaleIdentity

REPAIRED = EmbeddingStatus.REPAIRED.value


class TableMonth(NamedTuple):
    """A partition of the table."""

    tenant_id: str
    year: int
    month: int


@dataclass(frozen=True, slots=True)
class KeyedCommit:
    """What one commit did. `held` are rows that were there already, `conflicts` those that say something else.

    A conflict is a row of the same sale and version with another payload hash; its value is the hash that is held.
    """

    snapshot_id: int | None
    written: int
    held: int
    conflicts: Mapping[SaleIdentity, str]
    months: tuple[TableMonth, ...]
    attempts: int
    seconds: float


class Place(Enum):
    """What becomes of a row beside the one of its key that the table holds."""

    FREE = auto()
    TAKES = auto()
    """It takes the other's place: a higher version, or the event's own row for one that a repair wrote of it."""
    HELD = auto()
    CONFLICT = auto()
    """The same version with another payload; the first stays."""


class RowTold(NamedTuple):
    """What decides about a row."""

    payload_hash: str
    event_version: int
    embedding_status: str

    def place(self, held: RowTold | None) -> Place:
        """Return what becomes of this row beside the one that is held."""
        if held is None:
            return Place.FREE
        if held.event_version != self.event_version:
            return Place.TAKES if held.event_version < self.event_version else Place.HELD
        if held.payload_hash != self.payload_hash:
            return Place.CONFLICT
        repaired = (held.embedding_status == REPAIRED, self.embedding_status == REPAIRED)
        return Place.TAKES if repaired == (True, False) else Place.HELD


class KeyedTable(ABC):
    """One writer of many; every method sees whole commits only."""

    @abstractmethod
    def write_new(self, rows: pa.Table, properties: Mapping[str, str]) -> KeyedCommit:
        """Write those of `rows` (HISTORY_SCHEMA) that the table does not hold, in one commit.

        A row takes the place of one with the same key in the same month that has a lower event_version, or that a
        repair wrote of the same payload without what only the event knows. Raises
        DuplicateKeys, RowsRefused (the rows themselves cannot be written), CommitConflict, TableUnavailable,
        SchemaDrift; nothing was written then.
        """

    @abstractmethod
    def of_day(self, tenant_id: str, day: date) -> Mapping[str, str]:
        """Return the payload hash by sale id of a tenant's day. Raises DuplicateKeys, TableUnavailable."""

    @abstractmethod
    def days_of(self, tenant_id: str, sale_ids: Collection[str]) -> Mapping[str, date]:
        """Return the day of each of these sales that the table holds, in whatever month. Raises TableUnavailable."""

    @abstractmethod
    def rows_of(self, tenant_id: str, day: date, sale_ids: Collection[str]) -> pa.Table:
        """Return the rows (HISTORY_SCHEMA) of these sales of a tenant's day. Raises TableUnavailable."""
