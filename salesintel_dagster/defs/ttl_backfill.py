"""The TTL backfill of the sales table as a Dagster job, started by hand and a dry run until told otherwise.

The same flow as `salesintel ttl backfill`: either goes on where the other stopped.
"""

import logging
from collections.abc import Callable

import dagster as dg
from pydantic import Field

from salesintel_dagster import wiring
from salesintel_dagster.defs.leaving import leaving, teller
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.ttl_backfill import TtlRehearsal, TtlStore, TtlTally
from salesintel_dagster.flows.ttl_backfill import (
    ITEMS_PER_SECOND,
    MOST_ITEMS_PER_SECOND,
    PAGE_ITEMS,
    Pace,
    backfill_ttl,
    lines,
)
from salesintel_dagster.settings import Settings

JOB = "sales_ttl_backfill"
STEP = "give_sales_a_ttl"
"""Not the job's name: in one repository an op and a job may not share theirs."""
SECONDS_BETWEEN_LINES = 5.0
log = logging.getLogger("salesintel.ttl")


class TtlBackfillConfig(dg.Config):
    """What one backfill may do, and how fast."""

    dry_run: bool = Field(default=True, description="Only count what would get a ttl")
    items_per_second: int = Field(
        ITEMS_PER_SECOND, ge=1, le=MOST_ITEMS_PER_SECOND, description="Items read, and at most written, a second"
    )
    page_items: int = Field(PAGE_ITEMS, ge=1, le=1000, description="Items between two checkpoints")
    restart: bool = Field(default=False, description="Begin anew instead of where an unfinished backfill stopped")


def _give_sales_a_ttl(
    context: dg.OpExecutionContext, config: TtlBackfillConfig, given: TtlStore, tell: Callable[[str], None]
) -> None:
    """Give every item of the sales table that has no ttl the one of its day; only count them in a dry run.

    An item that has a ttl is not touched, one that went meanwhile is not made again. A killed run is gone on with.
    """
    store = TtlRehearsal(given) if config.dry_run else given
    pace = Pace(config.page_items, config.items_per_second)
    tally, told_at = TtlTally(), SYSTEM_CLOCK.monotonic()
    for tally in backfill_ttl(store, SYSTEM_CLOCK, pace, restart=config.restart):
        if SYSTEM_CLOCK.monotonic() - told_at >= SECONDS_BETWEEN_LINES:
            told_at = SYSTEM_CLOCK.monotonic()
            tell(lines(tally, dry_run=config.dry_run)[0])
    for line in lines(tally, dry_run=config.dry_run):
        tell(line)
    counts = ("scanned", "there", "set_", "gone", "unreadable", "other", "too_old")
    numbers = {name.rstrip("_"): getattr(tally, name) for name in counts}
    context.add_output_metadata({"dry_run": config.dry_run, **numbers, "too_old_keys": list(tally.too_old_keys)})


def build(settings: Settings) -> dg.Definitions:
    """Return the backfill job. It has no schedule: sales that are written now have their ttl."""
    redact = wiring.redaction(settings)

    @dg.op(name=STEP)
    @leaving(redact)
    def give_sales_a_ttl(
        context: dg.OpExecutionContext, config: TtlBackfillConfig, sales_ttl_store: dg.ResourceParam[TtlStore]
    ) -> None:
        """Give every item of the sales table that has no ttl the one of its day; only count them in a dry run."""
        _give_sales_a_ttl(context, config, sales_ttl_store, teller(context, log, redact))

    @dg.job(
        name=JOB,
        description="Gives sales written without one a ttl in DynamoDB. Changes nothing unless dry_run is false.",
        tags={"dagster/max_runtime": str(settings.run_max_seconds)},
    )
    def ttl_backfill_job() -> None:
        give_sales_a_ttl()

    return dg.Definitions(jobs=[ttl_backfill_job])
