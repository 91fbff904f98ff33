from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from salesintel_dagster.defs import ttl_backfill
from salesintel_dagster.domain.sales_keys import KeyPair
from salesintel_dagster.domain.ttl_backfill import TtlItem
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.fakes.ttl_store import InMemoryTtlStore

ITEMS = [TtlItem(KeyPair("TENANT#acme#PRODUCT#P", f"SALE#2015-06-0{n}#S"), None, None) for n in range(1, 6)]


def run(store: InMemoryTtlStore, **config: Any) -> dg.ExecuteInProcessResult:  # noqa: ANN401 - any configuration
    resource = dg.ResourceDefinition.hardcoded_resource(store)
    served = dg.Definitions.merge(
        ttl_backfill.build(Settings()), dg.Definitions(resources={"sales_ttl_store": resource})
    )
    configured = {"ops": {ttl_backfill.STEP: {"config": config}}}
    return served.resolve_job_def(ttl_backfill.JOB).execute_in_process(run_config=configured, raise_on_error=False)


def numbers(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def test_g10_started_by_hand_it_is_a_dry_run_with_the_counts_of_the_real_run():
    store = InMemoryTtlStore(*ITEMS)
    rehearsed = run(store)
    assert rehearsed.success
    assert (store.set_to, store.kept) == ({}, None)
    done = numbers(run(store, dry_run=False))
    assert len(store.set_to) == 5
    assert done == {**numbers(rehearsed), "dry_run": False}
    assert (done["set"], done["too_old"], done["too_old_keys"][0]) == (
        5,
        5,
        "TENANT#acme#PRODUCT#P SALE#2015-06-01#S",
    )


def test_g11_a_run_that_failed_is_gone_on_with():
    store = InMemoryTtlStore(*ITEMS, fails_after=3)
    assert not run(store, dry_run=False, page_items=2).success
    store.fails_after = None
    assert numbers(run(store, dry_run=False, page_items=2, items_per_second=5000))["scanned"] == 5
    assert len(store.set_to) == 5


@pytest.mark.parametrize(
    "config",
    [
        {"items_per_second": 0},
        {"items_per_second": -5},
        {"items_per_second": 10**6},
        {"page_items": 0},
        {"dry_run": "perhaps"},
        {"colour": "blue"},
    ],
    ids=str,
)
def test_i1_a_configuration_out_of_range_is_refused_and_names_itself(config: dict[str, Any]):
    store = InMemoryTtlStore(*ITEMS)
    try:
        refused = run(store, **config)
        told = str([event.event_specific_data for event in refused.all_events if event.is_failure])
        assert not refused.success
    except dg.DagsterInvalidConfigError as error:
        told = str(error)
    assert next(iter(config)) in told
    assert store.set_to == {}
