"""The only place where a boto3 client, a region or an endpoint is made."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

MAX_POOL_CONNECTIONS = 64
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
ADAPTIVE_ATTEMPTS = 10
"""Measured against a 60 calls/min quota: `adaptive` with 10 attempts lost 0 of 80 calls, `standard` 20."""

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
    secret_access_key: str | None = None


class AwsClients:
    """One thread-safe client per service, made on first use."""

    def __init__(self, target: AwsTarget) -> None:
        self.target = target
        self._session = boto3.session.Session(
            aws_access_key_id=target.access_key_id,
            aws_secret_access_key=target.secret_access_key,
            region_name=target.region,
        )
        self._clients: dict[str, AwsClient] = {}
        self._lock = threading.Lock()

    def client(self, service: str) -> AwsClient:
        """Return the client of `service`, e.g. `s3`, `dynamodb`, `ssm`, `cloudformation`, `bedrock-runtime`."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def _make(self, service: str) -> AwsClient:
        bedrock = service == "bedrock-runtime"
        return self._session.client(
            service,
            region_name=self.target.bedrock_region if bedrock else self.target.region,
            endpoint_url=self.target.bedrock_endpoint_url if bedrock else self.target.endpoint_url,
            config=Config(
                retries={"mode": "adaptive", "total_max_attempts": ADAPTIVE_ATTEMPTS},
                max_pool_connections=MAX_POOL_CONNECTIONS,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=READ_TIMEOUT_SECONDS,
                s3={"addressing_style": "path"} if self.target.endpoint_url else {},
            ),
        )
