from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.receipts import DynamoReceipts
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import ReceiptsUnavailable
from salesintel_dagster.domain.receipts import Receipt, Receipts, receipt_key
from salesintel_dagster.domain.sale_event import SaleIdentity
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.event_queue import InMemoryReceipts

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


class Time:
    """A clock whose calendar is moved by hand."""

    def __init__(self) -> None:
        self.now = NOON
        self.clock: Clock = replace(held_clock(), now=lambda: self.now)


def receipt(sale: str, version: int = 1, tenant: str = "t") -> Receipt:
    return Receipt(SaleIdentity(tenant, sale), f"hash of {sale} {version}", version)


def table_of(client: AwsClient) -> str:
    name = f"receipts-{secrets.token_hex(4)}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
    )
    return name


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def dynamo(aws: AwsClients) -> AwsClient:
    return aws.client("dynamodb")


class TestAnyReceipts:
    """The port's promises, held by the fake and by DynamoDB alike."""

    @pytest.fixture(params=["fake", "dynamodb"])
    def receipts(self, request: pytest.FixtureRequest, time: Time) -> Receipts:
        if request.param == "fake":
            return InMemoryReceipts(time.clock)
        client = request.getfixturevalue("dynamo")
        return DynamoReceipts(client, table_of(client), time.clock)

    def test_receipts_are_found_by_tenant_and_sale(self, receipts: Receipts) -> None:
        """F25"""
        kept = [receipt("a"), receipt("a", tenant="t#1"), receipt("a", tenant="t%231"), receipt("b#c")]
        receipts.put(kept)
        asked = [one.identity for one in kept]
        assert receipts.get([*asked, SaleIdentity("t", "none")]) == {one.identity: one for one in kept}
        assert receipts.get([]) == {}

    def test_a_newer_receipt_stands_for_an_older_one(self, receipts: Receipts) -> None:
        receipts.put([receipt("a", 1)])
        receipts.put([receipt("a", 2)])
        assert receipts.get([SaleIdentity("t", "a")]).popitem()[1].event_version == 2

    def test_more_than_one_call_takes(self, receipts: Receipts) -> None:
        many = [receipt(str(number)) for number in range(130)]
        receipts.put(many)
        assert len(receipts.get([one.identity for one in many])) == 130

    def test_what_is_forgotten_is_absent_and_nothing_else(self, receipts: Receipts) -> None:
        many = [receipt(str(number)) for number in range(30)]
        receipts.put(many)
        receipts.forget([*(one.identity for one in many[1:]), SaleIdentity("t", "none")])
        assert receipts.get([one.identity for one in many]) == {many[0].identity: many[0]}
        receipts.forget([])

    @pytest.mark.parametrize("hours,found", [(23.9, 1), (24, 0), (48, 0)])
    def test_a_receipt_that_has_expired_is_absent_though_nobody_deleted_it(
        self, receipts: Receipts, time: Time, hours: float, found: int
    ) -> None:
        """F4, E7"""
        receipts.put([receipt("a")])
        time.now += timedelta(hours=hours)
        assert len(receipts.get([SaleIdentity("t", "a")])) == found


def handing_back(name: str, rest: object, times: int | None) -> Callable[..., None]:
    """Answer that `rest` was not processed: `times` times, or for ever."""
    left = [times]

    def hand_back(parsed: dict[str, Any], **_: object) -> None:
        if left[0] != 0:
            left[0] = None if left[0] is None else left[0] - 1
            parsed[name] = rest

    return hand_back


@pytest.mark.parametrize("times", [3, None], ids=["three times", "for ever"])
def test_what_dynamodb_had_no_capacity_for_is_asked_for_again(dynamo: AwsClient, times: int | None) -> None:
    """E2"""
    name = table_of(dynamo)
    receipts = DynamoReceipts(dynamo, name, Time().clock)
    key = {"PK": {"S": receipt_key(SaleIdentity("t", "b"))}}
    item = {**key, "payloadHash": {"S": "x"}, "eventVersion": {"N": "1"}, "ttl": {"N": "9999999999"}}
    write = handing_back("UnprocessedItems", {name: [{"PutRequest": {"Item": item}}]}, times)
    dynamo.meta.events.register("after-call.dynamodb.BatchWriteItem", write)
    if times is None:
        with pytest.raises(ReceiptsUnavailable, match="no capacity after 9 tries"):
            receipts.put([receipt("a"), receipt("b")])
        return
    receipts.put([receipt("a"), receipt("b")])
    read = handing_back("UnprocessedKeys", {name: {"Keys": [key]}}, times)
    dynamo.meta.events.register("after-call.dynamodb.BatchGetItem", read)
    assert len(receipts.get([SaleIdentity("t", "a"), SaleIdentity("t", "b")])) == 2


def test_a_receipt_of_a_moment_ago_is_read(dynamo: AwsClient) -> None:
    name, asked = table_of(dynamo), []
    dynamo.meta.events.register("provide-client-params.dynamodb.BatchGetItem", lambda params, **_: asked.append(params))
    DynamoReceipts(dynamo, name, Time().clock).get([SaleIdentity("t", "a")])
    assert asked[0]["RequestItems"][name]["ConsistentRead"] is True


def test_an_item_of_another_form_under_our_key_is_no_receipt(dynamo: AwsClient) -> None:
    name, identity = table_of(dynamo), SaleIdentity("t", "a")
    dynamo.put_item(TableName=name, Item={"PK": {"S": receipt_key(identity)}, "processedAt": {"S": "2024-01-01"}})
    assert DynamoReceipts(dynamo, name, Time().clock).get([identity]) == {}


def test_a_table_that_is_not_there_is_named(dynamo: AwsClient) -> None:
    receipts = DynamoReceipts(dynamo, "nowhere", Time().clock)
    with pytest.raises(ReceiptsUnavailable, match="read receipts in nowhere: ResourceNotFoundException"):
        receipts.get([SaleIdentity("t", "a")])
    with pytest.raises(ReceiptsUnavailable, match="write receipts in nowhere"):
        receipts.put([receipt("a")])
