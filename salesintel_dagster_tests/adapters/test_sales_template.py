"""The sales table in the template is the one of the design, and the adapter asks its indexes for what they hold."""

from __future__ import annotations

from typing import Any

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.sales.items import sale_item
from salesintel_dagster.domain.sale_changes import stored
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster_tests.fakes.sale_records import record
from salesintel_dagster_tests.sales_table import calls_seen, make_table, resource_properties
from salesintel_dagster_tests.sales_use import use_everything

ACTIONS = {
    "Put": "dynamodb:PutItem",
    "Delete": "dynamodb:DeleteItem",
    "ConditionCheck": "dynamodb:ConditionCheckItem",
}
"""A transaction needs the permission of each of its actions."""
KEYS_ONLY = {"ProjectionType": "KEYS_ONLY"}
INCLUDE = {
    "ProjectionType": "INCLUDE",
    "NonKeyAttributes": ["embeddingS3Key", "productId", "category", "salePrice", "brand"],
}


def _key(prefix: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": f"{prefix}PK", "KeyType": "HASH"},
        {"AttributeName": f"{prefix}SK", "KeyType": "RANGE"},
    ]


def test_keys_indexes_and_projections_are_those_of_the_design():
    table = resource_properties("SalesIntelligenceTable")
    assert table["KeySchema"] == _key("")
    found: dict[str, Any] = {index["IndexName"]: index for index in table["GlobalSecondaryIndexes"]}
    assert {name: index["Projection"] for name, index in found.items()} == {
        "GSI1": KEYS_ONLY,
        "GSI2": INCLUDE,
        "GSI3": KEYS_ONLY,
    }
    assert all(index["KeySchema"] == _key(name) for name, index in found.items())


def test_it_is_paid_by_request_streamed_recoverable_encrypted_and_tagged():
    table = resource_properties("SalesIntelligenceTable")
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert {tag["Key"] for tag in table["Tags"]} == {"application", "stage"}


def test_an_item_has_every_attribute_that_the_template_indexes_or_projects():
    table = resource_properties("SalesIntelligenceTable")
    item = sale_item(stored(record(), 1), ShardCounts())
    named = {attribute["AttributeName"] for attribute in table["AttributeDefinitions"]}
    assert named | set(INCLUDE["NonKeyAttributes"]) <= set(item)
    assert item["ttl"].keys() == {"N"}


def test_i9_the_policy_allows_what_the_repository_and_the_backfill_call_and_nothing_else(aws: AwsClients):
    client = aws.client("dynamodb")
    table = make_table(client)
    with calls_seen(client) as seen:
        use_everything(client, table)
    plain = {name for name, body in seen if name != "TransactWriteItems" and "IndexName" not in body}
    verbs = {
        verb for name, body in seen if name == "TransactWriteItems" for one in body["TransactItems"] for verb in one
    }
    on_table, on_indexes = resource_properties("SalesPolicy")["PolicyDocument"]["Statement"]
    assert set(on_table["Action"]) == {f"dynamodb:{name}" for name in plain} | {ACTIONS[verb] for verb in verbs}
    assert on_table["Resource"] == "SalesIntelligenceTable.Arn"
    assert {name for name, body in seen if "IndexName" in body} == {"Query"}
    assert (on_indexes["Action"], on_indexes["Resource"]) == (
        "dynamodb:Query",
        "${SalesIntelligenceTable.Arn}/index/*",
    )
