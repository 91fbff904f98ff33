"""The queue of batches in SQS, or its dead letters: the event queue's adapter with a way to send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from salesintel_dagster.adapters.aws import AwsClient
from salesintel_dagster.adapters.queues import BATCH_ENTRIES, SqsEventQueue
from salesintel_dagster.domain.enrichment.job import MAX_REQUEST_BYTES
from salesintel_dagster.domain.enrichment.ports import BatchQueue


class SqsBatchQueue(SqsEventQueue, BatchQueue):
    """The queue `name`; a message stays with its receiver for `visibility_seconds` at first."""

    def __init__(self, client: AwsClient, name: str, visibility_seconds: int) -> None:
        super().__init__(client, name, visibility_seconds)

    def send(self, bodies: Sequence[str]) -> tuple[int, ...]:
        """Hand messages over; return the positions of those that SQS did not take. Raises QueueUnavailable."""
        failed: list[int] = []
        for group in _requests(bodies):
            entries = [{"Id": str(position), "MessageBody": bodies[position]} for position in group]
            with self._queue.translated("send"):
                answer = self._client.send_message_batch(QueueUrl=self._queue.url, Entries=entries)
            failed += [int(entry["Id"]) for entry in answer.get("Failed", ())]
        return tuple(failed)


def _requests(bodies: Sequence[str]) -> Iterator[list[int]]:
    """Yield positions, as many as one request takes: ten messages and 1 MiB together."""
    held: list[int] = []
    size = 0
    for position, body in enumerate(bodies):
        length = len(body.encode())
        if held and (len(held) == BATCH_ENTRIES or size + length > MAX_REQUEST_BYTES):
            yield held
            held, size = [], 0
        held.append(position)
        size += length
    if held:
        yield held
