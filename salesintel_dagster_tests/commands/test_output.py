from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from salesintel_dagster.commands.output import (
    counted,
    echo_array,
    echo_json,
    echo_table,
    json_text,
    printable,
    table_width,
)


def test_a_decimal_is_a_json_number_digit_by_digit():
    assert json_text({"price": Decimal("12345678901234567.10")}) == '{"price":12345678901234567.10}'


def test_what_json_has_no_number_for_is_null():
    assert json_text([float("nan"), float("inf"), Decimal("NaN")]) == "[null,null,null]"


def test_days_instants_and_bytes_are_text():
    found = json.loads(json_text([date(2026, 11, 20), datetime(2026, 11, 20, 3, tzinfo=UTC), b"\x00\xaa"]))
    assert found == ["2026-11-20", "2026-11-20T03:00:00+00:00", "00aa"]


@pytest.mark.parametrize("rows", [[], [{"a": 1}], [{"a": 1}, {"a": 2}]])
def test_an_array_that_is_printed_row_by_row_is_json(rows: list[object], capsys: pytest.CaptureFixture[str]):
    echo_array(iter(rows))
    out = capsys.readouterr().out
    assert json.loads(out) == rows
    assert out.count("\n") == max(1, len(rows))


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]):
    echo_json({"text": "two\nlines"})
    assert capsys.readouterr().out.count("\n") == 1


def test_a_control_character_is_never_raw_in_json():
    controls = "".join(chr(number) for number in (*range(32), *range(0x80, 0xA0)))
    text = f"{controls} Šilkinė £ 日本 👗"
    written = json_text({text: text})
    assert json.loads(written) == {text: text}
    assert set(written).isdisjoint(controls)
    assert "Šilkinė £ 日本 👗" in written


def test_a_table_aligns_words_left_and_numbers_right(capsys: pytest.CaptureFixture[str]):
    echo_table(("day", "sales", "why"), [("2026-11-19", "7", "-"), ("2026-11-20", "1031", "GONE 1")], ("sales",))
    assert capsys.readouterr().out == ("day         sales  why\n2026-11-19      7  -\n2026-11-20   1031  GONE 1\n")


def test_a_line_of_a_table_is_never_folded_or_cut_and_may_be_short(capsys: pytest.CaptureFixture[str]):
    long = "x" * 5000
    echo_table(("a", "b"), [(long, "1"), ("short",)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{long}  1"
    assert lines[2] == "short"


def test_a_wide_letter_takes_two_columns():
    assert table_width(("name",), [("日本日本",)]) == 8


def test_what_could_drive_a_terminal_is_written_out():
    assert printable("red \x1b[31m\r\nline\u2028\ud800") == "red \\x1b[31m\\r\\nline\\u2028\\ud800"
    assert printable("Šilkinė suknelė 日本") == "Šilkinė suknelė 日本"


def test_one_is_not_many():
    assert (counted(1, "row"), counted(0, "row"), counted(2, "row")) == ("1 row", "0 rows", "2 rows")
