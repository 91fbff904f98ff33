"""J10: the sinks, each against a service that is well, and against one that is not."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.adapters.notify import LoggedAlerts, SnsAlerts, WebhookAlerts, parse_webhook_url
from salesintel_dagster.adapters.pinned_sockets import PinnedSockets
from salesintel_dagster.domain.alerts import Alert, AlertSink
from salesintel_dagster.domain.checks import Severity
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import AlertNotSent, SettingInvalid
from salesintel_dagster_tests.fakes.alerts import InMemoryAlerts
from salesintel_dagster_tests.fakes.webhook import OK, WebhookServer, status, webhook_server

ALERT = Alert("check-12", Severity.ERROR, "ERROR smartgo_sales", "ERROR smartgo_sales\nfound: 149 \N{EURO SIGN}")
DEADLINE = 0.5
ON_TIME = 1.0


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with webhook_server() as running:
        yield running


class SnsTopic:
    """A topic of the emulator with a queue behind it."""

    def __init__(self, aws: AwsClients, name: str = "alerts") -> None:
        self._sqs = aws.client("sqs")
        self.client = aws.client("sns", brief=True)
        self.arn: str = self.client.create_topic(Name=name)["TopicArn"]
        self._queue: str = self._sqs.create_queue(QueueName="told")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        self.client.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=arn)

    def received(self) -> list[dict[str, Any]]:
        got = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        return [json.loads(message["Body"]) for message in got.get("Messages", [])]


Port = tuple[AlertSink, Callable[[], list[str]]]


@pytest.fixture(params=["memory", "webhook", "sns"])
def port(request: pytest.FixtureRequest) -> Port:
    """Return a sink, and what it was sent."""
    if request.param == "memory":
        fake = InMemoryAlerts()
        return fake, lambda: [alert.text for alert in fake.sent]
    if request.param == "webhook":
        hook: WebhookServer = request.getfixturevalue("server")
        return WebhookAlerts(hook.url), lambda: hook.posted
    topic = SnsTopic(request.getfixturevalue("aws"))
    return SnsAlerts(topic.client, topic.arn), lambda: [message["Message"] for message in topic.received()]


def test_every_sink_hands_over_the_text_once(port: Port):
    sink, sent = port
    sink.send(ALERT)
    assert sent() == [ALERT.text]


@pytest.fixture(params=["memory", "webhook", "sns"])
def dead_port(request: pytest.FixtureRequest) -> AlertSink:
    if request.param == "memory":
        return InMemoryAlerts(down=True)
    if request.param == "webhook":
        return WebhookAlerts(f"http://127.0.0.1:{_closed_port()}/canary")
    gone = replace(AwsTarget("eu-west-1", "us-east-1"), endpoint_url=f"http://127.0.0.1:{_closed_port()}")
    return SnsAlerts(AwsClients(gone).client("sns", brief=True), "arn:aws:sns:eu-west-1:123456789012:alerts")


def test_every_sink_that_is_down_says_so_within_seconds(dead_port: AlertSink):
    """J10"""
    began = time.monotonic()
    with pytest.raises(AlertNotSent) as refused:
        dead_port.send(ALERT)
    assert time.monotonic() - began < 5
    assert "canary" not in str(refused.value)


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class TestSns:
    def test_the_message_has_a_subject_a_severity_and_the_alerts_id(self, aws: AwsClients):
        topic = SnsTopic(aws)
        subject = "WARN \N{EURO SIGN} \x00" + "x" * 200
        SnsAlerts(topic.client, topic.arn).send(replace(ALERT, subject=subject))
        [message] = topic.received()
        assert message["Subject"] == ("WARN ? ?" + "x" * 200)[:99]
        assert message["MessageAttributes"]["alert_id"]["Value"] == "check-12"
        assert message["MessageAttributes"]["severity"]["Value"] == "ERROR"

    def test_a_fifo_topic_is_given_the_id_so_that_it_drops_a_second_copy(self, aws: AwsClients):
        client = aws.client("sns", brief=True)
        asked: list[dict[str, Any]] = []
        client.meta.events.register("provide-client-params.sns.Publish", lambda params, **_: asked.append(params))
        arn = client.create_topic(Name="alerts.fifo", Attributes={"FifoTopic": "true"})["TopicArn"]
        SnsAlerts(client, arn).send(ALERT)
        assert asked[0]["MessageDeduplicationId"] == "check-12"

    def test_a_topic_that_is_not_there_is_named(self, aws: AwsClients):
        arn = "arn:aws:sns:eu-west-1:123456789012:nowhere"
        with pytest.raises(AlertNotSent, match=rf"SNS topic {arn}: \w+ \(HTTP 4"):
            SnsAlerts(aws.client("sns", brief=True), arn).send(ALERT)


class TestWebhook:
    def test_it_posts_slacks_json_with_the_alerts_id(self, server: WebhookServer):
        WebhookAlerts(server.url).send(replace(ALERT, text="a <!channel> & b > c"))
        assert server.posted == ["a &lt;!channel&gt; &amp; b &gt; c"]
        head = server.heads[0].split("\r\n")
        assert head[0] == "POST /hooks/canary-path?key=canary-key HTTP/1.1"
        assert {f"Host: 127.0.0.1:{server.port}", "Content-Type: application/json", "Idempotency-Key: check-12"} < set(
            head
        )

    @pytest.mark.parametrize(
        "line", ["500 Internal Server Error", "404 Not Found", "429 Slow Down", "302 Found", "199 X"]
    )
    def test_any_answer_but_2xx_is_not_sent(self, server: WebhookServer, line: str):
        """J10"""
        server.script = [status(line)]
        with pytest.raises(AlertNotSent, match=f"127.0.0.1:{server.port}: answered {line[:3]}"):
            WebhookAlerts(server.url).send(ALERT)

    @pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200", b"x" * 100_000])
    def test_what_is_not_http_is_not_sent(self, server: WebhookServer, answer: bytes):
        server.script = [answer]
        with pytest.raises(AlertNotSent, match="webhook at 127"):
            WebhookAlerts(server.url).send(ALERT)

    @pytest.mark.parametrize("how", ["silence", "drip"])
    def test_a_silent_or_dripping_server_costs_the_deadline_and_no_more(self, server: WebhookServer, how: str):
        """J10"""
        server.script = [server.silence if how == "silence" else server.drip(OK, 0.1)]
        began = time.monotonic()
        with pytest.raises(AlertNotSent, match=r"no answer within 0\.5 s") as refused:
            WebhookAlerts(server.url, deadline_seconds=DEADLINE).send(ALERT)
        assert DEADLINE <= time.monotonic() - began < ON_TIME
        assert "canary" not in str(refused.value)

    def test_a_server_that_never_reads_costs_the_deadline_too(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            sink = WebhookAlerts(f"http://127.0.0.1:{listener.getsockname()[1]}/x", deadline_seconds=DEADLINE)
            with pytest.raises(AlertNotSent, match="no answer"):
                sink.send(replace(ALERT, text="x" * 10_000_000))

    def test_an_alert_has_arrived_when_the_status_says_so_however_slow_the_rest_is(self, server: WebhookServer):
        """J10: sent again because of a slow body, it would be doubled."""
        server.script = [lambda connection: (connection.sendall(b"HTTP/1.1 200 OK\r\n"), server.silence(connection))[1]]
        WebhookAlerts(server.url, deadline_seconds=DEADLINE).send(ALERT)

    def test_a_name_that_does_not_resolve_or_never_answers_is_not_sent(self, server: WebhookServer):
        def nowhere(host: str, port: int) -> list[str]:  # noqa: ARG001 - the resolver's form
            raise socket.gaierror(socket.EAI_NONAME, "canary")

        def hangs(host: str, port: int) -> list[str]:  # noqa: ARG001 - the resolver's form
            server.stop.wait(10)
            return []

        for resolve, said in ((nowhere, "gaierror"), (hangs, "no answer")):
            sockets = PinnedSockets(frozenset({"h.example.com:443"}), SYSTEM_CLOCK, resolve=resolve)
            sink = WebhookAlerts("https://h.example.com/canary", deadline_seconds=DEADLINE, sockets=sockets)
            with pytest.raises(AlertNotSent, match=said) as refused:
                sink.send(ALERT)
            assert "canary" not in str(refused.value)

    def test_an_https_webhook_is_not_posted_to_without_tls(self, server: WebhookServer):
        pair = f"h.example.com:{server.port}"
        sockets = PinnedSockets(
            frozenset({pair}), SYSTEM_CLOCK, resolve=lambda *_: ["127.0.0.1"], tls=ssl.create_default_context()
        )
        with pytest.raises(AlertNotSent):
            WebhookAlerts(f"https://{pair}/x", deadline_seconds=DEADLINE, sockets=sockets).send(ALERT)
        assert server.posted == []

    def test_a_name_that_leads_to_the_clouds_metadata_is_refused(self):
        sockets = PinnedSockets(frozenset({"h.example.com:443"}), SYSTEM_CLOCK, resolve=lambda *_: ["169.254.169.254"])
        with pytest.raises(AlertNotSent, match="not public"):
            WebhookAlerts("https://h.example.com/x", sockets=sockets).send(ALERT)

    @pytest.mark.parametrize(
        "url", ["http://hooks.example.com/canary", "https://u:canary@h/x", "https://h:99999/canary"]
    )
    def test_a_url_that_is_not_https_is_refused_without_being_told(self, url: str):
        with pytest.raises(SettingInvalid, match="expected https") as refused:
            parse_webhook_url(url)
        assert "canary" not in str(refused.value)


def test_where_there_is_no_sink_an_alert_is_one_log_line(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        LoggedAlerts().send(ALERT)
        LoggedAlerts().send(replace(ALERT, severity=Severity.WARN))
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert caplog.records[0].getMessage() == "ERROR smartgo_sales | found: 149 \N{EURO SIGN}"
