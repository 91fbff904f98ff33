"""H3, H10: the worker dies, is overtaken, or meets an error at every single remote call; nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.errors import (
    LedgerUnavailable,
    ProviderTransient,
    QueueUnavailable,
    SalesIntelError,
    TableUnavailable,
)
from salesintel_dagster_tests.fakes.enrichment_world import EnrichmentWorld
from salesintel_dagster_tests.fakes.wire import Crash

PRODUCTS, SIZE = 15, 5
CALLS = {"put job", "send", "receive", "replace", "look up", "extend", "merge", "delete"}
QUEUE_CALLS = frozenset({"send", "receive", "extend", "delete"})
TABLE_CALLS = frozenset({"merge", "held"})


def world_of(max_per_request: int = 8) -> EnrichmentWorld:
    return EnrichmentWorld(max_per_request=max_per_request)


def scenario(world: EnrichmentWorld) -> None:
    """A round of two requests, of which the first takes so long that leases are prolonged before the second."""
    world.provider.script.append(lambda _request: world.time.move(110))
    world.submit(PRODUCTS, size=SIZE)
    world.drain("first")


def points() -> list[str]:
    world = world_of()
    scenario(world)
    return world.wire.points


POINTS = points()
NUMBERED = [pytest.param(number, id=f"{number}-{name}") for number, name in enumerate(POINTS, start=1)]


def at(number: int, do: Callable[[EnrichmentWorld, str], None], world: EnrichmentWorld) -> Callable[[int, str], None]:
    """Do something at one point and look at the invariant at every point."""

    def act(n: int, name: str) -> None:
        world.assert_states_add_up()
        if n == number:
            do(world, name)

    return act


def recovered(world: EnrichmentWorld) -> None:
    """Go on after the fault as production does; a user whose submission died submits again."""
    world.wire.act = lambda _n, _name: world.assert_states_add_up()
    if not world.store.jobs:
        world.submit(PRODUCTS, size=SIZE)
    world.until_quiet()


def assert_whole(world: EnrichmentWorld, faults: int = 1) -> None:
    assert world.states() == {"DONE": PRODUCTS}
    assert len(world.table.rows) == PRODUCTS
    assert not world.queue.kept
    assert not world.dead.kept
    assert not world.store.opened
    assert set(world.provider.paid) == {f"B{n:09d}" for n in range(PRODUCTS)}
    assert max(world.provider.paid.values()) <= 1 + faults


def test_the_scenario_makes_these_calls():
    assert len(POINTS) > 40
    assert {name.partition(" ")[2] for name in POINTS} >= CALLS
    world = world_of()
    scenario(world)
    assert set(world.provider.paid.values()) == {1}


@pytest.mark.parametrize("number", NUMBERED)
def test_h3_h10_a_crash_there_costs_at_most_the_requests_in_flight(number: int):
    world = world_of()

    def crash(_world: EnrichmentWorld, _name: str) -> None:
        raise Crash

    world.wire.act = at(number, crash, world)
    with pytest.raises(Crash):
        scenario(world)
    recovered(world)
    assert_whole(world, faults=int(is_in_flight(number)))


def is_in_flight(number: int) -> bool:
    """Tell whether a crash at this point comes between a round's first request and its rows in the table.

    A round's other requests are made though one of its threads has crashed.
    """
    until = [name for name in POINTS[:number] if name in {"before look up", "after merge"}]
    return bool(until) and until[-1] == "before look up"


@pytest.mark.parametrize("number", NUMBERED)
def test_h3_h10_a_second_worker_there_does_nothing_twice(number: int):
    world = world_of()
    world.wire.act = at(number, lambda there, _name: there.drain("rival") and None, world)
    scenario(world)
    recovered(world)
    assert_whole(world, faults=0)


@pytest.mark.parametrize("number", NUMBERED)
def test_h3_h5_h10_a_worker_that_sleeps_there_and_wakes_up_as_a_zombie_breaks_nothing(number: int):
    world = world_of()

    def sleep(there: EnrichmentWorld, _name: str) -> None:
        there.time.move(301)
        there.drain("second")

    world.wire.act = at(number, sleep, world)
    scenario(world)
    recovered(world)
    assert_whole(world)


def error_of(name: str) -> SalesIntelError:
    call = name.partition(" ")[2]
    if call == "look up":
        return ProviderTransient(Reason.PROVIDER_DOWN, "connection lost")
    if call in QUEUE_CALLS:
        return QueueUnavailable("lost")
    return TableUnavailable("lost") if call in TABLE_CALLS else LedgerUnavailable("lost")


@pytest.mark.parametrize("number", NUMBERED)
def test_h3_h10_an_error_or_a_lost_answer_there_is_made_good(number: int):
    """`before` is a call that did not arrive, `after` one whose answer was lost."""
    world = world_of()

    def fail(_world: EnrichmentWorld, name: str) -> None:
        raise error_of(name)

    world.wire.act = at(number, fail, world)
    with suppress(SalesIntelError):
        scenario(world)
    recovered(world)
    assert_whole(world)
