"""Messages kept from other workers for as long as their batch takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.domain.event_queue import EventQueue, QueuedMessage

BEATS_PER_VISIBILITY = 3
"""Two extensions may fail before a message comes again."""


class Heartbeat:
    """Extends the visibility of what is held, every third of it, until the block ends.

    A failed extension is told and tried again at the next beat: at worst a message comes twice, which is harmless.
    One whose time was up already is told once, with how many they are.
    """

    def __init__(self, queue: EventQueue, visibility_seconds: int, log: Callable[[str], None]) -> None:
        self._queue = queue
        self._visibility_seconds = visibility_seconds
        self._log = log
        self._held: dict[str, QueuedMessage] = {}
        self._lost: set[str] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="visibility-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Begin to beat."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; nothing is extended any more."""
        self._ended.set()
        self._thread.join()

    def hold(self, messages: Iterable[QueuedMessage]) -> None:
        """Extend these from now on."""
        with self._lock:
            self._held.update((one.message_id, one) for one in messages)

    def release(self, messages: Iterable[QueuedMessage]) -> None:
        """Extend these no more."""
        with self._lock:
            for one in messages:
                self._held.pop(one.message_id, None)
                self._lost.discard(one.message_id)

    def _beat(self) -> None:
        while not self._ended.wait(self._visibility_seconds / BEATS_PER_VISIBILITY):
            with self._lock:
                held = tuple(self._held.values())
            if not held:
                continue
            try:
                self._tell(self._queue.extend(held, self._visibility_seconds), len(held))
            except QueueUnavailable as error:
                self._log(f"[CarouselSync] Visibility not extended, messages may come twice: {error}")

    def _tell(self, not_kept: Sequence[QueuedMessage], held: int) -> None:
        with self._lock:  # one that was released meanwhile was deleted, as it should be
            lost = {one.message_id for one in not_kept} & self._held.keys() - self._lost
            self._lost |= lost
        if lost:
            self._log(f"[CarouselSync] Visibility of {len(lost)} of {held} messages not extended, they may come twice")
