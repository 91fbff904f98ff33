"""What Dagster serves, as one literal: a change of the graph is a change of this file."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from salesintel_dagster.definitions import build
from salesintel_dagster.settings import Settings

ROOT = Path(__file__).resolve().parents[2]

ASSETS = {
    "smartgo_sales_raw": {
        "deps": [],
        "group": "smartgo_export",
        "kinds": ["parquet", "postgres"],
        "owners": ["team:data-engineering"],
        "partitions": "daily from 2024-01-01 in UTC",
        "backfill": "at most 30 days a run",
        "step": "smartgo_export",
        "pool": "smartgo_export",
    },
    "product_images": {
        "deps": ["smartgo_sales_raw"],
        "group": "smartgo_export",
        "kinds": ["parquet", "s3"],
        "owners": ["team:data-engineering"],
        "partitions": "daily from 2024-01-01 in UTC",
        "backfill": "at most 30 days a run",
        "step": "smartgo_export",
        "pool": "smartgo_export",
    },
    "titan_embeddings": {
        "deps": ["product_images"],
        "group": "smartgo_export",
        "kinds": ["bedrock", "parquet"],
        "owners": ["team:data-engineering"],
        "partitions": "daily from 2024-01-01 in UTC",
        "backfill": "at most 30 days a run",
        "step": "smartgo_export",
        "pool": "smartgo_export",
    },
    "smartgo_sales": {
        "deps": ["product_images", "smartgo_sales_raw", "titan_embeddings"],
        "group": "smartgo_export",
        "kinds": ["iceberg", "parquet"],
        "owners": ["team:data-engineering"],
        "partitions": "daily from 2024-01-01 in UTC",
        "backfill": "at most 30 days a run",
        "step": "smartgo_export",
        "pool": "smartgo_export",
    },
    "sales_history": {
        "deps": [],
        "group": "carousel",
        "kinds": ["dynamodb", "iceberg", "sqs"],
        "owners": ["team:data-engineering"],
        "partitions": "none",
        "backfill": "none",
        "step": "sales_history",
        "pool": "sales_history",
    },
    "product_enrichment": {
        "deps": [],
        "group": "enrichment",
        "kinds": ["iceberg", "parquet", "sqs"],
        "owners": ["team:data-engineering"],
        "partitions": "none",
        "backfill": "none",
        "step": "product_enrichment",
        "pool": "product_enrichment",
    },
}

CHECKS = """
product_enrichment no_batch_takes_long                      -
product_enrichment no_dead_letters                          -
product_enrichment no_stale_running                         -
product_enrichment provider_is_named                        -
product_enrichment queue_is_short                           -
product_enrichment states_add_up                            -
product_enrichment success_share                            -
product_images     images_are_there                         daily
sales_history      event_dead_letters_are_empty             -
sales_history      event_quarantine_is_empty                -
sales_history      event_queues_are_as_designed             -
sales_history      history_ids_are_unique                   -
sales_history      history_vectors_are_1024_dim             -
sales_history      no_event_in_conflict                     -
sales_history      no_event_is_about_to_expire              -
sales_history      no_sale_from_two_sources                 -
sales_history      sales_history_matches_ledger             -
smartgo_sales      table_has_one_model                      daily
smartgo_sales      table_ids_are_unique                     daily
smartgo_sales      table_matches_source                     daily
smartgo_sales      table_vectors_are_1024_dim               daily
smartgo_sales_raw  no_row_in_quarantine                     daily
smartgo_sales_raw  required_fields_are_there                daily
smartgo_sales_raw  sale_ids_are_unique                      daily
titan_embeddings   different_images_have_different_vectors  daily
titan_embeddings   embedding_was_not_stopped                daily
titan_embeddings   null_vector_share                        daily
titan_embeddings   one_model_only                           daily
titan_embeddings   vectors_are_1024_dim                     daily  blocking
"""

JOBS = {
    "carousel_sync": {
        "assets": ["sales_history"],
        "checks": 1,
        "executor": "in_process",
        "tags": {"dagster/max_runtime": "14400"},
    },
    "product_enrichment_job": {
        "assets": ["product_enrichment"],
        "checks": 7,
        "executor": "in_process",
        "tags": {"dagster/max_runtime": "14400"},
    },
    "sales_history_reconcile": {
        "assets": [],
        "checks": 6,
        "executor": "in_process",
        "tags": {"dagster/max_runtime": "14400"},
    },
    "sales_history_repair": {
        "assets": [],
        "checks": 0,
        "executor": "in_process",
        "tags": {"dagster/max_runtime": "14400"},
    },
    "sales_ttl_backfill": {
        "assets": [],
        "checks": 0,
        "executor": "in_process",
        "tags": {"dagster/max_runtime": "14400"},
    },
    "smartgo_daily_export": {
        "assets": ["product_images", "smartgo_sales", "smartgo_sales_raw", "titan_embeddings"],
        "checks": 13,
        "executor": "in_process",
        "tags": {"dagster/max_runtime": "14400"},
    },
    "table_upkeep": {"assets": [], "checks": 0, "executor": "in_process", "tags": {"dagster/max_runtime": "14400"}},
}

SCHEDULES = {
    "sales_history_reconcile_daily": {
        "cron": "0 6 * * *",
        "timezone": "UTC",
        "default": "RUNNING",
        "job": "sales_history_reconcile",
    },
    "smartgo_nightly": {
        "cron": "0 3 * * *",
        "timezone": "UTC",
        "default": "RUNNING",
        "job": "smartgo_daily_export",
    },
    "table_upkeep_daily": {"cron": "0 5 * * *", "timezone": "UTC", "default": "RUNNING", "job": "table_upkeep"},
}

SENSORS = {
    "alerts": "RUNNING",
    "carousel_sync_queue": "RUNNING",
    "carousel_sync_watch": "RUNNING",
    "product_enrichment_queue": "RUNNING",
    "product_enrichment_watch": "RUNNING",
    "smartgo_late_days": "RUNNING",
    "smartgo_lost_runs": "RUNNING",
    "smartgo_missing_days": "RUNNING",
}

RESOURCES = [
    "analytics",
    "bedrock",
    "cloudwatch",
    "dynamodb",
    "embedding_spend",
    "enrichment_dead_letters",
    "enrichment_ledger",
    "enrichment_queue",
    "enrichment_table",
    "event_sync",
    "history_facts",
    "image_host",
    "io_manager",
    "keepa",
    "lakehouse",
    "reconciliation",
    "sales_ttl_store",
    "smartgo_db",
    "sold_event_queues",
    "sold_events",
    "table_keepers",
]


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build(Settings())


@pytest.fixture(scope="module")
def repository(definitions: dg.Definitions) -> Any:  # noqa: ANN401 - Dagster does not export the type
    return definitions.get_repository_def()


def asset(definitions: dg.Definitions, spec: dg.AssetSpec) -> dict[str, Any]:
    made = definitions.resolve_assets_def(spec.key)
    partitions = made.partitions_def
    days, backfill = "none", "none"
    if partitions is not None:
        assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
        assert partitions.cron_schedule == "0 0 * * *"
        assert made.backfill_policy is not None
        days = f"daily from {partitions.get_first_partition_key()} in {partitions.timezone}"
        backfill = f"at most {made.backfill_policy.max_partitions_per_run} days a run"
    return {
        "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": list(spec.owners),
        "partitions": days,
        "backfill": backfill,
        "step": made.op.name,
        "pool": made.op.pool,
    }


def test_the_assets_are_these(definitions: dg.Definitions):
    specs = definitions.resolve_all_asset_specs()
    assert {spec.key.to_user_string(): asset(definitions, spec) for spec in specs} == ASSETS


def test_the_checks_are_these(definitions: dg.Definitions):
    graph = definitions.resolve_asset_graph()
    nodes = sorted((graph.get(key) for key in graph.asset_check_keys), key=lambda node: node.key)
    lines = [
        f"{node.key.asset_key.to_user_string():<19}{node.key.name:<41}"
        f"{'daily' if isinstance(node.partitions_def, dg.TimeWindowPartitionsDefinition) else '-'}"
        f"{'  blocking' if node.blocking else ''}"
        for node in nodes
    ]
    assert "\n".join(lines) == CHECKS.strip()


def test_the_jobs_are_these(definitions: dg.Definitions):
    jobs = [job for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")]
    found = {
        job.name: {
            "assets": sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys),
            "checks": len(job.asset_layer.asset_graph.asset_check_keys),
            "executor": job.executor_def.name,
            "tags": dict(job.tags),
        }
        for job in jobs
    }
    assert found == JOBS


def test_the_schedules_and_sensors_are_these(repository: Any):  # noqa: ANN401
    found = {
        schedule.name: {
            "cron": schedule.cron_schedule,
            "timezone": schedule.execution_timezone,
            "default": schedule.default_status.value,
            "job": schedule.job_name,
        }
        for schedule in repository.schedule_defs
    }
    assert found == SCHEDULES
    assert {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs} == SENSORS


def test_the_resources_are_these_and_each_says_what_it_stands_on(repository: Any):  # noqa: ANN401
    resources = repository.get_top_level_resources()
    assert sorted(resources) == RESOURCES
    ports = {name: resource for name, resource in resources.items() if name != "io_manager"}
    assert all(resource.description.endswith(".") for resource in ports.values())
    assert "/tf/dev/smartgo/database/config" in ports["smartgo_db"].description
    assert "s3://carousel-dev-analytics" in ports["analytics"].description
    assert "amazon.titan-embed-image-v1, 1024 floats, region us-east-1" in ports["bedrock"].description


def test_every_asset_and_check_explains_itself_and_lists_its_columns(definitions: dg.Definitions):
    for spec in definitions.resolve_all_asset_specs():
        assert spec.description
        assert spec.description.endswith(".")
        columns = spec.metadata["dagster/column_schema"].columns
        named = {column.name for column in columns}
        assert "tenant_id" in named
        assert named & {"sale_id", "product_id"}
    graph = definitions.resolve_asset_graph()
    assert all(graph.get(key).description for key in graph.asset_check_keys)


def test_what_is_loaded_for_good_is_left_out_of_garbage_collection():
    """A CPU second of every run's start, measured."""
    assert gc.get_freeze_count() > 50_000


def test_settings_reach_the_graph():
    settings = Settings.from_environment(
        {
            "SALESINTEL_PARTITION_ZONE": "Europe/Vilnius",
            "SALESINTEL_FIRST_DAY": "2025-06-01",
            "SALESINTEL_BACKFILL_DAYS_PER_RUN": "7",
            "SALESINTEL_EMBEDDING_DIMENSION": "256",
            "SALESINTEL_RUN_MAX_SECONDS": "600",
            "STAGE": "prod",
        }
    )
    definitions = build(settings)
    [spec] = [spec for spec in definitions.resolve_all_asset_specs() if spec.key.to_user_string() == "smartgo_sales"]
    found = asset(definitions, spec)
    assert (found["partitions"], found["backfill"]) == (
        "daily from 2025-06-01 in Europe/Vilnius",
        "at most 7 days a run",
    )
    names = {key.name for key in definitions.resolve_asset_graph().asset_check_keys}
    assert "vectors_are_256_dim" in names
    assert "vectors_are_1024_dim" not in names
    assert definitions.resolve_job_def("smartgo_daily_export").tags["dagster/max_runtime"] == "600"


def test_no_secret_is_in_anything_that_the_ui_shows():
    """I5"""
    settings = Settings.from_environment({"SALESINTEL_CATALOG_URI": "postgresql+psycopg://u:canary-9f3@h/db"})
    definitions = build(settings)
    resources = definitions.get_repository_def().get_top_level_resources()
    texts = [str(resource.description) + repr(resource) for resource in resources.values()]
    texts += [repr(spec) for spec in definitions.resolve_all_asset_specs()]
    assert not [text for text in texts if "canary-9f3" in text]


WATCHED_LOAD = """
import sys, warnings

seen = []


def watch(event, args):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "subprocess.", "os.fork", "os.exec")):
        seen.append((event, str(args)))
    if event == "open" and isinstance(args[0], str) and not args[0].startswith(tuple(ALLOWED)):
        seen.append((event, args[0]))


ALLOWED = [sys.prefix, sys.base_prefix, ROOT + "/salesintel_dagster", "/usr/share/zoneinfo", "/proc/", "/sys/", "/dev/"]
warnings.simplefilter("error", ResourceWarning)
import dagster

warnings.simplefilter("error")
sys.addaudithook(watch)
import salesintel_dagster.definitions

salesintel_dagster.definitions.defs.get_repository_def()
sys.stdout.write(repr(seen))
"""


def test_the_definitions_load_without_network_files_processes_or_a_warning(tmp_path: Path):
    """I12: loading reads the settings and nothing else, wherever it is done."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "SALESINTEL_CATALOG_URI": "postgresql+psycopg://u:p@192.0.2.1/db",
        "AWS_ENDPOINT_URL": "http://192.0.2.1:1",
    }
    script = WATCHED_LOAD.replace("ROOT", repr(str(ROOT)))
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout == "[]"
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_stops_the_loading_with_its_name(tmp_path: Path):
    """J7"""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SALESINTEL_IMAGE_RETRIES": "many"}
    loaded = subprocess.run(
        [sys.executable, "-c", "import salesintel_dagster.definitions"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 1
    assert "SettingInvalid: SALESINTEL_IMAGE_RETRIES: Input should be a valid integer" in loaded.stderr
