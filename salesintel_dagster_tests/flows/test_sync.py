from __future__ import annotations

import time
from collections.abc import Callable, Collection

import pytest

from salesintel_dagster.domain.errors import (
    CommitConflict,
    QueueUnavailable,
    ReceiptsUnavailable,
    SalesUnavailable,
    SchemaDrift,
    SettingInvalid,
    TableError,
    TableUnavailable,
)
from salesintel_dagster.domain.event_queue import QueuedMessage
from salesintel_dagster.domain.keyed_table import TableMonth
from salesintel_dagster.domain.sale_event import SaleIdentity
from salesintel_dagster.domain.sales_repository import StoredSale
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.flows.sync.heartbeat import Heartbeat
from salesintel_dagster.flows.sync.parts import SyncRules, SyncTally
from salesintel_dagster_tests.fakes.event_queue import InMemoryEventQueue
from salesintel_dagster_tests.fakes.events import OTHER_TENANT, RULES, TENANT, envelope, hash_of, hostile_bodies, sold
from salesintel_dagster_tests.fakes.sales_repository import InMemorySalesRepository
from salesintel_dagster_tests.fakes.sync_world import FakeSync


@pytest.fixture
def world() -> FakeSync:
    return FakeSync()


def assert_adds_up(tally: SyncTally) -> None:
    counts = (tally.written, tally.duplicates, tally.superseded, tally.conflicts, tally.quarantined)
    assert sum(counts) == tally.received


class WithoutGuards(InMemorySalesRepository):
    """Sales are there, and no look-up by id finds them: their guards were deleted by hand."""

    def by_sale_id(self, context: CallerContext, sale_id: str) -> StoredSale | None:  # noqa: ARG002 - finds none
        return None


def test_a_sale_that_has_lost_its_guard_is_a_conflict_and_no_endless_race(world: FakeSync) -> None:
    world.ledger = WithoutGuards(world.clock)
    world.send(sold("a"))
    world.drain()
    world.send(sold("a", salePrice=1), sold("b"))
    tally = world.drain()
    assert (tally.conflicts, tally.written) == (1, 1)


def test_events_reach_both_stores_and_leave_the_queue(world: FakeSync) -> None:
    world.send(sold("a"), sold("b"), sold("c", tenantId=OTHER_TENANT, soldAt="2026-10-31T12:00:00Z"))
    tally = world.drain()
    assert world.sales() == ["a", "b", "c"]
    assert world.queue.messages == []
    assert (tally.received, tally.written, tally.batches, tally.commits) == (3, 3, 1, 1)
    assert tally.months == {TableMonth(TENANT, 2026, 11), TableMonth(OTHER_TENANT, 2026, 10)}
    assert tally.lag_seconds_most == tally.lag_seconds_mean == 55
    assert set(world.receipts.written) == {SaleIdentity(*key) for key in world.in_table()}
    assert world.table.commits == [{"salesintel.run-id": "run-1", "salesintel.batch-id": "run-1/1"}]
    assert "received=3 written=3 duplicates=0" in world.said[0]


class TestRepetitions:
    @pytest.mark.parametrize("times", [2, 10])
    def test_the_same_event_in_one_batch_is_one_sale(self, world: FakeSync, times: int) -> None:
        """F4"""
        world.send(*[sold("a")] * times)
        tally = world.drain()
        assert world.sales() == ["a"]
        assert (tally.written, tally.duplicates) == (1, times - 1)
        assert world.queue.messages == []
        assert_adds_up(tally)

    @pytest.mark.parametrize("hours", [0, 23, 25, 24 * 20])
    def test_the_same_event_again_later_is_one_sale(self, world: FakeSync, hours: int) -> None:
        """F4: with a receipt and after it has expired"""
        world.send(sold("a"))
        world.drain()
        world.later(hours=hours)
        world.send(sold("a"))
        tally = world.drain()
        assert world.sales() == ["a"]
        assert (tally.written, tally.duplicates) == (0, 1)
        assert len(world.table.commits) == 1

    def test_another_spelling_of_the_same_content_is_a_repetition(self, world: FakeSync) -> None:
        """F10"""
        world.send(sold("a"), dict(reversed(sold("a", salePrice=19.90).items())))
        assert world.drain().duplicates == 1
        assert world.quarantine.entries == []

    def test_a_product_that_is_sold_twice_is_two_sales(self, world: FakeSync) -> None:
        """F5"""
        world.send(sold("a", productId="P"), sold("b", productId="P"))
        assert world.drain().written == 2
        assert world.sales() == ["a", "b"]

    def test_an_event_without_a_sale_id_is_one_sale_however_often_it_comes(self, world: FakeSync) -> None:
        """F8"""
        world.send(sold(None, productId="P"), event_id="e-1")
        world.drain()
        world.later(hours=30)
        world.send(sold(None, productId="P"), event_id="e-1")
        world.send(sold(None, productId="P"), event_id="e-2")
        assert world.drain().written == 1
        assert world.sales() == ["EVT-e-1", "EVT-e-2"]


CONTRADICTIONS = {
    "another price": sold("a", salePrice=1),
    "another month": sold("a", soldAt="2026-10-03T00:00:00Z"),
    "another day": sold("a", soldAt="2026-11-04T00:00:00Z"),
}


class TestContradictions:
    @pytest.mark.parametrize("name", CONTRADICTIONS)
    @pytest.mark.parametrize("when", ["one batch", "with a receipt", "after the receipt", "only the table knows"])
    def test_the_first_stays_in_both_stores_and_the_other_is_kept_with_both_hashes(
        self, world: FakeSync, name: str, when: str
    ) -> None:
        """F6, F7"""
        world.send(sold("a"), sold("b"))
        if when != "one batch":
            world.drain()
            world.later(hours=0 if when == "with a receipt" else 25)
        first = world.in_table()
        if when == "only the table knows" and name != "another month":
            world.ledger.sales.clear()
        world.send(CONTRADICTIONS[name])
        tally = world.drain()
        assert tally.conflicts == 1
        if when == "only the table knows" and name != "another month":
            assert world.in_table() == first
            assert world.in_ledger() == {}
        else:
            assert world.sales() == ["a", "b"]
        (entry,) = world.quarantine.entries
        assert (entry.rejection.code, entry.tenant_id, entry.sale_id) == ("CONFLICT", TENANT, "a")
        assert entry.held_hash == world.in_table()[TENANT, "a"] == hash_of(sold("a"))
        assert entry.payload_hash == hash_of(CONTRADICTIONS[name])
        assert world.queue.messages == []
        assert_adds_up(tally)


class TestCorrections:
    SECOND = sold("a", salePrice=1, eventVersion=2)

    @pytest.mark.parametrize("batches", [1, 2], ids=["one batch", "two batches"])
    @pytest.mark.parametrize("first", [0, 1], ids=["in order", "the correction first"])
    @pytest.mark.parametrize("hours", [0, 25])
    def test_the_higher_version_stands_in_both_stores(
        self, world: FakeSync, batches: int, first: int, hours: int
    ) -> None:
        details = [sold("a"), self.SECOND]
        world.send(details[first])
        if batches == 2:
            world.drain()
            world.later(hours=hours)
        world.send(details[1 - first])
        tally = world.drain()
        assert world.sales() == ["a"]
        assert world.in_table()[TENANT, "a"] == hash_of(self.SECOND)
        assert world.quarantine.entries == []
        assert world.queue.messages == []
        assert_adds_up(tally)

    def test_one_that_moves_a_sale_to_another_month_is_a_contradiction(self, world: FakeSync) -> None:
        """F7"""
        world.send(sold("a"))
        world.drain()
        world.send(sold("a", soldAt="2026-10-03T00:00:00Z", eventVersion=2))
        assert world.drain().conflicts == 1
        (entry,) = world.quarantine.entries
        assert (entry.rejection.code, entry.rejection.field) == ("CONFLICT", "soldAt")
        assert entry.rejection.rule == "a correction stays in the month of its sale; the sale as it was stays"
        assert world.in_table() == world.in_ledger() == {(TENANT, "a"): hash_of(sold("a"))}

    def test_another_payload_of_the_same_version_is_a_contradiction(self, world: FakeSync) -> None:
        world.send(self.SECOND)
        world.drain()
        world.later(hours=25)
        world.send(sold("a", salePrice=3, eventVersion=2))
        assert world.drain().conflicts == 1


class TestPoison:
    def test_every_hostile_body_is_kept_with_its_reason_and_the_others_are_done(self, world: FakeSync) -> None:
        """F9, F11, F24, D9"""
        hostile = hostile_bodies()
        for number, (body, _) in enumerate(hostile.values()):
            world.queue.send(body)
            world.send(sold(f"S-{number}"))
        tally = world.drain()
        assert sorted(world.quarantine.codes) == sorted(code for _, code in hostile.values())
        assert (tally.quarantined, tally.written) == (len(hostile), len(hostile))
        assert len(world.sales()) == len(hostile)
        assert {entry.message.body for entry in world.quarantine.entries} == {body for body, _ in hostile.values()}
        assert world.queue.messages == []
        assert_adds_up(tally)

    def test_one_among_a_hundred_costs_the_others_nothing(self, world: FakeSync) -> None:
        """F12"""
        world.send(*(sold(f"S-{n}") for n in range(50)))
        world.queue.send("poison")
        world.send(*(sold(f"S-{n}") for n in range(50, 99)))
        tally = world.drain()
        assert (tally.batches, tally.commits, tally.written, tally.quarantined) == (1, 1, 99, 1)
        assert len(world.sales()) == 99

    @pytest.mark.parametrize("bad", [{"S-3"}, {"S-0", "S-6"}, {f"S-{n}" for n in range(7)}])
    def test_a_row_that_makes_the_commit_fail_is_found_and_set_aside_alone(
        self, world: FakeSync, bad: set[str]
    ) -> None:
        """F13"""
        world.table.refused = {(sale_id, 1) for sale_id in bad}
        world.send(*(sold(f"S-{n}") for n in range(7)))
        tally = world.drain()
        assert {entry.sale_id for entry in world.quarantine.entries} == bad
        assert set(world.quarantine.codes) == {"ROW_REFUSED"}
        assert set(world.sales()) == {f"S-{n}" for n in range(7)} - bad
        assert set(world.receipts.written) == {SaleIdentity(*key) for key in world.in_table()}
        assert_adds_up(tally)

    def test_a_quarantine_that_is_down_keeps_only_its_own_messages_waiting(self, world: FakeSync) -> None:
        """F16"""
        world.quarantine.down = True
        world.queue.send("poison")
        world.send(sold("a"), sold("b"), sold("b", salePrice=1))
        with pytest.raises(QueueUnavailable, match="quarantine is down"):
            world.drain()
        assert world.sales() == ["a", "b"]
        assert [one.body for one in world.queue.messages] == ["poison", envelope(sold("b", salePrice=1), "event-1")]
        world.quarantine.down = False
        world.queue.show_again()
        assert world.drain().received == 2
        assert sorted(world.quarantine.codes) == ["CONFLICT", "NOT_JSON"]
        assert world.queue.messages == []


class TestFailures:
    @pytest.mark.parametrize("error", [CommitConflict("lost"), TableUnavailable("down"), SchemaDrift("other")])
    def test_a_table_that_fails_keeps_every_message_and_no_row_is_called_bad(
        self, world: FakeSync, error: TableError
    ) -> None:
        """D5"""
        world.table.fail(error)
        world.send(sold("a"), sold("b"))
        with pytest.raises(type(error)):
            world.drain()
        assert (len(world.queue.messages), world.quarantine.entries, world.receipts.written) == (2, [], {})
        world.queue.show_again()
        assert world.drain().written == 2
        assert world.sales() == ["a", "b"]

    def test_a_ledger_that_is_down_keeps_every_message(self, world: FakeSync) -> None:
        world.ledger.down = True
        world.send(sold("a"))
        with pytest.raises(SalesUnavailable):
            world.drain()
        assert (len(world.queue.messages), world.in_table()) == (1, {})

    @pytest.mark.parametrize("operation,written", [("get", 0), ("put", 1)])
    def test_receipts_that_fail_are_told_and_double_nothing(
        self, world: FakeSync, operation: str, written: int
    ) -> None:
        world.receipts.failures.append(operation)
        world.send(sold("a"))
        with pytest.raises(ReceiptsUnavailable):
            world.drain()
        assert len(world.in_table()) == written
        world.queue.show_again()
        assert world.drain().written == 1 - written
        assert world.sales() == ["a"]

    def test_messages_that_the_queue_refuses_to_delete_come_again_and_write_nothing(self, world: FakeSync) -> None:
        """F15"""
        world.send(sold("a"), sold("b"))
        world.queue.refused = {"m-1"}
        assert world.drain().left == 1
        world.queue.refused = set()
        world.queue.show_again()
        tally = world.drain()
        assert (tally.duplicates, tally.written, len(world.table.commits)) == (1, 0, 1)
        assert world.queue.messages == []


class TestTheDrain:
    def test_a_backlog_goes_in_batches_of_bounded_size(self, world: FakeSync) -> None:
        """F20"""
        world.send(*(sold(f"S-{n}") for n in range(250)))
        tallies = list(world.sync().drain())
        assert [tally.received for tally in tallies] == [100, 100, 50]
        assert len(world.said) == 3
        assert len(world.sales()) == 250

    def test_no_batch_begins_after_the_deadline(self, world: FakeSync) -> None:
        world.send(*(sold(f"S-{n}") for n in range(250)))
        done = []
        for tally in world.sync().drain():
            done.append(tally)
            world.seconds += 500
        assert len(done) == 2
        assert len(world.queue.messages) == 50

    def test_an_empty_queue_ends_the_drain(self, world: FakeSync) -> None:
        assert world.drain() == SyncTally()

    def test_a_message_may_not_come_again_while_its_batch_is_gathered(self) -> None:
        with pytest.raises(SettingInvalid, match="visibility_seconds: 100 is less than 6 times gather_seconds"):
            SyncRules(events=RULES, gather_seconds=30, visibility_seconds=100)


def test_what_is_held_is_extended_until_it_is_released() -> None:
    """F14"""
    queue, said = InMemoryEventQueue(), []
    queue.send("one", "two")
    first, second = queue.receive(10, 0)
    queue.fail("extend")
    with Heartbeat(queue, 0.03, said.append) as heartbeat:  # type: ignore[arg-type]  # a hundredth of a second a beat
        heartbeat.hold([first, second])
        _until(lambda: len(queue.extended) >= 4)
        heartbeat.release([first])
        seen = len(queue.extended)
        _until(lambda: len(queue.extended) >= seen + 4)
        assert {name for name, _ in queue.extended[seen + 1 :]} == {"m-2"}
    assert said == ["[CarouselSync] Visibility not extended, messages may come twice: extend: the queue is down"]
    ended = len(queue.extended)
    time.sleep(0.05)
    assert len(queue.extended) == ended


class DeletedMeanwhile(InMemoryEventQueue):
    """`done` is called while an extension is on its way: the batch has ended and deletes what it held."""

    def __init__(self) -> None:
        super().__init__()
        self.done: Callable[[], object] = lambda: None

    def extend(self, messages: Collection[QueuedMessage], seconds: int) -> tuple[QueuedMessage, ...]:
        self.done()
        return super().extend(messages, seconds)


def test_what_is_held_no_longer_is_told_once_with_its_number_and_what_was_deleted_is_not() -> None:
    """F14"""
    queue, said = DeletedMeanwhile(), []
    queue.send("one", "two", "three", "four")
    messages = queue.receive(10, 0)
    queue.show_again()
    queue.receive(2, 0)
    with Heartbeat(queue, 0.03, said.append) as heartbeat:  # type: ignore[arg-type]  # a hundredth of a second a beat

        def done() -> None:
            queue.delete(messages[3:])
            heartbeat.release(messages[3:])

        queue.done = done
        heartbeat.hold(messages)
        _until(lambda: len(queue.extended) >= 4)
    assert {name for name, _ in queue.extended} == {"m-3"}
    assert said == ["[CarouselSync] Visibility of 2 of 4 messages not extended, they may come twice"]


def _until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.002)
