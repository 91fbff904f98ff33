"""A catalog's file: CSV with a header, UTF-8. What is wrong in one line is told for that line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from salesintel_dagster.domain.enrichment.product import CatalogRead, read_catalog
from salesintel_dagster.domain.errors import CatalogInvalid
from salesintel_dagster.domain.sale import Rejection

REQUIRED = "product_id"
SURPLUS = "(more cells than columns)"


def catalog_of(file: Path) -> CatalogRead:
    """Return the file's products and the lines that were not taken. Raises CatalogInvalid for no CSV of ours."""
    misshapen: list[tuple[int, Rejection]] = []
    try:
        read = read_catalog(_lines(file, misshapen))
    except UnicodeDecodeError as error:
        raise CatalogInvalid(f"{file}: not UTF-8 (byte {error.start}); save the catalog as CSV UTF-8") from None
    except csv.Error as error:
        raise CatalogInvalid(f"{file}: not CSV: {error}") from None
    return CatalogRead(read.products, tuple(sorted([*read.rejections, *misshapen], key=lambda one: one[0])))


def _lines(file: Path, misshapen: list[tuple[int, Rejection]]) -> Iterator[tuple[int, dict[str, str]]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened, restkey=SURPLUS, restval="", strict=True)
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        if REQUIRED not in names:
            shown = ", ".join(name[:40] for name in names[:10]) or "nothing"
            raise CatalogInvalid(f"{file}: expected a first line with the column {REQUIRED}, found {shown}")
        for values in reader:
            if SURPLUS in values:
                rule = f"at most {len(names)} cells; a comma inside a cell needs quotes"
                misshapen.append((reader.line_num, Rejection("TOO_MANY_CELLS", "line", "more cells", rule)))
            else:
                yield reader.line_num, values
