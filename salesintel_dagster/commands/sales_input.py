"""A file of sales for `salesintel sales put`: read line by line, each sale judged alone, stored by thousands."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import IO

from salesintel_dagster.adapters.sales.reading import at_once
from salesintel_dagster.commands.output import counted, say
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import SaleRefused, SaleUnreadable
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sale_request import RequestRules, parse_request, read_json, require_kept
from salesintel_dagster.domain.sales_repository import PutOutcome, RefusedSale, SaleWriter
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


def store_all(
    file: IO[bytes], writer: SaleWriter, caller: CallerContext, rules: RequestRules, clock: Clock = SYSTEM_CLOCK
) -> Stored:
    """Store every sale of the file that can be. Raises SalesUnavailable: give the file again.

    Each in a transaction of its own, not by `put_many`: the event sync, or another operator, may write the same sale.
    """
    counts: Counter[str] = Counter()
    conflicts: list[RefusedSale] = []
    refused: list[RefusedSale] = []
    records = _records(file, caller, rules, clock.now(), refused)
    done = 0
    while chunk := list(islice(records, CHUNK)):
        by_id: defaultdict[str, list[SaleRecord]] = defaultdict(list)
        for record in chunk:
            by_id[record.sale_id].append(record)
        for results in at_once(lambda group: [_put(writer, caller, record) for record in group], by_id.values()):
            for place, result in enumerate(results):
                if isinstance(result, PutOutcome):
                    counts["repeated" if place and result is PutOutcome.DUPLICATE else result.value] += 1
                else:
                    (refused if result.refused else conflicts).append(result.sale)
        done += len(chunk)
        if len(chunk) == CHUNK:
            say(f"{counted(done, 'sale')} done")
    return Stored(
        counts[PutOutcome.CREATED], counts[PutOutcome.DUPLICATE], counts["repeated"], tuple(conflicts), tuple(refused)
    )


@dataclass(frozen=True, slots=True)
class _NotStored:
    sale: RefusedSale
    refused: bool


def _put(writer: SaleWriter, caller: CallerContext, record: SaleRecord) -> PutOutcome | _NotStored:
    """Put one sale; what is wrong with it is a value, so that the others go on."""
    try:
        result = writer.put(caller, record)
    except (SaleRefused, SaleUnreadable) as error:
        return _NotStored(RefusedSale(record.sale_id, str(error)), isinstance(error, SaleRefused))
    if result.outcome is PutOutcome.CONFLICT:
        return _NotStored(RefusedSale(record.sale_id, f"another payload is there: {result.held_hash}"), refused=False)
    return result.outcome


def _records(
    file: IO[bytes], caller: CallerContext, rules: RequestRules, now: datetime, refused: list[RefusedSale]
) -> Iterator[SaleRecord]:
    for where, text in _texts(file):
        try:
            given = read_json(text) if isinstance(text, bytes) else text
            yield require_kept(parse_request(given, caller, rules), now)
        except SaleRefused as error:
            refused.append(RefusedSale(where, str(error)))


def _texts(file: IO[bytes]) -> Iterator[tuple[str, object]]:
    """Yield the sales with their places: an array's members, one object, or the lines that are not blank."""
    number = 1
    first = file.readline(MAX_ARRAY_BYTES)
    while first and not first.strip():
        number += 1
        first = file.readline(MAX_ARRAY_BYTES)
    first = first.removeprefix(BOM_UTF8)
    if first.lstrip().startswith(b"[") or first.strip() == b"{":
        whole = read_json(first + file.read(MAX_ARRAY_BYTES), MAX_ARRAY_BYTES)
        for number, one in enumerate(whole if isinstance(whole, list) else [whole], start=1):
            yield f"sale {number}", one
        return
    line = first
    while line:
        if line.strip():
            yield f"line {number}", line.strip()
        line = file.readline(MAX_ARRAY_BYTES)
        number += 1
