"""CloudFormation as a script, for what the emulator does not do by itself: failures, rollbacks, other people."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from salesintel_dagster.adapters.aws import AwsTarget
from salesintel_dagster.adapters.infrastructure import EXPIRING_TABLES


@dataclass
class ScriptedAws:
    """CloudFormation as a script: each look at the stack takes the next status; the last one stays."""

    statuses: deque[str | None]
    reasons: list[tuple[str, str, str]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    target: AwsTarget = field(default_factory=lambda: AwsTarget("eu-west-1", "us-east-1"))
    token: str = ""

    def client(self, service: str) -> ScriptedAws:
        self.service = service
        return self

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
        status = self.statuses.popleft() if len(self.statuses) > 1 else self.statuses[0]
        if status is None:
            raise _refusal("DescribeStacks", f"Stack with id {StackName} does not exist")
        outputs = [{"OutputKey": name, "OutputValue": name} for name in EXPIRING_TABLES]
        return {"Stacks": [{"StackStatus": status, "Outputs": outputs}]}

    def describe_stack_events(self, **_: object) -> dict[str, Any]:
        events = [
            {
                "EventId": str(number),
                "LogicalResourceId": logical,
                "ResourceType": "AWS::Some::Thing",
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
                "ClientRequestToken": self.token,
            }
            for number, (logical, status, reason) in enumerate(self.reasons)
        ]
        return {"StackEvents": events[::-1]}

    def describe_events(self, **_: object) -> dict[str, Any]:
        return {"OperationEvents": []}

    def create_stack(self, **wanted: Any) -> None:  # noqa: ANN401 - as botocore
        self.calls.append("create")
        self.token = wanted["ClientRequestToken"]

    def update_stack(self, **wanted: Any) -> None:  # noqa: ANN401 - as botocore
        self.calls.append("update")
        self.token = wanted["ClientRequestToken"]

    def delete_stack(self, **_: object) -> None:
        self.calls.append("delete")

    def describe_time_to_live(self, **_: object) -> dict[str, Any]:
        return {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}}


def _refusal(operation: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": "ValidationError", "Message": message}}, operation)
