"""The closed choices among the settings, and the rules that a pattern cannot say."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import SecretStr

from salesintel_dagster.domain.alerts import WEBHOOK_URL
from salesintel_dagster.domain.currencies import ISO_4217
from salesintel_dagster.domain.sale import TENANT_PATTERN


class Mode(StrEnum):
    """`embedded`: everything on this machine; `aws`: what the settings name."""

    EMBEDDED = "embedded"
    AWS = "aws"


class Catalog(StrEnum):
    """Which Iceberg catalog keeps the tables; `rest` is S3 Tables or another REST catalog."""

    SQL = "sql"
    GLUE = "glue"
    REST = "rest"


def zone(name: str) -> str:
    """Require an IANA time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("expected an IANA time zone such as UTC or Europe/Vilnius") from None
    return name


def number(given: object) -> object:
    """Let a variable's text be compared with the numbers of a Literal, which pydantic takes as they are."""
    return int(given) if isinstance(given, str) and given.isascii() and given.isdigit() else given


def day(text: str) -> str:
    """Require a day of the calendar."""
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError("expected a day of the calendar such as 2024-01-01") from None
    return text


def currency(code: str) -> str:
    """Require an ISO 4217 code."""
    if code not in ISO_4217:
        raise ValueError("expected an ISO 4217 code such as EUR")
    return code


def webhook(url: SecretStr) -> SecretStr:
    """Require a URL that an alert may be sent to."""
    if not WEBHOOK_URL.fullmatch(url.get_secret_value()):
        raise ValueError("expected https://host[:port]/..., or http on this machine; no user name")
    return url


def tenants(names: tuple[str, ...]) -> tuple[str, ...]:
    """Require names that a tenant may have."""
    for name in names:
        if not TENANT_PATTERN.fullmatch(name):
            raise ValueError(f"{name!r} is no tenant: one matches {TENANT_PATTERN.pattern}")
    return names
