"""What TLS handshakes with each address have cost this machine, so that a host that makes them dear is asked no more.

The work of a handshake is the host's choice: OpenSSL reads every key of a chain before it checks one, and one of 665
bytes on a made-up curve took it 0.16 s. No time limit holds within that one call, and no context forbids it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network

FREE_SECONDS = 0.03
"""Of a core, for each handshake; an honest one takes 0.002, or 0.005 with all keys on P-384, and on a slow machine a
multiple. The 16 that one image may come to take half a second at most."""
MOST_SECONDS = 0.5
"""Beyond the free ones: 5 key exchanges of 8,192 bits, and no machine that falters for a moment."""
PREFIX_OF_V6 = 48
"""Whoever has one IPv6 address has as many as there are in such a network."""
MAX_ADDRESSES = 10_000
"""Addresses that owe something. Beyond that all are forgotten."""


class HandshakeCosts:
    """The CPU time that addresses owe. Threads may share it: what two lose to each other is one handshake's count."""

    def __init__(self) -> None:
        self._owed: dict[str, float] = {}

    def are_too_high(self, address: str) -> bool:
        """Tell whether the address has cost so much that it is not connected to again."""
        return self._owed.get(_holder(address), 0.0) > MOST_SECONDS

    @contextmanager
    def counted(self, address: str) -> Iterator[None]:
        """Count what this thread works meanwhile, whatever comes of it."""
        started = time.thread_time()
        try:
            yield
        finally:
            self._add(_holder(address), time.thread_time() - started - FREE_SECONDS)

    def _add(self, holder: str, seconds: float) -> None:
        owed = self._owed.pop(holder, 0.0) + seconds
        if owed > 0:
            if len(self._owed) >= MAX_ADDRESSES:
                self._owed.clear()
            self._owed[holder] = owed


def _holder(address: str) -> str:
    return str(ip_network(f"{address.partition('%')[0]}/{PREFIX_OF_V6}", strict=False)) if ":" in address else address
