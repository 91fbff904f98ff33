"""A process that dies at a call of one's choice: before it or after it, and at whatever it calls later."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from salesintel_dagster.domain.embedding import VectorBytes
from salesintel_dagster_tests.fakes.embedder import ScriptedEmbedder
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore


class Crash(BaseException):
    """The process dies here."""


class Doom:
    """Kills the process before or after its n-th call to anything, and whatever it calls later."""

    def __init__(self, dies_at: int, *, after: bool) -> None:
        self._dies_at, self._after = dies_at, after
        self._numbers = itertools.count(1)

    @contextmanager
    def call(self) -> Iterator[None]:
        number = next(self._numbers)
        if number > self._dies_at or (number == self._dies_at and not self._after):
            raise Crash
        yield
        if number == self._dies_at:
            raise Crash


class DyingStore(InMemoryObjectStore):
    def __init__(self, objects: dict[str, bytes], doom: Doom) -> None:
        super().__init__()
        self.objects, self._doom = objects, doom

    def put(self, key: str, body: bytes | Path, content_type: str) -> None:
        with self._doom.call():
            super().put(key, body, content_type)

    def get(self, key: str) -> bytes:
        with self._doom.call():
            return super().get(key)

    def download(self, key: str, path: Path) -> None:
        with self._doom.call():
            super().download(key, path)

    def keys(self, prefix: str) -> Iterator[str]:
        with self._doom.call():
            return super().keys(prefix)


class DyingEmbedder(ScriptedEmbedder):
    def __init__(self, doom: Doom) -> None:
        super().__init__()
        self._doom = doom

    def embed(self, image: bytes) -> VectorBytes:
        with self._doom.call():
            return super().embed(image)
