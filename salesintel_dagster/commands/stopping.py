"""Ctrl-C and SIGTERM: not lost, told in a sentence.

A signal's handler raises wherever Python happens to be. Where that is a weak reference's callback or a `__del__`
(SQLAlchemy's pool, sqlite3), Python prints the exception with its traceback and goes on as if nothing had been pressed
(seen in 1 of 7 tries, 2026-11).
"""

from __future__ import annotations

import _thread
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

STOPPING = frozenset({signal.SIGINT, signal.SIGTERM})
AGAIN_SECONDS = 0.01
"""From a signal that was lost to its second coming: the callback that swallowed it has ended by then."""


class Stopped(Exception):
    """The user, or the system, stopped the command. `exit_code` is the shell's own for that signal."""

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + number


@contextmanager
def delivered_again(interrupted: type[BaseException]) -> Iterator[None]:
    """Send this process the signal again where what its handler raised was lost; nothing is printed.

    `interrupted` is what the handler of Ctrl-C raises. Raised again on the spot, it would be lost again.
    """
    tell = sys.unraisablehook

    def hear(lost: sys.UnraisableHookArgs) -> None:
        number = signal.SIGINT if issubclass(lost.exc_type, interrupted) else _ended_by(lost.exc_value)
        if number is None:
            tell(lost)
        else:
            _thread.start_new_thread(_send, (number,))

    sys.unraisablehook = hear
    try:
        yield
    finally:
        sys.unraisablehook = tell


def _ended_by(raised: BaseException | None) -> int | None:
    """Return the signal whose exit code `raised` ends us with, as the embedded world's handler does, or None."""
    code = raised.code if isinstance(raised, SystemExit) else None
    return code - 128 if isinstance(code, int) and code > 128 else None  # noqa: PLR2004 - the shell's own


def _send(number: int) -> None:
    time.sleep(AGAIN_SECONDS)
    os.kill(os.getpid(), number)


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


class Captures(Protocol):
    """What copies a step's output into files: Dagster's compute log manager, whichever the instance has."""

    def capture_logs(self, log_key: Sequence[str], /) -> AbstractContextManager[object]:
        """Copy while the block runs."""


@contextmanager
def deaf_children(manager: Captures) -> Iterator[None]:
    """Have the processes that `manager` copies by not feel a terminal's Ctrl-C, which goes to all of the group.

    They ended by it with two tracebacks over our last word; the end of the copying ends them anyway. A blocked signal
    is inherited by what is started meanwhile, and one that comes to us meanwhile is delivered afterwards.
    """
    copying = manager.capture_logs

    @contextmanager
    def started_deaf(log_key: Sequence[str]) -> Iterator[object]:
        with ExitStack() as copies:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                copied = copies.enter_context(copying(log_key))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield copied

    manager.capture_logs = started_deaf  # type: ignore[method-assign]
    try:
        yield
    finally:
        manager.capture_logs = copying  # type: ignore[method-assign]
