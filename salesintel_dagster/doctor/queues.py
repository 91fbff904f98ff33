"""How a queue is looked at: a role that has no business with it is told so and is not ill."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import ClientError

from salesintel_dagster.adapters.aws import DENIED, code_of
from salesintel_dagster.domain.diagnosis import Finding, warn
from salesintel_dagster.domain.errors import QueueUnavailable

Seen = TypeVar("Seen")


def looked_at(look: Callable[[], Seen], user: str, judge: Callable[[Seen], Finding]) -> Finding:
    """Judge what is seen of a queue; where this role may not ask, say which role needs it. Raises QueueUnavailable."""
    try:
        found = look()
    except QueueUnavailable as error:
        if isinstance(error.__cause__, ClientError) and code_of(error.__cause__) in DENIED:
            return warn(str(error), f"let the role of {user} do sqs:GetQueueUrl and sqs:GetQueueAttributes")
        raise
    return judge(found)
