"""What PyMySQL or the server complains about, as our errors with our own words.

Nothing that they say is repeated: it may hold a row, a user or a piece of the password. The number is enough to act on.
"""

from __future__ import annotations

import socket
import ssl

import pymysql

from salesintel_dagster.domain.errors import (
    SourceError,
    SourceMappingInvalid,
    SourceRefused,
    SourceSchemaMismatch,
    SourceUnavailable,
)

CERTIFICATES_UNREADABLE = "the file of trusted certificates (sslrootcert) cannot be read"
_OTHER_NAME = 62
_OTHER_ADDRESS = 64
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""

_NUMBERS: dict[int, tuple[type[SourceError], str]] = {
    1040: (SourceUnavailable, "the server takes no more connections"),
    1044: (SourceRefused, "this user may not open the database"),
    1045: (SourceRefused, "the server refused the user or the password"),
    1049: (SourceRefused, "the server has no such database"),
    1130: (SourceRefused, "the server does not let this user in from this address"),
    1698: (SourceRefused, "the server refused the user or the password"),
    2006: (SourceUnavailable, "the connection broke while reading"),
    2013: (SourceUnavailable, "the connection broke while reading"),
    2026: (SourceRefused, "the server and we do not agree on TLS"),
    1053: (SourceUnavailable, "the server is shutting down"),
    1205: (SourceUnavailable, "the server waited too long for a lock"),
    1213: (SourceUnavailable, "the server ended the reading for a deadlock"),
    1317: (SourceUnavailable, "the statement was cancelled"),
    1969: (SourceUnavailable, "a statement was cancelled by the statement timeout"),
    3024: (SourceUnavailable, "a statement was cancelled by the statement timeout"),
    1142: (SourceSchemaMismatch, "this user may not read the table or one of its mapped columns"),
    1143: (SourceSchemaMismatch, "this user may not read the table or one of its mapped columns"),
    1146: (SourceSchemaMismatch, "a table is missing"),
    1054: (SourceSchemaMismatch, "a column is missing"),
    1060: (SourceSchemaMismatch, "more than one column of one name"),
    1792: (SourceMappingInvalid, "the query writes; a source query only reads"),
    1227: (SourceMappingInvalid, "the query needs a right that this user does not have"),
}


_CAUSES: tuple[tuple[type[Exception], type[SourceUnavailable], str], ...] = (
    (ssl.SSLCertVerificationError, SourceRefused, "the server's certificate is not trusted"),
    (ssl.SSLError, SourceRefused, "the server and we do not agree on TLS"),
    (socket.gaierror, SourceUnavailable, "the host name is not known"),
    (TimeoutError, SourceUnavailable, "no answer within the connect timeout"),
    (ConnectionRefusedError, SourceUnavailable, "connection refused"),
    (RuntimeError, SourceRefused, "the server wants a way of signing in that needs TLS"),
)


def translated(error: Exception, place: str) -> SourceError:
    """Return our error for one that was raised while reading from `place`."""
    number = _number(error)
    if number in _NUMBERS:
        kind, text = _NUMBERS[number]
    elif isinstance(error, pymysql.DataError) or not isinstance(error, pymysql.MySQLError):
        kind, text = SourceSchemaMismatch, "a value in the source cannot be read as its type"
    elif isinstance(error, pymysql.ProgrammingError | pymysql.NotSupportedError):
        kind, text = SourceMappingInvalid, "the server does not accept the source query"
    else:
        kind, text = SourceUnavailable, "the server ended the reading"
    return kind(f"{place}: {text}" + (f" (error {number})" if number else ""))


def not_connected(error: Exception, place: str) -> SourceUnavailable:
    """Return our error for a connection to `place` that did not come about."""
    number = _number(error)
    known = _NUMBERS.get(number)
    cause = getattr(error, "original_exception", error)
    if known is not None and issubclass(known[0], SourceUnavailable) and number not in {2006, 2013}:
        return known[0](f"{place}: {known[1]} (error {number})")
    kind, text = _cause(cause)
    return kind(f"{place}: {text}")


def _cause(cause: Exception) -> tuple[type[SourceUnavailable], str]:
    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in {_OTHER_NAME, _OTHER_ADDRESS}:
        return SourceRefused, "the server's certificate is for another name"
    found = ((ours, text) for theirs, ours, text in _CAUSES if isinstance(cause, theirs))
    return next(found, (SourceUnavailable, "no connection"))


def _number(error: Exception) -> int:
    """Return the server's or the driver's error number; 0 where there is none."""
    first = error.args[0] if isinstance(error, pymysql.MySQLError) and error.args else 0
    return first if isinstance(first, int) else 0
