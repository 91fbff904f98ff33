"""Where the sales are in somebody else's database: a table or a query, and which column is which field.

Names are validated here, before any of them reaches SQL text; values never reach SQL text at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from salesintel_dagster.domain.errors import SourceMappingInvalid
from salesintel_dagster.domain.sale import SOURCE_FIELDS, TENANT_PATTERN

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
OPTIONAL_FIELDS = frozenset({"sale_id", "tenant_id", "brand", "condition", "currency", "image_url"})
RECORDED_AT = "recorded_at"
"""Optional extra column: when the row was written. It attributes rows without a sold_at to one day."""


@dataclass(frozen=True, slots=True)
class SourceMapping:
    """A table (`schema.table` or `table`) or one SELECT, and the column of each field.

    `columns` maps our field to their column; a field that is not named maps to the column of its own name, and an
    optional field mapped to None has no column. `tenant` names the tenant of a source without a tenant column.
    `sold_at_zone` is the zone of a sold_at column that stores local time without one.
    """

    table: str | None = "sales"
    query: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    tenant: str | None = None
    tenants: frozenset[str] = frozenset()
    sold_at_zone: str | None = None

    def __post_init__(self) -> None:
        """Refuse names that are not plain identifiers, and a query that is not one SELECT."""
        if (self.table is None) == (self.query is None):
            raise SourceMappingInvalid("a source names either a table or a query")
        if self.table is not None:
            self._check_table(self.table)
        if self.query is not None:
            check_query(self.query)
        for name, column in self.columns.items():
            self._check_column(name, column)
        for tenant in ({self.tenant} if self.tenant is not None else set()) | self.tenants:
            if not TENANT_PATTERN.fullmatch(tenant):
                raise SourceMappingInvalid(f"tenant {tenant!r}: a tenant matches {TENANT_PATTERN.pattern}")

    @staticmethod
    def _check_table(table: str) -> None:
        parts = table.split(".")
        if len(parts) > 2 or not all(IDENTIFIER.fullmatch(part) for part in parts):  # noqa: PLR2004 - schema.table
            raise SourceMappingInvalid(f"table {table!r}: expected name or schema.name of letters, digits and _")

    @staticmethod
    def _check_column(name: str, column: str | None) -> None:
        if name not in SOURCE_FIELDS and name != RECORDED_AT:
            raise SourceMappingInvalid(f"columns: {name!r} is not a field; fields are {', '.join(SOURCE_FIELDS)}")
        if column is None:
            if name not in OPTIONAL_FIELDS:
                raise SourceMappingInvalid(f"columns: {name} is required and needs a column")
        elif not IDENTIFIER.fullmatch(column):
            raise SourceMappingInvalid(f"columns: {name}: {column!r} is not a plain column name")

    def column_of(self, name: str) -> str | None:
        """Return the column of field `name`, or None where the source has none."""
        if name == "tenant_id" and self.tenant is not None:
            return None
        if name == RECORDED_AT:
            return self.columns.get(RECORDED_AT)
        return self.columns.get(name, name)


def check_query(query: str) -> None:
    """Refuse a source query that is not exactly one SELECT (or WITH ... SELECT).

    A guard against mistakes, not the lock: the session itself is READ ONLY.
    """
    if ";" in query or not re.match(r"\s*(select|with)\b", query, re.IGNORECASE):
        raise SourceMappingInvalid("query: expected one SELECT (or WITH ... SELECT) without a semicolon")
