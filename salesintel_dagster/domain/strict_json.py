"""JSON from outside, read strictly: one text has one meaning, whoever wrote it and whatever they meant to do.

Refused: what is too large or too deep, NaN and infinities, numbers that no double can hold or of absurd length, an
object that has a name twice, and text that is not valid Unicode. Numbers with a point or an exponent become Decimal.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal

MAX_DEPTH = 32
MAX_NUMBER_CHARACTERS = 64
"""A double needs at most 24; a price of 18 digits fits, and nobody can make us convert 5,000 digits."""
MAX_EXPONENT = 308

# Possessive: a string that is never closed is passed once, not from each of its quotes anew (3 s for 32 KB before).
_STRINGS_AND_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonRefused(ValueError):
    """A text is not JSON as we take it: a stable code, and the rule in words."""

    def __init__(self, code: str, rule: str) -> None:
        super().__init__(f"{code}: {rule}")
        self.code = code
        self.rule = rule


def strict_loads(text: str, max_bytes: int) -> object:
    """Return the value of `text`: dict, list, str, int, Decimal, bool or None. Raises JsonRefused for all else."""
    _check_size(text, max_bytes)
    _check_depth(text)
    try:
        value: object = json.loads(
            text,
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except JsonRefused:
        raise
    except (ValueError, ArithmeticError, RecursionError):  # Decimal has no exponent of twenty digits
        raise JsonRefused("NOT_JSON", "a message is one JSON text") from None
    if _SURROGATE_ESCAPE.search(text):
        _check_unicode(value)
    return value


def _check_size(text: str, max_bytes: int) -> None:
    if len(text) <= max_bytes:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise JsonRefused("NOT_UNICODE", "text is valid Unicode") from None
        if size <= max_bytes:
            return
    raise JsonRefused("TOO_LARGE", f"a message has at most {max_bytes} bytes")


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for found in _STRINGS_AND_BRACKETS.finditer(text):
        mark = found[0]
        if mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonRefused("TOO_DEEP", f"lists and objects are nested at most {MAX_DEPTH} deep")
        elif mark in "]}":
            depth -= 1


def _check_unicode(value: object) -> None:
    """Refuse half a surrogate pair: it can be neither stored nor hashed."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise JsonRefused("NOT_UNICODE", "text is valid Unicode") from None


def _decimal(text: str) -> Decimal:
    if len(text) > MAX_NUMBER_CHARACTERS:
        _check_number(text)
    number = Decimal(text)
    # Without an exponent 64 characters reach nowhere near; a vector has 1,024 numbers, most of them without.
    if ("e" in text or "E" in text) and number and abs(number.adjusted()) > MAX_EXPONENT:
        raise JsonRefused("NUMBER_TOO_LARGE", f"a number lies within 1e±{MAX_EXPONENT}")
    return number


def _integer(text: str) -> int:
    _check_number(text)
    return int(text)


def _check_number(text: str) -> None:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise JsonRefused("NUMBER_TOO_LONG", f"a number has at most {MAX_NUMBER_CHARACTERS} characters")


def _constant(_: str) -> object:
    raise JsonRefused("NOT_A_NUMBER", "a number is finite: no NaN, no Infinity")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonRefused("DUPLICATE_NAME", "an object has each name once")
    return found
