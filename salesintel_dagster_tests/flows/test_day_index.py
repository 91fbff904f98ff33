"""What a day keeps on disk: first come stays, any bytes, many threads in turn, and little memory."""

from __future__ import annotations

import errno
import threading
from contextlib import closing

import pytest

from salesintel_dagster.flows.export.day_index import DayIndex, index_name


def test_a_name_is_new_once():
    with closing(DayIndex()) as index:
        assert (index.add(b"", b"\0first"), index.add(b"", b"second"), index.get(b"")) == (True, False, b"\0first")
        index.put(b"", b"third")
        assert (index.get(b""), index.get(b"\0")) == (b"third", None)


def test_names_of_other_texts_differ():
    assert (
        len({index_name(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("\udc80", "c"))}) == 5
    )


def test_another_thread_finds_what_one_has_kept():
    found: list[bytes | None] = []
    with closing(DayIndex()) as index:
        index.put(b"name", b"value")
        other = threading.Thread(target=lambda: found.append(index.get(b"name")))
        other.start()
        other.join()
    assert found == [b"value"]


def test_a_full_disk_is_this_machines_error():
    """J9: the day fails by it, with words of its own for the one who is on call."""
    with closing(DayIndex()) as index:
        index._database.connection.execute("PRAGMA max_page_count = 4")
        with pytest.raises(OSError, match="the day's temporary index") as caught:
            index.put(b"", bytes(100_000))
    assert caught.value.errno == errno.ENOSPC
