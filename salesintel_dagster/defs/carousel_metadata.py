"""How a drain looks in the Dagster UI: numbers that plot over runs. No event's content is among them."""

from typing import Any

from salesintel_dagster.flows.sync.parts import SyncTally

COUNTS = (
    "received",
    "written",
    "duplicates",
    "superseded",
    "conflicts",
    "quarantined",
    "left",
    "batches",
    "commits",
    "commit_attempts",
)
MOST_MONTHS_NAMED = 24


def of_tally(tally: SyncTally, seconds: float) -> dict[str, Any]:
    """Return a run's numbers; lags are seconds from an event's sending to its commit.

    `seconds` is mostly waiting for more events: a rate made of it would say nothing.
    """
    lag = tally.lag_seconds_mean
    lags = {} if lag is None else {"lag_seconds_mean": lag, "lag_seconds_most": tally.lag_seconds_most}
    months = [f"{month.tenant_id} {month.year}-{month.month:02}" for month in sorted(tally.months)]
    return {
        **{name: getattr(tally, name) for name in COUNTS},
        **{name: round(value, 3) for name, value in lags.items()},
        **({"oldest_seconds": round(tally.oldest_seconds, 1)} if tally.received else {}),
        "seconds": round(seconds, 3),
        "months": len(months),
        "months_touched": ", ".join(months[:MOST_MONTHS_NAMED]),
    }
