"""Your own sales from a CSV file into the demo's source table: every line is loaded as it is or refused by number.

Two forms are known by their header: our own field names, and the lines of shared/data/fashion_cc0 (a wholesaler's
invoices). A wrong value that the table can hold goes in, so that the export quarantines it with its reason; only what
no column can hold is refused here, and counted. Loading a file again adds nothing and takes over what changed in it.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import TextIO

import psycopg

from salesintel_dagster.domain.errors import SourceSchemaMismatch, SourceUnavailable
from salesintel_dagster.local.own_lines import (
    FASHION_COLUMNS,
    OWN_COLUMNS,
    OWN_REQUIRED,
    LineRefused,
    fashion_line,
    own_line,
)
from salesintel_dagster.local.own_photos import Photos, copied_photos
from salesintel_dagster.local.source_table import SourceLine, load

MAX_REFUSED_KEPT = 50
"""Refused lines told by number; the rest are counted."""

LineReader = Callable[[Mapping[str, str], Photos, Counter[str]], SourceLine]


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line of the file that no row could be made of: its number (the header is 1) and the rule it breaks."""

    line: int
    rule: str


@dataclass(frozen=True, slots=True)
class OwnDataReport:
    """What a load did. `lines_read` = `rows_loaded` + `lines_refused`; `days` are those with a row, at least one.

    `invented` says what was made up (the join of photos to sales), None where nothing was.
    """

    lines_read: int
    rows_loaded: int
    rows_added: int
    rows_changed: int
    lines_refused: int
    refused: tuple[RefusedLine, ...]
    photos: int
    ignored_columns: tuple[str, ...]
    days: tuple[date, ...]
    invented: str | None

    @property
    def first_day(self) -> date:
        """The first day with a sale."""
        return self.days[0]

    @property
    def last_day(self) -> date:
        """The last day with a sale."""
        return self.days[-1]

    def __str__(self) -> str:
        """Tell it in one line, the first refused lines by number."""
        told = (
            f"{self.lines_read} lines read, {self.rows_loaded} rows loaded ({self.rows_added} new, "
            f"{self.rows_changed} changed), {self.lines_refused} refused, {len(self.days)} days from {self.first_day} "
            f"to {self.last_day}"
        )
        if self.ignored_columns:
            told += f", columns not used: {', '.join(self.ignored_columns)}"
        first = "; ".join(f"line {refused.line}: {refused.rule}" for refused in self.refused[:3])
        return f"{told} ({first})" if first else told


@dataclass(slots=True)
class _Reading:
    """Counts of one pass over the file."""

    zone: tzinfo
    read: int = 0
    refused: list[RefusedLine] = field(default_factory=list)
    refused_count: int = 0
    days: set[date] = field(default_factory=set)

    def took(self, sold_at: datetime | None) -> None:
        self.read += 1
        if sold_at is not None:
            self.days.add(sold_at.astimezone(self.zone).date())

    def refuse(self, lines: range, rule: str) -> None:
        self.read += len(lines)
        self.refused_count += len(lines)
        if len(self.refused) < MAX_REFUSED_KEPT:
            self.refused.append(RefusedLine(lines[0], rule))


def load_own_data(  # noqa: PLR0913 - where from and where to, by name
    connection: psycopg.Connection,
    images_folder: Path,
    image_base_url: str,
    *,
    sales_csv: Path,
    photos: Path | None,
    zone: tzinfo = UTC,
) -> OwnDataReport:
    """Load a CSV (or .csv.gz) of sales and, where given, a folder of photos; `zone` is the partitions'.

    Raises SourceSchemaMismatch (columns missing, nothing to load, no photos), SourceUnavailable (the file cannot be
    read to its end), psycopg.Error; nothing is loaded then.
    """
    reading = _Reading(zone)
    album = copied_photos(photos, images_folder, image_base_url)
    with _opened(sales_csv) as text:
        lines = csv.reader(text)
        header = [name.strip().lower() for name in next(lines, [])]
        read_line, used = _form_of(header, sales_csv.name)
        if "image" in used and photos is None:
            raise SourceSchemaMismatch(f"{sales_csv.name}: column image names files; say where they lie with --photos")
        loaded = load(connection, _source_lines(lines, header, read_line, album, reading))
    return OwnDataReport(
        lines_read=reading.read,
        rows_loaded=loaded.lines,
        rows_added=loaded.added,
        rows_changed=loaded.changed,
        lines_refused=reading.refused_count,
        refused=tuple(reading.refused),
        photos=len(album.names),
        ignored_columns=tuple(name for name in header if name not in used),
        days=tuple(sorted(reading.days)),
        invented=album.invented,
    )


def _form_of(header: list[str], file: str) -> tuple[LineReader, tuple[str, ...]]:
    """Return how lines under this header are read and the columns that are used."""
    doubled = sorted(name for name, count in Counter(header).items() if count > 1)
    if doubled:
        raise SourceSchemaMismatch(f"{file}: more than one column {', '.join(doubled)}")
    if set(header) >= set(FASHION_COLUMNS):
        return fashion_line, FASHION_COLUMNS
    missing = [name for name in OWN_REQUIRED if name not in header]
    if missing:
        hint = "; columns are separated by commas" if len(header) == 1 and set(";\t|") & set(header[0]) else ""
        raise SourceSchemaMismatch(
            f"{file}: no column {', '.join(missing)}; found: {', '.join(header)[:500] or 'nothing'}; "
            f"known: {', '.join(OWN_COLUMNS)}{hint}"
        )
    return own_line, tuple(name for name in OWN_COLUMNS if name in header)


def _source_lines(
    lines: Iterator[list[str]], header: list[str], read_line: LineReader, album: Photos, reading: _Reading
) -> Iterator[SourceLine]:
    """Yield a row for each line. Raises SourceSchemaMismatch where no row with a sold_at came of it all."""
    occurrences: Counter[str] = Counter()
    for span, values in _spans(lines, reading):
        try:
            line = read_line(_named(header, values), album, occurrences)
        except LineRefused as refused:
            reading.refuse(span, str(refused))
        else:
            reading.took(line.sold_at)
            yield line
    if not reading.read:
        raise SourceSchemaMismatch("the file holds a header and no line under it")
    if not reading.days:
        first = "; ".join(f"line {refused.line}: {refused.rule}" for refused in reading.refused[:3])
        raise SourceSchemaMismatch(f"no line of {reading.read} has a readable sale with a sold_at; {first}")


def _spans(lines: Iterator[list[str]], reading: _Reading) -> Iterator[tuple[range, list[str]]]:
    """Yield (the file's lines that it takes, values) of each record, past empty lines and past what is no CSV.

    A quote that nobody closes swallows the lines after it: each of them counts as refused.
    """
    while True:
        before: int = lines.line_num  # type: ignore[attr-defined]
        try:
            values = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            reading.refuse(range(before + 1, lines.line_num + 1), f"no CSV: {error}")  # type: ignore[attr-defined]
            continue
        if values:
            yield range(before + 1, lines.line_num + 1), values  # type: ignore[attr-defined]


def _named(header: list[str], values: list[str]) -> dict[str, str]:
    """Return the record's values by column. Raises LineRefused."""
    if len(values) != len(header):
        raise LineRefused(f"expected {len(header)} columns, found {len(values)}")
    return dict(zip(header, map(_clean, values), strict=True))


def _clean(value: str) -> str:
    """Return text that Postgres can hold. Raises LineRefused."""
    if "\0" in value:
        raise LineRefused("text holds no NUL character")
    if "\n" in value or "\r" in value:
        raise LineRefused("a value holds no line break; most likely a quote is not closed")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise LineRefused("text is UTF-8") from None
    return value.strip()


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open the file as text, unpacking .gz; bytes that are no UTF-8 are refused line by line, not here."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise SourceUnavailable(f"{path.name}: the file is no gzip or ends before its end") from None
    except OSError as error:
        raise SourceUnavailable(f"{path.name}: cannot be read: {error.strerror}") from None
