"""What the reliability run sends, and what must be in the stores when all is quiet.

The sender is an honest producer with an outbox: a batch that the bus did not confirm is sent again.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from salesintel_dagster.adapters.event_bus import EventBridgeBus
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import EventBusUnavailable
from salesintel_dagster.domain.event_bus import OutgoingEvent
from salesintel_dagster.domain.payload_hash import payload_hash
from salesintel_dagster.flows.sync.samples import sample_details

POISON_EVERY, AGAIN_EVERY, CONFLICT_EVERY = 40, 15, 60


@dataclass
class Stream:
    """Sends about `rate` events a second until it is told to stop; `confirmed` is everything that was taken."""

    bus: EventBridgeBus
    tenant: str
    seed: int
    rate: float
    confirmed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Make the thread that sends."""
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Stop making new events, and wait until the outbox is empty."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        details = self._details()
        chance = random.Random(self.seed)
        while not self._stop.is_set():
            batch = [next(details) for _ in range(chance.randint(1, 5))]
            self._put(batch)
            self._stop.wait(len(batch) / self.rate)

    def _put(self, details: list[str]) -> None:
        events = [OutgoingEvent(n, detail) for n, detail in enumerate(details)]
        while events:
            try:
                events = [one.event for one in self.bus.put(events)]
            except EventBusUnavailable:
                time.sleep(0.2)
        self.confirmed += details

    def _details(self) -> Iterator[str]:
        today = SYSTEM_CLOCK.now().date()
        before: list[str] = []
        for number in range(1, 10**6):
            (found,) = sample_details(1, self.seed * 10**6 + number, self.tenant, today, vectors=number % 4 == 0)
            detail = json.dumps(found)
            yield detail
            before = [*before[-500:], detail]
            if number % AGAIN_EVERY == 0:
                yield before[number % len(before)]
            if number % CONFLICT_EVERY == 0:
                yield json.dumps({**found, "salePrice": "0.01"})
            if number % POISON_EVERY == 0:
                yield json.dumps({**found, "saleId": f"POISON-{number}", "salePrice": -1})


def verdict(
    sent: list[str], ledger: Mapping[str, str], rows: list[tuple[str, str]], quarantined: Counter[str]
) -> list[str]:
    """Return every way in which the stores are not what was sent; `quarantined` counts payload hashes."""
    wrong = []
    table = dict(rows)
    if len(table) != len(rows):
        doubled = [sale for sale, count in Counter(sale for sale, _ in rows).items() if count > 1]
        wrong.append(f"doubled in sales_history: {doubled[:5]}")
    payloads: dict[str, set[str]] = {}
    for detail in sent:
        found = json.loads(detail, parse_float=Decimal)
        payloads.setdefault(found["saleId"], set()).add(payload_hash(found))
    good = {sale: hashes for sale, hashes in payloads.items() if not sale.startswith("POISON")}
    for name, store in (("the sales table", ledger), ("sales_history", table)):
        wrong += [f"lost in {name}: {sale}" for sale in sorted(good.keys() - store.keys())]
        wrong += [f"nobody sent what is in {name}: {sale}" for sale in sorted(store.keys() - good.keys())]
    for sale, hashes in payloads.items():
        held = ledger.get(sale)
        if held != table.get(sale):
            wrong.append(f"the stores differ: {sale}")
        if held is not None and held not in hashes:
            wrong.append(f"a payload that nobody sent: {sale}")
        wrong += [f"neither stored nor quarantined: {sale}" for one in hashes if one != held and not quarantined[one]]
        wrong += [f"stored and quarantined: {sale}" for one in hashes if one == held and quarantined[one]]
    return wrong
