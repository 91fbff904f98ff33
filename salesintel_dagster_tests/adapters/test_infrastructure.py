from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.infrastructure import (
    EXPIRING_TABLES,
    DeployOutcome,
    deploy,
)
from salesintel_dagster.adapters.table_expiry import enable_ttl
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import DeployFailed
from salesintel_dagster_tests.fakes.cloudformation import ScriptedAws


@pytest.fixture
def stage() -> str:
    """Bucket names are global in the emulator, as on AWS."""
    return f"t{secrets.token_hex(5)}"


class TestDeployToTheEmulator:
    def test_a_second_deploy_changes_nothing(self, aws: AwsClients, stage: str) -> None:
        events: list[str] = []
        first = deploy(aws, stage, events.append)
        assert first.outcome is DeployOutcome.CREATED
        assert {event for event in events if event.endswith("CREATE_COMPLETE")} >= {
            "AnalyticsBucket: CREATE_COMPLETE",
            "SalesIntelligenceTable: CREATE_COMPLETE",
        }
        assert first.resources["AnalyticsBucket"] == f"carousel-{stage}-analytics"
        assert first.resources["ExportProgressTable"] == f"bg-remover-{stage}-smartgo-export-progress"
        assert first.resources["SalesIntelligenceTable"] == f"bg-remover-{stage}-sales-intelligence"
        assert first.resources["IdempotencyTable"] == f"bg-remover-{stage}-idempotency"
        assert first.resources["AlertsTopic"].endswith(f":salesintel-alerts-{stage}")
        assert set(first.ttl_enabled) == {first.resources[name] for name in EXPIRING_TABLES}

        events.clear()
        second = deploy(aws, stage, events.append)
        assert (second.outcome, second.ttl_enabled, events) == (DeployOutcome.UNCHANGED, (), [])
        assert second.resources == first.resources

    def test_the_tables_have_the_keys_the_design_names(self, aws: AwsClients, stage: str) -> None:
        report = deploy(aws, stage, lambda _: None)
        dynamodb = aws.client("dynamodb")
        sales = dynamodb.describe_table(TableName=report.resources["SalesIntelligenceTable"])["Table"]
        assert _keys(sales) == ["PK", "SK"]
        assert sales["StreamSpecification"]["StreamViewType"] == "NEW_AND_OLD_IMAGES"
        assert sales["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        indexes = {index["IndexName"]: index for index in sales["GlobalSecondaryIndexes"]}
        assert {name: _keys(index) for name, index in indexes.items()} == {
            name: [f"{name}PK", f"{name}SK"] for name in ("GSI1", "GSI2", "GSI3")
        }
        assert {name: index["Projection"]["ProjectionType"] for name, index in indexes.items()} == {
            "GSI1": "KEYS_ONLY",
            "GSI2": "INCLUDE",
            "GSI3": "KEYS_ONLY",
        }
        assert set(indexes["GSI2"]["Projection"]["NonKeyAttributes"]) == {
            "embeddingS3Key",
            "productId",
            "category",
            "salePrice",
            "brand",
        }
        progress = dynamodb.describe_table(TableName=report.resources["ExportProgressTable"])["Table"]
        assert _keys(progress) == ["PK", "SK"]
        receipts = dynamodb.describe_table(TableName=report.resources["IdempotencyTable"])["Table"]
        assert _keys(receipts) == ["PK"]
        for name in EXPIRING_TABLES:
            ttl = dynamodb.describe_time_to_live(TableName=report.resources[name])["TimeToLiveDescription"]
            assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}

    def test_a_stack_that_differs_is_brought_back_to_the_template(self, aws: AwsClients, stage: str) -> None:
        deploy(aws, stage, lambda _: None)
        cloudformation = aws.client("cloudformation")
        cloudformation.update_stack(
            StackName=f"salesintel-{stage}",
            UsePreviousTemplate=True,
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[
                {"ParameterKey": "Stage", "UsePreviousValue": True},
                {"ParameterKey": "EmbeddingModel", "ParameterValue": "another-model"},
            ],
        )
        events: list[str] = []
        report = deploy(aws, stage, events.append)
        assert report.outcome is DeployOutcome.UPDATED
        assert "ExportPolicy: UPDATE_COMPLETE" in events

    def test_a_bucket_name_that_is_taken_is_named(self, aws: AwsClients, stage: str) -> None:
        aws.client("s3").create_bucket(
            Bucket=f"carousel-{stage}-analytics", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        with pytest.raises(DeployFailed, match=rf"AnalyticsBucket.*carousel-{stage}-analytics.*already exists"):
            deploy(aws, stage, lambda _: None)

    def test_a_stage_that_breaks_the_rule_is_refused_by_the_template(self, aws: AwsClients) -> None:
        with pytest.raises(DeployFailed, match=r"CreateStack: ValidationError.*Stage"):
            deploy(aws, "Not_A_Stage", lambda _: None)

    def test_items_that_expire_by_another_attribute_are_told(self, aws: AwsClients) -> None:
        dynamodb = aws.client("dynamodb")
        _table(dynamodb, "other")
        dynamodb.update_time_to_live(
            TableName="other", TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
        )
        with pytest.raises(DeployFailed, match="table other: items expire by 'expires', ours by 'ttl'"):
            enable_ttl(dynamodb, "other")


def _keys(described: dict[str, Any]) -> list[str]:
    return [key["AttributeName"] for key in described["KeySchema"]]


def _table(dynamodb: AwsClient, name: str) -> None:
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
    )


@pytest.fixture
def clock() -> Clock:
    """Sleeping is the only thing that takes time."""
    elapsed = [0.0]

    def sleep(seconds: float) -> None:
        elapsed[0] += seconds

    return Clock(lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda: elapsed[0], sleep, lambda: 0.5)


def _deploy(aws: ScriptedAws, clock: Clock, on_event: Callable[[str], object] = lambda _: None) -> DeployOutcome:
    return deploy(aws, "dev", on_event, clock=clock, deadline_seconds=60).outcome  # type: ignore[arg-type]


class TestDeployToAScriptedAws:
    def test_the_first_failed_resource_is_the_cause_not_the_cancelled_ones(self, clock: Clock) -> None:
        aws = ScriptedAws(
            deque([None, "CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"]),
            [
                ("AlertsTopic", "CREATE_FAILED", "Resource creation cancelled"),
                ("IdempotencyTable", "CREATE_FAILED", "Limit exceeded: 2500 tables"),
                ("AlertsTopic", "DELETE_COMPLETE", ""),
            ],
        )
        with pytest.raises(DeployFailed) as failure:
            _deploy(aws, clock)
        assert str(failure.value) == (
            "stack salesintel-dev ended as ROLLBACK_COMPLETE: "
            "IdempotencyTable (AWS::Some::Thing): Limit exceeded: 2500 tables"
        )

    def test_a_creation_that_was_rolled_back_is_made_again(self, clock: Clock) -> None:
        aws = ScriptedAws(deque(["ROLLBACK_COMPLETE", "DELETE_IN_PROGRESS", None, "CREATE_COMPLETE"]))
        assert _deploy(aws, clock) is DeployOutcome.CREATED
        assert aws.calls == ["delete", "create"]

    def test_an_operation_of_somebody_else_is_waited_for(self, clock: Clock) -> None:
        aws = ScriptedAws(deque(["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"]))
        assert _deploy(aws, clock) is DeployOutcome.UPDATED
        assert aws.calls == ["update"]

    def test_an_update_that_is_rolled_back_failed(self, clock: Clock) -> None:
        aws = ScriptedAws(
            deque(["CREATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]),
            [("ExportPolicy", "UPDATE_FAILED", "Policy is malformed")],
        )
        with pytest.raises(DeployFailed, match=r"UPDATE_ROLLBACK_COMPLETE: ExportPolicy .*: Policy is malformed"):
            _deploy(aws, clock)

    def test_a_stack_that_never_ends_is_left_at_the_deadline(self, clock: Clock) -> None:
        aws = ScriptedAws(deque([None, "CREATE_IN_PROGRESS"]))
        with pytest.raises(DeployFailed, match="still CREATE_IN_PROGRESS at the deadline"):
            _deploy(aws, clock)
        assert 50 < clock.monotonic() <= 60

    def test_an_aws_that_does_not_answer_is_one_sentence(self, clock: Clock) -> None:
        class Silent(ScriptedAws):
            def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
                raise ConnectTimeoutError(endpoint_url=StackName)

        with pytest.raises(DeployFailed, match=r"^stack salesintel-dev: ConnectTimeoutError$"):
            _deploy(Silent(deque([None])), clock)

    def test_every_resource_is_told_once(self, clock: Clock) -> None:
        aws = ScriptedAws(
            deque([None, "CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"]),
            [("AlertsTopic", "CREATE_IN_PROGRESS", ""), ("AlertsTopic", "CREATE_COMPLETE", "")],
        )
        told: list[str] = []
        _deploy(aws, clock, told.append)
        assert told == ["AlertsTopic: CREATE_COMPLETE"]
