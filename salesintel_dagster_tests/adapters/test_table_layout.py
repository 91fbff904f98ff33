from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import pyarrow_to_schema
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.update import SetCurrentSchemaUpdate

import salesintel_dagster
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.adapters.table_layout import NAMESPACE, TABLE_PROPERTIES, partition_spec, sales_schema
from salesintel_dagster.domain.columns import SALES_SCHEMA
from salesintel_dagster.domain.errors import SchemaDrift, TableUnavailable
from salesintel_dagster.domain.ports import SalesTable
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.sales_table import day_scope, sale_rows
from salesintel_dagster_tests.lakes import DAY, RUN, SALES, local_catalog, rows

PACKAGE = Path(salesintel_dagster.__file__).parent
LAKEHOUSE = PACKAGE / "adapters" / "lakehouse.py"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = local_catalog(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def table(catalog: Catalog) -> IcebergSalesTable:
    return IcebergSalesTable(lambda: catalog, held_clock())


def make(catalog: Catalog, schema: Schema, properties: dict[str, str] = TABLE_PROPERTIES, *, spec: bool = True) -> None:
    catalog.create_namespace(NAMESPACE)
    partitions = {"partition_spec": partition_spec(schema)} if spec else {}
    catalog.create_table(SALES, schema, properties=properties, **partitions)


def altered(change: dict[str, str | None]) -> Schema:
    """The sales schema with columns of another type, or (None) without them."""
    kinds = {"string": pa.string(), "double": pa.float64()}
    fields = []
    for number, field in enumerate(SALES_SCHEMA, start=1):
        if field.name not in change:
            fields.append(field.with_metadata({"PARQUET:field_id": str(number)}))
        elif change[field.name] is not None:
            fields.append(pa.field(field.name, kinds[change[field.name]], False, {"PARQUET:field_id": str(number)}))  # noqa: FBT003 - nullable
    vector = next(index for index, field in enumerate(fields) if field.name == "embedding_vector")
    element = pa.field("element", pa.float32(), nullable=False, metadata={"PARQUET:field_id": "99"})
    fields[vector] = pa.field("embedding_vector", pa.list_(element), metadata=fields[vector].metadata)
    return pyarrow_to_schema(pa.schema(fields))


class TestDrift:
    """D10"""

    def test_a_missing_column_is_named(self, catalog: Catalog, table: IcebergSalesTable) -> None:
        make(catalog, altered({"season_year": None}))
        with pytest.raises(SchemaDrift, match="season_year: expected int required, found none"):
            table.replace_day(DAY, rows(sale_rows(DAY, 1)), RUN, allow_empty=False)
        assert catalog.load_table(SALES).current_snapshot() is None

    def test_a_wrong_type_is_named(self, catalog: Catalog, table: IcebergSalesTable) -> None:
        make(catalog, altered({"sold_price": "double"}))
        with pytest.raises(SchemaDrift, match=r"sold_price: expected decimal\(18, 2\) required, found double"):
            table.day_facts(DAY)

    def test_a_column_that_this_version_does_not_know_is_named(
        self, catalog: Catalog, table: IcebergSalesTable
    ) -> None:
        make(catalog, sales_schema())
        with catalog.load_table(SALES).update_schema() as update:
            update.add_column("colour", sales_schema().find_field("brand").field_type)
        with pytest.raises(SchemaDrift, match="colour: expected none, found string optional"):
            table.replace_day(DAY, rows(sale_rows(DAY, 1)), RUN, allow_empty=False)

    def test_a_column_that_was_dropped_and_added_anew_is_named_until_the_first_one_is_back(
        self, catalog: Catalog, table: IcebergSalesTable
    ) -> None:
        """Iceberg reads a column by its number: the second `brand` is empty in all rows of before."""
        table.replace_day(DAY, rows(sale_rows(DAY, 1)), RUN, allow_empty=False)
        made = catalog.load_table(SALES)
        with made.update_schema(allow_incompatible_changes=True) as update:
            update.delete_column("brand")
        with made.update_schema() as update:
            update.add_column("brand", sales_schema().find_field("brand").field_type)
        with pytest.raises(SchemaDrift, match="brand: expected string optional, found string optional, added anew"):
            table.day_facts(DAY)
        first = SetCurrentSchemaUpdate(schema_id=0)
        catalog.commit_table(made, (), (first,))
        assert table.day_facts(DAY).rows == 1

    def test_another_partitioning_is_refused(self, catalog: Catalog, table: IcebergSalesTable) -> None:
        make(catalog, sales_schema(), spec=False)
        with pytest.raises(SchemaDrift, match="partitions: expected identity of tenant_id, year, month"):
            table.replace_day(DAY, rows(sale_rows(DAY, 1)), RUN, allow_empty=False)

    def test_a_weaker_isolation_is_refused(self, catalog: Catalog, table: IcebergSalesTable) -> None:
        make(catalog, sales_schema(), {**TABLE_PROPERTIES, "write.update.isolation-level": "snapshot"})
        with pytest.raises(SchemaDrift, match="isolation-level: expected serializable"):
            table.replace_day(DAY, rows(sale_rows(DAY, 1)), RUN, allow_empty=False)


class TestTheFiles:
    """D11"""

    @pytest.fixture
    def written(self, catalog: Catalog, table: IcebergSalesTable) -> Table:
        both = day_scope("2026-11-03", "a", "b")
        table.replace_day(both, rows(sale_rows(both, 7, dimension=1024)), RUN, allow_empty=False)
        return catalog.load_table(SALES)

    def paths(self, table: Table) -> list[Path]:
        return [Path(task.file.file_path.removeprefix("file://")) for task in table.scan().plan_files()]

    def test_they_are_parquet_with_the_tables_field_ids(self, written: Table) -> None:
        paths = self.paths(written)
        assert len(paths) == 2
        for path in paths:
            data = path.read_bytes()
            assert (data[:4], data[-4:]) == (b"PAR1", b"PAR1")
            found = {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in pq.read_schema(path)}
            assert found == {field.name: field.field_id for field in written.schema().fields}
            assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"

    def test_footers_hold_as_many_rows_as_the_snapshot_says(self, written: Table) -> None:
        footers = [pq.ParquetFile(path).metadata.num_rows for path in self.paths(written)]
        summary = written.current_snapshot().summary
        assert sum(footers) == int(summary["added-records"]) == int(summary["total-records"]) == 7
        assert written.current_snapshot().schema_id == written.schema().schema_id

    def test_other_engines_read_the_same_rows(self, written: Table) -> None:
        paths = [str(path) for path in self.paths(written)]
        by_duckdb = (
            duckdb.connect().read_parquet(paths).aggregate("count(*), sum(sold_price), min(len(embedding_vector))")
        )
        assert by_duckdb.fetchall()[0] == (7, 7 * sale_rows(DAY, 1)["sold_price"][0].as_py(), 1024)
        assert sum(pq.read_table(path, partitioning=None).num_rows for path in paths) == 7

    def test_the_table_has_the_designed_properties(self, written: Table) -> None:
        """D10: as other engines' writers and the readers of the contract have them, not as our constant says."""
        expected = {
            "write.parquet.compression-codec": "zstd",
            "write.parquet.dict-size-bytes": "16384",
            "write.parquet.row-group-limit": "5000",
            "write.metadata.metrics.column.tenant_id": "full",
            "write.metadata.metrics.column.source_system": "full",
            "write.metadata.delete-after-commit.enabled": "true",
            "write.metadata.previous-versions-max": "20",
            "commit.retry.num-retries": "15",
            "commit.retry.min-wait-ms": "50",
            "commit.retry.max-wait-ms": "2000",
            "write.delete.isolation-level": "serializable",
            "write.update.isolation-level": "serializable",
        }
        assert written.properties == expected
        assert written.format_version == 2
        assert [str(field.transform) for field in written.spec().fields] == ["identity"] * 3


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node


def test_the_port_has_no_way_to_double_rows() -> None:
    """D7"""
    public = {name for name in dir(IcebergSalesTable) if not name.startswith("_")}
    assert public == {name for name in dir(SalesTable) if not name.startswith("_")}
    assert public == {"replace_day", "day_facts", "read_day", "day_property"}


def test_upsert_and_partition_overwrite_are_never_called() -> None:
    """D7"""
    refused = {"upsert", "dynamic_partition_overwrite", "add_files"}
    found = [path for path in PACKAGE.rglob("*.py") for call in calls(path) if call.func.attr in refused]
    assert found == []


def test_each_tables_rows_are_written_in_one_module_and_rewritten_in_one() -> None:
    """D7"""
    users = [path for path in PACKAGE.rglob("*.py") if "pyiceberg" in path.read_text()]

    def writes(call: ast.Call) -> bool:
        named = {keyword.arg for keyword in call.keywords}
        return call.func.attr in {"overwrite", "transaction"} or "snapshot_properties" in named

    found = {path for path in users for call in calls(path) if writes(call)}
    assert found == {LAKEHOUSE, LAKEHOUSE.with_name("table_rewrites.py"), LAKEHOUSE.with_name("file_exchange.py")}
    exchange = {path.name for path in users if "import FileExchange" in path.read_text()}
    assert exchange == {"enrichment_table.py", "history_table.py", "table_rewrites.py"}
    appends = [call for call in calls(LAKEHOUSE) if call.func.attr == "append"]
    assert [call.func.value.id for call in appends] == ["transaction"]


def test_row_filters_are_never_text() -> None:
    """D8"""
    filters = {"row_filter", "overwrite_filter", "delete_filter"}

    def is_text(node: ast.expr) -> bool:
        return isinstance(node, ast.JoinedStr | ast.BinOp) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        )

    texts = [
        (path.name, call.lineno)
        for path in (PACKAGE / "adapters").glob("*.py")
        for call in calls(path)
        for value in (
            *(keyword.value for keyword in call.keywords if keyword.arg in filters),
            *(call.args if call.func.attr in {"overwrite", "delete", "scan", "filter"} else ()),
        )
        if is_text(value)
    ]
    assert texts == []


def test_storage_that_is_gone_is_told_as_such(table: IcebergSalesTable, tmp_path: Path) -> None:
    table.replace_day(DAY, rows(sale_rows(DAY, 1)), RUN, allow_empty=False)
    for path in (tmp_path / "warehouse").rglob("*.parquet"):
        path.unlink()
    with pytest.raises(TableUnavailable, match="out of reach"):
        table.day_facts(DAY)
