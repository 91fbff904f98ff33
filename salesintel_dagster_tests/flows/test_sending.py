from __future__ import annotations

import io
import json
from datetime import date

from salesintel_dagster.domain.event_bus import BATCH_BYTES, OutgoingEvent, batches
from salesintel_dagster.domain.event_lines import lines_of, read_event_line
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.domain.sale_event import SaleEvent, parse_event
from salesintel_dagster.flows.sync.samples import sample_events
from salesintel_dagster.flows.sync.sending import send
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.events import RULES, TENANT, envelope, hostile_bodies, sold
from salesintel_dagster_tests.fakes.message_shelf import InMemoryBus

DAY = date(2026, 11, 20)


def events(number: int) -> list[OutgoingEvent]:
    return [OutgoingEvent(n, f'{{"n": {n}}}') for n in range(1, number + 1)]


def test_events_go_in_tens_and_within_the_bytes_of_a_request() -> None:
    assert [len(batch) for batch in batches(events(23))] == [10, 10, 3]
    large = [OutgoingEvent(n, "x" * 100_000) for n in range(5)]
    found = list(batches(large))
    assert [len(batch) for batch in found] == [2, 2, 1]
    assert all(sum(event.size for event in batch) <= BATCH_BYTES for batch in found)


def test_what_was_throttled_is_sent_again_and_nothing_else_is() -> None:
    bus = InMemoryBus(answers={'{"n": 2}': ["ThrottlingException", "ThrottlingException"]})
    told: list[int] = []
    sent = send(bus, events(12), held_clock(), told.append)
    assert (sent.taken, sent.refused, bus.calls, told) == (12, (), 4, [10, 12])
    assert sorted(bus.taken) == sorted(event.detail for event in events(12))


def test_what_is_never_taken_is_told_and_stops_no_other() -> None:
    bus = InMemoryBus(
        answers={'{"n": 2}': ["NotAuthorizedForSourceException"], '{"n": 3}': ["ThrottlingException"] * 99}
    )
    sent = send(bus, events(11), held_clock())
    assert sent.taken == 9
    assert [(one.event.place, one.code) for one in sent.refused] == [
        (2, "NotAuthorizedForSourceException"),
        (3, "ThrottlingException"),
    ]


def test_a_bus_that_goes_away_leaves_what_was_done_and_what_nobody_knows_told() -> None:
    bus = InMemoryBus(answers={'{"n": 2}': ["MalformedDetail"]}, fails_after=2)
    sent = send(bus, events(25), held_clock())
    assert (sent.taken, [one.event.place for one in sent.refused]) == (19, [2])
    assert sent.uncertain == (21, 22, 23, 24, 25)
    assert str(sent.error) == "the bus is down"


def test_a_line_is_a_detail_as_it_is_written_or_an_envelopes() -> None:
    text = '{"saleId": "S-1", ' + json.dumps(sold(None))[1:].replace("19.9", "19.90")
    bare = read_event_line(text, 1, RULES)
    assert isinstance(bare, OutgoingEvent)
    assert bare.detail == text
    found = read_event_line(f'{{"time": "2026-11-03T12:00:05Z", "detail": {text}}}', 2, RULES)
    assert isinstance(found, OutgoingEvent)
    assert '"salePrice":19.90' in found.detail
    assert found.time is not None
    first, second = (parse_event(one.detail, RULES) for one in (bare, found))
    assert isinstance(first, SaleEvent)
    assert isinstance(second, SaleEvent)
    assert first.record.payload_hash == second.record.payload_hash


def test_no_hostile_line_is_sent_or_stops_the_reading() -> None:
    """F11"""
    for name, (body, _) in hostile_bodies().items():
        found = read_event_line(body, 1, RULES)
        assert isinstance(found, Rejection) == (name != "no id"), name  # the bus gives one
        read_event_line(body, 1, RULES, check=False)


def test_an_unchecked_envelope_that_is_too_deep_to_be_written_again_is_told() -> None:
    found = read_event_line('{"detail": {"z": ' + "[" * 900 + "]" * 900 + "}}", 1, RULES, check=False)
    assert isinstance(found, Rejection)
    assert found.code in ("TOO_DEEP", "NOT_JSON")


def test_a_line_that_is_no_utf8_or_too_long_is_told_whole_and_stops_no_other() -> None:
    long, good = b'"' + b"x" * 98 + b'"', b"{}"
    assert len(long) == 100
    file = io.BytesIO(b"\n".join([good, b'{"brand": "K\xe9"}', long + b"y", b"", long + b"\r", b"z" * 1_000, good]))
    found = dict(lines_of(file, 100))
    assert [number for number, line in found.items() if isinstance(line, str)] == [1, 5, 7]
    assert found[5] == long.decode()
    assert found[2] == Rejection("NOT_UNICODE", "line", "byte 13: invalid continuation byte", "a line is UTF-8")
    assert found[3] == Rejection("TOO_LARGE", "line", "102 bytes", "a line has at most 100 bytes")
    assert found[6] == Rejection("TOO_LARGE", "line", "1001 bytes", "a line has at most 100 bytes")


def test_an_envelope_of_another_event_is_refused() -> None:
    found = read_event_line(envelope(sold(), source="someone.else"), 1, RULES, check=False)
    assert isinstance(found, Rejection)
    assert found.code == "WRONG_EVENT"


def test_samples_are_good_sales_the_same_by_seed_and_of_the_size_told() -> None:
    first, again, other = (list(sample_events(20, seed, TENANT, DAY, vectors=True)) for seed in (1, 1, 2))
    assert first == again
    assert not {one.detail for one in first} & {one.detail for one in other}
    assert all(18_000 < len(one.detail) < 26_000 for one in first)
    found = [parse_event(one.detail, RULES) for one in first]
    assert all(isinstance(one, SaleEvent) for one in found)
    assert len({one.sale.sale_id for one in found if isinstance(one, SaleEvent)}) == 20
