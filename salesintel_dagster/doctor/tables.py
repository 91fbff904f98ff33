"""Checks of the tables: Iceberg's layout and whether it may be written, keys and expiry of those in DynamoDB."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import DENIED
from salesintel_dagster.adapters.aws_probes import MISSING, check_key, check_put, expiry_attribute
from salesintel_dagster.adapters.enrichment_table import PARTITIONS
from salesintel_dagster.adapters.table_expiry import TTL_ATTRIBUTE
from salesintel_dagster.adapters.table_layout import (
    ENRICHMENT_TABLE,
    HISTORY_TABLE,
    PARTITION_COLUMNS,
    SALES_TABLE,
)
from salesintel_dagster.adapters.table_probe import table_state
from salesintel_dagster.doctor.patient import Patient
from salesintel_dagster.domain.columns import HISTORY_SCHEMA, SALES_SCHEMA
from salesintel_dagster.domain.diagnosis import Check, Finding, fail, ok, warn
from salesintel_dagster.domain.enrichment.rows import ENRICHMENT_SCHEMA
from salesintel_dagster.domain.errors import AwsRefused, SchemaDrift, TableRefused
from salesintel_dagster.settings import Catalog, variable_of

DEPLOY = "salesintel deploy --apply"
DEPLOYED = f"{DEPLOY} makes it; or this role lacks a permission (docs/aws.md, IAM)"
RESTORED = "put the table's layout back, or the release that made it (docs/runbook.md, a table was changed)"
LAYOUTS = {
    SALES_TABLE: (SALES_SCHEMA, PARTITION_COLUMNS),
    HISTORY_TABLE: (HISTORY_SCHEMA, PARTITION_COLUMNS),
    ENRICHMENT_TABLE: (ENRICHMENT_SCHEMA, PARTITIONS),
}
"""Columns and partitions of each Iceberg table, as its writer wants them."""


def checks(patient: Patient) -> Iterator[Check]:
    """Yield the checks."""
    for name in LAYOUTS:
        yield Check(f"iceberg table {name}", partial(iceberg_table, patient, name), _catalog_remedy(patient))
    settings = patient.settings
    keyed = {
        "progress table": (settings.progress_table_name, ("PK", "SK"), "the export"),
        "sales table": (settings.sales_table_name, ("PK", "SK"), "the sync"),
        "receipts table": (settings.receipts_table_name, ("PK",), "the sync"),
        "enrichment table": (settings.enrichment_table_name, ("catalog_id", "batch_id"), "the enrichment"),
    }
    for name, (table, key, user) in keyed.items():
        puts = name == "progress table"
        yield Check(name, partial(items_table, patient, table, key, user, puts=puts), DEPLOYED)


def iceberg_table(patient: Patient, name: str) -> Finding:
    """Load the table as its writer does, compare its layout with ours, and ask whether it may be written."""
    try:
        state = table_state(lambda: wiring.open_tables_catalog(patient.settings), name, *LAYOUTS[name])
    except TableRefused as refused:
        return fail(str(refused), _permission(patient))
    except SchemaDrift as drift:
        return fail(str(drift), RESTORED)
    answers = f"catalog {patient.settings.catalog.value} answers"
    if state is None:
        return ok(f"{answers}; its first writer makes the table, and whether it may make one is not asked")
    return ok(f"{answers}; the layout is ours, {state.snapshots} snapshots; catalog and storage let us write")


def _permission(patient: Patient) -> str:
    """Name what the export needs of the catalog; what was refused stands in the finding."""
    uri, stored = (
        variable_of("catalog_uri"),
        "s3:GetObject, s3:PutObject and s3:DeleteObject under pricing-intelligence/",
    )
    return {
        Catalog.GLUE: f"let this role do glue:GetTable and glue:UpdateTable on pricing_intelligence, and {stored}",
        Catalog.SQL: f"GRANT SELECT, INSERT, UPDATE ON iceberg_tables TO the user of {uri}; let this role do {stored}",
        Catalog.REST: f"let this role read and write the tables of {uri} (docs/aws.md, catalogs)",
    }[patient.settings.catalog]


def _catalog_remedy(patient: Patient) -> str:
    settings = patient.settings
    return (
        f"check {variable_of('catalog')}={settings.catalog.value}, {variable_of('catalog_uri')} and "
        f"{variable_of('warehouse')}={settings.warehouse_uri} (docs/aws.md, catalogs)"
    )


def items_table(patient: Patient, table: str, key: tuple[str, ...], user: str, *, puts: bool) -> Finding:
    """Look whether a DynamoDB table is there, has our key and lets items expire; `puts`: and takes items."""
    dynamodb = patient.clients.client("dynamodb")
    try:
        check_key(dynamodb, table, key)
        if puts:
            check_put(dynamodb, table, key)
        attribute = expiry_attribute(dynamodb, table)
    except AwsRefused as refused:
        return _table_refused(refused, table, key, user, puts=puts)
    found = f"{table}: key {', '.join(key)}"
    if attribute is None:
        return ok(f"{found}; not asked whether items expire (needs dynamodb:DescribeTimeToLive, which {user} does not)")
    if attribute != TTL_ATTRIBUTE:
        told = f"items expire by {attribute}" if attribute else "items never expire"
        return fail(f"{found}; {told}", f"{DEPLOY} lets them expire by {TTL_ATTRIBUTE}")
    return ok(f"{found}; items expire by {attribute}")


def _table_refused(refused: AwsRefused, table: str, key: tuple[str, ...], user: str, *, puts: bool) -> Finding:
    if refused.code in MISSING:
        return fail(f"no table {table}", f"{DEPLOY} makes it; or check STAGE and the table's variable")
    if refused.code == "ValidationException":
        return fail(
            f"{table}: its key is not {', '.join(key)}", "another application's table? docs/settings.md names ours"
        )
    if refused.code not in DENIED:
        raise refused
    actions = "dynamodb:GetItem and dynamodb:PutItem" if puts else "dynamodb:GetItem"
    judged = fail if puts else warn
    return judged(str(refused), f"let the role of {user} do {actions} on {table} (docs/aws.md, IAM)")
