"""SQL over the Iceberg tables: one SELECT, by DuckDB, on the current snapshots. Nothing can be written.

`s3.pricing_intelligence.smartgo_sales`, `pricing_intelligence.smartgo_sales` and `smartgo_sales` are the same table.
A WHERE on tenant, year, month or a date opens only the files that can match (see planned_files). The engine runs in
this process without access to files, network, extensions or our Python variables.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from salesintel_dagster.adapters.commit_attempts import translated
from salesintel_dagster.adapters.planned_files import planned_dataset
from salesintel_dagster.adapters.table_layout import NAMESPACE
from salesintel_dagster.domain.errors import QueryRefused

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.catalog import Catalog

DATABASE = "s3"
RESULT_ROWS = 2_000
"""Rows in a batch of the answer: 8 MB where vectors are selected."""

# DuckDB's binding tells on 60 lines of standard error what is never collected, which `definitions` has frozen.
atexit.register(gc.unfreeze)

_BEFORE_TABLES = ("SET TimeZone = 'UTC'", "SET python_enable_replacements = false", f"ATTACH ':memory:' AS {DATABASE}")
_AFTER_TABLES = ("SET enable_external_access = false", "SET lock_configuration = true")


def query(catalog: Catalog, sql: str) -> pa.RecordBatchReader:
    """Run one SELECT and stream its answer.

    Raises QueryRefused for anything but one SELECT and for SQL that does not run (a data file out of reach is told
    so too, by DuckDB), also while the answer is read; TableUnavailable where the catalog is out of reach.
    """
    import duckdb  # noqa: PLC0415 - 30 MB that only SQL needs

    connection = duckdb.connect(":memory:")
    try:
        with _refusals(), translated():
            _check_one_select(connection, sql)
            _register(connection, catalog, sql)
            answer = connection.sql(sql).to_arrow_reader(RESULT_ROWS)
    except BaseException:
        connection.close()
        raise
    return pa.RecordBatchReader.from_batches(answer.schema, _streamed(connection, answer))


def _check_one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    import duckdb  # noqa: PLC0415 - see query

    statements = connection.extract_statements(sql)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise QueryRefused("expected one SELECT; this reader changes nothing and runs one statement at a time")


def _register(connection: duckdb.DuckDBPyConnection, catalog: Catalog, sql: str) -> None:
    """Offer the tables that the query names, or all where it names none (SHOW TABLES); then shut the doors.

    Planning reads a table's manifests, so the others are left out.
    """
    for statement in (*_BEFORE_TABLES, f"CREATE SCHEMA {DATABASE}.{NAMESPACE}"):
        connection.execute(statement)
    names = _tables(catalog)
    for name in [name for name in names if name.lower() in sql.lower()] or names:
        dataset = planned_dataset(catalog.load_table((NAMESPACE, name)))
        connection.register(f"_{name}", dataset)
        connection.execute(f"CREATE VIEW {_view(name)} AS SELECT * FROM {_quoted(f'_{name}')}")  # noqa: S608 - quoted
    for statement in (f"USE {DATABASE}.{NAMESPACE}", *_AFTER_TABLES):
        connection.execute(statement)


def _tables(catalog: Catalog) -> list[str]:
    if not catalog.namespace_exists(NAMESPACE):
        raise QueryRefused(
            f"there is no table in {NAMESPACE} yet; the first export makes it: salesintel materialise DATE"
        )
    return [identifier[-1] for identifier in catalog.list_tables(NAMESPACE)]


def _view(name: str) -> str:
    return f"{DATABASE}.{NAMESPACE}.{_quoted(name)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _streamed(connection: duckdb.DuckDBPyConnection, answer: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield the answer's batches; the connection lives as long as they are read."""
    try:
        with _refusals():
            yield from answer
    finally:
        connection.close()


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn the engine's errors into one sentence: its first line tells what is wrong."""
    import duckdb  # noqa: PLC0415 - see query

    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        raise QueryRefused(f"the query does not run: {str(error).strip().partition(chr(10))[0]}") from error
