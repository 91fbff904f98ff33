"""What the text of the source's SSM parameter means: one JSON object, its `kind`, and the keys of that kind.

`postgres` (where there is no `kind`) and `mysql`: host, port, database, username, password, and what
`ConnectionParameters` knows beside them. `rest`: url, token, and what `RestParameters` knows. Each takes the mapping
(columns, tenant, tenants, sold_at_zone; a database also table or query) under `mapping` or beside the others. A message
names the parameter, the key and the rule, and repeats no value: the whole text is a secret.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from salesintel_dagster.domain.errors import SettingInvalid, SourceMappingInvalid
from salesintel_dagster.domain.rest_source import RestMapping, RestParameters
from salesintel_dagster.domain.source import ConnectionParameters, SourceMapping

POSTGRES, MYSQL, REST = KINDS = ("postgres", "mysql", "rest")

_KIND = "kind"
_MAPPING = "mapping"
_REQUIRED = {
    POSTGRES: ("host", "port", "database", "username", "password"),
    MYSQL: ("host", "port", "database", "username", "password"),
    REST: ("url", "token"),
}
_KEY_SHOWN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
"""A key outside this is not repeated: it may be a piece of a connection string in the wrong place."""


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """Where the database is, of which kind, and where in it the sales are. Its repr shows no password."""

    connection: ConnectionParameters
    mapping: SourceMapping
    kind: str = POSTGRES


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """How to ask the API, and which field of its rows is which. Its repr shows neither URL nor token."""

    parameters: RestParameters
    mapping: RestMapping


SourceConfig = DatabaseConfig | ApiConfig


def secret_of(config: SourceConfig) -> str:
    """Return what nobody else may know of it: the password or the token."""
    return config.parameters.token if isinstance(config, ApiConfig) else config.connection.password


def parse_source_config(name: str, text: str) -> SourceConfig:
    """Check the text of the parameter `name`. Raises SettingInvalid, naming the key and the rule, never a value."""
    document = _document(name, text)
    kind = document.pop(_KIND, POSTGRES)
    if kind not in KINDS:
        raise wrong(name, f"{_KIND}: expected one of {', '.join(KINDS)}")
    described = RestParameters if kind == REST else ConnectionParameters
    flat = tuple(rule for rule in _MAPPING_RULES if kind != REST or rule not in _DATABASE_ONLY)
    _check_keys(name, document, (*(each.name for each in fields(described)), _MAPPING, *flat))
    missing = [key for key in _REQUIRED[kind] if key not in document]
    if missing:
        raise wrong(name, f"{', '.join(missing)}: required and not there")
    mapping = _mapping(name, document, flat)
    try:
        if kind == REST:
            return ApiConfig(RestParameters(**document), RestMapping(**mapping))
        return DatabaseConfig(ConnectionParameters(**document), _database_mapping(mapping), kind)
    except (SettingInvalid, SourceMappingInvalid) as error:
        raise wrong(name, str(error).removeprefix("source database: ").removeprefix("source API: ")) from None


def _mapping(name: str, document: dict[str, Any], flat: tuple[str, ...]) -> dict[str, Any]:
    """Take the mapping out of the document, checked by its types."""
    mapping = {key: document.pop(key) for key in flat if key in document}
    if _MAPPING in document:
        if mapping:
            raise wrong(name, f"{', '.join(mapping)}: stands beside `mapping`; put it inside")
        mapping = document.pop(_MAPPING)
        if not isinstance(mapping, dict):
            raise wrong(name, "mapping: expected an object")
        _check_keys(name, mapping, flat, "mapping.")
    _check_types(name, mapping)
    if "tenants" in mapping:
        mapping["tenants"] = frozenset(mapping["tenants"])
    return mapping


def _document(name: str, text: str) -> dict[str, Any]:
    """Return the one JSON object that `text` is. A JSON error carries the whole text, so none is chained."""
    if not text.strip():
        raise wrong(name, "is empty; expected a JSON object")
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.extend(key for key in dict(pairs) if sum(1 for other, _ in pairs if other == key) > 1)
        return dict(pairs)

    document: object = None
    with suppress(ValueError, RecursionError):
        document = json.loads(text, object_pairs_hook=collect)
    if not isinstance(document, dict):
        raise wrong(name, "is not a JSON object")
    if repeated:
        raise wrong(name, f"{_shown(repeated[0])}: stands there twice")
    return document


def _check_keys(name: str, given: Mapping[str, object], known: tuple[str, ...], where: str = "") -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise wrong(name, f"{where}{_shown(key)}: no such key" + (f"; did you mean {near[0]}?" if near else ""))


def _shown(key: str) -> str:
    return key if _KEY_SHOWN.fullmatch(key) else "(a key that is no name)"


def _text_or_null(value: object) -> bool:
    return value is None or (isinstance(value, str) and value != "" and "\0" not in value)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _columns(value: object) -> bool:
    return isinstance(value, dict) and all(_text_or_null(column) for column in value.values())


_MAPPING_RULES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "table": (_text_or_null, "a name or null"),
    "query": (_text_or_null, "one SELECT or null"),
    "columns": (_columns, "an object of our field to their column, or to null"),
    "tenant": (_text_or_null, "a name or null"),
    "tenants": (_texts, "a list of names"),
    "sold_at_zone": (_text_or_null, "an IANA time zone or null"),
}
_DATABASE_ONLY = ("table", "query")


def _check_types(name: str, given: Mapping[str, object]) -> None:
    rules = [(key, *_MAPPING_RULES[key], value) for key, value in given.items()]
    broken = [f"{key}: expected {rule}" for key, keeps, rule, value in rules if not keeps(value)]
    if broken:
        raise wrong(name, "; ".join(broken))


def _database_mapping(given: Mapping[str, Any]) -> SourceMapping:
    fields = dict(given)
    if fields.get("query") is not None:
        fields.setdefault("table", None)
    elif fields.get("table", "") is None:
        del fields["table"]
    return SourceMapping(**fields)


def wrong(name: str, reason: str) -> SettingInvalid:
    """Return the error of the parameter `name`."""
    return SettingInvalid(f"SSM parameter {name}: {reason}")
