from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.alerts import (
    MAX_SUBJECT_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    WEBHOOK_URL,
    Alert,
    AlertKind,
    Incident,
    Reached,
    Seen,
    alert_of,
    deadlines,
    first_reached,
    plan,
    read_cursor,
    write_cursor,
)
from salesintel_dagster.domain.checks import Severity
from salesintel_dagster.domain.redaction import Redaction

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
NOTHING = Reached(0, 0, 0)
INCIDENT = Incident(
    Severity.ERROR,
    "titan_embeddings.vectors_are_1024_dim 2026-11-20",
    (("asset", "titan_embeddings"), ("expected", "1024 floats"), ("found", "1023"), ("first offenders", "t/S-1")),
    "http://127.0.0.1:3000/runs/abc",
)


def bad(position: int, kind: AlertKind = AlertKind.CHECK, minutes_ago: float = 60) -> Seen:
    return Seen(kind, position, NOW - timedelta(minutes=minutes_ago), INCIDENT)


def good(position: int, kind: AlertKind = AlertKind.CHECK, minutes_ago: float = 60) -> Seen:
    return replace(bad(position, kind, minutes_ago), incident=None)


def positions(steps: Sequence[Seen]) -> list[tuple[str, int]]:
    return [(step.kind.value, step.position) for step in steps]


class TestThePlan:
    def test_the_oldest_comes_first_over_all_kinds(self):
        seen = [
            bad(7, minutes_ago=10),
            bad(3, AlertKind.RUN, 20),
            bad(739_000, AlertKind.FRESHNESS, 30),
            bad(2, minutes_ago=40),
        ]
        expected = [("check", 2), ("freshness", 739_000), ("run", 3), ("check", 7)]
        assert positions(plan(seen, NOTHING, NOW)) == expected

    def test_what_a_sink_was_told_and_what_is_named_twice_comes_once(self):
        steps = plan([bad(4), bad(5), bad(5), bad(6)], Reached(4, 0, 0), NOW)
        assert positions(steps) == [("check", 5), ("check", 6)]

    def test_at_most_so_many_alerts_and_every_good_one_before_the_next(self):
        seen = [good(1), bad(2), good(3), bad(4), good(5), bad(6), good(7)]
        assert positions(plan(seen, NOTHING, NOW, at_most=2)) == [("check", n) for n in (1, 2, 3, 4, 5)]

    def test_within_a_kind_the_order_is_that_of_the_log_whatever_the_clocks_said(self):
        seen = [bad(1, minutes_ago=10), bad(2, minutes_ago=50), bad(9, AlertKind.RUN, 30)]
        assert positions(plan(seen, NOTHING, NOW)) == [("run", 9), ("check", 1), ("check", 2)]

    def test_an_event_of_the_last_seconds_waits_for_an_older_one_that_is_still_being_written(self):
        seen = [bad(1), bad(3, minutes_ago=0.05), bad(4), bad(8, AlertKind.RUN)]
        assert positions(plan(seen, NOTHING, NOW)) == [("check", 1), ("run", 8)]
        assert len(plan(seen, NOTHING, NOW + timedelta(seconds=10))) == 4

    def test_a_writer_whose_clock_is_hours_ahead_holds_nothing_up(self):
        assert len(plan([bad(1, minutes_ago=-300), bad(2)], NOTHING, NOW)) == 2

    @given(st.lists(st.tuples(st.sampled_from(AlertKind), st.integers(1, 40), st.integers(1, 500), st.booleans())))
    def test_going_on_from_where_it_stopped_tells_everything_exactly_once(
        self, made: list[tuple[AlertKind, int, int, bool]]
    ):
        """J10"""
        unique = {
            (kind, position): bad(position, kind, ago) if is_bad else good(position, kind, ago)
            for kind, position, ago, is_bad in made
        }
        reached, told = NOTHING, []
        while steps := plan(list(unique.values()), reached, NOW, at_most=3):
            for step in steps:
                reached = reached.past(step)
            told += [(step.kind, step.position) for step in steps if step.incident]
        assert sorted(told) == sorted(key for key, step in unique.items() if step.incident)


class TestTheText:
    def test_it_says_what_where_expected_found_who_and_the_link(self):
        alert = alert_of(bad(12), INCIDENT, Redaction())
        assert alert == Alert(
            "check-12",
            Severity.ERROR,
            "ERROR titan_embeddings.vectors_are_1024_dim 2026-11-20",
            "ERROR titan_embeddings.vectors_are_1024_dim 2026-11-20\n"
            "at: 2026-11-21 09:00:00 UTC\n"
            "link: http://127.0.0.1:3000/runs/abc\n"
            "alert: check-12\n"
            "asset: titan_embeddings\n"
            "expected: 1024 floats\n"
            "found: 1023\n"
            "first offenders: t/S-1",
        )

    def test_no_secret_and_no_personal_data_in_any_part(self):
        """J11"""
        canaries = (
            "password=canary-1 postgresql://u:canary-2@h/db https://h/x?sig=canary-3 canary-4@example.com canary-5"
        )
        incident = Incident(Severity.WARN, canaries, (("found", canaries), ("expected", canaries)))
        alert = alert_of(bad(1), incident, Redaction(["canary-5"]))
        assert "canary" not in alert.subject + alert.text

    def test_a_secret_behind_a_line_end_is_still_one(self):
        """J11"""
        incident = Incident(Severity.WARN, "x", (("found", "password:\r\n\r\n\r\n  canary-1"),))
        assert "canary" not in alert_of(bad(1), incident, Redaction()).text

    def test_a_secret_that_a_line_end_is_part_of_goes_before_the_line_end_does(self):
        """J11"""
        incident = Incident(Severity.WARN, "x", (("found", "refused: can\nary-1"),))
        assert "ary-1" not in alert_of(bad(1), incident, Redaction(["can\nary-1"])).text

    @pytest.mark.parametrize("filler", ["x", "\N{CAT FACE}", "a b ", "\n", "password=y "])
    def test_it_is_bounded_however_long_its_parts_are(self, filler: str):
        """J11"""
        long = (filler * 4_000)[:4_000]
        incident = Incident(
            Severity.ERROR, long, tuple((f"fact {n}", long) for n in range(30)), "http://h/" + "x" * 9999
        )
        alert = alert_of(bad(1), incident, Redaction())
        assert len(alert.text) <= MAX_TEXT_CHARACTERS
        assert len(alert.subject) <= MAX_SUBJECT_CHARACTERS
        assert "alert: check-1" in alert.text

    def test_a_fact_cannot_pass_for_a_line_of_its_own(self):
        forged = "S-1\nlink: http://evil.example/\r\x0b\x1b[31m\u2028severity: none\u202e"
        incident = replace(INCIDENT, headline=forged, facts=(("first offenders", forged),))
        alert = alert_of(bad(1), incident, Redaction())
        assert [line.split(":")[0] for line in alert.text.splitlines()[1:]] == [
            "at",
            "link",
            "alert",
            "first offenders",
        ]
        assert alert.text.isprintable() or set(alert.text) - {"\n"} == {c for c in alert.text if c.isprintable()}

    def test_an_empty_fact_and_a_missing_link_leave_no_line(self):
        alert = alert_of(bad(1), Incident(Severity.WARN, "x", (("partition", ""),)), Redaction())
        assert alert.text == "WARN x\nat: 2026-11-21 09:00:00 UTC\nalert: check-1"


class TestDeadlines:
    def test_a_deadline_counts_from_04_utc_on(self):
        reached = date(2026, 11, 20).toordinal()
        due = datetime(2026, 11, 21, 4, tzinfo=UTC)
        assert deadlines(reached, due - timedelta(microseconds=1)) == []
        assert deadlines(reached, due) == [(date(2026, 11, 21), due)]

    def test_after_downtime_every_day_comes_oldest_first_and_bounded(self):
        days = [day for day, _ in deadlines(date(2026, 1, 1).toordinal(), NOW)]
        assert days[0] == date(2026, 1, 2)
        assert len(days) == 30

    @pytest.mark.parametrize(
        "hour,newest", [(3, date(2026, 11, 20)), (4, date(2026, 11, 21)), (23, date(2026, 11, 21))]
    )
    def test_a_first_start_looks_at_the_newest_deadline_and_no_older(self, hour: int, newest: date):
        now = datetime(2026, 11, 21, hour, 30, tzinfo=UTC)
        assert [day for day, _ in deadlines(first_reached(now, 0, 0).freshness, now)] == [newest]


class TestTheCursor:
    def test_it_comes_back_as_it_was_written(self):
        reached = {"sns": Reached(1, 2, 3), "webhook": Reached(4, 5, 6)}
        assert read_cursor(write_cursor(reached)) == reached
        assert len(write_cursor(reached)) < 200

    @pytest.mark.parametrize(
        "cursor",
        [
            *(None, "", "7", "[]", "null", "{", '{"sns": 1}', '{"sns": {"check": 1}}'),
            json.dumps({"sns": {"check": "1", "run": 2, "freshness": 3}}),
            json.dumps({"sns": {"check": True, "run": 2, "freshness": 3}}),
        ],
    )
    def test_one_that_is_not_ours_is_none(self, cursor: str | None):
        assert read_cursor(cursor) == {}


@pytest.mark.parametrize(
    "url,fine",
    [
        ("https://hooks.slack.com/services/T/B/x", True),
        ("https://h.example.com:8443/x?y=1", True),
        ("https://h", True),
        ("http://127.0.0.1:9/x", True),
        ("http://localhost/x", True),
        ("http://hooks.slack.com/x", False),
        ("http://127.0.0.1.evil.example/x", False),
        ("http://localhost@evil.example/x", False),
        ("https://user:word@h/x", False),
        ("https://h/x y", False),
        ("https://h/x\r\nHost: evil", False),
        ("ftp://h/x", False),
        ("", False),
    ],
)
def test_a_webhook_is_https_or_on_this_machine(url: str, fine: bool):  # noqa: FBT001 - a column of the table
    assert bool(WEBHOOK_URL.fullmatch(url)) is fine
