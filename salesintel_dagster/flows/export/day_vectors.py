"""What became of each distinct image of a day: its vector on disk, or why there is none.

Vectors lie in an unnamed temporary file, so that workers never wait for a batch, a hung call holds up nobody, and
memory stays the same for 1,000 images and for 100,000 (measured: see test_embeddings). A SIGKILL leaves no file.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter

import numpy as np
import numpy.typing as npt

from salesintel_dagster.domain.embedding import FLOAT32_BYTES, VectorBytes
from salesintel_dagster.domain.errors import EmbeddingFailure
from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.domain.vectors import Matrix
from salesintel_dagster.flows.export.day_images import Indices

STATUSES = (*EmbeddingStatus,)
"""A status is kept as its position here."""
PENDING = 255


class DayVectors:
    """One outcome per image, written by many workers, read by the one thread that assembles batches."""

    def __init__(self, sales: npt.NDArray[np.int64], dimension: int) -> None:
        self._sales = sales
        self._dimension = dimension
        self._bytes = dimension * FLOAT32_BYTES
        self._codes = np.full(len(sales), PENDING, dtype=np.uint8)
        self._reasons: dict[int, str] = {}
        self._counts: Counter[str] = Counter()
        self._awaited = -1
        self._crash: BaseException | None = None
        self._settled = threading.Condition()
        self._file = tempfile.TemporaryFile(prefix="salesintel-vectors-")  # noqa: SIM115 - closed by close()

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def keep(self, image: int, vector: VectorBytes | memoryview) -> None:
        """Settle `image` with its checked vector."""
        os.pwrite(self._file.fileno(), vector, image * self._bytes)
        self._settle(image, EmbeddingStatus.OK)

    def fail(self, image: int, failure: EmbeddingFailure) -> None:
        """Settle `image` with the reason why it has no vector."""
        self._reasons[image] = failure.reason
        self._settle(image, failure.status)

    def _settle(self, image: int, status: EmbeddingStatus) -> None:
        with self._settled:
            self._codes[image] = STATUSES.index(status)
            self._counts[status] += int(self._sales[image])
            if image == self._awaited:
                self._settled.notify()

    def crash(self, error: BaseException) -> None:
        """End the day: a worker met what no port may raise. Whoever waits gets the error."""
        with self._settled:
            self._crash = self._crash or error
            self._settled.notify()

    @property
    def pending(self) -> list[int]:
        """Images that are not settled, in order."""
        return [int(image) for image in np.flatnonzero(self._codes == PENDING)]

    @property
    def counts(self) -> Counter[str]:
        """Sales by embedding status, those of settled images only."""
        with self._settled:
            return self._counts.copy()

    def settled(self, images: Indices, timeout_seconds: float) -> bool:
        """Wait until every one of `images` is settled; False if the time ran out first. Raises a worker's crash."""
        with self._settled:
            while self._crash is None:
                open_ones = images[self._codes[images] == PENDING]
                if not len(open_ones):
                    return True
                # The last one: workers go in order, so waking for it wakes this thread a few times a batch only.
                self._awaited = int(open_ones[-1])
                if not self._settled.wait(timeout_seconds):
                    return False
            raise self._crash

    def statuses(self, images: Indices) -> npt.NDArray[np.uint8]:
        """Return the settled images' statuses as positions in STATUSES."""
        return self._codes[images]

    def reason(self, image: int) -> str:
        """Return why a failed image has no vector."""
        return self._reasons[image]

    def vectors(self, images: Indices) -> Matrix:
        """Read the vectors of images that have one, one read per run of neighbours in the file."""
        matrix = np.empty((len(images), self._dimension), dtype=np.float32)
        rows = matrix.view(np.uint8).reshape(-1)
        breaks = np.flatnonzero(np.diff(images) != 1) + 1
        for first, last in zip([0, *breaks], [*breaks, len(images)], strict=True):
            if last > first:
                into = rows[int(first) * self._bytes : int(last) * self._bytes]
                os.preadv(self._file.fileno(), [into.data], int(images[first]) * self._bytes)
        return matrix
