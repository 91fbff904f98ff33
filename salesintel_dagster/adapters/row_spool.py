"""Rows of one day on their way through this machine's disk: in by any order, out by the one order, memory bounded.

For a source that gives no order and no snapshot. What JSON cannot hold travels with a tag.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from sqlite3 import Cursor

from salesintel_dagster.domain.columns import BATCH_ROWS
from salesintel_dagster.domain.fingerprint import SourceFingerprint
from salesintel_dagster.domain.sale import SourceRow
from salesintel_dagster.flows.temporary_database import TemporaryDatabase

_TABLE = "CREATE TABLE rows (sold_at TEXT, sale_id BLOB, product_id BLOB, price REAL, content TEXT)"
_ORDER = (
    "SELECT content FROM rows ORDER BY sold_at IS NULL, sold_at, sale_id IS NULL, sale_id,"
    " product_id IS NULL, product_id, price IS NULL, price, content"
)


class RowSpool:
    """Takes rows and gives them back in the order (sold_at, sale_id, product_id, price, all the rest).

    Raises OSError where the disk is full.
    """

    def __init__(self) -> None:
        self._database = TemporaryDatabase("the temporary file of the source's rows", _TABLE)
        self._rows = 0
        self._sum = 0

    def close(self) -> None:
        """Let go of the rows."""
        self._database.close()

    def add(self, row: SourceRow) -> None:
        """Take one row; a `sold_at` that is no aware instant counts as none."""
        content = json.dumps([[name, *_tagged(value)] for name, value in row.items()], default=str)
        at, price = row.get("sold_at"), row.get("sold_price")
        key = (
            _instant_text(at),
            _text_key(row.get("sale_id")),
            _text_key(row.get("product_id")),
            float(price) if isinstance(price, int | Decimal) else None,
            content,
        )
        with self._database.working() as database:
            database.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", key)
        self._rows += 1
        self._sum += int.from_bytes(sha256(content.encode()).digest()[:16])

    @property
    def fingerprint(self) -> SourceFingerprint:
        """Count and checksum of the rows taken: a sum has no order and counts a doubled row twice."""
        return SourceFingerprint(self._rows, f"{self._sum % 2**128:032x}")

    def blocks(self) -> Iterator[list[SourceRow]]:
        """Yield the rows in order, BATCH_ROWS at a time."""
        with self._database.working() as database:
            cursor = database.execute(_ORDER)  # sorts on the same disk
        while found := self._fetched(cursor):
            yield [{name: _untagged(tag, value) for name, tag, value in json.loads(text)} for (text,) in found]

    def _fetched(self, cursor: Cursor) -> list[tuple[str]]:
        with self._database.working():
            return cursor.fetchmany(BATCH_ROWS)


def _instant_text(value: object) -> str | None:
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value.isoformat(timespec="microseconds")
    return None


def _text_key(value: object) -> bytes | None:
    return None if value is None else str(value).encode("utf-8", "surrogatepass")


def _tagged(value: object) -> tuple[str, object]:
    if isinstance(value, Decimal):
        return "decimal", str(value)
    if isinstance(value, datetime):
        return "instant", value.isoformat(timespec="microseconds")
    return "json", value


def _untagged(tag: str, value: object) -> object:
    if tag == "decimal":
        return Decimal(str(value))
    return datetime.fromisoformat(str(value)) if tag == "instant" else value
