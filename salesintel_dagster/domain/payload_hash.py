"""When two payloads are the same: SHA-256 over canonical JSON, so that key order and white space do not count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal


def payload_hash(payload: Mapping[str, object]) -> str:
    """Return 64 hexadecimal digits that are equal for equal payloads.

    Keys are sorted; a Decimal counts by its value (`10`, `10.0` and `1E+1` are one price), as a number and never as a
    text. Raises TypeError for what JSON has no word for, e.g. a float that is not finite.
    """
    return hashlib.sha256(_canonical(payload).encode("ascii")).hexdigest()


def _canonical(value: object) -> str:
    """Return JSON of one form only: keys sorted, no white space, ASCII, a number as digits and exponent."""
    if isinstance(value, Mapping):
        members = sorted((str(key), _canonical(inner)) for key, inner in value.items())
        return "{" + ",".join(f"{json.dumps(key)}:{inner}" for key, inner in members) + "}"
    if isinstance(value, str | bool | None):
        return json.dumps(value)
    if isinstance(value, int | Decimal):
        return _number(Decimal(value))
    if isinstance(value, date):
        return json.dumps(value.isoformat())
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return "[" + ",".join(map(_canonical, value)) + "]"
    raise TypeError(f"no canonical JSON for a value of type {type(value).__name__}")


def _number(value: Decimal) -> str:
    if not value.is_finite():
        raise TypeError("no canonical JSON for a number that is not finite")
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    if not text or not isinstance(exponent, int):
        return "0"
    kept = text.rstrip("0")
    return f"{'-' if sign else ''}{kept}e{exponent + len(text) - len(kept)}"
