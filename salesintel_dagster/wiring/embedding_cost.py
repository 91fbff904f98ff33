"""The limits of paid calls, and the ledger by which all runs of a day share their budget."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.spend import DynamoSpendLedger
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.spend import SpendLedger
from salesintel_dagster.flows.export.breaker import Breaker
from salesintel_dagster.flows.export.day_spend import DaySpend
from salesintel_dagster.flows.export.embeddings import CallBudget, EmbeddingLimits
from salesintel_dagster.settings import Settings

EMBEDDING_DEADLINE_SECONDS = 120.0
"""All tries at one vector together; botocore's own throttling waits lie inside."""


def spend_ledger(settings: Settings, clients: AwsClients) -> SpendLedger:
    """Return the day's counter in the export progress table."""
    return DynamoSpendLedger(clients.client("dynamodb", brief=True), settings.progress_table_name)


def embedding_limits(settings: Settings, spend: SpendLedger) -> EmbeddingLimits:
    """Return the limits of one run: made anew for each, since budget and breaker are its own."""
    day = DaySpend(spend, settings.embedding_price_usd, settings.embedding_budget_day_usd, SYSTEM_CLOCK)
    return EmbeddingLimits(
        settings.embedding_concurrency,
        CallBudget(settings.embedding_calls_a_run, day),
        RetryPolicy(deadline_seconds=EMBEDDING_DEADLINE_SECONDS),
        Breaker(settings.embedding_breaker_failures),
    )
