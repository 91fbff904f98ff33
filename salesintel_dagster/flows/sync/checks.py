"""What the sync promises of `sales_history` and its queues, and whether it holds.

The queues' promises are judged after each drain and every minute, the table's once a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta

from salesintel_dagster.domain.checks import Promise, Severity, Verdict, verdict
from salesintel_dagster.domain.errors import DuplicateKeys, QueueUnavailable
from salesintel_dagster.domain.event_queue import QueueDepth
from salesintel_dagster.domain.event_queues import EventQueueStates, OldestAge, QueueState, misfits
from salesintel_dagster.domain.history_facts import MOST_NAMED, HistoryFacts
from salesintel_dagster.domain.reconciliation import HISTORY_MATCHES_LEDGER, judged
from salesintel_dagster.flows.export.vector_checks import judge_vectors
from salesintel_dagster.flows.sync.parts import VISIBILITY_PER_GATHERING, SyncTally
from salesintel_dagster.flows.sync.reconcile import Reconciliation

SALES_HISTORY = "sales_history"
WARNS_BEFORE = timedelta(days=2)
"""Time left before SQS drops a message, when the check begins to warn."""
NO_TIME_LEFT = timedelta(days=1)


def _promise(name: str, description: str) -> Promise:
    return Promise(name, SALES_HISTORY, description)


NO_CONFLICT = _promise(
    "no_event_in_conflict", "No event of the run contradicted the stores: one sale id and version has one payload."
)
QUARANTINE_EMPTY = _promise(
    "event_quarantine_is_empty", "No sold event waits in quarantine. `salesintel events quarantine list` tells why."
)
DEAD_LETTERS_EMPTY = _promise(
    "event_dead_letters_are_empty", "No sold event was received so often that SQS set it aside."
)
NONE_EXPIRES = _promise(
    "no_event_is_about_to_expire", "Every sold event is taken in at least two days before SQS would drop it."
)
QUEUES_AS_DESIGNED = _promise(
    "event_queues_are_as_designed",
    "Dead letters are kept longer than events, a message stays hidden while it is worked on, and one that is received "
    "too often is set aside.",
)
IDS_UNIQUE = _promise("history_ids_are_unique", "Each (tenant, sale id) is in the whole table once.")
ONE_SOURCE = _promise(
    "no_sale_from_two_sources",
    "No sale of the days is, by tenant, product, price and date, in smartgo_sales as well.",
)
OF_QUEUES = (QUARANTINE_EMPTY, DEAD_LETTERS_EMPTY, NONE_EXPIRES, QUEUES_AS_DESIGNED)


def vectors_promise(dimension: int) -> Promise:
    """Return the promise that the vectors of the days are vectors."""
    return _promise(
        f"history_vectors_are_{dimension}_dim",
        f"Every vector of the days in the table is exactly {dimension} finite float32 values, not all zero.",
    )


def of_table(dimension: int) -> tuple[Promise, ...]:
    """Return the promises that are judged once a day."""
    return (HISTORY_MATCHES_LEDGER, IDS_UNIQUE, vectors_promise(dimension), ONE_SOURCE)


def judge_conflicts(tally: SyncTally) -> Verdict:
    """Judge a run by its tally, naming sales: each conflict lies in quarantine, with both hashes."""
    return Verdict(
        NO_CONFLICT,
        passed=tally.conflicts == 0,
        severity=Severity.ERROR,
        expected="no conflict",
        found=f"{tally.conflicts} of {tally.received} events; the payload that was there first stays",
        offenders=tally.conflicting,
        facts={"conflicts": tally.conflicts},
    )


def judge_queues(states: EventQueueStates, gather_seconds: float, ages: Iterable[OldestAge] = ()) -> list[Verdict]:
    """Judge depths, attributes and age; `ages` are what others than the queue's own metric know of the oldest."""
    wrong = list(misfits(states, timedelta(seconds=VISIBILITY_PER_GATHERING * gather_seconds)))
    return [
        _empty(QUARANTINE_EMPTY, states.quarantine, Severity.WARN),
        _empty(DEAD_LETTERS_EMPTY, states.dead_letters, Severity.ERROR),
        judge_age([states.oldest, *ages], states.queue),
        verdict(
            QUEUES_AS_DESIGNED,
            expected="attributes under which no message is lost or comes twice",
            found=f"{len(wrong)} that contradict it",
            offenders=wrong,
            severity=Severity.WARN,
        ),
    ]


def unreachable(error: QueueUnavailable) -> Verdict:
    """Return the verdict on queues that cannot be looked at: nothing else can be said of them."""
    return Verdict(
        QUEUES_AS_DESIGNED,
        passed=False,
        severity=Severity.ERROR,
        expected="three queues that answer",
        found=str(error),
    )


def judge_age(ages: Sequence[OldestAge], queue: QueueState) -> Verdict:
    """Judge the greatest age that anybody knows of; where nobody does, nothing is wrong that we know of."""
    oldest = max((age for age in ages if age.seconds is not None), key=lambda age: age.seconds or 0.0, default=ages[0])
    age = timedelta(seconds=oldest.seconds or 0.0)
    known = {} if oldest.seconds is None else {"oldest_seconds": round(oldest.seconds, 1)}
    return Verdict(
        NONE_EXPIRES,
        passed=age <= queue.retention - WARNS_BEFORE,
        severity=Severity.ERROR if age > queue.retention - NO_TIME_LEFT else Severity.WARN,
        expected=f"no event older than {_days(queue.retention - WARNS_BEFORE)}; SQS drops it at "
        f"{_days(queue.retention)}",
        found=oldest.told if oldest.seconds is None else f"{_days(age)} old, {oldest.told}",
        facts=known,
    )


def waiting_since(
    depth: QueueDepth, before: datetime | None, drained_at: datetime | None, now: datetime
) -> datetime | None:
    """Return since when events have been waiting without a drain that ended well; None where none waits."""
    if not depth.total:
        return None
    return now if before is None or (drained_at is not None and drained_at > before) else before


def undrained(since: datetime | None, now: datetime) -> list[OldestAge]:
    """Return what that says of the oldest event's age, for where no metric tells it."""
    if since is None:
        return []
    return [OldestAge((now - since).total_seconds(), "or nearly so: no run has ended well since events began to wait")]


def judge_table(
    facts: HistoryFacts, reconciliation: Reconciliation, tenants: Iterable[str], days: Sequence[date], dimension: int
) -> list[Verdict]:
    """Judge the table, its days against the sales table and against the other source. Raises what the ports raise."""
    repeated = facts.repeated()
    twice = verdict(IDS_UNIQUE, expected="every sale once", found=f"{_counted(repeated)} twice", offenders=repeated)
    vectors = judge_vectors(vectors_promise(dimension), facts.vectors(days), dimension)
    suspected = facts.in_both_sources(days)
    both = verdict(
        ONE_SOURCE,
        expected="no sale that both sources tell of",
        found=f"{_counted(suspected)} suspected",
        offenders=suspected,
        severity=Severity.WARN,
    )
    return [_matching(reconciliation, tenants, days), twice, vectors, both]


def _matching(reconciliation: Reconciliation, tenants: Iterable[str], days: Sequence[date]) -> Verdict:
    try:
        return judged(reconciliation.compare(tenants, days))
    except DuplicateKeys as error:
        return verdict(
            HISTORY_MATCHES_LEDGER, expected="the same sales on both sides", found="not to tell", offenders=[str(error)]
        )


def _empty(promise: Promise, queue: QueueState, severity: Severity) -> Verdict:
    count = queue.depth.total
    return Verdict(
        promise,
        passed=count == 0,
        severity=severity,
        expected="no message",
        found=f"{count} in {queue.name}, kept for {_days(queue.retention)}",
        facts={"messages": count},
    )


def _counted(offenders: Sequence[str]) -> str:
    return f"at least {len(offenders)}" if len(offenders) >= MOST_NAMED else str(len(offenders))


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):.1f} d"
