"""Whether a table may be written is asked of every catalog and store, and nothing is another than before."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pyarrow.fs import FileSelector
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import ForbiddenError
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from salesintel_dagster.adapters.catalogs import StorageAccess, open_catalog
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.adapters.table_files import TableFiles
from salesintel_dagster.adapters.table_layout import PARTITION_COLUMNS, SALES_TABLE
from salesintel_dagster.adapters.table_probe import TableState, table_state
from salesintel_dagster.adapters.table_write_probe import check_store
from salesintel_dagster.domain.columns import SALES_SCHEMA
from salesintel_dagster.domain.errors import TableRefused, TableUnavailable
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.sales_table import sale_rows
from salesintel_dagster_tests.lakes import DAY, KINDS, RUN, SALES, local_catalog, rows
from salesintel_dagster_tests.services import PostgresService


@pytest.fixture
def catalog(request: pytest.FixtureRequest) -> Iterator[Catalog]:
    opened = KINDS[getattr(request, "param", "sqlite")](request)
    yield opened
    opened.close()


def written(catalog: Catalog) -> Table:
    table = IcebergSalesTable(lambda: catalog, held_clock())
    table.replace_day(DAY, rows(sale_rows(DAY, 3)), RUN, allow_empty=False)
    return catalog.load_table(SALES)


def probe(catalog: Catalog) -> TableState | None:
    return table_state(lambda: catalog, SALES_TABLE, SALES_SCHEMA, PARTITION_COLUMNS)


def stored(table: Table) -> set[str]:
    assert isinstance(table.io, PyArrowFileIO)
    scheme, netloc, path = PyArrowFileIO.parse_location(table.location(), table.io.properties)
    found = table.io.fs_by_scheme(scheme, netloc).get_file_info(FileSelector(path, recursive=True))
    return {one.path.removeprefix(path) for one in found}


@pytest.mark.parametrize("catalog", KINDS, indirect=True)
def test_asking_leaves_table_and_files_as_they_were(catalog: Catalog):
    table = written(catalog)
    before = stored(table)
    assert probe(catalog) == TableState(1)
    after = catalog.load_table(SALES)
    assert (after.metadata_location, after.metadata) == (table.metadata_location, table.metadata)
    assert stored(table) == before


@pytest.mark.parametrize("catalog", KINDS, indirect=True)
def test_a_table_that_was_never_made_is_not_made_by_asking(catalog: Catalog):
    assert probe(catalog) is None
    assert not catalog.namespace_exists(SALES[0])


def test_what_a_killed_doctor_left_is_no_file_for_upkeep_to_judge(catalog: Catalog):
    table = written(catalog)
    with table.io.new_output(f"{table.location()}/doctor.probe").create() as left:
        left.write(b"x")
    assert not [file for file in TableFiles(catalog, table).stored if file.path.endswith("doctor.probe")]
    probe(catalog)
    assert "/doctor.probe" not in stored(table)


def test_another_doctor_that_took_the_probe_away_first_is_no_failure(catalog: Catalog):
    table = written(catalog)

    def gone(_: object) -> None:
        raise FileNotFoundError("doctor.probe")

    table.io.delete = gone  # type: ignore[method-assign]
    check_store(table)


def test_nothing_is_deleted_in_a_bucket_of_s3_tables(catalog: Catalog):
    """K5: AWS forbids it, and the doctor would say so of a healthy table; the emulator's buckets have other names."""
    table, deleted = written(catalog), []
    written_to = table.io.new_output(f"{table.location()}/doctor.probe")
    table.io.new_output = lambda _: written_to  # type: ignore[method-assign]
    table.io.delete = deleted.append  # type: ignore[method-assign]
    table.metadata = table.metadata.model_copy(update={"location": "s3://63a8e430-6e0b-46f5--table-s3"})
    check_store(table)
    assert deleted == []


def test_a_database_that_lets_us_read_alone_is_told(postgres: PostgresService, tmp_path: Path):
    uri, reader = postgres.new_database(), f"reader_{secrets.token_hex(4)}"

    def connect(uri: str) -> Catalog:
        return open_catalog("sql", uri=uri, warehouse=f"file://{tmp_path}/warehouse", access=StorageAccess())

    parts = conninfo_to_dict(uri)
    with closing(connect(uri)) as catalog:
        written(catalog)
    with psycopg.connect(uri, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {reader} LOGIN PASSWORD 'x'")  # type: ignore[call-overload]
        owner.execute(f"GRANT CONNECT ON DATABASE {parts['dbname']} TO {reader}")  # type: ignore[call-overload]
        owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")  # type: ignore[call-overload]
    as_reader = f"postgresql://{reader}:x@{parts['host']}:{parts['port']}/{parts['dbname']}"
    with pytest.raises(TableRefused, match="permission denied for table iceberg_tables"):
        probe(connect(as_reader))


def test_a_catalog_file_that_can_only_be_read_is_told(tmp_path: Path):
    with closing(local_catalog(tmp_path)) as catalog:
        written(catalog)
    uri = f"sqlite:///file:{tmp_path}/catalog.db?mode=ro&uri=true"
    read_only = open_catalog("sql", uri=uri, warehouse=f"file://{tmp_path}/warehouse", access=StorageAccess())
    with pytest.raises(TableRefused, match="readonly database"):
        probe(read_only)


def test_a_catalog_that_another_one_writes_for_long_is_out_of_reach(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/catalog.db?timeout=0.05"
    catalog = open_catalog("sql", uri=uri, warehouse=f"file://{tmp_path}/warehouse", access=StorageAccess())
    written(catalog)
    with closing(sqlite3.connect(f"{tmp_path}/catalog.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TableUnavailable, match="locked"):
            probe(catalog)


def answering(error: Exception | None) -> Callable[..., None]:
    def answer(*_: object, **__: object) -> None:
        if error is not None:
            raise error

    return answer


@pytest.mark.parametrize("catalog", ["s3tables"], indirect=True)
def test_a_rest_catalog_that_forbids_commits_is_told(catalog: Catalog, monkeypatch: pytest.MonkeyPatch):
    written(catalog)
    monkeypatch.setattr(catalog, "commit_table", answering(ForbiddenError("ForbiddenException: UpdateTable")))
    with pytest.raises(TableRefused, match="does not permit it: ForbiddenError"):
        probe(catalog)


@pytest.mark.parametrize("catalog", ["s3tables", "glue"], indirect=True)
def test_a_catalog_that_takes_any_version_is_told(catalog: Catalog, monkeypatch: pytest.MonkeyPatch):
    """Of two writers the later one would undo what the earlier one has committed."""
    written(catalog)
    if hasattr(catalog, "glue"):
        monkeypatch.setattr(catalog.glue, "update_table", answering(None))
    else:
        monkeypatch.setattr(catalog, "commit_table", answering(None))
    with pytest.raises(TableUnavailable, match="a version that never was"):
        probe(catalog)
