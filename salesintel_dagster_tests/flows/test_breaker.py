"""The breaker over whole exports in memory: when the calls of a run end, and what its sales and checks then say."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from dataclasses import replace
from datetime import date

import pytest

from salesintel_dagster.domain.checks import Severity, Verdict
from salesintel_dagster.domain.errors import (
    EmbedderUnusable,
    EmbeddingFailure,
    EmbeddingRefused,
    EmbeddingTransient,
)
from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.domain.proof_picture import proof_picture
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.breaker import Breaker
from salesintel_dagster.flows.export.embeddings import CallBudget, EmbeddingLimits
from salesintel_dagster_tests.fakes.export_parts import ALL_CHECKS, ALL_STAGES, FakeExport, export_rules
from salesintel_dagster_tests.fakes.images import fetched

DAYS = [date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 3)]
NO_ACCESS = EmbedderUnusable(
    EmbeddingStatus.MODEL_UNUSABLE, "AccessDeniedException (HTTP 403): SALESINTEL_EMBEDDING_MODEL=m in BEDROCK_REGION=r"
)
REFUSED = EmbeddingRefused(EmbeddingStatus.REFUSED_BY_MODEL, "ValidationException")
TIMED_OUT = EmbeddingTransient(EmbeddingStatus.MODEL_ERROR, "ModelTimeoutException")
THROTTLED = EmbeddingTransient(EmbeddingStatus.THROTTLED, "ThrottlingException")
NOT_SENT = EmbeddingRefused(EmbeddingStatus.TOO_LARGE_FOR_MODEL, "6 MB")


def limits(concurrency: int = 1, *, retries: int = 0, failures: int = 10, budget: int = 1_000) -> EmbeddingLimits:
    return EmbeddingLimits(concurrency, CallBudget(budget), RetryPolicy(retries=retries), Breaker(failures))


def exported(
    world: FakeExport, within: EmbeddingLimits, *days: date, checks: frozenset[str] = ALL_CHECKS
) -> dict[date, Verdict]:
    """Export the days; return each day's verdict on whether the calls were ended."""
    rules = export_rules(embeddings=within)
    steps = list(world.backfill(rules).run(days or DAYS[:1], ALL_STAGES, checks))
    found = [(day, step) for day, step in steps if isinstance(step, Verdict)]
    return {day: step for day, step in found if step.promise.name == "embedding_was_not_stopped"}


def statuses(world: FakeExport) -> Counter[object]:
    return Counter(row["embedding_status"] for row in world.table.rows.to_pylist())


@pytest.fixture
def world() -> FakeExport:
    made = FakeExport()
    made.sell(DAYS[0], 30)
    return made


@pytest.mark.parametrize("failure", [TIMED_OUT, REFUSED, EmbeddingRefused(EmbeddingStatus.INVALID_VECTOR, "zero")])
def test_ten_failures_in_a_row_end_the_calls_of_the_run_and_every_sale_is_written(
    world: FakeExport, failure: EmbeddingFailure
):
    """C8: over the days of the run, with the reason in the rows, in the check and in the progress."""
    world.sell(DAYS[1], 4)
    world.embedder.script.extend([failure] * 100)
    told = exported(world, limits(), *DAYS[:2])
    assert len(world.embedder.calls) == 10 + 1, "the last with a picture of ours"
    assert statuses(world) == {str(failure.status): 10, "BREAKER_OPEN": 24}
    [first, *_] = [row for row in world.table.rows.to_pylist() if row["embedding_status"] == "BREAKER_OPEN"]
    reason = f"10 images in a row failed, the last by {failure}; no more calls in this run"
    assert first["embedding_error"] == reason
    assert [(told[day].passed, told[day].severity, told[day].found) for day in DAYS[:2]] == [
        (False, Severity.ERROR, "BREAKER_OPEN 20"),
        (False, Severity.ERROR, "BREAKER_OPEN 4"),
    ]
    assert told[DAYS[1]].offenders == (f"BREAKER_OPEN: {reason}",)
    newest = world.ledger.newest(DAYS[1])
    assert newest is not None
    assert newest.failed == {"BREAKER_OPEN": 4}


def test_the_next_run_begins_with_a_closed_breaker_and_makes_what_is_missing(world: FakeExport):
    """C8"""
    world.embedder.script.extend([REFUSED] * 11)
    exported(world, limits())
    told = exported(world, limits())
    assert (statuses(world).keys(), told[DAYS[0]].passed) == ({"ok"}, True)


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("failure", [TIMED_OUT, REFUSED])
def test_broken_pictures_in_a_row_leave_no_other_without_its_vector(
    world: FakeExport, failure: EmbeddingFailure, concurrency: int
):
    """C8: ten that a stranger's host sent ended the calls of the run, and of each later one of that day."""
    world.embedder.by_image.update({fetched(n).data: failure for n in range(1, 26)})
    assert exported(world, limits(concurrency))[DAYS[0]].passed
    assert statuses(world) == {str(failure.status): 25, "ok": 5}
    assert hashlib.sha256(proof_picture()).hexdigest() in world.embedder.calls


@pytest.mark.parametrize("failure", [TIMED_OUT, THROTTLED])
def test_a_proof_is_tried_again_as_any_image_is(world: FakeExport, failure: EmbeddingFailure):
    """C8: one ModelTimeoutException, after broken pictures of one host, ended the calls of the run."""
    world.embedder.script.extend([REFUSED] * 10 + [failure])
    assert exported(world, limits(retries=3))[DAYS[0]].passed
    assert statuses(world) == {"REFUSED_BY_MODEL": 10, "ok": 20}


def test_a_vector_during_a_proof_begins_the_row_anew_whatever_the_proof_says():
    """C8: the calls of the run were ended because "0 images in a row failed"."""
    breaker = Breaker(failures=1)

    def prove() -> None:
        breaker.succeeded()
        raise TIMED_OUT

    breaker.failed(REFUSED, prove)
    assert breaker.opened is None


def test_a_proof_under_way_holds_up_nobody_who_has_not_failed():
    """C8: each image of the day passes `ask_first`, and a model may take a minute for an answer."""
    breaker, is_proving, may_end = Breaker(failures=1), threading.Event(), threading.Event()

    def prove() -> None:
        is_proving.set()
        may_end.wait(5.0)

    failing = threading.Thread(target=breaker.failed, args=(REFUSED, prove), daemon=True)
    failing.start()
    is_proving.wait(5.0)
    began = threading.Thread(target=breaker.ask_first, args=(lambda: None,), daemon=True)
    began.start()
    began.join(1.0)
    assert not began.is_alive()
    may_end.set()
    failing.join(5.0)


def test_a_vector_in_between_begins_the_row_anew(world: FakeExport):
    """C8"""
    world.embedder.script.extend(([REFUSED] * 9 + [None]) * 3)
    assert exported(world, limits())[DAYS[0]].passed
    assert len(world.embedder.calls) == 30


@pytest.mark.parametrize("failures", [1, 3])
def test_the_threshold_is_a_setting(world: FakeExport, failures: int):
    """C8"""
    world.embedder.script.extend([REFUSED] * 100)
    exported(world, limits(failures=failures))
    assert len(world.embedder.calls) == failures + 1


@pytest.mark.parametrize("concurrency", [4, 16])
def test_calls_under_way_may_end_and_no_other_begins(world: FakeExport, concurrency: int):
    """C8: an image is given up after its retries, so that an outage of seconds opens nothing."""
    world.sell(DAYS[0], 100)
    world.embedder.script.extend([TIMED_OUT] * 10_000)
    exported(world, limits(concurrency, retries=3))
    assert 4 * 10 <= len(world.embedder.calls) <= 4 * (10 + concurrency)


def test_an_outage_that_the_retries_outlast_opens_nothing(world: FakeExport):
    """C8"""
    world.embedder.script.extend([TIMED_OUT] * 3)
    assert exported(world, limits(retries=3, failures=1))[DAYS[0]].passed


def test_what_was_never_sent_says_nothing_of_the_model(world: FakeExport):
    """C8"""
    world.embedder.script.extend([NOT_SENT] * 29)
    assert exported(world, limits())[DAYS[0]].passed
    assert statuses(world)["ok"] == 1


def test_a_spent_budget_is_no_failure_of_the_model(world: FakeExport):
    """C7, C8"""
    told = exported(world, limits(budget=5))[DAYS[0]]
    assert (told.severity, told.found) == (Severity.WARN, "BUDGET_EXHAUSTED 25")
    assert told.offenders == ("BUDGET_EXHAUSTED: the run's budget of paid calls is used up",)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_model_that_may_not_be_called_is_found_before_the_first_image(world: FakeExport, concurrency: int):
    """C4, C9: one question in the whole run, no image sent or even read, every sale written with the setting's name."""
    world.sell(DAYS[1], 4)
    world.embedder.refuses = NO_ACCESS
    told = exported(world, limits(concurrency), *DAYS[:2])
    assert (world.embedder.checks, world.embedder.calls) == (1, [])
    assert world.store.count("get", "images/") == 0
    assert statuses(world) == {"MODEL_UNUSABLE": 34}
    assert "SALESINTEL_EMBEDDING_MODEL" in told[DAYS[1]].offenders[0]
    assert told[DAYS[0]].severity is Severity.ERROR
    reasons = {row["embedding_error"] for row in world.table.rows.to_pylist()}
    assert reasons == {NO_ACCESS.reason}, "one clear error"


def test_a_permission_that_is_lost_on_the_way_ends_the_calls_of_all_the_run_s_days(world: FakeExport):
    """C4"""
    world.sell(DAYS[1], 4)
    world.embedder.script.extend([None] * 5 + [NO_ACCESS] * 10)
    exported(world, limits(), *DAYS[:2])
    assert len(world.embedder.calls) == 6
    assert statuses(world) == {"ok": 5, "MODEL_UNUSABLE": 29}


def test_the_first_reason_is_the_one_that_is_told():
    """C4: calls under way end after it, each with a reason of its own."""
    breaker = Breaker(failures=1)
    breaker.open(NO_ACCESS)
    breaker.open(EmbedderUnusable(EmbeddingStatus.MODEL_UNUSABLE, "the second"))
    breaker.failed(REFUSED, lambda: None)
    assert breaker.opened is NO_ACCESS


def test_a_question_that_nobody_answers_stops_nothing(world: FakeExport):
    """C9: the first image asks again, with its retries."""
    world.embedder.refuses = TIMED_OUT
    assert exported(world, limits())[DAYS[0]].passed
    assert (world.embedder.checks, statuses(world)["ok"]) == (1, 30)


def test_a_day_whose_vectors_are_all_known_asks_nothing(world: FakeExport):
    exported(world, limits())
    world.store.objects = {key: data for key, data in world.store.objects.items() if "titan_embeddings" not in key}
    world.embedder.refuses = NO_ACCESS
    assert exported(world, limits())[DAYS[0]].passed
    assert world.embedder.checks == 1


def test_a_quota_that_does_not_come_back_is_waited_for_once_in_a_run(world: FakeExport):
    world.sell(DAYS[1], 4)
    pictures = {fetched(n).data: THROTTLED for n in range(1, 35)}
    world.embedder.by_image.update(pictures)
    told = exported(world, replace(limits(), retry=RetryPolicy()), *DAYS[:2])
    assert len(set(world.embedder.calls)) == 1
    assert hashlib.sha256(fetched(1).data).hexdigest() in world.embedder.calls
    assert [verdict.found for verdict in told.values()] == ["THROTTLED 30", "THROTTLED 4"]
    assert {verdict.severity for verdict in told.values()} == {Severity.WARN}
