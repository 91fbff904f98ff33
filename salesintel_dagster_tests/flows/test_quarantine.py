from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from uuid import UUID

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.columns import QUARANTINE_SCHEMA
from salesintel_dagster.domain.errors import StoreUnavailable
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.flows.export.quarantine import (
    CONFLICT,
    MAX_BATCH_CHARACTERS,
    MAX_BATCH_ROWS,
    MAX_DEPTH,
    TOO_DEEP,
    Quarantine,
    QuarantineEntry,
    canonical_json,
)
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.quarantined import entry

DAY = date(2026, 11, 3)


def test_entries_come_back_whole_and_in_order():
    quarantine = Quarantine(InMemoryObjectStore(), "smartgo")
    entries = [entry(number) for number in range(MAX_BATCH_ROWS * 2 + 1)]
    quarantine.write(DAY, iter(entries))
    assert list(quarantine.read(DAY)) == entries


@pytest.mark.long
def test_rows_of_a_megabyte_are_read_a_few_at_a_time():
    quarantine = Quarantine(InMemoryObjectStore(), "smartgo")
    rows = MAX_BATCH_CHARACTERS // 1_000_000 * 5
    quarantine.write(DAY, (entry(number, brand=f"{number:07}" * 150_000) for number in range(rows)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in quarantine.read(DAY)) == rows
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * MAX_BATCH_CHARACTERS  # 22 MB of strings when all came in one batch


def test_a_day_never_read_has_no_entries():
    quarantine = Quarantine(InMemoryObjectStore(), "smartgo")
    assert list(quarantine.read(DAY)) == []
    assert quarantine.days() == []


def test_each_run_replaces_the_days_entries():
    quarantine = Quarantine(InMemoryObjectStore(), "smartgo")
    quarantine.write(DAY, [entry(1), entry(2)])
    quarantine.write(DAY, [entry(2)])
    assert [entry.sale_id for entry in quarantine.read(DAY)] == ["S-000002"]


def test_days_lists_only_days_that_have_entries_with_their_counts():
    store = InMemoryObjectStore()
    quarantine, other = Quarantine(store, "smartgo"), Quarantine(store, "smartgo2")
    quarantine.write(date(2026, 11, 4), [entry(1)])
    quarantine.write(DAY, [entry(1), entry(2)])
    quarantine.write(date(2026, 11, 5), [])
    other.write(date(2026, 11, 6), [entry(1)])
    assert quarantine.days() == [(DAY, 2), (date(2026, 11, 4), 1)]


def test_nothing_is_replaced_when_the_reading_breaks_off():
    quarantine = Quarantine(InMemoryObjectStore(), "smartgo")
    quarantine.write(DAY, [entry(1)])

    def breaking() -> Iterator[QuarantineEntry]:
        yield entry(2)
        raise StoreUnavailable("down")

    with pytest.raises(StoreUnavailable):
        quarantine.write(DAY, breaking())
    assert [entry.sale_id for entry in quarantine.read(DAY)] == ["S-000001"]


def test_many_entries_and_large_ones_are_written_in_bounded_batches():
    store = InMemoryObjectStore()
    quarantine = Quarantine(store, "smartgo")
    quarantine.write(DAY, (entry(number, brand="b" * 1_500_000) for number in range(7)))
    with pq.ParquetFile(BytesIO(store.objects[quarantine.key(DAY)])) as parquet:
        assert parquet.schema_arrow.equals(QUARANTINE_SCHEMA)
        assert [parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)] == [3, 3, 1]


def test_an_entry_keeps_the_whole_row_whatever_it_holds():
    row = {
        "decimal": Decimal("19.999"),
        "instant": datetime(2026, 11, 3, 12, tzinfo=timezone(timedelta(hours=13))),
        "bytes": b"\x00\xff",
        "nan": float("nan"),
        "infinity": [float("inf")],
        "large": 2**64,
        "surrogate": "a\ud800b",
        "names": {"a\ud800b": 1},
        "uuid": UUID(int=7),
        "none": None,
        "text": "ž\0",
        "true": True,
    }
    assert json.loads(canonical_json(row)) == {
        "decimal": "19.999",
        "instant": "2026-11-03T12:00:00+13:00",
        "bytes": "base64:AP8=",
        "nan": "nan",
        "infinity": ["inf"],
        "large": "0x10000000000000000",
        "surrogate": "a\\ud800b",
        "names": {"a\\ud800b": 1},
        "uuid": "00000000-0000-0000-0000-000000000007",
        "none": None,
        "text": "ž\0",
        "true": True,
    }


def test_a_row_nested_as_deep_as_a_page_of_json_may_be_is_kept_up_to_where_it_can_be():
    """An API's row of 260 arrays within each other ended its day, at each run."""
    deep = json.loads("[" * 600 + "]" * 600)
    text = canonical_json({"sale_id": "S-1", "image_url": deep})
    assert (text.count("["), text.count(TOO_DEEP)) == (MAX_DEPTH - 1, 1)
    assert json.loads(text)["sale_id"] == "S-1"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text()
    | st.binary()
    | st.uuids()
    | st.datetimes(timezones=st.none() | st.just(UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(row=st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_every_row_has_one_canonical_json_that_does_not_depend_on_key_order(row: dict[str, object]):
    text = canonical_json(row)
    assert text == canonical_json(dict(reversed(row.items())))
    assert orjson.loads(text).keys() == row.keys()


def test_a_conflict_names_its_generated_sale_id():
    conflict = Rejection(CONFLICT, "sale_id", "gen-1", "once")
    assert entry(1, conflict, sale_id=None).sale_id == "gen-1"
    assert entry(1, conflict).sale_id == "S-000001"
    assert entry(1, sale_id=" ").sale_id == ""
