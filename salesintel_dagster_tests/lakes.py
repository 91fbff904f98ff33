"""Iceberg catalogs for tests, on every kind of catalog that the settings offer, and ways to disturb a commit."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import EqualTo
from pyiceberg.table import CommitTableResponse

from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.adapters.catalogs import StorageAccess, open_catalog
from salesintel_dagster.adapters.table_layout import NAMESPACE, SALES_TABLE
from salesintel_dagster.domain.ports import DayScope, SalesTable
from salesintel_dagster_tests.fakes.sales_table import day_scope

SALES = (NAMESPACE, SALES_TABLE)
RUN = {"salesintel.run-id": "run-1"}
DAY = day_scope("2026-11-03")


def rows(*batches: pa.RecordBatch) -> Callable[[], Iterator[pa.RecordBatch]]:
    return lambda: iter(batches)


def ids(table: SalesTable, scope: DayScope) -> list[str]:
    return sorted(sale for batch in table.read_day(scope, ("sale_id",)) for sale in batch["sale_id"].to_pylist())


def bucket(aws: AwsClients) -> str:
    name = f"lake-{secrets.token_hex(6)}"
    aws.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": aws.target.region})
    return name


def access_to(target: AwsTarget) -> StorageAccess:
    return StorageAccess(target.region, target.endpoint_url, target.access_key_id, target.secret_access_key)


def local_catalog(folder: Path) -> Catalog:
    folder.mkdir(exist_ok=True)
    return open_catalog(
        "sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse", access=StorageAccess()
    )


def postgres_catalog(request: pytest.FixtureRequest) -> Catalog:
    aws = request.getfixturevalue("aws")
    uri = request.getfixturevalue("postgres").new_database()
    return open_catalog("sql", uri=uri, warehouse=f"s3://{bucket(aws)}/pricing", access=access_to(aws.target))


def glue_catalog(request: pytest.FixtureRequest) -> Catalog:
    aws = request.getfixturevalue("aws")
    return open_catalog("glue", uri=None, warehouse=f"s3://{bucket(aws)}/pricing", access=access_to(aws.target))


def s3tables_catalog(request: pytest.FixtureRequest) -> Catalog:
    aws = request.getfixturevalue("aws")
    arn = aws.client("s3tables").create_table_bucket(name=f"lake-{secrets.token_hex(6)}")["arn"]
    return open_catalog(
        "rest",
        uri=f"{aws.target.endpoint_url}/iceberg",
        warehouse=arn,
        access=access_to(aws.target),
        signing_name="s3tables",
    )


KINDS = {
    "sqlite": lambda request: local_catalog(request.getfixturevalue("tmp_path")),
    "postgres": postgres_catalog,
    "glue": glue_catalog,
    "s3tables": s3tables_catalog,
}


class Disturbed:
    """Lets a test act before or after each commit of a catalog: `before(n)` and `after(n)`, n from 1."""

    def __init__(
        self, catalog: Catalog, before: Callable[[int], None] | None = None, after: Callable[[int], None] | None = None
    ) -> None:
        self.calls = 0
        self._commit = catalog.commit_table
        self._before = before
        self._after = after
        catalog.commit_table = self._disturbed

    def _disturbed(self, *words: object, **named: object) -> CommitTableResponse:
        self.calls += 1
        call = self.calls
        if self._before is not None:
            self._before(call)
        answer = self._commit(*words, **named)
        if self._after is not None:
            self._after(call)
        return answer


def every_snapshot(catalog: Catalog) -> Iterator[list[tuple[str, str]]]:
    """Yield the keys that each snapshot shows, oldest first."""
    table = catalog.load_table(SALES)
    for snapshot in table.metadata.snapshots:
        keys = table.scan(snapshot_id=snapshot.snapshot_id, selected_fields=("tenant_id", "sale_id")).to_arrow()
        yield list(zip(keys["tenant_id"].to_pylist(), keys["sale_id"].to_pylist(), strict=True))


def file_paths(catalog: Catalog, day: str) -> set[str]:
    """Return the data files that hold rows of a day."""
    scan = catalog.load_table(SALES).scan(row_filter=EqualTo("sold_date", day))
    return {task.file.file_path for task in scan.plan_files()}
