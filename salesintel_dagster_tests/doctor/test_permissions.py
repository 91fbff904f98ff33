"""The doctor asks by the permissions that the export has: the emulator enforces the template's policies here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.adapters.table_layout import SALES_TABLE, load_or_create
from salesintel_dagster.local.emulator import Emulator
from salesintel_dagster.local.ports import free_port
from salesintel_dagster.local.processes import Supervisor
from salesintel_dagster.local.world_environment import overlaid
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests import services as running
from salesintel_dagster_tests.doctor.wards import Ward

ROOT_KEY = "000000000000"


@dataclass(frozen=True, slots=True)
class Guarded:
    """A ward whose AWS lets a caller do what its policies say."""

    ward: Ward

    def role(self, *policies: str, denied: tuple[str, ...] = ()) -> dict[str, str]:
        """Make a user with the template's policies, less what is `denied`, and return its keys as variables."""
        iam = self.ward.clients.client("iam")
        name = f"worker-{len(iam.list_users()['Users'])}"
        iam.create_user(UserName=name)
        for policy in policies:
            iam.attach_user_policy(UserName=name, PolicyArn=self.ward.resources[policy])
        if denied:
            statement = {"Effect": "Deny", "Action": list(denied), "Resource": "*"}
            document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_user_policy(UserName=name, PolicyName="less", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@pytest.fixture(scope="module")
def guarded(services: running.Services, titan_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    emulator = Emulator(folder / "aws", free_port(), running.REGION, persistent=False, enforces=True)
    supervisor = Supervisor(print)
    try:
        supervisor.start([emulator.child(folder / "log")], running.START_SECONDS)
        target = AwsTarget(running.REGION, running.BEDROCK_REGION, emulator.endpoint_url, None, ROOT_KEY, ROOT_KEY)
        yield Guarded(Ward(AwsClients(target), services.postgres.new_database(), titan_url, folder))
    finally:
        supervisor.stop()


def test_the_exports_policy_is_enough_for_every_check(guarded: Guarded):
    told = guarded.ward.doctor(**guarded.role("ExportPolicy"))
    assert told.ill == []
    assert "not asked whether items expire (needs dynamodb:DescribeTimeToLive" in told.says("progress table")
    assert "let the role of the sync do dynamodb:GetItem" in told.says("sales table")
    assert "let the role of the enrichment do sqs:GetQueueUrl" in told.says("enrichment: queue")
    assert "was not looked at (needs sns:GetTopicAttributes" in told.says("alerts: SNS")


@pytest.mark.parametrize(
    "check,denied",
    [
        ("database parameter", "ssm:GetParameter"),
        ("object store", "s3:ListBucket"),
        ("object store", "s3:PutObject"),
        ("object store", "s3:GetObject"),
        ("iceberg table smartgo_sales", "glue:GetTable"),
        ("iceberg table smartgo_sales", "glue:UpdateTable"),
        ("progress table", "dynamodb:GetItem"),
        ("progress table", "dynamodb:PutItem"),
    ],
)
def test_a_permission_that_is_missing_is_named(guarded: Guarded, check: str, denied: str):
    told = guarded.ward.doctor(check, **guarded.role("ExportPolicy", denied=(denied,)))
    assert told.ill == [check]
    assert denied in told.says(check)


@pytest.mark.parametrize("denied", ["glue:UpdateTable", "s3:PutObject", "s3:DeleteObject"])
def test_a_table_that_can_be_read_and_may_not_be_written(guarded: Guarded, denied: str):
    with overlaid(guarded.ward.environment):
        catalog = wiring.open_tables_catalog(Settings.from_environment(guarded.ward.environment))
        load_or_create(catalog, SALES_TABLE)
    check = f"iceberg table {SALES_TABLE}"
    assert "storage let us write" in guarded.ward.doctor(check, **guarded.role("ExportPolicy")).says(check)
    told = guarded.ward.doctor(check, **guarded.role("ExportPolicy", denied=(denied,)))
    assert told.ill == [check]
    assert denied.partition(":")[2] in told.found[check]["found"], "the call that was refused"
    assert denied in told.says(check), "what to permit"


def test_a_test_alert_by_a_role_that_may_not_publish(guarded: Guarded):
    told = guarded.ward.doctor("alerts", "--send-test-alert", **guarded.role("AlertsPolicy", denied=("sns:Publish",)))
    assert "AuthorizationError" in told.says("alerts: SNS")
    assert "let this role do sns:Publish" in told.says("alerts: SNS")
    permitted = guarded.ward.doctor("alerts", "--send-test-alert", **guarded.role("AlertsPolicy"))
    assert "took a test alert" in permitted.says("alerts: SNS")
