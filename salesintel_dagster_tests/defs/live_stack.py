"""`salesintel up` as a child process: the real webserver, daemon, code servers, run workers and embedded world."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster_tests.command_line import call
from salesintel_dagster_tests.local.held_worlds import ROOT, eventually

START_SECONDS = 60.0
WATCH_SECONDS = 1.0
SPY = """
import os, sys

def watch(event, args):
    host = None
    if event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    if host is not None:
        host = host.decode() if isinstance(host, bytes) else str(host)
        if host not in ("127.0.0.1", "::1", "localhost", "None", ""):
            with open(os.environ["SPIED_FILE"], "a") as file:
                file.write(" ".join(sys.argv[:3]) + ": " + event + " " + host + chr(10))

with open(os.environ["SPIED_FILE"] + ".processes", "a") as file:
    file.write(str(os.getpid()) + chr(10))
sys.addaudithook(watch)
"""
"""Runs at the start of every Python process below the stack; says who tried to reach what outside this machine."""
OFTEN = """
if sys.orig_argv[1:3] == ["-m", "dagster._daemon"]:
    from dagster._core.run_coordinator import QueuedRunCoordinator
    from dagster._daemon import controller

    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2
    QueuedRunCoordinator.dequeue_interval_seconds = 1
"""
"""Dagster's daemon looks for backfills every 30 s and for runs every 5: a backfill is over sooner than they begin."""


def graphql(url: str, query: str, **variables: object) -> dict[str, Any]:
    """Ask a webserver and return the answer's data."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        f"{url}/graphql", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - same
        found: dict[str, Any] = json.loads(answer.read())
    assert "errors" not in found, found["errors"]
    data: dict[str, Any] = found["data"]
    return data


def serves(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=2) as answer:  # noqa: S310 - same
            return bool(answer.status == 200)
    except OSError:
        return False


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process still runs; one that has ended and that nobody has waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class LiveStack:
    """One `salesintel up` over `home`, with `words` after it.

    `listening` are the addresses that were served, `reached` those connected to.
    """

    home: Path
    port: int
    extra: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    listening: set[str] = field(default_factory=set)
    reached: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.spied = self.home.parent / "spied"
        folder = self.home.parent / "spy"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(SPY + OFTEN)
        self.environment = (
            os.environ
            | {
                "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
                "SALESINTEL_HOME": str(self.home),
                "SPIED_FILE": str(self.spied),
            }
            | dict(self.extra)
        )
        self._watching = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "salesintel_dagster", *words]

    def start(self) -> LiveStack:
        with (self.home.parent / "up.out").open("ab") as out:
            self.process = subprocess.Popen(
                self.command("up", "--port", str(self.port), *self.words),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.home.parent,
            )
        self._watching.clear()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        eventually(self._serves, f"the UI; {self.said()[-2000:]}", START_SECONDS)
        return self

    def said(self) -> str:
        return (self.home.parent / "up.out").read_text(errors="replace")

    def run(self, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run another command beside the stack."""
        return subprocess.run(
            self.command(*words),
            env=self.environment | extra,
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            check=False,
        )

    def ask(self, *words: str) -> Any:  # noqa: ANN401 - any JSON
        """Return what a command that only reads answers with `--json`: in this process, without a second's imports."""
        told = call(*words, "--json", environment=self.environment)
        assert told.code == 0, told.err
        return told.json

    def processes(self) -> list[psutil.Process]:
        """Return `up` and everything below it."""
        assert self.process is not None
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def terminate(self) -> tuple[float, int, list[psutil.Process]]:
        """Send SIGTERM; return the seconds to the end, the exit code, and what was running before."""
        assert self.process is not None
        before = self.processes()
        began = SYSTEM_CLOCK.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        seconds = SYSTEM_CLOCK.monotonic() - began
        self._stop_watching()
        return seconds, code, before

    def close(self) -> None:
        """End what a failed test left."""
        self._stop_watching()
        if self.process is not None and self.process.poll() is None:
            before = self.processes()
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            for left in before:
                if is_alive(left):
                    left.kill()

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        return graphql(self.url, query, **variables)

    def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.said()
        return serves(self.url)

    def _watch(self) -> None:
        while not self._watching.is_set():
            self._look()
            self._watching.wait(WATCH_SECONDS)

    def _look(self) -> None:
        """Read the machine's sockets once: a look at each process by itself read them all, a tenth of a backfill."""
        try:
            ours = {process.pid for process in self.processes()}
        except psutil.NoSuchProcess:
            return
        for connection in psutil.net_connections("inet"):
            if connection.pid not in ours:
                continue
            if connection.status == psutil.CONN_LISTEN:
                self.listening.add(connection.laddr.ip)
            elif connection.raddr:
                self.reached.add(connection.raddr.ip)

    def _stop_watching(self) -> None:
        self._watching.set()
        if self._watcher is not None:
            self._watcher.join()
