"""The queue of batches: the same contract on the fake and on SQS (emulated), and SQS's own ways to fail."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.enrichment_queue import SqsBatchQueue
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.enrichment.job import MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES
from salesintel_dagster.domain.enrichment.ports import BatchQueue
from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster_tests.fakes.enrichment import InMemoryQueue


@pytest.fixture
def name() -> str:
    return f"q-{secrets.token_hex(4)}"


@pytest.fixture(params=["memory", "sqs"])
def queue(request: pytest.FixtureRequest, name: str) -> BatchQueue:
    if request.param == "memory":
        return InMemoryQueue(SYSTEM_CLOCK)
    aws = request.getfixturevalue("aws")
    aws.client("sqs").create_queue(QueueName=name, Attributes={"VisibilityTimeout": "300"})
    return SqsBatchQueue(aws.client("sqs"), name, 300)


class TestEveryQueue:
    def test_what_is_sent_is_received_and_gone_when_it_is_deleted(self, queue: BatchQueue):
        assert queue.send([f"body {n}" for n in range(23)]) == ()
        seen: list[str] = []
        while messages := queue.receive(10, 0):
            assert all(message.receive_count == 1 for message in messages)
            seen += [message.body for message in messages]
            assert queue.delete(messages) == ()
            assert queue.delete(messages) == ()
        assert sorted(seen) == sorted(f"body {n}" for n in range(23))
        assert (queue.depth().waiting, queue.depth().in_flight) == (0, 0)

    def test_a_message_that_is_held_is_not_given_to_others_and_comes_again_when_let_go(self, queue: BatchQueue):
        queue.send(["one"])
        [message] = queue.receive(10, 0)
        assert queue.receive(10, 0) == []
        assert queue.depth().in_flight == 1
        queue.extend([message], 300)
        assert queue.receive(10, 0) == []
        queue.extend([message], 0)
        [again] = queue.receive(10, 0)
        assert (again.message_id, again.receive_count) == (message.message_id, 2)

    def test_keeping_or_deleting_what_is_gone_is_no_error(self, queue: BatchQueue):
        queue.send(["one"])
        messages = queue.receive(10, 0)
        queue.delete(messages)
        queue.extend(messages, 60)
        assert queue.delete(messages) == ()

    def test_nothing_is_asked_for_nothing(self, queue: BatchQueue):
        assert queue.send([]) == ()
        queue.extend([], 10)
        assert queue.delete([]) == ()


class TestSqs:
    @pytest.fixture
    def sqs(self, aws: AwsClients, name: str) -> tuple[Any, SqsBatchQueue]:
        aws.client("sqs").create_queue(QueueName=name)
        return aws.client("sqs"), SqsBatchQueue(aws.client("sqs"), name, 300)

    def test_h7_no_request_is_larger_than_sqs_takes(self, sqs: tuple[Any, SqsBatchQueue]):
        client, queue = sqs
        sizes: list[int] = []

        def note(params: dict[str, Any], **_: object) -> None:
            sizes.append(sum(len(entry["MessageBody"]) for entry in params["Entries"]))

        client.meta.events.register("provide-client-params.sqs.SendMessageBatch", note)
        assert queue.send(["x" * MAX_MESSAGE_BYTES] * 9) == ()
        assert len(sizes) == 3
        assert max(sizes) <= MAX_REQUEST_BYTES
        assert queue.depth().waiting == 9

    @pytest.mark.parametrize(
        "operation,call,expected",
        [
            ("SendMessageBatch", lambda queue: queue.send([f"b{n}" for n in range(12)]), (1, 11)),
            ("DeleteMessageBatch", lambda queue: len(queue.delete(queue.receive(10, 0))), 1),
        ],
    )
    def test_h8_f15_what_sqs_says_has_failed_is_told(
        self, sqs: tuple[Any, SqsBatchQueue], operation: str, call: Callable[[SqsBatchQueue], object], expected: object
    ):
        client, queue = sqs
        queue.send([f"a{n}" for n in range(10)])

        def fail_the_second(parsed: dict[str, Any], **_: object) -> None:
            failed = parsed["Successful"].pop(1)
            parsed["Failed"] = [{"Id": failed["Id"], "Code": "InternalError", "SenderFault": False}]

        client.meta.events.register(f"after-call.sqs.{operation}", fail_the_second)
        assert call(queue) == expected

    def test_f19_a_queue_that_is_not_there_is_one_clear_error(self, aws: AwsClients):
        with pytest.raises(QueueUnavailable, match=r"queue nowhere: .*NonExistentQueue"):
            SqsBatchQueue(aws.client("sqs"), "nowhere", 300).depth()
