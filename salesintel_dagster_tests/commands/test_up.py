"""What `salesintel up` does before and without a webserver; the whole stack is tested in defs/."""

from __future__ import annotations

import fcntl
import signal
import subprocess
from pathlib import Path

import pytest

from salesintel_dagster_tests.command_line import COMMAND, TIMEOUT_SECONDS, call


def test_a_second_up_over_the_same_home_is_refused(tmp_path: Path):
    """K2"""
    with (tmp_path / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = call("up", environment={"SALESINTEL_HOME": str(tmp_path)})
    assert (answer.code, answer.out) == (1, "")
    assert f"already up in {tmp_path}; stop that one first" in answer.err


@pytest.mark.parametrize("command", ["up", "status", "demo"])
def test_a_home_that_cannot_be_written_is_told_with_a_way_out(command: str, tmp_path: Path):
    """K4: a folder that takes nothing, also from root, and a file in a folder's place."""
    (tmp_path / "file").write_text("")
    for impossible in ("/proc/nowhere/world", tmp_path / "file", tmp_path / "file" / "world"):
        answer = call(command, environment={"SALESINTEL_HOME": str(impossible)})
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith(f"salesintel: {impossible}: the embedded world cannot keep its state here (")
        assert answer.err.endswith("); set SALESINTEL_HOME to a folder that can be written\n")


@pytest.mark.world
def test_ctrl_c_while_it_starts_stops_all_at_once(tmp_path: Path):
    with subprocess.Popen(
        [*COMMAND, "up", "--port", "3999"],
        env={"SALESINTEL_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Starting the Dagster webserver"):
                process.send_signal(signal.SIGINT)
                break
        told = process.stderr.read()
        assert process.wait(TIMEOUT_SECONDS) == 0
    assert told == "Stopping ...\nAll stopped.\n"
