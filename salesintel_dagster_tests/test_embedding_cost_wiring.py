"""The settings of cost reach the limits of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from salesintel_dagster.domain.errors import EmbeddingRefused, SettingInvalid
from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import export_rules
from salesintel_dagster_tests.fakes.spend import InMemorySpendLedger


def test_a_budget_in_usd_is_as_many_calls_as_the_price_buys():
    """C7"""
    assert Settings().embedding_calls_a_run == 20_000
    settings = Settings.from_environment(
        {"SALESINTEL_EMBEDDING_BUDGET_RUN_USD": "0.001", "SALESINTEL_EMBEDDING_PRICE_USD": "0.0003"}
    )
    assert settings.embedding_calls_a_run == 3
    assert export_rules(settings, InMemorySpendLedger()).embeddings.budget.left == 3


def test_the_day_s_budget_is_counted_in_the_ledger():
    """C7"""
    spend = InMemorySpendLedger()
    settings = Settings(embedding_budget_day_usd=Decimal("0.0006"))
    budget = export_rules(settings, spend).embeddings.budget
    assert sum(budget.take() for _ in range(30)) == 10
    assert sum(spend.by_day.values()) == Decimal("0.0006")
    assert datetime.now(UTC).date() in spend.by_day or len(spend.by_day) == 1


def test_the_breaker_s_threshold_is_the_setting_and_each_run_has_its_own():
    """C8"""
    settings = Settings(embedding_breaker_failures=2)
    breaker = export_rules(settings, InMemorySpendLedger()).embeddings.breaker
    refused = EmbeddingRefused(EmbeddingStatus.REFUSED_BY_MODEL, "no")

    def prove() -> None:
        raise refused

    breaker.failed(refused, prove)
    assert breaker.opened is None
    breaker.failed(refused, prove)
    assert breaker.opened is not None
    assert export_rules(settings, InMemorySpendLedger()).embeddings.breaker.opened is None


@pytest.mark.parametrize(
    "variable,value",
    [
        ("SALESINTEL_EMBEDDING_PRICE_USD", "0"),
        ("SALESINTEL_EMBEDDING_PRICE_USD", "NaN"),
        ("SALESINTEL_EMBEDDING_BUDGET_RUN_USD", "-1"),
        ("SALESINTEL_EMBEDDING_BUDGET_DAY_USD", "Infinity"),
        ("SALESINTEL_EMBEDDING_BREAKER_FAILURES", "0"),
        ("SALESINTEL_EMBEDDING_BUDGET_CALLS", "20000"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(variable: str, value: str):
    """I1"""
    with pytest.raises(SettingInvalid, match=variable):
        Settings.from_environment({variable: value})
