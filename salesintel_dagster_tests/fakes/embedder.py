"""The embedder in memory: a vector made of the image's own hash, outcomes by script, and a record of every call."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np

from salesintel_dagster.domain.embedding import EmbeddingSpec, VectorBytes
from salesintel_dagster.domain.errors import EmbeddingFailure
from salesintel_dagster.domain.ports import Embedder

LOCAL_SPEC = EmbeddingSpec("local-fake", 1024, "v1-max2048")

Outcome = VectorBytes | BaseException | None
"""A vector to return, an error to raise, or None for the image's own vector."""


class ScriptedEmbedder(Embedder):
    """`script` is what the next calls do, whatever their image; `by_image` what every call for an image does.

    `calls` lists the sha256 of the images asked for, in order of arrival; `peak` is the most calls that were under way
    at once. `refuses` is what `check` raises, `checks` how often it was asked.
    """

    def __init__(
        self,
        script: Iterable[Outcome] = (),
        by_image: Mapping[bytes, Outcome] | None = None,
        spec: EmbeddingSpec = LOCAL_SPEC,
        latency_seconds: float = 0.0,
    ) -> None:
        self.script = deque(script)
        self.by_image = dict(by_image or {})
        self.latency_seconds = latency_seconds
        self.calls: list[str] = []
        self.checks = 0
        self.refuses: EmbeddingFailure | None = None
        self.peak = 0
        self._under_way = 0
        self._spec = spec
        self._lock = threading.Lock()

    @property
    def spec(self) -> EmbeddingSpec:
        return self._spec

    def check(self) -> None:
        with self._lock:
            self.checks += 1
        if self.refuses is not None:
            raise self.refuses

    def embed(self, image: bytes) -> VectorBytes:
        with self._lock:
            self.calls.append(hashlib.sha256(image).hexdigest())
            self._under_way += 1
            self.peak = max(self.peak, self._under_way)
            outcome = self.script.popleft() if self.script else self.by_image.get(image)
        try:
            if self.latency_seconds:
                time.sleep(self.latency_seconds)
            if isinstance(outcome, BaseException):
                raise outcome
            return vector_of(image, self._spec) if outcome is None else outcome
        finally:
            with self._lock:
                self._under_way -= 1


def vector_of(image: bytes, spec: EmbeddingSpec = LOCAL_SPEC) -> VectorBytes:
    """Return the vector that the fake gives an image: another one for another image, model or dimension."""
    seed = hashlib.sha256(image + repr(spec).encode()).digest()
    numbers = np.frombuffer(hashlib.shake_128(seed).digest(spec.dimension * 2), dtype="<i2").astype("<f4")
    return VectorBytes((numbers / 32768).astype("<f4").tobytes())
