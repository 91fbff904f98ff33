"""Every image of a day, once: in the store by its content, and in the day's manifest, a row per sale.

An image's own failure is a status on its row, never an error: a sale without an image is still a sale. A crash leaves
no partial manifest, and an image that is stored twice is the same object.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

from salesintel_dagster.domain.columns import IMAGE_SCHEMA
from salesintel_dagster.domain.errors import ObjectMissing
from salesintel_dagster.domain.outcome import Tally
from salesintel_dagster.domain.ports import ImageFetcher, ObjectStore
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.embedding_work import EmbeddingWork
from salesintel_dagster.flows.export.host_patience import HostPatience
from salesintel_dagster.flows.export.host_slots import HostSlots
from salesintel_dagster.flows.export.image_download import ImageDownload
from salesintel_dagster.flows.export.image_jobs import ImageJobs
from salesintel_dagster.flows.export.image_manifest import ImageManifest, known_images
from salesintel_dagster.flows.export.image_outcomes import OutcomeIndex
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, DayRun
from salesintel_dagster.flows.export.staging import DAMAGE, StagedDays, is_damage


@dataclass(frozen=True)
class ImageLimits:
    """How hard the image hosts are asked, and how often again. The retry deadline is for all tries at one image.

    The limits are a run's: its days share the patience with hosts that hang, as they share the run's time.
    """

    concurrency: int
    concurrency_per_host: int
    retry: RetryPolicy

    @cached_property
    def patience(self) -> HostPatience:
        """What the run has left for hosts that do not answer."""
        return HostPatience(self.concurrency, self.concurrency_per_host)


@dataclass(frozen=True, slots=True)
class ImagesFetched:
    """What became of a day's images. `tally` counts sales; `distinct_urls`, `downloaded`, `reused` count URLs.

    `bytes` were downloaded. `samples` are (sale_id, object key). `errors` names the first failed sales, while
    `tally.failures` counts them all.
    """

    tally: Tally
    distinct_urls: int
    downloaded: int
    reused: int
    bytes: int
    retries: int
    seconds: float
    samples: tuple[tuple[str, str], ...]
    errors: tuple[str, ...]
    staged_bytes: int


def fetch_images(  # noqa: PLR0913 - the port list of the stage, as its caller reads it
    run: DayRun,
    fetcher: ImageFetcher,
    store: ObjectStore,
    staged: StagedDays,
    limits: ImageLimits,
    *,
    refetch: bool = False,
    embedding: EmbeddingWork | None = None,
) -> ImagesFetched:
    """Download the day's images and stage its manifest (IMAGE_SCHEMA, aligned with the raw sales).

    An image that an earlier run of the day stored is not downloaded again; with `refetch` it is, and the stored copy
    stays where the source has lost it. On a day without such images each goes to `embedding` as it lands; on others
    that waits for its stage, since the day's previous embeddings may hold the vector. Raises ObjectMissing when the
    day's sales were never read, StoreUnavailable when the manifest cannot be staged.
    """
    started = run.clock.monotonic()
    day = run.window.day
    with closing(_known(run, staged)) as known, staged.open(SALES_RAW, day) as raw:
        if raw is None:
            raise ObjectMissing(f"{SALES_RAW} of {day} was never staged; materialise {SALES_RAW} for {day} first")
        landing = None if known.count else embedding
        if landing is not None:
            landing.begin(raw.metadata.num_rows)
        landed = None if landing is None else landing.land
        download = ImageDownload(fetcher, store, limits.retry, limits.patience, run.clock, landed)
        slots = HostSlots(limits.concurrency, limits.concurrency_per_host)
        jobs = ImageJobs(download, slots, known, refetch=refetch)
        with ImageManifest(run, jobs, raw, landing) as manifest:
            written = staged.write(PRODUCT_IMAGES, day, IMAGE_SCHEMA, manifest.batches())
        manifest.report(force=True)
    counts = jobs.counts
    return ImagesFetched(
        jobs.tally(),
        counts.distinct,
        counts.downloaded,
        counts.reused,
        counts.bytes,
        counts.retries,
        run.clock.monotonic() - started,
        tuple((sale_id, key) for key, sale_id in manifest.samples.items()),
        tuple(manifest.errors),
        written.bytes,
    )


def _known(run: DayRun, staged: StagedDays) -> OutcomeIndex:
    """Return what an earlier run stored; nothing where its manifest cannot be read: it is about to be replaced."""
    try:
        with staged.open(PRODUCT_IMAGES, run.window.day) as earlier:
            return known_images(earlier)
    except DAMAGE as error:
        if not is_damage(error):
            raise
        run.say("Earlier images unreadable", reason=type(error).__name__)
        return OutcomeIndex()
