"""I5: an error and its causes without their secrets, and odd texts that hide one."""

from __future__ import annotations

import base64
import json
import time
import traceback
from urllib.parse import quote

import pytest

from salesintel_dagster.domain.redaction import Redaction, without_secrets

SECRET = 'c4n4ry "p\u00e4ss/w+rd"'
REDACT = Redaction([SECRET])
FORMS = {
    "itself": SECRET,
    "quoted": quote(SECRET, safe=""),
    "quoted but for the slash": quote(SECRET),
    "in small percent": quote(SECRET, safe="").replace("%C3%A4", "%c3%a4").replace("%2F", "%2f").replace("%2B", "%2b"),
    "as a form": quote(SECRET, safe="").replace("%20", "+"),
    "in JSON": json.dumps(SECRET),
    "in readable JSON": json.dumps(SECRET, ensure_ascii=False),
    "as a repr": repr(SECRET),
    "as bytes": repr(SECRET.encode()),
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "as basic authorization": base64.b64encode(f"user:{SECRET}".encode()).decode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_known_secret_goes_in_every_form_that_a_library_writes(name: str):
    """I5, J11"""
    said = REDACT(f"tried <{FORMS[name]}> and failed")
    assert "c4n4ry" not in said
    assert "c3Mvdyty" not in said  # `ss/w+r` in base64, where it stands alone
    assert len(said) < len("tried <> and failed") + 60
    assert "[redacted]" in said
    assert said.startswith("tried ")
    assert said.endswith(" and failed")


@pytest.mark.parametrize(
    "text", ["a" * 60_000, "a.b-" * 16_000, "Aa1/" * 16_000, "password=" * 6_000, "x://@" * 12_000, '"\\' * 30_000]
)
def test_a_long_text_costs_no_seconds(text: str):
    began = time.thread_time()
    Redaction(["another"])(text)
    assert time.thread_time() - began < 1.0


def raised(error: Exception) -> Exception:
    try:
        try:
            raise KeyError(f"password={SECRET}")  # noqa: TRY301 - a cause, as libraries leave one
        except KeyError as cause:
            error.add_note(f"sent to https://u:{SECRET}@h/")
            raise error from cause
    except Exception as caught:  # noqa: BLE001 - what a caller sees
        return caught


def test_an_error_loses_its_secrets_in_words_notes_and_causes_and_keeps_its_name_and_place():
    """I5"""
    told = without_secrets(raised(ConnectionError(f"no way in with {SECRET}")), REDACT)
    text = "".join(traceback.format_exception(told))
    assert "c4n4ry" not in text
    assert "ConnectionError: no way in with [redacted]" in text
    assert "KeyError: " in text
    assert ", in raised" in text
    assert "c4n4ry" not in repr(vars(told)) + repr(told.args)


def test_an_error_without_a_secret_stays_what_it_is():
    error = ValueError("nothing to hide")
    error.__context__ = error.__cause__ = OSError("neither")
    error.__cause__.__context__ = error  # a ring, as retries make them
    assert without_secrets(error, REDACT) is error
