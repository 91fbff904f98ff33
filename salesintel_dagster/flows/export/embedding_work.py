"""The embedding of one day under way: its workers, its vectors, and what they cost.

Where both stages of a day run, images are handed over as they land in the store, so that the first vector is made
while the others are still being downloaded (docs/decisions/0006-embedding-begins-with-the-first-image.md). What the
manifest names beyond those follows. Each image is made once, however often it is heard of.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import EmbeddingFailure
from salesintel_dagster.domain.images import ImageKind, image_key
from salesintel_dagster.domain.ports import Embedder, ObjectStore
from salesintel_dagster.flows.export.day_vectors import PENDING, DayVectors, Places
from salesintel_dagster.flows.export.image_outcomes import StoredImage
from salesintel_dagster.flows.export.vector_maker import EmbeddingLimits, VectorMaker

MAX_WAITING = 16
"""Workers beyond the slots: they fetch images while others call. Each holds one image in memory."""
MAX_BYTES_IN_HAND = 32 * 1024 * 1024
"""Landed images that wait for a worker with their bytes. Beyond that a worker reads its image from the store."""


class _Landed(NamedTuple):
    place: int
    tenant_id: str
    digest: bytes
    kind: ImageKind
    data: bytes | None


class _Task(NamedTuple):
    place: int
    sha256: str
    key: str
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class ImagesToMake:
    """Images of which nothing is known yet: row n of each says who, where it lies and its place in the vectors."""

    sha256: pa.StringArray
    keys: pa.StringArray
    places: Places

    @classmethod
    def none(cls) -> Self:
        """Return no image."""
        return cls(pa.array([], pa.string()), pa.array([], pa.string()), np.empty(0, dtype=np.int32))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the images of all parts, one at least, in their order."""
        return cls(
            pa.concat_arrays([part.sha256 for part in parts]),
            pa.concat_arrays([part.keys for part in parts]),
            np.concatenate([part.places for part in parts]),
        )

    def task(self, row: np.intp) -> _Task:
        """Return what a worker needs to know of row `row`."""
        return _Task(int(self.places[row]), self.sha256[row].as_py(), self.keys[row].as_py())


class EmbeddingWork:
    """Makes vectors for one day. A context: leaving it waits for the calls under way and begins no other."""

    def __init__(self, embedder: Embedder, store: ObjectStore, limits: EmbeddingLimits, clock: Clock) -> None:
        self.spec = embedder.spec
        self.maker = VectorMaker(embedder, store, limits, clock)
        self.vectors = DayVectors(self.spec.dimension)
        self._most = limits.concurrency + min(MAX_WAITING, max(2, limits.concurrency // 2))
        self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="embed")
        self._landed: deque[_Landed] = deque()
        self._named: Iterator[_Task] = iter(())
        self._bytes_in_hand = 0
        self._working = 0
        self._begun = self._ended = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, as `close` does."""
        self.close()

    def close(self) -> None:
        """Begin no other vector, wait for those under way, and give the disk space back. May be called again."""
        self._end()
        self._pool.shutdown()
        self.vectors.close()

    def begin(self, images_at_most: int) -> None:
        """Look round the vector cache before the first image; a second call does nothing."""
        if not self._begun:
            self._begun = True
            self.maker.look_round(images_at_most)

    def land(self, tenant_id: str, image: StoredImage, data: bytes) -> None:
        """Take an image that lies in the store now, from any thread; never waits."""
        place, is_new = self.vectors.place(image.digest)
        if not is_new:
            return
        with self._lock:
            if self._ended:
                return
            fits = self._bytes_in_hand + len(data) <= MAX_BYTES_IN_HAND
            self._bytes_in_hand += len(data) if fits else 0
            self._landed.append(_Landed(place, tenant_id, image.digest, image.kind, data if fits else None))
            self._start(1)

    def add(self, images: ImagesToMake) -> None:
        """Take the images of a manifest that are not settled yet; once a day."""
        pending = np.flatnonzero(self.vectors.statuses(images.places) == PENDING)
        if not len(pending):
            return
        self.begin(len(pending))
        with self._lock:
            if not self._ended:
                self._named = map(images.task, pending)
                self._start(len(pending))

    def _start(self, tasks: int) -> None:
        for _ in range(min(tasks, self._most - self._working)):
            self._working += 1
            self._pool.submit(self._work)

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                try:
                    self.vectors.keep(task.place, self.maker.make(task.sha256, task.key, task.data))
                except EmbeddingFailure as failure:
                    self.vectors.fail(task.place, failure)
        except BaseException as crash:  # noqa: BLE001 - told to the thread that waits, which raises it
            self._end()
            self.vectors.crash(crash)

    def _next(self) -> _Task | None:
        """Return what to make next; None ends the worker, and whoever brings more starts another."""
        with self._lock:
            if self._landed:
                place, tenant_id, digest, kind, data = self._landed.popleft()
                self._bytes_in_hand -= len(data or b"")
                sha256 = digest.hex()
                return _Task(place, sha256, image_key(tenant_id, sha256, kind), data)
            task = next(self._named, None)
            self._working -= task is None
            return task

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            self._landed.clear()
            self._named = iter(())
