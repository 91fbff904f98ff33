"""Looking through a shelf (dead letters, quarantine) without taking from it, putting messages back to work, dropping.

A look holds what it sees until its end, so that nothing is seen twice, and then gives all of it back. Redriving sends
first and deletes then: a kill in between leaves a message in both places, and the sync answers the second from its
stores. Nothing is deleted that the queue has not taken. Copies that a crash has left of one message are one event: it
is sent once, and all of them are deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.domain.message_shelf import MessageInlet, MessageShelf, ShelvedMessage, by_origin

HOLD_SECONDS = 120
"""A look at 1,000 messages takes seconds; after a kill they are there again this much later."""
MOST_LOOKED_AT = 1_000
SEND_TOGETHER = 10
Wanted = Callable[[ShelvedMessage], bool]
Tell = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Look:
    """What lies on a shelf, copies and all. `more` are messages beyond `most`; `held` are in another's hand, about."""

    messages: tuple[ShelvedMessage, ...]
    more: int = 0
    held: int = 0

    @property
    def events(self) -> list[ShelvedMessage]:
        """The first copy of each."""
        return [copies[0] for copies in by_origin(self.messages)]

    @property
    def is_whole(self) -> bool:
        """Whether nothing but this lies there."""
        return not self.more and not self.held


@dataclass(slots=True)
class Redriven:
    """What became of the events: sent and deleted; sent, still on the shelf; not taken by the queue, with why.

    `more` and `held` are those that were not looked at, as in `Look`. An `error` ended the work: each of the
    `uncertain` may have been sent and is still on the shelf, and none after them was sent.
    """

    moved: int = 0
    sent_but_stay: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    more: int = 0
    held: int = 0
    uncertain: list[str] = field(default_factory=list)
    error: QueueUnavailable | None = None


def look(shelf: MessageShelf, most: int = MOST_LOOKED_AT, tell: Tell = lambda _: None) -> Look:
    """Return what lies there, oldest first, and leave all of it there. Raises QueueUnavailable."""
    with _in_hand(shelf, most, tell) as (held, whole):
        return _seen(shelf, held, whole=whole)


def redrive(
    shelf: MessageShelf, inlet: MessageInlet, wanted: Wanted, most: int = MOST_LOOKED_AT, tell: Tell = lambda _: None
) -> Redriven:
    """Send the wanted messages' bodies to the queue, then delete them here, or until a queue does not answer.

    All are in hand before the first is sent: one that comes back to the shelf at once is not sent again. Raises
    QueueUnavailable where nothing was sent yet.
    """
    done = Redriven()
    with _in_hand(shelf, most, lambda _: None) as (held, whole):
        seen = _seen(shelf, held, whole=whole)
        chosen = by_origin(one for one in seen.messages if wanted(one))
        for start in range(0, len(chosen), SEND_TOGETHER):
            batch = chosen[start : start + SEND_TOGETHER]
            try:
                gone = _moved(batch, shelf, inlet, done)
            except QueueUnavailable as error:
                done.error, done.uncertain = error, [copies[0].origin for copies in batch]
                break
            for one in gone:
                del held[one.message_id]
            tell(done.moved)
    return replace(done, more=seen.more, held=seen.held)


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many events are gone for good, and the ids of those that are still on the shelf."""

    gone: int
    stay: tuple[str, ...]


def drop(shelf: MessageShelf, wanted: Wanted, most: int = MOST_LOOKED_AT) -> Dropped:
    """Delete the wanted messages, copies and all, because somebody has judged them. Raises QueueUnavailable."""
    with _in_hand(shelf, most, lambda _: None) as (held, whole):
        events = by_origin(one for one in _seen(shelf, held, whole=whole).messages if wanted(one))
        stay = {one.message_id for one in shelf.delete([one for copies in events for one in copies])}
        for copies in events:
            for one in copies:
                if one.message_id not in stay:
                    del held[one.message_id]
    here = tuple(copies[0].origin for copies in events if any(one.message_id in stay for one in copies))
    return Dropped(len(events) - len(here), here)


def _moved(
    batch: Sequence[list[ShelvedMessage]], shelf: MessageShelf, inlet: MessageInlet, done: Redriven
) -> list[ShelvedMessage]:
    """Send the first of each event's copies, delete all of them; return those that are gone."""
    refused = {one.number: one.reason for one in inlet.send([copies[0].message.body for copies in batch])}
    done.refused += [(batch[number][0].origin, reason) for number, reason in refused.items()]
    events = [copies for number, copies in enumerate(batch) if number not in refused]
    sent = [one for copies in events for one in copies]
    stay = {one.message_id for one in shelf.delete(sent)}
    here = sorted(copies[0].origin for copies in events if any(one.message_id in stay for one in copies))
    done.sent_but_stay += here
    done.moved += len(events) - len(here)
    return [one for one in sent if one.message_id not in stay]


def _seen(shelf: MessageShelf, held: Mapping[str, ShelvedMessage], *, whole: bool) -> Look:
    depth = shelf.depth()
    messages = sorted(held.values(), key=lambda one: (one.message.sent_at, one.message_id))
    more = 0 if whole else depth.waiting + depth.delayed
    return Look(tuple(messages), more, max(0, depth.in_flight - len(held)))


@contextmanager
def _in_hand(shelf: MessageShelf, most: int, tell: Tell) -> Iterator[tuple[dict[str, ShelvedMessage], bool]]:
    """Take what lies there, up to about `most`, and tell whether that is all; give back at the end what is still held.

    What cannot be given back comes back by itself, HOLD_SECONDS after it was taken. A hand that holds nothing new ends
    it: what was taken first is to be seen again already.
    """
    held: dict[str, ShelvedMessage] = {}
    hand: list[ShelvedMessage] = []
    try:
        while len(held) < most and (hand := shelf.take(HOLD_SECONDS)):
            before = len(held)
            held |= {one.message_id: one for one in hand}
            if len(held) == before:
                break
            tell(len(held))
        yield held, not hand
    finally:
        with suppress(QueueUnavailable):
            shelf.give_back(held.values())
