"""The enrichment's promises: pure rules, and the two pages that explain them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from salesintel_dagster.domain.checks import Severity, Verdict
from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.enrichment.facts import NoFacts
from salesintel_dagster.domain.event_queue import QueueDepth
from salesintel_dagster.flows.enrichment.checks import (
    PROMISES,
    JobBatches,
    of_jobs,
    of_providers,
    of_queues,
)
from salesintel_dagster_tests.fakes.enrichment_world import EnrichmentWorld

DOCS = Path(__file__).parents[2] / "docs"


def judged(world: EnrichmentWorld, **changes: object) -> dict[str, Verdict]:
    jobs = [
        replace(JobBatches(job, tuple(world.store.of_job(job))), **changes)  # type: ignore[arg-type]
        for job in world.store.jobs.values()
    ]
    return {found.promise.name: found for found in of_jobs(jobs, 0.05, world.clock.now())}


def test_a_job_that_is_well_keeps_every_promise():
    world = EnrichmentWorld()
    world.submit(30)
    assert all(found.passed for found in judged(world).values())
    world.drain()
    assert all(found.passed for found in judged(world).values())


def test_h10_a_batch_that_is_gone_is_missed_by_name():
    world = EnrichmentWorld()
    submitted = world.submit(30)
    [whole] = [tuple(world.store.of_job(job)) for job in world.store.jobs.values()]
    found = judged(world, batches=whole[1:])["states_add_up"]
    assert not found.passed
    assert found.severity is Severity.ERROR
    assert found.offenders == (f"summer/{submitted.job.job_id}: 20 of 30",)


@pytest.mark.parametrize("failing,passed,severity", [(1, True, "WARN"), (2, False, "WARN"), (16, False, "ERROR")])
def test_an_error_share_above_five_percent_warns_and_above_half_is_an_error(failing: int, passed: bool, severity: str):  # noqa: FBT001 - expected
    world = EnrichmentWorld()
    for number in range(failing):
        world.provider.none[f"B{number:09d}"] = NoFacts(Reason.NOT_FOUND, "unknown")
    world.submit(30)
    world.drain()
    found = judged(world)["success_share"]
    assert (found.passed, found.severity) == (passed, Severity(severity))


def test_a_batch_is_stale_ten_minutes_after_its_lease_and_long_ten_minutes_after_its_start():
    world = EnrichmentWorld()
    world.submit(10)
    world.worker("silent")._claimer.claim(world.queue.receive(10, 0))
    for seconds, stale, long in ((600, True, True), (1, True, False), (299, True, False), (1, False, False)):
        world.time.move(seconds)
        found = judged(world)
        assert (found["no_stale_running"].passed, found["no_batch_takes_long"].passed) == (stale, long)


def test_a_queue_deeper_than_a_hundred_and_any_dead_letter_are_told():
    for waiting, dead, passed in ((100, 0, [True, True]), (101, 1, [False, False])):
        found = of_queues(QueueDepth(waiting, 7, 0), QueueDepth(dead, 0, 0))
        assert [one.passed for one in found] == passed
    assert of_queues(QueueDepth(0, 0, 0), QueueDepth(0, 1, 0))[1].passed is False


@pytest.mark.parametrize(
    "rows,embedded,passed",
    [
        ({"keepa": 3}, False, True),
        ({"keepa": 3, "local-keepa": 1}, False, False),
        ({"local-keepa": 1}, True, True),
        ({"": 1}, True, False),
        ({}, False, True),
    ],
)
def test_h1_a_stand_ins_row_is_no_row_outside_the_embedded_world(rows: dict[str, int], embedded: bool, passed: bool):  # noqa: FBT001 - expected
    assert of_providers(rows, embedded=embedded).passed is passed


def test_the_page_lists_every_check():
    listed = re.findall(r"^\| `(\w+)` \| (?:WARN|ERROR)", (DOCS / "enrichment.md").read_text(), re.MULTILINE)
    assert listed == [promise.name for promise in PROMISES]
