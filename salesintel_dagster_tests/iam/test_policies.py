"""I9: the policies of the template against what the components call, both ways, by an emulator that enforces them.

What a component may do that is not the component's own to call stands here by name, with its reason; so does what is
wider than one resource. A policy that is new in the template fails until somebody exercises it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from salesintel_dagster.domain.metrics import NAMESPACE
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.command_line import call
from salesintel_dagster_tests.iam import components
from salesintel_dagster_tests.iam.access import Call, deployed, listed, permissions, unused
from salesintel_dagster_tests.iam.cloud import Cloud, User, enforcing
from salesintel_dagster_tests.local.stand_ins import call_json
from salesintel_dagster_tests.sales_table import resource_properties, resources_of_type
from salesintel_dagster_tests.services import Services

POLICIES = resources_of_type("AWS::IAM::ManagedPolicy")
EXERCISES: dict[str, tuple[Callable[[User], None], ...]] = {
    "ExportPolicy": (components.export, components.maintenance, components.cloudwatch),
    "QueryPolicy": (components.query,),
    "AlertsPolicy": (components.alerts,),
    "ComputeLogsPolicy": (components.compute_logs,),
    "EnrichmentPolicy": (components.enrichment,),
    "SyncPolicy": (components.sync,),
    "StoreSalePolicy": (components.store_sales,),
    "SalesPolicy": (components.sales,),
}
MADE_BY_AWS = {"ObjectKeyPolicy"}
"""S3 uses the key in the caller's name; the emulator encrypts nothing. adapters/test_encryption.py has the rest."""

ARROW = "Arrow gives a broken upload of many parts up by itself, in C++, where no test can break one"
NOT_CALLED = {
    "ExportPolicy": {
        "bedrock:InvokeModel foundation-model/amazon.titan-embed-image-v1": "the emulator has no Bedrock: see the test",
        "kms:Decrypt key/*": "SSM calls it in the export's name; the emulator encrypts nothing",
        "s3:AbortMultipartUpload pricing-intelligence/*": ARROW,
    },
    "EnrichmentPolicy": {"s3:AbortMultipartUpload pricing-intelligence/*": ARROW},
    "SyncPolicy": {"s3:AbortMultipartUpload pricing-intelligence/*": ARROW},
}
WIDE = {
    "PutMetrics": "CloudWatch knows no resource to name for PutMetricData; the namespace is the fence",
    "ReadTheOldestAge": "CloudWatch knows no resource and no namespace to name for reading metrics",
    "DecryptDatabaseConfig": "any key, but by way of SSM and for one parameter only",
}
LOOKED_AT_BY_THE_DOCTOR = {
    "dynamodb:DescribeTimeToLive",
    "dynamodb:GetItem",
    "sns:GetTopicAttributes",
    "sqs:GetQueueUrl",
}
"""What the doctor would like to see of other components with the export's role; it says what it could not look at."""


@pytest.fixture(scope="module")
def cloud(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with enforcing(services.postgres.new_database(), tmp_path_factory.mktemp("cloud")) as opened:
        yield opened


def test_i9_every_policy_of_the_template_has_a_component_that_exercises_it():
    assert set(POLICIES) - MADE_BY_AWS == set(EXERCISES)


@pytest.mark.parametrize("policy", POLICIES)
def test_i9_nothing_is_allowed_to_everything(policy: str):
    for statement in resource_properties(policy)["PolicyDocument"]["Statement"]:
        assert not any("*" in action for action in listed(statement["Action"])), statement["Sid"]
        if statement["Sid"] not in WIDE:
            for resource in listed(statement["Resource"]):
                assert re.fullmatch(r"[^*]*|[^*]+[^*}]/\*|[^*]+/index/\*", resource), (statement["Sid"], resource)


def test_i9_what_is_wider_than_one_resource_has_a_fence():
    statements = {one["Sid"]: one for one in resource_properties("ExportPolicy")["PolicyDocument"]["Statement"]}
    assert statements["PutMetrics"]["Condition"] == {"StringEquals": {"cloudwatch:namespace": NAMESPACE}}
    assert set(statements["DecryptDatabaseConfig"]["Condition"]["StringEquals"]) == {
        "kms:ViaService",
        "kms:EncryptionContext:PARAMETER_ARN",
    }


@pytest.mark.slow
@pytest.mark.parametrize("policy", [name for name in EXERCISES if name in POLICIES])
def test_i9_a_component_works_with_its_policy_alone_and_uses_all_of_it(cloud: Cloud, policy: str):
    user = cloud.user(policy)
    for component in EXERCISES[policy]:
        component(user)
    allowed, denied = user.made()
    assert denied == set(), "called without permission"
    granted = list(permissions(deployed(cloud.ward.clients.client("iam"), cloud.ward.resources[policy])))
    bucket = f"{user.settings.bucket_name}/"
    idle = {f"{one.action} {one.resource.split(':', 5)[-1].removeprefix(bucket)}" for one in unused(granted, allowed)}
    assert idle == set(NOT_CALLED.get(policy, ())), "permitted without a call"


@pytest.mark.slow
def test_i9_the_model_that_the_export_may_call_is_the_one_that_it_calls(cloud: Cloud):
    """The stand-in for Bedrock answers for one model; the ARN is made of the template's parameters."""
    before = call_json("GET", f"{cloud.titan_url}/stats")["calls"]
    answer = cloud.user("ExportPolicy").types("doctor", "embedding", "--paid-call")
    assert "1024" in answer.out
    assert call_json("GET", f"{cloud.titan_url}/stats")["calls"] == before + 1
    document = deployed(cloud.ward.clients.client("iam"), cloud.ward.resources["ExportPolicy"])
    [model] = [one.resource for one in permissions(document) if one.action == "bedrock:InvokeModel"]
    settings = Settings()
    assert model == f"arn:aws:bedrock:{settings.bedrock_region}::foundation-model/{settings.embedding_model}"


@pytest.mark.slow
def test_i9_the_doctor_asks_with_the_exports_policy_and_says_what_it_may_not_look_at(cloud: Cloud):
    user = cloud.user("ExportPolicy")
    without_enrichment = {name: value for name, value in user.environment.items() if "KEEPA" not in name}
    answer = call("doctor", environment=without_enrichment)
    assert answer.code == 0, answer.out
    _, denied = user.made()
    assert {one.action for one in denied} == LOOKED_AT_BY_THE_DOCTOR


REFUSED: dict[str, tuple[str, Callable[[User], None], str]] = {
    "ExportPolicy": ("cloudwatch:PutMetricData", components.cloudwatch, "AccessDenied"),
    "QueryPolicy": ("s3:GetObject", components.query, "ACCESS_DENIED"),
    "AlertsPolicy": ("sns:Publish", components.alerts, "AuthorizationError"),
    "ComputeLogsPolicy": ("s3:GetObject", components.compute_logs, "Forbidden"),
    "EnrichmentPolicy": ("dynamodb:PutItem", components.enrichment, "AccessDenied"),
    "SyncPolicy": ("dynamodb:BatchGetItem", components.sync, "AccessDenied"),
    "StoreSalePolicy": ("dynamodb:PutItem", components.store_sales, "AccessDenied"),
    "SalesPolicy": ("dynamodb:Query", components.sales, "AccessDenied"),
}


@pytest.mark.slow
@pytest.mark.parametrize("policy", [name for name in REFUSED if name in POLICIES])
def test_i9_a_permission_that_is_taken_away_is_refused_and_told(
    cloud: Cloud, policy: str, caplog: pytest.LogCaptureFixture
):
    action, component, words = REFUSED[policy]
    user = cloud.user(policy, denied=action)
    with pytest.raises(Exception) as told:
        component(user)
    _, denied = user.made()
    assert {one.action for one in denied} == {action}
    assert words in f"{told.value}{caplog.text}"


def test_the_comparison_sees_a_permission_without_a_call_and_a_resource_that_is_not_the_one():
    document: dict[str, Any] = {
        "Statement": [{"Sid": "S", "Effect": "Allow", "Action": ["s3:Get", "s3:Put"], "Resource": ["a/*", "b"]}]
    }
    made = {Call("s3:Get", "a/x"), Call("s3:Put", "b"), Call("s3:Put", "ab"), Call("s3:Get", "b/x")}
    assert [(one.action, one.resource) for one in unused(list(permissions(document)), made)] == [
        ("s3:Get", "b"),
        ("s3:Put", "a/*"),
    ]
