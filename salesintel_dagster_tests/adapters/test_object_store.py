from __future__ import annotations

import io
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectTimeoutError
from botocore.response import StreamingBody
from urllib3 import HTTPResponse

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.object_store import MULTIPART_BYTES, FolderObjectStore, S3ObjectStore
from salesintel_dagster.domain.errors import KeyInvalid, ObjectMissing, StoreUnavailable
from salesintel_dagster.domain.ports import ObjectStore
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore

JPEG = "image/jpeg"
HOSTILE = {
    "parent": "../../x",
    "parent inside": "images/../../x",
    "absolute": "/etc/passwd",
    "dot": "a/./b",
    "empty name": "a//b",
    "folder": "a/",
    "nothing": "",
    "nul": "a\0b",
    "newline": "a\n",
    "emoji": "images/\N{PILE OF POO}",
    "backslash": "a\\..\\b",
    "long name": "x" * 201,
    "one kilobyte": "a/" * 512 + "b",
    "query": "a?versionId=1",
    "percent": "%2e%2e/x",
    "hidden": ".incoming/x",
}


def _bucket(client: AwsClient) -> str:
    name = f"objects-{secrets.token_hex(6)}"
    region = client.meta.region_name
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
    return name


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return InMemoryObjectStore()
    if request.param == "folder":
        return FolderObjectStore(tmp_path / "objects")
    client = request.getfixturevalue("aws").client("s3")
    return S3ObjectStore(client, _bucket(client))


@pytest.fixture
def s3(aws: AwsClients) -> tuple[AwsClient, S3ObjectStore]:
    client = aws.client("s3")
    return client, S3ObjectStore(client, _bucket(client))


class TestEveryObjectStore:
    def test_bytes_come_back_as_they_went_in(self, store: ObjectStore) -> None:
        store.put("images/smartgo/t/ab/abc.jpg", b"\x00\xff\r\n", JPEG)
        assert store.get("images/smartgo/t/ab/abc.jpg") == b"\x00\xff\r\n"

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        store.put("empty", b"", JPEG)
        assert store.get("empty") == b""

    def test_a_second_put_replaces_the_first(self, store: ObjectStore) -> None:
        store.put("k", b"first, and longer", JPEG)
        store.put("k", b"second", JPEG)
        assert store.get("k") == b"second"
        assert list(store.keys("")) == ["k"]

    def test_a_file_is_stored_by_its_content(self, store: ObjectStore, tmp_path: Path) -> None:
        file = tmp_path / "day.parquet"
        file.write_bytes(b"PAR1" * 1000)
        store.put("staging/day.parquet", file, "application/vnd.apache.parquet")
        assert store.get("staging/day.parquet") == b"PAR1" * 1000
        assert file.exists()

    def test_a_large_file_goes_and_comes_back_whole(self, store: ObjectStore, tmp_path: Path) -> None:
        file, copy = tmp_path / "large", tmp_path / "copy"
        file.write_bytes(secrets.token_bytes(MULTIPART_BYTES + 12_345))
        store.put("large", file, JPEG)
        store.download("large", copy)
        assert copy.read_bytes() == file.read_bytes()

    def test_a_missing_object_is_told_apart(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put("there/x", b"", JPEG)
        with pytest.raises(ObjectMissing, match="there/not"):
            store.get("there/not")
        with pytest.raises(ObjectMissing, match="there/not"):
            store.download("there/not", tmp_path / "never")
        with pytest.raises(ObjectMissing):
            store.get("there")
        assert not (tmp_path / "never").exists()

    def test_keys_are_listed_in_byte_order_under_their_prefix(self, store: ObjectStore) -> None:
        given = ["a-b", "a/b/c", "a/b-c", "a/B", "a0", "ab", "b/a"]
        for key in given:
            store.put(key, b"x", JPEG)
        assert list(store.keys("")) == sorted(given)
        assert list(store.keys("a/")) == ["a/B", "a/b-c", "a/b/c"]
        assert list(store.keys("a/b")) == ["a/b-c", "a/b/c"]
        assert list(store.keys("a")) == sorted(given)[:-1]
        assert list(store.keys("nothing/here")) == []
        assert list(store.keys("a/b/c")) == ["a/b/c"]

    @pytest.mark.parametrize("key", HOSTILE.values(), ids=HOSTILE.keys())
    def test_b18_a_hostile_key_is_refused_by_every_method(self, store: ObjectStore, tmp_path: Path, key: str) -> None:
        for call in _calls(store, key, tmp_path / "never"):
            with pytest.raises(KeyInvalid, match="expected names of letters"):
                call()
        assert list(store.keys("")) == []
        assert not (tmp_path / "never").exists()

    @pytest.mark.parametrize("prefix", ["../", "/", "a//", "a\0", "./", "a/../b"])
    def test_b18_a_hostile_prefix_lists_nothing(self, store: ObjectStore, prefix: str) -> None:
        with pytest.raises(KeyInvalid):
            list(store.keys(prefix))

    def test_readers_see_the_old_object_or_the_new_one(self, store: ObjectStore) -> None:
        bodies = {b"a" * 200_000, b"b" * 300_000}
        store.put("k", b"a" * 200_000, JPEG)
        done = threading.Event()

        def write() -> None:
            for _ in range(10):
                for body in bodies:
                    store.put("k", body, JPEG)
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not done.is_set():
            assert store.get("k") in bodies
        writer.join()
        assert list(store.keys("")) == ["k"]


def _calls(store: ObjectStore, key: str, path: Path) -> Iterator[Callable[[], object]]:
    yield lambda: store.put(key, b"x", JPEG)
    yield lambda: store.get(key)
    yield lambda: store.download(key, path)


class TestFolder:
    def test_b18_every_file_lies_under_the_root(self, tmp_path: Path) -> None:
        store = FolderObjectStore(tmp_path / "root")
        for key in ["x", "a=1/b@2/c+d.jpg", "tenant/ab/abcdef.png"]:
            store.put(key, b"x", JPEG)
        files = [path.resolve() for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) == 3
        assert all(path.is_relative_to(tmp_path / "root") for path in files)

    def test_a_put_that_fails_leaves_no_file_behind(self, tmp_path: Path) -> None:
        store = FolderObjectStore(tmp_path / "root")
        store.put("a", b"x", JPEG)
        with pytest.raises(StoreUnavailable, match="put a/b"):
            store.put("a/b", b"x", JPEG)
        with pytest.raises(StoreUnavailable):
            store.put("c", tmp_path / "no such file", JPEG)
        assert [path.name for path in (tmp_path / "root").rglob("*") if path.is_file()] == ["a"]


class TestS3:
    def test_b17_a_put_that_fails_twice_then_works_is_stored(self, s3: tuple[AwsClient, S3ObjectStore]) -> None:
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

    def test_b17_a_put_that_always_fails_names_operation_key_and_code(
        self, s3: tuple[AwsClient, S3ObjectStore]
    ) -> None:
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
        with pytest.raises(StoreUnavailable, match=r"put s3://objects-\w+/k: AccessDenied \(HTTP 403"):
            store.put("k", file, JPEG)
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
