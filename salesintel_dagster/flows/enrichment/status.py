"""How a job stands: its products by state, its batches, the provider's tokens, and when it may be done. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from salesintel_dagster.domain.enrichment.batch import FINAL, Batch, State, counts
from salesintel_dagster.domain.enrichment.job import Job
from salesintel_dagster.domain.enrichment.tokens import TokenLevel


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job as it stands. `states` are products by told state (`FAILED_NOT_FOUND` and so on)."""

    job: Job
    states: Mapping[str, int]
    batch_states: Mapping[str, int]
    tokens_left: int | None
    estimated_finish: datetime | None
    unsent: int

    @property
    def finished(self) -> int:
        """Products that are DONE or FAILED."""
        return sum(count for name, count in self.states.items() if name == State.DONE or name.startswith(State.FAILED))

    @property
    def is_final(self) -> bool:
        """Nothing is left to do."""
        return self.finished == self.job.products

    @property
    def state(self) -> str:
        """The job in one word."""
        if self.is_final:
            return State.FAILED if self.states.get(State.DONE, 0) == 0 else State.DONE
        return next((name for name in (State.RUNNING, State.RETRY) if self.states.get(name)), State.PENDING)


def status_of(job: Job, batches: Sequence[Batch], tokens: TokenLevel | None, now: datetime) -> JobStatus:
    """Return how a job stands."""
    left = sum(status.state not in FINAL for batch in batches for status in batch.statuses)
    return JobStatus(
        job,
        dict(counts(batches)),
        dict(Counter(batch.state.value for batch in batches)),
        None if tokens is None else int(tokens.at(now)),
        _finish(batches, left, tokens, now),
        sum(batch.sent_at is None and not batch.is_final for batch in batches),
    )


def _finish(batches: Sequence[Batch], left: int, tokens: TokenLevel | None, now: datetime) -> datetime | None:
    """Estimate from the pace so far and from the tokens, whichever is slower; None where nothing is known yet.

    A finished job gives the instant at which its last batch was.
    """
    if not left:
        return max((batch.finished_at for batch in batches if batch.finished_at), default=None)
    waits = [tokens.wait_seconds(left, now)] if tokens is not None else []
    begun = min((batch.started_at for batch in batches if batch.started_at), default=None)
    done = sum(status.state in FINAL for batch in batches for status in batch.statuses)
    if begun is not None and done:
        waits.append((now - begun).total_seconds() / done * left)
    nexts = [(batch.not_before - now).total_seconds() for batch in batches if batch.not_before and not batch.is_final]
    waits += [max(nexts)] if nexts else []
    return now + timedelta(seconds=max(waits)) if waits else None
