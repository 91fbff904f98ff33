"""The sales table in the template is the one of the design, and the adapter asks its indexes for what they hold."""

from __future__ import annotations

from typing import Any

from salesintel_dagster.adapters.sales.items import sale_item
from salesintel_dagster.domain.sale_changes import stored
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster_tests.sales_table import record, resource_properties

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
