"""Every check is asked, whatever the others do; each has its deadline; no secret passes."""

from __future__ import annotations

import threading
import time

from salesintel_dagster.domain.diagnosis import Check, Finding, Health, ill, ok, warn
from salesintel_dagster.domain.errors import SourceUnavailable
from salesintel_dagster.domain.redaction import Redaction
from salesintel_dagster.flows.diagnosis import examine

REDACT = Redaction(["canary-word"])


def _raises(error: Exception) -> Finding:
    raise error


def test_a_check_that_fails_hangs_or_breaks_stops_no_other():
    never = threading.Event()
    checks = [
        Check("hangs", lambda: ok(str(never.wait(30))), "pull the plug", deadline_seconds=0.1),
        Check("is down", lambda: _raises(SourceUnavailable("db:5432: connection refused")), "start it"),
        Check("breaks", lambda: _raises(RuntimeError("canary-word and a half")), "no use"),
        Check("is well", lambda: ok("all is well"), "nothing"),
    ]
    began = time.monotonic()
    found = list(examine(checks, REDACT))
    never.set()
    assert time.monotonic() - began < 5
    assert [(one.name, one.health, one.found, one.remedy) for one in found] == [
        ("hangs", Health.FAIL, "no answer within 0.1 s", "pull the plug"),
        ("is down", Health.FAIL, "db:5432: connection refused", "start it"),
        (
            "breaks",
            Health.FAIL,
            "the check itself failed: RuntimeError",
            "report this: a check ended by an error that it does not know",
        ),
        ("is well", Health.OK, "all is well", ""),
    ]
    assert ill(found)


def test_checks_are_asked_side_by_side():
    both = threading.Barrier(2, timeout=5)
    checks = [Check(name, lambda: ok(f"passed {both.wait() >= 0}"), "") for name in ("one", "other")]
    assert [one.found for one in examine(checks, REDACT)] == ["passed True", "passed True"]


def test_a_warning_is_no_failure_and_no_text_keeps_a_secret():
    found = list(examine([Check("sink", lambda: warn("at canary-word", "change canary-word"), "")], REDACT))
    assert "canary" not in str(found)
    assert not ill(found)
