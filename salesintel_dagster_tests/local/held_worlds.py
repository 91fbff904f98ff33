"""Worlds run by other processes, for tests that kill, join and look at them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.local.world_files import OUTSIDE

ROOT = Path(__file__).resolve().parents[2]
HOLDER = Path(__file__).with_name("world_holder.py")
DEADLINE_SECONDS = 30.0
PAUSE_SECONDS = (0.02, 0.5)
PAUSE_SHARE = 20
"""A pause is a twentieth of what was waited already: GraphQL, asked 50 times a second, took a core from the run."""


def eventually(condition: Callable[[], Any], what: str, deadline_seconds: float = DEADLINE_SECONDS) -> Any:  # noqa: ANN401
    """Poll until `condition` holds and return what it gave; fail the test at the deadline."""
    began = SYSTEM_CLOCK.monotonic()
    shortest, longest = PAUSE_SECONDS
    while not (found := condition()):
        waited = SYSTEM_CLOCK.monotonic() - began
        assert waited < deadline_seconds, f"not within {deadline_seconds} s: {what}"
        SYSTEM_CLOCK.sleep(min(longest, max(shortest, waited / PAUSE_SHARE)))
    return found


@dataclass
class HeldWorld:
    """A holder process: what it said so far and what it gave."""

    process: subprocess.Popen[str]
    events: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    owner_dsn: str = ""
    error: str | None = None

    def wait_until_ready(self) -> HeldWorld:
        for line in self.process.stdout or ():
            facts = json.loads(line)
            self.events += [facts["event"]] if "event" in facts else []
            if "error" in facts:
                self.error = facts["error"]
            if "ready" in facts:
                self.environment, self.owner_dsn = facts["environment"], facts["owner_dsn"]
                return self
        return self

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def clients(self) -> AwsClients:
        env = self.environment
        return AwsClients(
            AwsTarget(
                env["AWS_REGION"],
                env["BEDROCK_REGION"],
                env["AWS_ENDPOINT_URL"],
                env["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"],
                env["AWS_ACCESS_KEY_ID"],
                env["AWS_SECRET_ACCESS_KEY"],
            )
        )

    def stop(self) -> int:
        """End the holder as a user would (end of input) and return its exit code."""
        if self.process.poll() is None and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        code = self.process.wait(DEADLINE_SECONDS)
        if self.process.stdout is not None:
            self.events += [json.loads(line)["event"] for line in self.process.stdout if '"event"' in line]
            self.process.stdout.close()
        return code


class Holders:
    """Starts holders and ends them all at last."""

    def __init__(self) -> None:
        self._held: list[HeldWorld] = []
        self._homes: set[Path] = set()

    def begin(self, home: Path, extra: Mapping[str, str] | None = None, prefix: tuple[str, ...] = ()) -> HeldWorld:
        """Start a holder; return at once."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | dict(extra or {})
        process = subprocess.Popen(
            [*prefix, sys.executable, str(HOLDER), str(home)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._held.append(HeldWorld(process))
        self._homes.add(home)
        return self._held[-1]

    def start(self, home: Path, extra: Mapping[str, str] | None = None) -> HeldWorld:
        """Start a holder and wait until its world is ready."""
        held = self.begin(home, extra).wait_until_ready()
        assert held.environment, held.error
        return held

    def close(self) -> None:
        for held in self._held:
            if held.process.poll() is None:
                held.process.kill()
            held.process.wait()
            for pipe in (held.process.stdin, held.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        for home in self._homes:
            remove_outside(home)


def remove_outside(home: Path) -> None:
    """Remove what a world of root keeps outside a home that `nobody` cannot reach, the home itself gone or not."""
    for kept in OUTSIDE.glob("salesintel-*/home"):
        if kept.read_text() == str(home):
            shutil.rmtree(kept.parent, ignore_errors=True)


@contextlib.contextmanager
def holders() -> Iterator[Holders]:
    """Give a starter of holders; none is left at the end."""
    opened = Holders()
    try:
        yield opened
    finally:
        opened.close()
