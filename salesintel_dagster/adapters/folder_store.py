"""Objects in a folder of this machine, as files named by their keys."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from salesintel_dagster.domain.errors import ObjectMissing, StoreUnavailable
from salesintel_dagster.domain.object_keys import checked_key, checked_prefix
from salesintel_dagster.domain.ports import ObjectStore

_INCOMING = ".incoming"


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
