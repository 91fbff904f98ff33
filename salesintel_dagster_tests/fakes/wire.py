"""A line on which every remote call of the fakes is heard: what enumerators of crashes, rivals and errors act on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Crash(BaseException):
    """The process ends here, as by SIGKILL: no `except Exception` may catch it."""


class Wire:
    """Counts points: one before and one after each call. `act(n, name)` happens at each."""

    def __init__(self) -> None:
        self.points: list[str] = []
        self.act: Callable[[int, str], None] = lambda _n, _name: None
        self._lock = threading.Lock()

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        self._hit(f"before {name}")
        yield
        self._hit(f"after {name}")

    def _hit(self, name: str) -> None:
        with self._lock:
            self.points.append(name)
            number = len(self.points)
        self.act(number, name)
