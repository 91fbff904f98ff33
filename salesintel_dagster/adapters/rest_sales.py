"""A paginated REST API as a SaleSource: all pages of a day are read first, then its rows are given in order.

An API has no snapshot: rows that change between two pages may come in either state, and a row may slip from one page
to another. Where the API tells a total or a version on each page, a change is noticed and the reading begins anew;
where it tells none, the look-back of the next nights finds the difference. Nothing is given before the last page has
come, so a reading that breaks leaves no part of a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from salesintel_dagster.adapters.rest_client import RestClient
from salesintel_dagster.adapters.rest_pages import RestPages, at
from salesintel_dagster.adapters.row_spool import RowSpool
from salesintel_dagster.domain.calendar import DayWindow
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import SourceSchemaMismatch, SourceUnavailable
from salesintel_dagster.domain.fingerprint import SourceFingerprint
from salesintel_dagster.domain.local_time import instant_of
from salesintel_dagster.domain.ports import SaleSource, SourceDay
from salesintel_dagster.domain.rest_source import RestMapping, RestParameters
from salesintel_dagster.domain.retry import SOURCE_RETRY
from salesintel_dagster.domain.sale import SOURCE_FIELDS, RowRules, SourceRow, shown
from salesintel_dagster.domain.source import OPTIONAL_FIELDS, RECORDED_AT

NO_OBJECT = "raw"
"""Beside our fields in a row that was no JSON object: what stood there instead, for the quarantine."""


class RestSource(SaleSource):
    """The sales of an API, as `mapping` describes them. Nothing is asked before `read`."""

    def __init__(
        self, parameters: RestParameters, mapping: RestMapping, default_currency: str, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._parameters = parameters
        self._mapping = mapping
        self._rules = mapping.rules(default_currency)
        self._clock = clock
        named = {name: mapping.column_of(name) for name in (*SOURCE_FIELDS, RECORDED_AT)}
        self._paths = {name: path for name, path in named.items() if path is not None}
        self._zone = None if mapping.sold_at_zone is None else ZoneInfo(mapping.sold_at_zone)

    @property
    def rules(self) -> RowRules:
        """The mapping's tenant or tenants, and the default currency."""
        return self._rules

    @contextmanager
    def read(self, window: DayWindow, deadline_seconds: float = SOURCE_RETRY.deadline_seconds) -> Iterator[SourceDay]:
        """Read every page, then give the rows of the window; blocks are BATCH_ROWS long.

        Raises SourceUnavailable (also where the rows changed meanwhile), SourceSchemaMismatch for a page that is not
        of the described shape, SourceMappingInvalid for a request that the API does not know.
        """
        spool = RowSpool()
        try:
            pages = self._collect(window, deadline_seconds, spool)
            yield SourceDay(spool.blocks(), self._evidence(window, pages), spool.fingerprint)
        finally:
            spool.close()

    def fingerprint(
        self, window: DayWindow, deadline_seconds: float = SOURCE_RETRY.deadline_seconds
    ) -> SourceFingerprint:
        """Return count and checksum of the window's rows. An API sums nothing up: every page is read for it."""
        spool = RowSpool()
        try:
            self._collect(window, deadline_seconds, spool)
            return spool.fingerprint
        finally:
            spool.close()

    def _collect(self, window: DayWindow, deadline_seconds: float, spool: RowSpool) -> RestPages:
        client = RestClient(self._parameters, clock=self._clock)
        pages = RestPages(client, self._parameters, window)
        missing = {name for name in self._paths if name not in OPTIONAL_FIELDS and name != RECORDED_AT}
        objects = 0
        for item in self._items(pages, self._clock.monotonic() + deadline_seconds):
            objects += isinstance(item, dict)
            row = self._row(item)
            missing -= {name for name in missing if row[name] is not None}
            if _belongs(row, window):
                spool.add({name: value for name, value in row.items() if name != RECORDED_AT})
        if objects and missing:
            told = ", ".join(f"{self._paths[name]} ({name})" for name in sorted(missing))
            raise SourceSchemaMismatch(f"{self._parameters.place}: no row has a field {told}")
        return pages

    def _items(self, pages: RestPages, ends_at: float) -> Iterator[object]:
        """Translate what the network raises, and nothing of the spool's: a full disk is no fault of the API."""
        try:
            yield from pages.read(ends_at)
        except OSError as error:
            raise SourceUnavailable(f"{self._parameters.place}: {type(error).__name__} while reading") from None

    def _row(self, item: object) -> dict[str, object]:
        """Return the row by our names. Bad values stay as they are: they are the quarantine's."""
        row: dict[str, object] = {name: at(item, path) for name, path in self._paths.items()}
        for name in {"sold_at", RECORDED_AT} & row.keys():
            row[name] = _instant(row[name], self._zone)
        if not isinstance(item, dict):
            row[NO_OBJECT] = shown(item)
        return row

    def _evidence(self, window: DayWindow, pages: RestPages) -> dict[str, str]:
        return {
            "source": self._parameters.place,
            "window": f"[{window.start.isoformat()}, {window.end.isoformat()})",
            "window_zone": window.zone.key,
            "isolation": "none: an API gives no snapshot",
            "pages": str(pages.pages),
            "rows": str(pages.items),
            "total": "not told" if pages.total is None else str(pages.total),
        }


def _instant(value: object, zone: ZoneInfo | None) -> object:
    """Return an aware instant in UTC for ISO 8601 text, and what cannot be one as it is."""
    if not isinstance(value, str):
        return value
    try:
        found = datetime.fromisoformat(value.strip())
        if found.tzinfo is not None:
            return found.astimezone(UTC)
        return found if zone is None else instant_of(found, zone)
    except (ValueError, OverflowError):
        return value


def _belongs(row: SourceRow, window: DayWindow) -> bool:
    """Answer whether the row is of the window: an API may take its ends for included, or not heed them at all."""
    for name in ("sold_at", RECORDED_AT):
        value = row.get(name)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return window.start <= value < window.end
    return True
