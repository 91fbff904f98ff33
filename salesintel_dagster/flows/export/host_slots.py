"""Threads that serve many hosts fairly: so many tasks at once, so many of them for one host.

Hosts take turns, and a host at its limit is passed over: one slow host with a thousand tasks holds its own slots and
no others. A task holds its slot until it returns, its waits included.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Task = Callable[[], None]


class HostSlots:
    """A pool of at most `total` threads. A task must raise nothing: what it meets is its own to tell."""

    def __init__(self, total: int, per_host: int) -> None:
        self._total = total
        self._per_host = per_host
        self._queued: dict[str, deque[Task]] = {}
        self._running: dict[str, int] = {}
        self._ready: dict[str, None] = {}
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False
        self._work = threading.Condition()

    def submit(self, host: str, task: Task) -> None:
        """Queue a task of `host`."""
        with self._work:
            self._queued.setdefault(host, deque()).append(task)
            self._mark(host)
            if self._idle:
                self._work.notify()
            elif len(self._threads) < self._total:
                thread = threading.Thread(target=self._serve, name=f"slot-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def close(self, *, wait: bool) -> None:
        """Take no more tasks from the queue; `wait` for those that run, or leave them to their deadlines."""
        with self._work:
            self._closed = True
            self._work.notify_all()
        if wait:
            for thread in self._threads:
                thread.join()

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            host, task = taken
            task()
            del task, taken
            self._release(host)

    def _take(self) -> tuple[str, Task] | None:
        with self._work:
            while not self._closed:
                host = next(iter(self._ready), None)
                if host is not None:
                    del self._ready[host]
                    task = self._queued[host].popleft()
                    self._running[host] = self._running.get(host, 0) + 1
                    self._mark(host)
                    return host, task
                self._idle += 1
                self._work.wait()
                self._idle -= 1
        return None

    def _release(self, host: str) -> None:
        with self._work:
            self._running[host] -= 1
            if not self._running[host]:
                del self._running[host]
            if not self._queued[host]:
                if host not in self._running:
                    del self._queued[host]
                return
            self._mark(host)

    def _mark(self, host: str) -> None:
        """Let `host` stand in line, behind the others, if it has a task and a slot to spare."""
        if self._queued[host] and self._running.get(host, 0) < self._per_host:
            self._ready.setdefault(host)
