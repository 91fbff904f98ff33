"""The sales table in memory, with failures on demand, and rows to put into one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from salesintel_dagster.domain.calendar import Hemisphere, quarter, season, season_year
from salesintel_dagster.domain.columns import BATCH_ROWS, SALES_SCHEMA, VECTOR
from salesintel_dagster.domain.day_frame import KEY, MAX_IDS_NAMED, DayFrame, repeated_sale_ids
from salesintel_dagster.domain.errors import EmptyReplacement, TableError
from salesintel_dagster.domain.fingerprint import DAY_PROPERTY, SOURCE_PROPERTY
from salesintel_dagster.domain.ports import Commit, DayFacts, DayScope, OtherDay, SalesTable


class InMemorySalesTable(SalesTable):
    """`rows` is what is stored; `commits` lists (scope, properties) of every commit that stood.

    `fail(CommitConflict("lost"))` makes the next replacement raise after it has read its rows.
    """

    def __init__(self) -> None:
        self.rows = SALES_SCHEMA.empty_table()
        self.commits: list[tuple[DayScope, dict[str, str]]] = []
        self._failures: deque[TableError] = deque()

    def fail(self, error: TableError, *, times: int = 1) -> None:
        self._failures.extend([error] * times)

    def replace_day(
        self,
        scope: DayScope,
        rows: Callable[[], Iterator[pa.RecordBatch]],
        properties: Mapping[str, str],
        *,
        allow_empty: bool,
    ) -> Commit:
        frame = DayFrame(scope)
        new = [pa.Table.from_batches([batch]) for batch in rows() if batch.num_rows]
        for chunk in new:
            frame.admit(chunk)
        held = self._inside(scope)
        replaced = pc.sum(held, min_count=0).as_py()
        if replaced and not new and not allow_empty:
            raise EmptyReplacement(f"{scope.day}: no row would replace {replaced}")
        if self._failures:
            raise self._failures.popleft()
        if not new and not replaced:
            return Commit(None, 0, 0, 0, attempts=1, seconds=0.0)
        self.rows = pa.concat_tables([self.rows.filter(pc.invert(held)), *new])
        self.commits.append((scope, dict(properties)))
        return Commit(len(self.commits), frame.rows, replaced, min(len(new), 1), attempts=1, seconds=0.0)

    def day_facts(self, scope: DayScope) -> DayFacts:
        rows = self.rows.filter(self._inside(scope))
        total = pc.sum(rows["sold_price"], min_count=0).as_py()
        keys = set(zip(*(rows[name].to_pylist() for name in KEY), strict=True))
        source = self.rows.filter(pc.equal(self.rows["source_system"], scope.source_system))
        source = source.sort_by([("sold_date", "ascending"), ("sale_id", "ascending")])
        columns = (source[name].to_pylist() for name in (*KEY, "sold_date"))
        elsewhere = tuple(
            OtherDay(sale, day)
            for tenant, sale, day in zip(*columns, strict=True)
            if (tenant, sale) in keys and day != scope.day
        )
        return DayFacts(rows.num_rows, total, repeated_sale_ids(rows.select(KEY)), elsewhere[:MAX_IDS_NAMED])

    def read_day(self, scope: DayScope, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        yield from self.rows.filter(self._inside(scope)).select(list(columns)).to_batches(BATCH_ROWS)

    def day_property(self, scope: DayScope, name: str) -> str | None:
        mine = {DAY_PROPERTY: scope.day.isoformat(), SOURCE_PROPERTY: scope.source_system}
        for _, properties in reversed(self.commits):
            if mine.items() <= properties.items():
                return properties.get(name)
        return None

    def _inside(self, scope: DayScope) -> pa.ChunkedArray:
        tenant = pc.is_in(self.rows["tenant_id"], value_set=pa.array(scope.tenants, pa.string()))
        day = pc.equal(self.rows["sold_date"], pa.scalar(scope.day))
        return pc.and_(pc.and_(tenant, day), pc.equal(self.rows["source_system"], scope.source_system))


def sale_rows(
    scope: DayScope,
    count: int,
    *,
    first: int = 0,
    price: Decimal = Decimal("10.50"),
    dimension: int = 4,
    **changed: object,
) -> pa.RecordBatch:
    """Make `count` sales of the scope's day, its tenants in turn, ids from `first`; `changed` sets whole columns."""
    day = scope.day
    ids = range(first, first + count)
    vectors = np.random.default_rng(first).random((count, dimension), dtype=np.float32)
    columns: dict[str, object] = {
        "sale_id": [f"sale-{day:%m%d}-{n}" for n in ids],
        "product_id": [f"product-{n}" for n in ids],
        "tenant_id": [scope.tenants[n % len(scope.tenants)] for n in ids],
        "category": [("shoes", "bags", "coats")[n % 3] for n in ids],
        "brand": "Acme",
        "condition": "good",
        "condition_raw": None,
        "sold_price": price,
        "currency": "EUR",
        "currency_defaulted": False,
        "sold_at": datetime.combine(day, time(12), UTC),
        "sold_date": day,
        "season": season(day, Hemisphere.NORTH).value,
        "season_year": season_year(day),
        "quarter": quarter(day),
        "year": day.year,
        "month": day.month,
        "image_s3_key": None,
        "image_sha256": [f"{n:064x}" for n in ids],
        "embedding_id": [f"smartgo-product-{n}-x" for n in ids],
        "embedding_model": "local-test",
        "embedding_dimension": dimension,
        "embedding_vector": vectors_column(vectors),
        "embedding_status": "ok",
        "embedding_error": None,
        "preprocess_version": "p1",
        "source_system": scope.source_system,
        "ingestion_timestamp": datetime(2026, 11, 21, 3, tzinfo=UTC),
        "run_id": "run-1",
    } | changed
    arrays = [_column(columns[field.name], field.type, count) for field in SALES_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=SALES_SCHEMA)


def vectors_column(vectors: np.ndarray) -> pa.Array:
    """Return (n, dimension) float32 as a column of vectors."""
    count, dimension = vectors.shape
    offsets = pa.array(range(0, count * dimension + 1, dimension), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()), type=VECTOR)


def day_scope(day: str = "2026-11-03", *tenants: str, source: str = "smartgo") -> DayScope:
    return DayScope(date.fromisoformat(day), tenants or ("carousel-labs",), source)


def _column(value: object, kind: pa.DataType, count: int) -> pa.Array:
    if isinstance(value, pa.Array):
        return value
    return pa.array(value if isinstance(value, list) else [value] * count, kind)
