from __future__ import annotations

from salesintel_dagster.flows.enrichment.letters import drop, letters
from salesintel_dagster.flows.sync.redrive import Dropped
from salesintel_dagster_tests.fakes.enrichment import InMemoryJobs
from salesintel_dagster_tests.fakes.message_shelf import InMemoryShelf


def test_a_stray_that_another_one_has_in_hand_by_now_is_not_told_as_dropped():
    shelf = InMemoryShelf()
    for number in range(4):
        shelf.put(f"no batch {number}")
    strays = letters(shelf, InMemoryJobs(), 10).strays
    shelf.in_hand, shelf.stubborn = {"s-2"}, {"s-3"}
    assert drop(shelf, strays[:3], 10) == Dropped(1, ("s-3", "s-2"))
    assert set(shelf.there) == {"s-2", "s-3", "s-4"}
    assert shelf.in_hand == {"s-2"}
