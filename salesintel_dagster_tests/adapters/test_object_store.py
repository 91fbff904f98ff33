from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from salesintel_dagster.adapters.aws import AwsClient
from salesintel_dagster.adapters.folder_store import FolderObjectStore
from salesintel_dagster.adapters.object_store import MULTIPART_BYTES, S3ObjectStore
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
    def test_a_hostile_key_is_refused_by_every_method(self, store: ObjectStore, tmp_path: Path, key: str) -> None:
        """B18"""
        for call in _calls(store, key, tmp_path / "never"):
            with pytest.raises(KeyInvalid, match="expected names of letters"):
                call()
        assert list(store.keys("")) == []
        assert not (tmp_path / "never").exists()

    @pytest.mark.parametrize("prefix", ["../", "/", "a//", "a\0", "./", "a/../b"])
    def test_a_hostile_prefix_lists_nothing(self, store: ObjectStore, prefix: str) -> None:
        """B18"""
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
    def test_every_file_lies_under_the_root(self, tmp_path: Path) -> None:
        """B18"""
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
