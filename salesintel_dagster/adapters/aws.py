"""The only place where a boto3 client, a region or an endpoint is made."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.domain.errors import SettingInvalid

MAX_POOL_CONNECTIONS = 272
"""256 embedding calls at once and their cache's puts: a smaller pool throws connections away."""
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
MODEL_READ_TIMEOUT_SECONDS = 15
"""An embedding takes 0.15 s. botocore asks 10 times after a timeout too: a hung image holds its slot 10 x this."""
ADAPTIVE_ATTEMPTS = 10
"""Measured against a 60 calls/min quota: `adaptive` with 10 attempts lost 0 of 80 calls, `standard` 20."""

BRIEF_ATTEMPTS = 2
BRIEF_TIMEOUT_SECONDS = 5
"""For what may be lost (progress): a service that is gone costs a write 10 s at most. Ten attempts cost 55 s."""

DENIED = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403"})
"""Each service has its own word for: this role may not. Trying again at once is in vain."""

AwsClient = Any
"""boto3 builds its clients at run time and publishes no types."""


@dataclass(frozen=True, slots=True)
class AwsTarget:
    """Where AWS is. Endpoints are None on AWS itself; credentials come from boto3's own chain unless given."""

    region: str
    bedrock_region: str
    endpoint_url: str | None = None
    bedrock_endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)


class AwsClients:
    """One thread-safe client per service, made on first use."""

    def __init__(self, target: AwsTarget) -> None:
        self.target = target
        self._session = boto3.session.Session(
            aws_access_key_id=target.access_key_id,
            aws_secret_access_key=target.secret_access_key,
            region_name=target.region,
        )
        self._clients: dict[tuple[str, bool], AwsClient] = {}
        self._lock = threading.Lock()

    def client(self, service: str, *, brief: bool = False) -> AwsClient:
        """Return the client of `service`, e.g. `s3`, `dynamodb`, `ssm`, `cloudformation`, `bedrock-runtime`.

        A `brief` one gives up within seconds: for calls that nothing may wait for.
        """
        with self._lock:
            if (service, brief) not in self._clients:
                self._clients[service, brief] = self._make(service, brief=brief)
            return self._clients[service, brief]

    def credentials(self) -> ReadOnlyCredentials:
        """Return the keys that the clients sign with, for libraries that sign for themselves (Arrow's S3)."""
        found = self._session.get_credentials()
        if found is None:
            raise SettingInvalid("AWS credentials: none found; set AWS_ACCESS_KEY_ID or a role")
        return found.get_frozen_credentials()

    def _make(self, service: str, *, brief: bool) -> AwsClient:
        bedrock = service == "bedrock-runtime"
        patience = MODEL_READ_TIMEOUT_SECONDS if bedrock else READ_TIMEOUT_SECONDS
        return self._session.client(
            service,
            region_name=self.target.bedrock_region if bedrock else self.target.region,
            endpoint_url=self.target.bedrock_endpoint_url if bedrock else self.target.endpoint_url,
            config=Config(
                retries={
                    "mode": "adaptive",
                    "total_max_attempts": BRIEF_ATTEMPTS if brief else ADAPTIVE_ATTEMPTS,
                },
                max_pool_connections=MAX_POOL_CONNECTIONS,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=BRIEF_TIMEOUT_SECONDS if brief else patience,
                s3={"addressing_style": "path"} if self.target.endpoint_url else {},
            ),
        )


class BriefAwsClients(AwsClients):
    """Clients that all give up within seconds: for questions that a person waits for."""

    def client(self, service: str, *, brief: bool = True) -> AwsClient:  # noqa: ARG002 - always
        """Return the brief client of `service`."""
        return super().client(service, brief=True)


def told(error: ClientError | BotoCoreError | Boto3Error) -> str:
    """Say what AWS answered in words fit for a log: code, HTTP status and request id, nothing of what was sent."""
    inner = error.__context__ if isinstance(error, Boto3Error) else error
    if not isinstance(inner, ClientError):
        return type(inner or error).__name__
    metadata = inner.response.get("ResponseMetadata", {})
    request = metadata.get("RequestId", "none")
    return f"{code_of(inner)} (HTTP {metadata.get('HTTPStatusCode', '?')}, request {request})"


def code_of(error: ClientError) -> str:
    """Return AWS's own word for the error, e.g. `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", "Unknown"))
