"""Rows that did not become sales: one Parquet file a day, with the reason and the whole original row.

Each run of a day replaces the day's file, so that it always speaks of the newest reading of the source. Replay is
to materialise the day again once the cause is gone; `flows.export.replay` compares the quarantine before and after.
"""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import date
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from salesintel_dagster.domain.columns import QUARANTINE_SCHEMA
from salesintel_dagster.domain.errors import ObjectMissing
from salesintel_dagster.domain.ports import ObjectStore
from salesintel_dagster.domain.sale import Rejection, SourceRow
from salesintel_dagster.flows.export.staging import PARQUET_TYPE

CONFLICT = "CONFLICT"
"""The code of a row whose sale id came before with another content."""
MAX_BATCH_ROWS = 1_000
MAX_BATCH_CHARACTERS = 4_000_000
"""Entries wait in memory up to here; a hostile source may send rows of a megabyte each."""
_ORJSON_INTEGER_BITS = 63
MAX_DEPTH = 100
"""Of arrays and objects within each other. An API's page may have 900, and `orjson` writes 254."""
TOO_DEEP = "nested too deep to be kept"


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One row and the first rule that it breaks. `value` is bounded; `row_json` is the row, whole."""

    code: str
    field: str
    value: str
    rule: str
    row_json: str

    @classmethod
    def of(cls, rejection: Rejection, row: SourceRow) -> QuarantineEntry:
        """Return the entry of a rejected source row."""
        return cls(rejection.code, rejection.field, rejection.value, rejection.rule, canonical_json(row))

    @property
    def sale_id(self) -> str:
        """The row's own sale id, the generated one of a conflict, or nothing."""
        own = str(orjson.loads(self.row_json).get("sale_id") or "").strip()
        return own or (self.value if self.code == CONFLICT else "")


def canonical_json(row: SourceRow) -> str:
    """Return the row as JSON with sorted keys. What JSON lacks (decimals, instants, bytes, NaN) becomes text."""
    return orjson.dumps(_plain(dict(row), MAX_DEPTH), default=_text, option=orjson.OPT_SORT_KEYS).decode()


def _plain(value: object, levels: int) -> object:
    """Turn into text what orjson refuses (lone surrogates, 65-bit integers) or loses (NaN becomes null)."""
    if isinstance(value, dict | list | tuple):
        return _plain_parts(value, levels - 1) if levels else TOO_DEEP
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, int) and value.bit_length() > _ORJSON_INTEGER_BITS:
        return hex(value)
    return value


def _plain_parts(whole: dict[object, object] | list[object] | tuple[object, ...], levels: int) -> object:
    if isinstance(whole, dict):
        return {_unicode(str(key)): _plain(inner, levels) for key, inner in whole.items()}
    return [_plain(inner, levels) for inner in whole]


def _unicode(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "base64:" + base64.b64encode(value).decode()
    return str(value)


class QuarantineWriter:
    """A day's entries on their way to the store; nothing is replaced before `publish`."""

    def __init__(self, store: ObjectStore, key: str, path: Path) -> None:
        self._store = store
        self._key = key
        self._path = path
        self._parquet = pq.ParquetWriter(path, QUARANTINE_SCHEMA, compression="zstd")
        self._waiting: list[QuarantineEntry] = []
        self._characters = 0

    def add(self, entry: QuarantineEntry) -> None:
        """Take one entry."""
        self._waiting.append(entry)
        self._characters += len(entry.row_json)
        if len(self._waiting) >= MAX_BATCH_ROWS or self._characters >= MAX_BATCH_CHARACTERS:
            self._flush()

    def publish(self) -> None:
        """Replace the day's file by the entries taken, in one put. Raises StoreUnavailable."""
        self._flush()
        self._parquet.close()
        self._store.put(self._key, self._path, PARQUET_TYPE)

    def close(self) -> None:
        """Let go of the local file, published or not."""
        self._parquet.close()

    def _flush(self) -> None:
        if self._waiting:
            columns = zip(*(astuple(entry) for entry in self._waiting), strict=True)
            arrays = [pa.array(column, pa.string()) for column in columns]
            self._parquet.write_batch(pa.RecordBatch.from_arrays(arrays, schema=QUARANTINE_SCHEMA))
            self._waiting.clear()
            self._characters = 0


class DayEntries:
    """The entries of one day; each iteration streams them anew, in the order of the source."""

    def __init__(self, parquet: pq.ParquetFile | None) -> None:
        self._parquet = parquet

    def __len__(self) -> int:
        """Count them without reading one."""
        return 0 if self._parquet is None else self._parquet.metadata.num_rows

    def __iter__(self) -> Iterator[QuarantineEntry]:
        """Stream them."""
        if self._parquet is not None:
            # Not `iter_batches`: its batches span row groups, so that 600 rows of 600 KB took 950 MB, not 105.
            for group in range(self._parquet.num_row_groups):
                for row in self._parquet.read_row_group(group).to_pylist():
                    yield QuarantineEntry(**row)


class Quarantine:
    """The quarantined rows of one source, by day."""

    def __init__(self, store: ObjectStore, source_system: str) -> None:
        self._store = store
        self._prefix = f"quarantine/{source_system}/"

    def key(self, day: date) -> str:
        """Return the object key of a day's file."""
        return f"{self._prefix}{day.isoformat()}.parquet"

    @contextmanager
    def writer(self, day: date) -> Iterator[QuarantineWriter]:
        """Open a new file for `day`; what was stored before stays until `publish`."""
        with tempfile.TemporaryDirectory(prefix="salesintel-") as folder:
            writer = QuarantineWriter(self._store, self.key(day), Path(folder) / "quarantine.parquet")
            try:
                yield writer
            finally:
                writer.close()

    def write(self, day: date, entries: Iterable[QuarantineEntry]) -> None:
        """Replace the day's entries, streaming. Raises StoreUnavailable."""
        with self.writer(day) as writer:
            for entry in entries:
                writer.add(entry)
            writer.publish()

    def read(self, day: date) -> Iterator[QuarantineEntry]:
        """Stream the day's entries in the order of the source; none where the day was never read."""
        with self.kept(day) as entries:
            yield from entries

    @contextmanager
    def kept(self, day: date) -> Iterator[DayEntries]:
        """Fetch the day's entries as they are now, to be gone through as often as is wanted."""
        with self._open(self.key(day)) as parquet:
            yield DayEntries(parquet)

    def days(self) -> list[tuple[date, int]]:
        """Return (day, number of entries) of every day that has some, oldest first; reads one footer a day."""
        found = []
        for key in self._store.keys(self._prefix):
            with self._open(key) as parquet:
                if parquet is not None and parquet.metadata.num_rows:
                    found.append((date.fromisoformat(key.removeprefix(self._prefix)[:10]), parquet.metadata.num_rows))
        return sorted(found)

    @contextmanager
    def _open(self, key: str) -> Iterator[pq.ParquetFile | None]:
        with tempfile.TemporaryDirectory(prefix="salesintel-") as folder:
            path = Path(folder) / "quarantine.parquet"
            try:
                self._store.download(key, path)
            except ObjectMissing:
                yield None
                return
            with pq.ParquetFile(path) as parquet:
                yield parquet
