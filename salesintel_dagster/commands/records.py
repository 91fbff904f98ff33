"""Progress records as lines of a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

from salesintel_dagster.commands.output import echo_table, say
from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.ports import ProgressLedger
from salesintel_dagster.domain.progress import Progress, RunState

NOT_EXPORTED = "not exported"
SILENT_AFTER = timedelta(minutes=2)
"""A running export speaks every few seconds; one that has been silent for longer has most likely died."""
_NUMBERS = ("sales", "images", "embedded", "quarantined", "seconds", "paid calls")
_RESULT = ("state", *_NUMBERS, "failed by reason")


def newest(ledger: ProgressLedger, days: Iterable[date]) -> dict[date, Progress | None]:
    """Return each day's newest record. A ledger that is down costs a warning: the export itself has been told."""
    try:
        return {day: ledger.newest(day) for day in days}
    except ProgressUnavailable as error:
        say(f"The progress of these days cannot be shown: {error}")
        return {}


def show(records: Mapping[date, Progress | None]) -> None:
    """Print one line per day; a day that no run has worked on says so."""
    rows = [
        (day.isoformat(), NOT_EXPORTED) if record is None else (day.isoformat(), *_result(record))
        for day, record in records.items()
    ]
    echo_table(("partition", *_RESULT), rows, _NUMBERS)


def show_runs(records: Iterable[Progress]) -> None:
    """Print one line per run, with when it began and the start of its id."""
    rows = [
        (
            record.day.isoformat(),
            f"{record.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            record.run_id[:8],
            *_result(record),
        )
        for record in records
    ]
    echo_table(("partition", "started (UTC)", "run", *_RESULT), rows, _NUMBERS)


def as_dict(day: date, record: Progress | None) -> dict[str, object]:
    """Return a record as JSON values; a day that no run has worked on has no state."""
    if record is None:
        return {"day": day, "run_id": None, "state": None}
    return {**asdict(record), "seconds": _seconds(record), "silent": is_silent(record, datetime.now(UTC))}


def _result(record: Progress) -> tuple[str, ...]:
    return (
        _state(record),
        *(str(number) for number in (record.sales, record.images_ok, record.embedded, record.quarantined)),
        f"{_seconds(record):.1f}",
        str(record.paid_calls),
        ", ".join(f"{reason} {n}" for reason, n in record.failed.items()) or "-",
    )


def is_silent(record: Progress, now: datetime) -> bool:
    """Tell whether the record says RUNNING and its run has said nothing for `SILENT_AFTER`: it may well be dead."""
    return record.state is RunState.RUNNING and now - record.updated_at > SILENT_AFTER


def _state(record: Progress) -> str:
    if record.state is not RunState.RUNNING:
        return record.state.value
    now = datetime.now(UTC)
    minutes = int((now - record.updated_at).total_seconds()) // 60
    word = f", silent for {minutes} min" if is_silent(record, now) else ""
    return f"{record.state.value} {record.stage}{word}"


def _seconds(record: Progress) -> float:
    ended = record.finished_at or record.updated_at
    return round((ended - record.started_at).total_seconds(), 3)
