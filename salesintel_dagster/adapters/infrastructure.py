"""Deploy the one infrastructure template: create or update its stack, wait for it, switch on expiry.

The template is `infrastructure.yaml` beside this package's modules, the same for AWS and for the emulator. Running
it again changes nothing. What goes wrong is told as one sentence that names the resource and AWS's reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from botocore.exceptions import ClientError

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.infrastructure_request import (
    NEVER_CREATED,
    NO_UPDATES,
    TEMPLATE_S_OWN,
    Choices,
    Wait,
    request,
    stack_name,
    translated,
)
from salesintel_dagster.adapters.table_expiry import enable_ttl
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import DeployFailed

DEADLINE_SECONDS = 900.0

EXPIRING_TABLES = ("ExportProgressTable", "SalesIntelligenceTable", "IdempotencyTable", "EnrichmentStatusTable")
"""Outputs of the template that name the tables whose items expire."""

_DONE = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
_CONSEQUENCE = "cancelled"
"""CloudFormation fails every resource still in progress with `Resource creation cancelled`: never the cause."""


class DeployOutcome(StrEnum):
    """What a deploy did."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class DeployReport:
    """What a deploy did: `resources` are the physical names by logical id, `ttl_enabled` the tables it changed."""

    stack: str
    outcome: DeployOutcome
    seconds: float
    resources: Mapping[str, str]
    ttl_enabled: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in lines for a person."""
        lines = [f"stack {self.stack} {self.outcome} in {self.seconds:.1f} s"]
        lines += [f"  {logical}: {physical}" for logical, physical in sorted(self.resources.items())]
        lines += [f"  expiry switched on: {table}" for table in self.ttl_enabled]
        return "\n".join(lines)


def deploy(  # noqa: PLR0913 - what a caller may choose, by keyword
    clients: AwsClients,
    stage: str,
    on_event: Callable[[str], object],
    *,
    choices: Choices = TEMPLATE_S_OWN,
    clock: Clock = SYSTEM_CLOCK,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> DeployReport:
    """Create or update the stack `salesintel-{stage}`; `on_event` gets a line per finished resource.

    `choices` are the template's own where none are given. Raises DeployFailed, naming the resource and the reason, also
    when the deadline has passed.
    """
    started = clock.monotonic()
    wait = Wait(clock, started + deadline_seconds)
    stack = _Stack(clients.client("cloudformation"), stack_name(stage), on_event, wait)
    with translated(f"stack {stack.name}"):
        outcome = stack.converge(
            request(stack.name, stage, clients.target.bedrock_region, choices),
            f"salesintel-{clock.now().timestamp() * 1e6:.0f}",
        )
        outputs = stack.outputs()
    tables = [outputs[output] for output in EXPIRING_TABLES]
    enabled = tuple(table for table in tables if enable_ttl(clients.client("dynamodb"), table))
    return DeployReport(stack.name, outcome, clock.monotonic() - started, outputs, enabled)


@dataclass(slots=True)
class _Stack:
    client: AwsClient
    name: str
    on_event: Callable[[str], object]
    wait: Wait
    _token: str = ""
    _told: set[str] = field(default_factory=set)

    def converge(self, asked: Mapping[str, Any], token: str) -> DeployOutcome:
        """Bring the stack to what is asked. The token makes a retried request the same request."""
        status = self._settled()
        if status == NEVER_CREATED:
            self.on_event(f"stack {self.name}: its first creation was rolled back; deleting what is left of it")
            self._token = f"{token}-delete"
            self.client.delete_stack(StackName=self.name, ClientRequestToken=self._token)
            status = self._settled()
        self._token = token
        wanted = {**asked, "ClientRequestToken": token, "RetainExceptOnCreate": True}
        if status is None:
            self.client.create_stack(**wanted)
            outcome = DeployOutcome.CREATED
        elif self._update(wanted):
            outcome = DeployOutcome.UPDATED
        else:
            return DeployOutcome.UNCHANGED
        status = self._settled()
        if status not in _DONE:
            raise DeployFailed(f"stack {self.name} ended as {status}: {self._cause()}")
        return outcome

    def outputs(self) -> dict[str, str]:
        return {output["OutputKey"]: output["OutputValue"] for output in self._described()["Outputs"]}

    def _update(self, wanted: Mapping[str, Any]) -> bool:
        try:
            self.client.update_stack(**wanted)
        except ClientError as error:
            if NO_UPDATES in str(error):
                return False
            raise
        return True

    def _settled(self) -> str | None:
        """Wait while an operation runs, ours or another's; return the status, None where there is no stack."""
        while True:
            status = self._status()
            self._tell_events()
            if status is None or not status.endswith("_IN_PROGRESS"):
                return status
            if not self.wait.once_more():
                raise DeployFailed(f"stack {self.name} is still {status} at the deadline: {self._cause()}")

    def _status(self) -> str | None:
        try:
            status = str(self._described()["StackStatus"])
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if status == "DELETE_COMPLETE" else status

    def _described(self) -> dict[str, Any]:
        described: dict[str, Any] = self.client.describe_stacks(StackName=self.name)["Stacks"][0]
        return described

    def _events(self) -> list[dict[str, Any]]:
        """Return the running operation's events of resources, oldest first."""
        if not self._token:
            return []
        try:
            found = self.client.describe_stack_events(StackName=self.name)["StackEvents"]
        except ClientError:
            return []
        ours = [event for event in found if event.get("ClientRequestToken") == self._token]
        return [event for event in reversed(ours) if event["LogicalResourceId"] != self.name]

    def _tell_events(self) -> None:
        for event in self._events():
            if event["EventId"] not in self._told and not event["ResourceStatus"].endswith("_IN_PROGRESS"):
                self._told.add(event["EventId"])
                self.on_event(f"{event['LogicalResourceId']}: {event['ResourceStatus']}")

    def _cause(self) -> str:
        for event in self._events():
            reason = event.get("ResourceStatusReason", "no reason given")
            if event["ResourceStatus"].endswith("_FAILED") and _CONSEQUENCE not in reason.lower():
                return f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}"
        return "; ".join(self._refusals()) or "no resource has failed"

    def _refusals(self) -> list[str]:
        """Return what CloudFormation found wrong before it touched anything, e.g. a name that is taken."""
        found = self.client.describe_events(StackName=self.name, Filters={"FailedEvents": True})
        failed: list[dict[str, Any]] = found["OperationEvents"]
        newest = max(failed, key=lambda event: event["Timestamp"])["OperationId"] if failed else None
        return [
            f"{event['LogicalResourceId']} ({event['ResourceType']}): {event['ValidationStatusReason']}"
            for event in failed
            if event["OperationId"] == newest and event.get("ValidationFailureMode") == "FAIL"
        ]
