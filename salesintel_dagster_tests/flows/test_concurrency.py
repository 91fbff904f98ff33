"""Slots and budget: what holds paid calls back."""

from __future__ import annotations

import threading

from salesintel_dagster.flows.export.concurrency import CallBudget, Slots


def test_the_limit_begins_at_the_maximum_and_halves_when_throttled():
    slots = Slots(32)
    assert slots.limit == 32
    slots.throttled(slots.call_begins())
    assert slots.limit == 16


def test_calls_that_were_throttled_together_halve_it_once():
    slots = Slots(32)
    began = [slots.call_begins() for _ in range(32)]
    for call in began:
        slots.throttled(call)
    assert slots.limit == 16


def test_the_limit_never_falls_below_one():
    slots = Slots(5)
    for _ in range(20):
        slots.throttled(slots.call_begins())
    assert slots.limit == 1
    with slots:
        pass


def test_a_round_of_good_calls_raises_it_by_one_and_never_above_the_maximum():
    slots = Slots(8)
    slots.throttled(slots.call_begins())
    for _ in range(4):
        slots.succeeded()
    assert slots.limit == 4
    slots.succeeded()
    assert slots.limit == 5
    for _ in range(100):
        slots.succeeded()
    assert slots.limit == 8


def test_no_more_calls_are_under_way_than_the_limit_even_while_it_changes():
    slots, lock = Slots(6), threading.Lock()
    under_way, seen = 0, []

    def call() -> None:
        nonlocal under_way
        for number in range(50):
            with slots:
                with lock:
                    under_way += 1
                    seen.append(under_way)
                if number == 10:
                    slots.throttled(slots.call_begins())
                slots.succeeded()
                with lock:
                    under_way -= 1

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 600
    assert max(seen) <= 6


def test_a_budget_gives_out_what_it_has_and_takes_back_what_was_not_billed():
    """C7"""
    budget = CallBudget(2)
    assert [budget.take(), budget.take(), budget.take()] == [True, True, False]
    budget.give_back()
    assert (budget.left, budget.take(), budget.left) == (1, True, 0)


def test_a_budget_is_never_overdrawn_by_threads():
    """C7"""
    budget = CallBudget(500)
    taken: list[bool] = []

    def take() -> None:
        taken.extend(budget.take() for _ in range(200))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 500
