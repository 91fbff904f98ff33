"""The distinct images of one day: each (tenant, URL) is downloaded once, however many sales ask for it.

Tenants share no download: what one tenant's URL gives is never another tenant's object.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from salesintel_dagster.domain.outcome import ImageStatus, Tally
from salesintel_dagster.flows.export.host_patience import host_of
from salesintel_dagster.flows.export.host_slots import HostSlots
from salesintel_dagster.flows.export.image_download import ImageDownload
from salesintel_dagster.flows.export.image_outcomes import ImageOutcome, OutcomeIndex, UrlId


@dataclass(slots=True, eq=False)
class ImageJob:
    """One image of one tenant that sales wait for: how many, and what became of it; None while it is on its way."""

    url: UrlId | None
    sales: int = 0
    outcome: ImageOutcome | None = None


@dataclass(slots=True)
class JobCounts:
    """Counts of URLs, and bytes downloaded."""

    distinct: int = 0
    downloaded: int = 0
    reused: int = 0
    bytes: int = 0
    retries: int = 0


class ImageJobs:
    """Starts downloads and keeps their outcomes. `known` are images that an earlier run stored.

    In memory are the images that somebody waits for; what became of all others lies on disk.
    """

    def __init__(
        self,
        download: ImageDownload,
        slots: HostSlots,
        known: OutcomeIndex,
        *,
        refetch: bool,
    ) -> None:
        self.counts = JobCounts()
        self._download = download
        self._slots = slots
        self._known = known
        self._refetch = refetch
        self._open: dict[UrlId, ImageJob] = {}
        self._ended = OutcomeIndex()
        self._closed = False
        self._without_url = ImageJob(None, outcome=ImageOutcome(ImageStatus.NO_URL))
        self._by_status: Counter[str] = Counter()
        self._awaited: ImageJob | None = None
        self._crash: BaseException | None = None
        self._changed = threading.Condition()

    def ask(self, tenant_id: str, url: str | None) -> ImageJob:
        """Return the job of a sale's image, starting it for the first sale that asks."""
        if not url:
            return self._counted(self._without_url)
        of_url = tenant_id, hashlib.sha256(url.encode()).digest()
        with self._changed:
            asked = self._open.get(of_url) or self._ended_job(of_url)
            if asked is not None:
                return self._counted(asked)
            job = self._open[of_url] = self._counted(ImageJob(of_url))
            self.counts.distinct += 1
            known = self._known.get(of_url)
        if known is not None and not self._refetch:
            self._end(job, known)
        else:
            self._slots.submit(host_of(url), self._task(job, tenant_id, url, known))
        return job

    def _ended_job(self, of_url: UrlId) -> ImageJob | None:
        outcome = self._ended.get(of_url)
        return None if outcome is None else ImageJob(of_url, outcome=outcome)

    def wait(self, job: ImageJob, timeout_seconds: float) -> ImageOutcome | None:
        """Wait for the job's outcome; None at the timeout. Raises whatever crashed a download."""
        with self._changed:
            if job.outcome is None and self._crash is None:
                self._awaited = job
                self._changed.wait(timeout_seconds)
                self._awaited = None
            if self._crash is not None:
                raise self._crash
            return job.outcome

    def tally(self) -> Tally:
        """Count the sales whose image's fate is known, by status."""
        with self._changed:
            return Tally.of(self._by_status)

    def close(self, *, abandon: bool) -> None:
        """End the threads; when work is abandoned, what still runs is left to its deadline and begins nothing new."""
        if abandon:
            self._download.stop()
        self._slots.close(wait=not abandon)
        with self._changed:
            self._closed = True
            self._ended.close()

    def _task(self, job: ImageJob, tenant_id: str, url: str, known: ImageOutcome | None) -> Callable[[], None]:
        def task() -> None:
            try:
                self._end(job, self._download.outcome_of(tenant_id, url), known)
            except BaseException as crash:  # noqa: BLE001 - raised again where the day is waited for
                self._tell_crash(crash)

        return task

    def _counted(self, job: ImageJob) -> ImageJob:
        with self._changed:
            job.sales += 1
            outcome = job.outcome
            if outcome is not None:
                self._by_status[outcome.status.value] += 1
        return job

    def _end(self, job: ImageJob, outcome: ImageOutcome, known: ImageOutcome | None = None) -> None:
        """Record the outcome; where a stored copy is known, a failure to have it again leaves that copy."""
        stands = known if known is not None and outcome.image is None else outcome
        with self._changed:
            if self._closed:
                return
            counts = self.counts
            counts.retries += max(outcome.attempts - 1, 0)
            if stands.attempts and stands.image is not None:
                counts.downloaded += 1
                counts.bytes += stands.image.bytes
            elif stands.image is not None:
                counts.reused += 1
            job.outcome = stands
            if job.url is not None:
                self._ended.put(job.url, stands)
                del self._open[job.url]
            self._by_status[stands.status.value] += job.sales
            if self._awaited is job:
                self._changed.notify_all()

    def _tell_crash(self, crash: BaseException) -> None:
        with self._changed:
            self._crash = self._crash or crash
            self._changed.notify_all()
