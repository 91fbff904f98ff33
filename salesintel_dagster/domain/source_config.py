"""The source's configuration as the deployment keeps it: one JSON object, secret as a whole, read field by field.

No message repeats a value or what the JSON parser says: both may be a piece of the password.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.domain.source import ConnectionParameters, SourceMapping

CONNECTION_FIELDS = (
    "host",
    "port",
    "database",
    "username",
    "password",
    "sslmode",
    "sslrootcert",
    "connect_timeout_seconds",
    "statement_timeout_seconds",
)
MAPPING_FIELDS = ("table", "query", "columns", "tenant", "tenants", "sold_at_zone")
_REQUIRED = ("host", "database", "username", "password")


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Where the source is, and what is what in it."""

    connection: ConnectionParameters
    mapping: SourceMapping


def source_config(text: str, default_tenant: str) -> SourceConfig:
    """Return the configuration in a JSON object; `default_tenant` is the tenant of a source that names none.

    The object holds `CONNECTION_FIELDS` and, in `mapping`, `MAPPING_FIELDS`; a null is a field not given.
    Raises SettingInvalid for what is missing, unknown or out of range, SourceMappingInvalid for a bad name.
    """
    given = _known(_object(text), (*CONNECTION_FIELDS, "mapping"), "source configuration")
    missing = [name for name in _REQUIRED if name not in given]
    if missing:
        raise SettingInvalid(f"source configuration: {', '.join(missing)} missing")
    mapping = given.pop("mapping", {})
    if not isinstance(mapping, dict):
        raise SettingInvalid("source configuration: mapping: expected an object")
    return SourceConfig(ConnectionParameters(**given), _mapping(mapping, default_tenant))


def _known(given: dict[str, Any], known: tuple[str, ...], what: str) -> dict[str, Any]:
    if given.keys() - set(known):
        raise SettingInvalid(f"{what}: unknown fields; known are {', '.join(known)}")
    return {name: value for name, value in given.items() if value is not None}


def _object(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise SettingInvalid("source configuration: expected one JSON object with host, database, username, password")
    return given


def _mapping(given: dict[str, Any], default_tenant: str) -> SourceMapping:
    parts = _known(given, MAPPING_FIELDS, "source configuration: mapping")
    texts = [name for name in ("table", "query", "tenant", "sold_at_zone") if not isinstance(parts.get(name, ""), str)]
    if texts:
        raise SettingInvalid(f"source configuration: {', '.join(texts)}: expected text")
    tenants = parts.pop("tenants", [])
    columns = parts.pop("columns", {})
    if not isinstance(tenants, list) or not all(isinstance(tenant, str) for tenant in tenants):
        raise SettingInvalid("source configuration: tenants: expected a list of texts")
    if not isinstance(columns, dict) or not all(isinstance(column, str | None) for column in columns.values()):
        raise SettingInvalid("source configuration: columns: expected an object of field: column (or null)")
    if "query" in parts:
        parts.setdefault("table", None)
    if not tenants:
        parts.setdefault("tenant", default_tenant)
    return SourceMapping(columns=columns, tenants=frozenset(tenants), **parts)
