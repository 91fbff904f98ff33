"""What a key of the object store may be, whatever the store.

A key is `/`-joined names of letters, digits and `._=+@-`, none of which begins with a dot, at most 1,024 bytes in
all. Everything else is refused before it reaches a path or a request, so no key leaves the prefix or the folder.
"""

from __future__ import annotations

import re

from salesintel_dagster.domain.errors import KeyInvalid

MAX_KEY_BYTES = 1_024
"""S3's own limit; a single name ends at 200 so that a file system takes it with a temporary suffix."""

_NAME = r"[A-Za-z0-9_=+@-][A-Za-z0-9._=+@-]{0,199}"
_KEY = re.compile(rf"{_NAME}(?:/{_NAME})*")
_PREFIX = re.compile(rf"(?:{_NAME}/)*(?:{_NAME})?")


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
