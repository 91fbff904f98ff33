"""Objects in an S3 bucket: AWS's errors translated once, files of 16 MB and more in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

from salesintel_dagster.adapters.aws import DENIED, AwsClient, code_of, told
from salesintel_dagster.domain.errors import ObjectMissing, StoreRefused, StoreUnavailable
from salesintel_dagster.domain.object_keys import checked_key, checked_prefix
from salesintel_dagster.domain.ports import ObjectStore

BODY_TRIES = 3
"""botocore retries until the headers are there; a body that breaks off after them is ours to ask for again."""

MULTIPART_BYTES = 16 * 1024 * 1024
"""A file from this size on goes in parts of this size, four at a time."""

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_MULTIPART = TransferConfig(
    multipart_threshold=MULTIPART_BYTES,
    multipart_chunksize=MULTIPART_BYTES,
    max_concurrency=4,
)


class S3ObjectStore(ObjectStore):
    """Objects of one bucket. Retries are the client's; `encryption` is what every put carries: SSE-KMS and its key."""

    def __init__(self, client: AwsClient, bucket: str, encryption: Mapping[str, str] | None = None) -> None:
        self._client = client
        self._bucket = bucket
        self._encryption = dict(encryption or {})

    def put(self, key: str, body: bytes | Path, content_type: str) -> None:
        """Store bytes in one request, a file by managed upload: multipart and streamed from 16 MB on."""
        extra = {"ContentType": content_type, **self._encryption}
        with self._translated("put", checked_key(key)):
            if isinstance(body, bytes):
                self._client.put_object(Bucket=self._bucket, Key=key, Body=body, **extra)
            elif body.stat().st_size >= MULTIPART_BYTES:
                self._client.upload_file(str(body), self._bucket, key, ExtraArgs=extra, Config=_MULTIPART)
            else:
                with body.open("rb") as file:
                    self._client.put_object(Bucket=self._bucket, Key=key, Body=file, **extra)

    def get(self, key: str) -> bytes:
        """Return the object's bytes, asking again when the body breaks off."""
        with self._translated("get", checked_key(key)):
            for _ in range(BODY_TRIES - 1):
                body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
                with suppress(HTTPClientError, IncompleteReadError):
                    return bytes(body.read())
            return bytes(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())

    def download(self, key: str, path: Path) -> None:
        """Write the object to `path` in parallel ranges; the file appears whole or not at all."""
        with self._translated("download", checked_key(key)):
            self._client.download_file(self._bucket, key, str(path), Config=_MULTIPART)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under `prefix` in order, 1,000 a request."""
        with self._translated("list", checked_prefix(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for page in pages:
                yield from (item["Key"] for item in page.get("Contents", ()))

    @contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        where = f"{operation} s3://{self._bucket}/{key}"
        try:
            yield
        except ClientError as error:
            if code_of(error) in _MISSING:
                raise ObjectMissing(f"{where}: no such object") from None
            raise _refusal(error)(f"{where}: {told(error)}") from None
        except (BotoCoreError, Boto3Error) as error:
            # A managed upload hides AWS's answer in an error of its own.
            raise _refusal(error.__context__)(f"{where}: {told(error)}") from None


def _refusal(error: BaseException | None) -> type[StoreUnavailable]:
    return StoreRefused if isinstance(error, ClientError) and code_of(error) in DENIED else StoreUnavailable
