"""The SmartGo database's configuration, from one SSM SecureString holding a JSON object.

Required keys: host, port, database, username, password. Optional: sslmode, sslrootcert, connect_timeout_seconds,
statement_timeout_seconds, and the source mapping (table or query, columns, tenant, tenants, sold_at_zone), either
under `mapping` or beside the others. A message names the parameter, the key and the rule, and repeats no value: the
whole text is a secret.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as AwsConnectionError

from salesintel_dagster.adapters.aws import AwsClient, code_of, told
from salesintel_dagster.domain.errors import SettingInvalid, SourceMappingInvalid, SourceUnavailable
from salesintel_dagster.domain.source import ConnectionParameters, SourceMapping
from salesintel_dagster.domain.tls import UNVERIFIED_TLS

_REQUIRED = ("host", "port", "database", "username", "password")
_OPTIONAL = (
    "sslmode",
    "sslrootcert",
    UNVERIFIED_TLS,
    "connect_timeout_seconds",
    "statement_timeout_seconds",
)
_MAPPING = "mapping"
_KEY_SHOWN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
"""A key outside this is not repeated: it may be a piece of a connection string in the wrong place."""

_SERVER_ERROR = 500
_TRANSIENT = frozenset({"ThrottlingException", "TooManyUpdates", "RequestLimitExceeded", "InternalServerError"})


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """Where the SmartGo database is and where in it the sales are. Its repr shows no password."""

    connection: ConnectionParameters
    mapping: SourceMapping


def read_database_config(ssm: AwsClient, name: str) -> DatabaseConfig:
    """Read and check the parameter `name`.

    Raises SettingInvalid where the parameter is missing, unreadable or wrong, SourceUnavailable where SSM did not
    answer within its retries.
    """
    try:
        parameter = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    except ClientError as error:
        raise _refused(name, error) from None
    except (AwsConnectionError, HTTPClientError) as error:
        raise SourceUnavailable(f"SSM parameter {name}: {told(error)}") from None
    except BotoCoreError as error:
        raise _wrong(name, told(error)) from None
    if parameter["Type"] != "SecureString":
        raise _wrong(name, f"is a {parameter['Type']}; store it again as a SecureString, it holds a password")
    return parse_database_config(name, parameter["Value"])


def _refused(name: str, error: ClientError) -> SettingInvalid | SourceUnavailable:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= _SERVER_ERROR or code_of(error) in _TRANSIENT:
        return SourceUnavailable(f"SSM parameter {name}: {told(error)}")
    if code_of(error) == "ParameterNotFound":
        return _wrong(name, f"not there; store {', '.join(_REQUIRED)} in it, as a JSON object in a SecureString")
    return _wrong(name, told(error))


def parse_database_config(name: str, text: str) -> DatabaseConfig:
    """Check the text of the parameter `name`. Raises SettingInvalid, naming the key and the rule, never a value."""
    document = _document(name, text)
    flat = tuple(_MAPPING_RULES)
    _check_keys(name, document, (*_REQUIRED, *_OPTIONAL, _MAPPING, *flat))
    missing = [key for key in _REQUIRED if key not in document]
    if missing:
        raise _wrong(name, f"{', '.join(missing)}: required and not there")
    mapping = {key: document.pop(key) for key in flat if key in document}
    if _MAPPING in document:
        if mapping:
            raise _wrong(name, f"{', '.join(mapping)}: stands beside `mapping`; put it inside")
        mapping = document.pop(_MAPPING)
        if not isinstance(mapping, dict):
            raise _wrong(name, "mapping: expected an object")
        _check_keys(name, mapping, flat, "mapping.")
    _check_types(name, mapping)
    try:
        return DatabaseConfig(ConnectionParameters(**document), _source_mapping(mapping))
    except (SettingInvalid, SourceMappingInvalid) as error:
        raise _wrong(name, str(error).removeprefix("source database: ")) from None


def _document(name: str, text: str) -> dict[str, Any]:
    """Return the one JSON object that `text` is. A JSON error carries the whole text, so none is chained."""
    if not text.strip():
        raise _wrong(name, "is empty; expected a JSON object")
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.extend(key for key in dict(pairs) if sum(1 for other, _ in pairs if other == key) > 1)
        return dict(pairs)

    document: object = None
    with suppress(ValueError, RecursionError):
        document = json.loads(text, object_pairs_hook=collect)
    if not isinstance(document, dict):
        raise _wrong(name, "is not a JSON object")
    if repeated:
        raise _wrong(name, f"{_shown(repeated[0])}: stands there twice")
    return document


def _check_keys(name: str, given: Mapping[str, object], known: tuple[str, ...], where: str = "") -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise _wrong(name, f"{where}{_shown(key)}: no such key" + (f"; did you mean {near[0]}?" if near else ""))


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


def _check_types(name: str, given: Mapping[str, object]) -> None:
    rules = [(key, *_MAPPING_RULES[key], value) for key, value in given.items()]
    wrong = [f"{key}: expected {rule}" for key, keeps, rule, value in rules if not keeps(value)]
    if wrong:
        raise _wrong(name, "; ".join(wrong))


def _source_mapping(given: Mapping[str, Any]) -> SourceMapping:
    fields = dict(given)
    if fields.get("query") is not None:
        fields.setdefault("table", None)
    elif fields.get("table", "") is None:
        del fields["table"]
    if "tenants" in fields:
        fields["tenants"] = frozenset(fields["tenants"])
    return SourceMapping(**fields)


def _wrong(name: str, reason: str) -> SettingInvalid:
    return SettingInvalid(f"SSM parameter {name}: {reason}")
