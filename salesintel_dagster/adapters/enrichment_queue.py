"""The queue of batches in SQS, or its dead letters: long polling, requests of ten, partial failures told.

A receipt handle that has died, or a message that is gone, counts as done: SQS gives the message again or has no more
of it, and both are harmless to a worker who asks the ledger first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import AwsClient, code_of, told
from salesintel_dagster.domain.enrichment.job import MAX_REQUEST_BYTES
from salesintel_dagster.domain.enrichment.ports import BatchQueue, QueueDepth, QueuedMessage
from salesintel_dagster.domain.errors import QueueUnavailable

MOST_A_REQUEST = 10
LONGEST_POLL_SECONDS = 20
LONGEST_INVISIBLE_SECONDS = 12 * 3600
_GONE = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"})
_COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")

Entry = TypeVar("Entry")


class SqsBatchQueue(BatchQueue):
    """One queue by its name; its URL is asked for on first use. Give it a client whose reads outlast a long poll."""

    def __init__(self, client: AwsClient, name: str) -> None:
        self._client = client
        self._name = name
        self._url: str | None = None

    def send(self, bodies: Sequence[str]) -> tuple[int, ...]:
        """Hand messages over; return the positions of those that SQS did not take. Raises QueueUnavailable."""
        failed: list[int] = []
        for group in _requests(bodies):
            entries = [{"Id": str(position), "MessageBody": bodies[position]} for position in group]
            with self._translated("send to"):
                answer = self._client.send_message_batch(QueueUrl=self._queue_url(), Entries=entries)
            failed += [int(entry["Id"]) for entry in answer.get("Failed", [])]
        return tuple(failed)

    def receive(self, most: int, wait_seconds: float) -> list[QueuedMessage]:
        """Return up to `most` (at most ten) messages. Raises QueueUnavailable."""
        with self._translated("receive from"):
            answer = self._client.receive_message(
                QueueUrl=self._queue_url(),
                MaxNumberOfMessages=min(most, MOST_A_REQUEST),
                WaitTimeSeconds=min(int(wait_seconds), LONGEST_POLL_SECONDS),
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        return [_message(given) for given in answer.get("Messages", [])]

    def extend(self, messages: Collection[QueuedMessage], seconds: int) -> None:
        """Keep messages invisible for `seconds` from now. Raises QueueUnavailable."""
        timeout = max(0, min(seconds, LONGEST_INVISIBLE_SECONDS))
        for group in _tens(list(messages)):
            entries = [
                {"Id": str(number), "ReceiptHandle": message.handle, "VisibilityTimeout": timeout}
                for number, message in enumerate(group)
            ]
            with self._translated("keep messages of"):
                answer = self._client.change_message_visibility_batch(QueueUrl=self._queue_url(), Entries=entries)
            self._refuse_what_is_not_gone(answer)

    def delete(self, messages: Collection[QueuedMessage]) -> tuple[QueuedMessage, ...]:
        """Delete messages; return those that SQS refused to delete. Raises QueueUnavailable."""
        refused: list[QueuedMessage] = []
        for group in _tens(list(messages)):
            entries = [{"Id": str(number), "ReceiptHandle": message.handle} for number, message in enumerate(group)]
            with self._translated("delete from"):
                answer = self._client.delete_message_batch(QueueUrl=self._queue_url(), Entries=entries)
            refused += [group[int(entry["Id"])] for entry in answer.get("Failed", []) if entry["Code"] not in _GONE]
        return tuple(refused)

    def depth(self) -> QueueDepth:
        """Return how much the queue holds. Raises QueueUnavailable."""
        with self._translated("ask"):
            answer = self._client.get_queue_attributes(QueueUrl=self._queue_url(), AttributeNames=list(_COUNTS))
            waiting, in_flight, delayed = (int(answer["Attributes"].get(name, 0)) for name in _COUNTS)
        return QueueDepth(waiting, in_flight, delayed)

    def _queue_url(self) -> str:
        if self._url is None:
            self._url = str(self._client.get_queue_url(QueueName=self._name)["QueueUrl"])
        return self._url

    def _refuse_what_is_not_gone(self, answer: dict[str, Any]) -> None:
        codes = {entry["Code"] for entry in answer.get("Failed", [])} - _GONE
        if codes:
            raise QueueUnavailable(f"keep messages of queue {self._name}: {', '.join(sorted(codes))}")

    @contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if code_of(error).endswith("NonExistentQueue"):
                self._url = None
            raise QueueUnavailable(f"{operation} queue {self._name}: {told(error)}") from None
        except BotoCoreError as error:
            raise QueueUnavailable(f"{operation} queue {self._name}: {told(error)}") from None


def _message(given: dict[str, Any]) -> QueuedMessage:
    attributes = given["Attributes"]
    return QueuedMessage(
        given["MessageId"],
        given["Body"],
        given["ReceiptHandle"],
        int(attributes["ApproximateReceiveCount"]),
        datetime.fromtimestamp(int(attributes["SentTimestamp"]) / 1000, UTC),
    )


def _requests(bodies: Sequence[str]) -> Iterator[list[int]]:
    """Yield positions, as many as one request takes: ten messages and 1 MiB together."""
    held: list[int] = []
    size = 0
    for position, body in enumerate(bodies):
        length = len(body.encode())
        if held and (len(held) == MOST_A_REQUEST or size + length > MAX_REQUEST_BYTES):
            yield held
            held, size = [], 0
        held.append(position)
        size += length
    if held:
        yield held


def _tens(entries: list[Entry]) -> Iterator[list[Entry]]:
    for start in range(0, len(entries), MOST_A_REQUEST):
        yield entries[start : start + MOST_A_REQUEST]
