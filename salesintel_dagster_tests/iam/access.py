"""What the components of the template may do, and what they did: pairs of an action and a resource."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salesintel_dagster.adapters.aws import AwsClient


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """One action on one resource, as a policy has it: `resource` may end in `*`."""

    action: str
    resource: str

    def allows(self, call: Call) -> bool:
        pattern = ".*".join(re.escape(part) for part in self.resource.split("*"))
        return call.action == self.action and re.fullmatch(pattern, call.resource) is not None


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """One question that AWS asked before it did what a component wanted."""

    action: str
    resource: str


def permissions(document: dict[str, Any]) -> Iterator[Permission]:
    """Yield each pair that the policy's statements allow."""
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow", statement["Sid"]
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                yield Permission(action, resource)


def deployed(iam: AwsClient, arn: str) -> dict[str, Any]:
    """Return a managed policy as it was deployed, every name in it resolved."""
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    found = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    document: dict[str, Any] = json.loads(found) if isinstance(found, str) else found
    return document


def calls(record: Path, key: str) -> tuple[set[Call], set[Call]]:
    """Return what an access key asked for: what was allowed, and what was denied."""
    allowed: set[Call] = set()
    denied: set[Call] = set()
    for line in record.read_text().splitlines():
        told = json.loads(line)
        if told["key"] == key:
            (denied if told["denied"] else allowed).add(Call(told["action"], told["resource"]))
    return allowed, denied


def unused(granted: Sequence[Permission], made: set[Call]) -> list[Permission]:
    """Return the permissions that no call needed."""
    return sorted({one for one in granted if not any(one.allows(call) for call in made)})


def listed(value: object) -> list[Any]:
    """Return a statement's value as the list that it may be."""
    return value if isinstance(value, list) else [value]
