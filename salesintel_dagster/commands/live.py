"""What a person sees while days are exported.

On a terminal: one moving line with the day, the stage and how many days are done, and under it only what needs a
look (a failed day, a check of severity ERROR). Elsewhere, or with --verbose: the export's own log lines, to grep.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from salesintel_dagster.commands.output import printable, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

EXPORT_LOGGER = "salesintel.export"
_LINE = re.compile(r"\[SmartGoExporter\] (?P<event>[^=]+?) tenant=\S* partition=(?P<day>\S+) ?(?P<facts>.*)", re.DOTALL)
_FACT = re.compile(r'(\w+)=(".*?"(?= \w+=|$)|\S*)', re.DOTALL)
_WORK = {
    "Starting daily export": "reading sales",
    "Reading sales": "reading sales",
    "Found sales to export": "downloading images",
    "Downloading images": "downloading images",
    "Embedding images": "embedding images",
    "Iceberg write successful": "checking the table",
}
"""What goes on when the line has been logged."""
_NEXT = {"Downloading images": "embedding images", "Embedding images": "writing the table"}
"""What follows the stage whose line says that all is done."""
_QUOTE = '"'


@contextmanager
def exporting(days: int, *, verbose: bool) -> Iterator[None]:
    """Show the export of some days while the block runs."""
    logger = logging.getLogger(EXPORT_LOGGER)
    logger.setLevel(logging.INFO)
    with _handler(days, verbose=verbose) as handler:
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


@contextmanager
def working(title: str, *, verbose: bool) -> Iterator[None]:
    """Show that something without numbers is going on, on a terminal only."""
    if verbose or not _is_terminal():
        yield
        return
    with _console() as console, console.status(title):
        yield


@contextmanager
def _handler(days: int, *, verbose: bool) -> Iterator[logging.Handler]:
    if verbose or not _is_terminal():
        yield LogLines()
        return
    from rich.progress import (  # noqa: PLC0415 - only where it is seen
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("days"),
        TimeElapsedColumn(),
    )
    with (
        _console() as console,
        Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as progress,
    ):
        yield MovingLine(progress, progress.add_task("starting Dagster", total=days))


class LogLines(logging.Handler):
    """The export's log lines as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line."""
        say(record.getMessage())


class MovingLine(logging.Handler):
    """The export's log lines as one moving line."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        super().__init__()
        self._progress = progress
        self._task = task

    def emit(self, record: logging.LogRecord) -> None:
        """Show the line's meaning, or the line itself where it is none of the usual ones."""
        line = record.getMessage()
        found = _LINE.fullmatch(line)
        if found is None:
            self._keep(line)
            return
        facts = dict(_FACT.findall(found["facts"]))
        event, day = found["event"], found["day"]
        if event in _WORK:
            self._progress.update(self._task, description=f"{day}  {_doing(event, facts)}")
        elif event == "Export complete":
            self._progress.advance(self._task)
        elif event == "Export failed":
            self._progress.advance(self._task)
            self._keep(f"{day}  FAILED: {facts.get('error', '').strip(_QUOTE)}")
        elif event != "Check failed":
            self._keep(line)
        elif facts.get("severity") == "ERROR":
            self._keep(f"{day}  check failed: {facts.get('verdict', '').strip(_QUOTE)}")

    def _keep(self, line: str) -> None:
        self._progress.console.print(printable(line), soft_wrap=True)


def _doing(event: str, facts: dict[str, str]) -> str:
    done, total = facts.get("done"), facts.get("total")
    if total is None:
        return _WORK[event]
    return _NEXT[event] if done == total else f"{_WORK[event]} {done} of {total}"


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextmanager
def _console() -> Iterator[Console]:
    """Open the terminal beside file descriptor 2, which Dagster turns into a file while a step runs."""
    from rich.console import Console  # noqa: PLC0415 - only where it is seen

    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace") as terminal:
        yield Console(file=terminal, highlight=False, markup=False)
