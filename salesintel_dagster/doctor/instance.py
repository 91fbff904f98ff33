"""Checks of the Dagster instance: what must be switched on in dagster.yaml, as the shipped one has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import dagster as dg
from botocore.exceptions import NoRegionError

from salesintel_dagster.doctor.patient import Patient
from salesintel_dagster.domain.diagnosis import Check, Finding, Health, fail, ok, warn
from salesintel_dagster.settings import Mode

FILE = "dagster.yaml"
SHIPPED = "salesintel_dagster/dagster.yaml"
IMAGE_VARIABLE = "DAGSTER_CURRENT_IMAGE"
"""Of Dagster's code servers: what they name as the image of their runs."""
WORKING_SCHEME = "postgresql+psycopg2://"
"""dagster-postgres 0.29 sends NOTIFY with a parameter, which psycopg 3, SQLAlchemy 2.1's own choice, does not take."""


def checks(patient: Patient) -> Iterator[Check]:
    """Yield the check."""
    yield Check("dagster instance", partial(instance, patient), f"compare DAGSTER_HOME/{FILE} with {SHIPPED}")


def instance(patient: Patient) -> Finding:
    """Load the instance as the daemon does, and compare what its safety hangs on."""
    home = patient.environment.get("DAGSTER_HOME")
    if not home:
        return fail("DAGSTER_HOME is not set", "set it to the folder of your Dagster instance; it may be empty")
    file = Path(home) / FILE
    if not file.exists():
        found = f"no {file} yet; `salesintel up` and the first export put ours there"
        copy = f"for a webserver and daemon of your own: copy {SHIPPED} there"
        return ok(found) if patient.settings.mode is Mode.EMBEDDED else warn(found, copy)
    try:
        with dg.DagsterInstance.from_config(home) as opened:
            complaints = [*complaints_about(opened), *ecs_complaints(opened, patient.environment)]
            parts = (opened.run_storage, opened.run_launcher, opened.compute_log_manager)
            names = ", ".join(type(part).__name__ for part in parts)
    except Exception as error:  # noqa: BLE001 - any library that the file names; a text may hold the storage's password
        return _not_opened(file, error)
    if complaints:
        worst = Health.FAIL if any(one.health is Health.FAIL for one in complaints) else Health.WARN
        return Finding(worst, "; ".join(one.found for one in complaints), "; ".join(one.remedy for one in complaints))
    return ok(f"{file}: run monitoring, retries and pools on, telemetry off; {names}")


def _not_opened(file: Path, error: Exception) -> Finding:
    if isinstance(error, NoRegionError):
        return fail(f"{file}: a client of dagster-aws has no region", "set AWS_DEFAULT_REGION; it knows no AWS_REGION")
    if isinstance(error, ImportError):
        return fail(f"{file}: no module {error.name}", "pip install 'salesintel-dagster[ecs]' brings dagster-postgres")
    if isinstance(error, dg.DagsterError):
        return fail(f"{file}: {str(error).strip().splitlines()[0]}", f"mend it; {SHIPPED} is a good one")
    return fail(
        f"{file}: the instance cannot be opened: {type(error).__name__}",
        "is the storage that it names up, and reachable from here, and are its variables set? docs/aws.md, 9",
    )


def ecs_complaints(opened: dg.DagsterInstance, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what run workers of their own would miss: an image, and a storage that takes their events."""
    if type(opened.run_launcher).__name__ == "EcsRunLauncher" and not environment.get(IMAGE_VARIABLE):
        yield fail(
            f"{IMAGE_VARIABLE} is not set: no run would be launched on ECS",
            f"set {IMAGE_VARIABLE} to the image that run tasks start from",
        )
    url = str(getattr(opened.run_storage, "postgres_url", ""))
    if url and not url.startswith(WORKING_SCHEME):
        yield fail(
            "the storage's URL names no psycopg2: every run fails at its first event",
            f"let it begin with {WORKING_SCHEME}",
        )


def complaints_about(opened: dg.DagsterInstance) -> Iterator[Finding]:
    """Yield what is not as it must be."""
    monitoring = opened.run_monitoring_settings if opened.run_monitoring_enabled else {}
    if not monitoring:
        yield fail("no run monitoring: a killed run stays STARTED for ever", "run_monitoring: {enabled: true, ...}")
    elif not monitoring.get("max_runtime_seconds"):
        yield fail("no longest run time: a hung run is never ended", "run_monitoring: {max_runtime_seconds: 14400}")
    if monitoring and not monitoring.get("free_slots_after_run_end_seconds"):
        yield fail("pool slots of killed runs stay taken", "run_monitoring: {free_slots_after_run_end_seconds: 60}")
    if not opened.run_retries_enabled:
        yield warn("no run retries: a run whose process died is not tried again", "run_retries: {enabled: true, ...}")
    elif opened.run_retries_retry_on_asset_or_op_failure:
        yield warn("failed assets are run again", "run_retries: {retry_on_asset_or_op_failure: false}")
    pools = opened.get_concurrency_config().pool_config
    if not pools.default_pool_limit:
        yield fail(
            "pools have no limit: backfills and nights export at once", "concurrency: {pools: {default_limit: 2}}"
        )
    if opened.telemetry_enabled:
        yield warn("telemetry is on: Dagster reports usage to its maker", "telemetry: {enabled: false}")
