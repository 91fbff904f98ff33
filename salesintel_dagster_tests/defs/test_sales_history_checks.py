"""The daily checks of sales_history and its repair, as real runs over both stores in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import dagster as dg
import pytest

from salesintel_dagster.defs.sales_history_checks import JOB, REPAIR_JOB
from salesintel_dagster.defs.verdicts import REPEATED
from salesintel_dagster.domain.errors import SalesUnavailable
from salesintel_dagster.domain.history_facts import days_to_check
from salesintel_dagster.domain.sale_event import SaleIdentity
from salesintel_dagster_tests.defs.carousel_worlds import QUICK, DagsterSync, failed, reason
from salesintel_dagster_tests.fakes.events import TENANT, sold

DAY = "2026-11-01"


@pytest.fixture
def sync() -> Iterator[DagsterSync]:
    with dg.DagsterInstance.ephemeral() as instance:
        made = DagsterSync(instance)
        made.world.send(*(sold(f"S-{n}", soldAt=f"{DAY}T12:00:00Z", embedding=[0.5] * 1024) for n in range(3)))
        made.world.drain()
        yield made


def verdict(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    assert result.success
    [found] = [one for one in result.get_asset_check_evaluations() if one.check_name == name]
    return found


def test_stores_that_agree_pass_every_check_and_the_days_are_told(sync: DagsterSync):
    result = sync.run(JOB)
    assert failed(result.get_asset_check_evaluations()) == []
    assert len(result.get_asset_check_evaluations()) == 6
    days = str(verdict(result, "sales_history_matches_ledger").metadata["days"].value)
    assert days == "2026-10-26, " + ", ".join(
        f"2026-{day}" for day in "10-27 10-28 10-29 10-30 10-31 11-01 11-02".split()
    )


@pytest.mark.parametrize("side", ["table", "ledger"])
def test_f28_a_row_deleted_on_either_side_is_named_repaired_and_then_there(sync: DagsterSync, side: str):
    """F28: check fails naming the id, a dry run changes nothing, repair restores, second check is green"""
    if side == "table":
        del sync.world.table.rows[SaleIdentity(TENANT, "S-1")]
    else:
        del sync.world.ledger.sales[TENANT, "S-1"]
    found = verdict(sync.run(JOB), "sales_history_matches_ledger")
    missing = {"table": "sales_history", "ledger": "the sales table"}[side]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert str(found.metadata["offenders_named"].value) == f"{TENANT} {DAY} S-1: missing in {missing}"

    assert repaired(sync.run(REPAIR_JOB, days=[DAY])) == (True, 1, 0, 0)
    assert not verdict(sync.run(JOB), "sales_history_matches_ledger").passed
    expected = {"table": (False, 1, 1, 0), "ledger": (False, 1, 0, 1)}[side]
    assert repaired(sync.run(REPAIR_JOB, days=[DAY], dry_run=False)) == expected
    assert verdict(sync.run(JOB), "sales_history_matches_ledger").passed
    assert sync.world.sales() == ["S-0", "S-1", "S-2"]


def test_two_payloads_of_one_version_are_left_for_a_person_and_told(sync: DagsterSync):
    sync.world.table.rows[SaleIdentity(TENANT, "S-1")]["payload_hash"] = "0" * 64
    result = sync.run(REPAIR_JOB, days=[DAY], dry_run=False)
    assert repaired(result) == (False, 1, 0, 0)
    assert metadata(result)["left_named"] == "S-1"


def test_a_sale_that_is_there_twice_fails_its_check_with_its_id(sync: DagsterSync):
    sync.facts.again.append(f"{TENANT}/S-2")
    found = verdict(sync.run(JOB), "history_ids_are_unique")
    assert not found.passed
    assert str(found.metadata["offenders_named"].value) == f"{TENANT}/S-2: 2 rows"


def test_a_vector_that_is_none_fails_its_check(sync: DagsterSync):
    sync.world.table.rows[SaleIdentity(TENANT, "S-0")]["embedding_vector"] = [0.5] * 1023
    found = verdict(sync.run(JOB), "history_vectors_are_1024_dim")
    assert "S-0: expected 1024 values, found 1023" in str(found.metadata["offenders_named"].value)


def test_a_sale_that_both_sources_tell_of_is_a_warning(sync: DagsterSync):
    same = {"tenant_id": TENANT, "product_id": "P-S-1", "sold_price": Decimal("19.90"), "currency": "EUR"}
    sync.facts.other.append({**same, "sold_date": date(2026, 11, 1), "sale_id": "4711"})
    sync.facts.other.append({**same, "sold_date": date(2026, 11, 2), "sale_id": "4712"})
    found = verdict(sync.run(JOB), "no_sale_from_two_sources")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert str(found.metadata["offenders_named"].value) == (f"{TENANT}/S-1: {DAY} P-S-1, smartgo_sales has it as 4711")


def test_what_waits_for_a_person_is_told_every_day_until_nothing_does(sync: DagsterSync):
    sync.queues.dead, sync.queues.kept = 1, 2
    sync.watch()
    for _ in range(2):
        evaluations = sync.run(JOB).get_asset_check_evaluations()
        waiting = ["event_dead_letters_are_empty", "event_quarantine_is_empty"]
        assert failed(evaluations) == waiting
        assert not [one for one in evaluations if REPEATED in one.metadata]
    assert sync.watch().asset_events == []
    sync.queues.dead = sync.queues.kept = 0
    assert failed(sync.run(JOB).get_asset_check_evaluations()) == []


def test_a_store_that_is_gone_fails_the_run_in_its_own_words(sync: DagsterSync):
    def gone(*_: object) -> None:
        raise SalesUnavailable("sales table: throttled")

    sync.world.ledger.of_day = gone  # type: ignore[method-assign,assignment]  # a fake with a fault of its own
    result = sync.run(JOB)
    assert reason(result) == "sales table: throttled"


@pytest.mark.parametrize(
    "days, told",
    [
        (["yesterday"], "days: Invalid isoformat string: 'yesterday'; expected e.g. 2026-11-20"),
        ([], "days: 0, expected 1 to 31"),
    ],
)
def test_days_that_are_none_are_refused_with_the_rule(sync: DagsterSync, days: list[str], told: str):
    assert reason(sync.run(REPAIR_JOB, days=days)) == told


def test_the_queue_checks_can_be_asked_by_hand(sync: DagsterSync):
    sync.queues.dead = 3
    job = sync.definitions.resolve_implicit_global_asset_job_def()
    key = dg.AssetCheckKey(dg.AssetKey("sales_history"), "event_dead_letters_are_empty")
    one = job.get_subset(asset_selection=set(), asset_check_selection={key})
    [found] = one.execute_in_process(instance=sync.instance).get_asset_check_evaluations()
    assert (found.check_name, found.passed) == ("event_dead_letters_are_empty", False)


def test_the_older_day_is_any_of_two_years():
    today = date(2026, 11, 3)
    for jitter, older in [(0.0, "2026-10-26"), (0.5, "2025-11-04"), (0.9999, "2024-11-13")]:
        days = days_to_check(today, jitter)
        assert (len(days), days[0].isoformat(), days[-1].isoformat()) == (8, older, "2026-11-02")
    assert QUICK.tenants_of_events == {TENANT}


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    assert result.success
    [output] = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def repaired(result: dg.ExecuteInProcessResult) -> tuple[object, ...]:
    found = metadata(result)
    return tuple(found[name] for name in ("dry_run", "differences", "to_table", "to_ledger"))
