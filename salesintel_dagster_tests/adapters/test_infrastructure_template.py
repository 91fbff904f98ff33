from __future__ import annotations

from typing import Any

import pytest
import yaml

from salesintel_dagster.adapters.infrastructure import EXPIRING_TABLES
from salesintel_dagster.adapters.infrastructure_request import template
from salesintel_dagster.adapters.table_expiry import TTL_ATTRIBUTE


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions, each read as {name: argument}."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, object]:
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.ScalarNode)
    return {suffix: loader.construct_scalar(node)}


_Loader.add_multi_constructor("!", _function)


@pytest.fixture(scope="module")
def parsed() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(template(), _Loader)  # noqa: S506 - a SafeLoader underneath
    return document


class TestTemplate:
    def test_it_has_no_aliases_because_cloudformation_refuses_them(self) -> None:
        tokens = [type(token) for token in yaml.scan(template())]
        assert yaml.AliasToken not in tokens
        assert yaml.AnchorToken not in tokens

    def test_it_fits_in_a_request(self) -> None:
        assert len(template().encode()) < 51_200

    def test_data_outlives_the_stack(self, parsed: dict[str, Any]) -> None:
        kept = {
            name
            for name, resource in parsed["Resources"].items()
            if resource.get("DeletionPolicy") == resource.get("UpdateReplacePolicy") == "Retain"
        }
        assert kept == {
            "AnalyticsBucket",
            "ExportProgressTable",
            "SalesIntelligenceTable",
            "IdempotencyTable",
            "EnrichmentStatusTable",
        }

    @pytest.mark.parametrize("name", EXPIRING_TABLES)
    def test_every_table_is_encrypted_recoverable_and_paid_by_request(self, parsed: dict[str, Any], name: str) -> None:
        table = parsed["Resources"][name]["Properties"]
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["SSESpecification"] == {"SSEEnabled": True}
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["TimeToLiveSpecification"] == {"AttributeName": TTL_ATTRIBUTE, "Enabled": True}
        assert [tag["Key"] for tag in table["Tags"]] == ["application", "stage"]

    def test_the_bucket_is_private_encrypted_unversioned_and_tidies_up(self, parsed: dict[str, Any]) -> None:
        bucket = parsed["Resources"]["AnalyticsBucket"]["Properties"]
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        assert "BucketEncryption" in bucket
        assert "VersioningConfiguration" not in bucket
        rules = bucket["LifecycleConfiguration"]["Rules"]
        assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)
        assert [rule["Prefix"] for rule in rules if "ExpirationInDays" in rule] == ["staging/", "dagster/compute-logs/"]

    def test_the_object_key_may_be_used_by_way_of_s3_only(self, parsed: dict[str, Any]) -> None:
        """I8"""
        policy = parsed["Resources"]["ObjectKeyPolicy"]
        [statement] = policy["Properties"]["PolicyDocument"]["Statement"]
        assert (policy["Condition"], statement["Resource"]) == ("HasObjectKey", {"Ref": "ObjectKeyArn"})
        assert statement["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
        assert set(statement["Condition"]["StringEquals"]) == {"kms:ViaService"}
