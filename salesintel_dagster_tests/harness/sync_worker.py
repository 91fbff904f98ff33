"""Real workers for the kill test: a process that has imported everything and forks a worker for each line it reads.

Started as `python -m salesintel_dagster_tests.harness.sync_worker ENDPOINT ACCOUNT LAKE EVENTS QUARANTINE RECEIPTS
SALES HISTORY`. It answers each line with the new worker's process id; at the end of its input it kills what is left.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from salesintel_dagster.adapters import file_exchange, table_facts, table_transaction  # noqa: F401 - before the fork
from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.queues import SqsEventQueue, SqsQuarantine
from salesintel_dagster.adapters.receipts import DynamoReceipts
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import SalesIntelError
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.parts import SyncParts
from salesintel_dagster_tests.harness.sync_flow import SYNC_RULES
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.services import BEDROCK_REGION, REGION

VISIBILITY_SECONDS = 3
"""So soon do a killed worker's messages come again."""
BATCH_MESSAGES = 6


def work(words: list[str]) -> None:
    """Drain until killed; an error ends a drain and not the worker, as a scheduler would begin another."""
    endpoint, account, lake, events, quarantine, receipts, sales, history = words
    aws = AwsClients(AwsTarget(REGION, BEDROCK_REGION, endpoint, None, account, account))
    sqs, dynamo, catalog = aws.client("sqs"), aws.client("dynamodb"), local_catalog(Path(lake))
    parts = SyncParts(
        SqsEventQueue(sqs, events, VISIBILITY_SECONDS),
        SqsQuarantine(sqs, quarantine),
        DynamoReceipts(dynamo, receipts, SYSTEM_CLOCK),
        DynamoSalesRepository(dynamo, sales, ShardCounts()),
        IcebergHistoryTable(lambda: catalog, SYSTEM_CLOCK, name=history),
    )
    rules = replace(SYNC_RULES, batch_messages=BATCH_MESSAGES, visibility_seconds=VISIBILITY_SECONDS, ledger_writers=4)
    for number in itertools.count():
        run_id = f"{os.getpid()}-{number}"
        try:
            for _ in EventSync(parts, rules, SYSTEM_CLOCK, run_id, lambda _line: None).drain():
                pass
        except SalesIntelError as error:
            print(error, file=sys.stderr, flush=True)  # noqa: T201 - for whoever looks into a failed test
        time.sleep(0.05)


def main() -> None:
    children = []
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            work(sys.argv[1:])
        children.append(child)
        print(child, flush=True)  # noqa: T201 - the answer
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
