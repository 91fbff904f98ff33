"""The enrichment on emulated SQS and DynamoDB, Iceberg files and the provider's stand-in, as a flow of the harness."""

from __future__ import annotations

import itertools
import re
import secrets
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog import Catalog

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.enrichment_table import IcebergEnrichmentTable
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.adapters.keepa import KeepaProvider
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.enrichment.batch import counts
from salesintel_dagster.domain.enrichment.job import Job
from salesintel_dagster.domain.enrichment.product import CatalogProduct, CatalogRead, LookUpKey, LookUpKind
from salesintel_dagster.domain.errors import SalesIntelError
from salesintel_dagster.flows.enrichment.parts import EnrichmentParts, WorkLimits
from salesintel_dagster.flows.enrichment.submit import Submission, Submitted, submit
from salesintel_dagster.flows.enrichment.sweep import sweep
from salesintel_dagster.flows.enrichment.work import Worker
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import enrichment
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.harness.calls import Line

TENANT = "carousel-labs"
ROUNDS = 8


class CountedKeepa(KeepaProvider):
    """The real client; `paid` counts the ASINs of every request that the provider has answered."""

    def __init__(self, url: str) -> None:
        super().__init__(url=url, key="canary-key", domain=3, max_per_request=4)
        self.paid: Counter[str] = Counter()

    def _exchange(self, head: bytes, deadline: float) -> tuple[int, bytes]:
        status, body = super()._exchange(head, deadline)
        if status == 200:
            self.paid.update(re.findall(r"[A-Z0-9]{10}(?=[,% ])", head.decode().partition("asin=")[2]))
        return status, body


@dataclass
class EnrichmentFlow:
    """One deployed stage; a world is a catalog of its own in it. `products` in batches of `size`."""

    aws: AwsClients
    catalog: Catalog
    provider_url: str
    products: int = 3
    size: int = 5
    line: Line = field(default_factory=Line)

    _numbers = itertools.count(1)

    def __post_init__(self) -> None:
        self.settings = Settings(stage=f"t{secrets.token_hex(4)}")
        deploy(self.aws, self.settings.stage, lambda _line: None)
        self.shift = timedelta()
        self.ledger = enrichment.enrichment_ledger(self.settings, self.aws)
        self.queue = enrichment.enrichment_queue(self.settings, self.aws)
        self.dead = enrichment.enrichment_dead_letters(self.settings, self.aws)
        self.keepa = CountedKeepa(self.provider_url)
        self.table = IcebergEnrichmentTable(lambda: self.catalog, held_clock())
        for service in ("sqs", "dynamodb"):
            self.line.watch_client(self.aws.client(service))
        self.line.watch(self.catalog, "load_table", "commit_table")
        self.line.watch(self.keepa, "_exchange")

    @property
    def clock(self) -> Clock:
        """The real calendar, moved by `shift`; waits cost nothing."""
        return replace(held_clock(), now=lambda: datetime.now(UTC) + self.shift)

    def world(self) -> str:
        self.keepa.paid.clear()
        return f"c{next(self._numbers)}"

    def start(self, world: str) -> None:
        self.submit(world)
        self.work("first")

    def second(self, world: str) -> None:
        """Run another worker to completion, the first one's leases having ended and its messages being seen again."""
        self.redeliver(world)
        self.work("second")

    def recover(self, world: str) -> None:
        """Go on as production does; a user whose submission died submits again."""
        for number in range(ROUNDS):
            try:
                if not self.ledger.jobs.of_catalog(TENANT, world):
                    self.submit(world)
                self.redeliver(world)
                self.work(f"later-{number}")
                sweep(self.ledger, self.queue, self.clock)
            except SalesIntelError:
                if number == ROUNDS - 1:
                    raise
            if not self.ledger.unfinished.all():
                return
        raise AssertionError(f"not done: {self.states(world)}")

    def check(self, world: str) -> None:
        """H3, H10: every product once in the table, states that add up, nothing paid for more than once again."""
        assert self.states(world) == {"DONE": self.products}
        assert self.rows(world) == self.products
        assert self.queue.depth().waiting == 0
        assert set(self.keepa.paid) == set(self.asins(world))
        assert max(self.keepa.paid.values()) <= 2

    def asins(self, world: str) -> list[str]:
        return [f"B{world[1:]:0>5}{n:04d}" for n in range(self.products)]

    def submit(self, world: str) -> Submitted:
        named = tuple(
            CatalogProduct(f"{world}-{n}", LookUpKey(LookUpKind.ASIN, asin)) for n, asin in enumerate(self.asins(world))
        )
        asked = Submission(TENANT, world, "ann", CatalogRead(named, ()), self.size)
        return submit(asked, self.ledger, self.queue, self.clock)

    def work(self, run_id: str) -> None:
        worker = Worker(
            EnrichmentParts(self.ledger, self.queue, self.keepa, self.table),
            WorkLimits(concurrency=1),
            run_id=run_id,
            new_token=lambda: secrets.token_hex(8),
            clock=self.clock,
            tell=lambda _line: None,
        )
        for _ in worker.drain(60, 0):
            pass

    def redeliver(self, world: str) -> None:
        """Let leases and waits end and the messages be seen again, as time would."""
        self.shift += timedelta(seconds=601)
        sqs = self.aws.client("sqs")
        sqs.purge_queue(QueueUrl=sqs.get_queue_url(QueueName=self.settings.enrichment_queue_name)["QueueUrl"])
        for job in self.ledger.jobs.of_catalog(TENANT, world):
            self.queue.send([one.body for one in self.ledger.batches.of_job(job) if not one.is_final])

    def job(self, world: str) -> Job:
        [found] = self.ledger.jobs.of_catalog(TENANT, world)
        return found

    def states(self, world: str) -> dict[str, int]:
        return dict(counts(self.ledger.batches.of_job(self.job(world))))

    def rows(self, world: str) -> int:
        wanted: Collection[str] = [f"{world}-{n}" for n in range(self.products)]
        found = self.table.held(TENANT, wanted, ("product_id",))
        assert len(set(found["product_id"].to_pylist())) == found.num_rows
        return found.num_rows
