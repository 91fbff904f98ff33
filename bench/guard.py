"""Image downloads through the guarded fetcher beside plain ones in threads: what guard, deadlines and checks cost.

The image host is a process of its own on loopback and answers at once: on a real network the same cost is a smaller
share. All fetch in turns in this process, so that the machine's other work meets them alike.
"""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import urllib3

from bench.stage import server
from salesintel_dagster.adapters.http_images import HttpImageFetcher, verified_image
from salesintel_dagster.local.ports import LOOPBACK

IMAGES = 400
IMAGE_BYTES = 100_000
ROUNDS = 9
THREADS = (1, 5, 32)
MAX_PIXELS = 40_000_000
MAX_BYTES = 10 * 1024 * 1024
DEADLINE_SECONDS = 30.0
Fetch = Callable[[str], object]


@dataclass(frozen=True)
class _Spent:
    """Milliseconds an image."""

    wall: float
    cpu: float


def _spent(fetch: Fetch, urls: list[str], threads: int) -> _Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fetch, urls):
            pass
    share = 1000 / len(urls)
    return _Spent((time.perf_counter() - wall) * share, (time.process_time() - cpu) * share)


def _fetchers(port: int) -> dict[str, Fetch]:
    ours = HttpImageFetcher(
        max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS, allowed_private=frozenset({f"{LOOPBACK}:{port}"})
    )
    pool = urllib3.PoolManager(maxsize=max(THREADS))

    def plain(url: str) -> bytes:
        return pool.request("GET", url, timeout=DEADLINE_SECONDS, retries=False).data

    local = threading.local()

    def bare(url: str) -> bytes:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(LOOPBACK, port, timeout=DEADLINE_SECONDS)
        local.connection.request("GET", url.partition(str(port))[2])
        body: bytes = local.connection.getresponse().read()
        return body

    return {
        "guarded": lambda url: ours.fetch(url, DEADLINE_SECONDS),
        "urllib3": plain,
        "http.client, picture looked at": lambda url: verified_image(bare(url), MAX_PIXELS),
        "urllib3, picture looked at": lambda url: verified_image(plain(url), MAX_PIXELS),
    }


def guard() -> None:
    """Print the table of docs/benchmarks.md."""
    print(f"\n### {IMAGES} images of {IMAGE_BYTES // 1000} KB, guarded and plain, median of {ROUNDS} rounds\n")
    print("| threads | fetched by | images /s | ms an image | CPU ms | guarded / this: wall, CPU |")
    print("|---|---|---|---|---|---|", flush=True)
    with server("bench.images", "--bytes", str(IMAGE_BYTES)) as port:
        fetchers = _fetchers(port)
        for threads in THREADS:
            urls = [f"http://{LOOPBACK}:{port}/{n}.jpg" for n in range(IMAGES)]
            rounds: list[dict[str, _Spent]] = []
            for turn in range(ROUNDS + 1):
                order = list(fetchers) if turn % 2 else list(reversed(fetchers))
                rounds.append({name: _spent(fetchers[name], urls, threads) for name in order})
            _tell(threads, list(fetchers), rounds[1:])


def _tell(threads: int, names: list[str], rounds: list[dict[str, _Spent]]) -> None:
    for name in names:
        wall = statistics.median(one[name].wall for one in rounds)
        cpu = statistics.median(one[name].cpu for one in rounds)
        ratios = (
            statistics.median(one["guarded"].wall / one[name].wall for one in rounds),
            statistics.median(one["guarded"].cpu / one[name].cpu for one in rounds),
        )
        told = "-" if name == "guarded" else f"{ratios[0]:.2f}, {ratios[1]:.2f}"
        print(f"| {threads} | {name} | {1000 / wall:.0f} | {wall:.2f} | {cpu:.2f} | {told} |", flush=True)
