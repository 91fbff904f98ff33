"""The rows of a query for a person: a table where it fits, a block per row where it does not."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.output import counted, echo_table, printable, say, table_width

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN_LIST_ITEMS = 4
WIDEST_TABLE = 160
"""A wider row is a block of lines, also where no terminal sets a width."""
_NUMBERS = ("int", "uint", "float", "double", "decimal", "halffloat")


def show_rows(answer: pa.RecordBatchReader, most: int) -> None:
    """Print the first `most` rows and count the rest."""
    rows: list[list[str]] = []
    total = 0
    for batch in answer:
        rows += [[_shown(value) for value in row] for row in _values(batch.slice(0, max(0, most - total)))]
        total += batch.num_rows
    header = [printable(name) for name in answer.schema.names]
    if rows and table_width(header, rows) > shutil.get_terminal_size((WIDEST_TABLE, 0)).columns:
        _echo_blocks(header, rows)
    else:
        numbers = {name for name, field in zip(header, answer.schema, strict=True) if _is_number(field)}
        echo_table(header, rows, numbers)
    if total > most:
        say(f"... {counted(total - most, 'more row')}; use --json or a LIMIT")


def as_dicts(answer: pa.RecordBatchReader) -> Iterator[dict[str, object]]:
    """Yield the rows by column name; the second column of one name is `name_2`."""
    seen: Counter[str] = Counter()
    names = []
    for name in answer.schema.names:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    for batch in answer:
        for row in _values(batch):
            yield dict(zip(names, row, strict=True))


def _values(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    """Yield the rows by position: `to_pylist` keeps only one of two columns with the same name."""
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _echo_blocks(header: list[str], rows: list[list[str]]) -> None:
    width = max(len(name) for name in header)
    for number, row in enumerate(rows, start=1):
        click.echo(click.style(f"row {number}", bold=True))
        for name, value in zip(header, row, strict=True):
            click.echo(f"{name:<{width}}  {value}".rstrip())


def _is_number(field: pa.Field) -> bool:
    return str(field.type).startswith(_NUMBERS)


def _shown(value: object) -> str:
    if isinstance(value, list) and len(value) > SHOWN_LIST_ITEMS:
        head = ", ".join(_shown(item) for item in islice(value, SHOWN_LIST_ITEMS))
        return f"[{head}, … {len(value)} values]"
    if isinstance(value, bytes):
        return value.hex()
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else printable(str(value))
