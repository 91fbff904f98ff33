from __future__ import annotations

import json

import pytest

from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.domain.event_queues import OldestAge
from salesintel_dagster.domain.message_shelf import ShelvedMessage
from salesintel_dagster.flows.sync.redrive import Dropped, drop, look, redrive
from salesintel_dagster.flows.sync.state import state_of_events
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.event_queue import InMemoryEventQueue
from salesintel_dagster_tests.fakes.event_queues import FakeEventQueueWatch
from salesintel_dagster_tests.fakes.events import envelope, sold
from salesintel_dagster_tests.fakes.message_shelf import InMemoryInlet, InMemoryShelf
from salesintel_dagster_tests.fakes.sync_world import FakeSync


@pytest.fixture
def shelf() -> InMemoryShelf:
    made = InMemoryShelf()
    for number in range(25):
        made.put(f"body-{number}", {"code": "A" if number % 2 else "B"})
    return made


def test_a_look_sees_everything_once_oldest_first_and_leaves_it_there(shelf: InMemoryShelf) -> None:
    found = look(shelf)
    assert [one.message.body for one in found.messages] == [f"body-{number}" for number in range(25)]
    assert found.is_whole
    assert not shelf.in_hand
    assert len(shelf.there) == 25


def test_a_look_that_fails_gives_back_what_it_holds(shelf: InMemoryShelf) -> None:
    def fail(_: int) -> None:
        shelf.down = True

    with pytest.raises(QueueUnavailable):
        look(shelf, tell=fail)
    assert not shelf.in_hand


def test_a_bounded_look_says_how_much_it_has_not_seen_and_what_others_hold(shelf: InMemoryShelf) -> None:
    shelf.in_hand = {"s-24", "s-25"}
    found = look(shelf, most=20)
    assert (len(found.messages), found.more, found.held, found.is_whole) == (20, 3, 2, False)


def test_only_what_is_wanted_is_sent_and_deleted(shelf: InMemoryShelf) -> None:
    inlet = InMemoryInlet()
    done = redrive(shelf, inlet, lambda one: one.code == "A")
    assert (done.moved, done.refused, done.sent_but_stay) == (12, [], [])
    assert inlet.sent == [f"body-{number}" for number in range(1, 25, 2)]
    assert {one.code for one in shelf.there.values()} == {"B"}
    assert not shelf.in_hand


def test_what_the_queue_does_not_take_stays_and_is_told(shelf: InMemoryShelf) -> None:
    inlet = InMemoryInlet(refused={"body-3"})
    shelf.stubborn = {"s-5"}
    done = redrive(shelf, inlet, lambda _: True)
    assert (done.moved, done.refused, done.sent_but_stay) == (23, [("s-4", "TooLarge")], ["s-5"])
    assert set(shelf.there) == {"s-4", "s-5"}


def test_a_queue_that_goes_away_midway_ends_it_and_what_was_moved_until_then_is_told(shelf: InMemoryShelf) -> None:
    inlet = InMemoryInlet(fails_after=1)
    done = redrive(shelf, inlet, lambda _: True)
    assert (done.moved, str(done.error)) == (10, "the queue is down")
    assert done.uncertain == [f"s-{number}" for number in range(11, 21)]
    assert len(inlet.sent) == 10
    assert [one.message.body for one in shelf.there.values()] == [f"body-{number}" for number in range(10, 25)]
    assert not shelf.in_hand


def test_what_cannot_be_given_back_takes_nothing_from_the_answer(shelf: InMemoryShelf) -> None:
    """It comes back by itself; what was moved is known by this answer alone."""

    class Gone(InMemoryShelf):
        def delete(self, messages: object) -> tuple[()]:  # noqa: ARG002 - the port's
            raise QueueUnavailable("gone")

        def give_back(self, messages: object) -> None:  # noqa: ARG002 - the port's
            raise QueueUnavailable("gone")

    inlet = InMemoryInlet()
    done = redrive(Gone(there=dict(shelf.there)), inlet, lambda one: one.message_id in {"s-1", "s-2"})
    assert (done.moved, done.uncertain, inlet.sent) == (0, ["s-1", "s-2"], ["body-0", "body-1"])


def test_a_look_that_takes_longer_than_it_may_hold_ends() -> None:
    class Forgetful(InMemoryShelf):
        takes = 0

        def take(self, hold_seconds: int) -> list[ShelvedMessage]:
            found = InMemoryShelf.take(self, hold_seconds)
            self.in_hand = {one.message_id for one in found}  # of the others the time is up
            self.takes += 1
            assert self.takes < 9, "it goes on for ever"
            return found

    shelf = Forgetful()
    for number in range(5):
        shelf.put(f"body-{number}")
    shelf.in_hand = {"s-1"}
    found = look(shelf)
    assert (len(found.messages), found.is_whole) == (5, False)


def test_no_event_is_taken_for_a_copy_of_another_and_lost() -> None:
    shelf, inlet = InMemoryShelf(), InMemoryInlet()
    for number in range(3):
        shelf.put(f"body-{number}", {"messageId": "given by somebody"})
    assert redrive(shelf, inlet, lambda _: True).moved == 3
    assert inlet.sent == ["body-0", "body-1", "body-2"]
    assert shelf.there == {}


def test_what_is_dropped_is_gone_copies_and_all_and_nothing_else_is() -> None:
    shelf = InMemoryShelf()
    for origin in ("m-1", "m-2", "m-1", "m-3", "m-2"):
        shelf.put(f"body of {origin}", {"messageId": origin})
    shelf.stubborn = {"s-5"}
    assert drop(shelf, lambda one: one.origin != "m-3") == Dropped(1, ("m-2",))
    assert set(shelf.there) == {"s-4", "s-5"}
    assert not shelf.in_hand


def test_copies_of_one_quarantined_message_are_one_event_that_is_sent_once() -> None:
    shelf, inlet = InMemoryShelf(), InMemoryInlet()
    for origin in ("m-1", "m-2", "m-1", "m-3", "m-1"):
        shelf.put(f"body of {origin}", {"code": "A", "messageId": origin})
    found = look(shelf)
    assert (len(found.messages), [one.origin for one in found.events]) == (5, ["m-1", "m-2", "m-3"])
    state = state_of_events(FakeEventQueueWatch(kept=5), InMemoryShelf(), shelf, held_clock())
    assert state.quarantine.codes == {"A": 3}
    shelf.stubborn = {"s-5"}
    done = redrive(shelf, inlet, lambda one: one.origin != "m-3")
    assert inlet.sent == ["body of m-1", "body of m-2"]
    assert (done.moved, done.sent_but_stay) == (1, ["m-1"])
    assert set(shelf.there) == {"s-4", "s-5"}


class Killed(BaseException):
    pass


class DiesBeforeDelete(InMemoryShelf):
    def delete(self, messages: object) -> tuple[()]:  # noqa: ARG002 - the port's
        raise Killed


def test_a_kill_between_sending_and_deleting_loses_and_doubles_nothing() -> None:
    """F4: after a redrive of dead letters that was killed and done again"""
    world = FakeSync()
    body = envelope(sold("S-1"))
    shelf = DiesBeforeDelete()
    shelf.put(body)
    inlet = InMemoryInlet()
    with pytest.raises(Killed):
        redrive(shelf, inlet, lambda _: True)
    again = InMemoryShelf(there=dict(shelf.there))
    assert redrive(again, inlet, lambda _: True).moved == 1
    assert inlet.sent == [body, body]
    world.queue.send(*inlet.sent)
    tally = world.drain()
    assert (tally.received, tally.written, tally.duplicates) == (2, 1, 1)
    assert world.sales() == ["S-1"]


def test_the_state_looks_into_the_shelves_and_never_into_the_queue() -> None:
    clock = held_clock()
    queue, dead, quarantine = InMemoryEventQueue(clock=clock), InMemoryShelf(), InMemoryShelf()
    queue.send(json.dumps(sold()))
    quarantine.put("x", {"code": "NOT_JSON"})
    quarantine.put("y")
    watch = FakeEventQueueWatch(queue, kept=2, oldest=OldestAge(7.0, "as told"))
    state = state_of_events(watch, dead, quarantine, clock)
    assert queue.messages[0].receives == 0
    assert (state.queue.depth.waiting, state.queue.oldest_seconds) == (1, 7.0)
    assert state.dead_letters.oldest_seconds is None
    assert state.quarantine.codes == {"NOT_JSON": 1, "(no code)": 1}
    assert state.needs_a_person
    calm = state_of_events(FakeEventQueueWatch(queue), dead, InMemoryShelf(), clock)
    assert (calm.queue.oldest_seconds, calm.needs_a_person) == (None, False)
