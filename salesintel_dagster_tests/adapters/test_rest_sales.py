"""An API that pages, throttles, breaks, changes, lies or leads elsewhere, over real sockets."""

from __future__ import annotations

import errno
import json
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from socket import create_server
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from salesintel_dagster.adapters import rest_sales
from salesintel_dagster.adapters.rest_sales import RestSource
from salesintel_dagster.adapters.row_spool import RowSpool
from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import (
    SourceError,
    SourceMappingInvalid,
    SourceRefused,
    SourceSchemaMismatch,
    SourceUnavailable,
)
from salesintel_dagster.domain.rest_source import RestMapping, RestParameters
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.sale import SourceRow
from salesintel_dagster.flows.export.quarantine import Quarantine
from salesintel_dagster.flows.export.sales_raw import read_sales
from salesintel_dagster.flows.export.staging import StagedDays
from salesintel_dagster_tests.certificates import Authority
from salesintel_dagster_tests.fakes.export_run import export_run
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.sales_api import (
    TOKEN,
    Handler,
    SalesApi,
    Scripted,
    body,
    drip,
    dumped,
    hang_up,
    sales_api,
    silence,
    status,
)
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable
from salesintel_dagster_tests.fakes.source import TENANT, sale_row
from salesintel_dagster_tests.source_shops import ApiShop

DAY = date(2026, 11, 3)
WINDOW = day_window(DAY, ZoneInfo("UTC"))
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
SECRETS = (TOKEN, "url-canary", "body-canary", "/v1/")


@pytest.fixture
def api() -> Iterator[SalesApi]:
    with sales_api() as running:
        running.fill([sale_row(NOON + timedelta(seconds=n), n) for n in range(5)])
        running.page_rows = 2
        yield running


class Waits:
    """A clock whose sleeps cost nothing and are kept."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.clock = Clock(lambda: NOON, lambda: time.monotonic() + sum(self.slept), self.slept.append, lambda: 0.0)


def _rows(source: RestSource, deadline_seconds: float = 30.0) -> list[SourceRow]:
    with source.read(WINDOW, deadline_seconds) as day:
        return [row for block in day.rows for row in block]


def _failure(source: RestSource, kind: type[SourceError], deadline_seconds: float = 30.0) -> str:
    """Return the error's text, which holds no secret and nothing of the API's own words."""
    with pytest.raises(kind) as caught:
        _rows(source, deadline_seconds)
    assert type(caught.value) is kind
    told = "".join(traceback.format_exception(caught.value)).partition(f"{kind.__name__}: ")[2] + repr(caught.value)
    assert not [secret for secret in SECRETS if secret in told]
    return str(caught.value)


@pytest.mark.parametrize("style,pages", [("link", 3), ("number", 4), ("cursor", 3), ("url", 3)])
def test_every_way_of_paging_gives_every_row_once(api: SalesApi, style: str, pages: int):
    api.style = style
    with ApiShop(api).source().read(WINDOW) as day:
        assert [row["sale_id"] for block in day.rows for row in block] == [f"S-{n:06d}" for n in range(5)]
    assert day.evidence["pages"] == str(pages)
    assert {headers["Authorization"] for _, headers in api.seen} == {f"Bearer {TOKEN}"}


def test_the_window_is_asked_for_by_its_half_open_ends(api: SalesApi):
    _rows(ApiShop(api).source())
    assert api.seen[0][0] == "/v1/sales?from=2026-11-03T00%3A00%3A00Z&to=2026-11-04T00%3A00%3A00Z&key=url-canary"


def test_rows_that_nobody_asked_for_are_another_days(api: SalesApi):
    """An API that takes `to` for included, or heeds neither end, doubles no sale."""
    api.fill(
        [sale_row(WINDOW.start, 1), sale_row(WINDOW.end, 2), sale_row(WINDOW.start - timedelta(microseconds=1), 3)]
    )
    assert [row["sale_id"] for row in _rows(ApiShop(api).source())] == ["S-000001"]


def test_throttling_and_server_errors_are_waited_out_as_the_api_asks(api: SalesApi):
    waits = Waits()
    api.script = [status(429, Retry_After="7"), status(503), status(500), None, hang_up, None]
    source = ApiShop(api).source(waits.clock)
    assert len(_rows(source, 60)) == 5
    assert waits.slept == [7.0, 2.0, 4.0, 1.0]


def test_a_wait_past_the_deadline_is_not_begun(api: SalesApi):
    waits = Waits()
    api.script = [status(429, Retry_After="600")]
    assert "answered 429, 1 times" in _failure(ApiShop(api).source(waits.clock), SourceUnavailable, 60)
    assert waits.slept == []


@pytest.mark.parametrize("fault", [silence, drip], ids=["stalls", "drips"])
def test_an_api_that_stalls_is_given_up_within_the_deadline(api: SalesApi, fault: Scripted):
    """A13, for an API."""
    api.script = [None, fault, fault, fault]
    began = time.monotonic()
    _failure(ApiShop(api).source(), SourceUnavailable, 1.0)
    assert time.monotonic() - began < 3


def test_a_stalled_page_is_asked_for_again(api: SalesApi):
    api.script = [None, silence]
    assert len(_rows(ApiShop(api).source(Waits().clock, page_timeout_seconds=1))) == 5


def test_an_api_that_is_not_there_is_unavailable(api: SalesApi):
    with closing(create_server(("127.0.0.1", 0))) as gone:
        url = api.url.replace(str(api.port), str(gone.getsockname()[1]))
    told = _failure(ApiShop(api).source(Waits().clock, url=url), SourceUnavailable)
    assert "the connection failed (ConnectionRefusedError), 5 times" in told


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_token_is_final(api: SalesApi, code: int):
    """I3: the flow does not try it again."""
    api.script = [status(code)]
    assert f"refused the token (answered {code})" in _failure(ApiShop(api).source(), SourceRefused)
    assert len(api.seen) == 1


@pytest.mark.parametrize("code", [400, 404, 204, 418])
def test_a_request_that_the_api_does_not_know_is_the_configurations_fault(api: SalesApi, code: int):
    api.script = [status(code)]
    assert f"(answered {code}); check url" in _failure(ApiShop(api).source(), SourceMappingInvalid)


BAD_PAGES = {
    "not JSON": (b"<html>body-canary</html>", "a page is not JSON"),
    "cut JSON": (b'{"data": [{"sale_id": "body-canary"', "a page is not JSON"),
    "nothing": (b"", "a page is not JSON"),
    "null": (b"null", "a page is not JSON"),
    "bad bytes": (b'{"data": ["\xff\xfe body-canary"]}', "a page is not JSON"),
    "deep": (b"[" * 100_000, "a page is not JSON"),
    "no rows": (b'{"items": ["body-canary"]}', "data is no array"),
    "an object for rows": (b'{"data": {"0": "body-canary"}}', "data is no array"),
    "a text": (b'"body-canary"', "data is no array"),
}


@pytest.mark.parametrize("page", BAD_PAGES.values(), ids=list(BAD_PAGES))
@pytest.mark.parametrize("number", [1, 2])
def test_a_malformed_page_is_a_clear_error_and_no_part_of_a_day(api: SalesApi, page: tuple[bytes, str], number: int):
    api.script = [None] * (number - 1) + [body(page[0])]
    assert page[1] in _failure(ApiShop(api).source(), SourceSchemaMismatch)


def test_a_page_that_ends_before_its_length_is_asked_for_again(api: SalesApi):
    def cut(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"data": []}')
        handler.close_connection = True

    api.script = [cut]
    assert len(_rows(ApiShop(api).source(Waits().clock))) == 5


def test_a_page_or_a_day_too_large_is_refused(api: SalesApi):
    source = ApiShop(api).source
    api.script = [body(b" " * 2_000)]
    assert "more than 1024 bytes (max_page_bytes)" in _failure(source(max_page_bytes=1_024), SourceSchemaMismatch)
    assert "more than 4 rows (max_rows)" in _failure(source(max_rows=4), SourceMappingInvalid)


def test_pages_without_an_end_are_noticed(api: SalesApi):
    first = "/v1/sales?from=2026-11-03T00%3A00%3A00Z&to=2026-11-04T00%3A00%3A00Z&key=url-canary"
    api.script = [None, body(b'{"data": []}', Link=f'<{first}>; rel="next"')]
    assert "leads back to one that was read before" in _failure(ApiShop(api).source(), SourceSchemaMismatch)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_host_is_followed(api: SalesApi, code: int):
    api.script = [status(code, Location="/v2/sales?x=1")]
    assert len(_rows(ApiShop(api).source())) == 5
    assert [target for target, _ in api.seen[1:]] == ["/v2/sales?x=1", "/v2/sales?x=1&page=2", "/v2/sales?x=1&page=3"]


@pytest.mark.parametrize(
    "elsewhere",
    ["http://127.0.0.1:{other}/v1/sales", "//127.0.0.1:{other}/x", "https://127.0.0.1:{same}/x", "ftp://127.0.0.1/",
     "http://user@127.0.0.1:{same}/x", "http://localhost:{same}/x", "http://127.0.0.1:{same}.example/", "http://[x/"],
)  # fmt: skip
def test_the_token_goes_to_no_other_host(api: SalesApi, elsewhere: str):
    """I3: neither by a redirect nor by a next page, in a header or in the body."""
    with sales_api() as other:
        url = elsewhere.format(other=other.port, same=api.port)
        api.script = [status(302, Location=url)]
        assert "leads to another host" in _failure(ApiShop(api).source(), SourceRefused)
        api.script = [body(b'{"data": []}', Link=f'<{url}>; rel="next"')]
        assert "leads to another host" in _failure(ApiShop(api).source(), SourceRefused)
        api.script = [body(json.dumps({"data": [], "meta": {"next": url}}).encode())]
        assert "leads to another host" in _failure(ApiShop(api).source(next_field="meta.next"), SourceRefused)
        assert other.seen == []
    assert len(api.seen) == 3


def test_redirects_in_a_circle_end(api: SalesApi):
    api.script = [status(302, Location="/v1/sales")] * 9
    assert "more than 5 redirects" in _failure(ApiShop(api).source(), SourceMappingInvalid)


def test_a_cursor_is_a_value_whatever_it_holds(api: SalesApi):
    cursor = "a&to=x#/ \N{CAT FACE}\ud800"
    api.script = [body(json.dumps({"data": [], "meta": {"next": cursor}}).encode()), body(b'{"data": []}')]
    _rows(ApiShop(api).source(next_field="meta.next", cursor_parameter="after"))
    assert api.seen[1][0].endswith("&key=url-canary&after=a%26to%3Dx%23%2F%20%F0%9F%90%B1%3F")


@pytest.mark.parametrize("following", [True, 1.5, ["x"], {"a": 1}])
def test_a_next_page_that_is_no_text_is_a_clear_error(api: SalesApi, following: object):
    api.script = [body(json.dumps({"data": [], "meta": {"next": following}}).encode())]
    said = _failure(ApiShop(api).source(next_field="meta.next"), SourceSchemaMismatch)
    assert "meta.next is neither text nor null" in said


def test_rows_that_change_between_pages_are_noticed_where_the_api_tells(api: SalesApi):
    """A14, as far as an API lets it be had."""

    def change(**extra: object) -> Scripted:
        def answer(handler: Handler) -> None:
            api.extra |= extra
            handler.page()

        return answer

    source = ApiShop(api).source
    api.script = [None, change(version="v2")]
    assert "changed while they were read: page 2 tells another meta.version" in _failure(
        source(version_field="meta.version"), SourceUnavailable
    )
    api.script = [None, None, change(total=6)]
    assert "page 3 tells another meta.total" in _failure(source(total_field="meta.total"), SourceUnavailable)
    api.extra = {"total": 7}
    assert "meta.total is 7, 5 rows came" in _failure(source(total_field="meta.total"), SourceUnavailable)
    api.extra = {"total": "five"}
    assert "meta.total is no number" in _failure(source(total_field="meta.total"), SourceSchemaMismatch)
    api.extra = {}
    assert len(_rows(source(total_field="meta.total", version_field="meta.version"))) == 5


def _staged(source: RestSource) -> tuple[Any, list[dict[str, Any]], list[tuple[str, str, dict[str, Any]]]]:
    store = InMemoryObjectStore()
    staged, quarantine = StagedDays(store, "smartgo"), Quarantine(store, "smartgo")
    retry = RetryPolicy(retries=2, base_seconds=0.01, deadline_seconds=20)
    run, table = export_run(DAY).run, InMemorySalesTable()
    result = read_sales(run, source, staged, quarantine, table, allow_empty=False, retry=retry)
    with staged.batches("smartgo_sales_raw", DAY) as batches:
        sales = [row for batch in batches for row in batch.to_pylist()]
    return result, sales, [(e.code, e.field, json.loads(e.row_json)) for e in quarantine.read(DAY)]


def test_a_reading_that_changed_begins_anew_and_no_row_is_doubled(api: SalesApi):
    """A13, A14."""
    api.script = [None, body(dumped({"data": api.rows, "meta": {"version": "v2"}}))]
    result, sales, _ = _staged(ApiShop(api).source(version_field="meta.version"))
    assert (result.read, result.rows, len(sales)) == (5, 5, 5)


def test_bad_rows_are_quarantined_and_the_others_are_sales(api: SalesApi):
    """A16: one bad row never stops the others and never vanishes."""
    good = sale_row(NOON, 1)
    bad: list[Any] = [
        {**good, "sale_id": "B-1", "sold_price": None},
        {**good, "sale_id": "B-2", "sold_price": "free"},
        {**good, "sale_id": "B-3", "sold_at": "yesterday"},
        {**good, "sale_id": "B-4", "sold_at": 1793707200},
        {**good, "sale_id": "B-5", "brand": ["a", {"b": Decimal("1.5")}]},
        {**good, "sale_id": "B-6", "sold_at": "2026-11-03T12:00:00"},
        {**good, "sale_id": "B-7", "category": "\ud800"},
        {**good, "sale_id": "B-8", "sold_price": Decimal("NaN")},
        {**good, "sale_id": {"nested": True}},
        "a text",
        None,
        ["a", "list"],
        7,
    ]
    api.fill([good])
    api.rows += [{**row, "sold_at": _json(row["sold_at"])} if isinstance(row, dict) else row for row in bad]
    result, sales, entries = _staged(ApiShop(api).source())
    assert [sale["sale_id"] for sale in sales] == ["S-000001"]
    assert result.read == 1 + len(bad)
    assert len(entries) == len(bad)
    by_id = {str(row.get("sale_id")): code for code, _, row in entries}
    expected = ["PRICE_MISSING", "PRICE_INVALID", *["SOLD_AT_INVALID"] * 2, "TEXT_INVALID", "SOLD_AT_INVALID"]
    assert [by_id[f"B-{n}"] for n in range(1, 9)] == [*expected, "TEXT_INVALID", "PRICE_INVALID"]
    assert sorted(row["raw"] for _, _, row in entries if "raw" in row) == sorted(
        ["'a text'", "None", "a value of type list", "7"]
    )


def _json(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def test_numbers_arrive_digit_by_digit(api: SalesApi):
    """A16."""
    api.rows = []
    digits = ["19.90", "0.1", "1E+2", "20", "9" * 400, "1" * 5_000, "1e400"]
    for n, number in enumerate(digits):
        api.rows.append({**sale_row(NOON, n), "sold_at": NOON.isoformat(), "sold_price": Decimal(number)})
    api.page_rows = 100
    found = [row["sold_price"] for row in _rows(ApiShop(api).source())]
    assert found == [Decimal(number) for number in digits]


def test_fields_are_found_by_their_paths_and_local_times_by_their_zone(api: SalesApi):
    api.rows = [
        {
            "id": 7,
            "item": {"sku": "P-1", "kind": "bags"},
            "price": {"amount": Decimal("5.10")},
            "at": "2026-10-25T03:30",
        }
    ]
    columns = {"sale_id": "id", "product_id": "item.sku", "category": "item.kind", "sold_price": "price.amount"}
    columns |= {"sold_at": "at", "brand": "item.maker.name"}
    mapping = RestMapping(columns=columns, tenant=TENANT, sold_at_zone="Europe/Vilnius")
    source = RestSource(api.parameters(), mapping, "EUR")
    with source.read(day_window(date(2026, 10, 25), ZoneInfo("Europe/Vilnius"))) as day:
        [[row]] = list(day.rows)
    assert (row["sale_id"], row["product_id"], row["category"], row["brand"]) == (7, "P-1", "bags", None)
    assert (row["sold_price"], row["sold_at"]) == (Decimal("5.10"), datetime(2026, 10, 25, 1, 30, tzinfo=UTC))


def test_a_field_that_no_row_has_is_a_clear_error_before_any_row(api: SalesApi):
    """A18."""
    for row in api.rows:
        row["amount"] = row.pop("sold_price")
    said = _failure(ApiShop(api).source(), SourceSchemaMismatch)
    assert said.endswith("no row has a field sold_price (sold_price)")


def test_an_api_whose_document_is_the_array_needs_no_field(api: SalesApi):
    api.script = [body(dumped(api.rows[:2]))]
    assert len(_rows(ApiShop(api).source(rows_field=None))) == 2
    assert "name its field in rows_field" in _failure(ApiShop(api).source(rows_field=None), SourceSchemaMismatch)


def test_the_evidence_says_that_there_was_no_snapshot_and_holds_no_secret(api: SalesApi):
    source = ApiShop(api).source(total_field="meta.total")
    with source.read(WINDOW) as day:
        pass
    assert day.evidence == {
        "source": f"127.0.0.1:{api.port}",
        "window": "[2026-11-03T00:00:00+00:00, 2026-11-04T00:00:00+00:00)",
        "window_zone": "UTC",
        "isolation": "none: an API gives no snapshot",
        "pages": "3",
        "rows": "5",
        "total": "5",
    }
    assert not re.search("canary", repr(source) + repr(vars(source)))


def test_the_certificate_is_checked(tmp_path: Path):
    """I7, for an API."""
    authority = Authority(tmp_path)
    with sales_api(authority.signed("api", "IP:127.0.0.1").server_context()) as api:
        api.fill([sale_row(NOON, 1)])
        trusted = {"sslrootcert": str(authority.file)}
        assert len(_rows(ApiShop(api).source(**trusted))) == 1
        assert "no valid certificate" in _failure(ApiShop(api).source(), SourceRefused)
        named = api.url.replace("127.0.0.1", "localhost")
        assert "no valid certificate" in _failure(ApiShop(api).source(url=named, **trusted), SourceRefused)
        missing = ApiShop(api).source(sslrootcert="/nowhere/ca.pem")
        assert "(sslrootcert) cannot be read" in _failure(missing, SourceRefused)
        assert len(api.seen) == 1


def test_a_page_in_many_small_pieces_is_taken(tmp_path: Path):
    """I7, for an API: each row that is flushed is a TLS record. A stranger may not send so many, an operator may."""
    authority = Authority(tmp_path)

    def in_pieces(handler: Handler) -> None:
        pieces = [b'{"data": []', *[b" " * 20] * 8_000, b"}"]
        handler.send_response(200)
        handler.send_header("Content-Length", str(sum(map(len, pieces))))
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(piece)

    with sales_api(authority.signed("api", "IP:127.0.0.1").server_context()) as api:
        api.script = [in_pieces]
        assert _rows(ApiShop(api).source(Waits().clock, sslrootcert=str(authority.file))) == []
        assert len(api.seen) == 1


def test_an_address_of_a_clouds_metadata_is_not_asked():
    parameters = RestParameters("https://169.254.169.254/{from}/{to}", TOKEN)
    said = _failure(RestSource(parameters, RestMapping(tenant=TENANT), "EUR"), SourceRefused)
    assert "has an address that is not public" in said


def test_a_full_disk_of_ours_is_no_fault_of_the_api(api: SalesApi, monkeypatch: pytest.MonkeyPatch):
    """J9"""

    def small() -> RowSpool:
        spool = RowSpool()
        spool._database.connection.execute("PRAGMA max_page_count = 4")
        return spool

    monkeypatch.setattr(rest_sales, "RowSpool", small)
    api.fill([sale_row(NOON, 1, brand="x" * 100_000)])
    with pytest.raises(OSError, match="No space left on device: the temporary file of the source's rows") as full:
        _rows(RestSource(api.parameters(), RestMapping(tenant=TENANT), "EUR"))
    assert full.value.errno == errno.ENOSPC
