"""Where the sales are in somebody else's database: the server, a table or a query, and which column is which field.

Names are validated here, before any of them reaches SQL text; values never reach SQL text at all. No message
repeats a value of the connection: a mistyped connection string puts pieces of the password into other fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from salesintel_dagster.domain.errors import SettingInvalid, SourceMappingInvalid
from salesintel_dagster.domain.sale import SOURCE_FIELDS, TENANT_PATTERN, RowRules
from salesintel_dagster.domain.tls import TLS_MODES, UNVERIFIED_TLS, default_mode, is_proof

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
OPTIONAL_FIELDS = frozenset({"sale_id", "tenant_id", "brand", "condition", "currency", "image_url"})
RECORDED_AT = "recorded_at"
"""Optional extra column: when the row was written. It attributes rows without a sold_at to one day."""

_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}|/[A-Za-z0-9._/-]{1,107}")
_DATABASE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class ConnectionParameters:
    """How to reach the source database. `host` is a name, an address or a socket folder (for MySQL: the socket).

    A host that is not this machine is reached by `verify-full` or not at all, unless `allow_unverified_tls` is set.
    """

    host: str
    database: str
    username: str
    password: str = field(repr=False)
    port: int = 5432
    sslmode: str | None = None
    sslrootcert: str | None = None
    connect_timeout_seconds: int = 10
    statement_timeout_seconds: int = 300
    allow_unverified_tls: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be a server's name; the message names the field and the rule, never the value."""
        rules = {
            "host": (_matches(_HOST, self.host), "a host name, an address or a socket folder"),
            "database": (_matches(_DATABASE, self.database), "letters, digits and _.-"),
            "username": (_is_text(self.username), "text that is not empty"),
            "password": (_is_text(self.password), "text that is not empty"),
            "port": (_is_number(self.port, _MAX_PORT), f"an integer from 1 to {_MAX_PORT}"),
            "sslmode": (self.sslmode is None or self.sslmode in TLS_MODES, f"one of {', '.join(TLS_MODES)}"),
            "sslrootcert": (self.sslrootcert is None or _is_text(self.sslrootcert), "a path or nothing"),
            "connect_timeout_seconds": (_is_number(self.connect_timeout_seconds, 3600), "an integer from 1 to 3600"),
            "statement_timeout_seconds": (
                _is_number(self.statement_timeout_seconds, 86_400),
                "an integer from 1 to 86400",
            ),
            UNVERIFIED_TLS: (isinstance(self.allow_unverified_tls, bool), "true or false"),
        }
        wrong = [f"{name}: expected {rule}" for name, (kept, rule) in rules.items() if not kept]
        if not wrong and not is_proof(self.tls_mode, self.host, unverified_allowed=self.allow_unverified_tls):
            wrong = [f"sslmode: expected verify-full for a host that is not local; {UNVERIFIED_TLS} lets it be less"]
        if wrong:
            raise SettingInvalid(f"source database: {'; '.join(wrong)}")

    @property
    def tls_mode(self) -> str:
        """The mode that is used: `sslmode`, or the one that the host calls for."""
        return self.sslmode or default_mode(self.host)

    @property
    def place(self) -> str:
        """The server and database as a log may show them: no user, no password."""
        return f"{self.host}:{self.port}/{self.database}"


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _is_number(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """Which of a source's columns is which of our fields, and whose rows they are.

    `columns` maps our field to their column, letter by letter (no case folding); a field that is not named maps to
    the column of its own name, and an optional field mapped to None has no column. `tenant` names the tenant of a
    source without a tenant column; else `tenants` are those whose rows it may send. `sold_at_zone` is the zone of
    columns that store local time without one: an hour that occurs twice is read as its second occurrence, standard
    time.
    """

    column_pattern: ClassVar[re.Pattern[str]] = IDENTIFIER

    columns: Mapping[str, str | None] = field(default_factory=dict)
    tenant: str | None = None
    tenants: frozenset[str] = frozenset()
    sold_at_zone: str | None = None

    def __post_init__(self) -> None:
        """Refuse names that are not plain."""
        for name, column in self.columns.items():
            self._check_column(name, column)
        for tenant in ({self.tenant} if self.tenant is not None else set()) | self.tenants:
            if not TENANT_PATTERN.fullmatch(tenant):
                raise SourceMappingInvalid(f"tenant {tenant!r}: a tenant matches {TENANT_PATTERN.pattern}")
        if self.sold_at_zone is not None:
            _check_zone(self.sold_at_zone)

    def _check_column(self, name: str, column: str | None) -> None:
        if name not in SOURCE_FIELDS and name != RECORDED_AT:
            raise SourceMappingInvalid(f"columns: {name!r} is not a field; fields are {', '.join(SOURCE_FIELDS)}")
        if column is None:
            if name not in OPTIONAL_FIELDS and name != RECORDED_AT:
                raise SourceMappingInvalid(f"columns: {name} is required and needs a column")
        elif not self.column_pattern.fullmatch(column):
            raise SourceMappingInvalid(f"columns: {name}: {column!r} is not a plain column name")

    def column_of(self, name: str) -> str | None:
        """Return the column of field `name`, or None where the source has none."""
        if name == "tenant_id" and self.tenant is not None:
            return None
        if name == RECORDED_AT:
            return self.columns.get(RECORDED_AT)
        return self.columns.get(name, name)

    def rules(self, default_currency: str) -> RowRules:
        """Return what rows of this source may hold. Raises SourceMappingInvalid where no tenant is named."""
        tenants = frozenset({self.tenant}) if self.tenant is not None else self.tenants
        if not tenants:
            raise SourceMappingInvalid("a source names its tenant, or the tenants whose rows it may send")
        return RowRules(tenants, default_currency, self.tenant)


@dataclass(frozen=True, slots=True)
class SourceMapping(FieldMapping):
    """A table (`schema.table` or `table`) or one SELECT, and the column of each field."""

    table: str | None = "sales"
    query: str | None = None

    def __post_init__(self) -> None:
        """Refuse names that are not plain identifiers, and a query that is not one SELECT."""
        if (self.table is None) == (self.query is None):
            raise SourceMappingInvalid("a source names either a table or a query")
        if self.table is not None:
            self._check_table(self.table)
        if self.query is not None:
            check_query(self.query)
        FieldMapping.__post_init__(self)  # slots make a new class, which super() does not find

    @staticmethod
    def _check_table(table: str) -> None:
        parts = table.split(".")
        if len(parts) > 2 or not all(IDENTIFIER.fullmatch(part) for part in parts):  # noqa: PLR2004 - schema.table
            raise SourceMappingInvalid(f"table {table!r}: expected name or schema.name of letters, digits and _")


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SourceMappingInvalid("sold_at_zone: expected an IANA time zone such as Europe/Vilnius") from None


def check_query(query: str) -> None:
    """Refuse a source query that is not exactly one SELECT (or WITH ... SELECT).

    A guard against mistakes, not the lock: the session itself is READ ONLY.
    """
    if ";" in query or not re.match(r"\s*(select|with)\b", query, re.IGNORECASE):
        raise SourceMappingInvalid("query: expected one SELECT (or WITH ... SELECT) without a semicolon")
