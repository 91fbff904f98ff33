from __future__ import annotations

import io
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectTimeoutError
from botocore.response import StreamingBody
from urllib3 import HTTPResponse

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.object_store import MULTIPART_BYTES, S3ObjectStore
from salesintel_dagster.domain.errors import ObjectMissing, StoreRefused, StoreUnavailable

JPEG = "image/jpeg"


def _bucket(client: AwsClient) -> str:
    name = f"objects-{secrets.token_hex(6)}"
    region = client.meta.region_name
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
    return name


@pytest.fixture
def s3(aws: AwsClients) -> tuple[AwsClient, S3ObjectStore]:
    client = aws.client("s3")
    return client, S3ObjectStore(client, _bucket(client))


class TestS3:
    def test_a_put_that_fails_twice_then_works_is_stored(self, s3: tuple[AwsClient, S3ObjectStore]) -> None:
        """B17"""
        client, store = s3
        answers = iter([503, 500])
        sent = []

        def fail(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
            sent.append(request.method)
            status = next(answers, None)
            if status is None:
                return None
            return AWSResponse(request.url, status, {}, HTTPResponse(io.BytesIO(), preload_content=False))

        client.meta.events.register("before-send.s3.PutObject", fail)
        store.put("k", b"third time", JPEG)
        assert store.get("k") == b"third time"
        assert sent == ["PUT"] * 3

    def test_a_put_that_always_fails_names_operation_key_and_code(self, s3: tuple[AwsClient, S3ObjectStore]) -> None:
        """B17"""
        client, store = s3
        canary = "hunter2-canary"
        client.meta.events.register("before-call.s3.PutObject", _answer(503, "SlowDown", canary))
        with pytest.raises(StoreUnavailable, match=r"put s3://objects-\w+/k: SlowDown \(HTTP 503") as failure:
            store.put("k", canary.encode(), JPEG)
        assert canary not in str(failure.value)
        assert failure.value.__suppress_context__

    def test_a_large_file_that_fails_names_the_code_too(
        self, s3: tuple[AwsClient, S3ObjectStore], tmp_path: Path
    ) -> None:
        client, store = s3
        file = tmp_path / "large"
        with file.open("wb") as opened:
            opened.truncate(MULTIPART_BYTES)
        client.meta.events.register("before-call.s3.UploadPart", _answer(403, "AccessDenied", ""))
        client.meta.events.register("before-call.s3.PutObject", _answer(403, "AccessDenied", ""))
        for body in (file, b"small"):
            with pytest.raises(StoreRefused, match=r"put s3://objects-\w+/k: AccessDenied \(HTTP 403"):
                store.put("k", body, JPEG)
        with pytest.raises(ObjectMissing):
            store.get("k")

    @pytest.mark.parametrize("operation", ["GetObject", "HeadObject", "PutObject", "ListObjectsV2"])
    def test_a_network_failure_is_unavailable_and_never_missing(
        self, s3: tuple[AwsClient, S3ObjectStore], tmp_path: Path, operation: str
    ) -> None:
        client, store = s3
        store.put("k", b"x", JPEG)

        def cut(**_: object) -> None:
            raise ConnectTimeoutError(endpoint_url="http://user:hunter2@bucket")

        client.meta.events.register(f"before-call.s3.{operation}", cut)
        calls: dict[str, Callable[[], object]] = {
            "GetObject": lambda: store.get("k"),
            "HeadObject": lambda: store.download("k", tmp_path / "x"),
            "PutObject": lambda: store.put("k", b"y", JPEG),
            "ListObjectsV2": lambda: list(store.keys("")),
        }
        with pytest.raises(StoreUnavailable, match=r"ConnectTimeoutError$") as failure:
            calls[operation]()
        assert "hunter2" not in str(failure.value)

    def test_a_bucket_that_is_not_there_is_unavailable_and_never_missing(self, aws: AwsClients) -> None:
        store = S3ObjectStore(aws.client("s3"), f"absent-{secrets.token_hex(6)}")
        with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
            store.get("k")

    def test_a_body_that_breaks_off_is_asked_for_again(self, s3: tuple[AwsClient, S3ObjectStore]) -> None:
        client, store = s3
        store.put("k", b"whole", JPEG)
        cuts = iter([b"who", b""])

        def cut(parsed: dict[str, Any], **_: object) -> None:
            part = next(cuts, None)
            if part is not None:
                parsed["Body"] = StreamingBody(io.BytesIO(part), 5)

        client.meta.events.register("after-call.s3.GetObject", cut)
        assert store.get("k") == b"whole"

    def test_a_body_that_always_breaks_off_is_unavailable(self, s3: tuple[AwsClient, S3ObjectStore]) -> None:
        client, store = s3
        store.put("k", b"whole", JPEG)

        def cut(parsed: dict[str, Any], **_: object) -> None:
            parsed["Body"] = StreamingBody(io.BytesIO(b"who"), 5)

        client.meta.events.register("after-call.s3.GetObject", cut)
        with pytest.raises(StoreUnavailable, match="IncompleteReadError"):
            store.get("k")

    def test_content_type_and_encryption_are_kept_for_bytes_and_files(self, aws: AwsClients, tmp_path: Path) -> None:
        client = aws.client("s3")
        bucket = _bucket(client)
        store = S3ObjectStore(client, bucket, {"ServerSideEncryption": "AES256"})
        (tmp_path / "small").write_bytes(b"x")
        with (tmp_path / "large").open("wb") as opened:
            opened.truncate(MULTIPART_BYTES)
        store.put("bytes", b"x", JPEG)
        store.put("small", tmp_path / "small", JPEG)
        store.put("large", tmp_path / "large", JPEG)
        for key in ("bytes", "small", "large"):
            head = client.head_object(Bucket=bucket, Key=key)
            assert (head["ContentType"], head["ServerSideEncryption"]) == (JPEG, "AES256")

    def test_keys_go_past_one_page(self, s3: tuple[AwsClient, S3ObjectStore]) -> None:
        client, store = s3
        client.meta.events.register(
            "provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 2}
        )
        for number in range(5):
            store.put(f"k/{number}", b"", JPEG)
        assert list(store.keys("k/")) == [f"k/{number}" for number in range(5)]


def _answer(status: int, code: str, message: str) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """A botocore hook that answers in AWS's place, after its retries."""

    def answer(**_: object) -> tuple[Any, dict[str, Any]]:
        parsed = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
        return AWSResponse("", status, {}, io.BytesIO()), parsed

    return answer
