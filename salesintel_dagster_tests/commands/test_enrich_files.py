"""A catalog's file: one bad line is told and stops no other, and what refuses the file names line and rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from salesintel_dagster.commands.enrich_files import catalog_of
from salesintel_dagster.domain.enrichment.product import CatalogRead
from salesintel_dagster.domain.errors import CatalogInvalid

HEADER = "product_id,asin,text\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.csv"


def read(file: Path, text: str) -> CatalogRead:
    file.write_text(text, newline="")
    return catalog_of(file)


def told(found: CatalogRead) -> tuple[list[str], list[tuple[int, str]]]:
    return [one.product_id for one in found.products], [(line, one.code) for line, one in found.rejections]


@pytest.mark.parametrize(
    "line,code",
    [
        ("b,B000000002," + "x" * 131_073, "ATTRIBUTES_TOO_LARGE"),
        ("b" * 200_000 + ",B000000002,", "PRODUCT_ID_INVALID"),
        ("b," + "B" * 200_000 + ",", "ASIN_INVALID"),
        ('b,B000000002,"a "b" c"', "NOT_CSV"),
        ("b,B000000002,x,y", "TOO_MANY_CELLS"),
        ("b", "NO_IDENTIFIER"),
    ],
)
def test_one_bad_line_is_told_with_its_number_and_the_others_are_taken(file: Path, line: str, code: str):
    found = read(file, f"{HEADER}a,B000000001,x\n\n{line}\nc,B000000003,z\n")
    assert told(found) == (["a", "c"], [(4, code)])
    assert found.rejections[0][1].rule
    assert len(str(found.rejections[0][1])) < 1_000


def test_a_row_over_several_lines_is_told_by_the_line_it_begins_in(file: Path):
    found = read(file, f'{HEADER}a,,"one\ntwo"\r\nb,B000000002,"three\nfour"\nc,,\n')
    assert told(found) == (["b"], [(2, "NO_IDENTIFIER"), (6, "NO_IDENTIFIER")])
    assert found.products[0].attributes == '{"text":"three\\nfour"}'


@pytest.mark.parametrize(
    "body,lines",
    [
        ('a,B000000001,"open\nb,B000000002,x\n', "lines 2 to 3"),
        ('a,B000000001,x\n\nb,B000000002,"open', "line 4"),
        ('a,B000000001,"open\nb,B000000002,"x"\nc,B000000003,y\n', "lines 2 to 3"),
        ('a,B000000001,"open "b" d\nc,B000000003,y\n', "line 2"),
    ],
)
def test_a_quote_that_leaves_open_where_the_next_row_begins_refuses_the_file_with_line_and_rule(
    file: Path, body: str, lines: str
):
    with pytest.raises(CatalogInvalid) as refused:
        read(file, HEADER + body)
    assert f"catalog.csv: {lines}: not CSV (" in str(refused.value)
    assert "a quote inside it is written twice" in str(refused.value)


def test_a_file_that_is_not_utf8_is_told_with_its_line(file: Path):
    file.write_bytes(HEADER.encode() + b"a,B000000001,x\n" * 2_000 + b"b,B000000002,\xfc\n")
    with pytest.raises(CatalogInvalid, match=r"line 2002: not UTF-8"):
        catalog_of(file)


def test_column_names_may_be_written_large_and_with_spaces(file: Path):
    assert told(read(file, " Product_ID ,ASIN\na,B000000001\n")) == (["a"], [])
