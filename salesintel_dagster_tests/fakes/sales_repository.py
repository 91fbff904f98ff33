"""The sales repository in memory: a table of every tenant's sales behind the same door, and a clock to expire them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date

from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import RevisionConflict, SaleNotFound, SaleRefused, SalesUnavailable
from salesintel_dagster.domain.retention import is_expired
from salesintel_dagster.domain.sale_changes import changed, judged, require_storable, stored
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_keys import (
    KeyPair,
    SaleKey,
    brand_partition,
    category_partition,
    checked,
    guard_key_pair,
    product_partition,
    sale_key_pair,
)
from salesintel_dagster.domain.sales_repository import (
    ALL,
    ALWAYS,
    BatchReport,
    CorrectionOutcome,
    CorrectionResult,
    HeldSale,
    PageRequest,
    Period,
    PutOutcome,
    PutResult,
    RefusedSale,
    SalePage,
    SalesRepository,
    StoredSale,
)
from salesintel_dagster.domain.tenancy import CallerContext


class InMemorySalesRepository(SalesRepository):
    """`sales` is the whole table by (tenant, sale id); `down = True` makes every call fail."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.sales: dict[tuple[str, str], StoredSale] = {}
        self.down = False
        self._clock = clock

    def put(self, context: CallerContext, record: SaleRecord) -> PutResult:
        self._check()
        context.require(record.tenant)
        require_storable(record)
        held = self._held(context, record.sale_id)
        if held is None:
            self.sales[record.tenant, record.sale_id] = stored(record, 1)
            return PutResult(PutOutcome.CREATED, record.payload_hash)
        same = held.record.payload_hash == record.payload_hash
        return PutResult(PutOutcome.DUPLICATE if same else PutOutcome.CONFLICT, held.record.payload_hash)

    def correct(self, context: CallerContext, record: SaleRecord) -> CorrectionResult:
        self._check()
        context.require(record.tenant)
        require_storable(record)
        held = self._required(context, record.sale_id)
        result = judged(held.record, record)
        if result.outcome is CorrectionOutcome.APPLIED:
            self.sales[record.tenant, record.sale_id] = stored(record, held.revision + 1)
        return result

    def withdraw(self, context: CallerContext, record: SaleRecord) -> bool:
        self._check()
        context.require(record.tenant)
        held = self._held(context, record.sale_id)
        same = held is not None and (held.record.key, held.record.payload_hash) == (record.key, record.payload_hash)
        if same:
            del self.sales[record.tenant, record.sale_id]
        return same

    def put_many(self, context: CallerContext, records: Iterable[SaleRecord]) -> BatchReport:
        self._check()
        given = list(records)
        for record in given:
            context.require(record.tenant)
        tally = dict.fromkeys(("created", "duplicates", "repeated"), 0)
        conflicts: list[RefusedSale] = []
        refused: list[RefusedSale] = []
        seen: dict[str, str] = {}
        for record in given:
            try:
                require_storable(record)
            except SaleRefused as error:
                refused.append(RefusedSale(record.sale_id, str(error)))
                continue
            if record.sale_id in seen and seen[record.sale_id] == record.payload_hash:
                tally["repeated"] += 1
                continue
            before = record.sale_id in seen
            seen.setdefault(record.sale_id, record.payload_hash)
            result = None if before else self.put(context, record)
            if result is None or result.outcome is PutOutcome.CONFLICT:
                held = result.held_hash if result else seen[record.sale_id]
                conflicts.append(RefusedSale(record.sale_id, f"another payload is there: {held}"))
            else:
                tally["created" if result.outcome is PutOutcome.CREATED else "duplicates"] += 1
        return BatchReport(**tally, conflicts=tuple(conflicts), refused=tuple(refused))

    def update(self, context: CallerContext, sale_id: str, changes: Mapping[str, object], revision: int) -> StoredSale:
        self._check()
        held = self._required(context, sale_id, revision)
        new = changed(held.record, changes)
        require_storable(new)
        self.sales[context.tenant, sale_id] = stored(new, revision + 1)
        return self.sales[context.tenant, sale_id]

    def delete(self, context: CallerContext, sale_id: str, revision: int | None = None) -> StoredSale:
        self._check()
        self._required(context, sale_id, revision)
        return self.sales.pop((context.tenant, sale_id))

    def get(self, context: CallerContext, key: SaleKey) -> StoredSale | None:
        self._check()
        checked("key", key.sale_id, sale_key_pair(context.tenant, key))
        held = self._held(context, key.sale_id)
        return held if held is not None and held.record.key == key else None

    def by_sale_id(self, context: CallerContext, sale_id: str) -> StoredSale | None:
        self._check()
        checked("sale_id", sale_id, guard_key_pair(context.tenant, sale_id))
        return self._held(context, sale_id)

    def get_many(self, context: CallerContext, keys: Sequence[SaleKey]) -> tuple[StoredSale, ...]:
        self._check()
        found = (self.get(context, key) for key in sorted(set(keys)))
        return tuple(held for held in found if held is not None)

    def category_season(
        self, context: CallerContext, category: str, season: Season, period: Period = ALWAYS, page: PageRequest = ALL
    ) -> SalePage:
        checked("category", category, KeyPair(category_partition(context.tenant, category, 0), ""))
        return self._page(context, page, period, lambda sale: (sale.category, sale.season) == (category, season))

    def embeddings(
        self, context: CallerContext, product_id: str | None, period: Period = ALWAYS, page: PageRequest = ALL
    ) -> SalePage:
        if product_id is not None:
            checked("product_id", product_id, KeyPair(product_partition(context.tenant, product_id), ""))

        def asked(sale: SaleRecord) -> bool:
            return sale.embedding is not None and product_id in (None, sale.product_id)

        return self._page(context, page, period, asked)

    def brand_prices(
        self, context: CallerContext, brand: str, period: Period = ALWAYS, page: PageRequest = ALL
    ) -> SalePage:
        checked("brand", brand, KeyPair(brand_partition(context.tenant, brand), ""))
        return self._page(context, page, period, lambda sale: sale.brand == brand)

    def of_day(self, context: CallerContext, day: date) -> tuple[HeldSale, ...]:
        found = self._page(context, ALL, Period(day, day), lambda _sale: True).sales
        return tuple(sorted(HeldSale(one.record.sale_id, one.record.payload_hash) for one in found))

    def _page(
        self, context: CallerContext, page: PageRequest, period: Period, asked: Callable[[SaleRecord], bool]
    ) -> SalePage:
        self._check()
        of_tenant = (self._held(context, sale_id) for tenant, sale_id in self.sales if tenant == context.tenant)
        found = [one for one in of_tenant if one and period.holds(one.record.sold_date) and asked(one.record)]
        found.sort(key=lambda one: one.record.key)
        rest = [one for one in found if page.after is None or one.record.key > page.after]
        shown = rest[: page.limit]
        return SalePage(tuple(shown), shown[-1].record.key if len(rest) > len(shown) else None)

    def _held(self, context: CallerContext, sale_id: str) -> StoredSale | None:
        held = self.sales.get((context.tenant, sale_id))
        return None if held is None or is_expired(held.ttl, self._clock.now()) else held

    def _required(self, context: CallerContext, sale_id: str, revision: int | None = None) -> StoredSale:
        held = self._held(context, sale_id)
        if held is None:
            raise SaleNotFound(f"tenant {context.tenant} has no sale {sale_id!r}")
        if revision is not None and held.revision != revision:
            raise RevisionConflict(f"sale {sale_id!r} is at revision {held.revision}, not {revision}; read it again")
        return held

    def _check(self) -> None:
        if self.down:
            raise SalesUnavailable("the sales table is down")
