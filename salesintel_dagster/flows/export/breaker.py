"""What ends the calls of a whole run: images failing in a row, or a model that no image could pass.

A permission, a region or a model that is wrong is asked about once, before the first image, by a request that costs
nothing. What fails on the way is counted by image, after its retries: an outage of seconds opens nothing. Nor do ten
broken pictures of one host, which would leave all others without their vectors: a picture of ours is sent first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from salesintel_dagster.domain.errors import (
    EmbedderUnusable,
    EmbeddingFailure,
    EmbeddingRefused,
    EmbeddingTransient,
)
from salesintel_dagster.domain.outcome import EmbeddingStatus

FAILURES_IN_A_ROW = 10

FAILED_CALLS = frozenset(
    {EmbeddingStatus.MODEL_ERROR, EmbeddingStatus.INVALID_VECTOR, EmbeddingStatus.REFUSED_BY_MODEL}
)
"""What counts: the model was asked and gave no vector. An image that was never sent says nothing of the model."""


class Breaker:
    """Shared by the days of a run and by their workers. Once it has opened, it stays open."""

    def __init__(self, failures: int = FAILURES_IN_A_ROW) -> None:
        self._failures = failures
        self._in_a_row = 0
        self._asked = False
        self._opened: EmbeddingFailure | None = None
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._proving = threading.Lock()

    @property
    def opened(self) -> EmbeddingFailure | None:
        """Why no call is made any more, if so."""
        return self._opened

    def ask_first(self, ask: Callable[[], None]) -> None:
        """Ask once in a run whether the model may be called at all; whoever comes meanwhile waits for the answer."""
        with self._asking:
            if self._asked:
                return
            self._asked = True
            try:
                with suppress(EmbeddingTransient):  # no answer yet: the first image asks again, with its retries
                    ask()
            except EmbedderUnusable as failure:
                self.open(failure)

    def succeeded(self) -> None:
        """An image has its vector."""
        with self._lock:
            self._in_a_row = 0

    def failed(self, failure: EmbeddingFailure, prove: Callable[[], object]) -> None:
        """An image has none. `prove` has the model take a picture of ours; whoever fails meanwhile waits for that."""
        if failure.status not in FAILED_CALLS:
            return
        with self._lock:
            self._in_a_row += 1
        with self._proving:
            if self._in_a_row < self._failures or self._opened is not None:
                return
            try:
                prove()
            except EmbeddingFailure as proof:
                if proof.status in FAILED_CALLS and self._in_a_row >= self._failures:
                    self._open_after(failure)
            else:
                self.succeeded()

    def _open_after(self, failure: EmbeddingFailure) -> None:
        reason = f"{self._in_a_row} images in a row failed, the last by {failure}; no more calls in this run"
        self.open(EmbeddingRefused(EmbeddingStatus.BREAKER_OPEN, reason))

    def open(self, failure: EmbeddingFailure) -> None:
        """End the calls at once, for `failure`."""
        with self._lock:
            self._opened = self._opened or failure
