"""The supervisor with small children of our own: readiness, bounded restarts, an end for everybody."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from salesintel_dagster.domain.errors import WorldError
from salesintel_dagster.local.ports import free_port
from salesintel_dagster.local.processes import Child, Supervisor
from salesintel_dagster_tests.local.held_worlds import eventually

SLEEPER = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def supervisor(events: list[str]) -> Iterator[Supervisor]:
    running = Supervisor(events.append)
    yield running
    running.stop()


def child(folder: Path, script: str, ready: Callable[[], bool] = lambda: True) -> Child:
    argv = (sys.executable, "-I", "-S", "-c", script)
    return Child("it", argv, {"PATH": os.defpath}, folder / "it.log", ready)


def test_a_child_that_keeps_ending_is_given_up_with_its_last_words(
    supervisor: Supervisor, events: list[str], tmp_path: Path
):
    with pytest.raises(WorldError, match=r"it ended 4 times \(last with exit code 3\).*no such thing"):
        supervisor.start([child(tmp_path, "print('no such thing'); raise SystemExit(3)", lambda: False)], 20)
    assert events.count("it ended with exit code 3; starting it again") == 3
    assert supervisor.failed is not None


def test_a_child_that_is_never_ready_fails_at_the_deadline(supervisor: Supervisor, tmp_path: Path):
    with pytest.raises(WorldError, match="it was not ready after 0 s"):
        supervisor.start([child(tmp_path, SLEEPER, lambda: False)], 0.2)


def test_a_program_that_is_not_there_is_told(supervisor: Supervisor, tmp_path: Path):
    missing = Child("it", ("/no/such/program",), {}, tmp_path / "it.log", lambda: False)
    with pytest.raises(WorldError, match=r"it ended .*No such file"):
        supervisor.start([missing], 20)


def test_a_crashed_child_is_started_again(supervisor: Supervisor, events: list[str], tmp_path: Path):
    supervisor.start([child(tmp_path, SLEEPER)], 20)
    first = supervisor.pid("it")
    assert first is not None
    psutil.Process(first).kill()
    eventually(lambda: supervisor.pid("it") not in (first, None), "a new process")
    assert events == ["it ended with signal SIGKILL; starting it again"]


def test_what_a_child_leaves_in_its_session_ends_with_it(supervisor: Supervisor, tmp_path: Path):
    note = tmp_path / "grandchild"
    script = (
        f"import subprocess, sys, pathlib, time; p = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); "
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid)); time.sleep(600)"
    )
    supervisor.start([child(tmp_path, script, lambda: note.exists() and note.read_text() != "")], 20)
    grandchild = psutil.Process(int(note.read_text()))
    supervisor.stop()
    eventually(lambda: not grandchild.is_running() or grandchild.status() == "zombie", "the grandchild's end")


def test_a_child_gets_its_own_session_and_only_its_own_environment(supervisor: Supervisor, tmp_path: Path):
    supervisor.start([child(tmp_path, SLEEPER)], 20)
    process = psutil.Process(supervisor.pid("it"))
    assert os.getsid(process.pid) == process.pid
    assert set(eventually(process.environ, "exec")) <= {"PATH", "LC_CTYPE"}


def test_a_free_port_is_the_preferred_one_unless_it_is_taken():
    port = free_port()
    assert free_port(port) == port
    with socket.create_server(("127.0.0.1", port)):
        assert free_port(port) != port
