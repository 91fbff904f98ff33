"""What a day must know of each of its sales or images, on this machine's disk: memory stays at a few MB for any day."""

from __future__ import annotations

from salesintel_dagster.flows.temporary_database import TemporaryDatabase

_TABLE = "CREATE TABLE kept (name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


class DayIndex:
    """Bytes by a key of bytes. Any thread may call, one at a time: the caller holds the lock. Raises OSError."""

    def __init__(self) -> None:
        self._database = TemporaryDatabase("the day's temporary index", _TABLE)

    def close(self) -> None:
        """Give disk and memory back; what was kept is gone. May be called again."""
        self._database.close()

    def get(self, name: bytes) -> bytes | None:
        """Return what is kept under the name."""
        with self._database.working() as database:
            row = database.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def put(self, name: bytes, value: bytes) -> None:
        """Keep the value under the name, in place of what was there."""
        with self._database.working() as database:
            database.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))

    def add(self, name: bytes, value: bytes = b"") -> bool:
        """Keep the value under a name that is new; return False, and change nothing, where it is known."""
        with self._database.working() as database:
            return database.execute("INSERT OR IGNORE INTO kept VALUES (?, ?)", (name, value)).rowcount == 1


def index_name(*parts: str) -> bytes:
    """Return the key of texts that belong together: different texts never give the same one."""
    texts = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(text).to_bytes(4) + text for text in texts)
