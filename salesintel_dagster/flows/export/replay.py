"""What a replay of a quarantined day did, row by row. Rows may be a megabyte each: they are streamed, never listed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from hashlib import sha256

import orjson

from salesintel_dagster.flows.export.day_index import DayIndex, index_name
from salesintel_dagster.flows.export.quarantine import QuarantineEntry


class Fate(StrEnum):
    """What a replay did to a row: it left the quarantine, it stays (told as it is now), or it is new there."""

    LEFT = "left"
    STAYS = "stay"
    NEW = "new"


def replayed(
    before: Iterable[QuarantineEntry], after: Iterable[QuarantineEntry]
) -> Iterator[tuple[Fate, QuarantineEntry]]:
    """Compare a day's quarantine before and after a replay, streaming; `before` is gone through twice.

    A row is the same row when its tenant and sale id are, whatever else was mended in it; a row without a sale id
    is the same only when all of it is. Raises OSError.
    """
    with closing(DayIndex()) as unmatched:
        for entry in before:
            name = _identity(entry)
            unmatched.put(name, _count(_number(unmatched, name) + 1))
        for entry in after:
            yield Fate.STAYS if _matched(unmatched, entry) else Fate.NEW, entry
        for entry in before:
            if _matched(unmatched, entry):
                yield Fate.LEFT, entry


def _matched(unmatched: DayIndex, entry: QuarantineEntry) -> bool:
    name = _identity(entry)
    number = _number(unmatched, name)
    if number:
        unmatched.put(name, _count(number - 1))
    return number > 0


def _number(unmatched: DayIndex, name: bytes) -> int:
    return int.from_bytes(unmatched.get(name) or b"")


def _count(number: int) -> bytes:
    return number.to_bytes(8)


def _identity(entry: QuarantineEntry) -> bytes:
    row = orjson.loads(entry.row_json)
    sale_id = str(row.get("sale_id") or "").strip()
    parts = (str(row.get("tenant_id") or ""), sale_id) if sale_id else ("", entry.row_json)
    return sha256(index_name(*parts)).digest()
