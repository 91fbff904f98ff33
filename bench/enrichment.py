"""Product enrichment: 1,000 products at 150 ms a request, 100 and one product a request, and a kill in the middle."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from bench.stage import ROOT, Measured, Stage, measured, server, stage
from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.enrichment.batch import counts
from salesintel_dagster.domain.enrichment.product import CatalogProduct, CatalogRead, LookUpKey, LookUpKind
from salesintel_dagster.flows.enrichment.parts import EnrichmentParts, WorkLimits
from salesintel_dagster.flows.enrichment.submit import Submission, submit
from salesintel_dagster.flows.enrichment.work import Worker
from salesintel_dagster.local.ports import LOOPBACK
from salesintel_dagster.local.world_environment import overlaid
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import enrichment

LATENCY_SECONDS = 0.150
PRODUCTS = 1_000
AT_ONCE = 10
HEADER = (
    "| run | wall s | / ideal | CPU ms a product | peak MB | requests | asked twice |\n|---|---|---|---|---|---|---|"
)


@dataclass
class Catalogs:
    """One stage's queue and ledger, and the provider that counts what is paid for."""

    on: Stage
    port: int

    def __post_init__(self) -> None:
        """Open the stage's ports."""
        self.settings = Settings.from_environment(self.on.environment)
        self.clients: AwsClients = wiring.aws_clients(self.settings)
        self.ledger = enrichment.enrichment_ledger(self.settings, self.clients)
        self.queue = enrichment.enrichment_queue(self.settings, self.clients)

    def hand_in(self, name: str, first: int) -> float:
        """Submit PRODUCTS products; return the seconds that took."""
        products = (
            CatalogProduct(f"{name}-{n}", LookUpKey(LookUpKind.ASIN, f"B{n:09d}"))
            for n in range(first, first + PRODUCTS)
        )
        began = time.perf_counter()
        asked = Submission("carousel-labs", name, "bench", CatalogRead(tuple(products), ()))
        submit(asked, self.ledger, self.queue, SYSTEM_CLOCK)
        return time.perf_counter() - began

    def stats(self) -> dict[str, Any]:
        """Return the provider's counters."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}/stats", timeout=5) as answered:
            told: dict[str, Any] = json.load(answered)
        return told

    def reset(self) -> None:
        """Forget the provider's counters and fill its bucket."""
        asked = urllib.request.Request(f"http://{LOOPBACK}:{self.port}/reset", data=b"{}", method="POST")
        urllib.request.urlopen(asked, timeout=5).close()  # noqa: S310 - our own server

    def run(self, **extra: str) -> Measured:
        """Measure one run of the asset's job as a process."""
        return measured([sys.executable, "-m", "bench.enrichment"], {**self.on.environment, **extra})

    def states(self, name: str) -> dict[str, int]:
        """Return the catalog's products by state."""
        [job] = self.ledger.jobs.of_catalog("carousel-labs", name)
        return dict(counts(self.ledger.batches.of_job(job)))


def bench() -> None:
    """Print the table."""
    print(
        f"\n### Enrichment of {PRODUCTS} products, 150 ms a request, {AT_ONCE} requests at once\n\n{HEADER}", flush=True
    )
    options = ("--latency-ms", "150", "--tokens-a-minute", "100000")
    with server("salesintel_dagster.local.keepa_server", *options) as port, stage(0, 0) as on:
        on.environment["SALESINTEL_KEEPA_URL"] = f"http://{LOOPBACK}:{port}"
        with overlaid(on.environment):
            catalogs = Catalogs(on, port)
            start = catalogs.run()
            print(f"| process start and an empty queue | {start.wall:.1f} | - | - | {start.peak_mb:.0f} | 0 | 0 |")
            for number, size in enumerate((100, 1)):
                _measured(catalogs, f"each-{size}", number * PRODUCTS, size)
            _killed(catalogs)


def _measured(catalogs: Catalogs, name: str, first: int, size: int) -> None:
    ideal = PRODUCTS / size * LATENCY_SECONDS / AT_ONCE
    seconds = catalogs.hand_in(name, first)
    catalogs.reset()
    run = catalogs.run(SALESINTEL_ENRICHMENT_REQUEST_PRODUCTS=str(size))
    told = catalogs.stats()
    assert catalogs.states(name) == {"DONE": PRODUCTS}, catalogs.states(name)
    print(
        f"| {size} a request | {run.wall:.1f} | {run.wall / ideal:.2f} | {run.cpu * 1000 / PRODUCTS:.1f} | "
        f"{run.peak_mb:.0f} | {told['requests']} | {len(told['asked_twice'])} |"
    )
    worked = float(run.printed.split("worked=")[1])
    print(
        f"\nideal = {PRODUCTS} / {size} x 0.150 / {AT_ONCE} = {ideal:.2f} s; the asset's own seconds {worked:.1f} "
        f"({worked / ideal:.2f} x ideal); handing in took {seconds:.1f} s.\n",
        flush=True,
    )


def _killed(catalogs: Catalogs) -> None:
    """SIGKILL a run at half; then let the leases end by a clock that is moved, and finish the work."""
    name = "killed"
    catalogs.hand_in(name, 5 * PRODUCTS)
    catalogs.reset()
    environment = {**catalogs.on.environment, "SALESINTEL_ENRICHMENT_REQUEST_PRODUCTS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "bench.enrichment"], env=environment, cwd=ROOT)
    while catalogs.stats()["products"] < PRODUCTS / 2:
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = catalogs.states(name)
    _finish(catalogs, name)
    told = catalogs.stats()
    assert catalogs.states(name) == {"DONE": PRODUCTS}, catalogs.states(name)
    print(
        f"Killed at half: {done.get('DONE', 0)} were DONE, {done.get('RUNNING', 0)} in flight (10 batches); "
        f"{len(told['asked_twice'])} of {PRODUCTS} asked twice after the recovery.",
        flush=True,
    )


def _finish(catalogs: Catalogs, name: str) -> None:
    [job] = catalogs.ledger.jobs.of_catalog("carousel-labs", name)
    sqs = catalogs.clients.client("sqs")
    sqs.purge_queue(QueueUrl=sqs.get_queue_url(QueueName=catalogs.settings.enrichment_queue_name)["QueueUrl"])
    catalogs.queue.send([one.body for one in catalogs.ledger.batches.of_job(job) if not one.is_final])
    parts = EnrichmentParts(
        catalogs.ledger,
        catalogs.queue,
        enrichment.enrichment_provider(catalogs.settings),
        enrichment.enrichment_table(catalogs.settings),
    )
    later = replace(SYSTEM_CLOCK, now=lambda: SYSTEM_CLOCK.now() + timedelta(seconds=301))
    worker = Worker(
        parts,
        WorkLimits(),
        run_id="recovery",
        new_token=lambda: secrets.token_hex(8),
        clock=later,
        tell=lambda _line: None,
    )
    for _ in worker.drain(600, 1):
        pass


def _run() -> None:
    """Do what a run worker does: load the definitions, run the job in this process."""
    import dagster as dg  # noqa: PLC0415 - in the measured process only

    from salesintel_dagster.defs import enrichment as served  # noqa: PLC0415 - same
    from salesintel_dagster.defs import resources  # noqa: PLC0415 - same

    settings = Settings.from_environment(os.environ)
    ports = dg.Definitions(resources=resources.build(settings), executor=dg.in_process_executor)
    # The five seconds that a run waits for another batch before it ends are no work.
    job = dg.Definitions.merge(served.build(settings, poll_seconds=0), ports).resolve_job_def(served.JOB)
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=True, run_config=quiet)
        [event] = result.get_asset_materialization_events()
        told = event.materialization.metadata
        print(f"paid={told['requests'].value} worked={told['seconds'].value}")


if __name__ == "__main__":
    _run()
