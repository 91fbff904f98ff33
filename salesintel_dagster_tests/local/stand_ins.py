"""Start one of our stand-in servers as a child process on a free loopback port, and talk to it plainly."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from salesintel_dagster.local.loopback import READY


@contextmanager
def stand_in(module: str, *arguments: str) -> Iterator[str]:
    """Run `salesintel_dagster.local.<module>` on a free port; give its base URL; end it afterwards."""
    command = [sys.executable, "-m", f"salesintel_dagster.local.{module}", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            ready = READY.match(line)
            assert ready, f"{module} did not start: {line!r}"
            yield f"http://127.0.0.1:{ready[1]}"
        finally:
            process.kill()


def call_json(method: str, url: str, content: object = None, headers: dict[str, str] | None = None) -> dict:
    """Send one JSON request and return the JSON answer. Raises urllib.error.HTTPError."""
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})  # noqa: S310 - our own URL
    with urllib.request.urlopen(request, timeout=10) as answered:  # noqa: S310 - our own server
        return json.load(answered)
