"""What psycopg or the server complains about, as our errors with our own words.

A server's message can hold a row's content, a user or (from a mistyped connection string) a piece of the password:
none of it is repeated. Its SQLSTATE and the place are enough to act on.
"""

from __future__ import annotations

import psycopg

from salesintel_dagster.domain.errors import (
    SourceError,
    SourceMappingInvalid,
    SourceRefused,
    SourceSchemaMismatch,
    SourceUnavailable,
)

_CONNECTING: dict[str, tuple[type[SourceUnavailable], str]] = {
    "password authentication failed": (SourceRefused, "the server refused the user or the password"),
    "no password supplied": (SourceRefused, "the server refused the user or the password"),
    "pg_hba.conf": (SourceRefused, "the server does not let this user in from this address"),
    "timeout expired": (SourceUnavailable, "no answer within the connect timeout"),
    "refused": (SourceUnavailable, "connection refused"),
    "resolve": (SourceUnavailable, "the host name is not known"),
    "translate host name": (SourceUnavailable, "the host name is not known"),
    "root certificate file": (SourceRefused, "the file of trusted certificates (sslrootcert) cannot be read"),
    "does not match host name": (SourceRefused, "the server's certificate is for another name"),
    "certificate": (SourceRefused, "the server's certificate is not trusted"),
    "ssl": (SourceRefused, "the server and we do not agree on TLS"),
    "too many clients": (SourceUnavailable, "the server takes no more connections"),
    "remaining connection slots": (SourceUnavailable, "the server takes no more connections"),
    "starting up": (SourceUnavailable, "the server is starting up"),
    "shutting down": (SourceUnavailable, "the server is shutting down"),
    "not currently accepting connections": (SourceUnavailable, "the database takes no connections now"),
    "permission denied for database": (SourceRefused, "this user may not open the database"),
    "does not exist": (SourceRefused, "the server has no such database or user"),
}
"""Words in libpq's own messages, in the order in which they are looked for, and what we say instead."""

_STATES: dict[str, tuple[type[SourceError], str]] = {
    "57014": (SourceUnavailable, "a statement was cancelled, most likely by the statement timeout"),
    "25006": (SourceMappingInvalid, "the query writes; a source query only reads"),
    "42501": (SourceSchemaMismatch, "this user may not read the table or one of its mapped columns"),
    "42P01": (SourceSchemaMismatch, "a table is missing"),
    "42703": (SourceSchemaMismatch, "a column is missing"),
}
_CLASSES: dict[str, tuple[type[SourceError], str]] = {
    "42": (SourceMappingInvalid, "the server does not accept the source query"),
    "22": (SourceSchemaMismatch, "a value in the source cannot be read as its type"),
    "0A": (SourceMappingInvalid, "the server does not support the source query"),
}


def translated(error: Exception, place: str) -> SourceError:
    """Return our error for one that psycopg raised while reading from `place`."""
    state = getattr(error, "sqlstate", None)
    if state is None and not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return SourceSchemaMismatch(f"{place}: a value in the source cannot be read as its type")
    if state is None:
        return SourceUnavailable(f"{place}: the connection broke while reading")
    kind, text = _STATES.get(state) or _CLASSES.get(state[:2], (SourceUnavailable, "the server ended the reading"))
    return kind(f"{place}: {text} (SQLSTATE {state})")


def not_connected(error: psycopg.Error, place: str) -> SourceUnavailable:
    """Return our error for a connection to `place` that did not come about."""
    said = str(error).lower()
    found = (ours for theirs, ours in _CONNECTING.items() if theirs in said)
    kind, text = next(found, (SourceUnavailable, "no connection"))
    return kind(f"{place}: {text}")
