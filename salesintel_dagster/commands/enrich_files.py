"""A catalog's file: CSV in UTF-8 with a header, parted into lines that are taken and lines that are not, and why."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from salesintel_dagster.domain.enrichment.product import CatalogRead, read_catalog
from salesintel_dagster.domain.errors import CatalogInvalid
from salesintel_dagster.domain.sale import Rejection

REQUIRED = "product_id"
LARGEST_CELL = 2**31 - 1
"""Python's own limit (131,072 characters) refuses the file; a product that large is refused alone, by its own rule."""
QUOTES = 'a cell that begins with a quote ends with one, and a quote inside it is written twice ("")'


def catalog_of(file: Path) -> CatalogRead:
    """Return the file's products and the lines that were not taken. Raises CatalogInvalid for no CSV of ours."""
    misshapen: list[tuple[int, Rejection]] = []
    usual = csv.field_size_limit(LARGEST_CELL)
    try:
        read = read_catalog(_lines(file, misshapen))
    except UnicodeDecodeError:
        raise CatalogInvalid(f"{file}: line {_not_utf8(file)}: not UTF-8; save the catalog as CSV UTF-8") from None
    finally:
        csv.field_size_limit(usual)
    return CatalogRead(read.products, tuple(sorted([*read.rejections, *misshapen], key=lambda one: one[0])))


def _lines(file: Path, misshapen: list[tuple[int, Rejection]]) -> Iterator[tuple[int, dict[str, str]]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = _rows(file, opened, misshapen)
        columns = [cell.strip() for cell in next(rows, (1, []))[1]]
        if REQUIRED not in [name.lower() for name in columns]:
            shown = ", ".join(name[:40].lower() for name in columns[:10]) or "nothing"
            raise CatalogInvalid(f"{file}: expected a first line with the column {REQUIRED}, found {shown}")
        for number, cells in rows:
            if len(cells) > len(columns):
                rule = f"at most {len(columns)} cells; a comma inside a cell needs quotes"
                misshapen.append((number, Rejection("TOO_MANY_CELLS", "line", "more cells", rule)))
            else:
                yield number, dict(zip(columns, cells, strict=False))


def _rows(file: Path, opened: Iterable[str], misshapen: list[tuple[int, Rejection]]) -> Iterator[tuple[int, list[str]]]:
    """Yield rows with the number of the line that each begins in, without empty ones.

    A row with a quote out of place is left out alone where no cell is open at the end of its only line; otherwise
    nobody can tell where the next row begins. Raises CatalogInvalid.
    """
    last = ""

    def remembered() -> Iterator[str]:
        nonlocal last
        for line in opened:
            last = line
            yield line

    reader = csv.reader(remembered(), strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num > begins or last.count('"') % 2:
                lines = f"line {begins}" if reader.line_num == begins else f"lines {begins} to {reader.line_num}"
                raise CatalogInvalid(f"{file}: {lines}: not CSV ({error}); expected: {QUOTES}") from None
            misshapen.append((begins, Rejection("NOT_CSV", "line", str(error), QUOTES)))
        else:
            if cells:
                yield begins, cells


def _not_utf8(file: Path) -> int:
    """Return the number of the first line that is not UTF-8."""
    with file.open("rb") as opened:
        for number, line in enumerate(opened, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1
