"""One micro-batch on its way into both stores: steps 2 to 7 of the sync, one method each, in this order.

The order is what makes it exactly once in effect, whatever dies in between (DESIGN 5):
2. parse; what no store takes goes to quarantine and is deleted. 3. Receipts: what is in both stores is only deleted.
4. The sales table, sale by sale, each with its guard. 5. One commit to `sales_history` with ALL sales that have no
receipt, not only those that were new in step 4; then the corrections among them into the sales table. 6. Receipts.
7. Delete. The stores decide, never the receipt. Nothing is deleted before both stores or the quarantine have it, or a
higher version of it is in both, and an error passes through: what is not deleted comes again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import QueueUnavailable, RowsRefused
from salesintel_dagster.domain.event_queue import Quarantined, QueuedMessage
from salesintel_dagster.domain.history_rows import Ingestion, history_rows
from salesintel_dagster.domain.receipts import Receipt
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.domain.sale_event import SaleIdentity, parse_event
from salesintel_dagster.flows.sync.heartbeat import Heartbeat
from salesintel_dagster.flows.sync.ledger import Entered, Ledger
from salesintel_dagster.flows.sync.parts import SyncParts, SyncRules, SyncTally
from salesintel_dagster.flows.sync.pending import (
    Behind,
    Pending,
    bisected,
    contradicts,
    entries,
    foremost,
    held_higher,
    lags,
    message_count,
    messages_of,
    moved,
    row_refused,
    without,
)

BATCH_PROPERTY = "salesintel.batch-id"
RUN_PROPERTY = "salesintel.run-id"


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
    behind: list[Behind] = field(default_factory=list)

    def run(self, messages: Sequence[QueuedMessage]) -> SyncTally:
        """Take the messages through all steps. Raises what the ports raise; nothing is lost or doubled then.

        A quarantine out of reach stops only what it would have kept: that comes again, and the error is raised last.
        """
        self.heartbeat.hold(messages)
        ages = [(self.clock.now() - message.sent_at).total_seconds() for message in messages]
        self.tally += SyncTally(received=len(messages), batches=1, oldest_seconds=max(ages, default=0.0))
        in_both = self.stored(self.answered_by_receipt(self.parsed(messages)))
        self.receipted(in_both)
        self.deleted(messages_of(in_both))
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
        receipts = self.parts.receipts.get({one.identity for one in pending})
        rest, repeated, superseded, conflicts = [], [], [], []
        for one in pending:
            receipt, record = receipts.get(one.identity), one.event.record
            if receipt is None or receipt.event_version < record.event_version:
                rest.append(one)
            elif receipt.event_version > record.event_version:
                superseded.append(one)
            elif receipt.payload_hash == record.payload_hash:
                repeated.append(one)
            else:
                conflicts.append((one, receipt.payload_hash))
        self.in_conflict(conflicts)
        self._count(duplicates=message_count(repeated), superseded=message_count(superseded))
        self.deleted(messages_of([*repeated, *superseded]))
        return rest

    def stored(self, pending: Sequence[Pending]) -> list[Pending]:
        """Steps 4 and 5: return what both stores hold now. Where a version is not taken, the one behind it is tried."""
        in_both: list[Pending] = []
        while pending:
            entered = self.entered_in_ledger(pending)
            taken = self.committed(entered)
            in_both += taken
            pending = self.answered_by_higher_version(entered, taken)
        return in_both

    def entered_in_ledger(self, pending: Sequence[Pending]) -> list[Pending]:
        """Step 4: write each sale with its guard; return the highest version of each that may go on."""
        ledger = Ledger(self.parts.ledger, self.rules.ledger_writers)
        outcomes = ledger.enter([one.event for one in pending])
        found = list(zip(pending, outcomes, strict=True))
        self.in_conflict([(one, told.held_hash) for one, told in found if told.entered is Entered.CONFLICT])
        self.in_conflict([(one, told.held_hash) for one, told in found if told.entered is Entered.MOVES], moved)
        self.refused([(one, told.refusal) for one, told in found if told.refusal is not None])
        first, self.behind = foremost(found)
        return first

    def committed(self, pending: Sequence[Pending]) -> list[Pending]:
        """Step 5: one commit with all of them, then the corrections into the sales table; return what is in both."""
        by_identity = {one.identity: one for one in pending}
        commits, refused = bisected(pending, self._commit, (RowsRefused,))
        conflicts = {identity: held for found in commits for identity, held in found.items()}
        out = [by_identity[identity] for identity in conflicts] + [one for one, _ in refused]
        # What the sales table took as new and the other store did not must be in neither.
        ledger = Ledger(self.parts.ledger, self.rules.ledger_writers)
        ledger.withdraw([one.event for one in out if not one.corrects])
        self.refused([(one, row_refused(one, error)) for one, error in refused])
        taken = without(pending, {one.identity for one in out})
        conflicts |= ledger.correct([one.event for one in taken if one.corrects])
        self.in_conflict([(by_identity[identity], held) for identity, held in conflicts.items()])
        return without(taken, conflicts)

    def answered_by_higher_version(self, entered: Sequence[Pending], taken: Sequence[Pending]) -> list[Pending]:
        """End the versions behind those that both stores hold; return those whose higher version was not taken.

        One that only the sales table knows a higher version of is left, to come again: another worker is about to
        commit that one, or to take it out again because `sales_history` refuses it.
        """
        tried, higher = {one.identity for one in entered}, {one.identity: one for one in taken}
        with_one = [one.pending for one in self.behind if one.pending.identity in higher]
        elsewhere = [one for one in self.behind if one.pending.identity not in tried]
        rivals = [one for one in with_one if one.version == higher[one.identity].version]
        superseded = [one for one in with_one if one.version < higher[one.identity].version]
        superseded += (held := held_higher(self.parts.table, elsewhere))
        self.in_conflict([(one, higher[one.identity].event.record.payload_hash) for one in rivals])
        self._count(
            superseded=message_count(superseded),
            left=message_count(one.pending for one in elsewhere) - message_count(held),
        )
        self.deleted(messages_of(superseded))
        return [one.pending for one in self.behind if one.pending.identity in tried - higher.keys()]

    def receipted(self, pending: Sequence[Pending]) -> None:
        """Step 6: remember that both stores have them."""
        if pending:
            records = ((one.identity, one.event.record) for one in pending)
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

    def in_conflict(
        self, conflicts: Sequence[tuple[Pending, str]], why: Callable[[Pending], Rejection] = contradicts
    ) -> None:
        """Quarantine what says something else of a sale than the stores do, with both hashes."""
        found = [(one, why(one), held) for one, held in conflicts]
        if self.quarantined([entry for told in found for entry in entries(*told)]):
            named = tuple("/".join(one.identity) for one, _ in conflicts)
            self.tally += SyncTally(conflicts=message_count(one for one, _ in conflicts), conflicting=named)

    def refused(self, refusals: Sequence[tuple[Pending, Rejection]]) -> None:
        """Quarantine what a store refuses for what it holds."""
        if self.quarantined([entry for one, rejection in refusals for entry in entries(one, rejection, None)]):
            self._count(quarantined=message_count(one for one, _ in refusals))

    def _that_make_rows(self, pending: list[Pending]) -> list[Pending]:
        """Build the rows before anything is written; quarantine whose event fits no row."""
        _, misfits = bisected(pending, self._rows, (ValueError, TypeError, ArithmeticError))
        self.refused([(one, row_refused(one, error)) for one, error in misfits])
        out = [one for one, _ in misfits]
        return [one for one in pending if one not in out]

    def _commit(self, pending: Sequence[Pending]) -> Mapping[SaleIdentity, str]:
        properties = {RUN_PROPERTY: self.run_id, BATCH_PROPERTY: self.batch_id}
        commit = self.parts.table.write_new(self._rows(pending), properties)
        others = without(pending, commit.conflicts)
        waited = lags(others, self.clock.now()) if commit.written else [0.0]
        self.tally += SyncTally(
            written=commit.written,
            duplicates=message_count(others) - commit.written,
            commits=1 if commit.written else 0,
            commit_attempts=commit.attempts,
            lag_seconds_sum=sum(waited) / len(waited) * commit.written,
            lag_seconds_most=max(waited),
            months=frozenset(commit.months),
        )
        return commit.conflicts

    def _rows(self, pending: Sequence[Pending]) -> pa.Table:
        return history_rows([one.event for one in pending], Ingestion(self.run_id, self.clock.now()))

    def _count(self, **counts: int) -> None:
        self.tally = replace(self.tally, **{name: getattr(self.tally, name) + n for name, n in counts.items()})
