"""How the sync's queues stand, from SQS's attributes and CloudWatch's metric of the oldest message's age.

SQS tells no age among its attributes. CloudWatch knows it, a minute or two late, on AWS only, and leaves out messages
received three times or more; where it does not answer, the age is unknown and the reason is told.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import AwsClient, told
from salesintel_dagster.adapters.queues import QueueAddress
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.event_queue import QueueDepth
from salesintel_dagster.domain.event_queues import EventQueueStates, EventQueueWatch, OldestAge, QueueState

AGE_METRIC = "ApproximateAgeOfOldestMessage"
AGE_LOOKED_BACK = timedelta(minutes=15)
ATTRIBUTES = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "MessageRetentionPeriod",
    "VisibilityTimeout",
    "RedrivePolicy",
)


class SqsEventQueueWatch(EventQueueWatch):
    """The queues by name: that of the events, its dead letters, its quarantine. Give it brief clients."""

    def __init__(self, sqs: AwsClient, cloudwatch: AwsClient, names: tuple[str, str, str], clock: Clock) -> None:
        self._sqs = sqs
        self._cloudwatch = cloudwatch
        self._queues = tuple(QueueAddress(sqs, name) for name in names)
        self._clock = clock

    def look(self) -> EventQueueStates:
        """Ask for the attributes of each queue, then for the age. Raises QueueUnavailable."""
        queue, dead_letters, quarantine = (self._state(address) for address in self._queues)
        return EventQueueStates(queue, dead_letters, quarantine, self._oldest(queue))

    def _state(self, queue: QueueAddress) -> QueueState:
        with queue.translated("look at the attributes"):
            answer = self._sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=list(ATTRIBUTES))
        found = answer["Attributes"]
        redrive = json.loads(found.get("RedrivePolicy") or "{}")
        arn = redrive.get("deadLetterTargetArn")
        receives = redrive.get("maxReceiveCount")
        return QueueState(
            queue.name,
            QueueDepth(*(int(found.get(name, 0)) for name in ATTRIBUTES[:3])),
            timedelta(seconds=int(found["MessageRetentionPeriod"])),
            timedelta(seconds=int(found["VisibilityTimeout"])),
            str(arn).rpartition(":")[2] if arn else None,
            int(receives) if receives is not None else None,
        )

    def _oldest(self, queue: QueueState) -> OldestAge:
        if not queue.depth.total:
            return OldestAge(0.0, "the queue is empty")
        now = self._clock.now()
        try:
            answer = self._cloudwatch.get_metric_statistics(
                Namespace="AWS/SQS",
                MetricName=AGE_METRIC,
                Dimensions=[{"Name": "QueueName", "Value": queue.name}],
                StartTime=now - AGE_LOOKED_BACK,
                EndTime=now,
                Period=60,
                Statistics=["Maximum"],
            )
        except (ClientError, BotoCoreError) as error:
            return OldestAge(None, f"age unknown: {AGE_METRIC} of CloudWatch: {told(error)}")
        points: list[dict[str, Any]] = answer["Datapoints"]
        if not points:
            return OldestAge(None, f"age unknown: CloudWatch has no {AGE_METRIC} of the last 15 minutes")
        newest = max(points, key=lambda point: point["Timestamp"])
        return OldestAge(float(newest["Maximum"]), "as CloudWatch tells")
