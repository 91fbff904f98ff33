"""How the sync's queues stand, asked of SQS and CloudWatch; each attribute of the design set wrong in turn."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.adapters.queue_states import AGE_METRIC, SqsEventQueueWatch
from salesintel_dagster.doctor.events import checks
from salesintel_dagster.doctor.patient import Patient
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.diagnosis import Finding
from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.domain.event_queue import QueueDepth
from salesintel_dagster.domain.event_queues import EventQueueStates, misfits
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring.event_checks import event_queue_watch
from salesintel_dagster_tests.fakes.event_queues import EMPTY, state
from salesintel_dagster_tests.services import Services

LEAST = timedelta(seconds=30)


class Stage:
    """The template deployed, and a way to change a queue's attributes by hand."""

    def __init__(self, clients: AwsClients) -> None:
        self.clients = clients
        self.settings = Settings(stage=f"t{secrets.token_hex(4)}")
        deploy(clients, self.settings.stage, lambda _line: None)
        self.sqs = clients.client("sqs")
        self.names = (
            self.settings.event_queue_name,
            self.settings.event_dlq_name,
            self.settings.event_quarantine_name,
        )

    def set(self, queue: str, **attributes: str) -> None:
        url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)

    def send(self, queue: str) -> None:
        self.sqs.send_message(QueueUrl=self.sqs.get_queue_url(QueueName=queue)["QueueUrl"], MessageBody="{}")

    def look(self) -> EventQueueStates:
        return event_queue_watch(self.settings, self.clients).look()

    def doctor(self) -> Finding:
        [check] = checks(Patient(self.settings, self.clients, {}))
        return check.ask()


@pytest.fixture(scope="module")
def stage(services: Services) -> Stage:
    return Stage(AwsClients(services.aws.new_target()))


def test_the_template_contradicts_nothing_and_the_doctor_is_content(stage: Stage):
    """F18"""
    states = stage.look()
    assert list(misfits(states, LEAST)) == []
    assert (states.queue.retention, states.dead_letters.retention) == (timedelta(days=4), timedelta(days=14))
    assert (states.queue.dead_letters, states.queue.most_receives) == (stage.names[1], 5)
    assert states.oldest.seconds == 0
    assert (stage.doctor().health.value, stage.doctor().found) == (
        "ok",
        f"{stage.names[0]}: 0 events wait, 0 are at work; no dead letter, none in quarantine",
    )


@pytest.mark.parametrize(
    "queue, attribute, wrong, told",
    [
        (0, "MessageRetentionPeriod", "345599", "keeps messages for 3.99999 d, expected 4 d: then SQS drops them"),
        (1, "MessageRetentionPeriod", "345600", "keeps messages for 4 d, expected 14 d: then SQS drops them"),
        (2, "MessageRetentionPeriod", "345600", "keeps messages for 4 d, expected 14 d: then SQS drops them"),
        (0, "VisibilityTimeout", "29", "shows a message again after 29 s, expected at least 120 s"),
        (0, "RedrivePolicy", "", "has no redrive policy"),
    ],
)
def test_f18_a_wrong_attribute_is_a_warning_of_the_doctor(
    stage: Stage, queue: int, attribute: str, wrong: str, told: str
):
    name = stage.names[queue]
    url = stage.sqs.get_queue_url(QueueName=name)["QueueUrl"]
    before = stage.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[attribute])["Attributes"][attribute]
    stage.set(name, **{attribute: wrong})
    try:
        found = stage.doctor()
    finally:
        stage.set(name, **{attribute: before})
    assert found.health.value == "warn"
    assert f"{name} {told}" in found.found
    assert stage.doctor().health.value == "ok"


def test_f18_dead_letters_that_nobody_watches_and_one_receive_alone_are_told():
    fine = EventQueueStates(state(), state("dlq", days=14), state("quarantine", days=14), None)  # type: ignore[arg-type]
    other = EventQueueStates(state(dead_letters="theirs"), fine.dead_letters, fine.quarantine, fine.oldest)
    once = EventQueueStates(state(most_receives=1), fine.dead_letters, fine.quarantine, fine.oldest)
    assert list(misfits(fine, LEAST)) == []
    assert list(misfits(other, LEAST)) == ["events sends dead letters to theirs; dlq is the one that is watched"]
    assert list(misfits(once, LEAST)) == ["events gives up after 1 receive: one crash makes a dead letter"]
    assert fine.queue.depth == EMPTY
    as_long = EventQueueStates(state(days=14), fine.dead_letters, fine.quarantine, fine.oldest)
    assert [told.partition(":")[0] for told in misfits(as_long, LEAST)] == [
        "dlq keeps messages for 14 d, events for 14 d"
    ]


def test_depths_are_told_and_no_message_is_received_for_them(stage: Stage):
    received: list[str] = []
    stage.sqs.meta.events.register("before-call.sqs.ReceiveMessage", lambda **_: received.append("received"))
    for queue in stage.names:
        stage.send(queue)
    states = stage.look()
    assert {states.queue.depth, states.dead_letters.depth, states.quarantine.depth} == {QueueDepth(1, 0, 0)}
    assert received == []
    assert stage.doctor().found.endswith("1 dead letters, 1 in quarantine")
    for queue in stage.names:
        stage.sqs.purge_queue(QueueUrl=stage.sqs.get_queue_url(QueueName=queue)["QueueUrl"])


class TestTheAge:
    """F26"""

    @pytest.fixture
    def watch(self, aws: AwsClients) -> SqsEventQueueWatch:
        sqs = aws.client("sqs")
        url = sqs.create_queue(QueueName=f"aged-{secrets.token_hex(4)}")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="{}")
        name = url.rpartition("/")[2]
        self.cloudwatch = aws.client("cloudwatch", brief=True)
        self.asked: list[dict[str, object]] = []
        self.cloudwatch.meta.events.register(
            "provide-client-params.cloudwatch.GetMetricStatistics", lambda params, **_: self.asked.append(params)
        )
        self.name = name
        return SqsEventQueueWatch(sqs, self.cloudwatch, (name, name, name), SYSTEM_CLOCK)

    def test_it_is_cloudwatchs_newest(self, watch: SqsEventQueueWatch):
        now = datetime.now(UTC)
        points = [{"Timestamp": now - timedelta(minutes=n), "Maximum": 60.0 * n} for n in (3, 1, 2)]
        self.cloudwatch.meta.events.register(
            "after-call.cloudwatch.GetMetricStatistics", lambda parsed, **_: parsed.update(Datapoints=points)
        )
        oldest = watch.look().oldest
        assert (oldest.seconds, oldest.told) == (60.0, "as CloudWatch tells")
        [asked] = self.asked
        assert (asked["Namespace"], asked["MetricName"]) == ("AWS/SQS", AGE_METRIC)
        assert asked["Dimensions"] == [{"Name": "QueueName", "Value": self.name}]

    def test_a_cloudwatch_that_knows_nothing_leaves_it_unknown(self, watch: SqsEventQueueWatch):
        assert watch.look().oldest.seconds is None
        assert "has no ApproximateAgeOfOldestMessage" in watch.look().oldest.told

    def test_a_cloudwatch_that_is_gone_keeps_nobody_from_looking(self, watch: SqsEventQueueWatch):
        def gone(**_: object) -> None:
            raise EndpointConnectionError(endpoint_url="nowhere")

        self.cloudwatch.meta.events.register("before-send.cloudwatch.GetMetricStatistics", gone)
        states = watch.look()
        assert states.queue.depth.waiting == 1
        assert states.oldest.told == f"age unknown: {AGE_METRIC} of CloudWatch: EndpointConnectionError"


def test_f19_a_queue_that_is_missing_is_named(aws: AwsClients):
    watch = event_queue_watch(Settings(stage="never"), aws)
    with pytest.raises(QueueUnavailable, match=r"queue carousel-sync-never: .*NonExistentQueue"):
        watch.look()
    [check] = checks(Patient(Settings(stage="never"), aws, {}))
    with pytest.raises(QueueUnavailable, match="carousel-sync-never"):
        check.ask()


def test_f19_a_role_that_may_not_look_is_told_what_it_lacks(aws: AwsClients, stage: Stage):
    def denied(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetQueueUrl")

    aws.client("sqs").meta.events.register("before-call.sqs.GetQueueUrl", denied)
    [check] = checks(Patient(stage.settings, aws, {}))
    found = check.ask()
    assert (found.health.value, "AccessDenied" in found.found) == ("warn", True)
    assert "let the role of the sync do sqs:GetQueueUrl and sqs:GetQueueAttributes" in found.remedy
