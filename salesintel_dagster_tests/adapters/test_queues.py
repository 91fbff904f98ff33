from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.queues import SqsEventQueue, SqsQuarantine
from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.domain.event_queue import EventQueue, Quarantined, QueuedMessage
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster_tests.fakes.event_queue import InMemoryEventQueue

WRONG = Rejection("PRICE_MISSING", "salePrice", "None", "a sale has a price")


class Line:
    """A queue under test: how to send to it, and how to end its messages' visibility."""

    def __init__(self, queue: EventQueue, send: Callable[[str], object], show_again: Callable[[], object]) -> None:
        self.queue, self.send, self.show_again = queue, send, show_again

    def received(self, most: int = 10) -> list[Any]:
        return self.queue.receive(most, 0)


def sqs_line(client: AwsClient) -> Line:
    name = f"events-{secrets.token_hex(4)}"
    url = client.create_queue(QueueName=name)["QueueUrl"]
    seen: list[str] = []
    client.meta.events.register(
        "after-call.sqs.ReceiveMessage",
        lambda parsed, **_: seen.extend(one["ReceiptHandle"] for one in parsed.get("Messages", ())),
    )

    def show_again() -> None:
        for handle in seen:
            entry = {"Id": "1", "ReceiptHandle": handle, "VisibilityTimeout": 0}
            client.change_message_visibility_batch(QueueUrl=url, Entries=[entry])

    return Line(
        SqsEventQueue(client, name, 30), lambda body: client.send_message(QueueUrl=url, MessageBody=body), show_again
    )


@pytest.fixture
def sqs(aws: AwsClients) -> AwsClient:
    return aws.client("sqs")


class TestAnyEventQueue:
    """The port's promises, held by the fake and by SQS alike."""

    @pytest.fixture(params=["fake", "sqs"])
    def line(self, request: pytest.FixtureRequest) -> Line:
        if request.param == "sqs":
            return sqs_line(request.getfixturevalue("sqs"))
        queue = InMemoryEventQueue()
        return Line(queue, queue.send, queue.show_again)

    def test_a_message_stays_with_its_receiver_until_it_is_deleted(self, line: Line) -> None:
        line.send("one")
        (message,) = line.received()
        assert (message.body, message.receive_count) == ("one", 1)
        assert line.received() == []
        assert line.queue.depth().in_flight == 1
        assert line.queue.delete([message]) == ()
        line.show_again()
        assert line.received() == []
        assert line.queue.depth().total == 0

    def test_a_message_that_is_not_deleted_comes_again_and_is_counted(self, line: Line) -> None:
        line.send("one")
        line.received()
        line.show_again()
        (again,) = line.received()
        assert again.receive_count == 2

    def test_no_more_come_than_were_asked_for_and_ten_at_most(self, line: Line) -> None:
        for number in range(12):
            line.send(str(number))
        assert len(line.received(3)) == 3
        assert 1 <= len(line.received(100)) <= 10
        assert line.queue.depth().total == 12

    def test_more_than_ten_are_deleted_and_extended_at_once(self, line: Line) -> None:
        for number in range(23):
            line.send(str(number))
        messages = [message for _ in range(3) for message in line.received()]
        assert len(messages) == 23
        assert line.queue.extend(messages, 60) == ()
        assert line.queue.delete(messages) == ()
        assert line.queue.depth().total == 0

    def test_one_that_was_received_again_by_another_counts_as_gone(self, line: Line) -> None:
        line.send("one")
        (first,) = line.received()
        line.show_again()
        (second,) = line.received()
        assert line.queue.extend([first, second], 60) == (first,)
        assert line.queue.delete([first]) == ()
        assert line.queue.delete([second]) == ()
        assert line.queue.extend([second], 60) == (second,)
        assert line.queue.depth().total == 0


def two_of_which_sqs_refuses(sqs: AwsClient, operation: str, entry: str) -> tuple[Line, list[QueuedMessage]]:
    """Return a queue and two messages taken from it; the operation's answer names one of them as refused."""
    line = sqs_line(sqs)
    line.send("one")
    line.send("two")

    def refuse(parsed: dict[str, Any], **_: object) -> None:
        parsed["Failed"] = [{"Id": entry, "Code": "InternalError", "SenderFault": False}]

    sqs.meta.events.register(f"after-call.sqs.{operation}", refuse)
    return line, line.received()


def test_entries_that_sqs_refuses_to_delete_are_told(sqs: AwsClient) -> None:
    """F15"""
    line, messages = two_of_which_sqs_refuses(sqs, "DeleteMessageBatch", "1")
    assert line.queue.delete(messages) == (messages[1],)


def test_entries_that_sqs_refuses_to_extend_are_told(sqs: AwsClient) -> None:
    """F14"""
    line, messages = two_of_which_sqs_refuses(sqs, "ChangeMessageVisibilityBatch", "0")
    assert line.queue.extend(messages, 60) == (messages[0],)


def test_a_queue_that_is_not_there_is_named(sqs: AwsClient) -> None:
    with pytest.raises(QueueUnavailable, match=r"receive of queue nowhere: .*NonExistentQueue"):
        SqsEventQueue(sqs, "nowhere", 30).receive(10, 0)


class TestTheQuarantine:
    def kept(self, sqs: AwsClient, *bodies: str, **texts: str) -> list[dict[str, Any]]:
        line, name = sqs_line(sqs), f"quarantine-{secrets.token_hex(4)}"
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        for body in bodies:
            line.send(body)
        messages = [message for _ in range(3) for message in line.received()]
        SqsQuarantine(sqs, name).put([Quarantined(message, WRONG, **texts) for message in messages])
        found: list[dict[str, Any]] = []
        while len(found) < len(bodies):
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
            found += answer["Messages"]
        return found

    def test_a_message_is_kept_as_it_came_with_its_reason(self, sqs: AwsClient) -> None:
        (kept,) = self.kept(sqs, '{"a": 1}', tenant_id="t", sale_id="S\x01", payload_hash="ab", held_hash="cd")
        assert kept["Body"] == '{"a": 1}'
        attributes = {name: value["StringValue"] for name, value in kept["MessageAttributes"].items()}
        assert attributes.pop("messageId")
        assert attributes.pop("sentAt").endswith("+00:00")
        assert attributes == {
            "code": "PRICE_MISSING",
            "field": "salePrice",
            "value": "None",
            "rule": "a sale has a price",
            "tenantId": "t",
            "saleId": repr("S\x01"),
            "payloadHash": "ab",
            "heldHash": "cd",
        }

    def test_many_and_large_messages_go_in_as_many_calls_as_they_need(self, sqs: AwsClient) -> None:
        """F11: 1 MB of text"""
        large = json.dumps("x" * 700_000)
        assert len(self.kept(sqs, large, large, *("small" for _ in range(20)))) == 22

    def test_one_that_is_not_kept_is_an_error(self, sqs: AwsClient) -> None:
        """F16"""

        def refuse(parsed: dict[str, Any], **_: object) -> None:
            parsed["Failed"] = [{"Id": "0", "Code": "InternalError", "SenderFault": False}]

        sqs.meta.events.register("after-call.sqs.SendMessageBatch", refuse)
        with pytest.raises(QueueUnavailable, match="1 messages refused"):
            self.kept(sqs, "one")
