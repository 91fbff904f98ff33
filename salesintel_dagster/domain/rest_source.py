"""Where the sales are in an HTTP API: the address, the token, how pages follow each other, which field is which.

No message repeats the URL or the token: either may hold a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import SplitResult, urlsplit

from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.domain.source import FieldMapping
from salesintel_dagster.domain.tls import is_local

FROM, TO = "{from}", "{to}"
PATH = re.compile(r"[A-Za-z_$@][\w$@-]{0,62}(\.[A-Za-z_$@][\w$@-]{0,62}){0,7}", re.ASCII)
"""A field of a JSON object, or of an object in it: `price.amount`."""

_URL = re.compile(r"https?://[!-~]{1,2000}", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|[0-9a-f:.]{2,45}")
_TOKEN = re.compile(r"[!-~]{1,8192}")
_PARAMETER = re.compile(r"[A-Za-z_][\w.\[\]-]{0,62}", re.ASCII)
_FIELDS = ("rows_field", "next_field", "total_field", "version_field")
_NUMBERS = {
    "first_page": (0, 1),
    "max_page_bytes": (1_024, 256 * 2**20),
    "max_rows": (1, 10_000_000),
    "page_timeout_seconds": (1, 600),
    "page_retries": (0, 10),
}


@dataclass(frozen=True, slots=True)
class RestParameters:
    """How to ask an API for a day's sales.

    `url` holds `{from}` and `{to}`, the window's half-open ends as `2026-11-20T00:00:00Z`. Pages follow each other by
    `page_parameter` (a number, until a page without a row), by `next_field` (the next page's URL, or with
    `cursor_parameter` a token for the query; null on the last page), or else by the header `Link: <...>; rel="next"`.
    `total_field` and `version_field` are told by every page alike, or the source changed while it was read.
    """

    url: str = field(repr=False)
    token: str = field(repr=False)
    rows_field: str | None = None
    next_field: str | None = None
    cursor_parameter: str | None = None
    page_parameter: str | None = None
    first_page: int = 1
    total_field: str | None = None
    version_field: str | None = None
    sslrootcert: str | None = None
    max_page_bytes: int = 32 * 2**20
    max_rows: int = 1_000_000
    page_timeout_seconds: int = 30
    page_retries: int = 4

    def __post_init__(self) -> None:
        """Refuse what cannot be an API's address; the message names the field and the rule, never the value."""
        problems = [*_url_problems(self.url), *self._problems()]
        if problems:
            raise SettingInvalid(f"source API: {'; '.join(problems)}")

    def _problems(self) -> list[str]:
        rules = {
            "token": (_matches(_TOKEN, self.token), "printable ASCII without a space"),
            "sslrootcert": (_text_or_none(self.sslrootcert), "a path or nothing"),
            **{name: (_matches_or_none(PATH, getattr(self, name)), "a field such as `meta.next`") for name in _FIELDS},
            **{
                name: (_matches_or_none(_PARAMETER, getattr(self, name)), "the name of a query parameter")
                for name in ("cursor_parameter", "page_parameter")
            },
            **{
                name: (_is_number(getattr(self, name), low, high), f"an integer from {low} to {high}")
                for name, (low, high) in _NUMBERS.items()
            },
        }
        wrong = [f"{name}: expected {rule}" for name, (kept, rule) in rules.items() if not kept]
        if self.page_parameter and self.next_field:
            wrong.append("page_parameter: pages follow by number or by next_field, not both")
        if self.cursor_parameter and not self.next_field:
            wrong.append("cursor_parameter: needs next_field, which holds the cursor")
        return wrong

    @property
    def parts(self) -> SplitResult:
        """The URL's parts."""
        return urlsplit(self.url)

    @property
    def place(self) -> str:
        """The host as a log may show it: no path, no query, no token."""
        parts = self.parts
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


class RestMapping(FieldMapping):
    """Which field of an API's row is which of ours; a dot leads into an object. `sold_at` is ISO 8601 text."""

    column_pattern: ClassVar[re.Pattern[str]] = PATH


def _url_problems(url: object) -> list[str]:
    rule = "url: expected https://host/... with {from} and {to} in it, and no user, fragment or space"
    if not isinstance(url, str) or not _URL.fullmatch(url):
        return [rule]
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return [rule]
    rest = parts.path + "?" + parts.query
    whole = all(rest.count(name) == 1 for name in (FROM, TO)) and not set("{}") & set(
        rest.replace(FROM, "").replace(TO, "")
    )
    if not whole or "@" in parts.netloc or parts.fragment or not _HOST.fullmatch(host):
        return [rule]
    if parts.scheme != "https" and not is_local(host):
        return ["url: expected https for a host that is not local"]
    return []


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _matches_or_none(pattern: re.Pattern[str], value: object) -> bool:
    return value is None or _matches(pattern, value)


def _text_or_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and value != "" and "\0" not in value)


def _is_number(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
