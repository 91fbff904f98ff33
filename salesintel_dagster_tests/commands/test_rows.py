from __future__ import annotations

import pyarrow as pa
import pytest

from salesintel_dagster.commands.rows import as_dicts, show_rows


def _reader(table: pa.Table, batch_rows: int = 10) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(batch_rows))


def test_rows_are_a_table_with_numbers_to_the_right(capsys: pytest.CaptureFixture[str]):
    show_rows(_reader(pa.table({"category": ["bag", None], "price": [12.5, 1234.0]})), 10)
    assert capsys.readouterr().out == "category      price\nbag         12.5000\n          1234.0000\n"


def test_a_row_too_wide_for_a_table_is_a_block(capsys: pytest.CaptureFixture[str]):
    show_rows(_reader(pa.table({"a": ["x" * 100], "long_name": ["y" * 100]})), 10)
    assert capsys.readouterr().out == f"row 1\na          {'x' * 100}\nlong_name  {'y' * 100}\n"


def test_a_vector_is_shown_by_its_first_values(capsys: pytest.CaptureFixture[str]):
    show_rows(_reader(pa.table({"v": pa.array([[0.25] * 1024], pa.list_(pa.float32()))})), 10)
    assert "[0.2500, 0.2500, 0.2500, 0.2500, … 1024 values]" in capsys.readouterr().out


def test_rows_beyond_the_most_are_counted_not_shown(capsys: pytest.CaptureFixture[str]):
    show_rows(_reader(pa.table({"n": list(range(95))})), 25)
    told = capsys.readouterr()
    assert told.out.splitlines()[-1].strip() == "24"
    assert told.err == "... 70 more rows; use --json or a LIMIT\n"


def test_no_row_is_a_header_alone(capsys: pytest.CaptureFixture[str]):
    show_rows(_reader(pa.table({"n": pa.array([], pa.int64())})), 25)
    assert capsys.readouterr().out == "n\n"


def test_two_columns_of_one_name_are_both_shown(capsys: pytest.CaptureFixture[str]):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    show_rows(_reader(table), 25)
    assert capsys.readouterr().out == "n  n\n1  2\n"
    assert list(as_dicts(_reader(table))) == [{"n": 1, "n_2": 2}]


def test_a_value_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]):
    show_rows(_reader(pa.table({"\x1b[2J": ["\x1b]0;title\x07"]})), 25)
    assert "\x1b" not in capsys.readouterr().out
