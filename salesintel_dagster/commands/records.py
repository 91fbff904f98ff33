"""Progress records as lines of a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

from rich.table import Table

from salesintel_dagster.commands.output import echo_table, new_table
from salesintel_dagster.domain.progress import Progress, RunState

NOT_EXPORTED = "not exported"
SILENT_AFTER = timedelta(minutes=2)
"""A running export speaks every few seconds; one that has been silent for longer has most likely died."""
_COUNTS = ("sales", "quarantined", "images", "embedded")


def show(records: Mapping[date, Progress | None]) -> None:
    """Print one line per day; a day that no run has worked on says so."""
    table = new_table(("partition", "state"))
    _add_columns(table)
    for day, record in records.items():
        if record is None:
            table.add_row(day.isoformat(), NOT_EXPORTED)
        else:
            table.add_row(day.isoformat(), _state(record), *_numbers(record))
    echo_table(table)


def show_runs(records: Iterable[Progress]) -> None:
    """Print one line per run, with when it began and its id."""
    table = new_table(("partition", "started (UTC)", "run", "state"))
    _add_columns(table)
    for record in records:
        started = f"{record.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        table.add_row(record.day.isoformat(), started, record.run_id[:8], _state(record), *_numbers(record))
    echo_table(table)


def as_dict(day: date, record: Progress | None) -> dict[str, object]:
    """Return a record as JSON values; a day that no run has worked on has no state."""
    if record is None:
        return {"day": day, "run_id": None, "state": None}
    return {**asdict(record), "seconds": _seconds(record)}


def _add_columns(table: Table) -> None:
    for name in _COUNTS:
        table.add_column(name, justify="right")
    table.add_column("failed by reason")
    for name in ("seconds", "paid calls"):
        table.add_column(name, justify="right")


def _state(record: Progress) -> str:
    if record.state is not RunState.RUNNING:
        return record.state.value
    silent = datetime.now(UTC) - record.updated_at
    word = f", silent for {int(silent.total_seconds()) // 60} min" if silent > SILENT_AFTER else ""
    return f"{record.state.value} {record.stage}{word}"


def _numbers(record: Progress) -> tuple[str, ...]:
    counts = (record.sales, record.quarantined, record.images_ok, record.embedded)
    failed = ", ".join(f"{reason} {n}" for reason, n in record.failed.items()) or "-"
    return (*(str(number) for number in counts), failed, f"{_seconds(record):.1f}", str(record.paid_calls))


def _seconds(record: Progress) -> float:
    ended = record.finished_at or record.updated_at
    return round((ended - record.started_at).total_seconds(), 3)
