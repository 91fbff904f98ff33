"""Objects in an S3 bucket, or in a folder of this machine: one port, one rule for keys, errors translated once.

A key is `/`-joined names of letters, digits and `._=+@-`, none of which begins with a dot, at most 1,024 bytes in
all. Everything else is refused before it reaches a path or a request, so no key leaves the prefix or the folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

from salesintel_dagster.adapters.aws import DENIED, AwsClient, code_of, told
from salesintel_dagster.domain.errors import KeyInvalid, ObjectMissing, StoreRefused, StoreUnavailable
from salesintel_dagster.domain.ports import ObjectStore

MAX_KEY_BYTES = 1_024
"""S3's own limit; a single name ends at 200 so that a file system takes it with a temporary suffix."""

BODY_TRIES = 3
"""botocore retries until the headers are there; a body that breaks off after them is ours to ask for again."""

MULTIPART_BYTES = 16 * 1024 * 1024
"""A file from this size on goes in parts of this size, four at a time."""

_NAME = r"[A-Za-z0-9_=+@-][A-Za-z0-9._=+@-]{0,199}"
_KEY = re.compile(rf"{_NAME}(?:/{_NAME})*")
_PREFIX = re.compile(rf"(?:{_NAME}/)*(?:{_NAME})?")
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_MULTIPART = TransferConfig(
    multipart_threshold=MULTIPART_BYTES,
    multipart_chunksize=MULTIPART_BYTES,
    max_concurrency=4,
)
_INCOMING = ".incoming"


def checked_key(key: str) -> str:
    """Return `key` if it is one of ours. Raises KeyInvalid."""
    return _checked(key, _KEY, "key")


def checked_prefix(prefix: str) -> str:
    """Return `prefix` if keys can begin with it; it may be empty or end in the middle of a name."""
    return _checked(prefix, _PREFIX, "prefix")


def _checked(text: str, grammar: re.Pattern[str], what: str) -> str:
    if len(text) > MAX_KEY_BYTES or not grammar.fullmatch(text):
        shown = ascii(text[:80])
        raise KeyInvalid(
            f"{what} {shown}: expected names of letters, digits and ._=+@- joined by /, 1024 bytes at most"
        )
    return text


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


class FolderObjectStore(ObjectStore):
    """Objects as files under `root`. A put is a rename: safe when the process dies, not when the power does.

    What is being written lies in `root/.incoming`, a name no key can have. A folder cannot also be a file: where
    S3 takes `a` beside `a/b`, this store answers StoreUnavailable.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def put(self, key: str, body: bytes | Path, content_type: str) -> None:  # noqa: ARG002 - files have no type
        """Write beside the store, then rename into it."""
        target = self._root / checked_key(key)
        # One file and no folder of its own: ext4 searches long for an inode while many were freed in the last minutes,
        # and a temporary folder for each put doubled a put's CPU (measured).
        partial = self._root / _INCOMING / secrets.token_hex(8)
        with self._translated("put", key):
            try:
                _with_folder(partial, lambda: _write(body, partial))
                _with_folder(target, lambda: partial.replace(target))
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def get(self, key: str) -> bytes:
        """Return the file's bytes."""
        with self._translated("get", checked_key(key)):
            return (self._root / key).read_bytes()

    def download(self, key: str, path: Path) -> None:
        """Copy the file; the kernel does it without the bytes passing through us where it can."""
        with self._translated("download", checked_key(key)):
            shutil.copyfile(self._root / key, path)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under `prefix` in S3's order, reading only the folders that can hold them."""
        folder, _, _ = checked_prefix(prefix).rpartition("/")
        with self._translated("list", prefix):
            yield from self._walk(f"{folder}/" if folder else "", prefix)

    def _walk(self, folder: str, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(self._root / folder) as found:
                entries = [entry.name + "/" if entry.is_dir() else entry.name for entry in found]
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in sorted(entries):
            path = folder + name
            if name.startswith(".") or not path.startswith(prefix[: len(path)]):
                continue
            if name.endswith("/"):
                yield from self._walk(path, prefix)
            elif path.startswith(prefix):
                yield path

    @contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            if operation == "put":
                raise StoreUnavailable(f"put {key}: {error.strerror}") from error
            raise ObjectMissing(f"{operation} {key}: no such object") from error
        except OSError as error:
            raise StoreUnavailable(f"{operation} {key}: {error.strerror}") from error


def _with_folder(path: Path, make: Callable[[], object]) -> None:
    """Make what lies at `path`; its folder first where that is missing, which costs a second try once and no look."""
    try:
        make()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        make()


def _write(body: bytes | Path, path: Path) -> None:
    if isinstance(body, Path):
        shutil.copyfile(body, path)
        return
    with path.open("xb") as file:
        file.write(body)
