"""Stage `titan_embeddings`: a vector, or the reason for none, for every sale of a staged day.

Each distinct image once, by the cheapest source: this run, the day's previous file, the vector cache, a paid call.
The rows leave in the order and the batches of `product_images`. A sale is never dropped here, and a vector of
another model, dimension or preprocessing is never reused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from salesintel_dagster.domain.columns import EMBEDDING_SCHEMA
from salesintel_dagster.domain.errors import ObjectMissing
from salesintel_dagster.domain.outcome import EmbeddingStatus, Tally
from salesintel_dagster.domain.ports import Embedder, ObjectStore
from salesintel_dagster.domain.progress import MAX_ERRORS_KEPT, bounded_errors
from salesintel_dagster.domain.vectors import vector_column
from salesintel_dagster.flows.export.concurrency import CallBudget
from salesintel_dagster.flows.export.day_images import NO_IMAGE, DayImages, day_images
from salesintel_dagster.flows.export.day_vectors import PENDING, STATUSES, Places
from salesintel_dagster.flows.export.embedding_work import EmbeddingWork
from salesintel_dagster.flows.export.previous_vectors import reuse_vectors
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, REPORT_SECONDS, TITAN_EMBEDDINGS, DayRun
from salesintel_dagster.flows.export.staging import StagedDay, StagedDays
from salesintel_dagster.flows.export.vector_maker import EmbeddingLimits

__all__ = ["CallBudget", "EmbeddingLimits", "ImagesEmbedded", "embed_images"]

TICK_SECONDS = 0.5

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


def embed_images(  # noqa: PLR0913 - the port list of the stage, as its caller reads it
    run: DayRun,
    embedder: Embedder,
    store: ObjectStore,
    staged: StagedDays,
    limits: EmbeddingLimits,
    *,
    begun: EmbeddingWork | None = None,
) -> ImagesEmbedded:
    """Stage the day's embeddings, going on with the work that `fetch_images` has begun, if any; ends that work.

    Raises ObjectMissing where `product_images` was never staged, StoreUnavailable.
    """
    started, day = run.clock.monotonic(), run.window.day
    with (
        begun or EmbeddingWork(embedder, store, limits, run.clock) as work,
        staged.open(PRODUCT_IMAGES, day) as manifest,
    ):
        if manifest is None:
            raise ObjectMissing(f"{PRODUCT_IMAGES} of {day} was never staged; materialise it first")
        images = day_images(manifest, work.vectors)
        stage = _Stage(run, images, work)
        reused = reuse_vectors(run, staged, work.spec, images.new, work.vectors)
        work.add(images.new)
        written = staged.write(TITAN_EMBEDDINGS, day, EMBEDDING_SCHEMA, stage.batches(manifest))
        stage.report(force=True)
        return stage.result(reused, run.clock.monotonic() - started, written)


@dataclass(slots=True)
class _Stage:
    """The one thread that waits for images, assembles batches and tells how far it is."""

    run: DayRun
    images: DayImages
    work: EmbeddingWork
    errors: list[str] = field(default_factory=list)
    _began: float = field(init=False)
    _said: float = field(init=False)
    _done_before: int = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._said = self.run.clock.monotonic()
        self._done_before = self._counts().total()

    def batches(self, manifest: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        """Yield one batch for each row group of the manifest, as soon as its images are settled."""
        first_row = 0
        for group in range(manifest.num_row_groups):
            last_row = first_row + manifest.metadata.row_group(group).num_rows
            shown = self.images.of_row[first_row:last_row]
            wanted = np.unique(shown[shown != NO_IMAGE])
            while not self.work.vectors.settled(wanted, TICK_SECONDS):
                self.report()
            columns = ["tenant_id", "sale_id", "image_sha256", "image_status"]
            yield self._batch(manifest.read_row_group(group, columns=columns), shown)
            self.report()
            first_row = last_row

    def _batch(self, rows: pa.Table, shown: Places) -> pa.RecordBatch:
        """Return the batch; `shown` are the places of its rows' images."""
        vectors, spec = self.work.vectors, self.work.spec
        codes = np.full(len(shown), _NO_IMAGE, dtype=np.uint8)
        codes[shown != NO_IMAGE] = vectors.statuses(shown[shown != NO_IMAGE])
        present = codes == _OK
        count = len(shown)
        columns = {
            "tenant_id": rows["tenant_id"],
            "sale_id": rows["sale_id"],
            "image_sha256": rows["image_sha256"],
            "embedding_status": _STATUS_NAMES.take(pa.array(codes)),
            "embedding_error": self._reasons(rows, shown, present),
            "embedding_model": pa.repeat(spec.model_id, count),
            "embedding_dimension": pa.repeat(pa.scalar(spec.dimension, pa.int32()), count),
            "preprocess_version": pa.repeat(spec.preprocess_version, count),
            "embedding_vector": vector_column(vectors.vectors(shown[present]), present),
        }
        [batch] = pa.table(columns, schema=EMBEDDING_SCHEMA).combine_chunks().to_batches()
        return batch

    def _reasons(self, rows: pa.Table, shown: Places, present: npt.NDArray[np.bool_]) -> pa.Array:
        """Return why each row has no vector: its image's status where there is no image."""
        reasons: list[str | None] = [None] * len(shown)
        for row in np.flatnonzero(~present):
            if shown[row] == NO_IMAGE:
                reasons[row] = rows["image_status"][row].as_py()
                continue
            reason = reasons[row] = self.work.vectors.reason(int(shown[row]))
            if len(self.errors) < MAX_ERRORS_KEPT:
                status = STATUSES[self.work.vectors.statuses(shown[row : row + 1])[0]]
                self.errors.append(f"{rows['tenant_id'][row]}/{rows['sale_id'][row]}: {status}: {reason}")
        return pa.array(reasons, pa.string())

    def _counts(self) -> Counter[EmbeddingStatus]:
        """Count the sales of settled images by status."""
        codes, sales = self.work.vectors.statuses(self.images.places), self.images.sales
        return Counter({STATUSES[code]: int(sales[codes == code].sum()) for code in np.unique(codes[codes != PENDING])})

    def report(self, *, force: bool = False) -> None:
        """Tell progress and log where the stage is, every few seconds."""
        counts = self._counts()
        done = counts.total()
        # A sale without an image is counted under its image's status: one reason a sale, and the counts add up.
        failed = Counter({str(status): n for status, n in counts.items() if status is not EmbeddingStatus.OK})
        self.run.progress.update(
            force=force,
            stage=TITAN_EMBEDDINGS,
            embedded=counts[EmbeddingStatus.OK],
            paid_calls=self.work.maker.calls.paid,
            failed=dict(failed + self.images.missing),
        )
        now = self.run.clock.monotonic()
        if force or now - self._said >= REPORT_SECONDS:
            self._said = now
            # On a fresh day all was done while images were still being downloaded: this stage has no rate then.
            here = done - self._done_before
            rate = {"per_second": round(here / max(now - self._began, 1e-3), 1)} if here else {}
            settled = done + self.images.missing.total()
            self.run.say("Embedding images", done=settled, total=len(self.images.of_row), **rate)

    def result(self, reused: int, seconds: float, written: StagedDay) -> ImagesEmbedded:
        """Freeze what became of the day."""
        calls = self.work.maker.calls
        counts = Counter({str(status): n for status, n in self._counts().items()})
        counts += Counter({str(EmbeddingStatus.NO_IMAGE): self.images.missing.total()})
        return ImagesEmbedded(
            tally=Tally.of(counts),
            distinct_images=self.images.count,
            paid_calls=calls.paid,
            cache_hits=calls.cache_hits,
            reused=reused,
            throttles=calls.throttles,
            unkept=calls.unkept,
            model_id=self.work.spec.model_id,
            dimension=self.work.spec.dimension,
            seconds=seconds,
            errors=bounded_errors(self.errors),
            halted=self.work.maker.halted,
            staged=written,
        )
