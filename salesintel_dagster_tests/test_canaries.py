"""I4, F23, H11: marked secrets are searched for in all that every job, sensor and command leaves behind as it fails."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster_tests.command_line import call
from salesintel_dagster_tests.fakes.events import envelope, sold
from salesintel_dagster_tests.services import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

MARK = "c4n4ry"
NOWHERE = "http://127.0.0.1:9"
SECRETS = {
    "SALESINTEL_KEEPA_KEY": f"{MARK}-keepa",
    "SALESINTEL_ALERT_WEBHOOK_URL": f"{NOWHERE}/hook/{MARK}-hook",
    "AWS_SECRET_ACCESS_KEY": f"{MARK}-aws",
    "AWS_SESSION_TOKEN": f"{MARK}-session",
}

CHILD = """
import time

sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.02))

from salesintel_dagster_tests.canary_child import run

run()
"""
"""What is out of reach is asked again for minutes; here all those waits would be for nothing."""


class Deployment:
    """A stage of the emulator whose database, catalog, provider and webhook all fail."""

    def __init__(self, services: Services) -> None:
        target = services.aws.new_target()
        self.clients = AwsClients(target)
        self.stage = f"t{secrets.token_hex(4)}"
        database = urlsplit(services.postgres.new_database())
        self.place = {"host": database.hostname, "port": database.port, "database": database.path[1:]}
        user = f"{database.username}:{MARK}-catalog@"
        self.environment = {
            "SALESINTEL_MODE": "aws",
            "STAGE": self.stage,
            "AWS_ENDPOINT_URL": target.endpoint_url or "",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": NOWHERE,
            "AWS_ACCESS_KEY_ID": target.access_key_id or "",
            "SALESINTEL_CATALOG_URI": f"postgresql+psycopg://{user}{database.hostname}:{database.port}{database.path}",
            "SALESINTEL_KEEPA_URL": NOWHERE,
            "SALESINTEL_SOURCE_RETRIES": "0",
            "SALESINTEL_COMMIT_RETRIES": "0",
            "SALESINTEL_EVENT_GATHER_SECONDS": "1",
            "SALESINTEL_EVENT_IDLE_SECONDS": "1",
            **SECRETS,
        }
        assert call("deploy", "--apply", environment=self.environment).code == 0
        shop = {"username": "nobody", "password": f"{MARK}-db", "tenant": "carousel-labs"}  # else nobody asks it
        config = json.dumps({**self.place, **shop})
        self.listen()
        self.clients.client("ssm").put_parameter(
            Name=f"/tf/{self.stage}/smartgo/database/config", Value=config, Type="SecureString"
        )

    def listen(self) -> None:
        """Have a queue of its own keep what is published to the stage's topics."""
        sqs, sns = self.clients.client("sqs"), self.clients.client("sns")
        queue = sqs.create_queue(QueueName=f"heard-{self.stage}")["QueueUrl"]
        asked = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        topics = [each["TopicArn"] for each in sns.list_topics()["Topics"]]
        [alerts] = [topic for topic in topics if "alerts" in topic]
        for topic in topics:
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=asked["Attributes"]["QueueArn"])
        self.environment["SALESINTEL_ALERT_TOPIC_ARN"] = alerts

    def sell(self) -> None:
        sqs = self.clients.client("sqs")
        queue = sqs.get_queue_url(QueueName=f"carousel-sync-{self.stage}")["QueueUrl"]
        at = datetime.now(UTC).isoformat()
        for number in range(2):
            body = envelope(sold(f"S-{number}", description=f"{MARK}-event", soldAt=at), f"e-{number}")
            sqs.send_message(QueueUrl=queue, MessageBody=body)
        sqs.send_message(QueueUrl=queue, MessageBody=f"poison {MARK}-event")

    def stored(self) -> Iterator[str]:
        """Yield every item, object, message and metric, and every line of a log."""
        dynamodb, s3 = self.clients.client("dynamodb"), self.clients.client("s3")
        for table in dynamodb.list_tables()["TableNames"]:
            yield from map(repr, dynamodb.scan(TableName=table)["Items"])
        bucket = f"carousel-{self.stage}-analytics"
        for found in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            yield repr((found["Key"], s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()))
        yield from map(repr, self.clients.client("cloudwatch").list_metrics()["Metrics"])
        yield from self.messages()
        logs = self.clients.client("logs")
        for group in logs.describe_log_groups()["logGroups"]:
            yield from map(repr, logs.filter_log_events(logGroupName=group["logGroupName"])["events"])

    def messages(self) -> Iterator[str]:
        """Yield what lies in each queue, what was published among it."""
        sqs = self.clients.client("sqs")
        for queue in sqs.list_queues()["QueueUrls"]:
            short = {"MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"], "WaitTimeSeconds": 0}
            while found := sqs.receive_message(QueueUrl=queue, **short).get("Messages"):
                yield from (f"{queue} {each}" for each in found)


@pytest.fixture(scope="module")
def deployment(services: Services) -> Deployment:
    return Deployment(services)


def left_behind(deployment: Deployment, home: Path, *words: str) -> tuple[dict[str, list[str]], list[str]]:
    """Run the child; return what it noted of each thing it did, and the places where a canary lies."""
    environment = {
        **os.environ,
        **deployment.environment,
        "DAGSTER_HOME": str(home),
        "CANARIES": " ".join([*SECRETS, "SALESINTEL_CATALOG_URI"]),
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    notes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    files = {str(path): path.read_bytes().decode("latin-1") for path in home.rglob("*") if path.is_file()}
    assert len(files) > 3
    texts = {"stdout": done.stdout, "stderr": done.stderr, **files}
    return {f"{kind} {name}": rest for kind, name, *rest in notes}, [
        f"{place}: {text[max(at - 200, 0) : at + 40]}" for place, text in texts.items() if (at := text.find(MARK)) >= 0
    ]


def test_failing_jobs_sensors_and_commands_leave_no_secret_behind(deployment: Deployment, tmp_path: Path):
    """I4, F23, H11: what the source, the catalog, the provider and the webhook refuse, for real."""
    deployment.sell()
    notes, leaks = left_behind(deployment, tmp_path)
    assert leaks == []
    assert {name for name, rest in notes.items() if rest == ["True"]} <= {"job sales_ttl_backfill"}
    assert {"command sql SELECT_1", "command tables", "command doctor"} <= {
        name for name, rest in notes.items() if rest == ["1"]
    }
    assert notes["command materialise 2026-11-18"] == ["1"]
    assert f"babbled {deployment.place['host']}" in notes  # of the source's password
    stored = list(deployment.stored())
    # A sale keeps its own words; of our secrets not one is in an item, an object, a message or a metric.
    assert [text for text in stored if MARK in text.replace(f"{MARK}-event", "")] == []
    assert any("Failed" in text and "/heard-" in text for text in stored)
    assert any("'MetricName'" in text for text in stored)


def test_an_error_that_nobody_foresaw_leaves_no_secret_behind(deployment: Deployment, tmp_path: Path):
    """I4, I5: every port raises one with all the secrets in it and in its cause; the words around them stay."""
    notes, leaks = left_behind(deployment, tmp_path, "unforeseen")
    assert leaks == []
    failed = {name for name, rest in notes.items() if rest == ["False"]}
    assert len(failed) == len([name for name in notes if name.startswith("job ")]) > 4
    [told] = notes["sensor carousel_sync_queue"]
    assert "RuntimeError: depth failed: SALESINTEL_KEEPA_KEY=[redacted]" in told
