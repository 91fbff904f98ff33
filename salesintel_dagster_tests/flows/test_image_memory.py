"""What a day keeps of its images until it is staged: little, and exactly."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.images import ImageKind
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.domain.ports import FetchedImage, ImageFetcher
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.host_patience import MAX_GOOD_HOSTS, HostPatience
from salesintel_dagster.flows.export.host_slots import HostSlots
from salesintel_dagster.flows.export.image_download import MAX_KEYS_REMEMBERED, ImageDownload
from salesintel_dagster.flows.export.image_jobs import ImageJobs
from salesintel_dagster.flows.export.image_outcomes import ImageOutcome, OutcomeIndex, StoredImage
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore

FEW, MANY = 2_000, MAX_KEYS_REMEMBERED + 2_000
MAX_BYTES_AN_IMAGE = 20
"""Measured -1; 395 when every outcome was held in memory until the stage's end."""
DIGEST = bytes(range(32))


class OwnPictures(ImageFetcher):
    """Another picture for every URL."""

    def fetch(self, url: str, deadline_seconds: float) -> FetchedImage:  # noqa: ARG002 - the port's words
        return FetchedImage(url.encode() * 20, ImageKind.JPEG, 300 + len(url), 400 + len(url))


class Forgetful(InMemoryObjectStore):
    """Keeps nothing: only the day's own memory is measured."""

    def put(self, key: str, body: bytes | Path, content_type: str) -> None:
        pass


def jobs(fetcher: ImageFetcher) -> ImageJobs:
    download = ImageDownload(fetcher, Forgetful(), RetryPolicy(), HostPatience(5, 5), SYSTEM_CLOCK)
    return ImageJobs(download, HostSlots(4, 4), OutcomeIndex(), refetch=False)


def settled(day: ImageJobs, names: range) -> None:
    for job in [day.ask("carousel-labs", f"https://images.example.com/{name}.jpg") for name in names]:
        while job.outcome is None:
            day.wait(job, 10)


@pytest.mark.slow
def test_an_image_that_lies_in_the_store_costs_the_day_no_memory():
    day = jobs(OwnPictures())
    held = []
    tracemalloc.start()
    try:
        for names in (range(FEW), range(FEW, MANY)):
            for first in range(names.start, names.stop, 1_000):
                settled(day, range(first, first + 1_000))
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        day.close(abandon=False)
    assert day.tally().ok == MANY
    assert (held[1] - held[0]) / (MANY - FEW) < MAX_BYTES_AN_IMAGE


@pytest.mark.parametrize(
    "outcome",
    [
        ImageOutcome(ImageStatus.OK, 1, StoredImage(DIGEST, ImageKind.JPEG, 4_000, 300, 401)),
        ImageOutcome(ImageStatus.OK, 0, StoredImage(bytes(32), ImageKind.PNG, 2**33, 2**32 - 1, 1)),
        ImageOutcome(ImageStatus.GONE, 3, reason="images.example.com answered 404"),
        ImageOutcome(ImageStatus.STORE_FAILED, 2, reason="down"),
    ],
)
def test_an_outcome_is_told_as_it_was_kept(outcome: ImageOutcome):
    index = OutcomeIndex()
    index.put(("carousel-labs", DIGEST), outcome)
    assert index.get(("carousel-labs", DIGEST)) == outcome
    assert index.get(("another", DIGEST)) is None
    index.close()


@pytest.mark.long
@pytest.mark.parametrize("came", [True, False], ids=["that answers", "that fails"])
def test_a_host_for_every_image_of_a_long_run_costs_a_megabyte(*, came: bool):
    patience = HostPatience(5, 5)
    tracemalloc.start()
    try:
        for number in range(5 * MAX_GOOD_HOSTS):
            (patience.answered if came else patience.lost)(f"host-{number}.example.com", 0.1)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_500_000  # 5.6 MB when all were remembered
