"""How the stand-in servers live: on loopback only, ready when they say so, gone when told."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from salesintel_dagster.local.loopback import READY
from salesintel_dagster_tests.local.stand_ins import call_json

SERVERS = {"titan": ("titan_server",), "images": ("image_server", "--folder", "."), "provider": ("keepa_server",)}


@contextmanager
def started(words: tuple[str, ...], port: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Run a server; kill it afterwards, also when the test fails: leaving Popen's own block only waits for it."""
    module, *more = words
    command = [sys.executable, "-m", f"salesintel_dagster.local.{module}", "--port", str(port), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("words", SERVERS.values(), ids=SERVERS)
def test_a_server_listens_on_loopback_only_and_ends_when_told_with_an_answer_open(words: tuple[str, ...]) -> None:
    """K7, J14."""
    with started(words) as process, ExitStack() as open_connections:
        assert process.stdout is not None
        ready = READY.match(process.stdout.readline())
        assert ready
        port = int(ready[1])
        assert call_json("GET", f"http://127.0.0.1:{port}/stats")["requests"] == 0
        listening = [c.laddr for c in psutil.Process(process.pid).net_connections("inet") if c.status == "LISTEN"]
        assert [tuple(address) for address in listening] == [("127.0.0.1", port)]

        hung = open_connections.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        hung.sendall(b"GET /fault/hang/x HTTP/1.1\r\nHost: x\r\n\r\n")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=8)
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize("words", SERVERS.values(), ids=SERVERS)
def test_a_taken_port_is_an_error_and_not_a_second_server(words: tuple[str, ...]) -> None:
    """K1."""
    with socket.create_server(("127.0.0.1", 0)) as taken, started(words, taken.getsockname()[1]) as process:
        told, error = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "Address already in use" in error
    assert told == ""


def test_the_image_host_needs_a_folder(tmp_path: Path) -> None:
    with started(("image_server", "--folder", str(tmp_path / "missing"))) as process:
        _, error = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "no such folder" in error
