"""What the canary test starts: every job, sensor, schedule and command once, each failing, with marked secrets around.

Its environment is the deployment, DAGSTER_HOME the instance. With the argument `unforeseen` every port raises an
error that nobody foresaw and that holds all the secrets.
"""

import json
import os
import sys
import traceback
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import dagster as dg
import psycopg
from dagster._utils.error import serializable_error_info_from_exc_info

from salesintel_dagster.adapters import smartgo
from salesintel_dagster.commands.app import main
from salesintel_dagster.definitions import build
from salesintel_dagster.defs import maintenance, resources, sales_history_checks, ttl_backfill
from salesintel_dagster.settings import Settings

DAY = date(2026, 11, 19)
COMMANDS = (
    "status",
    "history 2026-11-19",
    "materialise 2026-11-19",
    "sql SELECT_1",
    "tables",
    "events status",
    "events reconcile --apply",
    "enrich status nothing",
    "quarantine list",
    "quarantine replay 2026-11-19 --apply",
    "sales list --tenant carousel-labs --product P-1",
    "shards",
    "ttl backfill",
    "deploy",
    "doctor",
)
WET = {"dry_run": False}
CONFIGS: Mapping[str, Any] = {
    maintenance.JOB: {"ops": {maintenance.STEP: {"config": WET}}},
    sales_history_checks.REPAIR_JOB: {
        "ops": {sales_history_checks.REPAIR_STEP: {"config": {**WET, "days": [DAY.isoformat()]}}}
    },
    ttl_backfill.JOB: {"ops": {ttl_backfill.STEP: {"config": WET}}},
}


class Unforeseen:
    """Stands for any port: whatever is asked of it fails with what no adapter translates."""

    def __init__(self, secrets: str) -> None:
        self.secrets = secrets

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"{name} failed: {self.secrets}") from ConnectionError(f"refused {self.secrets}")


def parts(settings: Settings) -> dict[str, object]:
    """Return the resources: the real ones, or as many that fail."""
    if sys.argv[1:] != ["unforeseen"]:
        return resources.build(settings)
    secrets = " ".join(f"{name}={os.environ[name]}" for name in os.environ["CANARIES"].split())
    return {
        name: dg.ResourceDefinition(lambda _context: Unforeseen(secrets))
        for name in resources.build(settings)
        if name != "io_manager"
    }


def run_jobs(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    repository = definitions.get_repository_def()
    for job in repository.get_all_jobs():
        if job.name.startswith("__"):
            continue
        key = DAY.isoformat() if job.partitions_def is not None else None
        done = job.execute_in_process(
            instance=instance, partition_key=key, raise_on_error=False, run_config=CONFIGS.get(job.name)
        )
        note("job", job.name, done.success)


def tick(definitions: dg.Definitions, instance: dg.DagsterInstance, made: dict[str, object]) -> list[str]:
    """Evaluate every sensor and schedule; return what the daemon would store of each tick."""
    stored = []
    repository = definitions.get_repository_def()
    for sensor in repository.sensor_defs:
        asked = {name: made[name] for name in sensor.required_resource_keys}
        with dg.build_sensor_context(instance=instance, repository_def=repository, resources=asked) as context:
            try:
                stored.append(repr(sensor.evaluate_tick(context)))
            except Exception:  # noqa: BLE001 - stored as the daemon does
                stored.append(repr(serializable_error_info_from_exc_info(sys.exc_info())))
                traceback.print_exc()
            note("sensor", sensor.name, stored[-1][:300])
    return stored


def let_the_driver_babble() -> None:
    """Have the source's driver raise an error that nobody foresaw and that tells all it was given, the password too."""

    def babble(**named: object) -> NoReturn:
        note("babbled", named["host"])
        raise RuntimeError(f"the driver was given {' and '.join(map(str, named.values()))}")

    smartgo.psycopg = SimpleNamespace(connect=babble, Error=psycopg.Error)


def note(*words: object) -> None:
    sys.stdout.write(json.dumps([str(word) for word in words]) + "\n")


def command(line: str) -> None:
    try:
        main([word.replace("SELECT_1", "SELECT 1") for word in line.split()])
    except SystemExit as ended:
        note("command", line, ended.code)
    except Exception:  # noqa: BLE001 - shown as Python does
        note("command", line, "raised")
        traceback.print_exc()


def run() -> None:
    settings = Settings.from_environment(os.environ)
    made = parts(settings)
    definitions = build(settings, **{name: made[name] for name in made if name != "io_manager"})
    with dg.DagsterInstance.get() as instance:
        run_jobs(definitions, instance)
        ticks = tick(definitions, instance, made)
        (Path(os.environ["DAGSTER_HOME"]) / "ticks").write_text("\n".join(ticks))
    if sys.argv[1:] != ["unforeseen"]:
        for line in COMMANDS:
            command(line)
        let_the_driver_babble()
        command("materialise 2026-11-18")
