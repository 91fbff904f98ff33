"""The definitions of the sync over one sync in memory, with the sensors called as the daemon calls them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dagster as dg

from salesintel_dagster.defs import carousel_sync, sales_history_checks
from salesintel_dagster.defs.io_managers import NoValuesIOManager
from salesintel_dagster.flows.sync.reconcile import Reconciliation
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.defs.worlds import QUIET
from salesintel_dagster_tests.fakes.event_queues import FakeEventQueueWatch, InMemoryHistoryFacts
from salesintel_dagster_tests.fakes.events import TENANT
from salesintel_dagster_tests.fakes.sync_world import FakeSync

ASSET = dg.AssetKey("sales_history")
QUICK = Settings(tenant=TENANT, event_gather_seconds=0, event_idle_seconds=0)


class DagsterSync:
    """`world` is the sync, `queues` how its queues look, `facts` how its table looks as a whole."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.world = FakeSync()
        self.queues = FakeEventQueueWatch(self.world.queue)
        self.facts = InMemoryHistoryFacts(self.world.table)
        clock = replace(self.world.clock, jitter=lambda: 0.0)
        self.resources: dict[str, object] = {
            "sold_events": self.world.queue,
            "event_sync": self.world.parts,
            "sold_event_queues": self.queues,
            "history_facts": self.facts,
            "reconciliation": Reconciliation(self.world.ledger, self.world.table, self.world.receipts, clock),
            "io_manager": NoValuesIOManager(),
        }
        self.definitions = dg.Definitions.merge(
            carousel_sync.build(QUICK, clock),
            sales_history_checks.build(QUICK, clock),
            dg.Definitions(resources=self.resources, executor=dg.in_process_executor),
        )

    def run(self, job: str = carousel_sync.JOB, **config: object) -> dg.ExecuteInProcessResult:
        ops = {"ops": {sales_history_checks.REPAIR_STEP: {"config": config}}} if config else {}
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, raise_on_error=False, run_config={**QUIET, **ops}
        )

    def tick(self, name: str, cursor: str | None = None) -> Any:  # noqa: ANN401 - whatever a sensor returns
        repository = self.definitions.get_repository_def()
        sensor = repository.get_sensor_def(name)
        wanted = {key: self.resources[key] for key in self.resources if key in sensor.required_resource_keys}
        with dg.build_sensor_context(
            instance=self.instance, resources=wanted, repository_def=repository, cursor=cursor
        ) as context:
            return sensor(context)

    def watch(self, cursor: str | None = None) -> dg.SensorResult:
        """Tick the watch and record what it found, as the daemon does."""
        result = self.tick("carousel_sync_watch", cursor)
        assert isinstance(result, dg.SensorResult)
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        return result


def failed(evaluations: Sequence[dg.AssetCheckEvaluation]) -> list[str]:
    """Return the names of the checks that failed."""
    return sorted(found.check_name for found in evaluations if not found.passed)


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return the metadata of the run's one materialisation."""
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def reason(result: dg.ExecuteInProcessResult) -> str:
    """Return why the run failed."""
    [failure] = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data is not None
    return failure.user_failure_data.description or ""
