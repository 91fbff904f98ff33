"""The environment that points settings and boto3 at the embedded world, and keeps the user's own AWS out of it.

Strings only, so that it is also what `os.environ.update` needs: what has to be absent is overlaid with a value that
has no effect, and only where the user has it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from salesintel_dagster.local.emulator import ACCOUNT
from salesintel_dagster.local.ports import LOOPBACK
from salesintel_dagster.local.postgres import SUPERUSER
from salesintel_dagster.local.titan_server import DEFAULT_MODEL_ID
from salesintel_dagster.local.world_files import Memory

REGION = "eu-west-1"
BEDROCK_REGION = "us-east-1"
"""Pinned: the emulator keeps state by region, and a user's AWS_REGION is about another world."""
CATALOG_DATABASE = "catalog"
SMARTGO_DATABASE = "smartgo"

WITHOUT_EFFECT = {
    "AWS_ACCOUNT_ID": ACCOUNT,
    "AWS_AUTH_SCHEME_PREFERENCE": "sigv4",
    "AWS_CREDENTIAL_EXPIRATION": "9999-12-31T23:59:59Z",
    "AWS_DEFAULT_PROFILE": "default",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
    "AWS_PROFILE": "default",
    "AWS_ROLE_ARN": "",
    "AWS_SECURITY_TOKEN": "",
    "AWS_SESSION_TOKEN": "",
    "AWS_USE_DUALSTACK_ENDPOINT": "false",
    "AWS_USE_FIPS_ENDPOINT": "false",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "",
}
BEARER = re.compile(r"AWS_BEARER_TOKEN_[A-Z0-9_]+")
SERVICE_ENDPOINT = re.compile(r"AWS_ENDPOINT_URL_[A-Z0-9_]+")


def overlay(memory: Memory, home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set over `environment`."""
    endpoint = f"http://{LOOPBACK}:{memory.ports['emulator']}"
    neutral = {name: value for name, value in WITHOUT_EFFECT.items() if name in environment}
    neutral |= {name: "embedded-world" for name in environment if BEARER.fullmatch(name)}
    neutral |= {name: endpoint for name in environment if SERVICE_ENDPOINT.fullmatch(name)}
    return neutral | _proxies(environment) | _aws(memory, home, endpoint) | _ours(memory, home)


@contextmanager
def overlaid(environment: Mapping[str, str]) -> Iterator[None]:
    """Have `environment` over the process environment for a while."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def write_aws_files(home: Path) -> None:
    """Write the AWS client's files that `overlay` names: a default profile, and no credentials."""
    folder = home / "aws-client"
    (folder / "config").write_text(f"[default]\nregion = {REGION}\n")
    (folder / "credentials").write_text("")


def _aws(memory: Memory, home: Path, endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": f"http://{LOOPBACK}:{memory.ports['titan']}",
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "embedded-world",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": str(home / "aws-client" / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "aws-client" / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        # The emulator computes CRC64NVME in pure Python: 1.8 s for a 20 MB upload from Arrow, 0.1 s without.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED",
        "BEDROCK_REGION": BEDROCK_REGION,
    }


def _ours(memory: Memory, home: Path) -> dict[str, str]:
    catalog = f"{SUPERUSER}:{memory.password}@{LOOPBACK}:{memory.ports['postgres']}/{CATALOG_DATABASE}"
    return {
        "SALESINTEL_MODE": "embedded",
        "SALESINTEL_HOME": str(home),
        "SALESINTEL_WORLD": memory.world_id,
        "SALESINTEL_CATALOG_URI": f"postgresql+psycopg://{catalog}",
        "SALESINTEL_EMBEDDING_MODEL": DEFAULT_MODEL_ID,
        "SALESINTEL_IMAGE_HOSTS_ALLOWED": f"{LOOPBACK}:{memory.ports['images']}",
        "SALESINTEL_KEEPA_URL": f"http://{LOOPBACK}:{memory.ports.get('provider', 0)}",
        "SALESINTEL_KEEPA_KEY": "embedded-world",
        "DAGSTER_HOME": str(home / "dagster"),
    }


def _proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Loopback is never asked for through a proxy, whatever proxies the user has."""
    direct = f"{LOOPBACK},localhost"
    names = [name for name in ("NO_PROXY", "no_proxy") if environment.get(name)] or ["NO_PROXY"]
    return {name: ",".join(filter(None, (environment.get(name), direct))) for name in names}
