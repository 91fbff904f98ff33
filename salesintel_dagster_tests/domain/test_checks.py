from __future__ import annotations

import pytest

from salesintel_dagster.domain.checks import MAX_OFFENDERS_NAMED, Promise, Severity, Verdict, share_verdict, verdict

PROMISE = Promise("ids_are_unique", "smartgo_sales_raw", "Each id once.")


def share(part: int, whole: int) -> Verdict:
    return share_verdict(PROMISE, part=part, whole=whole, warn_share=0.05, error_share=0.5)


def test_a_promise_that_nobody_breaks_is_kept():
    kept = verdict(PROMISE, expected="each id once", found="0 repeated", offenders=[])
    assert kept.passed
    assert kept.facts == {"offenders": 0}
    assert kept.sentence() == "smartgo_sales_raw.ids_are_unique: expected each id once, found 0 repeated"


def test_the_first_offenders_are_named_and_all_are_counted():
    ids = [f"S-{n}" for n in range(10_000)]
    broken = verdict(PROMISE, expected="each id once", found="10000 repeated", offenders=ids)
    assert not broken.passed
    assert broken.severity is Severity.ERROR
    assert broken.offenders == tuple(ids[:MAX_OFFENDERS_NAMED])
    assert broken.facts == {"offenders": 10_000}
    assert broken.sentence().endswith("(S-0, S-1, " + ", ".join(ids[2:MAX_OFFENDERS_NAMED]) + ")")


def test_a_broken_promise_is_as_severe_as_it_says():
    broken = verdict(PROMISE, expected="-", found="-", offenders=["S-1"], severity=Severity.WARN)
    assert broken.severity is Severity.WARN


@pytest.mark.parametrize(
    "part,whole,passed,severity",
    [
        (0, 0, True, Severity.WARN),
        (0, 100, True, Severity.WARN),
        (5, 100, True, Severity.WARN),
        (6, 100, False, Severity.WARN),
        (50, 100, False, Severity.WARN),
        (51, 100, False, Severity.ERROR),
        (100, 100, False, Severity.ERROR),
        (1, 1, False, Severity.ERROR),
    ],
)
def test_a_share_passes_warns_or_fails_by_its_two_thresholds(part: int, whole: int, passed: bool, severity: Severity):  # noqa: FBT001 - a table's column
    """C12"""
    found = share(part, whole)
    assert (found.passed, found.severity) == (passed, severity)


def test_a_share_tells_its_numbers():
    found = share(1, 3)
    assert (found.expected, found.found) == ("at most 5.0%", "1 of 3 (33.3%)")
    assert found.facts == {"share": 0.333333, "part": 1, "whole": 3}


def test_thresholds_of_nought_let_no_sale_through():
    assert share_verdict(PROMISE, part=1, whole=10**6, warn_share=0, error_share=0).severity is Severity.ERROR
