"""Your own sales and photos into the source table: nothing vanishes without a number and a reason."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest

from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.errors import SourceSchemaMismatch, SourceUnavailable
from salesintel_dagster.domain.sale import SOURCE_FIELDS, Rejection, RowRules, parse_sale
from salesintel_dagster.local.own_data import OwnDataReport, load_own_data
from salesintel_dagster.local.pictures import draw_product
from salesintel_dagster_tests.services import PostgresService

BASE = "http://127.0.0.1:20001"
REAL = Path(__file__).parents[3] / "shared" / "data" / "fashion_cc0"
FASHION_HEADER = "category,invoice_no,stock_code,description,quantity,invoice_date,unit_price_gbp,country"
HEADER = "sale_id,product_id,category,brand,condition,sold_price,currency,sold_at"
GOOD = "s1,p1,hat,COS,good,12.50,EUR,2026-03-01T10:00:00+00:00"


@pytest.fixture
def smartgo(postgres: PostgresService) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.new_database()) as connection:
        yield connection


def written(folder: Path, *lines: str, name: str = "sales.csv") -> Path:
    path = folder / name
    path.write_bytes("\n".join([*lines, ""]).encode(errors="surrogateescape"))
    return path


def load(connection: psycopg.Connection, folder: Path, sales: Path, photos: Path | None = None) -> OwnDataReport:
    return load_own_data(connection, folder / "images", BASE, sales_csv=sales, photos=photos)


def column(connection: psycopg.Connection, name: str) -> list[object]:
    return [value for (value,) in connection.execute(f"SELECT {name} FROM sales ORDER BY load_key")]  # noqa: S608 - ours


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    for name in ("hat-1.jpg", "hat-2.jpg", "dress 1.jpg"):
        (folder / "images" / name).write_bytes(draw_product(name[:4], "x", 1))
    (folder / "images.csv").write_text("image,category\nhat-1.jpg,hat\nhat-2.jpg,Hat\ndress 1.jpg,dress\nno.jpg,x\n")
    return folder


def test_lines_under_our_own_field_names_are_loaded_once(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    sales = written(tmp_path, HEADER, GOOD, "s2,p2,bag,,,7,,2026-03-02T00:30:00+02:00")
    first, again = load(smartgo, tmp_path, sales), load(smartgo, tmp_path, sales)
    assert (first.lines_read, first.rows_loaded, first.rows_added, first.lines_refused) == (2, 2, 2, 0)
    assert (again.rows_loaded, again.rows_added, again.rows_changed) == (2, 0, 0)
    assert first.days == (date(2026, 3, 1),)
    assert (first.first_day, first.last_day, first.invented) == (date(2026, 3, 1), date(2026, 3, 1), None)
    rows = smartgo.execute("SELECT sale_id, brand, sold_price, currency, sold_at, image_url FROM sales ORDER BY 1")
    assert rows.fetchall() == [
        ("s1", "COS", Decimal("12.50"), "EUR", datetime(2026, 3, 1, 10, tzinfo=UTC), None),
        ("s2", None, Decimal(7), None, datetime(2026, 3, 1, 22, 30, tzinfo=UTC), None),
    ]


def test_days_are_those_of_the_partitions_zone(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    sales = written(tmp_path, HEADER, "s,p,bag,,,7,,2026-03-01T23:30:00Z")
    zone = ZoneInfo("Europe/Vilnius")
    report = load_own_data(smartgo, tmp_path, BASE, sales_csv=sales, photos=None, zone=zone)
    assert report.days == (date(2026, 3, 2),)


def test_a_corrected_file_changes_its_row_and_adds_none(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    load(smartgo, tmp_path, written(tmp_path, HEADER, GOOD))
    report = load(smartgo, tmp_path, written(tmp_path, HEADER, GOOD.replace("12.50", "13.00")))
    assert (report.rows_added, report.rows_changed) == (0, 1)
    assert column(smartgo, "sold_price") == [Decimal("13.00")]


def test_a_sale_id_that_stands_twice_is_loaded_twice(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    """A17: whether the two agree is for the export to say."""
    sales = written(tmp_path, HEADER, GOOD, GOOD.replace("12.50", "99"), GOOD)
    assert load(smartgo, tmp_path, sales).rows_added == 3
    assert load(smartgo, tmp_path, sales).rows_added == 0
    assert sorted(map(str, column(smartgo, "sold_price"))) == ["12.50", "12.50", "99"]


def test_lines_without_a_sale_id_are_known_again_by_their_content(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    line = "p1,hat,12,2026-03-01T10:00:00Z"
    sales = written(tmp_path, "product_id,category,sold_price,sold_at", line, line, line.replace("12,", "13,"))
    assert [load(smartgo, tmp_path, sales).rows_added for _ in range(2)] == [3, 0]


def test_wrong_values_that_the_table_can_hold_go_in_as_they_are(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    """A16: the export quarantines them with its own reasons."""
    sales = written(
        tmp_path,
        HEADER,
        GOOD,
        "1,,hat,,,5,EUR,2026-03-01T10:00:00Z",
        "2,p,hat,,,,EUR,2026-03-01T10:00:00Z",
        "3,p,hat,,,NaN,EUR,2026-03-01T10:00:00Z",
        "4,p,hat,,,-5,EUR,2026-03-01T10:00:00Z",
        "5,p,hat,,,5,EURO,2026-03-01T10:00:00Z",
        "6,p,hat,,,5,EUR,",
        "7,p,hat,,,1e39,EUR,2026-03-01T10:00:00Z",
        "8,p,hat,,,-Infinity,EUR,2026-03-01T10:00:00Z",
    )
    report = load(smartgo, tmp_path, sales)
    assert (report.lines_read, report.rows_loaded, report.lines_refused) == (9, 9, 0)
    columns = [name for name in SOURCE_FIELDS if name != "tenant_id"]
    rules = RowRules(frozenset({"t"}), "EUR", "t")
    window = day_window(date(2026, 3, 1), ZoneInfo("UTC"))
    rows = smartgo.execute(f"SELECT {', '.join(columns)} FROM sales ORDER BY sale_id")  # noqa: S608 - our own names
    parsed = [parse_sale(dict(zip(columns, row, strict=True)), rules, window) for row in rows]
    assert [row.code for row in parsed if isinstance(row, Rejection)] == [
        "FIELD_MISSING",
        "PRICE_MISSING",
        "PRICE_INVALID",
        "PRICE_NOT_POSITIVE",
        "CURRENCY_UNKNOWN",
        "SOLD_AT_MISSING",
        "PRICE_TOO_LARGE",
        "PRICE_INVALID",
    ]


REFUSED = {
    "a price in words": ("1,p,hat,,,twelve,EUR,2026-03-01", "sold_price 'twelve'"),
    "a price with a comma": ('1,p,hat,,,"12,50",EUR,2026-03-01', "sold_price '12,50'"),
    "a price of a million digits": ("1,p,hat,,,1e1000000,EUR,2026-03-01", "at most 1000 digits"),
    "a signalling NaN": ("1,p,hat,,,sNaN,EUR,2026-03-01", "sold_price 'sNaN'"),
    "a date the other way round": ("1,p,hat,,,5,EUR,01/03/2026", "sold_at '01/03/2026'"),
    "a date before the calendar": ("1,p,hat,,,5,EUR,0001-01-01T00:00:00+14:00", "sold_at"),
    "a column too few": ("1,p,hat,,,5,EUR", "expected 8 columns, found 7"),
    "a column too many": ("1,p,hat,,,5,EUR,2026-03-01,", "expected 8 columns, found 9"),
    "bytes that are no UTF-8": ("1,p,hat\udcff,,,5,EUR,2026-03-01", "UTF-8"),
    "a NUL": ("1,p,h\0at,,,5,EUR,2026-03-01", "NUL"),
    "a huge field": (f"1,p,{'x' * 140_000},,,5,EUR,2026-03-01", "field limit"),
}


@pytest.mark.parametrize("line, rule", REFUSED.values(), ids=REFUSED)
def test_what_no_column_can_hold_is_refused_by_line_and_rule(
    smartgo: psycopg.Connection, tmp_path: Path, line: str, rule: str
) -> None:
    report = load(smartgo, tmp_path, written(tmp_path, HEADER, GOOD, line, GOOD.replace("s1", "s3")))
    assert (report.lines_read, report.rows_loaded, report.lines_refused) == (3, 2, 1)
    assert report.refused[0].line == 3
    assert rule in report.refused[0].rule
    assert "line 3" in str(report)


@pytest.mark.parametrize("after", [3, 4000], ids=["to the end", "past the field limit"])
def test_lines_that_an_open_quote_swallows_are_all_counted(
    smartgo: psycopg.Connection, tmp_path: Path, after: int
) -> None:
    lines = [GOOD.replace("s1", f"a{n}") for n in range(after)]
    report = load(smartgo, tmp_path, written(tmp_path, HEADER, GOOD, 's2,p,"hat,,,5,EUR,2026-03-01', *lines))
    assert report.lines_read == after + 2 == report.rows_loaded + report.lines_refused
    assert report.refused[0].line == 3
    assert report.lines_refused >= 4


def test_a_quote_closed_lines_later_makes_no_row_of_them_all(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    swallowed = [GOOD.replace("s1", f"a{n}") for n in range(3)]
    lines = [GOOD, 's2,p,"hat', *swallowed, 'hat",COS,good,5,EUR,2026-03-01']
    report = load(smartgo, tmp_path, written(tmp_path, HEADER, *lines))
    assert (report.lines_read, report.rows_loaded, report.lines_refused) == (6, 1, 5)
    assert "quote" in report.refused[0].rule


def test_refused_lines_are_told_up_to_a_bound_and_counted_beyond(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    report = load(smartgo, tmp_path, written(tmp_path, HEADER, GOOD, *["x"] * 200))
    assert (len(report.refused), report.lines_refused) == (50, 200)


@pytest.mark.parametrize(
    "lines, words",
    [
        (["sale_id,product_id,brand"], "no column category, sold_price, sold_at; found: sale_id, product_id, brand"),
        (["a;b;c"], "separated by commas"),
        ([], "found: nothing"),
        ([HEADER + ",brand", GOOD], "more than one column brand"),
        ([HEADER], "a header and no line under it"),
        ([HEADER, "x"], "no line of 1 .* line 2: expected 8 columns"),
        ([HEADER + ",image", GOOD + ",a.jpg"], "--photos"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_whole(
    smartgo: psycopg.Connection, tmp_path: Path, lines: list[str], words: str
) -> None:
    with pytest.raises(SourceSchemaMismatch, match=words):
        load(smartgo, tmp_path, written(tmp_path, *lines))
    assert smartgo.execute("SELECT to_regclass('sales')").fetchone() == (None,)


def test_a_broken_archive_loads_nothing(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    whole = gzip.compress("\n".join([HEADER, *[GOOD.replace("s1", f"s{n}") for n in range(20_000)]]).encode())
    for name, content in (("half.csv.gz", whole[: len(whole) // 2]), ("no.csv.gz", b"sale_id"), ("bad.csv.gz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises((SourceUnavailable, SourceSchemaMismatch), match=name):
            load(smartgo, tmp_path, tmp_path / name)
    with pytest.raises(SourceUnavailable, match=r"missing\.csv"):
        load(smartgo, tmp_path, tmp_path / "missing.csv")
    assert smartgo.execute("SELECT to_regclass('sales')").fetchone() == (None,)


def test_a_header_may_have_a_bom_capitals_and_columns_of_its_own(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    sales = written(tmp_path, "\ufeff" + HEADER.upper() + ",tenant_id", GOOD + ",other")
    report = load(smartgo, tmp_path, sales)
    assert (report.rows_loaded, report.ignored_columns) == (1, ("tenant_id",))
    assert "tenant_id" in str(report)


def test_photos_are_joined_by_category_then_by_hash_and_the_report_says_invented(
    smartgo: psycopg.Connection, tmp_path: Path, photos: Path
) -> None:
    lines = [f"s{n},p{n},{'hat' if n % 2 else 'sofa'},,,5,,2026-03-01" for n in range(40)]
    sales = written(tmp_path, HEADER, *lines)
    report = load(smartgo, tmp_path, sales, photos)
    hats = smartgo.execute("SELECT DISTINCT image_url FROM sales WHERE category = 'hat' ORDER BY 1").fetchall()
    others = {url for (url,) in smartgo.execute("SELECT image_url FROM sales WHERE category = 'sofa'")}
    assert hats == [(f"{BASE}/own/hat-1.jpg",), (f"{BASE}/own/hat-2.jpg",)]
    assert f"{BASE}/own/dress%201.jpg" in others
    assert report.invented is not None
    assert "INVENTED" in report.invented
    assert "20 sales got a photo of their own category, 20 any photo" in report.invented
    assert (tmp_path / "images" / "own" / "dress 1.jpg").read_bytes() == draw_product("dres", "x", 1)
    assert load(smartgo, tmp_path, sales, photos).rows_changed == 0


def test_a_files_own_images_are_kept_and_nothing_is_invented(
    smartgo: psycopg.Connection, tmp_path: Path, photos: Path
) -> None:
    sales = written(
        tmp_path,
        HEADER + ",image,image_url",
        GOOD + ",dress 1.jpg,",
        GOOD.replace("s1", "s2") + ",,https://shop.example/a.jpg",
        GOOD.replace("s1", "s3") + ",,",
    )
    report = load(smartgo, tmp_path, sales, photos)
    assert column(smartgo, "image_url") == [f"{BASE}/own/dress%201.jpg", "https://shop.example/a.jpg", None]
    assert report.invented is None


def test_a_folder_without_photos_is_refused(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    with pytest.raises(SourceSchemaMismatch, match=r"no \.jpg or \.png"):
        load(smartgo, tmp_path, written(tmp_path, HEADER, GOOD), tmp_path)


def test_an_invoice_line_is_one_sale_and_a_cancelled_one_has_a_negative_price(
    smartgo: psycopg.Connection, tmp_path: Path
) -> None:
    sales = written(
        tmp_path,
        FASHION_HEADER,
        "bag,536378,22386,JUMBO BAG,10,2010-12-01T09:37:00,1.95,United Kingdom",
        "bag,536378,22386,JUMBO BAG,1,2010-12-01T09:37:00,1.95,United Kingdom",
        "bag,C536543,22355,CHARLOTTE BAG,-2,2011-06-01T00:30:00,0.85,United Kingdom",
        "bag,537534,22376,AIRLINE BAG,1,2010-12-07T11:48:00,0.00,United Kingdom",
    )
    report = load(smartgo, tmp_path, sales)
    rows = smartgo.execute(
        "SELECT sale_id, product_id, brand, condition, sold_price, currency, sold_at FROM sales ORDER BY load_key"
    ).fetchall()
    assert [row[0] for row in rows] == ["536378-22386-1", "536378-22386-2", "537534-22376-1", "C536543-22355-1"]
    assert rows[0][1:] == ("22386", None, "new", Decimal("1.95"), "GBP", datetime(2010, 12, 1, 9, 37, tzinfo=UTC))
    assert [row[4] for row in rows[2:]] == [Decimal("0.00"), Decimal("-0.85")]
    assert rows[3][6] == datetime(2011, 5, 31, 23, 30, tzinfo=UTC), "British Summer Time"
    assert report.days == (date(2010, 12, 1), date(2010, 12, 7), date(2011, 5, 31))


@pytest.mark.skipif(not REAL.is_dir(), reason="the CC0 data (shared/data/fashion_cc0) is not beside the repository")
def test_the_real_sale_lines_and_photos_are_loaded_whole(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    sales = REAL / "fashion_sales.csv.gz"
    report = load(smartgo, tmp_path, sales, REAL)
    assert report.lines_read == report.rows_loaded == report.rows_added == 57_930
    assert report.lines_refused == 0
    assert (len(report.days), report.first_day, report.last_day) == (305, date(2010, 12, 1), date(2011, 12, 9))
    assert report.photos == 240
    assert report.invented is not None
    counts = smartgo.execute(
        "SELECT count(*) FILTER (WHERE sold_price < 0), count(*) FILTER (WHERE sold_price = 0),"
        " count(DISTINCT sale_id), count(DISTINCT image_url) > 200,"
        " count(*) FILTER (WHERE category = 'hat' AND image_url NOT LIKE '%/own/hat-%')"
        " FROM sales"
    ).fetchone()
    assert counts == (750, 44, 57_930, True, 0)
    assert load(smartgo, tmp_path, sales, REAL).rows_added == 0
