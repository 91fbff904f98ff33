from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from salesintel_dagster.commands.live import EXPORT_LOGGER, MovingLine, exporting

SAID = "[SmartGoExporter] {event} tenant=carousel-labs partition=2026-11-20 {facts}"


class Screen:
    """A moving line on a terminal that is text."""

    def __init__(self, days: int) -> None:
        self._text = io.StringIO()
        console = Console(file=self._text, markup=False, highlight=False, width=40)
        self._progress = Progress(TextColumn("{task.description}"), console=console, auto_refresh=False)
        self._handler = MovingLine(self._progress, self._progress.add_task("starting", total=days))

    def hear(self, event: str, facts: str = "") -> None:
        self.hear_line(SAID.format(event=event, facts=facts).rstrip())

    def hear_line(self, line: str) -> None:
        self._handler.emit(logging.makeLogRecord({"msg": line}))

    @property
    def doing(self) -> str:
        return self._progress.tasks[0].description

    @property
    def days_done(self) -> float:
        return self._progress.tasks[0].completed

    @property
    def kept(self) -> str:
        return self._text.getvalue()


@pytest.mark.parametrize(
    "event,facts,doing",
    [
        ("Starting daily export", "run_id=x stages=a,b", "reading sales"),
        ("Found sales to export", "sales=143 quarantined=1", "downloading images"),
        ("Downloading images", "done=40 total=143 per_second=12.5", "downloading images 40 of 143"),
        ("Downloading images", "done=143 total=143 per_second=12.5", "embedding images"),
        ("Embedding images", "done=7 total=143 per_second=5.0", "embedding images 7 of 143"),
        ("Embedding images", "done=143 total=143 per_second=5.0", "writing the table"),
        ("Iceberg write successful", "rows=143 snapshot=1 seconds=0.2", "checking the table"),
    ],
)
def test_the_moving_line_tells_the_day_and_what_goes_on_now(event: str, facts: str, doing: str):
    screen = Screen(2)
    screen.hear(event, facts)
    assert screen.doing == f"2026-11-20  {doing}"
    assert screen.kept == ""


def test_a_day_that_ends_is_counted_and_one_that_failed_stays_on_the_screen():
    screen = Screen(3)
    screen.hear("Export complete", "sales=143 failed=none seconds=2.0")
    assert (screen.days_done, screen.kept) == (1, "")
    screen.hear("Export failed", 'error="the source said: "no" and hung up" seconds=2.0')
    assert screen.days_done == 2
    assert screen.kept == '2026-11-20  FAILED: the source said: "no" and hung up\n'


def test_an_error_of_a_check_stays_on_the_screen_and_a_warning_waits_for_the_end():
    screen = Screen(1)
    screen.hear("Check failed", 'severity=WARN verdict="a.b: expected x=1, found 2"')
    assert screen.kept == ""
    screen.hear("Check failed", 'severity=ERROR verdict="a.b: expected x=1, found 2"')
    assert screen.kept == "2026-11-20  check failed: a.b: expected x=1, found 2\n"


def test_a_line_that_is_none_of_the_usual_ones_is_not_lost():
    screen = Screen(1)
    screen.hear_line("[SmartGoExporter] Progress not recorded, the export goes on: \x1b[31mtable is down")
    screen.hear("Previous embeddings unreadable", "reason=ArrowInvalid")
    assert "the export goes on: \\x1b[31mtable is down\n" in screen.kept
    assert "Previous embeddings unreadable" in screen.kept


def test_where_no_terminal_is_the_log_lines_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]):
    line = SAID.format(event="Export complete", facts="sales=1")
    with exporting(1, verbose=False):
        logging.getLogger(EXPORT_LOGGER).info(line)
    logging.getLogger(EXPORT_LOGGER).info("after the end")
    assert capsys.readouterr().err == f"{line}\n"


def test_the_export_logs_where_the_command_line_listens():
    from salesintel_dagster.defs.smartgo_export import log  # noqa: PLC0415 - Dagster, for this test alone

    assert log.name == EXPORT_LOGGER
