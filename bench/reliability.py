"""Events arrive while worker, Dagster's daemon, its runs and the emulator are killed (SIGKILL) at random in turn.

`python -m bench reliability [--seconds 600] [--seed 1] [--rate 10]`: an embedded world in a temporary home. At the
end all is drained, and both stores and the quarantine are compared with what was sent. docs/reliability.md says what
the run shows and what it cannot.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil

from bench.sold_stream import Stream, verdict
from salesintel_dagster import wiring
from salesintel_dagster.adapters.event_bus import EventBridgeBus
from salesintel_dagster.adapters.table_layout import HISTORY_TABLE, NAMESPACE
from salesintel_dagster.domain.payload_hash import payload_hash
from salesintel_dagster.flows.sync.redrive import look, redrive
from salesintel_dagster.local.world import World, open_world
from salesintel_dagster.local.world_environment import overlaid
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import event_shelves
from salesintel_dagster.wiring.events import event_queue

ROOT = Path(__file__).resolve().parents[1]
PAUSE = (5.0, 11.0)
"""Seconds between two kills; the emulator's supervisor gives it up after four ends within a minute."""
QUIET_SECONDS = 300.0
MOMENT_SECONDS = 20.0
"""Longest wait for a moment at which the emulator may be killed."""
SHORT = {
    "SALESINTEL_EVENT_GATHER_SECONDS": "2",
    "SALESINTEL_EVENT_BATCH_MESSAGES": "30",
    "SALESINTEL_EVENT_IDLE_SECONDS": "5",
    "SALESINTEL_EVENT_RUN_SECONDS": "30",
    "SALESINTEL_EVENT_VISIBILITY_SECONDS": "30",
    "SALESINTEL_RUN_MAX_SECONDS": "60",
}
"""So that a killed worker's messages, and a killed run's place, come back within the minute."""


@dataclass
class Stack:
    """What is killed: `kills` counts by victim."""

    world: World
    environment: dict[str, str]
    home: Path
    kills: Counter[str] = field(default_factory=Counter)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *words: str, **extra: str) -> None:
        """Start a process of the environment; its output goes to a file in the home."""
        with (self.home / f"{name}.out").open("ab") as out:
            self._running[name] = subprocess.Popen(
                [sys.executable, *words],
                env=self.environment | extra,
                cwd=ROOT,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def start_worker(self) -> None:
        """Start the worker that needs no Dagster."""
        self.start("worker", "-m", "bench.sync_worker", SALESINTEL_EVENT_IDLE_SECONDS="0")

    def start_daemon(self) -> None:
        """Start Dagster's daemon; its sensor asks for runs."""
        self.start("daemon", "-m", "dagster._daemon", "run", "-m", "salesintel_dagster.definitions")

    def kill_worker(self) -> None:
        """Kill the worker and start another."""
        self._kill("worker", self._running["worker"].pid)
        self.start_worker()

    def kill_daemon(self) -> None:
        """Kill the daemon and start another; a run that it launched lives on."""
        self._kill("daemon", self._running["daemon"].pid)
        self.start_daemon()

    def kill_run(self) -> None:
        """Kill a process that executes a run, where there is one now."""
        for process in self._ours():
            with suppress(psutil.Error):
                if any("spawn_main" in word for word in process.cmdline()):  # the code server's child
                    self._kill("run", process.pid)
                    return

    def kill_emulator(self) -> None:
        """Kill the emulator at a moment at which it has saved every write that it has answered, as AWS has."""
        assert self.world.supervisor is not None
        pid = self.world.supervisor.pid("emulator")
        if pid is None:
            return
        unsaved = self.world.home / "aws" / "services" / "unsaved"
        end = time.monotonic() + MOMENT_SECONDS
        while time.monotonic() < end:
            if not unsaved.exists():
                os.kill(pid, signal.SIGSTOP)
                while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
                    time.sleep(0.001)
                if not unsaved.exists():
                    self._kill("emulator", pid)
                    return
                os.kill(pid, signal.SIGCONT)
            time.sleep(0.002)
        self.kills["emulator not, no such moment"] += 1

    def runs(self) -> int:
        """Return how many runs Dagster has finished so far, by their processes' own logs."""
        import dagster as dg  # noqa: PLC0415 - half a second

        with dg.DagsterInstance.from_config(self.environment["DAGSTER_HOME"]) as instance:
            return instance.get_runs_count(dg.RunsFilter(job_name="carousel_sync"))

    def stop(self) -> None:
        """End everything that was started, and what it has started."""
        for process in (*self._running.values(), *self._ours()):
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        for process in self._running.values():
            process.wait()

    def _kill(self, name: str, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills[name] += 1
        if name in self._running:
            self._running[name].wait()

    def _ours(self) -> list[psutil.Process]:
        """Return the processes that our daemon left behind, known by the home in their environment."""
        found = []
        mine = {os.getpid(), *(process.pid for process in self._running.values())}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    process.pid not in mine
                    and process.environ().get("DAGSTER_HOME") == self.environment["DAGSTER_HOME"]
                ):
                    found.append(process)
        return found


@dataclass
class Stores:
    """What is in the stores, read as anybody could."""

    settings: Settings
    clients: Any

    def busy(self) -> int:
        """Return how many messages the queue still holds; dead letters are put back as a person would."""
        shelf = event_shelves.dead_letters(self.settings, self.clients)
        waiting = event_queue(self.settings, self.clients).depth().total
        if shelf.depth().total:
            redrive(shelf, event_shelves.event_inlet(self.settings, self.clients), lambda _: True, 10_000)
            return waiting + 1
        return waiting

    def ledger(self) -> dict[str, str]:
        """Return the payload hash of each sale in the sales table."""
        pages = self.clients.client("dynamodb").get_paginator("scan")
        items = pages.paginate(TableName=self.settings.sales_table_name, ConsistentRead=True)
        sales = [one for page in items for one in page["Items"] if one.get("entity", {}).get("S") == "SALE"]
        found = {one["saleId"]["S"]: one["payloadHash"]["S"] for one in sales}
        if len(found) != len(sales):
            raise SystemExit("a sale is twice in the sales table")
        return found

    def rows(self) -> list[tuple[str, str]]:
        """Return sale id and payload hash of each row of sales_history."""
        table = wiring.open_tables_catalog(self.settings).load_table((NAMESPACE, HISTORY_TABLE))
        rows = table.scan(selected_fields=("sale_id", "payload_hash")).to_arrow()
        return list(zip(rows["sale_id"].to_pylist(), rows["payload_hash"].to_pylist(), strict=True))

    def quarantined(self) -> Counter[str]:
        """Return the payload hashes of the details in quarantine."""
        found = look(event_shelves.event_quarantine(self.settings, self.clients), 10_000)
        bodies = [json.loads(one.message.body, parse_float=Decimal) for one in found.messages]
        return Counter(payload_hash(body["detail"]) for body in bodies)


def disturb(stack: Stack, seconds: float, chance: random.Random) -> None:
    """Kill one after the other, in rounds of a random order, until the time is up.

    The daemon only in every second round: it takes a good part of a round until its sensors look again.
    """
    victims: dict[str, Callable[[], None]] = {
        "worker": stack.kill_worker,
        "daemon": stack.kill_daemon,
        "run": stack.kill_run,
        "emulator": stack.kill_emulator,
    }
    end = time.monotonic() + seconds
    for number in itertools.count():
        names = sorted(victims.keys() - ({"daemon"} if number % 2 == 0 else set()))
        for name in chance.sample(names, len(names)):
            time.sleep(min(chance.uniform(*PAUSE), max(0.0, end - time.monotonic())))
            if time.monotonic() >= end:
                return
            victims[name]()


def settle(stores: Stores) -> float:
    """Wait until the queue and the dead letters are empty; return the seconds."""
    began = time.monotonic()
    while stores.busy():
        if time.monotonic() - began > QUIET_SECONDS:
            raise SystemExit(f"the queue is not empty after {QUIET_SECONDS:.0f} s")
        time.sleep(1.0)
    return time.monotonic() - began


def run(folder: Path, seconds: float, seed: int, rate: float) -> bool:
    """Run in an empty folder; print what happened; return whether nothing is lost or doubled."""
    with open_world(folder / "home", on_event=lambda _: None) as world, overlaid({**world.environment, **SHORT}):
        settings = Settings.from_environment(os.environ)
        clients = wiring.aws_clients(settings)
        dagster_home = Path(os.environ["DAGSTER_HOME"])
        dagster_home.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "salesintel_dagster" / "dagster.yaml", dagster_home / "dagster.yaml")
        stack = Stack(world, dict(os.environ), folder)
        stores = Stores(settings, clients)
        stream = Stream(EventBridgeBus(clients.client("events")), settings.tenant, seed, rate)
        try:
            stack.start_worker()
            stack.start_daemon()
            stream.start()
            disturb(stack, seconds, random.Random(seed))
            stream.stop()
            drained = settle(stores)
            runs = stack.runs()
        finally:
            stack.stop()
        ledger, rows, quarantined = stores.ledger(), stores.rows(), stores.quarantined()
        sent = stream.confirmed
        wrong = verdict(sent, ledger, rows, quarantined)
        by_dagster = _by_dagster(settings)
    kills = ", ".join(f"{name} {count}" for name, count in sorted(stack.kills.items()))
    print(f"killed in {seconds:.0f} s: {kills}; Dagster made {runs} runs")
    print(f"sent: {len(sent)} events, drained {drained:.0f} s after the last one")
    print(f"sales table: {len(ledger)} sales; sales_history: {len(rows)} rows, {by_dagster} of them by Dagster's runs")
    print(f"quarantine: {sum(quarantined.values())} messages of {len(quarantined)} events")
    for line in wrong[:20]:
        print(f"  WRONG: {line}")
    print("nothing lost, nothing doubled" if not wrong else f"{len(wrong)} differences")
    return not wrong


def _by_dagster(settings: Settings) -> int:
    table = wiring.open_tables_catalog(settings).load_table((NAMESPACE, HISTORY_TABLE))
    runs = table.scan(selected_fields=("run_id",)).to_arrow()["run_id"].to_pylist()
    return sum(not one.startswith("worker-") for one in runs)


def reliability(words: list[str]) -> None:
    """Run it; exit code 1 where anything was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m bench reliability", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=10.0, help="events a second")
    parser.add_argument("--keep", action="store_true", help="keep the folder, with every process's output")
    given = parser.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="salesintel-reliability-"))
    folder.chmod(0o711)
    try:
        fine = run(folder, given.seconds, given.seed, given.rate)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if fine else 1)
