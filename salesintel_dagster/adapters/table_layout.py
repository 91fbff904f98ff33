"""How the Iceberg tables are laid out: names, schema, partitions, properties, and what counts as drift from them.

Nothing here reads or writes a row. pyiceberg costs one CPU second to import, so it is imported on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa

from salesintel_dagster.domain.columns import SALES_SCHEMA
from salesintel_dagster.domain.errors import SchemaDrift
from salesintel_dagster.domain.ports import DayScope

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

NAMESPACE = "pricing_intelligence"
SALES_TABLE = "smartgo_sales"
HISTORY_TABLE = "sales_history"
ENRICHMENT_TABLE = "product_enrichment"
TABLES = (SALES_TABLE, HISTORY_TABLE, ENRICHMENT_TABLE)
"""Every table that upkeep looks after."""
TAKES_UNKNOWN_COLUMNS = frozenset({ENRICHMENT_TABLE})
"""Tables whose writer leaves an optional column that it does not know null: product_enrichment lost price_buy_box, and
those that have it hold paid rows. Everywhere else such a column is drift."""
PARTITION_COLUMNS = ("tenant_id", "year", "month")
PARTITION_FIELD_IDS_FROM = 1000
FIELD_ID = "PARQUET:field_id"

MANAGED_BUCKETS = "--table-s3"
"""How the names of S3 Tables' own buckets end; nothing in them can be listed or deleted."""

ISOLATION = ("write.delete.isolation-level", "write.update.isolation-level")
SERIALIZABLE = "serializable"

TABLE_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    # Vectors never repeat: a small dictionary is given up early, 0.92 of raw size, 429 MB/CPU-s.
    "write.parquet.dict-size-bytes": "16384",
    "write.parquet.row-group-limit": "5000",
    # Bounds are cut at 16 characters otherwise, and a day's files could not be dropped whole.
    "write.metadata.metrics.column.tenant_id": "full",
    "write.metadata.metrics.column.source_system": "full",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    # Other days' commits: pyiceberg puts ours on top of theirs. The same day's are refused and redone by us.
    "commit.retry.num-retries": "15",
    "commit.retry.min-wait-ms": "50",
    "commit.retry.max-wait-ms": "2000",
    **dict.fromkeys(ISOLATION, SERIALIZABLE),
}


def kept_by_aws(location: str) -> bool:
    """Tell whether a table's location lies in a bucket of S3 Tables' own."""
    return location.partition("://")[2].partition("/")[0].endswith(MANAGED_BUCKETS)


def day_filter(scope: DayScope) -> BooleanExpression:
    """Return the scope as expression objects: a tenant's name is never part of a parsed string."""
    from pyiceberg.expressions import And, EqualTo, In  # noqa: PLC0415 - lazy, see the module's docstring

    equal: Callable[[str, object], BooleanExpression] = EqualTo  # type: ignore[assignment]  # pydantic's signature
    among: Callable[[str, object], BooleanExpression] = In  # type: ignore[assignment]  # hides the real ones
    return And(
        among("tenant_id", set(scope.tenants)),
        equal("year", scope.day.year),
        equal("month", scope.day.month),
        equal("sold_date", scope.day),
        equal("source_system", scope.source_system),
    )


def sales_schema(columns: pa.Schema = SALES_SCHEMA) -> Schema:
    """Return the columns as an Iceberg schema: field ids by position, list elements after all columns."""
    from pyiceberg.io.pyarrow import pyarrow_to_schema  # noqa: PLC0415 - lazy, see the module's docstring

    last = len(columns)
    fields = []
    for number, field in enumerate(columns, start=1):
        kind = field.type
        if pa.types.is_list(kind):
            last += 1
            kind = pa.list_(kind.value_field.with_metadata({FIELD_ID: str(last)}))
        fields.append(pa.field(field.name, kind, field.nullable, {FIELD_ID: str(number)}))
    return pyarrow_to_schema(pa.schema(fields))


def partition_spec(schema: Schema, partitions: tuple[str, ...] = PARTITION_COLUMNS) -> PartitionSpec:
    """Return identity partitions, by tenant, year and month; month() and day() would need a 38 MB extra."""
    from pyiceberg.partitioning import PartitionField, PartitionSpec  # noqa: PLC0415 - lazy
    from pyiceberg.transforms import IdentityTransform  # noqa: PLC0415 - lazy

    return PartitionSpec(
        *(
            PartitionField(
                source_id=schema.find_field(name).field_id,
                field_id=PARTITION_FIELD_IDS_FROM + number,
                transform=IdentityTransform(),
                name=name,
            )
            for number, name in enumerate(partitions)
        )
    )


def load_or_create(
    catalog: Catalog,
    name: str,
    columns: pa.Schema = SALES_SCHEMA,
    partitions: tuple[str, ...] = PARTITION_COLUMNS,
) -> Table:
    """Return the table, made on first use; of two that make it at once, both get the same one.

    Raises SchemaDrift where a table of that name is laid out otherwise, and the vendor's errors.
    """
    from pyiceberg.exceptions import NoSuchTableError  # noqa: PLC0415 - lazy

    identifier = (NAMESPACE, name)
    try:
        table = catalog.load_table(identifier)
    except NoSuchTableError:
        table = _create(catalog, identifier, columns, partitions)
    check_layout(table, columns, partitions)
    return table


def _create(catalog: Catalog, identifier: tuple[str, str], columns: pa.Schema, partitions: tuple[str, ...]) -> Table:
    from pyiceberg.exceptions import TableAlreadyExistsError  # noqa: PLC0415 - lazy

    _ensure_namespace(catalog)
    schema = sales_schema(columns)
    try:
        return catalog.create_table(
            identifier, schema, partition_spec=partition_spec(schema, partitions), properties=TABLE_PROPERTIES
        )
    except TableAlreadyExistsError:
        return catalog.load_table(identifier)


def _ensure_namespace(catalog: Catalog) -> None:
    try:
        catalog.create_namespace_if_not_exists(NAMESPACE)
    except Exception:
        # The SQL catalog answers a lost race with the database's own IntegrityError.
        if not catalog.namespace_exists(NAMESPACE):
            raise


def check_layout(
    table: Table, columns: pa.Schema = SALES_SCHEMA, partitions: tuple[str, ...] = PARTITION_COLUMNS
) -> None:
    """Refuse a table whose columns or partitions are not ours. Raises SchemaDrift naming each difference."""
    expected = {field.name: f"{field.field_type} {_presence(field.required)}" for field in sales_schema(columns).fields}
    spares = table.name()[-1] in TAKES_UNKNOWN_COLUMNS
    first_ids = _first_ids(table)
    found = {
        field.name: f"{field.field_type} {_presence(field.required)}"
        + ("" if field.field_id == first_ids[field.name] else ", added anew: empty in all rows of before")
        for field in table.schema().fields
        if field.name in expected or field.required or not spares
    }
    differences = [
        f"column {name}: expected {expected.get(name, 'none')}, found {found.get(name, 'none')}"
        for name in {**expected, **found}
        if expected.get(name) != found.get(name)
    ]
    schema = table.schema()
    spec = [f"{field.transform}({schema.find_column_name(field.source_id)})" for field in table.spec().fields]
    if spec != [f"identity({name})" for name in partitions]:
        differences.append(f"partitions: expected identity of {', '.join(partitions)}, found {', '.join(spec)}")
    differences += [
        f"{name}: expected {SERIALIZABLE}, found {table.properties[name]}, under which two writers double a day"
        for name in ISOLATION
        if table.properties.get(name, SERIALIZABLE) != SERIALIZABLE
    ]
    if differences:
        name = ".".join(table.name())
        raise SchemaDrift(
            f"{name} is not laid out as this version writes it; migrate it first: {'; '.join(differences)}"
        )


def _first_ids(table: Table) -> dict[str, int]:
    """Return the number under which each column's name first stood; another one holds nothing of what was written."""
    schemas = sorted(table.metadata.schemas, key=lambda schema: schema.schema_id, reverse=True)
    return {field.name: field.field_id for schema in schemas for field in schema.fields}


def _presence(required: bool) -> str:  # noqa: FBT001 - Iceberg's own flag
    return "required" if required else "optional"
