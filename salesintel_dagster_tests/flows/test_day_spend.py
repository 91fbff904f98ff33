"""The budget that all runs of a day share, on the ledger in memory."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.day_spend import BLOCK_CALLS, DaySpend
from salesintel_dagster.flows.export.embeddings import CallBudget, EmbeddingLimits
from salesintel_dagster.flows.export.run import UNAVAILABLE_SECONDS
from salesintel_dagster_tests.fakes.export_parts import ALL_CHECKS, ALL_STAGES, FakeExport, export_rules
from salesintel_dagster_tests.fakes.spend import InMemorySpendLedger

TODAY = date(2026, 11, 21)
PRICE = Decimal("0.00006")


class HandClock:
    """`shift` moves it."""

    def __init__(self) -> None:
        self.shift = timedelta()

    @property
    def clock(self) -> Clock:
        began = datetime(2026, 11, 21, 23, tzinfo=UTC)
        return Clock(lambda: began + self.shift, lambda: self.shift / timedelta(seconds=1), lambda _: None, lambda: 0.5)


@pytest.fixture
def ledger() -> InMemorySpendLedger:
    return InMemorySpendLedger()


@pytest.fixture
def hand() -> HandClock:
    return HandClock()


def day_of(calls: int, ledger: InMemorySpendLedger, hand: HandClock) -> DaySpend:
    return DaySpend(ledger, PRICE, calls * PRICE, hand.clock)


def taken(budget: CallBudget | DaySpend, tries: int) -> int:
    return sum(budget.take() for _ in range(tries))


@pytest.mark.parametrize("calls", [0, 1, 99, 100, 101, 257])
def test_a_day_gives_out_exactly_what_its_budget_buys(calls: int, ledger: InMemorySpendLedger, hand: HandClock):
    """C7"""
    day = day_of(calls, ledger, hand)
    assert taken(day, calls + 50) == calls
    assert day.used_up
    assert ledger.by_day.get(TODAY, Decimal(0)) == calls * PRICE
    assert ledger.asked < 30, "a block at a time, and nothing is asked once it is used up"


def test_what_was_reserved_and_not_spent_is_given_back(ledger: InMemorySpendLedger, hand: HandClock):
    budget = CallBudget(1_000, day_of(5_000, ledger, hand))
    assert taken(budget, 130) == 130
    budget.give_back()
    assert ledger.by_day == {TODAY: 2 * BLOCK_CALLS * PRICE}
    budget.settle()
    assert ledger.by_day == {TODAY: 129 * PRICE}


def test_the_spend_of_earlier_processes_counts(ledger: InMemorySpendLedger, hand: HandClock):
    """C7: the day's spend survives the process."""
    for calls in (40, 40, 20, 0):
        budget = CallBudget(40, day_of(100, ledger, hand))
        assert taken(budget, 60) == calls
        budget.settle()


def test_two_runs_at_once_share_the_day(ledger: InMemorySpendLedger, hand: HandClock):
    budgets = [CallBudget(10_000, day_of(1_000, ledger, hand)) for _ in range(2)]
    found: list[int] = []
    workers = [
        threading.Thread(target=lambda budget=budget: found.append(taken(budget, 400)))
        for budget in budgets
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(found) == 1_000
    assert ledger.by_day == {TODAY: 1_000 * PRICE}


def test_the_run_s_own_limit_holds_below_the_day_s_and_says_whose_it_was(ledger: InMemorySpendLedger, hand: HandClock):
    run_is_less = CallBudget(5, day_of(100, ledger, hand))
    assert (taken(run_is_less, 20), run_is_less.left, run_is_less.spent_by) == (5, 0, "the run's")
    run_is_less.settle()
    day_is_less = CallBudget(100, day_of(8, ledger, hand))
    assert (taken(day_is_less, 20), day_is_less.left, day_is_less.spent_by) == (3, 0, "the day's")


def test_the_next_day_has_its_own_budget(ledger: InMemorySpendLedger, hand: HandClock):
    day = day_of(10, ledger, hand)
    assert taken(day, 20) == 10
    hand.shift = timedelta(hours=1)
    assert not day.used_up
    assert taken(day, 20) == 10
    assert ledger.by_day == {TODAY: 10 * PRICE, TODAY + timedelta(days=1): 10 * PRICE}


def test_what_is_held_at_midnight_goes_back_to_its_own_day(ledger: InMemorySpendLedger, hand: HandClock):
    day = day_of(1_000, ledger, hand)
    taken(day, 30)
    hand.shift = timedelta(hours=1)
    taken(day, 5)
    day.settle()
    assert ledger.by_day == {TODAY: 30 * PRICE, TODAY + timedelta(days=1): 5 * PRICE}


def test_a_ledger_that_is_down_leaves_the_run_s_limit_and_costs_one_try_a_minute(
    ledger: InMemorySpendLedger, hand: HandClock
):
    ledger.down = True
    budget = CallBudget(500, day_of(1_000, ledger, hand))
    assert taken(budget, 600) == 500
    assert (ledger.asked, budget.unavailable) == (1, "the progress table is down")


def test_what_was_spent_meanwhile_is_told_when_the_ledger_is_back(ledger: InMemorySpendLedger, hand: HandClock):
    ledger.down = True
    budget = CallBudget(5_000, day_of(1_000, ledger, hand))
    taken(budget, 700)
    ledger.down = False
    hand.shift = timedelta(seconds=UNAVAILABLE_SECONDS)
    assert taken(budget, 700) == 300
    assert (ledger.by_day, budget.unavailable) == ({TODAY: 1_000 * PRICE}, None)


def test_a_ledger_that_comes_back_at_the_end_is_told_then(ledger: InMemorySpendLedger, hand: HandClock):
    ledger.down = True
    budget = CallBudget(5_000, day_of(1_000, ledger, hand))
    taken(budget, 7)
    ledger.down = False
    budget.settle()
    assert ledger.by_day == {TODAY: 7 * PRICE}


class TestAnExport:
    def rules(self, world: FakeExport, hand: HandClock, *, run: int, day: int) -> object:
        budget = CallBudget(run, day_of(day, world.spend, hand))
        return export_rules(embeddings=EmbeddingLimits(2, budget, RetryPolicy()))

    def test_the_day_s_budget_holds_over_runs_and_is_told(self, hand: HandClock):
        """C7"""
        world = FakeExport()
        world.sell(TODAY, 10)
        for spent in (6, 8, 8):
            list(
                world.backfill(self.rules(world, hand, run=6, day=8), clock=hand.clock).run(
                    [TODAY], ALL_STAGES, ALL_CHECKS
                )
            )
            assert len(world.embedder.calls) == spent
            assert world.spend.by_day == {TODAY: spent * PRICE}
        reasons = {row["embedding_error"] for row in world.rows_of(TODAY)} - {None}
        assert reasons == {"the day's budget of paid calls is used up"}

    def test_what_a_run_reserved_and_did_not_spend_is_given_back_at_its_end(self, hand: HandClock):
        world = FakeExport()
        world.sell(TODAY, 10)
        rules = self.rules(world, hand, run=1_000, day=1_000)
        list(world.backfill(rules, clock=hand.clock).run([TODAY], ALL_STAGES, ALL_CHECKS))
        assert world.spend.by_day == {TODAY: 10 * PRICE}

    def test_a_ledger_that_is_down_fails_no_export_and_is_one_warning(self, hand: HandClock):
        world = FakeExport()
        world.sell(TODAY, 10)
        world.spend.down = True
        list(
            world.backfill(self.rules(world, hand, run=6, day=8), clock=hand.clock).run([TODAY], ALL_STAGES, ALL_CHECKS)
        )
        assert (len(world.embedder.calls), len(world.rows_of(TODAY))) == (6, 10)
        assert [line for line in world.said if "spend" in line] == [
            "[SmartGoExporter] the day's spend was not recorded, the run's own budget held: the progress table is down"
        ]
