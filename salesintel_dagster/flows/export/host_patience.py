"""How long hosts that do not answer may keep a run waiting. Thread-safe; knows nothing of what is asked of them.

Without an end, 5,000 images of a host that hangs take 5 threads of 30 s each more than 8 hours, and a run has 4.
"""

from __future__ import annotations

import threading
from heapq import nlargest
from operator import itemgetter

from salesintel_dagster.domain.errors import ImageRefused
from salesintel_dagster.domain.image_urls import on_any_port

MAX_GOOD_HOSTS = 10_000
"""Hosts known to be good, 1 MB, which the days of a run share. Beyond that all are forgotten, to be good again."""
MAX_OWING_HOSTS = 10_000
"""Hosts that lost time, 1 MB. Beyond that the half that lost least is forgotten."""
NO_HOST = ""
"""Instead of a host, where a URL that will be refused names none."""
SECONDS_OF_A_HOST = 3600.0
"""An hour in which all its threads wait for nothing: an outage may last that long, and its images come after it."""
SLOW_SECONDS = 10.0
"""10 MB at 1 MB/s. What an image takes beyond it is lost, though it came."""
SECONDS_OF_ALL_HOSTS = 7200.0
"""A stranger may have a host for every image. When these are used up, only hosts that gave an image are asked."""
LAST_SECONDS_OF_A_HOST = 36.0
"""And of those none that lost more: a CDN of 100 names that stops at noon takes an hour more, and not 100."""


class HostPatience:
    """The time that a run has for images that came to nothing or late, of `threads` in all and so many for one host."""

    def __init__(self, threads: int, threads_of_a_host: int) -> None:
        self._of_host = SECONDS_OF_A_HOST * threads_of_a_host
        self._of_host_at_last = LAST_SECONDS_OF_A_HOST * threads_of_a_host
        self._of_all = SECONDS_OF_ALL_HOSTS * threads
        self._lost: dict[str, float] = {}
        self._all_lost = 0.0
        self._good: set[str] = set()
        self._lock = threading.Lock()

    def ended(self, host: str) -> str:
        """Say why the host is asked no more in this run; "" while it is."""
        if host == NO_HOST:
            return ""
        with self._lock:
            lost = self._lost.get(host, 0.0)
            if lost >= self._of_host:
                return "it kept others waiting too long"
            if self._all_lost >= self._of_all and (host not in self._good or lost >= self._of_host_at_last):
                return "hosts that do not answer used up the run's time"
            return ""

    def lost(self, host: str, seconds: float) -> None:
        """Note the time of an image that did not come: a host may also take its 30 s for a 404."""
        with self._lock:
            self._add(host, seconds)

    def answered(self, host: str, seconds: float) -> None:
        """Note an image that came: it pays back its time, or is late by what it took beyond what an image may.

        So a host may fail for as long as it works, and an hour more; a host that drips works for nothing.
        """
        with self._lock:
            if len(self._good) == MAX_GOOD_HOSTS and host not in self._good:
                self._good.clear()
            self._good.add(host)
            self._add(host, seconds - SLOW_SECONDS if seconds > SLOW_SECONDS else -seconds)

    def _add(self, host: str, seconds: float) -> None:
        left = self._lost.pop(host, 0.0) + seconds
        if left > 0:
            self._lost[host] = left
            if len(self._lost) > MAX_OWING_HOSTS:
                self._lost = dict(nlargest(MAX_OWING_HOSTS // 2, self._lost.items(), key=itemgetter(1)))
        self._all_lost = max(self._all_lost + seconds, 0.0)


def host_of(url: str) -> str:
    """Return the host whose slots and patience the URL takes, with an unusual port; NO_HOST where there is none.

    What such a URL holds instead of a host may be a password, and what this returns is told.
    """
    try:
        parsed = on_any_port(url)
    except ImageRefused:
        return NO_HOST
    return parsed.host if parsed.is_on_usual_port else parsed.pair
