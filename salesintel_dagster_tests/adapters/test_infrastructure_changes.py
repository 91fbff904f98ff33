"""What a deploy would change is told by CloudFormation, and telling changes nothing."""

from __future__ import annotations

import secrets
from collections import deque
from typing import Any

import pytest
import yaml

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.infrastructure import EXPIRING_TABLES, deploy
from salesintel_dagster.adapters.infrastructure_changes import _every_resource, plan
from salesintel_dagster.adapters.infrastructure_request import TEMPLATE_S_OWN, Choices, template
from salesintel_dagster.domain.errors import DeployFailed
from salesintel_dagster_tests.fakes.cloudformation import ScriptedAws

OTHER_MODEL = Choices("amazon.titan-embed-image-v2")
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0b5e3c2a-7c1d-4a37-9a53-2f1f6f4b9d11"


@pytest.fixture
def stage() -> str:
    return f"t{secrets.token_hex(5)}"


def test_a_stage_that_was_never_deployed_gets_the_whole_template_and_no_empty_stack(aws: AwsClients, stage: str):
    planned = plan(aws, stage)
    assert (planned.stack, planned.status, planned.expiry) == (f"salesintel-{stage}", None, EXPIRING_TABLES)
    assert ("add", "AnalyticsBucket", "AWS::S3::Bucket") in {(c.action, c.resource, c.kind) for c in planned.changes}
    with pytest.raises(Exception, match="does not exist"):
        aws.client("cloudformation").describe_stacks(StackName=planned.stack)


def test_every_resource_of_the_template_is_named():
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda *_: None)
    resources = yaml.load(template(), Loader)["Resources"]  # noqa: S506 - a SafeLoader underneath
    with_key = {change.resource: change.kind for change in _every_resource(Choices(object_key_arn=KEY))}
    assert with_key == {name: resource["Type"] for name, resource in resources.items()}
    without_key = {change.resource for change in _every_resource(TEMPLATE_S_OWN)}
    assert with_key.keys() - without_key == {name for name, resource in resources.items() if "Condition" in resource}


def test_an_unchanged_stack_has_nothing_to_do_and_keeps_no_change_set(aws: AwsClients, stage: str):
    deploy(aws, stage, lambda _: None)
    planned = plan(aws, stage)
    assert (planned.status, planned.changes, planned.expiry) == ("CREATE_COMPLETE", (), ())
    assert "no resources would change" in str(planned)
    assert aws.client("cloudformation").list_change_sets(StackName=planned.stack)["Summaries"] == []


def test_what_would_change_is_named_with_its_property_and_is_not_done(aws: AwsClients, stage: str):
    report = deploy(aws, stage, lambda _: None)
    table = report.resources["ExportProgressTable"]
    switched_off = {"Enabled": False, "AttributeName": "ttl"}
    aws.client("dynamodb").update_time_to_live(TableName=table, TimeToLiveSpecification=switched_off)
    for _ in range(2):
        planned = plan(aws, stage, OTHER_MODEL)
        assert str(planned).splitlines()[1:] == [
            "  modify ExportPolicy, AWS::IAM::ManagedPolicy (PolicyDocument)",
            f"  switch on expiry of items, by a call of its own: {table}",
        ]
    assert deploy(aws, stage, lambda _: None, choices=OTHER_MODEL).ttl_enabled == (table,)
    assert plan(aws, stage, OTHER_MODEL).changes == ()


class Refusing(ScriptedAws):
    """A stack whose change set AWS does not make."""

    deleted: list[str]

    def create_change_set(self, **_: object) -> None:
        self.deleted = []

    def describe_change_set(self, **_: object) -> dict[str, Any]:
        return {"Status": "FAILED", "StatusReason": "Template error: resource Nothing does not exist"}

    def delete_change_set(self, **wanted: Any) -> None:  # noqa: ANN401 - as botocore
        self.deleted.append(wanted["ChangeSetName"])


def test_a_change_set_that_fails_is_told_and_deleted():
    aws = Refusing(deque(["CREATE_COMPLETE"]))
    with pytest.raises(DeployFailed, match="change set is FAILED: Template error"):
        plan(aws, "dev")
    assert len(aws.deleted) == 1


def test_a_deploy_under_way_is_not_disturbed():
    with pytest.raises(DeployFailed, match="somebody is deploying"):
        plan(Refusing(deque(["UPDATE_IN_PROGRESS"])), "dev")


def test_k5_expiry_is_switched_on_by_a_call_of_its_own_after_the_stack_is_there(aws: AwsClients, stage: str):
    """K5: the emulator ignores TTL in a template; by hook: UpdateTimeToLive once a table, after the stack is made."""
    calls: list[tuple[str, str]] = []
    for service in ("cloudformation", "dynamodb"):
        aws.client(service).meta.events.register(
            "provide-client-params", lambda model, params, **_: calls.append((model.name, params.get("TableName", "")))
        )
    report = deploy(aws, stage, lambda _: None)
    names = [name for name, _ in calls]
    switched = [table for name, table in calls if name == "UpdateTimeToLive"]
    assert switched == [report.resources[output] for output in EXPIRING_TABLES]
    assert names.index("UpdateTimeToLive") > names.index("CreateStack")
    calls.clear()
    deploy(aws, stage, lambda _: None)
    assert "UpdateTimeToLive" not in [name for name, _ in calls]
