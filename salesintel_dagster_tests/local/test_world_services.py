"""The fixtures' servers answer: what the rest of the suite stands on."""

from __future__ import annotations

import http.client
import json
import secrets
import socket

import psycopg
import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster_tests.services import PostgresService, Services

pytestmark = pytest.mark.world


def test_postgres_gives_every_test_a_database_of_its_own(postgres: PostgresService):
    dsn = postgres.new_database()
    with psycopg.connect(dsn) as connection:
        version = connection.execute("SHOW server_version").fetchone()
    assert version[0].startswith("18")
    assert dsn != postgres.new_database()


def test_the_emulator_answers_for_every_service_we_use(aws: AwsClients):
    name = f"t-{secrets.token_hex(4)}"
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket=name, Key="a/b", Body=b"x")
    assert s3.get_object(Bucket=name, Key="a/b")["Body"].read() == b"x"
    aws.client("ssm").put_parameter(Name="/tf/x", Value="{}", Type="SecureString")
    assert aws.client("ssm").get_parameter(Name="/tf/x", WithDecryption=True)["Parameter"]["Value"] == "{}"
    template = {
        "Resources": {
            "Table": {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "TableName": name,
                    "BillingMode": "PAY_PER_REQUEST",
                    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                },
            }
        }
    }
    stacks = aws.client("cloudformation")
    stacks.create_stack(StackName=name, TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    assert name in aws.client("dynamodb").list_tables()["TableNames"]
    aws.client("glue").create_database(DatabaseInput={"Name": "sales"})
    assert aws.client("glue").get_database(Name="sales")["Database"]["Name"] == "sales"
    bucket = aws.client("s3tables").create_table_bucket(name=name)
    assert bucket["arn"].endswith(name)
    for service, operation in (
        ("sqs", "list_queues"),
        ("sns", "list_topics"),
        ("events", "list_rules"),
        ("secretsmanager", "list_secrets"),
        ("cloudwatch", "list_metrics"),
        ("iam", "list_roles"),
        ("sts", "get_caller_identity"),
        ("kms", "list_keys"),
        ("logs", "describe_log_groups"),
    ):
        getattr(aws.client(service), operation)()


def test_a_test_cannot_leave_this_machine():
    with pytest.raises(AssertionError, match="stay on this machine"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


@pytest.mark.parametrize(
    "method, path, headers, status",
    [
        ("GET", "/", {}, 200),
        ("GET", "/", {"Origin": "https://evil.example"}, 403),
        ("OPTIONS", "/bucket", {}, 403),
        ("GET", "/", {"Host": "rebound.evil.example"}, 403),
        ("POST", "/_ministack/reset", {}, 403),
        ("POST", "/_ministack/config", {}, 403),
    ],
)
def test_the_emulator_refuses_what_no_sdk_sends(
    services: Services, method: str, path: str, headers: dict[str, str], status: int
):
    """K7"""
    connection = http.client.HTTPConnection("127.0.0.1", services.aws.server.port, timeout=5)
    connection.request(method, path, headers=headers)
    assert connection.getresponse().status == status
    connection.close()
