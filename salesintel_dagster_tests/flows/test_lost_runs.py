"""A21: what becomes of the progress of a run that died."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.progress import Progress, RunState
from salesintel_dagster.flows.export.lost_runs import QUIET, lose_dead_runs
from salesintel_dagster_tests.fakes.progress import InMemoryProgressLedger

DAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
MAX_RUN = timedelta(hours=4)


def progress(run_id: str, silent: timedelta, state: RunState = RunState.RUNNING) -> Progress:
    return Progress(DAY, run_id, NOW - silent, NOW - silent, state, "product_images")


def lose(ledger: InMemoryProgressLedger, *alive: str) -> list[str]:
    return [lost.run_id for lost in lose_dead_runs(ledger, [DAY], alive.__contains__, NOW, MAX_RUN)]


def states(ledger: InMemoryProgressLedger) -> dict[str, RunState]:
    return {record.run_id: record.state for record in ledger.history(DAY)}


def test_a_run_that_is_gone_is_lost_and_one_that_lives_is_not():
    """A21"""
    ledger = InMemoryProgressLedger()
    ledger.record(progress("dead", timedelta(hours=2)))
    ledger.record(progress("alive", timedelta(hours=1)))
    assert lose(ledger, "alive") == ["dead"]
    assert states(ledger) == {"dead": RunState.LOST, "alive": RunState.RUNNING}
    assert lose(ledger, "alive") == []


def test_an_ended_record_is_left_as_it_is():
    ledger = InMemoryProgressLedger()
    for state in (RunState.SUCCEEDED, RunState.FAILED, RunState.LOST):
        ledger.record(progress(state.value, timedelta(days=1), state))
    assert lose(ledger) == []


def test_a_record_that_was_written_a_moment_ago_is_left():
    """The run may be of another instance, which this one does not know."""
    ledger = InMemoryProgressLedger()
    ledger.record(progress("elsewhere", QUIET - timedelta(seconds=1)))
    assert lose(ledger) == []


def test_a_run_that_says_nothing_for_longer_than_any_run_may_last_is_lost_whatever_the_instance_says():
    """A21"""
    ledger = InMemoryProgressLedger()
    ledger.record(progress("stuck", MAX_RUN + timedelta(seconds=1)))
    assert lose(ledger, "stuck") == ["stuck"]


def test_a_ledger_that_is_down_says_so():
    with pytest.raises(ProgressUnavailable):
        lose(InMemoryProgressLedger(down=True))
