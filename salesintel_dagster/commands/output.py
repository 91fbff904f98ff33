"""How answers are printed: lines that a person reads and grep finds, JSON that a script trusts.

A line of a table is never cut or folded: where it is wider than the terminal, the terminal wraps it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from decimal import Decimal

import click
import orjson
from rich.cells import cell_len

GAP = "  "
_C1_IN_UTF8 = re.compile(rb"\xc2[\x80-\x9f]")
"""Control characters that orjson writes as they are; to some terminals U+009B is the beginning of a command."""


def say(text: str) -> None:
    """Tell something about the work on standard error; answers go to standard output."""
    click.echo(text, err=True)


def json_text(value: object) -> str:
    """Return the value as JSON: decimals digit by digit, NaN as null, instants as ISO 8601, bytes as hexadecimal."""
    written = orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    return _C1_IN_UTF8.sub(lambda found: b"\\u00%x" % found[0][1], written).decode()


def echo_json(value: object) -> None:
    """Print one JSON value on one line."""
    click.echo(json_text(value))


def echo_array(rows: Iterable[object]) -> None:
    """Print a JSON array while its rows come, a row a line."""
    before = "["
    for row in rows:
        click.echo(f"{before}{json_text(row)}", nl=False)
        before = ",\n "
    click.echo("]" if before != "[" else "[]")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 row`, `2 rows`; `plural` where it is not made with an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def printable(text: str) -> str:
    """Return the text on one line, with what could drive a terminal written out: values come from other programs."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def table_width(header: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Return how wide the table is, in terminal columns."""
    return sum(_widths(header, rows)) + len(GAP) * (len(header) - 1)


def echo_table(header: Sequence[str], rows: Collection[Sequence[str]], numbers: Collection[str] = ()) -> None:
    """Print rows under their header; the columns in `numbers` are aligned to the right. A row may be short."""
    widths = _widths(header, rows)
    right = [name in numbers for name in header]
    click.echo(click.style(_line(header, widths, right), bold=True))
    for row in rows:
        click.echo(_line(row, widths, right))


def _widths(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
    widths = [cell_len(name) for name in header]
    for row in rows:
        for column, cell in enumerate(row):
            widths[column] = max(widths[column], cell_len(cell))
    return widths


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, is_number in zip(cells, widths, right, strict=False):
        blanks = " " * (width - cell_len(cell))
        padded.append(blanks + cell if is_number else cell + blanks)
    return GAP.join(padded).rstrip()


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value)) if value.is_finite() else None
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
