from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from salesintel_dagster.domain.errors import ObjectMissing
from salesintel_dagster.flows.export.staging import HeldDays, StagedDays
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore

DAY = date(2026, 11, 20)
SCHEMA = pa.schema([pa.field("n", pa.int64(), nullable=False)])


def _batch(*numbers: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(numbers, pa.int64())], schema=SCHEMA)


def test_batches_come_back_as_they_were_written():
    staged = StagedDays(InMemoryObjectStore(), "smartgo")
    written = staged.write("raw", DAY, SCHEMA, iter([_batch(1, 2, 3), _batch(4, 5), _batch(6)]))
    assert written.rows == 6
    with staged.batches("raw", DAY) as batches:
        assert [batch["n"].to_pylist() for batch in batches] == [[1, 2, 3], [4, 5], [6]]


def test_a_day_without_rows_is_staged_and_differs_from_a_day_never_staged():
    staged = StagedDays(InMemoryObjectStore(), "smartgo")
    staged.write("raw", DAY, SCHEMA, [])
    with staged.batches("raw", DAY) as batches:
        assert list(batches) == []
    with pytest.raises(ObjectMissing, match="materialise images for 2026-11-20 first"), staged.batches("images", DAY):
        pass


def test_a_stage_that_dies_while_it_writes_leaves_what_was_there():
    staged = StagedDays(InMemoryObjectStore(), "smartgo")
    staged.write("raw", DAY, SCHEMA, [_batch(1)])

    def dying() -> Iterator[pa.RecordBatch]:
        yield _batch(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        staged.write("raw", DAY, SCHEMA, dying())
    with staged.batches("raw", DAY) as batches:
        assert [batch["n"].to_pylist() for batch in batches] == [[1]]


class _CountingStore(InMemoryObjectStore):
    def __init__(self) -> None:
        super().__init__()
        self.downloads = 0

    def download(self, key: str, path: Path) -> None:
        super().download(key, path)
        self.downloads += 1


def _read(staged: StagedDays) -> list[int]:
    with staged.batches("raw", DAY) as batches:
        return [n for batch in batches for n in batch["n"].to_pylist()]


def test_a_held_file_is_downloaded_once_and_again_after_it_was_written_or_let_go(tmp_path: Path):
    store = _CountingStore()
    ours, theirs = HeldDays(store, "smartgo", tmp_path), StagedDays(store, "smartgo")
    with pytest.raises(ObjectMissing):
        _read(ours)
    theirs.write("raw", DAY, SCHEMA, [_batch(1)])
    assert [_read(ours), _read(ours), store.downloads] == [[1], [1], 1]
    theirs.write("raw", DAY, SCHEMA, [_batch(2)])
    assert [_read(ours), store.downloads] == [[1], 1]
    ours.let_go()
    assert [_read(ours), _read(ours), store.downloads] == [[2], [2], 2]
    with ours.batches("raw", DAY) as before:
        ours.write("raw", DAY, SCHEMA, [_batch(3)])
        assert [batch["n"].to_pylist() for batch in before] == [[2]]
    assert [_read(ours), store.downloads] == [[3], 3]
    assert len(list(tmp_path.iterdir())) == 1


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self._marker,)


def test_a_hostile_pickle_in_the_bucket_is_refused_and_runs_nothing(tmp_path: Path):
    """I10"""
    store = InMemoryObjectStore()
    staged = StagedDays(store, "smartgo")
    store.put(staged.key("raw", DAY), pickle.dumps(_Bomb(tmp_path / "ran")), "application/octet-stream")
    with pytest.raises(pa.ArrowInvalid), staged.batches("raw", DAY) as batches:
        list(batches)
    assert not (tmp_path / "ran").exists()
