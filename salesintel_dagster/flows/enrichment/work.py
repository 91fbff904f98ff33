"""Working on batches, round by round: claim, ask, commit once, settle, and only then let go of the messages.

What the table holds was paid for, so it is written before the ledger says DONE; a worker that dies between the two
leaves rows that the next one finds, and asks for nothing again. A worker that was taken for dead is refused by the
ledger before it commits, and the table keeps the later row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.enrichment.batch import Batch, State
from salesintel_dagster.domain.enrichment.product import LookUpKey
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import LedgerUnavailable, QueueUnavailable, TableError
from salesintel_dagster.flows.enrichment.at_once import replaced
from salesintel_dagster.flows.enrichment.claims import Claimer, Held, Way
from salesintel_dagster.flows.enrichment.outcomes import Judgement, Patience, judged, until
from salesintel_dagster.flows.enrichment.parts import BEATS_A_LEASE, STORE_WAIT_SECONDS, EnrichmentParts, WorkLimits
from salesintel_dagster.flows.enrichment.requests import Asked, Asking, Outcome, Paid, open_products, planned
from salesintel_dagster.flows.enrichment.storing import Storing


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did. `states` counts the products of the batches it settled, as they stand after it."""

    messages: int
    batches: int
    requests: int
    states: Mapping[str, int]
    rows_written: int
    recovered: int
    waiting: int
    poison: int
    seconds: float
    tokens: TokenLevel | None
    batch_seconds: tuple[float, ...] = ()
    store_error: TableError | None = None

    def line(self) -> str:
        """Return it as one log line."""
        states = " ".join(f"{name}={count}" for name, count in sorted(self.states.items()))
        tokens = "unknown" if self.tokens is None else str(self.tokens.left)
        return (
            f"[Enrichment] Round done batches={self.batches} requests={self.requests} rows={self.rows_written} "
            f"waiting={self.waiting} poison={self.poison} tokens={tokens} seconds={self.seconds:.2f} {states}".rstrip()
        )


@dataclass(slots=True)
class _Keeping:
    """The batches whose requests are under way, as they are kept alive."""

    held: list[Held]
    beat_at: float


class Worker:
    """One worker of one run; `run_id` goes into rows and snapshots, `new_token` makes a lease's owner."""

    def __init__(  # noqa: PLR0913 - what a worker is made of, all by name
        self,
        parts: EnrichmentParts,
        limits: WorkLimits,
        *,
        run_id: str,
        new_token: Callable[[], str],
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        self._parts = parts
        self._limits = limits
        self._run_id = run_id
        self._clock = clock
        self._tell = tell
        self._storing = Storing(parts.table, parts.ledger.paid, parts.provider.name, run_id)
        self._claimer = Claimer(parts.ledger.batches, parts.queue, limits, clock, new_token, tell)

    def drain(self, seconds: float, poll_seconds: float) -> Iterator[Round]:
        """Work until the queue gives nothing for `poll_seconds`, and begin no round after `seconds`.

        Raises LedgerUnavailable, QueueUnavailable, TableError; batches that were held come again.
        """
        ends_at = self._clock.monotonic() + seconds
        while self._clock.monotonic() < ends_at:
            done = self.round(poll_seconds)
            if done is None:
                return
            self._tell(done.line())
            yield done
            if done.store_error is not None:
                raise done.store_error

    def round(self, poll_seconds: float) -> Round | None:
        """Receive once and work on what came; None where nothing came."""
        messages = self._parts.queue.receive(self._limits.batches_at_once, poll_seconds)
        if not messages:
            return None
        began = self._clock.monotonic()
        claims = self._claimer.claim(messages)
        level = self._parts.ledger.tokens.last(self._parts.provider.name)
        found = self._storing.found(claims.held)
        self._claimer.hold_back(found.unknown, self._clock.now() + timedelta(seconds=STORE_WAIT_SECONDS))
        asking, waits = affordable(found.held, level, self._clock.now())
        asked_at = self._clock.now()
        keeping = _Keeping(asking, self._clock.monotonic())
        asked = self._asked(keeping)
        ours = self._claimer.keep(keeping.held)
        written, error = self._storing.store(ours, asked.outcomes, asked_at)
        judgements = [(one, self._judged(one, asked.outcomes, stored=error is None)) for one in ours]
        judgements += [(one, replace(self._judged(one, {}, stored=False), wait_seconds=wait)) for one, wait in waits]
        settled = self._settled(judgements)
        self._forget_paid(ours if error is None else ())
        self._note_tokens(asked.tokens)
        return Round(
            messages=len(messages),
            batches=len(found.held),
            requests=asked.requests,
            states=Counter(status.told for batch in settled for status in batch.statuses),
            rows_written=written,
            recovered=sum(len(one.paid) + _done(one.batch) for one in found.held)
            - sum(_done(one.batch) for one in claims.held if one not in found.unknown),
            waiting=claims.others[Way.WAITING] + len(waits) + len(found.unknown),
            poison=claims.others[Way.POISON],
            seconds=self._clock.monotonic() - began,
            tokens=asked.tokens or level,
            batch_seconds=tuple(_seconds(batch) for batch in settled if batch.is_final),
            store_error=found.error or error,
        )

    def _asked(self, keeping: _Keeping) -> Asked:
        requests = planned((pair for one in keeping.held for pair in one.wanted), self._parts.provider)

        def beat() -> None:
            if self._clock.monotonic() - keeping.beat_at < self._limits.lease_seconds / BEATS_A_LEASE:
                return
            keeping.beat_at = self._clock.monotonic()
            try:
                keeping.held = self._claimer.keep(keeping.held)
            except (LedgerUnavailable, QueueUnavailable) as error:
                self._tell(f"[Enrichment] Leases were not prolonged: {error}")

        return Asking(self._parts.provider, self._limits.concurrency, beat).ask(requests) if requests else Asked()

    def _judged(self, one: Held, outcomes: Mapping[LookUpKey, Outcome], *, stored: bool) -> Judgement:
        patience = Patience(self._limits.attempts, self._limits.retry, self._clock.jitter())
        # By product: of two with one key the row of one alone may have been kept.
        of_each = {
            product.product_id: Paid() if product.product_id in one.paid else outcomes.get(product.key)
            for product, _ in open_products(one.batch)
        }
        return judged(one.batch, of_each, patience, self._clock.now(), stored=stored)

    def _settled(self, judgements: Sequence[tuple[Held, Judgement]]) -> list[Batch]:
        """Write the outcomes to the ledger, then let go of the messages; return the batches that were still ours."""
        now = self._clock.now()
        pairs = [
            (one, one.batch.settled(judgement.statuses, until(now, judgement.wait_seconds), now))
            for one, judgement in judgements
        ]
        writes = [(one.batch, after) for one, after in pairs]
        written = replaced(self._parts.ledger.batches, writes, self._limits.concurrency)
        settled = [pair for pair, done in zip(pairs, written, strict=True) if done]
        for (_, after), done in zip(pairs, written, strict=True):
            if not done:
                self._tell(f"[Enrichment] Batch {after.key} was taken over; our outcome is refused")
        self._parts.queue.delete([one.message for one, batch in settled if batch.is_final])
        for one, batch in settled:
            if not batch.is_final:
                self._claimer.postpone(one.message, batch, batch.not_before or now)
        return [batch for _, batch in settled]

    def _forget_paid(self, ours: Sequence[Held]) -> None:
        """Drop what the ledger kept and the table has now; what stays expires unread."""
        try:
            for one in ours:
                if one.paid:
                    self._parts.ledger.paid.forget(one.batch.key)
        except LedgerUnavailable as error:
            self._tell(f"[Enrichment] Rows that are stored stay in the ledger as well: {error}")

    def _note_tokens(self, tokens: TokenLevel | None) -> None:
        if tokens is None:
            return
        try:
            self._parts.ledger.tokens.note(self._parts.provider.name, tokens)
        except LedgerUnavailable as error:
            self._tell(f"[Enrichment] The token level was not kept: {error}")


def affordable(
    held: Sequence[Held], level: TokenLevel | None, now: datetime
) -> tuple[list[Held], list[tuple[Held, float]]]:
    """Part batches into those that there are tokens for and those that wait, each until its own turn comes."""
    if level is None:
        return list(held), []
    asking: list[Held] = []
    waits: list[tuple[Held, float]] = []
    paid: set[LookUpKey] = set()
    for one in held:
        new = {product.key for product, _ in one.wanted} - paid
        paid |= new
        wait = level.wait_seconds(len(new), now) if new else 0.0
        level = level.less(len(new))
        if wait > 0:
            waits.append((one, wait))
        else:
            asking.append(one)
    return asking, waits


def _done(batch: Batch) -> int:
    return sum(status.state is State.DONE for status in batch.statuses)


def _seconds(batch: Batch) -> float:
    if batch.started_at is None or batch.finished_at is None:
        return 0.0
    return (batch.finished_at - batch.started_at).total_seconds()
