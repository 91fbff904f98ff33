"""How long a sold event takes from put_events into both stores, at one event a second in a quiet queue.

`python -m bench event_latency` sends for a minute, `python -m bench event_latency --minutes 5` for five. The worker is
a process of its own that does what a run of the asset does, in an embedded world.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.stage import ROOT
from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.event_bus import EventBridgeBus
from salesintel_dagster.adapters.table_layout import HISTORY_TABLE, NAMESPACE
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.event_bus import OutgoingEvent
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.samples import sample_events
from salesintel_dagster.local.world import open_world
from salesintel_dagster.local.world_environment import overlaid
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring.events import sync_parts, sync_rules


@dataclass(frozen=True)
class Bench:
    """A world with the sync's settings."""

    settings: Settings
    clients: AwsClients


@contextmanager
def _bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="salesintel-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with open_world(folder / "home", on_event=lambda _: None) as world, overlaid(world.environment):
            settings = Settings.from_environment(os.environ)
            yield Bench(settings, wiring.aws_clients(settings))


def latency(on: Bench, seconds: float) -> None:
    """Print how long an event takes from put_events into both stores, at one event a second."""
    words = [sys.executable, "-m", "bench.event_latency"]
    worker = subprocess.Popen(words, env=dict(os.environ), cwd=ROOT)
    try:
        (first,) = _today(on, 1, 99)
        bus = EventBridgeBus(on.clients.client("events"))
        assert not bus.put([first])
        seen = _Seen(on)
        seen.wait_for(json.loads(first.detail)["saleId"], 120)  # the worker's process is up
        sent: dict[str, float] = {}
        watcher = threading.Thread(target=seen.watch, args=(sent, int(seconds)), daemon=True)
        watcher.start()
        for event in _today(on, int(seconds), 100):
            sale = json.loads(event.detail)["saleId"]
            sent[sale] = time.monotonic()
            assert not bus.put([event])
            time.sleep(max(0.0, sent[sale] + 1 - time.monotonic()))
        watcher.join(120)
    finally:
        worker.kill()
        worker.wait()
    lags = sorted(seen.both.values())
    assert len(lags) == int(seconds), f"{len(lags)} of {int(seconds)} seen"
    p95 = lags[int(0.95 * (len(lags) - 1))]
    print(
        f"\nLatency to both stores, {len(lags)} events at 1/s: median {statistics.median(lags):.1f} s, "
        f"95th percentile {p95:.1f} s, most {lags[-1]:.1f} s"
    )


def _today(on: Bench, number: int, seed: int) -> Iterator[OutgoingEvent]:
    return sample_events(number, seed, on.settings.tenant, SYSTEM_CLOCK.now().date(), vectors=True)


class _Seen:
    """Looks into both stores, a few times a second; `both` is the seconds until a sale was in both."""

    def __init__(self, on: Bench) -> None:
        self._on = on
        self._ledger = sync_parts(on.settings, on.clients).ledger
        self.both: dict[str, float] = {}

    def watch(self, sent: dict[str, float], number: int) -> None:
        """Look until `number` sales were seen."""
        catalog = wiring.open_tables_catalog(self._on.settings)
        last = None
        while len(self.both) < number:
            table = catalog.load_table((NAMESPACE, HISTORY_TABLE))
            if table.metadata.current_snapshot_id != last:
                last = table.metadata.current_snapshot_id
                now = time.monotonic()
                there = set(table.scan(selected_fields=("sale_id",)).to_arrow()["sale_id"].to_pylist())
                for sale in (sent.keys() & there) - self.both.keys():
                    if self._ledger.by_sale_id(CallerContext(self._on.settings.tenant), sale):
                        self.both[sale] = now - sent[sale]
            time.sleep(0.1)

    def wait_for(self, sale: str, seconds: float) -> None:
        """Wait until this one is in the sales table."""
        end = time.monotonic() + seconds
        while self._ledger.by_sale_id(CallerContext(self._on.settings.tenant), sale) is None:
            assert time.monotonic() < end, "the worker takes nothing"
            time.sleep(0.2)


def serve() -> None:
    """Drain for ever with the settings as they are: a run of the asset under steady load."""
    settings = Settings.from_environment(os.environ)
    parts = sync_parts(settings, wiring.aws_clients(settings))
    while True:
        for _ in EventSync(parts, sync_rules(settings), SYSTEM_CLOCK, "bench", lambda _: None).drain():
            pass


def event_latency(words: list[str]) -> None:
    """Print the result."""
    parser = argparse.ArgumentParser(prog="python -m bench event_latency", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="of one event a second")
    given = parser.parse_args(words)
    print("\n### Event sync: latency\n")
    with _bench() as on:
        latency(on, given.minutes * 60)


if __name__ == "__main__":
    serve()
