"""The sales table for tests: made as the template makes it, and faults to make it fail."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import yaml
from botocore.awsrequest import AWSResponse

from salesintel_dagster.adapters.aws import AwsClient
from salesintel_dagster.adapters.infrastructure_request import template


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions, each read as its argument."""


def _argument(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


_Loader.add_multi_constructor("!", _argument)


@cache
def _resources() -> dict[str, dict[str, Any]]:
    document = yaml.load(template(), _Loader)  # noqa: S506 - a SafeLoader underneath
    found: dict[str, dict[str, Any]] = document["Resources"]
    return found


def resource_properties(name: str) -> dict[str, Any]:
    """Return the properties of one of the template's resources."""
    properties: dict[str, Any] = _resources()[name]["Properties"]
    return properties


def resources_of_type(kind: str) -> list[str]:
    """Return the names of the template's resources of a type, e.g. `AWS::IAM::ManagedPolicy`."""
    return [name for name, resource in _resources().items() if resource["Type"] == kind]


def table_properties() -> dict[str, Any]:
    """Return the table's keys and indexes as the template has them."""
    properties = resource_properties("SalesIntelligenceTable")
    wanted = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    return {name: properties[name] for name in wanted}


def make_table(client: AwsClient) -> str:
    """Make a table of a name of its own. Its items do not expire by themselves: a test holds the clock."""
    name = f"sales-{secrets.token_hex(6)}"
    client.create_table(TableName=name, **table_properties())
    return name


Refusal = tuple[AWSResponse, dict[str, Any]]


def refusal(code: str, **more: object) -> Refusal:
    """Return what a `before-call` hook answers so that the call fails with an AWS error."""
    parsed = {"Error": {"Code": code, "Message": "canary"}, "ResponseMetadata": {"HTTPStatusCode": 400}, **more}
    return AWSResponse("", 400, {}, io.BytesIO()), parsed


def answer(parsed: Mapping[str, Any]) -> Refusal:
    """Return what a `before-call` hook answers in place of AWS."""
    return AWSResponse("", 200, {}, io.BytesIO()), {"ResponseMetadata": {"HTTPStatusCode": 200}, **parsed}


Hook = Callable[..., Refusal | None]


@contextmanager
def on_call(client: AwsClient, operation: str, hook: Hook) -> Iterator[None]:
    """Let `hook` see each call of an operation, e.g. `TransactWriteItems`, and answer it if it likes."""
    event = f"before-call.dynamodb.{operation}".rstrip(".")
    client.meta.events.register_first(event, hook)
    try:
        yield
    finally:
        client.meta.events.unregister(event, hook)


@contextmanager
def on_answer(client: AwsClient, operation: str, hook: Callable[..., None]) -> Iterator[None]:
    """Let `hook` see, and change, what AWS answered."""
    event = f"after-call.dynamodb.{operation}"
    client.meta.events.register_first(event, hook)
    try:
        yield
    finally:
        client.meta.events.unregister(event, hook)


@contextmanager
def calls_seen(client: AwsClient) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Collect every call made meanwhile: operation and parameters."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def see(model: Any, params: dict[str, Any], **_: object) -> None:  # noqa: ANN401 - botocore's
        seen.append((model.name, json.loads(params["body"])))

    with on_call(client, "", see):
        yield seen


def all_items(client: AwsClient, name: str) -> list[dict[str, Any]]:
    """Return every item, upkeep items too."""
    pages = client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
    return [item for page in pages for item in page["Items"]]
