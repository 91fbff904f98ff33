"""What a day must know of each of its sales or images, on this machine's disk: memory stays at a few MB for any day.

SQLite's own temporary database: a file without a name, that is gone when it is closed or its process dies.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

CACHE_KIB = 1_024
"""Pages that SQLite holds in memory; the rest lies in its file, and so in the machine's page cache."""

_START = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    f"PRAGMA cache_size = -{CACHE_KIB}",
    "CREATE TABLE kept (name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "BEGIN",
)


class DayIndex:
    """Bytes by a key of bytes. Any thread may call, one at a time: the caller holds the lock. Raises OSError."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in _START:
            self._database.execute(statement)

    def close(self) -> None:
        """Give disk and memory back; what was kept is gone. May be called again."""
        self._database.close()

    def get(self, name: bytes) -> bytes | None:
        """Return what is kept under the name."""
        with _disk_errors():
            row = self._database.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def put(self, name: bytes, value: bytes) -> None:
        """Keep the value under the name, in place of what was there."""
        with _disk_errors():
            self._database.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))

    def add(self, name: bytes, value: bytes = b"") -> bool:
        """Keep the value under a name that is new; return False, and change nothing, where it is known."""
        with _disk_errors():
            return self._database.execute("INSERT OR IGNORE INTO kept VALUES (?, ?)", (name, value)).rowcount == 1


def index_name(*parts: str) -> bytes:
    """Return the key of texts that belong together: different texts never give the same one."""
    texts = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(text).to_bytes(4) + text for text in texts)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """A temporary file's errors are the disk's, whoever writes it."""
    try:
        yield
    except sqlite3.OperationalError as error:
        full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        code = errno.ENOSPC if full else errno.EIO
        raise OSError(code, f"{os.strerror(code)}: the day's temporary index ({error})") from error
