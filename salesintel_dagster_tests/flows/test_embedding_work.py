"""Embedding that begins while images are still being downloaded: what is paid for, and what stays as it was."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from salesintel_dagster.domain.checks import Verdict
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.embedding import VectorBytes
from salesintel_dagster.domain.errors import EmbeddingRefused, EmbeddingTransient, ImageRefused, StoreUnavailable
from salesintel_dagster.domain.images import ImageKind
from salesintel_dagster.domain.outcome import EmbeddingStatus, ImageStatus
from salesintel_dagster.domain.progress import RunState
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.day import DayExport, ExportParts, StageDone
from salesintel_dagster.flows.export.embedding_work import EmbeddingWork
from salesintel_dagster.flows.export.embeddings import CallBudget, EmbeddingLimits
from salesintel_dagster.flows.export.image_outcomes import StoredImage
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, TITAN_EMBEDDINGS
from salesintel_dagster_tests.fakes.dying import Crash, Doom, DyingEmbedder, DyingStore
from salesintel_dagster_tests.fakes.embedder import ScriptedEmbedder, vector_of
from salesintel_dagster_tests.fakes.export_parts import ALL_STAGES, FakeExport, export_rules
from salesintel_dagster_tests.fakes.export_run import export_run
from salesintel_dagster_tests.fakes.images import HeldClock, fetched, picture
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.source import TENANT

DAY = date(2026, 11, 3)
BOTH = frozenset({PRODUCT_IMAGES, TITAN_EMBEDDINGS})
THROTTLED = EmbeddingTransient(EmbeddingStatus.THROTTLED, "ThrottlingException")


def limits(concurrency: int, budget: int = 10_000) -> EmbeddingLimits:
    return EmbeddingLimits(concurrency, CallBudget(budget), RetryPolicy())


def world_of(sales: int) -> FakeExport:
    made = FakeExport()
    made.sell(DAY, sales)
    return made


def steps(
    world: FakeExport,
    stages: frozenset[str] = ALL_STAGES,
    parts: ExportParts | None = None,
    concurrency: int = 2,
    **rules: object,
) -> Iterator[StageDone | Verdict]:
    run = export_run(DAY, clock=SYSTEM_CLOCK, ledger=world.ledger).run
    how = export_rules(**{"embeddings": limits(concurrency), **rules})
    return DayExport(run, parts or world.parts, how).steps(stages, frozenset())


def embedded(done: list[StageDone | Verdict]) -> object:
    [found] = [step.result for step in done if isinstance(step, StageDone) and step.stage == TITAN_EMBEDDINGS]
    return found


class OpensTheGate(ScriptedEmbedder):
    """Lets the held download end only once the second vector is asked for."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self._gate = gate

    def embed(self, image: bytes) -> VectorBytes:
        if len(self.calls) == 1:
            self._gate.set()
        return super().embed(image)


def held_to_the_last(sales: int = 6) -> FakeExport:
    """Return a day whose last picture does not come before two vectors were asked for."""
    world = world_of(sales)
    world.images.held = frozenset({list(world.images.by_url)[-1]})
    world.embedder = OpensTheGate(world.images.gate)
    return world


def test_embedding_begins_before_the_last_download_ends():
    world = held_to_the_last()
    list(steps(world, concurrency=1))
    puts = [key.split("/")[0] for name, key in world.store.calls if name == "put"]
    last_image = max(n for n, root in enumerate(puts) if root == "images")
    assert puts.index("embeddings") < last_image
    assert world.store.count("get", "images/") == 0, "what landed is embedded from memory"


def test_a_vector_made_early_is_counted_once_and_is_its_own_sales():
    world = world_of(6)
    world.images.by_url[list(world.images.by_url)[5]] = [fetched(1)]  # the picture of the first sale, at another URL
    done = embedded(list(steps(world)))
    assert (done.paid_calls, done.cache_hits, done.reused, done.distinct_images) == (5, 0, 0, 5)
    assert (done.tally.ok, len(world.embedder.calls)) == (6, 5)
    for row, shown in zip(world.rows_of(DAY), (1, 2, 3, 4, 5, 1), strict=True):
        assert row["image_sha256"] == hashlib.sha256(picture(shown)).hexdigest()
        assert row["embedding_vector"] == np.frombuffer(vector_of(picture(shown)), "<f4").tolist()


def test_a_failing_download_still_gives_a_row_beside_those_made_early():
    world = held_to_the_last()
    urls = list(world.images.by_url)
    world.images.by_url[urls[0]] = [ImageRefused(ImageStatus.GONE, "status 404")]
    world.embedder.by_image[picture(2)] = EmbeddingRefused(EmbeddingStatus.REFUSED_BY_MODEL, "too dark")
    done = embedded(list(steps(world)))
    assert done.tally.by_status == {"NO_IMAGE": 1, "REFUSED_BY_MODEL": 1, "ok": 4}
    assert [row["embedding_status"] for row in world.rows_of(DAY)][:3] == ["NO_IMAGE", "REFUSED_BY_MODEL", "ok"]
    assert len(world.embedder.calls) == done.paid_calls == 5, "a refusal is asked for once, early or not"


def test_the_stages_one_by_one_make_what_they_make_together():
    """Images alone pay for nothing."""
    together, apart = world_of(5), world_of(5)
    list(steps(together))
    for stage in (SALES_RAW, PRODUCT_IMAGES):
        list(steps(apart, frozenset({stage})))
    assert apart.embedder.calls == []
    done = embedded(list(steps(apart, frozenset({TITAN_EMBEDDINGS}))))
    assert (done.paid_calls, done.tally.ok) == (5, 5)
    for stage in BOTH:
        with together.staged.batches(stage, DAY) as one, apart.staged.batches(stage, DAY) as other:
            assert [batch.to_pylist() for batch in one] == [batch.to_pylist() for batch in other]


def test_a_vector_that_only_the_previous_file_holds_is_not_paid_for_when_its_image_lands_again():
    world = world_of(4)
    list(steps(world))
    for key in [key for key in world.store.objects if key.startswith("embeddings/")]:
        del world.store.objects[key]
    done = embedded(list(steps(world, refetch_images=True)))
    assert len(world.images.calls) == 8
    assert (done.reused, done.paid_calls, len(world.embedder.calls)) == (4, 0, 4)


def test_the_run_s_budget_holds_over_both_stages():
    world = world_of(6)
    done = embedded(list(steps(world, embeddings=limits(2, budget=4))))
    assert done.tally.by_status == {"ok": 4, "BUDGET_EXHAUSTED": 2}
    assert len(world.embedder.calls) == done.paid_calls == 4


@pytest.mark.long
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_call_of_both_stages_repeats_at_most_a_call_a_slot(concurrency: int, *, after: bool):
    """C6, C10: enum over the 19 calls to the store and the model, before each and after each."""
    for dies_at in range(1, 21):
        world = world_of(4)
        list(steps(world, frozenset({SALES_RAW})))
        doom = Doom(dies_at, after=after)
        store, dying = DyingStore(world.store.objects, doom), DyingEmbedder(doom)
        crashing = steps(world, BOTH, replace(world.parts, store=store, embedder=dying), concurrency)
        if dies_at == 20:
            list(crashing)
            return
        with pytest.raises(Crash):
            list(crashing)
        done = embedded(list(steps(world, BOTH, concurrency=concurrency)))
        assert done.tally.by_status == {"ok": 4}
        assert len(dying.calls) + len(world.embedder.calls) <= 4 + concurrency


def test_what_no_port_may_raise_ends_the_day_and_stops_the_calls():
    world = world_of(40)
    world.embedder = ScriptedEmbedder([None, ZeroDivisionError()])
    with pytest.raises(ZeroDivisionError):
        list(steps(world, concurrency=1))
    assert len(world.embedder.calls) == 2
    assert world.table.commits == []


def test_a_day_that_is_left_begins_no_further_call_and_leaves_no_thread():
    before = set(threading.enumerate())
    world = world_of(100)
    world.embedder = ScriptedEmbedder(latency_seconds=0.05)
    running = steps(world)
    while (step := next(running)) and not (isinstance(step, StageDone) and step.stage == PRODUCT_IMAGES):
        pass
    running.close()
    assert len(world.embedder.calls) < 100
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("embed")]


def test_what_was_paid_is_told_also_of_a_day_that_fails_before_its_embeddings():
    world = held_to_the_last()
    world.store.fail("put", StoreUnavailable("down"), times=None, only=world.staged.key(PRODUCT_IMAGES, DAY))
    run = world.backfill(export_rules(embeddings=limits(1)), clock=SYSTEM_CLOCK).run([DAY], ALL_STAGES, frozenset())
    list(run)
    record = world.ledger.newest(DAY)
    assert record is not None
    assert (record.state, record.stage) == (RunState.FAILED, PRODUCT_IMAGES)
    assert 1 <= record.paid_calls <= len(world.embedder.calls) <= 6


def landed(number: int, data: bytes) -> tuple[str, StoredImage, bytes]:
    return TENANT, StoredImage(number.to_bytes(32), ImageKind.JPEG, len(data), 1, 1), data


@pytest.mark.long
def test_landed_images_wait_in_memory_up_to_a_limit_and_in_the_store_beyond_it():
    """Three workers hold a picture each at most, 20 MB wait in memory, and what comes after waits in the store."""
    large, store, gate = bytes(20 * 1024 * 1024), InMemoryObjectStore(), threading.Event()

    class Waits(ScriptedEmbedder):
        def embed(self, image: bytes) -> VectorBytes:
            gate.wait(20)
            return super().embed(image)

    with EmbeddingWork(Waits(), store, limits(1), SYSTEM_CLOCK) as work:
        for number in range(8):
            tenant, image, data = landed(number, large)
            store.put(image.key(tenant), data, "image/jpeg")
            work.land(tenant, image, data)
        gate.set()
        while not work.vectors.settled(np.arange(8, dtype=np.int32), 10):
            pass
    assert 4 <= store.count("get", "images/") <= 7, "as many as the workers had taken when the next one landed"
    assert work.maker.calls.paid == 8


def test_a_pause_of_the_images_is_not_taken_for_a_quota_that_does_not_come_back():
    """C3: three minutes without a good call count only while somebody calls."""
    clock, embedder = HeldClock(), ScriptedEmbedder()
    with EmbeddingWork(embedder, InMemoryObjectStore(), limits(1), clock.clock) as work:
        work.land(*landed(1, b"one"))
        while not work.vectors.settled(np.array([0], dtype=np.int32), 10):
            pass
        clock.clock.sleep(600)
        embedder.script.append(THROTTLED)
        work.land(*landed(2, b"two"))
        while not work.vectors.settled(np.array([1], dtype=np.int32), 10):
            pass
        assert (work.maker.halted, work.maker.calls.paid, work.maker.calls.throttles) == (None, 2, 1)
