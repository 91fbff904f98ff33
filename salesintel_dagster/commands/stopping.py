"""Ctrl-C and SIGTERM while Dagster runs: noticed for certain, told in a sentence.

Dagster raises from its own signal handler. Where that happens to interrupt a weak reference's callback, Python
prints the exception and goes on as if nothing had been pressed (seen in 1 of 7 tries, 2026-11); so a signal is also
noted here, and the export asks after each line that it logs.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STOPPING = frozenset({signal.SIGINT, signal.SIGTERM})


class Stopped(Exception):
    """The user, or the system, stopped the command. `exit_code` is the shell's own for that signal."""

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + number


@dataclass(slots=True)
class Notice:
    """Which signal came, if one did."""

    _pipe: socket.socket
    _number: int | None = None

    def number(self) -> int | None:
        """Return the first SIGINT or SIGTERM that came, or None."""
        try:
            arrived = self._pipe.recv(64)
        except BlockingIOError:
            arrived = b""
        if self._number is None:
            self._number = next((number for number in arrived if number in STOPPING), None)
        return self._number


@contextmanager
def noticing() -> Iterator[Notice]:
    """Note the signals that come, beside whatever handles them. Off the main thread none can come."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.settimeout(0)
        writer.settimeout(0)
        if threading.current_thread() is not threading.main_thread():
            yield Notice(reader)
            return
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield Notice(reader)
        finally:
            signal.set_wakeup_fd(before)
