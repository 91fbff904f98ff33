"""What `salesintel doctor` asks of AWS itself: who we are, whether a store is there and is ours, without changing it.

Each probe asks with no permission beyond what the export has, but for `bucket_key`, `expiry_attribute` and
`topic_exists`, which say None where the caller may not ask. Give them brief clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import DENIED, AwsClient, code_of, told
from salesintel_dagster.domain.errors import AwsRefused

MISSING = frozenset({"NoSuchBucket", "404", "NotFound", "NotFoundException", "ResourceNotFoundException"})
NEVER = "attribute_exists(PK) AND attribute_not_exists(PK)"
"""A condition that no item meets: a put under it is judged by IAM and writes nothing."""
PROBE_KEY = "DOCTOR#PROBE"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom AWS takes us for, and what its clock said (None where it sent no Date)."""

    account: str
    arn: str
    told_at: datetime | None


def caller(sts: AwsClient) -> Caller:
    """Return who the credentials are; every caller may ask. Raises AwsRefused."""
    with translated("credentials"):
        answer = sts.get_caller_identity()
        return Caller(answer["Account"], answer["Arn"], date_of(answer))


def date_of(answer: Any) -> datetime | None:  # noqa: ANN401 - botocore's answers have no type
    """Return the Date header of an answer, also of a refusal's (`error.response`)."""
    text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None


def bucket_region(s3: AwsClient, bucket: str) -> str | None:
    """Return the region that a bucket lies in, by s3:ListBucket. Raises AwsRefused."""
    with translated(f"bucket {bucket}"):
        region = s3.head_bucket(Bucket=bucket).get("BucketRegion")
        return str(region) if region else None


def check_key(dynamodb: AwsClient, table: str, attributes: tuple[str, ...]) -> None:
    """Require that the table's key is these text attributes, by dynamodb:GetItem. Raises AwsRefused."""
    with translated(f"table {table}"):
        dynamodb.get_item(TableName=table, Key={name: {"S": PROBE_KEY} for name in attributes})


def check_put(dynamodb: AwsClient, table: str, attributes: tuple[str, ...]) -> None:
    """Require that items may be put, by a dynamodb:PutItem that writes nothing. Raises AwsRefused."""
    item = {name: {"S": PROBE_KEY} for name in attributes}
    with translated(f"table {table}: put"):
        try:
            dynamodb.put_item(TableName=table, Item=item, ConditionExpression=NEVER)
        except ClientError as error:
            if code_of(error) != "ConditionalCheckFailedException":
                raise


def expiry_attribute(dynamodb: AwsClient, table: str) -> str | None:
    """Return the attribute that items expire by, empty where they do not; None where we may not ask."""
    try:
        with translated(f"table {table}: expiry"):
            described = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    except AwsRefused as refused:
        if refused.code in DENIED:
            return None
        raise
    on = described.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
    return str(described.get("AttributeName", "")) if on else ""


def topic_exists(sns: AwsClient, arn: str) -> bool | None:
    """Tell whether a topic is there; None where we may not ask (sns:GetTopicAttributes)."""
    try:
        with translated(f"topic {arn}"):
            sns.get_topic_attributes(TopicArn=arn)
    except AwsRefused as refused:
        if refused.code in DENIED:
            return None
        if refused.code in MISSING:
            return False
        raise
    return True


def bucket_key(s3: AwsClient, bucket: str) -> str | None:
    """Return the KMS key by which a bucket encrypts what names none, empty for S3's own; None where we may not ask."""
    try:
        with translated(f"bucket {bucket}: encryption"):
            configured = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    except AwsRefused as refused:
        if refused.code in DENIED:
            return None
        raise
    return str(configured[0]["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID", ""))


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what boto3 raises into AwsRefused, with AWS's code and nothing of what was sent."""
    try:
        yield
    except ClientError as error:
        raise AwsRefused(f"{what}: {told(error)}", code_of(error), date_of(error.response)) from None
    except BotoCoreError as error:
        raise AwsRefused(f"{what}: {told(error)}", type(error).__name__) from None
