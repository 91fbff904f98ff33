"""docs/events.md is executed: its commands print what the page says they print.

`python -m salesintel_dagster_tests.test_events_docs` runs the page and writes the output into it. Message ids and
instants differ each time: they stand on the page as ID and TIME.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster_tests import services as running
from salesintel_dagster_tests.command_line import call
from salesintel_dagster_tests.event_stage import EventStage
from salesintel_dagster_tests.fakes.events import sold

pytestmark = pytest.mark.usefixtures("quick_looks")

PAGE = Path(__file__).resolve().parents[1] / "docs" / "events.md"
BLOCK = re.compile(r"^```(json|console)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
AGAIN = "docs/events.md is stale: run `.venv/bin/python -m salesintel_dagster_tests.test_events_docs`"
SYNC = "# the sync takes them"
UNSTEADY = (
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "ID" + " " * 34),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME" + " " * 15),
    (re.compile(r"\bt[0-9a-f]{8}\b"), "prod     "),
    (re.compile(r"(?<= )\d+ s$", re.MULTILINE), "4 s"),
)


class Reader:
    """Somebody who does what the page says, in its order, in a fresh deployment of an account of its own."""

    def __init__(self, clients: AwsClients, folder: Path) -> None:
        self.stage = EventStage(clients, folder)

    def block(self, kind: str, text: str) -> str:
        if kind == "json":
            Path("events.jsonl").write_text(text)
            return f"```json\n{text}```\n"
        lines = [line for line in text.splitlines() if line.startswith(("$ ", SYNC))]
        if lines[0] == "$ salesintel events dlq replay":
            self.stage.put(self.stage.settings.event_dlq_name, json.dumps(sold("S-9")))
        return "```console\n" + "".join(f"{line}\n{self._run(line)}" for line in lines) + "```\n"

    def _run(self, line: str) -> str:
        if line.startswith(SYNC):
            self.stage.drain()
            return ""
        answer = call(*shlex.split(line.removeprefix("$ salesintel ")), environment=self.stage.environment)
        return steady(answer.out + answer.err)


def steady(text: str) -> str:
    for pattern, word in UNSTEADY:
        text = pattern.sub(word, text)
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


def executed(clients: AwsClients, folder: Path) -> str:
    reader = Reader(clients, folder)
    return BLOCK.sub(lambda block: reader.block(block[1], block[2]), PAGE.read_text())


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def test_the_page_prints_what_it_says(aws: AwsClients, tmp_path: Path):
    with _in(tmp_path):
        found = executed(aws, tmp_path)
    assert found == PAGE.read_text(), AGAIN


def _write() -> None:
    import tempfile  # noqa: PLC0415 - only when the page is written

    with running.services() as opened, tempfile.TemporaryDirectory() as folder, _in(Path(folder)):
        PAGE.write_text(executed(AwsClients(opened.aws.new_target()), Path(folder)))


if __name__ == "__main__":
    _write()
