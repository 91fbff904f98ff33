"""A worker of the event sync without Dagster: `python -m bench.sync_worker` drains in the world of its environment.

It drains until it is killed, with rests in which others find work; an error ends a drain and not the worker.
"""

from __future__ import annotations

import itertools
import os
import sys
import time

from salesintel_dagster import wiring
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import SalesIntelError
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring.events import sync_parts, sync_rules

REST_SECONDS = 8.0


def main() -> None:
    """Drain for ever."""
    settings = Settings.from_environment(os.environ)
    parts = sync_parts(settings, wiring.aws_clients(settings))
    for number in itertools.count():
        run_id = f"worker-{os.getpid()}-{number}"
        try:
            for tally in EventSync(parts, sync_rules(settings), SYSTEM_CLOCK, run_id, print).drain():
                print(f"{tally.received} received", flush=True)
        except SalesIntelError as error:
            print(error, file=sys.stderr, flush=True)
        time.sleep(REST_SECONDS)


if __name__ == "__main__":
    main()
