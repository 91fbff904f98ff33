"""Two runs of one day at once: nothing is paid for twice, and nobody waits for the dead."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from salesintel_dagster.domain.embedding import VectorBytes
from salesintel_dagster.domain.progress import Progress, RunState
from salesintel_dagster.flows.export.day import STAGES
from salesintel_dagster.flows.export.lost_runs import QUIET
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SMARTGO_SALES
from salesintel_dagster.flows.export.turns import SILENT_SECONDS
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.embedder import ScriptedEmbedder
from salesintel_dagster_tests.fakes.export_parts import FakeExport

DAY = date(2026, 11, 3)
NOW = held_clock().now()


class HeldEmbedder(ScriptedEmbedder):
    """Answers nobody before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.free = threading.Event(), threading.Event()

    def embed(self, image: bytes) -> VectorBytes:
        self.called.set()
        assert self.free.wait(20)
        return super().embed(image)


def export(world: FakeExport, run_id: str, **clock: object) -> list[object]:
    run = world.backfill(run_id=run_id, clock=replace(held_clock(), **clock))  # type: ignore[arg-type]
    return [step for _, step in run.run([DAY], frozenset(STAGES), frozenset())]


def test_of_two_runs_of_a_day_at_once_one_pays_and_the_other_finds_its_vectors():
    """A8, and paid calls at most once per distinct input"""
    embedder = HeldEmbedder()
    world = FakeExport(embedder=embedder)
    world.sell(DAY, 30)
    first = threading.Thread(target=lambda: export(world, "run-1"))
    first.start()
    assert embedder.called.wait(20)

    def let_the_first_end(_seconds: float) -> None:
        embedder.free.set()
        first.join(20)

    later = {"now": lambda: NOW + timedelta(minutes=1), "sleep": let_the_first_end}
    try:
        steps = export(world, "run-2", **later)
    finally:
        let_the_first_end(0)
    assert set(Counter(embedder.calls).values()) == {1}
    assert (len(embedder.calls), len(world.rows_of(DAY)), len(steps)) == (30, 30, len(STAGES))
    assert [line for line in world.said if "Waiting for an earlier run" in line and "run_id=run-1" in line]
    assert {record.state for record in world.ledger.history(DAY)} == {RunState.SUCCEEDED}


@pytest.mark.parametrize(
    "changes, waited_seconds",
    [
        ({}, SILENT_SECONDS),
        ({"state": RunState.FAILED}, 0),
        ({"stage": SMARTGO_SALES}, 0),
        ({"started_at": NOW + timedelta(seconds=1)}, 0),
        ({"updated_at": NOW - QUIET}, 0),
    ],
    ids=["killed a moment ago", "ended", "pays no more", "began later", "silent for long"],
)
def test_only_a_run_that_may_still_pay_is_waited_for(changes: dict[str, object], waited_seconds: float):
    world = FakeExport()
    world.sell(DAY, 3)
    began = datetime(2026, 11, 4, 3, tzinfo=UTC)
    other = Progress(DAY, "run-0", started_at=began, updated_at=NOW, state=RunState.RUNNING, stage=PRODUCT_IMAGES)
    world.ledger.record(replace(other, **changes))  # type: ignore[arg-type]
    slept: list[float] = []
    export(world, "run-1", monotonic=lambda: sum(slept), sleep=slept.append)
    assert (sum(slept), len(world.rows_of(DAY))) == (waited_seconds, 3)
