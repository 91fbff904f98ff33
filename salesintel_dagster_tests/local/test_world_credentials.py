"""K8: a user's real AWS stays out of the embedded world: neither used nor sent, by no variable and no file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from salesintel_dagster_tests.local.held_worlds import ROOT, eventually, holders

pytestmark = [pytest.mark.world, pytest.mark.timeout(60)]

SECRETS = ("AKIAIOSFODNN7REALKEY", "real-secret-access-key", "real-session-token", "real-bearer-token")


class Spy:
    """A listener that counts who comes by: a proxy or an endpoint of the user's that nobody may use."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.visits = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.visits += 1
            connection.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def spy() -> Iterator[Spy]:
    opened = Spy()
    yield opened
    opened.close()


def real_aws(folder: Path, spy: Spy) -> dict[str, str]:
    """What a person who works with AWS may have around: every way of boto3 to find credentials and endpoints."""
    key, secret, token, bearer = SECRETS
    config = folder / "config"
    config.write_text(
        f"[default]\nregion = us-west-2\nendpoint_url = {spy.url}\n"
        f"[profile prod]\nregion = us-west-2\nendpoint_url = {spy.url}\nservices = mine\n"
        f"[services mine]\ns3 =\n  endpoint_url = {spy.url}\n"
    )
    credentials = folder / "credentials"
    credentials.write_text(
        f"[prod]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\naws_session_token = {token}\n"
    )
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_SESSION_TOKEN": token,
        "AWS_SECURITY_TOKEN": token,
        "AWS_BEARER_TOKEN_BEDROCK": bearer,
        "AWS_PROFILE": "prod",
        "AWS_DEFAULT_PROFILE": "prod",
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_REGION": "us-west-2",
        "SALESINTEL_KEEPA_KEY": secret,
        "AWS_ENDPOINT_URL": spy.url,
        "AWS_ENDPOINT_URL_S3": spy.url,
        "AWS_ENDPOINT_URL_SSM": spy.url,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z",
        "HTTP_PROXY": spy.url,
        "http_proxy": spy.url,
        "HTTPS_PROXY": spy.url,
        "no_proxy": "example.org",
    }


def test_the_users_own_credentials_and_endpoints_are_neither_used_nor_sent(tmp_path: Path, spy: Spy):
    """K8"""
    theirs = real_aws(tmp_path, spy)
    with holders() as starter:
        held = starter.start(tmp_path / "world", theirs)
        inside = [child.environ() for child in held.children if "-m" in child.cmdline()]
        caller = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("aws_caller.py")), "local-titan-embed-image-v1"],
            env=os.environ | theirs | held.environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert held.stop() == 0
    requests = [json.loads(line) for line in caller.stdout.splitlines()]
    ours = (held.environment["AWS_ENDPOINT_URL"], held.environment["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"])
    assert len(requests) == 4, caller.stderr
    assert all(request["url"].startswith(ours) for request in requests)
    assert not [secret for secret in SECRETS if secret in caller.stdout + str(inside)]
    assert "Credential=000000000000/" in requests[0]["headers"]["Authorization"]
    assert len(inside) == 4
    assert held.environment["SALESINTEL_KEEPA_KEY"] == "embedded-world"
    assert spy.visits == 0


def test_the_spy_sees_who_uses_the_users_own_endpoint(tmp_path: Path, spy: Spy):
    """The test above can fail: without the world's environment the same caller goes to the spy."""
    script = "import boto3; boto3.client('s3').list_buckets()"
    environment = os.environ | real_aws(tmp_path, spy) | {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false"}
    environment |= {"AWS_USE_FIPS_ENDPOINT": "false", "AWS_MAX_ATTEMPTS": "1", "no_proxy": "127.0.0.1"}
    del environment["AWS_CREDENTIAL_EXPIRATION"]
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    eventually(lambda: spy.visits, f"a visit; {done.stderr[-300:]}", deadline_seconds=5)
