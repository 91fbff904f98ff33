"""What a deploy would change, by CloudFormation's own word: a change set that is made, read and deleted again.

A stack that is not there yet has no change set here: making one would leave an empty stack behind if we died. Its
resources are read from the template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.infrastructure import EXPIRING_TABLES
from salesintel_dagster.adapters.infrastructure_request import (
    NEVER_CREATED,
    NO_UPDATES,
    TEMPLATE_S_OWN,
    Choices,
    Wait,
    request,
    stack_name,
    template,
    translated,
)
from salesintel_dagster.adapters.table_expiry import is_expiring
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import DeployFailed

DEADLINE_SECONDS = 120.0
NO_CHANGES = "didn't contain changes"
_RESOURCE = re.compile(r"^  (\w+):(?:\s*#.*)?\n    Type: (AWS::[\w:]+)\n(    Condition: HasObjectKey\n)?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Change:
    """One resource: `add`, `modify` or `remove`; `replaced`: made anew under another name, the old one given up."""

    action: str
    resource: str
    kind: str
    properties: tuple[str, ...] = ()
    replaced: bool = False

    def __str__(self) -> str:
        """Say it in a line for a person."""
        what = f" ({', '.join(self.properties)})" if self.properties else ""
        return f"{self.action} {self.resource}, {self.kind}{what}{', REPLACED' if self.replaced else ''}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deploy would do: to the stack, and after it to the tables whose items do not expire yet."""

    stack: str
    status: str | None
    changes: tuple[Change, ...]
    expiry: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in lines for a person."""
        state = "does not exist yet" if self.status is None else f"is {self.status}"
        lines = [f"stack {self.stack} {state}; {len(self.changes) or 'no'} resources would change"]
        lines += [f"  {change}" for change in self.changes]
        lines += [f"  switch on expiry of items, by a call of its own: {table}" for table in self.expiry]
        return "\n".join(lines)


def plan(clients: AwsClients, stage: str, choices: Choices = TEMPLATE_S_OWN, *, clock: Clock = SYSTEM_CLOCK) -> Plan:
    """Find out what `deploy` would do now, and change nothing. Raises DeployFailed."""
    name, cloudformation = stack_name(stage), clients.client("cloudformation")
    with translated(f"stack {name}"):
        described = _described(cloudformation, name)
        if described is None or described["StackStatus"] == NEVER_CREATED:
            status = None if described is None else f"{NEVER_CREATED}, and would be deleted and made again"
            return Plan(name, status, tuple(_every_resource(choices)), EXPIRING_TABLES)
        status = str(described["StackStatus"])
        if status.endswith("_IN_PROGRESS"):
            raise DeployFailed(f"stack {name} is {status}: somebody is deploying; ask again when that has ended")
        wanted = request(name, stage, clients.target.bedrock_region, choices)
        changes = _change_set(cloudformation, wanted, Wait(clock, clock.monotonic() + DEADLINE_SECONDS), clock)
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())}
    tables = [outputs.get(output, output) for output in EXPIRING_TABLES]
    dynamodb = clients.client("dynamodb")
    expiry = [table for table in tables if table not in outputs.values() or not is_expiring(dynamodb, table)]
    return Plan(name, status, changes, tuple(expiry))


def _described(cloudformation: AwsClient, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return found


def _every_resource(choices: Choices) -> Iterator[Change]:
    for resource, kind, of_the_key in _RESOURCE.findall(template()):
        if not of_the_key or choices.object_key_arn:
            yield Change("add", resource, kind)


def _change_set(cloudformation: AwsClient, wanted: Mapping[str, Any], wait: Wait, clock: Clock) -> tuple[Change, ...]:
    name = {"StackName": wanted["StackName"], "ChangeSetName": f"salesintel-plan-{clock.now().timestamp() * 1e6:.0f}"}
    cloudformation.create_change_set(
        **{**wanted, **name}, ChangeSetType="UPDATE", Description="salesintel deploy, dry run"
    )
    try:
        while (found := cloudformation.describe_change_set(**name))["Status"] in {
            "CREATE_PENDING",
            "CREATE_IN_PROGRESS",
        }:
            if not wait.once_more():
                raise DeployFailed(f"stack {wanted['StackName']}: its change set is still {found['Status']}")
        if found["Status"] != "CREATE_COMPLETE":
            reason = str(found.get("StatusReason", "no reason given"))
            if NO_CHANGES in reason or NO_UPDATES in reason:
                return ()
            raise DeployFailed(f"stack {wanted['StackName']}: its change set is {found['Status']}: {reason}")
        changes = list(found["Changes"])
        while "NextToken" in found:
            found = cloudformation.describe_change_set(**name, NextToken=found["NextToken"])
            changes += found["Changes"]
    finally:
        cloudformation.delete_change_set(**name)
    return tuple(_change(change["ResourceChange"]) for change in changes)


def _change(found: Mapping[str, Any]) -> Change:
    touched = [detail.get("Target", {}).get("Name") for detail in found.get("Details", ())]
    return Change(
        found["Action"].lower(),
        found["LogicalResourceId"],
        found["ResourceType"],
        tuple(dict.fromkeys(name for name in touched if name)),
        found.get("Replacement") in {"True", "Conditional"},
    )
