"""The table product_enrichment: one contract on the fake and on real Iceberg files; races, lost answers, upkeep."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.types import DecimalType

from salesintel_dagster.adapters.enrichment_table import PARTITIONS, IcebergEnrichmentTable
from salesintel_dagster.adapters.sql_reader import query
from salesintel_dagster.adapters.table_layout import (
    ENRICHMENT_TABLE,
    NAMESPACE,
    TABLE_PROPERTIES,
    partition_spec,
    sales_schema,
)
from salesintel_dagster.adapters.table_probe import table_state
from salesintel_dagster.adapters.table_upkeep import IcebergTableKeeper
from salesintel_dagster.domain.enrichment.ports import EnrichmentTable
from salesintel_dagster.domain.enrichment.product import CatalogProduct, LookUpKey, LookUpKind
from salesintel_dagster.domain.enrichment.rows import ENRICHMENT_SCHEMA, RowSource, row, table_of
from salesintel_dagster.domain.errors import DuplicateKeys, SchemaDrift, TableUnavailable
from salesintel_dagster.domain.upkeep import UpkeepRules
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.enrichment import InMemoryEnrichmentTable
from salesintel_dagster_tests.fakes.enrichment_provider import facts
from salesintel_dagster_tests.lakes import Disturbed, local_catalog

AT = datetime(2026, 11, 27, 6, tzinfo=UTC)
TABLE = (NAMESPACE, ENRICHMENT_TABLE)
RUN = {"salesintel.run-id": "run-1"}


def rows(first: int, count: int, *, tenant: str = "t", run: str = "run-1", at: datetime = AT) -> pa.Table:
    source = RowSource(tenant, "summer", "E1", "local-scripted", run, at)
    products = (CatalogProduct(f"p-{n}", LookUpKey(LookUpKind.ASIN, f"B{n:09d}")) for n in range(first, first + count))
    return table_of(row(source, product, facts(product.key.identifier)) for product in products)


def iceberg(catalog: Catalog) -> IcebergEnrichmentTable:
    return IcebergEnrichmentTable(lambda: catalog, held_clock())


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = local_catalog(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(params=["memory", "iceberg"])
def table(request: pytest.FixtureRequest) -> EnrichmentTable:
    if request.param == "memory":
        return InMemoryEnrichmentTable()
    return iceberg(request.getfixturevalue("catalog"))


def whole(catalog: Catalog) -> list[tuple[str, str, str]]:
    found = catalog.load_table(TABLE).scan().to_arrow()
    columns = (found[name].to_pylist() for name in ("tenant_id", "product_id", "run_id"))
    return sorted(zip(*columns, strict=True))


class TestEveryTable:
    def test_rows_come_back_as_they_were_written(self, table: EnrichmentTable):
        done = table.merge(rows(0, 3), RUN)
        assert (done.rows_written, done.rows_kept) == (3, 0)
        found = table.held("t", ["p-0", "p-2", "p-9"], rows(0, 1).schema.names)
        assert sorted(found.to_pylist(), key=lambda one: one["product_id"]) == [
            *rows(0, 1).to_pylist(),
            *rows(2, 1).to_pylist(),
        ]
        assert found["price_new"].to_pylist() == [Decimal("18.99")] * 2
        assert table.provider_counts() == {"local-scripted": 3}

    def test_a_later_row_takes_the_place_of_its_product_and_of_no_other(self, table: EnrichmentTable):
        table.merge(rows(0, 4), RUN)
        done = table.merge(rows(2, 4, run="run-2", at=AT + timedelta(hours=1)), RUN)
        assert (done.rows_written, done.rows_kept) == (4, 0)
        found = table.held("t", [f"p-{n}" for n in range(9)], ("product_id", "run_id")).to_pylist()
        assert sorted((one["product_id"], one["run_id"]) for one in found) == [
            ("p-0", "run-1"),
            ("p-1", "run-1"),
            *((f"p-{n}", "run-2") for n in range(2, 6)),
        ]

    def test_h5_an_older_row_leaves_the_later_one(self, table: EnrichmentTable):
        table.merge(rows(0, 2, run="second", at=AT + timedelta(seconds=301)), RUN)
        done = table.merge(rows(0, 3, run="zombie"), RUN)
        assert (done.rows_written, done.rows_kept) == (1, 2)
        found = table.held("t", ["p-0", "p-1", "p-2"], ("product_id", "run_id")).to_pylist()
        assert sorted((one["product_id"], one["run_id"]) for one in found) == [
            ("p-0", "second"),
            ("p-1", "second"),
            ("p-2", "zombie"),
        ]

    def test_the_same_rows_again_are_the_same_rows_once(self, table: EnrichmentTable):
        for _ in range(2):
            table.merge(rows(0, 3), RUN)
        assert table.provider_counts() == {"local-scripted": 3}

    def test_tenants_do_not_see_each_other(self, table: EnrichmentTable):
        table.merge(rows(0, 2), RUN)
        table.merge(rows(0, 2, tenant="u", run="run-2", at=AT + timedelta(hours=1)), RUN)
        assert table.held("t", ["p-0"], ("run_id",)).to_pylist() == [{"run_id": "run-1"}]
        assert table.held("u", ["p-0"], ("run_id",)).to_pylist() == [{"run_id": "run-2"}]

    def test_an_empty_table_holds_nothing(self, table: EnrichmentTable):
        assert table.held("t", ["p-0"], ("run_id",)).num_rows == 0
        assert table.held("t", [], ("run_id",)).num_rows == 0
        assert table.provider_counts() == {}

    def test_a_product_twice_in_one_frame_and_foreign_columns_are_refused(self, table: EnrichmentTable):
        with pytest.raises(DuplicateKeys):
            table.merge(pa.concat_tables([rows(0, 1), rows(0, 1)]), RUN)
        with pytest.raises(SchemaDrift):
            table.merge(rows(0, 1).drop_columns(["asin"]), RUN)
        assert table.provider_counts() == {}


class TestIceberg:
    def test_no_snapshot_ever_shows_a_product_twice(self, catalog: Catalog):
        table = iceberg(catalog)
        for turn in range(4):
            table.merge(rows(turn, 5, at=AT + timedelta(hours=turn)), RUN)
        loaded = catalog.load_table(TABLE)
        assert len(loaded.metadata.snapshots) == 4
        for snapshot in loaded.metadata.snapshots:
            keys = loaded.scan(snapshot_id=snapshot.snapshot_id, selected_fields=("product_id",)).to_arrow()
            assert len(set(keys["product_id"].to_pylist())) == keys.num_rows

    def test_two_writers_of_the_same_products_at_once_leave_each_once(self, catalog: Catalog):
        first, second = iceberg(catalog), iceberg(catalog)
        first.merge(rows(0, 1), RUN)

        def rival(call: int) -> None:
            if call == 1:
                second.merge(rows(0, 5, run="rival", at=AT + timedelta(hours=2)), RUN)

        disturbed = Disturbed(catalog, before=rival)
        done = first.merge(rows(0, 8, run="mine", at=AT + timedelta(hours=1)), RUN)
        assert disturbed.calls > 2
        assert (done.rows_written, done.rows_kept) == (3, 5)
        assert whole(catalog) == [
            *(("t", f"p-{n}", "rival") for n in range(5)),
            *(("t", f"p-{n}", "mine") for n in range(5, 8)),
        ]

    def test_two_writers_of_other_products_both_commit(self, catalog: Catalog):
        first, second = iceberg(catalog), iceberg(catalog)
        first.merge(rows(0, 1), RUN)

        def rival(call: int) -> None:
            if call == 1:
                second.merge(rows(10, 5, run="rival"), RUN)

        Disturbed(catalog, before=rival)
        assert first.merge(rows(1, 2), RUN).rows_written == 2
        assert len(whole(catalog)) == 8

    def test_a_commit_whose_answer_was_lost_is_found_and_not_made_again(self, catalog: Catalog):
        table = iceberg(catalog)
        table.merge(rows(0, 1), RUN)

        def lose(call: int) -> None:
            if call == 1:
                raise CommitFailedException("the answer was lost")

        Disturbed(catalog, after=lose)
        assert table.merge(rows(1, 2), RUN).rows_written == 2
        assert len(catalog.load_table(TABLE).metadata.snapshots) == 2
        assert len(whole(catalog)) == 3

    def test_storage_that_is_gone_is_told_and_nothing_is_written(self, catalog: Catalog):
        table = iceberg(catalog)
        table.merge(rows(0, 1), RUN)

        def refuse(_call: int) -> None:
            raise OSError("no route")

        Disturbed(catalog, before=refuse)
        with pytest.raises(TableUnavailable, match="tried 5 times"):
            table.merge(rows(1, 1), RUN)
        assert len(whole(catalog)) == 1

    def test_a_snapshot_says_which_run_and_batches_made_it(self, catalog: Catalog):
        iceberg(catalog).merge(rows(0, 1), {"salesintel.run-id": "run-7", "salesintel.batches": "E1-20-00001"})
        summary = catalog.load_table(TABLE).current_snapshot().summary.additional_properties  # type: ignore[union-attr]
        assert (summary["salesintel.run-id"], summary["salesintel.batches"]) == ("run-7", "E1-20-00001")

    def test_a_table_of_that_name_that_is_laid_out_otherwise_is_refused(self, catalog: Catalog):
        catalog.create_namespace(NAMESPACE)
        catalog.create_table(TABLE, pa.schema([("product_id", pa.string())]))
        with pytest.raises(SchemaDrift, match="column tenant_id"):
            iceberg(catalog).merge(rows(0, 1), RUN)

    def test_an_id_with_quotes_is_an_id(self, catalog: Catalog):
        odd = "p' OR '1'='1"
        source = RowSource("t", "c", "E1", "local-scripted", "run-1", AT)
        product = CatalogProduct(odd, LookUpKey(LookUpKind.ASIN, "B000000001"))
        iceberg(catalog).merge(rows(0, 3), RUN)
        iceberg(catalog).merge(table_of([row(source, product, facts("B000000001"))]), RUN)
        assert iceberg(catalog).held("t", [odd], ("product_id",)).to_pylist() == [{"product_id": odd}]
        assert len(whole(catalog)) == 4

    def test_it_can_be_asked_in_sql(self, catalog: Catalog):
        iceberg(catalog).merge(rows(0, 3), RUN)
        statement = "SELECT provider, count(*) AS n, avg(price_new) AS p FROM product_enrichment GROUP BY provider"
        [found] = query(catalog, statement).read_all().to_pylist()
        assert (found["provider"], found["n"], float(found["p"])) == ("local-scripted", 3, 18.99)

    def test_it_joins_the_upkeep_small_files_become_one_and_no_row_changes(self, catalog: Catalog):
        table = iceberg(catalog)
        for turn in range(6):
            table.merge(rows(turn * 2, 3, at=AT + timedelta(hours=turn)), RUN)
            table.merge(rows(0, 1, tenant="u", at=AT + timedelta(hours=turn)), RUN)
        before = whole(catalog)
        later = datetime.now(UTC) + timedelta(days=30)
        keeper = IcebergTableKeeper(lambda: catalog, held_clock(), ENRICHMENT_TABLE)
        rules = UpkeepRules(keep_snapshots=2, full_file_rows=100)
        assert keeper.compact(rules, later).items >= 6
        keeper.expire(rules, later)
        keeper.remove(rules, later)
        assert whole(catalog) == before
        survey = keeper.survey(rules, later)
        assert survey is not None
        assert survey.data_files == 2
        assert table.merge(rows(0, 2, run="after", at=AT + timedelta(days=9)), RUN).rows_written == 2
        assert len(whole(catalog)) == len(before)


class TestATableThatAnEarlierVersionMade:
    """D10: 0.1 had price_buy_box among the prices, which this version never fills in."""

    @pytest.fixture
    def old(self, catalog: Catalog) -> Catalog:
        """The earlier version's table, with its column in its place and a row in it."""
        box = pa.field("price_buy_box", ENRICHMENT_SCHEMA.field("price_list").type)
        place = ENRICHMENT_SCHEMA.get_field_index("currency")
        columns = ENRICHMENT_SCHEMA.insert(place, box)
        catalog.create_namespace(NAMESPACE)
        schema = sales_schema(columns)
        spec = partition_spec(schema, PARTITIONS)
        made = catalog.create_table(TABLE, schema, partition_spec=spec, properties=TABLE_PROPERTIES)
        priced = rows(0, 3).add_column(place, box, pa.array([Decimal("1.50")] * 3, box.type))
        made.append(priced.cast(made.schema().as_arrow()))
        return catalog

    def test_it_takes_rows_keeps_the_others_and_leaves_null_what_this_version_does_not_know(self, old: Catalog):
        table = iceberg(old)
        assert table.provider_counts() == {"local-scripted": 3}
        assert table.merge(rows(2, 2, run="run-2", at=AT + timedelta(hours=1)), RUN).rows_written == 2
        assert whole(old) == [
            ("t", "p-0", "run-1"),
            ("t", "p-1", "run-1"),
            ("t", "p-2", "run-2"),
            ("t", "p-3", "run-2"),
        ]
        [found] = table.held("t", ["p-3"], ENRICHMENT_SCHEMA.names).to_pylist()
        assert found == rows(3, 1, run="run-2", at=AT + timedelta(hours=1)).to_pylist()[0]
        statement = "SELECT product_id, price_buy_box AS box FROM product_enrichment ORDER BY product_id"
        assert [one["box"] for one in query(old, statement).read_all().to_pylist()] == [Decimal("1.50")] * 2 + [
            None
        ] * 2

    def test_upkeep_and_doctor_take_it_as_it_is(self, old: Catalog):
        table = iceberg(old)
        for turn in range(3):
            table.merge(rows(9 + turn, 1), RUN)
        later = datetime.now(UTC) + timedelta(days=30)
        before = whole(old)
        keeper = IcebergTableKeeper(lambda: old, held_clock(), ENRICHMENT_TABLE)
        assert keeper.compact(UpkeepRules(keep_snapshots=2, full_file_rows=100), later).items >= 4
        assert whole(old) == before
        state = table_state(lambda: old, ENRICHMENT_TABLE, ENRICHMENT_SCHEMA, PARTITIONS)
        assert state is not None

    @pytest.mark.parametrize("change", ["required", "another type", "missing"])
    def test_a_column_that_a_writer_must_fill_or_would_miss_is_still_drift(self, old: Catalog, change: str):
        with old.load_table(TABLE).update_schema(allow_incompatible_changes=True) as update:
            if change == "required":
                update.update_column("price_buy_box", required=True)
            elif change == "missing":
                update.delete_column("asin")
            else:
                update.update_column("price_list", DecimalType(20, 2))
        with pytest.raises(SchemaDrift, match="column"):
            iceberg(old).merge(rows(7, 1), RUN)
