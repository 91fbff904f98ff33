"""How the pages of an API follow each other, from the first to the last, and whether they speak of one thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from email.message import Message
from urllib.parse import quote, urlsplit

from salesintel_dagster.adapters.rest_client import Answer, RestClient
from salesintel_dagster.domain.calendar import DayWindow
from salesintel_dagster.domain.errors import SourceMappingInvalid, SourceSchemaMismatch, SourceUnavailable
from salesintel_dagster.domain.rest_source import FROM, TO, RestParameters

_LINK = re.compile(r"<([^<>]{0,4096})>((?:\s*;\s*[\w*]+\s*=\s*(?:\"[^\"]*\"|[^\s;,\"]+))*)")
_REL = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)
_CHANGED = "the rows changed while they were read"


class RestPages:
    """One reading of one window. `pages` and `items` count what came; `total` is what the API told."""

    def __init__(self, client: RestClient, parameters: RestParameters, window: DayWindow) -> None:
        self.pages = 0
        self.items = 0
        self.total: object = None
        self._client = client
        self._parameters = parameters
        self._place = parameters.place
        self._version: object = None
        self._first = parameters.url.replace(FROM, _instant(window.start)).replace(TO, _instant(window.end))

    def read(self, deadline: float) -> Iterator[object]:
        """Yield every item of every page. What was yielded is worth nothing if this raises.

        Raises what the client raises, SourceSchemaMismatch for a page of another shape, SourceMappingInvalid for
        pages without an end, and SourceUnavailable where the API tells that the rows changed meanwhile.
        """
        seen: set[str] = set()
        url: str | None = self._page_url(self._parameters.first_page)
        while url is not None:
            if url in seen:
                raise SourceSchemaMismatch(f"{self._place}: a page leads back to one that was read before")
            seen.add(url)
            answer = self._client.get(url, deadline)
            items = self._items(answer.document)
            self._compare(answer.document)
            self.pages += 1
            self.items += len(items)
            if self.items > self._parameters.max_rows:
                raise SourceMappingInvalid(f"{self._place}: more than {self._parameters.max_rows} rows (max_rows)")
            yield from items
            url = self._next(answer, bool(items))
        self._check_total()

    def _page_url(self, number: int) -> str:
        if self._parameters.page_parameter is None:
            return self._first
        return _with(self._first, self._parameters.page_parameter, str(number))

    def _items(self, document: object) -> list[object]:
        path = self._parameters.rows_field
        found = document if path is None else at(document, path)
        if not isinstance(found, list):
            where = f"{path} is no array" if path else "it is no array; name its field in rows_field"
            raise SourceSchemaMismatch(f"{self._place}: page {self.pages + 1}: {where}")
        return found

    def _compare(self, document: object) -> None:
        """Hold what each page tells of the whole against what the first one told."""
        total, version = (
            None if path is None else at(document, path)
            for path in (self._parameters.total_field, self._parameters.version_field)
        )
        if self.pages == 0:
            self.total, self._version = total, version
        elif (total, version) != (self.total, self._version):
            name = self._parameters.total_field if total != self.total else self._parameters.version_field
            raise SourceUnavailable(f"{self._place}: {_CHANGED}: page {self.pages + 1} tells another {name}")

    def _check_total(self) -> None:
        if self._parameters.total_field is None:
            return
        told = str(self.total)
        if not (told.isascii() and told.isdigit()):
            raise SourceSchemaMismatch(f"{self._place}: {self._parameters.total_field} is no number")
        if int(told[:18]) != self.items:
            raise SourceUnavailable(
                f"{self._place}: {_CHANGED}, or pages overlap: {self._parameters.total_field} is {told[:18]}, "
                f"{self.items} rows came"
            )

    def _next(self, answer: Answer, had_items: bool) -> str | None:  # noqa: FBT001 - one fact of the page
        parameters = self._parameters
        if parameters.page_parameter is not None:
            return self._page_url(parameters.first_page + self.pages) if had_items else None
        if parameters.next_field is None:
            link = next_link(answer.headers)
            return None if link is None else self._client.joined(answer.url, link)
        found = at(answer.document, parameters.next_field)
        if found in (None, "", False):
            return None
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise SourceSchemaMismatch(f"{self._place}: {parameters.next_field} is neither text nor null")
        if parameters.cursor_parameter is None:
            return self._client.joined(answer.url, str(found))
        return self._client.joined(self._first, _with(self._first, parameters.cursor_parameter, str(found)))


def at(document: object, path: str) -> object:
    """Return the value at a dotted path, None where there is none."""
    for name in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def next_link(headers: Message) -> str | None:
    """Return the target of the header `Link` whose relation is `next` (RFC 8288), or None."""
    for header in headers.get_all("Link", []):
        for target, parameters in _LINK.findall(header):
            relation = _REL.search(parameters)
            if relation and "next" in (relation[1] or relation[2] or "").lower().split():
                return str(target)
    return None


def _with(url: str, parameter: str, value: str) -> str:
    """Add a parameter to the query. A lone surrogate becomes a question mark: it is in no URL."""
    joint = "&" if urlsplit(url).query else "?"
    return f"{url}{joint}{quote(parameter, safe='')}={quote(value, safe='', errors='replace')}"


def _instant(value: datetime) -> str:
    return quote(value.replace(tzinfo=None).isoformat(timespec="seconds") + "Z", safe="")
