"""A file of sold events, one JSON text a line: a bare detail, or an envelope with one in it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import IO

from salesintel_dagster.domain.event_bus import MAX_DETAIL_BYTES, OutgoingEvent
from salesintel_dagster.domain.sale import Rejection, RowRejected, shown
from salesintel_dagster.domain.sale_event import EVENT_SOURCE, EVENT_TYPE, EventRules, parse_event
from salesintel_dagster.domain.strict_json import JsonRefused, strict_loads

MAX_LINE_BYTES = 1024 * 1024
"""Four times what an event may have, so that white space and an envelope do not count; no more is in memory."""


def lines_of(file: IO[bytes], max_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, str | Rejection]]:
    """Yield each line's number, from 1 on, and its text without white space around it, or why it is none.

    A blank line is passed over. A line is one to its end: what is too long is not cut, and what is no UTF-8 is not
    replaced, as either would be another event.
    """
    number = 0
    while line := file.readline(max_bytes + len(b"\r\n")):
        number += 1
        if len(line.rstrip(b"\r\n")) > max_bytes:
            size = len(line)
            while not line.endswith(b"\n") and (line := file.readline(max_bytes)):
                size += len(line)
            yield number, Rejection("TOO_LARGE", "line", f"{size} bytes", f"a line has at most {max_bytes} bytes")
        elif line.strip():
            yield number, _decoded(line)


def _decoded(line: bytes) -> str | Rejection:
    try:
        return line.decode().strip()
    except UnicodeDecodeError as error:
        return Rejection("NOT_UNICODE", "line", f"byte {error.start + 1}: {error.reason}", "a line is UTF-8")


def read_event_line(text: str, place: int, rules: EventRules, *, check: bool = True) -> OutgoingEvent | Rejection:
    """Return the event of a line, or the first rule that it breaks.

    `check` holds it to every rule of the sync, as the queue's reader will; without it only to what the bus takes.
    """
    try:
        detail, time = _opened(text, rules.max_bytes, check=check)
    except RowRejected as rejected:
        return rejected.rejection
    except RecursionError:
        return Rejection("TOO_DEEP", "line", shown(text), "an envelope's detail is not nested so deep")
    if check and isinstance(found := parse_event(_as_delivered(detail), rules), Rejection):
        return found
    return OutgoingEvent(place, detail, time)


def _opened(text: str, max_bytes: int, *, check: bool) -> tuple[str, datetime | None]:
    """Return a line's detail as JSON text, and an envelope's time. Raises RowRejected."""
    value = _loaded(text, max_bytes, check=check)
    if not isinstance(value, dict):
        raise RowRejected("NOT_AN_OBJECT", "line", value, "a line is a JSON object")
    detail, time = text.strip(), None
    if "detail" in value:
        for name, expected in (("source", EVENT_SOURCE), ("detail-type", EVENT_TYPE)):
            if value.get(name, expected) != expected:
                raise RowRejected("WRONG_EVENT", name, value[name], f"an envelope's {name} is {expected}")
        if not isinstance(value["detail"], dict):
            raise RowRejected("DETAIL_INVALID", "detail", value["detail"], "a detail is a JSON object")
        detail, time = _written(value["detail"]), _time(value.get("time"))
    if len(detail.encode(errors="replace")) > MAX_DETAIL_BYTES:
        raise RowRejected("TOO_LARGE", "line", detail, f"a detail has at most {MAX_DETAIL_BYTES} bytes")
    return detail, time


def _loaded(text: str, max_bytes: int, *, check: bool) -> object:
    try:
        return strict_loads(text, max_bytes) if check else json.loads(text, parse_float=Decimal)
    except JsonRefused as refused:
        raise RowRejected(refused.code, "line", text, refused.rule) from None
    except (ValueError, ArithmeticError, RecursionError):
        raise RowRejected("NOT_JSON", "line", text, "a line is one JSON text") from None


def _as_delivered(detail: str) -> str:
    """Return the body in which the queue's reader will find the detail; the bus gives the id."""
    return f'{{"id":"not-sent-yet","source":"{EVENT_SOURCE}","detail-type":"{EVENT_TYPE}","detail":{detail}}}'


def _time(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    return None if found.utcoffset() is None else found


def _written(value: object) -> str:
    """Return JSON in which a number is written digit by digit as it came."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_written(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)
