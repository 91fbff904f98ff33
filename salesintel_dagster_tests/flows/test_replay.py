from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterable
from datetime import date

import pytest

from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.flows.export.quarantine import MAX_BATCH_CHARACTERS, Quarantine, QuarantineEntry
from salesintel_dagster.flows.export.replay import Fate, replayed
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.quarantined import entry

BEFORE, AFTER = date(2026, 11, 3), date(2026, 11, 4)
"""Two days stand for one day's quarantine before and after."""
NO_NUMBER = Rejection("PRICE_INVALID", "sold_price", "'x'", "a price is a decimal number")


def told(before: Iterable[QuarantineEntry], after: Iterable[QuarantineEntry]) -> dict[Fate, list[QuarantineEntry]]:
    found: dict[Fate, list[QuarantineEntry]] = {fate: [] for fate in Fate}
    for fate, one in replayed(before, after):
        found[fate].append(one)
    return found


def test_a_replay_tells_who_left_who_stays_as_it_is_now_and_who_is_new():
    before = [entry(1), entry(2), entry(3)]
    after = [entry(2, NO_NUMBER, sold_price="x"), entry(4)]
    assert told(before, after) == {
        Fate.LEFT: [before[0], before[2]],
        Fate.STAYS: [after[0]],
        Fate.NEW: [after[1]],
    }


def test_rows_of_one_id_or_of_none_are_told_apart_by_number_and_by_content():
    twice = [entry(1, sold_price=1), entry(1, sold_price=2)]
    nameless = [entry(9, sale_id=None, brand="a"), entry(9, sale_id=None, brand="b")]
    found = told([*twice, *nameless], [twice[0], nameless[1]])
    assert len(found[Fate.LEFT]) == 2
    assert nameless[0] in found[Fate.LEFT]
    assert found[Fate.STAYS] == [twice[0], nameless[1]]
    assert found[Fate.NEW] == []


def test_the_same_sale_id_of_two_tenants_is_two_rows():
    ours, theirs = entry(1), entry(1, tenant_id="other")
    for before in ([ours, theirs], [theirs, ours]):  # rows of one identity leave in the order of `before`
        assert told(before, [theirs])[Fate.LEFT] == [ours]


@pytest.mark.long
def test_rows_of_a_megabyte_are_compared_a_few_at_a_time():
    quarantine = Quarantine(InMemoryObjectStore(), "smartgo")
    rows = MAX_BATCH_CHARACTERS // 1_000_000 * 10
    for day, first in ((BEFORE, 0), (AFTER, rows // 2)):
        quarantine.write(day, (entry(n, brand=f"{n:07}" * 150_000) for n in range(first, first + rows)))
    tracemalloc.start()
    try:
        with quarantine.kept(BEFORE) as before, quarantine.kept(AFTER) as after:
            number = Counter(fate for fate, _ in replayed(before, after))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert number == {Fate.LEFT: rows // 2, Fate.STAYS: rows // 2, Fate.NEW: rows // 2}
    assert peak < 6 * MAX_BATCH_CHARACTERS  # 19 MB; 90 MB when both days were listed
