"""A file of sales for `salesintel sales put`: read line by line, each sale judged alone, stored by thousands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO

from salesintel_dagster.commands.output import counted, say
from salesintel_dagster.domain.errors import SaleRefused
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sale_request import RequestRules, parse_request, read_json
from salesintel_dagster.domain.sales_repository import BatchReport, RefusedSale, SaleWriter
from salesintel_dagster.domain.tenancy import CallerContext

CHUNK = 1_000
MAX_ARRAY_BYTES = 64 * 1024 * 1024
"""A JSON array is read as a whole; a file of lines may be of any size."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a file; a refused one is named by its place in the file and, where it has one, its id."""

    created: int
    duplicates: int
    repeated: int
    conflicts: tuple[RefusedSale, ...]
    refused: tuple[RefusedSale, ...]


def store_all(file: IO[bytes], writer: SaleWriter, caller: CallerContext, rules: RequestRules) -> Stored:
    """Store every sale of the file that can be. Raises SalesUnavailable, BatchUnfinished: give the file again."""
    refused: list[RefusedSale] = []
    reports: list[BatchReport] = []
    records = _records(file, caller, rules, refused)
    while chunk := list(islice(records, CHUNK)):
        reports.append(writer.put_many(caller, chunk))
        if len(chunk) == CHUNK:
            say(f"{counted(sum(report.total for report in reports), 'sale')} done")
    return Stored(
        sum(report.created for report in reports),
        sum(report.duplicates for report in reports),
        sum(report.repeated for report in reports),
        tuple(one for report in reports for one in report.conflicts),
        (*refused, *(one for report in reports for one in report.refused)),
    )


def _records(
    file: IO[bytes], caller: CallerContext, rules: RequestRules, refused: list[RefusedSale]
) -> Iterator[SaleRecord]:
    for where, text in _texts(file):
        try:
            yield parse_request(read_json(text) if isinstance(text, bytes) else text, caller, rules)
        except SaleRefused as error:
            refused.append(RefusedSale(where, str(error)))


def _texts(file: IO[bytes]) -> Iterator[tuple[str, object]]:
    """Yield the sales with their places: an array's members, one object, or the lines that are not blank."""
    first = file.readline(MAX_ARRAY_BYTES)
    while first and not first.strip():
        first = file.readline(MAX_ARRAY_BYTES)
    if first.lstrip().startswith(b"[") or first.strip() == b"{":
        whole = read_json(first + file.read(MAX_ARRAY_BYTES), MAX_ARRAY_BYTES)
        for number, one in enumerate(whole if isinstance(whole, list) else [whole], start=1):
            yield f"sale {number}", one
        return
    number = 0
    line = first
    while line:
        number += 1
        if line.strip():
            yield f"line {number}", line.strip()
        line = file.readline(MAX_ARRAY_BYTES)
