"""Stage `titan_embeddings`: a vector, or the reason for none, for every sale of a staged day.

Each distinct image once, by the cheapest source: this run, the day's previous file, the vector cache, a paid call.
The rows leave in the order and the batches of `product_images`. A sale is never dropped here, and a vector of
another model, dimension or preprocessing is never reused.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from salesintel_dagster.domain.columns import EMBEDDING_SCHEMA
from salesintel_dagster.domain.embedding import EmbeddingSpec
from salesintel_dagster.domain.errors import EmbeddingFailure, ObjectMissing
from salesintel_dagster.domain.outcome import EmbeddingStatus, Tally
from salesintel_dagster.domain.ports import Embedder, ObjectStore
from salesintel_dagster.domain.progress import MAX_ERRORS_KEPT, bounded_errors
from salesintel_dagster.domain.vectors import vector_column
from salesintel_dagster.flows.export.concurrency import CallBudget
from salesintel_dagster.flows.export.day_images import NO_IMAGE, DayImages, Indices, day_images
from salesintel_dagster.flows.export.day_vectors import STATUSES, DayVectors
from salesintel_dagster.flows.export.previous_vectors import reuse_vectors
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, REPORT_SECONDS, TITAN_EMBEDDINGS, DayRun
from salesintel_dagster.flows.export.staging import StagedDay, StagedDays
from salesintel_dagster.flows.export.vector_maker import EmbeddingLimits, VectorMaker

__all__ = ["CallBudget", "EmbeddingLimits", "ImagesEmbedded", "embed_images"]

TICK_SECONDS = 0.5
MAX_WAITING = 16
"""Workers beyond the slots: they fetch images while others call. Each holds one image in memory."""

_OK = STATUSES.index(EmbeddingStatus.OK)
_NO_IMAGE = STATUSES.index(EmbeddingStatus.NO_IMAGE)
_STATUS_NAMES = pa.array([str(status) for status in STATUSES])


@dataclass(frozen=True, slots=True)
class ImagesEmbedded:
    """What became of a day: `tally` counts sales by embedding status, the other counts are of distinct images.

    `paid_calls` may be on the bill; `reused` came from the day's previous file, `cache_hits` from the vector cache.
    `errors` names the first failed sales that had an image; `halted` says why the model was not called any more.
    """

    tally: Tally
    distinct_images: int
    paid_calls: int
    cache_hits: int
    reused: int
    throttles: int
    unkept: int
    model_id: str
    dimension: int
    seconds: float
    errors: tuple[str, ...]
    halted: str | None
    staged: StagedDay


def embed_images(
    run: DayRun, embedder: Embedder, store: ObjectStore, staged: StagedDays, limits: EmbeddingLimits
) -> ImagesEmbedded:
    """Stage the day's embeddings. Raises ObjectMissing where `product_images` was never staged, StoreUnavailable."""
    started, day = run.clock.monotonic(), run.window.day
    with staged.open(PRODUCT_IMAGES, day) as manifest:
        if manifest is None:
            raise ObjectMissing(f"{PRODUCT_IMAGES} of {day} was never staged; materialise it first")
        images = day_images(manifest)
        maker = VectorMaker(embedder, store, limits, run.clock)
        with closing(DayVectors(images.sales, embedder.spec.dimension)) as vectors:
            stage = _Stage(run, embedder.spec, images, vectors, maker)
            reused = reuse_vectors(run, staged, embedder.spec, images, vectors)
            with _workers(images, vectors, maker, limits.concurrency):
                written = staged.write(TITAN_EMBEDDINGS, day, EMBEDDING_SCHEMA, stage.batches(manifest))
            stage.report(force=True)
            return stage.result(reused, run.clock.monotonic() - started, written)


@contextmanager
def _workers(images: DayImages, vectors: DayVectors, maker: VectorMaker, concurrency: int) -> Iterator[None]:
    """Let workers settle every pending image while the caller assembles batches; they end before this returns."""
    queue = deque(vectors.pending)
    if queue:
        maker.look_round(len(queue))
    waiting = min(MAX_WAITING, max(2, concurrency // 2))
    count = min(concurrency + waiting, len(queue))
    if not count:
        yield
        return
    with ThreadPoolExecutor(count, thread_name_prefix="embed") as pool:
        for _ in range(count):
            pool.submit(_work, queue, images, vectors, maker)
        try:
            yield
        finally:
            queue.clear()


def _work(queue: deque[int], images: DayImages, vectors: DayVectors, maker: VectorMaker) -> None:
    try:
        while True:
            try:
                image = queue.popleft()
            except IndexError:
                return
            try:
                vectors.keep(image, maker.make(images.sha256[image].as_py(), images.keys[image].as_py()))
            except EmbeddingFailure as failure:
                vectors.fail(image, failure)
    except BaseException as crash:  # noqa: BLE001 - told to the thread that waits, which raises it
        vectors.crash(crash)


@dataclass(slots=True)
class _Stage:
    """The one thread that waits for images, assembles batches and tells how far it is."""

    run: DayRun
    spec: EmbeddingSpec
    images: DayImages
    vectors: DayVectors
    maker: VectorMaker
    errors: list[str] = field(default_factory=list)
    _began: float = field(init=False)
    _said: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._said = self.run.clock.monotonic()

    def batches(self, manifest: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        """Yield one batch for each row group of the manifest, as soon as its images are settled."""
        first_row = 0
        for group in range(manifest.num_row_groups):
            last_row = first_row + manifest.metadata.row_group(group).num_rows
            shown = self.images.of_row[first_row:last_row]
            wanted = np.unique(shown[shown != NO_IMAGE])
            while not self.vectors.settled(wanted, TICK_SECONDS):
                self.report()
            columns = ["tenant_id", "sale_id", "image_sha256", "image_status"]
            yield self._batch(manifest.read_row_group(group, columns=columns), shown)
            self.report()
            first_row = last_row

    def _batch(self, rows: pa.Table, shown: Indices) -> pa.RecordBatch:
        codes = np.full(len(shown), _NO_IMAGE, dtype=np.uint8)
        codes[shown != NO_IMAGE] = self.vectors.statuses(shown[shown != NO_IMAGE])
        present = codes == _OK
        count = len(shown)
        columns = {
            "tenant_id": rows["tenant_id"],
            "sale_id": rows["sale_id"],
            "image_sha256": rows["image_sha256"],
            "embedding_status": _STATUS_NAMES.take(pa.array(codes)),
            "embedding_error": self._reasons(rows, shown, present),
            "embedding_model": pa.repeat(self.spec.model_id, count),
            "embedding_dimension": pa.repeat(pa.scalar(self.spec.dimension, pa.int32()), count),
            "preprocess_version": pa.repeat(self.spec.preprocess_version, count),
            "embedding_vector": vector_column(self.vectors.vectors(shown[present]), present),
        }
        [batch] = pa.table(columns, schema=EMBEDDING_SCHEMA).combine_chunks().to_batches()
        return batch

    def _reasons(self, rows: pa.Table, shown: Indices, present: npt.NDArray[np.bool_]) -> pa.Array:
        """Return why each row has no vector: its image's status where there is no image."""
        reasons: list[str | None] = [None] * len(shown)
        for row in np.flatnonzero(~present):
            if shown[row] == NO_IMAGE:
                reasons[row] = rows["image_status"][row].as_py()
                continue
            reason = reasons[row] = self.vectors.reason(int(shown[row]))
            if len(self.errors) < MAX_ERRORS_KEPT:
                status = STATUSES[self.vectors.statuses(shown[row : row + 1])[0]]
                self.errors.append(f"{rows['tenant_id'][row]}/{rows['sale_id'][row]}: {status}: {reason}")
        return pa.array(reasons, pa.string())

    def report(self, *, force: bool = False) -> None:
        """Tell progress and log where the stage is, every few seconds."""
        counts = self.vectors.counts
        done = counts.total() + self.images.missing.total()
        # A sale without an image is counted under its image's status: one reason a sale, and the counts add up.
        failed = Counter({str(status): n for status, n in counts.items() if status is not EmbeddingStatus.OK})
        self.run.progress.update(
            force=force,
            stage=TITAN_EMBEDDINGS,
            embedded=counts[EmbeddingStatus.OK],
            paid_calls=self.maker.calls.paid,
            failed=dict(failed + self.images.missing),
        )
        now = self.run.clock.monotonic()
        if force or now - self._said >= REPORT_SECONDS:
            self._said = now
            rate = round(done / max(now - self._began, 1e-3), 1)
            self.run.say("Embedding images", done=done, total=len(self.images.of_row), per_second=rate)

    def result(self, reused: int, seconds: float, written: StagedDay) -> ImagesEmbedded:
        """Freeze what became of the day."""
        calls = self.maker.calls
        counts = Counter({str(status): n for status, n in self.vectors.counts.items()})
        counts += Counter({str(EmbeddingStatus.NO_IMAGE): self.images.missing.total()})
        return ImagesEmbedded(
            tally=Tally.of(counts),
            distinct_images=self.images.count,
            paid_calls=calls.paid,
            cache_hits=calls.cache_hits,
            reused=reused,
            throttles=calls.throttles,
            unkept=calls.unkept,
            model_id=self.spec.model_id,
            dimension=self.spec.dimension,
            seconds=seconds,
            errors=bounded_errors(self.errors),
            halted=self.maker.halted,
            staged=written,
        )
