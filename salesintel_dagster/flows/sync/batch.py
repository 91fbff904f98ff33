"""One micro-batch on its way into both stores: steps 2 to 7 of the sync, one method each, in this order.

The order is what makes it exactly once in effect, whatever dies in between (DESIGN 5):
2. parse; what no store takes goes to quarantine and is deleted. 3. Receipts: what is in both stores is only deleted.
4. The sales table, sale by sale, each with its guard. 5. One commit to `sales_history` with ALL sales that have no
receipt, not only those that were new in step 4. 6. Receipts. 7. Delete.
The stores decide, never the receipt. Nothing is deleted before both stores or the quarantine have it, and an error
passes through: what is not deleted comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow as pa

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import QueueUnavailable, RowsRefused
from salesintel_dagster.domain.event_queue import Quarantined, QueuedMessage
from salesintel_dagster.domain.history_rows import Ingestion, history_rows
from salesintel_dagster.domain.receipts import Receipt
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.domain.sale_event import SaleEvent, SaleIdentity, parse_event
from salesintel_dagster.flows.sync.heartbeat import Heartbeat
from salesintel_dagster.flows.sync.ledger import Entered, Ledger
from salesintel_dagster.flows.sync.parts import SyncParts, SyncRules, SyncTally

CONFLICT = "CONFLICT"
ROW_REFUSED = "ROW_REFUSED"
BATCH_PROPERTY = "salesintel.batch-id"
RUN_PROPERTY = "salesintel.run-id"


@dataclass(frozen=True, slots=True)
class Pending:
    """One payload of one sale, with every message of the batch that says it."""

    event: SaleEvent
    messages: tuple[QueuedMessage, ...]


@dataclass(slots=True)
class MicroBatch:
    """Takes the messages of one gathering. `batch_id` and `run_id` stand in the snapshot that it makes."""

    parts: SyncParts
    rules: SyncRules
    clock: Clock
    heartbeat: Heartbeat
    run_id: str
    batch_id: str
    tally: SyncTally = field(default_factory=SyncTally)
    not_kept: list[QueueUnavailable] = field(default_factory=list)

    def run(self, messages: Sequence[QueuedMessage]) -> SyncTally:
        """Take the messages through all steps. Raises what the ports raise; nothing is lost or doubled then.

        A quarantine out of reach stops only what it would have kept: that comes again, and the error is raised last.
        """
        self.heartbeat.hold(messages)
        ages = [(self.clock.now() - message.sent_at).total_seconds() for message in messages]
        self.tally += SyncTally(received=len(messages), batches=1, oldest_seconds=max(ages, default=0.0))
        unanswered = self.answered_by_receipt(self.parsed(messages))
        entered = self.entered_in_ledger(unanswered)
        in_both = self.committed(entered)
        self.receipted(in_both)
        self.deleted(one for pending in in_both for one in pending.messages)
        if self.not_kept:
            raise self.not_kept[0]
        return self.tally

    def parsed(self, messages: Sequence[QueuedMessage]) -> list[Pending]:
        """Step 2: return what the messages say, first come first; what says nothing goes to quarantine."""
        poison: list[Quarantined] = []
        found: dict[tuple[SaleIdentity, str], Pending] = {}
        for message in messages:
            event = parse_event(message.body, self.rules.events)
            if isinstance(event, Rejection):
                poison.append(Quarantined(message, event))
                continue
            key = (event.identity, event.record.payload_hash)
            there = found.get(key)
            found[key] = Pending(event, (*(there.messages if there else ()), message))
        if self.quarantined(poison):
            self._count(quarantined=len(poison))
        return self._that_make_rows(list(found.values()))

    def answered_by_receipt(self, pending: Sequence[Pending]) -> list[Pending]:
        """Step 3: return what has no receipt; what has one is in both stores already, or contradicts them."""
        receipts = self.parts.receipts.get({one.event.identity for one in pending})
        rest, repeated, superseded, conflicts = [], [], [], []
        for one in pending:
            receipt, record = receipts.get(one.event.identity), one.event.record
            if receipt is None or receipt.event_version < record.event_version:
                rest.append(one)
            elif receipt.event_version > record.event_version:
                superseded.append(one)
            elif receipt.payload_hash == record.payload_hash:
                repeated.append(one)
            else:
                conflicts.append((one, receipt.payload_hash))
        self.in_conflict(conflicts)
        self._count(duplicates=_messages(repeated), superseded=_messages(superseded))
        self.deleted(one for pending in (*repeated, *superseded) for one in pending.messages)
        return rest

    def entered_in_ledger(self, pending: Sequence[Pending]) -> list[Pending]:
        """Step 4: write each sale with its guard; return those that are there now, new or not."""
        ledger = Ledger(self.parts.ledger, self.rules.ledger_writers)
        outcomes = ledger.enter([one.event for one in pending])
        found = list(zip(pending, outcomes, strict=True))
        self.in_conflict([(one, told.held_hash) for one, told in found if told.entered is Entered.CONFLICT])
        self.refused([(one, told.refusal) for one, told in found if told.refusal is not None])
        superseded = [one for one, told in found if told.entered is Entered.SUPERSEDED]
        self._count(superseded=_messages(superseded))
        self.deleted(one for pending in superseded for one in pending.messages)
        return [one for one, told in found if told.entered is Entered.THERE]

    def committed(self, pending: Sequence[Pending]) -> list[Pending]:
        """Step 5: one commit with all of them; return those that the table holds now."""
        by_identity = {one.event.identity: one for one in pending}
        conflicts: dict[SaleIdentity, str] = {}
        refused: list[tuple[Pending, Rejection]] = []
        for part in self._commits(list(pending), refused):
            conflicts |= part
        # What the sales table took and the other store did not must be in neither.
        ledger = Ledger(self.parts.ledger, self.rules.ledger_writers)
        ledger.withdraw([by_identity[identity].event for identity in conflicts])
        ledger.withdraw([one.event for one, _ in refused])
        self.in_conflict([(by_identity[identity], held) for identity, held in conflicts.items()])
        self.refused(refused)
        out = {*conflicts, *(one.event.identity for one, _ in refused)}
        return [one for one in pending if one.event.identity not in out]

    def receipted(self, pending: Sequence[Pending]) -> None:
        """Step 6: remember that both stores have them."""
        if pending:
            records = ((one.event.identity, one.event.record) for one in pending)
            self.parts.receipts.put([Receipt(name, one.payload_hash, one.event_version) for name, one in records])

    def deleted(self, messages: Iterable[QueuedMessage]) -> None:
        """Step 7, and the end of whatever was answered earlier."""
        gone = list(messages)
        if gone:
            self.heartbeat.release(gone)
            self._count(left=len(self.parts.queue.delete(gone)))

    def quarantined(self, entries: Sequence[Quarantined]) -> bool:
        """Keep the messages with their reasons, then delete them; tell whether they are kept."""
        if not entries:
            return True
        try:
            self.parts.quarantine.put(entries)
        except QueueUnavailable as error:
            self.not_kept.append(error)
            return False
        self.deleted(entry.message for entry in entries)
        return True

    def in_conflict(self, conflicts: Sequence[tuple[Pending, str]]) -> None:
        """Quarantine what says something else of a sale than the stores do, with both hashes."""
        rule = "one sale id and version has one payload; the first stays"
        found = [
            (one, Rejection(CONFLICT, "saleId", one.event.identity.sale_id, rule), held) for one, held in conflicts
        ]
        if self.quarantined([entry for told in found for entry in _entries(*told)]):
            self._count(conflicts=_messages([one for one, _ in conflicts]))

    def refused(self, refusals: Sequence[tuple[Pending, Rejection]]) -> None:
        """Quarantine what a store refuses for what it holds."""
        if self.quarantined([entry for one, rejection in refusals for entry in _entries(one, rejection, None)]):
            self._count(quarantined=_messages([one for one, _ in refusals]))

    def _that_make_rows(self, pending: list[Pending]) -> list[Pending]:
        """Build the rows before anything is written; quarantine whose event fits no row."""
        try:
            history_rows([one.event for one in pending], self._ingestion())
        except (ValueError, TypeError, ArithmeticError) as error:
            if len(pending) == 1:
                self.refused([(pending[0], _row_refused(pending[0], error))])
                return []
            middle = len(pending) // 2
            return self._that_make_rows(pending[:middle]) + self._that_make_rows(pending[middle:])
        return pending

    def _commits(
        self, pending: list[Pending], refused: list[tuple[Pending, Rejection]]
    ) -> Iterable[dict[SaleIdentity, str]]:
        """Commit them together; where their rows are refused, the halves, down to the row. Yield the conflicts."""
        if not pending:
            return
        try:
            rows = history_rows([one.event for one in pending], self._ingestion())
            yield self._commit(pending, rows)
        except RowsRefused as error:
            if len(pending) == 1:
                refused.append((pending[0], _row_refused(pending[0], error)))
                return
            middle = len(pending) // 2
            yield from self._commits(pending[:middle], refused)
            yield from self._commits(pending[middle:], refused)

    def _commit(self, pending: Sequence[Pending], rows: pa.Table) -> dict[SaleIdentity, str]:
        properties = {RUN_PROPERTY: self.run_id, BATCH_PROPERTY: self.batch_id}
        commit = self.parts.table.write_new(rows, properties)
        others = [one for one in pending if one.event.identity not in commit.conflicts]
        lags = _lags(others, self.clock.now()) if commit.written else [0.0]
        self.tally += SyncTally(
            written=commit.written,
            duplicates=_messages(others) - commit.written,
            commits=1 if commit.written else 0,
            commit_attempts=commit.attempts,
            lag_seconds_sum=sum(lags) / len(lags) * commit.written,
            lag_seconds_most=max(lags),
            months=frozenset(commit.months),
        )
        return dict(commit.conflicts)

    def _ingestion(self) -> Ingestion:
        return Ingestion(self.run_id, self.clock.now())

    def _count(self, **counts: int) -> None:
        self.tally = replace(self.tally, **{name: getattr(self.tally, name) + n for name, n in counts.items()})


def _row_refused(pending: Pending, error: Exception) -> Rejection:
    return Rejection(ROW_REFUSED, "detail", pending.event.identity.sale_id, f"a row that sales_history takes: {error}")


def _messages(pending: Sequence[Pending]) -> int:
    return sum(len(one.messages) for one in pending)


def _lags(pending: Sequence[Pending], now: datetime) -> list[float]:
    return [(now - (one.event.sent_at or one.messages[0].sent_at)).total_seconds() for one in pending]


def _entries(pending: Pending, rejection: Rejection, held_hash: str | None) -> list[Quarantined]:
    tenant, sale = pending.event.identity
    return [
        Quarantined(one, rejection, tenant, sale, pending.event.record.payload_hash, held_hash)
        for one in pending.messages
    ]
