"""The manifest of a day's images: one row per sale, row n of it beside row n of the raw sales, batch by batch.

Batches overlap, so that the slots never idle at a batch's border, and memory is bounded by the batches in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from salesintel_dagster.domain.columns import IMAGE_SCHEMA
from salesintel_dagster.domain.images import ImageKind
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.domain.progress import MAX_ERRORS_KEPT
from salesintel_dagster.flows.export.embedding_work import EmbeddingWork
from salesintel_dagster.flows.export.image_jobs import ImageJob, ImageJobs
from salesintel_dagster.flows.export.image_outcomes import ImageOutcome, OutcomeIndex, StoredImage
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, REPORT_SECONDS, DayRun

BATCHES_IN_FLIGHT = 8
"""16,000 sales: at 64 slots and 0.15 s an image more than one deadline of 30 s, so a hung image stops nobody."""
MAX_SAMPLES = 6

_RAW_COLUMNS = ["tenant_id", "sale_id", "image_url"]
_KNOWN_COLUMNS = [
    "tenant_id",
    "url_sha256",
    "image_status",
    "image_s3_key",
    "image_sha256",
    "image_bytes",
    "image_width",
    "image_height",
]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A raw batch whose images are on their way."""

    tenants: list[str]
    sale_ids: list[str]
    jobs: list[ImageJob]


@dataclass(slots=True)
class ImageManifest:
    """Turns raw rows into manifest batches, telling how far it is. A context: leaving it ends the downloads.

    `embedding` is the work that landing images go to; what it has cost is told with the rest.
    """

    run: DayRun
    jobs: ImageJobs
    raw: pq.ParquetFile
    embedding: EmbeddingWork | None = None
    samples: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _started: float = 0.0
    _reported: float = 0.0

    def __enter__(self) -> Self:
        """Start the clock of the rate."""
        self._started = self._reported = self.run.clock.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no thread waiting for work."""
        self.jobs.close(abandon=error is not None)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield one IMAGE_SCHEMA batch for each raw batch, in their order."""
        waiting: deque[_Asked] = deque()
        for index in range(self.raw.num_row_groups):
            waiting.append(self._asked(self.raw.read_row_group(index, columns=_RAW_COLUMNS)))
            if len(waiting) == BATCHES_IN_FLIGHT:
                yield self._finished(waiting.popleft())
        while waiting:
            yield self._finished(waiting.popleft())

    def report(self, *, force: bool = False) -> None:
        """Tell the progress ledger and the log, at most every few seconds."""
        now = self.run.clock.monotonic()
        if not force and now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        tally = self.jobs.tally()
        paid = 0 if self.embedding is None else self.embedding.maker.calls.paid
        self.run.progress.update(stage=PRODUCT_IMAGES, images_ok=tally.ok, failed=tally.failures, paid_calls=paid)
        rate = tally.total / (now - self._started) if now > self._started else 0.0
        total = self.raw.metadata.num_rows
        self.run.say("Downloading images", done=tally.total, total=total, per_second=round(rate, 1))

    def _asked(self, rows: pa.Table) -> _Asked:
        tenants, sale_ids, urls = (rows[column].to_pylist() for column in _RAW_COLUMNS)
        jobs = [self._ask(tenant, url) for tenant, url in zip(tenants, urls, strict=True)]
        return _Asked(tenants, sale_ids, jobs)

    def _ask(self, tenant_id: str, url: str | None) -> ImageJob:
        self.report()
        return self.jobs.ask(tenant_id, url)

    def _finished(self, asked: _Asked) -> pa.RecordBatch:
        outcomes = [self._outcome(job) for job in asked.jobs]
        rows = [
            _row(tenant, sale_id, job, outcome)
            for tenant, sale_id, job, outcome in zip(asked.tenants, asked.sale_ids, asked.jobs, outcomes, strict=True)
        ]
        self._remember(rows)
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, wanted.type) for column, wanted in zip(columns, IMAGE_SCHEMA, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=IMAGE_SCHEMA)

    def _outcome(self, job: ImageJob) -> ImageOutcome:
        self.report()
        while (outcome := job.outcome or self.jobs.wait(job, REPORT_SECONDS)) is None:
            self.report()
        return outcome

    def _remember(self, rows: list[tuple[object, ...]]) -> None:
        """Keep the first errors by sale, and a few pictures to show."""
        for _, sale_id, _, status, reason, key, *_ in rows:
            if key is not None and len(self.samples) < MAX_SAMPLES and key not in self.samples:
                self.samples[str(key)] = str(sale_id)
            elif key is None and status != ImageStatus.NO_URL and len(self.errors) < MAX_ERRORS_KEPT:
                self.errors.append(f"{sale_id}: {status}: {reason}")


def known_images(manifest: pq.ParquetFile | None) -> OutcomeIndex:
    """Return the stored images of an earlier manifest; none where there is no manifest of this version."""
    known = OutcomeIndex()
    if manifest is None or not manifest.schema_arrow.equals(IMAGE_SCHEMA):
        return known
    for group in range(manifest.num_row_groups):
        columns = manifest.read_row_group(group, columns=_KNOWN_COLUMNS)
        for row in zip(*(columns[name].to_pylist() for name in _KNOWN_COLUMNS), strict=True):
            tenant, url_sha256, status, key, sha256, size, width, height = row
            if status == ImageStatus.OK:
                image = StoredImage(bytes.fromhex(sha256), ImageKind.of_key(key), size, width, height)
                known.put((tenant, bytes.fromhex(url_sha256)), ImageOutcome(ImageStatus.OK, image=image))
    return known


def _row(tenant: str, sale_id: str, job: ImageJob, outcome: ImageOutcome) -> tuple[object, ...]:
    url_sha256 = job.url[1].hex() if job.url is not None else None
    image = outcome.image
    about = (
        (image.key(tenant), image.digest.hex(), image.bytes, image.width, image.height)
        if image is not None
        else (None, None, None, None, None)
    )
    return tenant, sale_id, url_sha256, outcome.status.value, outcome.reason, *about, outcome.attempts
