"""A person's retry: every job of the catalog, its dead letters, and a sweep or a death at any call of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.enrichment.facts import NoFacts
from salesintel_dagster.domain.errors import ProviderTransient, QueueUnavailable
from salesintel_dagster.domain.event_queue import QueuedMessage
from salesintel_dagster.flows.enrichment.retry import Retried, retry
from salesintel_dagster.flows.enrichment.sweep import sweep
from salesintel_dagster_tests.fakes.enrichment import InMemoryQueue
from salesintel_dagster_tests.fakes.enrichment_world import CATALOG, TENANT, EnrichmentWorld
from salesintel_dagster_tests.fakes.wire import Crash

DOWN = ProviderTransient(Reason.PROVIDER_DOWN, "answered 500")


def retried(world: EnrichmentWorld) -> list[Retried]:
    jobs = world.store.of_catalog(TENANT, CATALOG)
    return retry(jobs, world.ledger, world.queue, world.dead, world.clock)


def failed(products: int = 15) -> EnrichmentWorld:
    """Three batches that have failed, in a job that is closed."""
    world = EnrichmentWorld(attempts=1)
    world.provider.always = DOWN
    world.submit(products, size=5)
    world.until_quiet()
    assert world.states() == {"FAILED_PROVIDER_DOWN": products}
    assert not world.store.opened
    world.provider.always = None
    world.time.move(1)
    return world


def points() -> list[str]:
    world = failed()
    begun = len(world.wire.points)
    retried(world)
    return world.wire.points[begun:]


POINTS = points()
NUMBERED = [pytest.param(number, id=f"{number}-{name}") for number, name in enumerate(POINTS, start=1)]


def at(world: EnrichmentWorld, number: int, do: Callable[[], object]) -> None:
    """Do something at one point of what comes now, once."""
    begun = len(world.wire.points)

    def act(n: int, _name: str) -> None:
        if n - begun == number:
            world.wire.act = lambda _n, _name: None
            do()

    world.wire.act = act


@pytest.mark.parametrize("number", NUMBERED)
def test_a_sweep_at_any_call_of_a_retry_leaves_the_job_open(number: int):
    world = failed()
    at(world, number, lambda: sweep(world.ledger, world.queue, world.clock))
    retried(world)
    assert world.store.opened
    world.queue.kept.clear()
    world.time.move(5 * 86_400)
    world.until_quiet()
    assert world.states() == {"DONE": 15}, "messages that were lost are sent by the sweeper, which knows the job"


@pytest.mark.long
@pytest.mark.parametrize("number", NUMBERED)
def test_a_retry_that_dies_at_any_call_is_made_whole_by_the_next(number: int):
    world = failed()

    def die() -> None:
        sweep(world.ledger, world.queue, world.clock)
        raise Crash

    at(world, number, die)
    with pytest.raises(Crash):
        retried(world)
    retried(world)
    assert world.store.opened
    assert {one.body for one in world.queue.kept.values()} == {batch.body for batch in world.store.held.values()}
    world.until_quiet()
    assert world.states() == {"DONE": 15}
    assert set(world.provider.paid.values()) == {1}


@pytest.mark.parametrize("number", NUMBERED)
def test_what_a_dead_retry_has_begun_is_finished_by_the_sweeper(number: int):
    world = failed()

    def die() -> None:
        raise Crash

    at(world, number, die)
    with pytest.raises(Crash):
        retried(world)
    world.until_quiet()
    assert set(world.states()) <= {"DONE", "FAILED_PROVIDER_DOWN"}


def test_every_job_of_the_catalog_is_tried_again():
    world = failed(10)
    world.provider.none["B000000002"] = NoFacts(Reason.NOT_FOUND, "unknown")
    world.submit(3)
    world.until_quiet()
    world.provider.none.clear()
    found = retried(world)
    assert [(one.job.products, one.products, one.batches) for one in found] == [(3, 1, 1), (10, 10, 2)]
    world.until_quiet()
    assert world.states() == {"DONE": 13}
    assert not any(one.is_something for one in retried(world))


def test_batches_that_are_on_their_way_are_not_sent_again():
    world = failed(10)
    world.submit(20)
    waiting = len(world.queue.kept)
    healthy, _ = retried(world)
    assert (healthy.is_something, len(world.queue.kept)) == (False, waiting + 2)


def test_dead_letters_of_done_batches_are_deleted_and_told_and_those_at_work_stay():
    world = EnrichmentWorld()
    world.submit(20)
    done, held = (one.body for one in world.queue.kept.values())
    [message, _] = world.queue.receive(10, 0)
    assert message.body == done
    world.queue.extend([message], 0)
    world.drain()
    world.dead.send([done, held, done, "none of ours"])
    [later] = [batch for batch in world.store.held.values() if batch.body == held]
    world.queue.kept.clear()
    world.queue.send([held])
    assert world.worker("other")._claimer.claim(world.queue.receive(10, 0)).held[0].batch.key == later.key
    [one] = retried(world)
    assert (one.batches, one.dead_letters, one.outlived, one.is_something) == (0, 0, 2, True)
    assert sorted(letter.body for letter in world.dead.kept.values()) == sorted([held, "none of ours"])
    assert len(world.dead.receive(10, 0)) == 2, "what is not taken is there for others at once"


def test_a_dead_letter_stays_until_its_batch_is_sent():
    world = failed(10)
    world.dead.send([batch.body for batch in world.store.held.values()])
    world.queue.refuse = lambda _body: True
    [one] = retried(world)
    assert (one.batches, one.dead_letters, one.unsent) == (2, 0, 2)
    assert len(world.dead.kept) == 2
    world.queue.refuse = lambda _body: False
    [one] = retried(world)
    assert (one.batches, one.dead_letters, one.unsent) == (2, 2, 0)
    assert not world.dead.kept


class FarQueue(InMemoryQueue):
    """SQS answers a receive that does not wait from some of its servers, here from none."""

    def receive(self, most: int, wait_seconds: float) -> list[QueuedMessage]:
        return super().receive(most, wait_seconds) if wait_seconds >= 1 else []


def test_dead_letters_are_looked_for_on_every_server():
    world = failed(10)
    world.dead = FarQueue(world.clock)
    world.dead.send([batch.body for batch in world.store.held.values()])
    [one] = retried(world)
    assert one.dead_letters == 2


def test_dead_letters_are_given_back_when_a_retry_fails():
    world = failed(10)
    world.dead.send([batch.body for batch in world.store.held.values()])

    def fail(_n: int, name: str) -> None:
        if name == "before send":
            raise QueueUnavailable("send to queue: down")

    world.wire.act = fail
    with pytest.raises(QueueUnavailable):
        retried(world)
    assert len(world.dead.receive(10, 0)) == 2
