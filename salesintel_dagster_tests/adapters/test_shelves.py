from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.event_bus import EventBridgeBus
from salesintel_dagster.adapters.queues import SqsEventQueue, SqsQuarantine
from salesintel_dagster.adapters.shelves import SqsInlet, SqsShelf
from salesintel_dagster.domain.errors import EventBusUnavailable, QueueUnavailable
from salesintel_dagster.domain.event_bus import OutgoingEvent
from salesintel_dagster.domain.event_queue import Quarantined, QueuedMessage
from salesintel_dagster.domain.message_shelf import MessageShelf
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster_tests.fakes.message_shelf import InMemoryShelf
from salesintel_dagster_tests.sales_table import answer

Shelf = tuple[MessageShelf, Callable[[str], object]]
WRONG = Rejection("PRICE_MISSING", "salePrice", "None", "a sale has a price")


@pytest.fixture
def sqs(aws: AwsClients) -> AwsClient:
    return aws.client("sqs")


@pytest.fixture
def name(sqs: AwsClient) -> str:
    name = f"shelf-{secrets.token_hex(4)}"
    sqs.create_queue(QueueName=name)
    return name


class TestAnyShelf:
    """The port's promises, held by the fake and by SQS alike."""

    @pytest.fixture(params=["fake", "sqs"])
    def shelf(self, request: pytest.FixtureRequest) -> Shelf:
        if request.param == "fake":
            fake = InMemoryShelf()
            return fake, fake.put
        client, queue = request.getfixturevalue("sqs"), request.getfixturevalue("name")
        url = client.get_queue_url(QueueName=queue)["QueueUrl"]
        return SqsShelf(client, queue), lambda body: client.send_message(QueueUrl=url, MessageBody=body)

    def test_what_is_in_hand_is_hidden_until_it_is_given_back(self, shelf: Shelf) -> None:
        kept, put = shelf
        for number in range(12):
            put(f"body-{number}")
        first = kept.take(60)
        assert len(first) == 10
        second = kept.take(60)
        assert {one.message.body for one in (*first, *second)} == {f"body-{number}" for number in range(12)}
        assert (kept.depth().waiting, kept.depth().in_flight) == (0, 12)
        kept.give_back(first)
        assert (kept.depth().waiting, kept.depth().in_flight) == (10, 2)

    def test_what_is_deleted_is_gone_and_giving_it_back_is_no_error(self, shelf: Shelf) -> None:
        kept, put = shelf
        put("a")
        hand = kept.take(60)
        assert kept.delete(hand) == ()
        kept.give_back(hand)
        assert kept.depth().total == 0


def test_a_quarantined_message_shows_its_reason(sqs: AwsClient, name: str) -> None:
    message = QueuedMessage("m-1", "body", "", 2, datetime(2026, 11, 3, tzinfo=UTC))
    SqsQuarantine(sqs, name).put([Quarantined(message, WRONG, "acme", "S-1")])
    (found,) = SqsShelf(sqs, name).take(60)
    assert found.code == "PRICE_MISSING"
    told = {"field": "salePrice", "rule": "a sale has a price", "tenantId": "acme", "saleId": "S-1", "messageId": "m-1"}
    assert told.items() <= found.attributes.items()


def test_bodies_arrive_as_they_are_and_what_is_too_large_is_told(sqs: AwsClient, name: str) -> None:
    bodies = [f"{n} ä" + "x" * 90_000 for n in range(12)] + ["ä" * 60_000]
    refused = SqsInlet(sqs, name, 100_000).send(bodies)
    assert [(one.number, one.reason) for one in refused] == [(12, "a message of the queue has at most 100000 bytes")]
    queue = SqsEventQueue(sqs, name, 60)
    assert {one.body for _ in range(2) for one in queue.receive(10, 0)} == set(bodies[:12])


def test_what_sqs_refuses_of_a_batch_is_told(sqs: AwsClient, name: str) -> None:
    failed = {"Successful": [{"Id": "0"}], "Failed": [{"Id": "1", "Code": "Throttled", "SenderFault": False}]}
    sqs.meta.events.register_first("before-call.sqs.SendMessageBatch", lambda **_: answer(failed))
    refused = SqsInlet(sqs, name, 1_000).send(["a", "b"])
    assert [(one.number, one.reason) for one in refused] == [(1, "Throttled")]


def test_a_missing_queue_is_told_with_the_way_out(sqs: AwsClient) -> None:
    with pytest.raises(QueueUnavailable, match=r"queue nobody: .*salesintel deploy --apply"):
        SqsShelf(sqs, "nobody").take(60)


class TestBus:
    def test_only_the_entries_that_failed_are_told(self, aws: AwsClients) -> None:
        client = aws.client("events")
        seen: list[dict[str, Any]] = []
        failed = {
            "FailedEntryCount": 2,
            "Entries": [
                {"EventId": "1"},
                {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow"},
                {"ErrorCode": "MalformedDetail", "ErrorMessage": "no"},
            ],
        }
        client.meta.events.register_first("before-call.events.PutEvents", lambda **_: seen.append({}) or answer(failed))
        found = EventBridgeBus(client).put([OutgoingEvent(n, "{}") for n in range(3)])
        assert [(one.event.place, one.code, one.again) for one in found] == [
            (1, "ThrottlingException", True),
            (2, "MalformedDetail", False),
        ]
        assert len(seen) == 1

    def test_a_bus_that_takes_all_tells_nothing(self, aws: AwsClients) -> None:
        event = OutgoingEvent(1, "{}", datetime(2026, 11, 3, tzinfo=UTC))
        assert EventBridgeBus(aws.client("events")).put([event]) == ()

    def test_a_call_that_fails_is_an_error_without_what_was_sent(self, aws: AwsClients) -> None:
        with pytest.raises(EventBusUnavailable) as raised:
            EventBridgeBus(aws.client("events")).put([OutgoingEvent(n, '"canary"') for n in range(11)])
        assert "canary" not in str(raised.value)
