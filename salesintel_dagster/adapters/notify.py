"""Where alerts go: an SNS topic, a webhook that takes Slack's JSON, or only the log.

A sink sends or raises AlertNotSent within its deadline; it keeps nothing and tries nothing twice. No error text
holds a webhook's path: whoever knows it can post.
"""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import AwsClient, told
from salesintel_dagster.adapters.bounded_reader import BoundedReader, TooManyBytes
from salesintel_dagster.adapters.pinned_sockets import PinnedSockets
from salesintel_dagster.domain.alerts import MAX_SUBJECT_CHARACTERS, WEBHOOK_URL, Alert, AlertSink
from salesintel_dagster.domain.checks import Severity
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import AlertNotSent, ImageRefused, SettingInvalid
from salesintel_dagster.domain.image_urls import DEFAULT_PORTS, ImageUrl

WEBHOOK_DEADLINE_SECONDS = 10.0
"""Resolving, connecting, TLS, sending and the answer's first line together."""
MAX_ANSWER_BYTES = 4096
"""Only the status line is read: the alert has arrived when it says 2xx, however long the rest takes."""
USER_AGENT = "salesintel-dagster/0.1 (+alerts)"

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_SLACK_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""Slack's own rule. Without it a sale id `<!channel>` would call everybody."""

log = logging.getLogger("salesintel.alerts")


class SnsAlerts(AlertSink):
    """Publishes to one topic with a `brief` SNS client. A FIFO topic removes a second copy by the alert's id."""

    def __init__(self, client: AwsClient, topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def send(self, alert: Alert) -> None:
        """Publish the alert. Raises AlertNotSent."""
        once = {"MessageGroupId": "alerts", "MessageDeduplicationId": alert.id}
        try:
            self._client.publish(
                TopicArn=self._topic_arn,
                Subject=_sns_subject(alert.subject),
                Message=alert.text,
                MessageAttributes={
                    "alert_id": {"DataType": "String", "StringValue": alert.id},
                    "severity": {"DataType": "String", "StringValue": alert.severity.value},
                },
                **(once if self._topic_arn.endswith(".fifo") else {}),
            )
        except (ClientError, BotoCoreError) as error:
            raise AlertNotSent(f"SNS topic {self._topic_arn}: {told(error)}") from None


class WebhookAlerts(AlertSink):
    """Posts `{"text": ...}` to one URL: https, or http on this machine. No proxy, no redirect, one deadline."""

    def __init__(
        self,
        url: str,
        *,
        deadline_seconds: float = WEBHOOK_DEADLINE_SECONDS,
        clock: Clock = SYSTEM_CLOCK,
        sockets: PinnedSockets | None = None,
    ) -> None:
        self._target = parse_webhook_url(url)
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._sockets = sockets or PinnedSockets(frozenset({self._target.pair}), clock, are_trusted=True)

    def send(self, alert: Alert) -> None:
        """Post the alert. Raises AlertNotSent, also where no answer came and it may have arrived."""
        with self._translated():
            status = self._posted(alert, self._clock.monotonic() + self._deadline_seconds)
        if status is None:
            raise AlertNotSent(f"webhook at {self._target.pair}: the answer is not HTTP")
        if not 200 <= status < 300:  # noqa: PLR2004 - the statuses that mean success
            raise AlertNotSent(f"webhook at {self._target.pair}: answered {status}")

    def reach(self) -> str:
        """Connect, TLS and all, say nothing and hang up; return host and port. Raises AlertNotSent."""
        with self._translated(), self._sockets.open(self._target, self._clock.monotonic() + self._deadline_seconds):
            return self._target.pair

    @contextmanager
    def _translated(self) -> Iterator[None]:
        host = self._target.pair
        try:
            yield
        except TimeoutError:
            raise AlertNotSent(f"webhook at {host}: no answer within {self._deadline_seconds:g} s") from None
        except ImageRefused as error:
            raise AlertNotSent(f"webhook at {host}: {error.reason}") from None
        except (OSError, TooManyBytes) as error:
            raise AlertNotSent(f"webhook at {host}: {type(error).__name__}") from None

    def _posted(self, alert: Alert, deadline: float) -> int | None:
        with self._sockets.open(self._target, deadline) as connection:
            self._sockets.send(connection, self._request(alert), deadline)
            reader = self._sockets.reader(connection, deadline, MAX_ANSWER_BYTES)
            line = _STATUS_LINE.fullmatch(_first_line(reader))
            return int(line[1]) if line else None

    def _request(self, alert: Alert) -> bytes:
        body = json.dumps({"text": alert.text.translate(_SLACK_ESCAPES)}).encode()
        lines = (
            f"POST {self._target.target} HTTP/1.1",
            f"Host: {self._target.host_header}",
            f"User-Agent: {USER_AGENT}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"Idempotency-Key: {alert.id}",
            "Connection: close",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + body


class LoggedAlerts(AlertSink):
    """Writes one log line an alert: what is left where no sink is configured."""

    def send(self, alert: Alert) -> None:
        """Log the alert."""
        log.log(_LEVELS[alert.severity], "%s", alert.text.replace("\n", " | "))


_LEVELS = {Severity.WARN: logging.WARNING, Severity.ERROR: logging.ERROR}


def parse_webhook_url(url: str) -> ImageUrl:
    """Return the URL's parts. Raises SettingInvalid with the rule and nothing of the URL."""
    found = WEBHOOK_URL.fullmatch(url)
    port = int(found["port"] or 0) if found else 0
    if found is None or port > 65_535:  # noqa: PLR2004 - the highest port
        raise SettingInvalid("the alert webhook: expected https://host[:port]/..., or http on this machine")
    scheme = found["https"] or "http"
    host = found["host"] or found["loopback"]
    return ImageUrl(scheme, host.lower(), port or DEFAULT_PORTS[scheme], found["target"] or "/")


def _first_line(reader: BoundedReader) -> bytes:
    with cast("socket.socket", reader).makefile("rb") as answer:
        return answer.readline()


def _sns_subject(subject: str) -> str:
    """SNS takes printable ASCII only, and at most 99 characters."""
    ascii_only = "".join(char if " " <= char <= "~" else "?" for char in subject)
    return ascii_only[: MAX_SUBJECT_CHARACTERS - 1]
