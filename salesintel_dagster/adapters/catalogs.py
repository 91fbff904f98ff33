"""How an Iceberg catalog is opened: SQL, Glue or REST (S3 Tables), from plain values.

Opening may reach the network (the SQL catalog makes its two tables); a vendor's error leaves this module as it is
and is translated by the table. A catalog's URI may carry a password: it is in no message of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from requests import Session

CATALOG_NAME = "salesintel"
CONNECT_TIMEOUT_SECONDS = 5
REQUEST_TIMEOUT_SECONDS = 60.0
TRANSPORT_RETRIES = 3
"""Below the table's own retries; pyiceberg's 10 took 56 s to tell that a Glue endpoint refuses connections."""
STALLED_TIMEOUT_SECONDS = 15
"""A catalog statement takes milliseconds; a Postgres that says nothing for this long is given up."""


@dataclass(frozen=True, slots=True)
class StorageAccess:
    """Region, endpoint and keys of S3 and the AWS catalogs; None means AWS's own, found by the usual chain."""

    region: str | None = None
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    request_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS


def open_catalog(
    kind: Literal["sql", "glue", "rest"],
    *,
    uri: str | None,
    warehouse: str,
    access: StorageAccess,
    signing_name: str | None = None,
) -> Catalog:
    """Open the catalog; the caller keeps it and calls `close()`.

    `uri` is the SQL catalog's database or the REST catalog's URL; `warehouse` an `s3://` or `file://` URI, for REST
    its name or ARN; `signing_name` is the SigV4 service of a REST catalog (`s3tables`, `glue`), None for no signing.
    """
    properties = {**_storage(access), "warehouse": warehouse}
    if kind == "sql":
        from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415 - pyiceberg costs 1 CPU second to import

        return SqlCatalog(CATALOG_NAME, **properties, uri=_database(uri or ""), pool_pre_ping="true")
    if kind == "glue":
        from pyiceberg.catalog.glue import GlueCatalog  # noqa: PLC0415 - same

        endpoint = _given({"glue.endpoint": access.endpoint_url})
        return GlueCatalog(CATALOG_NAME, **properties, **endpoint, **{"glue.max-retries": TRANSPORT_RETRIES})
    return _rest(uri or "", properties, _signing(signing_name, access), access.request_timeout_seconds)


def _rest(uri: str, properties: dict[str, str], signing: dict[str, str], timeout_seconds: float) -> Catalog:
    """Open a REST catalog whose requests end: pyiceberg 0.12 sets no timeout, and a stalled server held us for ever."""
    from pyiceberg.catalog.rest import RestCatalog  # noqa: PLC0415 - see open_catalog

    class TimedRestCatalog(RestCatalog):
        def _create_session(self) -> Session:
            session = super()._create_session()
            timeouts = (CONNECT_TIMEOUT_SECONDS, timeout_seconds)
            session.request = partial(session.request, timeout=timeouts)  # type: ignore[method-assign]
            return session

    return TimedRestCatalog(CATALOG_NAME, **properties, uri=uri, **signing)


def _storage(access: StorageAccess) -> dict[str, str]:
    """Return the properties that PyArrow's S3 and boto3 inside pyiceberg read. With an endpoint: path style."""
    return _given(
        {
            "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
            "client.region": access.region,
            "client.access-key-id": access.access_key_id,
            "client.secret-access-key": access.secret_access_key,
            "s3.endpoint": access.endpoint_url,
            "s3.region": access.region,
            "s3.access-key-id": access.access_key_id,
            "s3.secret-access-key": access.secret_access_key,
            "s3.connect-timeout": str(CONNECT_TIMEOUT_SECONDS),
            "s3.request-timeout": str(access.request_timeout_seconds),
        }
    )


def _signing(signing_name: str | None, access: StorageAccess) -> dict[str, str]:
    if signing_name is None:
        return {}
    return _given(
        {
            "rest.sigv4-enabled": "true",
            "rest.signing-name": signing_name,
            "rest.signing-region": access.region,
            "rest.sigv4.max-retries": str(TRANSPORT_RETRIES),
        }
    )


def _given(properties: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in properties.items() if value is not None}


def _database(uri: str) -> str:
    """Return the SQLAlchemy URL: psycopg for Postgres, with timeouts unless the URI has its own."""
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[0] not in ("postgresql", "postgres"):
        return uri
    timeouts = {
        "connect_timeout": str(CONNECT_TIMEOUT_SECONDS),
        "tcp_user_timeout": str(STALLED_TIMEOUT_SECONDS * 1000),
        "options": f"-c statement_timeout={STALLED_TIMEOUT_SECONDS * 1000}",
    }
    query = urlencode({**timeouts, **dict(parse_qsl(parts.query))})
    return urlunsplit(parts._replace(scheme="postgresql+psycopg", query=query))
