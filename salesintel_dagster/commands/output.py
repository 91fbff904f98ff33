"""How answers are printed: tables that a person reads and grep finds, JSON that a script trusts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from decimal import Decimal

import click
import orjson
from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 10_000
"""Columns where no terminal sets a width: a line of a table stays one line."""


def say(text: str) -> None:
    """Tell something about the work on standard error; answers go to standard output."""
    click.echo(text, err=True)


def json_text(value: object) -> str:
    """Return the value as JSON: decimals digit by digit, NaN as null, instants as ISO 8601, bytes as hexadecimal."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()


def json_array(rows: Iterable[object]) -> Iterable[str]:
    """Yield the text of a JSON array, a row a line, without holding them all."""
    before = "["
    for row in rows:
        yield f"{before}{json_text(row)}"
        before = ",\n "
    yield "]\n" if before != "[" else "[]\n"


def echo_json(value: object) -> None:
    """Print one JSON value on one line."""
    click.echo(json_text(value))


def echo_array(rows: Iterable[object]) -> None:
    """Print a JSON array while its rows come."""
    for text in json_array(rows):
        click.echo(text, nl=False)


def counted(number: int, noun: str) -> str:
    """Return `1 row`, `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def new_table(left: Iterable[str], right: Iterable[str] = ()) -> Table:
    """Return an empty table with text columns and then number columns."""
    table = Table(box=None, pad_edge=False)
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def console() -> Console:
    """Return the console of standard output: as wide as the terminal, or as its text where there is none."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False)


def echo_table(table: Table, onto: Console | None = None) -> None:
    """Print a table without the blanks that would end its lines in a file."""
    onto = onto or console()
    if onto.is_terminal:
        onto.print(table)
        return
    with onto.capture() as captured:
        onto.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value)) if value.is_finite() else None
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
