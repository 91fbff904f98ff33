"""Enrichment end to end over fakes: submit, work, outages, tokens, leases, dead letters, retries."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from salesintel_dagster.domain.enrichment.batch import Reason, State
from salesintel_dagster.domain.enrichment.facts import LookUp, NoFacts
from salesintel_dagster.domain.enrichment.job import MAX_MESSAGE_BYTES
from salesintel_dagster.domain.enrichment.product import CatalogProduct, CatalogRead, LookUpKey, LookUpKind
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import (
    LedgerUnavailable,
    ProviderRefused,
    ProviderThrottled,
    ProviderTransient,
    ProviderUnusable,
    QueueUnavailable,
)
from salesintel_dagster.flows.enrichment.retry import retry
from salesintel_dagster.flows.enrichment.sweep import QUEUE_RETENTION, is_lost, sweep
from salesintel_dagster_tests.fakes.enrichment_provider import PROVIDER
from salesintel_dagster_tests.fakes.enrichment_world import CATALOG, TENANT, USER, EnrichmentWorld, catalog
from salesintel_dagster_tests.fakes.wire import Crash

DOWN = ProviderTransient(Reason.PROVIDER_DOWN, "answered 500")


@pytest.fixture
def world() -> EnrichmentWorld:
    return EnrichmentWorld()


class TestWork:
    def test_a_catalog_is_enriched_in_as_few_requests_as_it_fits_in(self, world: EnrichmentWorld):
        submitted = world.submit(230, size=20)
        assert (submitted.job.products, submitted.job.batches, submitted.unsent) == (230, 12, 0)
        rounds = world.drain()
        assert [(done.batches, done.requests) for done in rounds] == [(10, 2), (2, 1)]
        assert world.states() == {"DONE": 230}
        assert len(world.table.rows) == 230
        assert set(world.provider.paid.values()) == {1}
        assert world.table.commits == 2
        assert not world.queue.kept

    def test_a_row_says_who_told_what_of_which_product_and_when(self, world: EnrichmentWorld):
        submitted = world.submit(CatalogRead((replace(catalog(1).products[0], attributes='{"shelf":"7"}'),), ()))
        world.drain("run-9")
        [row] = world.table.rows.values()
        assert row["provider"] == PROVIDER
        assert (row["tenant_id"], row["product_id"], row["asin"]) == (TENANT, "p-0000", "B000000000")
        assert (row["catalog_id"], row["job_id"], row["run_id"]) == (CATALOG, submitted.job.job_id, "run-9")
        assert (str(row["price_new"]), row["price_used"], row["currency"]) == ("18.99", None, "EUR")
        assert (row["catalog_attributes"], row["enriched_at"]) == ('{"shelf":"7"}', world.clock.now())

    def test_products_of_one_asin_are_paid_for_once(self, world: EnrichmentWorld):
        same = LookUpKey(LookUpKind.ASIN, "B000000001")
        world.submit(CatalogRead(tuple(CatalogProduct(f"p-{n}", same) for n in range(8)), ()))
        world.drain()
        assert world.provider.paid == {"B000000001": 1}
        assert len(world.table.rows) == 8

    def test_codes_and_asins_are_asked_for_apart(self, world: EnrichmentWorld):
        code = CatalogProduct("p-ean", LookUpKey(LookUpKind.CODE, "4006381333931"))
        world.submit(CatalogRead((*catalog(3).products, code), ()))
        world.drain()
        assert [(asked.kind, len(asked.identifiers)) for asked in world.provider.requests] == [
            (LookUpKind.ASIN, 3),
            (LookUpKind.CODE, 1),
        ]
        assert world.states() == {"DONE": 4}

    def test_the_ledger_is_asked_for_ten_batches_at_once_and_no_lease_is_prolonged_that_is_fresh(self):
        """A round reads ten items and writes each twice: three answers' time, not thirty."""
        world = EnrichmentWorld(concurrency=10)
        together = threading.Barrier(10, timeout=5)

        def act(_n: int, name: str) -> None:
            if name in {"before load", "before replace"}:
                together.wait()

        world.submit(200, size=20)
        begun = len(world.wire.points)
        world.wire.act = act
        world.drain()
        assert world.states() == {"DONE": 200}
        calls = Counter(name.partition(" ")[2] for name in world.wire.points[begun:] if name.startswith("before"))
        assert (calls["load"], calls["replace"], calls["extend"]) == (10, 20, 0)

    def test_a_ledger_that_fails_for_one_of_ten_batches_fails_the_round_when_all_calls_have_ended(self):
        world = EnrichmentWorld(concurrency=10)
        world.submit(200, size=20)
        once = iter([LedgerUnavailable("lost")])

        def act(_n: int, name: str) -> None:
            if name == "before load" and (error := next(once, None)) is not None:
                raise error

        world.wire.act = act
        with pytest.raises(LedgerUnavailable):
            world.drain()
        assert world.states() == {"RUNNING": 180, "PENDING": 20}
        world.until_quiet()
        assert world.states() == {"DONE": 200}
        assert set(world.provider.paid.values()) == {1}

    def test_no_more_than_ten_batches_are_held_at_once(self, world: EnrichmentWorld):
        world.submit(300, size=10)
        assert max(done.batches for done in world.drain()) == 10


class TestSubmitting:
    def test_h4_the_same_catalog_twice_is_one_job(self, world: EnrichmentWorld):
        first = world.submit(30)
        world.time.move(5)
        again = world.submit(CatalogRead(tuple(reversed(catalog(30).products)), ()), size=25)
        assert first.is_new
        assert not again.is_new
        assert again.job == first.job
        world.drain()
        assert world.submit(30).job == first.job
        world.drain()
        assert set(world.provider.paid.values()) == {1}

    def test_h4_two_submissions_at_once_in_two_sizes_are_one_job(self, world: EnrichmentWorld):
        rival: list[object] = []

        def act(_n: int, name: str) -> None:
            if name == "before put job" and not rival:
                rival.append(name)
                rival.append(world.submit(30, size=5))

        world.wire.act = act
        first = world.submit(30, size=10)
        assert not first.is_new
        assert first.job.batch_size == 5
        world.until_quiet()
        assert set(world.provider.paid.values()) == {1}
        assert world.status().states == {"DONE": 30}

    def test_h7_twenty_one_large_products_are_split_by_bytes(self, world: EnrichmentWorld):
        large = tuple(
            replace(product, attributes='{"text":"' + "x" * 30_000 + '"}') for product in catalog(21).products
        )
        submitted = world.submit(CatalogRead(large, ()), size=50)
        assert submitted.job.batches == 3
        assert all(len(one.body) <= MAX_MESSAGE_BYTES for one in world.queue.kept.values())
        world.drain()
        assert world.states() == {"DONE": 21}

    def test_h8_messages_that_the_queue_did_not_take_are_sent_by_the_sweeper(self, world: EnrichmentWorld):
        refused = iter([True, False, True])
        world.queue.refuse = lambda _body: next(refused, False)
        assert world.submit(30).unsent == 2
        world.drain()
        assert world.states() == {"DONE": 10, "PENDING": 20}
        assert sweep(world.ledger, world.queue, world.clock).sent == 0, "a submission may still be under way"
        world.time.move(61)
        assert sweep(world.ledger, world.queue, world.clock).sent == 2
        world.drain()
        assert world.states() == {"DONE": 30}

    def test_h8_a_batch_that_somebody_holds_is_not_sent_again_though_its_sending_was_never_noted(
        self, world: EnrichmentWorld
    ):
        world.submit(10)
        [message] = world.queue.receive(10, 0)
        [held] = world.worker("holder")._claimer.claim([message]).held
        unnoted = replace(held.batch, sent_at=None)
        assert is_lost(unnoted, world.clock.now() + timedelta(seconds=70)) is False
        assert is_lost(replace(unnoted, lease=None), world.clock.now() + timedelta(seconds=70)) is True

    def test_h8_a_queue_that_is_down_delays_the_work_and_loses_nothing(self, world: EnrichmentWorld):
        def act(_n: int, name: str) -> None:
            if name == "before send":
                raise QueueUnavailable("send to queue: down")

        world.wire.act = act
        assert world.submit(30).unsent == 3
        world.wire.act = lambda _n, _name: None
        world.until_quiet()
        assert world.states() == {"DONE": 30}

    def test_h8_what_expired_in_the_queue_is_sent_again(self, world: EnrichmentWorld):
        world.submit(10)
        world.queue.kept.clear()
        world.time.move(QUEUE_RETENTION.total_seconds())
        assert sweep(world.ledger, world.queue, world.clock).sent == 0
        world.time.move(1)
        assert sweep(world.ledger, world.queue, world.clock).sent == 1

    def test_a_job_is_closed_once_it_is_done(self, world: EnrichmentWorld):
        world.submit(10)
        world.drain()
        assert sweep(world.ledger, world.queue, world.clock).closed == 1
        assert world.store.all() == []
        assert world.status().is_final


class TestAProviderThatFails:
    def test_h1_down_is_retry_then_failed_with_the_reason_and_no_fact_is_made_up(self, world: EnrichmentWorld):
        world.provider.always = DOWN
        world.submit(20)
        world.drain()
        assert world.states() == {"RETRY": 20}
        world.until_quiet()
        assert world.states() == {"FAILED_PROVIDER_DOWN": 20}
        assert world.table.rows == {}
        assert world.status().state == State.FAILED
        assert {status.attempts for batch in world.store.held.values() for status in batch.statuses} == {4}

    def test_h1_it_is_resumed_when_the_provider_is_back(self, world: EnrichmentWorld):
        world.provider.script.extend([DOWN, DOWN])
        world.submit(20)
        world.until_quiet()
        assert world.states() == {"DONE": 20}
        assert set(world.provider.paid.values()) == {1}

    def test_h1_waits_double_and_are_kept_by_the_message(self, world: EnrichmentWorld):
        world.provider.always = DOWN
        world.submit(10)
        waits = []
        for _ in range(3):
            world.drain()
            [kept] = world.queue.kept.values()
            waits.append((kept.visible_at - world.clock.now()).total_seconds())
            world.time.move(waits[-1])
        assert waits == [30, 60, 120]

    def test_h1_after_an_outage_a_person_sets_it_going_again(self, world: EnrichmentWorld):
        world.provider.always = DOWN
        submitted = world.submit(20)
        world.until_quiet()
        world.provider.always = None
        [done] = retry([submitted.job], world.ledger, world.queue, world.dead, world.clock)
        assert (done.products, done.batches, done.unsent) == (20, 2, 0)
        world.until_quiet()
        assert world.states() == {"DONE": 20}

    def test_a_retry_leaves_what_is_done_alone(self, world: EnrichmentWorld):
        world.provider.none["B000000003"] = NoFacts(Reason.NOT_FOUND, "unknown")
        submitted = world.submit(20)
        world.until_quiet()
        assert world.states() == {"DONE": 19, "FAILED_NOT_FOUND": 1}
        world.provider.none.clear()
        [done] = retry([submitted.job], world.ledger, world.queue, world.dead, world.clock)
        assert done.products == 1
        world.until_quiet()
        assert world.states() == {"DONE": 20}
        assert set(world.provider.paid.values()) == {1, 2}
        assert sum(world.provider.paid.values()) == 21

    def test_an_outage_is_not_asked_about_more_than_three_times_a_round(self):
        world = EnrichmentWorld(max_per_request=1)
        world.provider.always = DOWN
        world.submit(20)
        world.worker().round(0)
        assert len(world.provider.requests) == 3
        attempts = [status.attempts for batch in world.store.held.values() for status in batch.statuses]
        assert sorted(attempts) == [0] * 17 + [1] * 3

    def test_a_wrong_key_stops_the_round_and_is_told(self):
        world = EnrichmentWorld(max_per_request=1)
        world.provider.always = ProviderUnusable(Reason.UNUSABLE, "answered 402 (is SALESINTEL_KEEPA_KEY right?)")
        world.submit(20)
        world.worker().round(0)
        assert len(world.provider.requests) == 1
        world.until_quiet()
        assert world.states() == {"FAILED_UNUSABLE": 20}

    @pytest.mark.parametrize("reason", [Reason.NOT_FOUND, Reason.INVALID])
    def test_h2_one_of_twenty_fails_and_nineteen_are_done_once(self, world: EnrichmentWorld, reason: Reason):
        world.provider.none["B000000007"] = NoFacts(reason, "price new is -5")
        world.submit(20, size=20)
        world.until_quiet()
        assert world.states() == {"DONE": 19, f"FAILED_{reason}": 1}
        assert len(world.table.rows) == 19
        assert set(world.provider.paid.values()) == {1}
        [failed] = [s for batch in world.store.held.values() for s in batch.statuses if s.state is State.FAILED]
        assert failed.detail == "price new is -5"

    def test_h2_one_product_that_spoils_the_whole_request_spoils_no_other(self, world: EnrichmentWorld):
        world.provider.poison.add("B000000007")
        world.submit(20, size=20)
        world.until_quiet()
        assert world.states() == {"DONE": 19, "FAILED_REFUSED": 1}
        assert set(world.provider.paid.values()) == {1}

    @pytest.mark.parametrize("attempts", [1, 4])
    def test_h2_not_on_the_last_try_and_not_while_tokens_are_short(self, attempts: int):
        world = EnrichmentWorld(attempts=attempts)
        world.provider.poison.add("B000000007")
        down = ProviderTransient(Reason.PROVIDER_DOWN, "answered 503")
        world.provider.script.extend([down] * (attempts - 1))
        world.provider.tokens = TokenLevel(1, 30.0, 5.0, world.clock.now())
        world.submit(20, size=20)
        world.until_quiet()
        assert world.states() == {"DONE": 19, "FAILED_REFUSED": 1}
        assert set(world.provider.paid.values()) == {1}

    def test_h9_an_answer_that_cannot_be_read_is_tried_again_and_then_failed_invalid(self, world: EnrichmentWorld):
        world.provider.always = ProviderTransient(Reason.INVALID, "the answer has more than 16777216 bytes")
        world.submit(10)
        world.until_quiet()
        assert world.states() == {"FAILED_INVALID": 10}

    def test_h9_after_one_unreadable_answer_each_product_is_asked_for_alone(self, world: EnrichmentWorld):
        world.provider.script.append(ProviderTransient(Reason.INVALID, "no list of products in the answer"))
        world.submit(10)
        world.until_quiet()
        assert [len(asked.identifiers) for asked in world.provider.requests] == [10] + [1] * 10
        assert world.states() == {"DONE": 10}


class TestTokens:
    def level(self, world: EnrichmentWorld, left: int) -> TokenLevel:
        return TokenLevel(left, 30.0, 5.0, world.clock.now())

    def test_h6_batches_wait_for_their_tokens_and_nothing_is_asked_in_vain(self, world: EnrichmentWorld):
        world.store.note(PROVIDER, self.level(world, 10))
        world.submit(40)
        done = world.worker().round(0)
        assert done is not None
        assert (done.batches, done.requests, done.waiting) == (4, 1, 3)
        assert world.states() == {"DONE": 10, "RETRY": 30}
        waits = sorted((one.visible_at - world.clock.now()).total_seconds() for one in world.queue.kept.values())
        assert waits == [30 + 60 * 10 / 5, 30 + 60 * 20 / 5, 30 + 60 * 30 / 5]
        retried = {s.attempts for b in world.store.held.values() for s in b.statuses if s.state is State.RETRY}
        assert retried == {0}

    def test_h6_a_429_waits_refill_in_and_missing_by_refill_rate(self, world: EnrichmentWorld):
        refused = ProviderThrottled(Reason.OUT_OF_TOKENS, "answered 429", self.level(world, -5))
        world.provider.script.append(refused)
        world.submit(10)
        world.drain()
        [kept] = world.queue.kept.values()
        assert (kept.visible_at - world.clock.now()).total_seconds() == 30 + 60 * 15 / 5
        assert world.status().tokens_left == -5
        world.until_quiet()
        assert world.states() == {"DONE": 10}

    def test_h6_a_long_wait_for_tokens_never_ends_among_the_dead_letters(self, world: EnrichmentWorld):
        """The level that the ledger knows is spent again and again by somebody else: 30 waits, 10 receives allowed."""
        world.submit(10)
        for _ in range(30):
            world.store.note(PROVIDER, self.level(world, 0))
            world.drain()
            world.time.move(200)
        assert not world.dead.kept
        assert world.states() == {"RETRY": 10}
        world.until_quiet()
        assert world.states() == {"DONE": 10}

    def test_h6_a_provider_that_never_has_tokens_ends_as_failed_with_the_reason(self, world: EnrichmentWorld):
        world.provider.always = ProviderThrottled(Reason.OUT_OF_TOKENS, "answered 429", self.level(world, 0))
        world.submit(10)
        world.until_quiet()
        assert world.states() == {"FAILED_OUT_OF_TOKENS": 10}

    def test_the_estimate_follows_the_tokens(self, world: EnrichmentWorld):
        world.store.note(PROVIDER, self.level(world, 0))
        world.submit(40)
        found = world.status()
        assert found.tokens_left == 0
        assert found.estimated_finish == world.clock.now() + timedelta(seconds=30 + 60 * 40 / 5)


class TestLeases:
    def test_h5_a_dead_owners_batch_is_taken_over_after_its_lease(self, world: EnrichmentWorld):
        world.submit(10)

        def act(_n: int, name: str) -> None:
            if name == "after look up":
                raise Crash

        world.wire.act = act
        with pytest.raises(Crash):
            world.drain("dead")
        world.wire.act = lambda _n, _name: None
        assert world.states() == {"RUNNING": 10}
        world.time.move(299)
        assert world.drain("second") == []
        world.time.move(1)
        world.drain("second")
        assert world.states() == {"DONE": 10}
        assert {row["run_id"] for row in world.table.rows.values()} == {"second"}

    def test_h5_a_second_message_of_a_batch_that_is_held_waits_for_its_lease(self, world: EnrichmentWorld):
        world.submit(10)
        [body] = [one.body for one in world.queue.kept.values()]

        def act(_n: int, name: str) -> None:
            if name == "before look up":
                world.wire.act = lambda _n, _name: None
                world.queue.send([body])
                assert [done.waiting for done in world.drain("rival")] == [1]

        world.wire.act = act
        world.drain("first")
        assert world.provider.requests[1:] == []
        assert {row["run_id"] for row in world.table.rows.values()} == {"first"}
        [kept] = world.queue.kept.values()
        assert kept.visible_at == world.clock.now() + timedelta(seconds=300)
        world.until_quiet()
        assert set(world.provider.paid.values()) == {1}

    @pytest.mark.parametrize("where", ["after look up", "before merge", "after merge", "before replace"])
    def test_h5_a_zombies_late_writes_are_refused(self, world: EnrichmentWorld, where: str):
        """The first worker sleeps over its lease at one point; a second one does the work; then the first wakes up."""
        world.submit(10)
        seen: list[str] = []

        def act(_n: int, name: str) -> None:
            if "replace" in name and "replace" in where:
                seen.append(name)
                if len(seen) != 3:  # before claim, after claim, before settle
                    return
            elif name != where:
                return
            world.wire.act = lambda _n, _name: None
            world.time.move(301)
            world.drain("second")

        world.wire.act = act
        world.drain("zombie")
        assert world.states() == {"DONE": 10}
        [batch] = world.store.held.values()
        assert batch.lease is None
        if where == "after look up":
            assert any("what we have of it is dropped" in line for line in world.lines), "before the table is asked"
        else:
            assert any("our outcome is refused" in line for line in world.lines)
        writers = {row["run_id"] for row in world.table.rows.values()}
        assert writers == ({"zombie"} if where in {"after merge", "before replace"} else {"second"})
        assert max(world.provider.paid.values()) <= 2

    def test_f14_work_that_takes_longer_than_the_visibility_keeps_its_message(self):
        world = EnrichmentWorld(max_per_request=1)
        world.submit(10)
        rival: list[int] = []

        def slow(_request: LookUp) -> None:
            world.time.move(110)
            rival.append(len(world.queue.receive(10, 0)))

        world.provider.script.extend([slow] * 10)
        world.drain()
        assert rival == [0] * 10
        assert world.states() == {"DONE": 10}
        assert set(world.provider.paid.values()) == {1}

    def test_f14_a_heartbeat_that_fails_costs_a_second_delivery_and_nothing_else(self):
        world = EnrichmentWorld(max_per_request=1)
        world.submit(10)

        def slow(_request: LookUp) -> None:
            world.time.move(110)

        def act(_n: int, name: str) -> None:
            if name == "before extend" and len(world.provider.requests) < 10:
                raise QueueUnavailable("keep messages of queue: down")

        world.provider.script.extend([slow] * 10)
        world.wire.act = act
        world.drain()
        world.wire.act = lambda _n, _name: None
        assert any("messages are not prolonged, their leases are" in line for line in world.lines)
        world.until_quiet()
        assert world.states() == {"DONE": 10}
        assert len(world.table.rows) == 10
        assert set(world.provider.paid.values()) == {1}, "what was paid for is kept"


class TestTheQueue:
    def test_f15_messages_that_were_not_deleted_come_again_and_are_answered_by_the_ledger(self, world: EnrichmentWorld):
        world.submit(20)
        world.queue.undeletable = 2
        world.drain()
        assert len(world.queue.kept) == 2
        commits, asked = world.table.commits, len(world.provider.requests)
        world.time.move(301)
        world.drain()
        assert not world.queue.kept
        assert (world.table.commits, len(world.provider.requests)) == (commits, asked)

    def test_a_message_that_is_not_ours_stops_nobody_and_ends_among_the_dead_letters(self, world: EnrichmentWorld):
        world.queue.send(["{", '{"batch":[1,"t","c","E1-20",1],"products":[]}'])
        world.submit(10)
        world.drain()
        assert world.states() == {"DONE": 10}
        assert sorted(one.body[:1] for one in world.dead.kept.values()) == ["{", "{"]
        assert any("Poison message" in line for line in world.lines)

    def test_f17_a_batch_that_no_worker_survives_is_a_dead_letter_until_a_retry(self, world: EnrichmentWorld):
        submitted = world.submit(20)

        def act(_n: int, name: str) -> None:
            if name == "before look up":
                raise Crash

        world.wire.act = act
        for _ in range(10):
            with pytest.raises(Crash):
                world.drain()
            world.time.move(301)
            assert sweep(world.ledger, world.queue, world.clock).sent == 0
        assert world.drain() == []
        assert len(world.dead.kept) == 2
        assert world.states() == {"RUNNING": 20}
        world.dead.send(["not of this catalog"])
        world.wire.act = lambda _n, _name: None
        [done] = retry([submitted.job], world.ledger, world.queue, world.dead, world.clock)
        assert (done.batches, done.dead_letters) == (2, 2)
        world.until_quiet()
        assert world.states() == {"DONE": 20}
        assert [one.body for one in world.dead.kept.values()] == ["not of this catalog"]


def test_a_job_of_another_user_or_tenant_is_not_listed(world: EnrichmentWorld):
    world.submit(10)
    assert [job.user_id for job in world.store.of_user(TENANT, USER)] == [USER]
    assert world.store.of_user(TENANT, "bob") == []
    assert world.store.of_user("other", USER) == []


def test_refused_is_final_only_for_a_request_of_one(world: EnrichmentWorld):
    world.provider.script.append(ProviderRefused(Reason.REFUSED, "answered 400"))
    world.submit(10)
    world.drain()
    assert world.states() == {"RETRY": 10}
