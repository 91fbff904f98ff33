from __future__ import annotations

import secrets
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ConnectTimeoutError

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.cloudwatch import CloudWatchMetrics
from salesintel_dagster.adapters.infrastructure import EXPIRING_TABLES, DeployReport, deploy
from salesintel_dagster.adapters.infrastructure_request import template
from salesintel_dagster.adapters.object_store import MULTIPART_BYTES, S3ObjectStore
from salesintel_dagster.adapters.parameters import read_source_config
from salesintel_dagster.adapters.progress import DynamoProgressLedger
from salesintel_dagster.adapters.spend import DynamoSpendLedger
from salesintel_dagster.adapters.table_expiry import TTL_ATTRIBUTE
from salesintel_dagster.domain.errors import StoreUnavailable
from salesintel_dagster.domain.metrics import MEASURES, NAMESPACE, Metric
from salesintel_dagster.domain.progress import Progress, RunState


@pytest.fixture
def stage() -> str:
    return f"t{secrets.token_hex(5)}"


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

    def test_the_export_may_make_the_calls_that_its_stores_make_and_hardly_another(
        self, parsed: dict[str, Any], aws: AwsClients, stage: str, tmp_path: Path
    ) -> None:
        report = deploy(aws, stage, lambda _: None)
        name = f"/tf/{stage}/smartgo/database/config"
        config = '{"host": "h", "port": 1, "database": "d", "username": "u", "password": "p"}'
        aws.client("ssm").put_parameter(Name=name, Value=config, Type="SecureString")
        called: set[str] = set()
        for service in ("s3", "dynamodb", "ssm", "cloudwatch"):
            aws.client(service).meta.events.register("before-call", lambda model, **_: called.add(model.name))
        _use_every_store(aws, report, name, tmp_path)

        policy = parsed["Resources"]["ExportPolicy"]["Properties"]["PolicyDocument"]
        allowed = {action for statement in policy["Statement"] for action in _listed(statement["Action"])}
        assert {IAM_ACTIONS[operation] for operation in called} == allowed - OTHER_ACTIONS

    @pytest.mark.parametrize("name", ["ExportPolicy", "AlertsPolicy", "ComputeLogsPolicy", "SyncPolicy"])
    def test_a_policy_allows_nothing_to_everything(self, parsed: dict[str, Any], name: str) -> None:
        for statement in parsed["Resources"][name]["Properties"]["PolicyDocument"]["Statement"]:
            actions, targets = _listed(statement["Action"]), _listed(statement["Resource"])
            assert not any("*" in action for action in actions), statement["Sid"]
            if statement["Sid"] == "PutMetrics":
                assert statement["Condition"] == {"StringEquals": {"cloudwatch:namespace": NAMESPACE}}
                continue
            if statement["Sid"] == "ReadTheOldestAge":
                assert actions == ["cloudwatch:GetMetricStatistics"]
                continue
            for target in targets:
                ((_, text),) = target.items()
                ours = ("arn:", "${", "AnalyticsBucket", "ExportProgressTable", "AlertsTopic", "SoldEvent", *TABLES)
                assert text.startswith(ours), statement["Sid"]
                assert "*" not in text or text.endswith("/*"), statement["Sid"]

    def test_the_keys_are_used_for_the_parameter_alone(self, parsed: dict[str, Any]) -> None:
        policy = parsed["Resources"]["ExportPolicy"]["Properties"]["PolicyDocument"]
        keys = next(statement for statement in policy["Statement"] if statement["Action"] == "kms:Decrypt")
        assert set(keys["Condition"]["StringEquals"]) == {"kms:ViaService", "kms:EncryptionContext:PARAMETER_ARN"}

    def test_the_object_key_may_be_used_by_way_of_s3_only(self, parsed: dict[str, Any]) -> None:
        """I8"""
        policy = parsed["Resources"]["ObjectKeyPolicy"]
        [statement] = policy["Properties"]["PolicyDocument"]["Statement"]
        assert (policy["Condition"], statement["Resource"]) == ("HasObjectKey", {"Ref": "ObjectKeyArn"})
        assert statement["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
        assert set(statement["Condition"]["StringEquals"]) == {"kms:ViaService"}


TABLES = ("SalesIntelligenceTable", "IdempotencyTable")
IAM_ACTIONS = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "PutItem": "dynamodb:PutItem",
    "GetItem": "dynamodb:GetItem",
    "Query": "dynamodb:Query",
    "UpdateItem": "dynamodb:UpdateItem",
    "PutMetricData": "cloudwatch:PutMetricData",
    "GetParameter": "ssm:GetParameter",
}
OTHER_ACTIONS = {
    "kms:Decrypt",  # made by SSM in the export's name
    "bedrock:InvokeModel",
    "s3:DeleteObject",  # Iceberg drops old table metadata
    *(f"glue:{verb}" for verb in ("CreateDatabase", "GetDatabase", "CreateTable", "GetTable", "UpdateTable")),
}


def _use_every_store(aws: AwsClients, report: DeployReport, parameter: str, folder: Path) -> None:
    store = S3ObjectStore(aws.client("s3"), report.resources["AnalyticsBucket"])
    with (folder / "large").open("wb") as file:
        file.truncate(MULTIPART_BYTES)
    store.put("staging/small", b"x", "text/plain")
    store.put("staging/large", folder / "large", "text/plain")
    assert list(store.keys("staging/")) == ["staging/large", "staging/small"]
    assert store.get("staging/small") == b"x"
    store.download("staging/large", folder / "copy")
    aws.client("s3").meta.events.register("before-parameter-build.s3.UploadPart", _fail)
    with pytest.raises(StoreUnavailable):
        store.put("staging/large", folder / "large", "text/plain")
    now = datetime.now(UTC)
    ledger = DynamoProgressLedger(aws.client("dynamodb"), report.resources["ExportProgressTable"])
    running = Progress(now.date(), "run", now, now, RunState.RUNNING, "stage")
    ledger.record(running)
    assert ledger.newest(now.date()) == ledger.history(now.date())[0]
    assert ledger.lose(running, now)
    read_source_config(aws.client("ssm"), parameter)
    spend = DynamoSpendLedger(aws.client("dynamodb"), report.resources["ExportProgressTable"])
    assert spend.reserve(now.date(), Decimal("0.006"), Decimal(1))
    CloudWatchMetrics(aws.client("cloudwatch"), "t").emit([Metric(MEASURES[0], 1, now)])


def _fail(**_: object) -> None:
    raise ConnectTimeoutError(endpoint_url="nowhere")


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
