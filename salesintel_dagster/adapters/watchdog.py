"""Ends a wait that a database driver would sit out: a server that stalls answers to no timeout of its own.

The socket is shut down from a timer's thread, on a descriptor of our own, so that no number of a closed one is hit.
The driver's call then fails at once, as if the server had gone.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import SourceUnavailable

GRACE_SECONDS = 1.0
"""The server's own timeout comes first: it knows better what it waited for."""


class Watchdog:
    """Guards one connection to `place` until a deadline. Used by one thread."""

    def __init__(self, place: str, deadline_seconds: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._place = place
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._ends_at = clock.monotonic() + deadline_seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._was_cut = False

    def watch(self, descriptor: int) -> None:
        """Take the connection's socket. A second call replaces the first."""
        self.close()
        self._socket = socket.socket(fileno=os.dup(descriptor))

    def close(self) -> None:
        """Let go of the socket; nothing is cut any more."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def remaining_seconds(self) -> float:
        """Return what is left of the deadline. Raises SourceUnavailable where nothing is."""
        left = self._ends_at - self._clock.monotonic()
        if left <= 0:
            raise SourceUnavailable(f"{self._place}: not read within {self._deadline_seconds:g} s")
        return left

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Let the body take `seconds`, or what is left of the deadline. Raises SourceUnavailable where it was cut."""
        left = self.remaining_seconds()
        timer = threading.Timer(min(seconds, left), self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception:
            if not self._was_cut:
                raise
            self.remaining_seconds()
            raise SourceUnavailable(f"{self._place}: no answer for {seconds:g} s; the connection was cut") from None
        finally:
            timer.cancel()

    def cut(self) -> None:
        """Shut the connection down now."""
        with self._lock:
            if self._socket is not None:
                self._was_cut = True
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
