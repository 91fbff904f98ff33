"""How long to wait before the next try, and when to give up. Pure: the caller sleeps."""

from __future__ import annotations

from dataclasses import dataclass

JITTER_SHARE = 0.25
"""A wait is stretched by up to this share, so that many workers do not return at once."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """One try, then up to `retries` more, waiting `base_seconds` x 2^n, within `deadline_seconds` in all."""

    retries: int = 3
    base_seconds: float = 1.0
    deadline_seconds: float = 30.0

    def wait_seconds(
        self,
        tries_made: int,
        elapsed_seconds: float,
        jitter: float,
        retry_after_seconds: float | None = None,
    ) -> float | None:
        """Return the wait before the next try, or None when tries or time are used up.

        `jitter` is uniform in [0, 1). A host's Retry-After is a lower bound; one that lies past the
        deadline means giving up at once rather than waiting in vain.
        """
        if tries_made > self.retries:
            return None
        least = max(self.base_seconds * 2 ** (tries_made - 1), retry_after_seconds or 0.0)
        waits = (least * (1 + JITTER_SHARE * jitter), least)  # not jittered where that alone would mean giving up
        return next((wait for wait in waits if elapsed_seconds + wait < self.deadline_seconds), None)


SOURCE_RETRY = RetryPolicy(retries=2, base_seconds=1.0, deadline_seconds=900.0)
"""One day's reading from the sales source, all tries together."""
