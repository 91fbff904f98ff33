"""How an enrichment run looks in the Dagster UI: numbers that plot over runs."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from salesintel_dagster.domain.enrichment.batch import State
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.flows.enrichment.work import Round


def metadata(rounds: Sequence[Round], level: TokenLevel | None, now: datetime, seconds: float) -> dict[str, Any]:
    """Return what a run did; without a product that ended there is no success share."""
    states: Counter[str] = Counter()
    for one in rounds:
        states.update(one.states)
    done = states[State.DONE]
    failed = sum(count for name, count in states.items() if name.startswith(State.FAILED))
    longest = max((taken for one in rounds for taken in one.batch_seconds), default=None)
    return {
        "messages": sum(one.messages for one in rounds),
        "batches": sum(one.batches for one in rounds),
        "products_done": done,
        "products_failed": failed,
        "products_to_retry": states[State.RETRY],
        "failed_by_reason": {name: count for name, count in states.items() if name.startswith(State.FAILED)},
        "requests": sum(one.requests for one in rounds),
        "rows_written": sum(one.rows_written for one in rounds),
        "recovered": sum(one.recovered for one in rounds),
        "poison": sum(one.poison for one in rounds),
        "seconds": round(seconds, 3),
        **({"success_share": round(done / (done + failed), 4)} if done + failed else {}),
        **({"tokens_left": int(level.at(now))} if level is not None else {}),
        **({"longest_batch_seconds": round(longest, 3)} if longest is not None else {}),
    }
