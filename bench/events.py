"""The event sync: a backlog beside one event at a time and beside bare boto3 calls, and the latency of a quiet stream.

`python -m bench events` (backlog 10,000, 60 s of one event a second); `python -m bench events --backlog 1000
--minutes 5`. The emulator runs in its own process on the same machine: CPU is that of the worker's process alone.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.stage import ROOT, Measured, measured
from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.event_bus import EventBridgeBus
from salesintel_dagster.adapters.sales.items import guard_item, sale_item
from salesintel_dagster.adapters.table_layout import HISTORY_TABLE, NAMESPACE
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.event_bus import OutgoingEvent
from salesintel_dagster.domain.sale_changes import stored
from salesintel_dagster.domain.sale_event import SaleEvent, parse_event
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.parts import SyncTally
from salesintel_dagster.flows.sync.samples import sample_events
from salesintel_dagster.flows.sync.sending import send
from salesintel_dagster.local.world import open_world
from salesintel_dagster.local.world_environment import overlaid
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring.events import sync_parts, sync_rules

BACKLOG, SINGLES, BARE = 10_000, 100, 300
HAND = 10


@dataclass(frozen=True)
class Bench:
    """A world with the sync's settings."""

    settings: Settings
    clients: AwsClients

    def fill(self, number: int, seed: int) -> None:
        """Put samples of about 20 KB on the bus."""
        today = SYSTEM_CLOCK.now().date()
        events = sample_events(number, seed, self.settings.tenant, today, vectors=True)
        sent = send(EventBridgeBus(self.clients.client("events")), events, SYSTEM_CLOCK)
        assert sent.taken == number, sent.refused[:3]

    def worker(self, *words: str) -> tuple[Measured, SyncTally]:
        """Drain the queue in a process of its own."""
        done = measured([sys.executable, "-m", "bench.events", *words], dict(os.environ))
        return done, SyncTally(**json.loads(done.printed))


@contextmanager
def _bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="salesintel-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with open_world(folder / "home", on_event=lambda _: None) as world, overlaid(world.environment):
            settings = Settings.from_environment(os.environ)
            yield Bench(settings, wiring.aws_clients(settings))


def drain(batch_messages: int, most: int | None = None) -> SyncTally:
    """Drain until nothing is left, or `most` messages are taken; what a run of the asset does."""
    settings = Settings.from_environment(os.environ)
    rules = replace(sync_rules(settings), batch_messages=batch_messages, idle_seconds=0.0, deadline_seconds=3600.0)
    parts = sync_parts(settings, wiring.aws_clients(settings))
    total = SyncTally()
    for tally in EventSync(parts, rules, SYSTEM_CLOCK, "bench", lambda _: None).drain():
        total += tally
        if most is not None and total.received >= most:
            break
    return total


def bare(number: int) -> SyncTally:
    """Make the boto3 calls that `number` events need in hands of ten, and nothing else with them.

    Receive, BatchGet of receipts, a transaction per sale, BatchWrite of receipts, delete. No parsing, no hash, no
    Iceberg; one thread.
    """
    settings = Settings.from_environment(os.environ)
    clients = wiring.aws_clients(settings)
    sqs, dynamo = clients.client("sqs"), clients.client("dynamodb")
    url = sqs.get_queue_url(QueueName=settings.event_queue_name)["QueueUrl"]
    items = _items(settings)
    done = 0
    while done < number:
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=HAND, VisibilityTimeout=180)["Messages"]
        names = [f"IDEMPOTENCY#bare#{done + n}" for n in range(len(found))]
        receipts = settings.receipts_table_name
        dynamo.batch_get_item(RequestItems={receipts: {"Keys": [{"PK": {"S": name}} for name in names]}})
        for n in range(len(found)):
            dynamo.transact_write_items(TransactItems=_puts(settings.sales_table_name, items, done + n))
        puts = [{"PutRequest": {"Item": {"PK": {"S": name}, "payloadHash": {"S": "x" * 64}}}} for name in names]
        dynamo.batch_write_item(RequestItems={receipts: puts})
        entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(found)]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        done += len(found)
    return SyncTally(received=done)


def _items(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    (event,) = sample_events(1, 1, settings.tenant, SYSTEM_CLOCK.now().date())
    found = parse_event(event.detail, sync_rules(settings).events)
    assert isinstance(found, SaleEvent)
    sale = stored(found.record, 1)
    return guard_item(sale), sale_item(sale, ShardCounts())


def _puts(table: str, items: tuple[dict[str, Any], ...], number: int) -> list[dict[str, Any]]:
    absent = {"TableName": table, "ConditionExpression": "attribute_not_exists(PK)"}
    return [{"Put": {"Item": {**item, "PK": {"S": f"BARE#{number}"}}, **absent}} for item in items]


def backlog(on: Bench, number: int) -> None:
    """Print the table of the backlog."""
    on.fill(min(BARE, number), 3)
    plain, _ = on.worker("bare", str(min(BARE, number)))
    on.fill(SINGLES, 2)
    single, single_tally = on.worker("drain", "1")
    empty, _ = on.worker("drain", "100")
    on.fill(number, 1)
    ours, tally = on.worker("drain", "100")
    assert (tally.written, single_tally.written) == (number, SINGLES), (tally, single_tally)
    table = wiring.open_tables_catalog(on.settings).load_table((NAMESPACE, HISTORY_TABLE))
    assert table.scan(selected_fields=("sale_id",)).to_arrow().num_rows == number + SINGLES
    rows = (
        (f"ours, {number} events", number, ours, tally.commits),
        (f"one event at a time, {SINGLES} events", SINGLES, single, single_tally.commits),
        (f"bare boto3 calls, {min(BARE, number)} events, no Iceberg", min(BARE, number), plain, 0),
    )
    print(f"process start and an empty queue: {empty.wall:.1f} s, CPU {empty.cpu:.1f} s, {empty.peak_mb:.0f} MB\n")
    print("| what | events/s | CPU ms an event | commits | peak MB |\n|---|---|---|---|---|")
    rates = []
    for name, count, found, commits in rows:
        wall, cpu = found.wall - empty.wall, max(found.cpu - empty.cpu, 0.0)
        rates.append((count / wall, 1000 * cpu / count))
        print(f"| {name} | {count / wall:.1f} | {1000 * cpu / count:.1f} | {commits} | {found.peak_mb:.0f} |")
    above = (rates[0][1] - rates[2][1]) / 10
    print(f"\nRatio to one at a time {rates[0][0] / rates[1][0]:.1f}; CPU above bare boto3 {above:.2f} s a 100 events.")


def latency(on: Bench, seconds: float) -> None:
    """Print how long an event takes from put_events into both stores, at one event a second."""
    words = [sys.executable, "-m", "bench.events", "serve"]
    worker = subprocess.Popen(words, env=dict(os.environ), cwd=ROOT)
    try:
        on.fill(1, 99)  # the first brings the worker's process up
        seen = _Seen(on)
        seen.wait_for({event.detail: 0.0 for event in _today(on, 1, 99)}, 120)
        sent: dict[str, float] = {}
        watcher = threading.Thread(target=seen.watch, args=(sent, int(seconds)), daemon=True)
        watcher.start()
        bus = EventBridgeBus(on.clients.client("events"))
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

    def wait_for(self, details: dict[str, float], seconds: float) -> None:
        """Wait until these are in the ledger."""
        end = time.monotonic() + seconds
        context = CallerContext(self._on.settings.tenant)
        for detail in details:
            while self._ledger.by_sale_id(context, json.loads(detail)["saleId"]) is None:
                assert time.monotonic() < end, "the worker takes nothing"
                time.sleep(0.2)


def serve() -> SyncTally:
    """Drain for ever with the settings as they are: a run of the asset under steady load."""
    settings = Settings.from_environment(os.environ)
    parts = sync_parts(settings, wiring.aws_clients(settings))
    while True:
        for _ in EventSync(parts, sync_rules(settings), SYSTEM_CLOCK, "bench", lambda _: None).drain():
            pass


def events(words: list[str]) -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(prog="python -m bench events", description=__doc__)
    parser.add_argument("--backlog", type=int, default=BACKLOG)
    parser.add_argument("--minutes", type=float, default=1.0, help="of one event a second")
    given = parser.parse_args(words)
    print("\n### The event sync\n")
    with _bench() as on:
        backlog(on, given.backlog)
        if given.minutes:
            latency(on, given.minutes * 60)


WORKERS: dict[str, Callable[..., SyncTally]] = {
    "drain": lambda batch: drain(int(batch)),
    "bare": lambda number: bare(int(number)),
    "serve": serve,
}

if __name__ == "__main__":
    name, *words = sys.argv[1:]
    found = WORKERS[name](*words)
    counts = {key: getattr(found, key) for key in ("received", "written", "duplicates", "batches", "commits")}
    print(json.dumps(counts))
