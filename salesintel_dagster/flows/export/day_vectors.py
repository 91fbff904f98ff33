"""What became of each distinct image of a day: its vector on disk, or why there is none.

An image is known by its place, which it gets when it is first heard of: as it lands in the store, or from the
manifest. Vectors lie in an unnamed temporary file, so that workers never wait for a batch, a hung call holds up
nobody, and memory stays the same for 1,000 images and for 100,000 (measured: see test_embeddings). A SIGKILL leaves
no file.
"""

from __future__ import annotations

import errno
import os
import struct
import tempfile
import threading

import numpy as np
import numpy.typing as npt

from salesintel_dagster.domain.embedding import FLOAT32_BYTES, VectorBytes
from salesintel_dagster.domain.errors import EmbeddingFailure
from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.domain.vectors import Matrix
from salesintel_dagster.flows.export.day_index import DayIndex

_PLACE = struct.Struct("<q")

Places = npt.NDArray[np.int32]

STATUSES = (*EmbeddingStatus,)
"""A status is kept as its position here."""
PENDING = 255
FIRST_PLACES = 4_096


class DayVectors:
    """One outcome per image, written by many workers, read by the one thread that assembles batches."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._bytes = dimension * FLOAT32_BYTES
        self._places = DayIndex()
        self._known = 0
        self._closed = False
        self._codes = np.full(FIRST_PLACES, PENDING, dtype=np.uint8)
        self._reasons: dict[int, str] = {}
        self._awaited = -1
        self._crash: BaseException | None = None
        self._settled = threading.Condition()
        self._file = tempfile.TemporaryFile(prefix="salesintel-vectors-")  # noqa: SIM115 - closed by close()

    def close(self) -> None:
        """Give disk and memory back: the day goes on without them."""
        with self._settled:
            self._closed = True
            self._file.close()
            self._places.close()

    def place(self, sha256: bytes) -> tuple[int, bool]:
        """Return the place of the image with this digest, and whether it was unheard of; none is, once closed."""
        with self._settled:
            if self._closed:
                return 0, False
            known = self._places.get(sha256)
            if known is not None:
                return _PLACE.unpack(known)[0], False
            place = self._known
            self._places.put(sha256, _PLACE.pack(place))
            self._known += 1
            if place == len(self._codes):
                self._codes = np.concatenate([self._codes, np.full(place, PENDING, dtype=np.uint8)])
            return place, True

    def keep(self, place: int, vector: VectorBytes | memoryview) -> None:
        """Settle an image with its checked vector. Raises OSError: a full disk takes half of it without one."""
        if os.pwrite(self._file.fileno(), vector, place * self._bytes) < self._bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._settle(place, EmbeddingStatus.OK)

    def fail(self, place: int, failure: EmbeddingFailure) -> None:
        """Settle an image with the reason why it has no vector."""
        self._reasons[place] = failure.reason
        self._settle(place, failure.status)

    def _settle(self, place: int, status: EmbeddingStatus) -> None:
        with self._settled:
            self._codes[place] = STATUSES.index(status)
            if place == self._awaited:
                self._settled.notify()

    def crash(self, error: BaseException) -> None:
        """End the day: a worker met what no port may raise. Whoever waits gets the error."""
        with self._settled:
            self._crash = self._crash or error
            self._settled.notify()

    def settled(self, places: Places, timeout_seconds: float) -> bool:
        """Wait until every one of `places` is settled; False if the time ran out first. Raises a worker's crash."""
        with self._settled:
            while self._crash is None:
                open_ones = places[self._codes[places] == PENDING]
                if not len(open_ones):
                    return True
                # The last one: workers go in order, so waking for it wakes this thread a few times a batch only.
                self._awaited = int(open_ones.max())
                if not self._settled.wait(timeout_seconds):
                    return False
            raise self._crash

    def statuses(self, places: Places) -> npt.NDArray[np.uint8]:
        """Return statuses as positions in STATUSES, PENDING where an image is not settled."""
        return self._codes[places]

    def reason(self, place: int) -> str:
        """Return why a failed image has no vector."""
        return self._reasons[place]

    def vectors(self, places: Places) -> Matrix:
        """Read the vectors of images that have one, one read per run of neighbours in the file."""
        matrix = np.empty((len(places), self._dimension), dtype=np.float32)
        rows = matrix.view(np.uint8).reshape(-1)
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        for first, last in zip([0, *breaks], [*breaks, len(places)], strict=True):
            if last > first:
                into = rows[int(first) * self._bytes : int(last) * self._bytes]
                os.preadv(self._file.fileno(), [into.data], int(places[first]) * self._bytes)
        return matrix
