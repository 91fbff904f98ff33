"""The whole enrichment over fakes: submit, work, sweep, let time pass, and what must hold at any moment."""

from __future__ import annotations

import itertools

from salesintel_dagster.domain.enrichment.batch import counts
from salesintel_dagster.domain.enrichment.product import CatalogProduct, CatalogRead, LookUpKey, LookUpKind
from salesintel_dagster.domain.errors import QueueUnavailable, SalesIntelError
from salesintel_dagster.flows.enrichment.parts import EnrichmentParts, WorkLimits
from salesintel_dagster.flows.enrichment.status import JobStatus, status_of
from salesintel_dagster.flows.enrichment.submit import Submission, Submitted, submit
from salesintel_dagster.flows.enrichment.sweep import sweep
from salesintel_dagster.flows.enrichment.work import Round, Worker
from salesintel_dagster_tests.fakes.enrichment import HeldClock, InMemoryEnrichmentTable, InMemoryJobs, InMemoryQueue
from salesintel_dagster_tests.fakes.enrichment_provider import ScriptedProvider
from salesintel_dagster_tests.fakes.wire import Wire

TENANT, CATALOG, USER = "carousel-labs", "summer", "ann"
STEP_SECONDS = 60.0
LONGEST_STEPS = 600


def catalog(products: int) -> CatalogRead:
    named = (CatalogProduct(f"p-{n:04d}", LookUpKey(LookUpKind.ASIN, f"B{n:09d}")) for n in range(products))
    return CatalogRead(tuple(named), ())


class EnrichmentWorld:
    """One deployment; all its fakes share one wire and one clock."""

    def __init__(self, *, concurrency: int = 1, attempts: int = 4, max_per_request: int = 100) -> None:
        self.wire = Wire()
        self.time = HeldClock()
        self.clock = self.time.clock
        self.store = InMemoryJobs(self.wire, self.clock)
        self.ledger = self.store.ledger
        self.queue = InMemoryQueue(self.clock, wire=self.wire)
        self.dead = InMemoryQueue(self.clock)
        self.queue.dead = self.dead
        self.provider = ScriptedProvider(max_per_request=max_per_request, wire=self.wire)
        self.table = InMemoryEnrichmentTable(self.wire)
        self.limits = WorkLimits(concurrency=concurrency, attempts=attempts)
        self.lines: list[str] = []
        self._tokens = itertools.count(1)

    @property
    def parts(self) -> EnrichmentParts:
        return EnrichmentParts(self.ledger, self.queue, self.provider, self.table)

    def submit(self, products: int | CatalogRead = 30, size: int = 10, user: str = USER) -> Submitted:
        read = catalog(products) if isinstance(products, int) else products
        return submit(Submission(TENANT, CATALOG, user, read, size), self.ledger, self.queue, self.clock)

    def worker(self, run_id: str = "run-1") -> Worker:
        return Worker(
            self.parts,
            self.limits,
            run_id=run_id,
            new_token=lambda: f"{run_id}-{next(self._tokens)}",
            clock=self.clock,
            tell=self.lines.append,
        )

    def drain(self, run_id: str = "run-1") -> list[Round]:
        return list(self.worker(run_id).drain(3600, 0))

    def until_quiet(self) -> None:
        """Let runs and sweeps go on, a minute apart, until nothing is open."""
        for _ in range(LONGEST_STEPS):
            try:
                sweep(self.ledger, self.queue, self.clock)
                self.drain("later")
            except (SalesIntelError, QueueUnavailable):
                pass
            if not self.store.opened and not self.queue.kept:
                return
            self.time.move(STEP_SECONDS)
        raise AssertionError(f"not quiet after {LONGEST_STEPS} minutes: {self.states()}")

    def status(self) -> JobStatus:
        [job] = self.store.of_catalog(TENANT, CATALOG)
        return status_of(job, self.store.of_job(job), self.store.last(self.provider.name), self.clock.now())

    def states(self) -> dict[str, int]:
        return dict(counts(list(self.store.held.values())))

    def assert_states_add_up(self) -> None:
        """H10: of every job that was accepted, the states add up to the products."""
        for job in self.store.jobs.values():
            batches = [batch for key, batch in self.store.held.items() if key.plan == job.plan]
            assert sum(len(batch.statuses) for batch in batches) == job.products
