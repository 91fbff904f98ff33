from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from salesintel_dagster.commands.runs import FailedCheck, RunOutcome, _check_days, tell_checks
from salesintel_dagster.commands.session import Session
from salesintel_dagster.settings import Settings

TODAY = datetime.now(UTC).date()


@pytest.mark.parametrize(
    "first_day,words",
    [
        ("2024-01-01", f"days from 2024-01-01 to {TODAY - timedelta(days=1)} can be exported"),
        ("2999-01-01", "no day from then on has ended yet"),
    ],
)
def test_a_day_that_is_no_partition_is_told_with_those_that_are(first_day: str, words: str):
    with pytest.raises(click.BadParameter) as refused:
        _check_days(Session(Settings(first_day=first_day)), [TODAY])
    assert str(refused.value) == (
        f"{TODAY} is no partition: the first day is {first_day} (SALESINTEL_FIRST_DAY); {words}"
    )


def test_checks_that_did_not_pass_are_told_up_to_a_bound(capsys: pytest.CaptureFixture[str]):
    checks = tuple(FailedCheck(f"2026-11-{n:02}", "WARN", blocking=False, verdict="a.b: found 1") for n in range(1, 22))
    passed = RunOutcome("run-0", 1, success=True, failure=None, failed_checks=(), wrote=True)
    tell_checks([passed])
    assert capsys.readouterr().out == ""
    tell_checks([passed, RunOutcome("run-1", 21, success=True, failure=None, failed_checks=checks, wrote=True)])
    *told, rest = capsys.readouterr().out.splitlines()
    assert told == [f"check: 2026-11-{n:02} WARN a.b: found 1" for n in range(1, 21)]
    assert rest == "check: 1 more did not pass; `salesintel status DATE` names a day's"
