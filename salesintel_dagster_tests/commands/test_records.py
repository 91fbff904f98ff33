from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from salesintel_dagster.commands.output import json_text
from salesintel_dagster.commands.records import as_dict, is_silent, newest, show, show_runs
from salesintel_dagster.domain.progress import Progress, RunState
from salesintel_dagster_tests.fakes.progress import InMemoryProgressLedger

DAY = date(2026, 11, 20)
BEGAN = datetime(2026, 11, 21, 3, 0, 5, tzinfo=UTC)
DONE = Progress(
    DAY,
    "run-1-of-2",
    BEGAN,
    BEGAN + timedelta(seconds=4),
    RunState.SUCCEEDED,
    "smartgo_sales",
    sales=143,
    quarantined=1,
    images_ok=139,
    embedded=138,
    paid_calls=135,
    failed={"GONE": 1, "TRUNCATED": 2},
    finished_at=BEGAN + timedelta(seconds=4.26),
)


def test_a_day_is_one_line_with_its_numbers_and_failures_by_reason(capsys: pytest.CaptureFixture[str]):
    show({DAY: DONE, date(2026, 11, 21): None})
    header, line, missing = capsys.readouterr().out.splitlines()
    assert (
        header.split()
        == "partition state sales images embedded quarantined seconds paid calls failed by reason".split()
    )
    assert line.split() == "2026-11-20 SUCCEEDED 143 139 138 1 4.3 135 GONE 1, TRUNCATED 2".split()
    assert missing == "2026-11-21  not exported"


def test_runs_of_one_day_are_told_apart(capsys: pytest.CaptureFixture[str]):
    show_runs([replace(DONE, run_id="other-run"), DONE])
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert "2026-11-21 03:00:05  other-ru  SUCCEEDED" in first
    assert "2026-11-21 03:00:05  run-1-of  SUCCEEDED" in second


def test_a_running_day_tells_its_stage_and_a_silent_one_how_long(capsys: pytest.CaptureFixture[str]):
    now = datetime.now(UTC)
    running = replace(DONE, state=RunState.RUNNING, stage="product_images", updated_at=now, finished_at=None)
    show({DAY: running, date(2026, 11, 21): replace(running, updated_at=now - timedelta(minutes=47))})
    _, speaking, silent = capsys.readouterr().out.splitlines()
    assert "RUNNING product_images " in speaking
    assert "RUNNING product_images, silent for 47 min" in silent


def test_a_running_record_is_silent_after_two_minutes_and_an_ended_one_never():
    """A21"""
    running = replace(DONE, state=RunState.RUNNING, finished_at=None)
    assert not is_silent(running, running.updated_at + timedelta(seconds=120))
    assert is_silent(running, running.updated_at + timedelta(seconds=121))
    assert not is_silent(DONE, DONE.updated_at + timedelta(days=1))


def test_a_record_is_json_with_its_seconds():
    assert '"seconds":4.26' in json_text(as_dict(DAY, DONE))
    assert json_text(as_dict(DAY, None)) == '{"day":"2026-11-20","run_id":null,"state":null}'


def test_a_ledger_that_is_down_costs_a_warning(capsys: pytest.CaptureFixture[str]):
    """A20"""
    assert newest(InMemoryProgressLedger(down=True), [DAY]) == {}
    assert "cannot be shown: the progress table is down" in capsys.readouterr().err
