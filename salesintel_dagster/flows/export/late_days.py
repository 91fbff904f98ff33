"""Whether a day's source still says what the table was made from: two fingerprints, no row read, nothing written.

A reading's fingerprint comes from the reading's own snapshot and lies in the staged raw file; whoever commits that
file puts it into the properties of the same Iceberg commit. So it is never ahead of the rows, whatever dies between:
at worst it is not known, and the day is exported once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.fingerprint import FINGERPRINT_PROPERTY, SourceFingerprint
from salesintel_dagster.domain.late_days import DayCompared
from salesintel_dagster.domain.ports import DayScope, ObjectStore, SaleSource, SalesTable
from salesintel_dagster.flows.export.run import SALES_RAW
from salesintel_dagster.flows.export.staging import StagedDays, fingerprint_in


@dataclass(frozen=True, slots=True)
class LookBack:
    """The comparison of one source with the days exported from it."""

    source: SaleSource
    table: SalesTable
    store: ObjectStore
    source_system: str
    zone: ZoneInfo

    def compare(self, days: Iterable[date]) -> list[DayCompared]:
        """Ask source and table for each day, in order.

        Raises SourceError, TableUnavailable, SchemaDrift, StoreUnavailable.
        """
        return [DayCompared(day, self.source.fingerprint(day_window(day, self.zone)), self._of(day)) for day in days]

    def _of(self, day: date) -> SourceFingerprint | None:
        scope = DayScope(day, tuple(sorted(self.source.rules.tenants)), self.source_system)
        committed = SourceFingerprint.parse(self.table.day_property(scope, FINGERPRINT_PROPERTY))
        if committed is not None:
            return committed
        return self._of_day_without_sales(scope)

    def _of_day_without_sales(self, scope: DayScope) -> SourceFingerprint | None:
        """Return what the staged file remembers: a day whose reading gave no sale is never committed."""
        if self.table.day_facts(scope).rows:
            return None
        with StagedDays(self.store, self.source_system).open(SALES_RAW, scope.day) as parquet:
            if parquet is None or parquet.metadata.num_rows:
                return None
            return fingerprint_in(parquet.schema_arrow)
