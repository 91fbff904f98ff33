"""The `salesintel` command line for tests: in this process, or as the child that a user's shell would start."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salesintel_dagster.commands.app import main

TIMEOUT_SECONDS = 90.0
COMMAND = (sys.executable, "-m", "salesintel_dagster")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.out)


def call(*arguments: str, environment: Mapping[str, str] | None = None) -> Answer:
    """Run the command line in this process, with `environment` over ours while it lasts."""
    out, err = io.StringIO(), io.StringIO()
    with _over(environment or {}), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            return Answer(int(ended.code or 0), out.getvalue(), err.getvalue())


def child(*arguments: str, home: Path, environment: Mapping[str, str] | None = None) -> Answer:
    """Run the command line as a child in an environment that holds its home and nothing else."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        env={"SALESINTEL_HOME": str(home), **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def _over(environment: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
