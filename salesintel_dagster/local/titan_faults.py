"""The wrong answers that the Titan stand-in gives by script: Bedrock's errors, and bodies that look right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from salesintel_dagster.local.descriptor import Floats
from salesintel_dagster.local.titan_rules import ERRORS

SLOW_SECONDS = 2.0
"""Longer than the deadlines that tests set, short enough to wait for."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What one answer has wrong with it: an error, a delay in seconds, or a body."""

    error: str | None = None
    wrong: str | None = None
    delay_seconds: float = 0.0


def _embedding(values: object) -> dict[str, object]:
    return {"embedding": values, "inputTextTokenCount": 0, "message": None}


WRONG: dict[str, Callable[[list[float]], object]] = {
    "wrong-length": lambda right: _embedding(right[:-1]),
    "empty": lambda _: _embedding([]),
    "nan": lambda right: _embedding([float("nan"), *right[1:]]),
    "infinite": lambda right: _embedding([float("inf"), *right[1:]]),
    "overflow": lambda right: _embedding([1e39, *right[1:]]),
    "strings": lambda right: _embedding([str(value) for value in right]),
    "zero": lambda right: _embedding([0.0] * len(right)),
    "missing-field": lambda _: {"inputTextTokenCount": 0, "message": None},
    "message": lambda right: _embedding(right) | {"message": "The image could not be embedded."},
    "not-an-object": lambda right: right,
}
FAULTS = {
    "slow": Fault(delay_seconds=SLOW_SECONDS),
    "not-json": Fault(wrong="not-json"),
    **{kind: Fault(error=kind) for kind in ERRORS},
    **{kind: Fault(wrong=kind) for kind in WRONG},
}
"""Every fault by its name; `overflow` is finite as a double and infinite as a float32."""


def fault_named(name: str) -> Fault:
    """Return the fault called `name`. Raises KeyError."""
    return FAULTS[name]


def wrong_answer(kind: str, right: Floats) -> bytes:
    """Return the body that the fault `kind` gives in place of `right`."""
    if kind == "not-json":
        return b"<html>busy</html>"
    values = orjson.loads(orjson.dumps(right, option=orjson.OPT_SERIALIZE_NUMPY))
    return json.dumps(WRONG[kind](values)).encode()  # json, not orjson: it writes NaN and Infinity as they are
