from __future__ import annotations

import json
from datetime import date

import pytest

from salesintel_dagster.commands.quarantine import _show_replayed, _show_replayed_as_json
from salesintel_dagster.commands.runs import RunOutcome
from salesintel_dagster.flows.export.quarantine import Quarantine
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.quarantined import entry

BEFORE, AFTER = date(2026, 11, 3), date(2026, 11, 4)
"""Two days stand for one day's quarantine before and after."""


def test_the_answer_is_one_json_object_or_a_line_a_row(capsys: pytest.CaptureFixture[str]):
    quarantine = Quarantine(InMemoryObjectStore(), "smartgo")
    quarantine.write(BEFORE, [entry(1), entry(2)])
    quarantine.write(AFTER, [entry(2), entry(3)])
    outcome = RunOutcome("run-1", 1, success=True, failure=None, failed_checks=(), wrote=True)
    with quarantine.kept(BEFORE) as before, quarantine.kept(AFTER) as after:
        _show_replayed_as_json(BEFORE, outcome, before, after)
        answer = json.loads(capsys.readouterr().out)
        _show_replayed(BEFORE, outcome, before, after)
    assert {name: answer[name] for name in ("day", "applied", "run_id", "failure")} == {
        "day": "2026-11-03",
        "applied": True,
        "run_id": "run-1",
        "failure": None,
    }
    assert {name: [row["sale_id"] for row in answer[name]] for name in ("left", "stay", "new")} == {
        "left": ["S-000001"],
        "stay": ["S-000002"],
        "new": ["S-000003"],
    }
    first, stays, new = capsys.readouterr().out.splitlines()
    assert first == "2026-11-03: 1 row left the quarantine, 1 stay, 1 are new"
    assert stays.startswith("  stays: S-000002  PRICE_MISSING")
    assert new.startswith("  new: S-000003")
