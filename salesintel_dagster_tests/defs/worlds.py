"""Runs of the definitions inside the test process: real Dagster, an instance in memory, every port a fake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

import dagster as dg

from salesintel_dagster.commands.runs import RANGE_END, RANGE_START
from salesintel_dagster.definitions import build
from salesintel_dagster.defs.smartgo_export import JOB, STEP
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.fakes.export_parts import FakeExport

QUICK = Settings(source_retries=0)
"""A source that is down in these tests stays down: asking it again would cost three seconds."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class DagsterExport:
    """The definitions over `world`'s fakes, and an instance whose runs are kept as long as this is open."""

    instance: dg.DagsterInstance
    world: FakeExport = field(default_factory=FakeExport)
    settings: Settings = QUICK

    @cached_property
    def definitions(self) -> dg.Definitions:
        world = self.world
        return build(
            self.settings,
            smartgo_db=world.source,
            image_host=world.images,
            bedrock=world.embedder,
            analytics=world.store,
            lakehouse=world.table,
            dynamodb=world.ledger,
            embedding_spend=world.spend,
            cloudwatch=world.metrics,
        )

    def run(
        self,
        *days: date,
        assets: Sequence[str] | None = None,
        checks: Sequence[tuple[str, str]] | None = None,
        **config: bool,
    ) -> Run:
        """Run the job over the range of `days`: all of it, some `assets` with their checks, or some `checks` alone.

        A check is (asset, name); `config` is the step's. Without `days` the run names none.
        """
        job = self.definitions.resolve_job_def(JOB)
        if checks is not None:
            keys = {dg.AssetCheckKey(dg.AssetKey(asset), name) for asset, name in checks}
            job = job.get_subset(asset_selection={dg.AssetKey(a) for a in assets or ()}, asset_check_selection=keys)
        elif assets is not None:
            job = job.get_subset(asset_selection={dg.AssetKey(asset) for asset in assets})
        result = job.execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            tags={RANGE_START: days[0].isoformat(), RANGE_END: days[-1].isoformat()} if days else {},
            run_config={**QUIET, "ops": {STEP: {"config": config}}},
        )
        return Run(result)

    def status(self, asset: str, days: Sequence[date]) -> dict[date, str | None]:
        """Return what the UI shows of each partition."""
        partitions = self.definitions.resolve_assets_def(asset).partitions_def
        assert partitions is not None
        keys = [day.isoformat() for day in days]
        found = self.instance.get_status_by_partition(dg.AssetKey(asset), keys, partitions) or {}
        return {day: status.value if (status := found.get(day.isoformat())) else None for day in days}


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    result: dg.ExecuteInProcessResult

    @property
    def success(self) -> bool:
        return self.result.success

    @property
    def failure(self) -> dg.DagsterEvent:
        [event] = [event for event in self.result.all_events if event.is_step_failure]
        return event

    @property
    def reason(self) -> str:
        user = self.failure.step_failure_data.user_failure_data
        assert user is not None
        return user.description or ""

    @property
    def materialised(self) -> list[tuple[str, str]]:
        """(asset, partition) in the order in which they became green."""
        return [
            (event.asset_key.to_user_string(), event.partition or "")
            for event in self.result.get_asset_materialization_events()
            if event.asset_key is not None
        ]

    @property
    def verdicts(self) -> list[dg.AssetCheckEvaluation]:
        return list(self.result.get_asset_check_evaluations())

    def failed_checks(self) -> list[tuple[str | None, str]]:
        return [(found.partition, found.check_name) for found in self.verdicts if not found.passed]

    def metadata(self, asset: str, day: date) -> dict[str, Any]:
        [found] = [
            event.materialization.metadata
            for event in self.result.get_asset_materialization_events()
            if event.asset_key == dg.AssetKey(asset) and event.partition == day.isoformat()
        ]
        return {name: value.value for name, value in found.items()}


@contextmanager
def dagster_export(settings: Settings | None = None) -> Iterator[DagsterExport]:
    """Open an instance in memory, with the definitions over new fakes."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield DagsterExport(instance, settings=settings or QUICK)
