"""SSE-KMS: what every PutObject of ours carries, and what the bucket does for the files that Arrow writes."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from pyiceberg.catalog import Catalog

from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import AwsClient, AwsClients, AwsTarget
from salesintel_dagster.adapters.catalogs import open_catalog
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.adapters.infrastructure_request import Choices, template
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.adapters.object_store import MULTIPART_BYTES
from salesintel_dagster.commands.deploy import choices_of
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.fakes.export_parts import ALL_CHECKS, FakeExport
from salesintel_dagster_tests.fakes.source import sale_row
from salesintel_dagster_tests.lakes import access_to

KEY = "arn:aws:kms:eu-west-1:123456789012:key/0b5e3c2a-7c1d-4a37-9a53-2f1f6f4b9d11"
ENCRYPTED = ("aws:kms", KEY)
DAY = date(2026, 11, 3)
WRITES = ("PutObject", "CreateMultipartUpload", "CopyObject")


@pytest.fixture
def stage() -> str:
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def settings(stage: str) -> Settings:
    return Settings(stage=stage, kms_key_arn=KEY)


@pytest.fixture
def bucket(aws: AwsClients, settings: Settings) -> str:
    """The template's bucket. The emulator leaves out the template's default encryption: it is put there as it says."""
    deploy(aws, settings.stage, lambda _: None, choices=choices_of(settings))
    aws.client("s3").put_bucket_encryption(
        Bucket=settings.bucket_name, ServerSideEncryptionConfiguration={"Rules": [bucket_default(KEY)]}
    )
    return settings.bucket_name


@pytest.fixture
def catalog(aws_target: AwsTarget, bucket: str, tmp_path: Path) -> Iterator[Catalog]:
    uri, warehouse = f"sqlite:///{tmp_path}/catalog.db", f"s3://{bucket}/pricing-intelligence"
    opened = open_catalog("sql", uri=uri, warehouse=warehouse, access=access_to(aws_target))
    yield opened
    opened.close()


def bucket_default(key: str | None) -> dict[str, Any]:
    """Return the encryption rule of the template's bucket as CloudFormation makes it with `ObjectKeyArn=key`."""

    class Resolved(yaml.SafeLoader):
        pass

    def function(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> object:
        if isinstance(node, yaml.SequenceNode):
            parts = loader.construct_sequence(node, deep=True)
            return parts[1 if key else 2] if name == "If" else parts
        return key if node.value == "ObjectKeyArn" else None

    Resolved.add_multi_constructor("!", function)
    bucket = yaml.load(template(), Resolved)["Resources"]["AnalyticsBucket"]["Properties"]  # noqa: S506 - a SafeLoader
    [rule] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    default = {name: value for name, value in rule.pop("ServerSideEncryptionByDefault").items() if value is not None}
    rest = {name: value for name, value in rule.items() if value is not None}
    return {"ApplyServerSideEncryptionByDefault": default, **rest}


class Seen:
    """Every request by which boto3 makes an object: its key's first name, and its encryption."""

    def __init__(self, s3: AwsClient) -> None:
        self.by_prefix: Counter[str] = Counter()
        self.encryptions: set[tuple[str | None, str | None]] = set()
        for operation in WRITES:
            s3.meta.events.register(f"before-call.s3.{operation}", self._see)

    def _see(self, params: dict[str, Any], **_: object) -> None:
        headers = params["headers"]
        self.encryptions.add(
            (
                headers.get("x-amz-server-side-encryption"),
                headers.get("x-amz-server-side-encryption-aws-kms-key-id"),
            )
        )
        self.by_prefix[params["url_path"].split("?")[0].strip("/").split("/")[0]] += 1


def exported(settings: Settings, aws: AwsClients, catalog: Catalog) -> None:
    """Export a day with a bad row, on the real store and table."""
    world = FakeExport()
    world.sell(DAY, 5)
    world.source.rows.append(sale_row(world.source.rows[0]["sold_at"], 9, sold_price=Decimal("-1.00")))
    world.store = wiring.object_store(settings, aws)  # type: ignore[assignment]
    world.table = IcebergSalesTable(lambda: catalog, SYSTEM_CLOCK)  # type: ignore[assignment]
    world.run(DAY, checks=ALL_CHECKS)


def test_i8_every_put_of_an_export_carries_the_key(aws: AwsClients, settings: Settings, catalog: Catalog):
    """Counted by a hook on every request that makes an object: images, vectors, staged days, quarantine."""
    seen = Seen(aws.client("s3"))
    exported(settings, aws, catalog)
    assert seen.by_prefix == {"images": 5, "embeddings": 5, "staging": 3, "quarantine": 1}
    assert seen.encryptions == {ENCRYPTED}


def test_i8_a_file_in_parts_carries_it_too(aws: AwsClients, settings: Settings, bucket: str, tmp_path: Path):
    with (tmp_path / "large").open("wb") as opened:
        opened.truncate(MULTIPART_BYTES)
    seen = Seen(aws.client("s3"))
    wiring.object_store(settings, aws).put("staging/large", tmp_path / "large", "application/octet-stream")
    assert seen.by_prefix == {"staging": 1}
    assert seen.encryptions == {ENCRYPTED}
    assert _stored(aws.client("s3"), bucket) == {"staging": {ENCRYPTED}}


def test_i8_every_object_of_the_bucket_lies_there_by_the_key_iceberg_s_own_files_too(
    aws: AwsClients, settings: Settings, catalog: Catalog
):
    """Arrow's S3 client cannot name a key: the bucket's default, which the template sets, does it for its files."""
    exported(settings, aws, catalog)
    stored = _stored(aws.client("s3"), settings.bucket_name)
    assert stored.keys() == {"images", "embeddings", "staging", "quarantine", "pricing-intelligence"}
    assert set().union(*stored.values()) == {ENCRYPTED}


def test_without_a_key_no_put_names_one(aws: AwsClients, stage: str):
    plain = Settings(stage=stage)
    deploy(aws, stage, lambda _: None, choices=choices_of(plain))
    seen = Seen(aws.client("s3"))
    wiring.object_store(plain, aws).put("staging/a", b"x", "text/plain")
    assert seen.encryptions == {(None, None)}
    assert bucket_default(None) == {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}


def test_a_key_that_is_set_later_reaches_the_stack_by_the_next_deploy(aws: AwsClients, stage: str):
    assert "ObjectKeyPolicy" not in deploy(aws, stage, lambda _: None).resources
    assert "ObjectKeyPolicy" in deploy(aws, stage, lambda _: None, choices=Choices(object_key_arn=KEY)).resources
    [stack] = aws.client("cloudformation").describe_stacks(StackName=f"salesintel-{stage}")["Stacks"]
    given = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack["Parameters"]}
    assert given["ObjectKeyArn"] == KEY


@pytest.mark.parametrize("key", ["alias/mine", "0b5e3c2a-7c1d-4a37-9a53-2f1f6f4b9d11", "arn:aws:s3:::bucket", ""])
def test_a_key_is_named_by_its_arn(key: str):
    """The template's policy names the same key, which only an ARN does."""
    with pytest.raises(ValidationError, match="kms_key_arn"):
        Settings(kms_key_arn=key)


def _stored(s3: AwsClient, bucket: str) -> dict[str, set[tuple[str, str | None]]]:
    """Return the encryptions that S3 tells of its objects, by the first name of their keys."""
    found: dict[str, set[tuple[str, str | None]]] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page["Contents"]:
            head = s3.head_object(Bucket=bucket, Key=item["Key"])
            encryption = (head.get("ServerSideEncryption"), head.get("SSEKMSKeyId"))
            found.setdefault(item["Key"].split("/")[0], set()).add(encryption)
    return found
