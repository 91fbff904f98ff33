"""The object store in memory, with failures on demand and a record of every call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from salesintel_dagster.domain.errors import ObjectMissing, StoreError
from salesintel_dagster.domain.object_keys import checked_key, checked_prefix
from salesintel_dagster.domain.ports import ObjectStore


class InMemoryObjectStore(ObjectStore):
    """`objects` is what is stored; `calls` lists (operation, key) of every call, failed ones too.

    `fail("put", StoreUnavailable("down"), times=2)` makes the next two puts raise; `times=None` makes all of them.
    `only` limits it to keys that begin so. Operations: put, get, download, keys.
    """

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        self.objects: dict[str, bytes] = dict(objects or {})
        self.content_types: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self._failures: deque[_Failure] = deque()
        self._lock = threading.Lock()

    def fail(self, operation: str, error: StoreError, *, times: int | None = 1, only: str = "") -> None:
        self._failures.append(_Failure(operation, error, times, only))

    def put(self, key: str, body: bytes | Path, content_type: str) -> None:
        self._called("put", checked_key(key))
        data = body.read_bytes() if isinstance(body, Path) else bytes(body)
        with self._lock:
            self.objects[key] = data
            self.content_types[key] = content_type

    def get(self, key: str) -> bytes:
        self._called("get", checked_key(key))
        return self._object("get", key)

    def download(self, key: str, path: Path) -> None:
        self._called("download", checked_key(key))
        path.write_bytes(self._object("download", key))

    def keys(self, prefix: str) -> Iterator[str]:
        self._called("keys", checked_prefix(prefix))
        yield from sorted(key for key in list(self.objects) if key.startswith(prefix))

    def count(self, operation: str, prefix: str = "") -> int:
        return sum(1 for name, key in self.calls if name == operation and key.startswith(prefix))

    def _object(self, operation: str, key: str) -> bytes:
        try:
            return self.objects[key]
        except KeyError:
            raise ObjectMissing(f"{operation} {key}: no such object") from None

    def _called(self, operation: str, key: str) -> None:
        with self._lock:
            self.calls.append((operation, key))
            for failure in self._failures:
                if failure.takes(operation, key):
                    raise failure.error


class _Failure:
    def __init__(self, operation: str, error: StoreError, times: int | None, only: str) -> None:
        self.operation, self.error, self.times, self.only = operation, error, times, only

    def takes(self, operation: str, key: str) -> bool:
        if operation != self.operation or not key.startswith(self.only) or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True
