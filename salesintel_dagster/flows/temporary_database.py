"""SQLite's own temporary database: a file without a name, that is gone when it is closed or its process dies.

What a day must keep and memory must not hold goes there. Its errors are the disk's, whoever writes it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

CACHE_KIB = 1_024
"""Pages that SQLite holds in memory; the rest lies in its file, and so in the machine's page cache."""


class TemporaryDatabase:
    """A database with one table. Any thread may use it, one at a time: the caller holds the lock."""

    def __init__(self, what: str, table: str) -> None:
        """`what` is how an error names it, `table` the statement that makes its table. Raises OSError."""
        self._what = what
        self.connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        pragmas = ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}")
        with self.working() as connection:
            for statement in (*(f"PRAGMA {pragma}" for pragma in pragmas), table, "BEGIN"):
                connection.execute(statement)

    def close(self) -> None:
        """Give disk and memory back; what was kept is gone. May be called again."""
        self.connection.close()

    @contextmanager
    def working(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for a while. Raises OSError: ENOSPC where the disk is full, EIO for all else."""
        try:
            yield self.connection
        except sqlite3.OperationalError as error:
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, f"{os.strerror(code)}: {self._what} ({error})") from error
