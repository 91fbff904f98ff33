"""H3: the table is down, for a while or for long, alone or with a death: what was paid for is never bought again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from salesintel_dagster.domain.enrichment.batch import Reason, State
from salesintel_dagster.domain.enrichment.facts import NoFacts
from salesintel_dagster.domain.enrichment.product import CatalogProduct, CatalogRead, LookUpKey, LookUpKind
from salesintel_dagster.domain.enrichment.rows import table_of
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import CommitConflict, ProviderThrottled, ProviderTransient, TableUnavailable
from salesintel_dagster.domain.event_queue import QueuedMessage
from salesintel_dagster.flows.enrichment.claims import Held
from salesintel_dagster.flows.enrichment.storing import Storing
from salesintel_dagster.flows.enrichment.sweep import sweep
from salesintel_dagster_tests.fakes.enrichment_provider import PROVIDER
from salesintel_dagster_tests.fakes.enrichment_world import EnrichmentWorld
from salesintel_dagster_tests.fakes.wire import Crash

GONE = TableUnavailable("gone")
PRODUCTS = 15


def failing(world: EnrichmentWorld, times: int) -> None:
    world.table.fail.extend([GONE] * times)


def at_first(world: EnrichmentWorld, where: str, do: Callable[[], None]) -> None:
    """Do something the first time that a call is heard."""

    def act(_n: int, name: str) -> None:
        if name == where:
            world.wire.act = lambda _n, _name: None
            do()

    world.wire.act = act


def die() -> None:
    raise Crash


def assert_each_paid_once(world: EnrichmentWorld, products: int) -> None:
    assert world.states() == {"DONE": products}
    assert len(world.table.rows) == products
    assert sorted(world.provider.paid.values()) == [1] * products
    assert not world.store.unstored
    assert not world.dead.kept


@pytest.fixture
def world() -> EnrichmentWorld:
    return EnrichmentWorld(max_per_request=8)


@pytest.mark.parametrize("error", [GONE, CommitConflict("lost")])
def test_h3_a_table_that_refuses_fails_the_run_loudly_and_what_was_paid_for_is_kept(
    world: EnrichmentWorld, error: Exception
):
    world.submit(10)
    world.table.fail.append(error)
    with pytest.raises(type(error)):
        world.drain("first")
    assert world.states() == {"RETRY": 10}
    [batch] = world.store.held.values()
    assert {(status.reason, status.attempts) for status in batch.statuses} == {(Reason.STORE_FAILED, 1)}
    paid_at = world.clock.now()
    world.time.move(119)
    assert world.drain() == []
    world.time.move(1)
    [done] = world.drain("second")
    assert (done.requests, done.rows_written, done.recovered) == (0, 10, 10)
    assert {(row["run_id"], row["enriched_at"]) for row in world.table.rows.values()} == {("first", paid_at)}
    assert_each_paid_once(world, 10)


def test_the_status_says_that_it_is_the_table_that_a_catalog_waits_for(world: EnrichmentWorld):
    world.provider.none["B000000003"] = NoFacts(Reason.INVALID, "title is 7, expected text")
    world.submit(10)
    failing(world, 1)
    with pytest.raises(TableUnavailable):
        world.drain()
    waiting, failed = world.status().whys
    assert (waiting.state, waiting.reason, waiting.products) == (State.RETRY, Reason.STORE_FAILED, 9)
    assert waiting.detail == "paid for and kept; the table product_enrichment has not taken it yet"
    assert (failed.state, failed.products) == (State.FAILED, 1)
    assert (failed.product_id, failed.detail) == ("p-0003", "title is 7, expected text")
    assert world.status().waits_for_table
    assert world.status().estimated_finish is None
    world.until_quiet()
    assert [why.state for why in world.status().whys] == [State.FAILED]
    assert not world.status().waits_for_table


def test_h3_a_table_that_is_down_for_long_costs_nothing_and_fails_no_product(world: EnrichmentWorld):
    """40 failures: more than tries (4) and than receives before a message is a dead letter (10)."""
    world.submit(30)
    failing(world, 40)
    world.until_quiet()
    assert not world.table.fail
    assert_each_paid_once(world, 30)
    assert {status.attempts for batch in world.store.held.values() for status in batch.statuses} == {1}


def scenario(world: EnrichmentWorld) -> None:
    failing(world, 3)
    world.submit(PRODUCTS, size=5)
    for _ in range(4):
        with suppress(TableUnavailable):
            world.drain()
        world.time.move(120)


def points() -> list[str]:
    world = EnrichmentWorld(max_per_request=8)
    scenario(world)
    assert_each_paid_once(world, PRODUCTS)
    return world.wire.points


POINTS = points()
KEPT = max(number for number, name in enumerate(POINTS, start=1) if name == "after keep rows")


@pytest.mark.long
@pytest.mark.parametrize("number", range(1, len(POINTS) + 1))
def test_h3_h10_a_crash_anywhere_while_the_table_is_down_costs_at_most_what_was_not_kept_yet(number: int):
    world = EnrichmentWorld(max_per_request=8)

    def act(n: int, _name: str) -> None:
        world.assert_states_add_up()
        if n == number:
            raise Crash

    world.wire.act = act
    with pytest.raises(Crash):
        scenario(world)
    world.wire.act = lambda _n, _name: world.assert_states_add_up()
    if not world.store.jobs:
        world.submit(PRODUCTS, size=5)
    world.until_quiet()
    assert world.states() == {"DONE": PRODUCTS}
    assert len(world.table.rows) == PRODUCTS
    assert not world.dead.kept
    assert max(world.provider.paid.values()) <= (1 if number >= KEPT else 2)


def test_h3_a_batch_taken_over_while_the_table_is_down_waits_and_is_not_bought_again(world: EnrichmentWorld):
    world.submit(10)
    at_first(world, "after merge", die)
    with pytest.raises(Crash):
        world.drain("dead")

    def down(_n: int, name: str) -> None:
        if name in {"before held", "before merge"}:
            raise GONE

    world.wire.act = down
    for _ in range(15):
        world.time.move(300)
        with pytest.raises(TableUnavailable):
            world.drain("later")
        sweep(world.ledger, world.queue, world.clock)
    assert world.states() == {"RUNNING": 10}
    world.wire.act = lambda _n, _name: None
    world.until_quiet()
    assert_each_paid_once(world, 10)


def test_a_round_that_cannot_ask_the_table_has_recovered_nothing(world: EnrichmentWorld):
    world.provider.script.extend([None, ProviderTransient(Reason.PROVIDER_DOWN, "answered 500")])
    world.submit(10)
    world.drain()
    assert world.states() == {"DONE": 8, "RETRY": 2}
    world.time.move(30)
    at_first(world, "after look up", die)
    with pytest.raises(Crash):
        world.drain("dead")
    world.time.move(300)

    def down() -> None:
        raise GONE

    at_first(world, "before held", down)
    found = world.worker("later").round(0)
    assert found is not None
    assert (found.recovered, found.waiting, found.store_error) == (0, 1, GONE)


def test_h3_h6_what_is_paid_for_is_remembered_while_the_rest_of_its_batch_waits_for_tokens(world: EnrichmentWorld):
    level = TokenLevel(-5, 30.0, 5.0, world.clock.now())
    world.provider.script.extend([None, ProviderThrottled(Reason.OUT_OF_TOKENS, "answered 429", level)])
    failing(world, 2)
    world.submit(10)
    at_first(world, "after keep rows", die)
    with pytest.raises(Crash):
        world.drain("dead")
    world.time.move(300)
    world.store.note(PROVIDER, replace(level, observed_at=world.clock.now()))
    world.drain("second")
    [batch] = world.store.held.values()
    assert sorted(str(status.reason) for status in batch.statuses) == ["OUT_OF_TOKENS"] * 2 + ["STORE_FAILED"] * 8
    world.until_quiet()
    assert_each_paid_once(world, 10)


def test_a_paid_product_does_not_wait_for_another_batch_that_asks_for_the_same_asin(world: EnrichmentWorld):
    same = LookUpKey(LookUpKind.ASIN, "B000000001")
    world.submit(CatalogRead(tuple(CatalogProduct(f"p-{n}", same) for n in range(8)), ()), size=5)
    failing(world, 1)
    with pytest.raises(TableUnavailable):
        world.drain()
    first, second = world.store.held
    world.store.forget(second)
    world.provider.always = ProviderTransient(Reason.PROVIDER_DOWN, "answered 500")
    world.time.move(120)
    world.drain()
    assert world.store.held[first].state is State.DONE
    assert world.store.held[second].state is State.RETRY


def test_h3_a_product_whose_row_was_not_kept_is_not_done_by_another_of_the_same_asin(world: EnrichmentWorld):
    """A batch's rows may lie in several items, of which the last was not written before its worker died."""
    same = LookUpKey(LookUpKind.ASIN, "B000000001")
    world.submit(CatalogRead(tuple(CatalogProduct(f"p-{n}", same) for n in range(5)), ()), size=5)
    failing(world, 1)
    with pytest.raises(TableUnavailable):
        world.drain()
    [batch] = world.store.held
    kept = world.store.of(batch)
    world.store.forget(batch)
    world.store.keep(batch, kept.slice(0, 3))
    world.provider.always = ProviderTransient(Reason.PROVIDER_DOWN, "answered 500")
    world.time.move(120)
    world.drain()
    assert world.states() == {"DONE": 3, "RETRY": 2}
    assert len(world.table.rows) == 3
    world.provider.always = None
    world.until_quiet()
    assert world.states() == {"DONE": 5}
    assert len(world.table.rows) == 5


def test_of_two_batches_kept_rows_of_one_product_the_later_stands_whichever_comes_first(world: EnrichmentWorld):
    same = LookUpKey(LookUpKind.ASIN, "B000000001")
    for title in ("one", "other"):
        world.submit(CatalogRead((CatalogProduct("p-1", same, f'{{"title":"{title}"}}'),), ()), size=5)
        failing(world, 1)
        with pytest.raises(TableUnavailable):
            world.drain(title)
        world.time.move(60)
    one, other = world.store.held
    held = [
        Held(QueuedMessage("m", "r", "", 1, world.clock.now()), world.store.held[key], paid={"p-1": kept})
        for key in (other, one)
        for kept in world.store.of(key).to_pylist()
    ]
    storing = Storing(world.table, world.store, PROVIDER, "run")
    assert storing.store(held, {}, world.clock.now()) == (1, None)
    assert [row["run_id"] for row in world.table.rows.values()] == ["other"]


def test_h4_rows_of_a_batch_of_the_same_name_that_has_expired_are_not_taken_for_ours(world: EnrichmentWorld):
    """The same catalog months later is the same job id: its old rows are no facts of today."""
    world.submit(10)
    world.drain("old")
    old = table_of(world.table.rows.values())
    key = next(iter(world.store.held))
    world.time.move(80 * 86_400)
    world.store.keep(key, old)
    world.time.move(11 * 86_400)
    assert world.submit(10).is_new
    at_first(world, "after look up", die)
    with pytest.raises(Crash):
        world.drain("dead")
    world.time.move(300)
    [done] = world.drain("new")
    assert done.recovered == 0
    assert {row["run_id"] for row in world.table.rows.values()} == {"new"}
