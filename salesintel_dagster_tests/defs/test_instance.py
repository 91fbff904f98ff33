"""`salesintel up` as a whole: a backfill through the UI's own door, who listens, who calls out, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psutil
import pytest
import yaml

from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.flows.export.day import STAGES
from salesintel_dagster.local.ports import free_port
from salesintel_dagster.local.seed import seed_demo
from salesintel_dagster.local.world import open_world
from salesintel_dagster_tests.defs.live_stack import LiveStack, graphql, is_alive, serves
from salesintel_dagster_tests.local.held_worlds import ROOT, eventually, remove_outside

pytestmark = [pytest.mark.world, pytest.mark.slow, pytest.mark.timeout(300)]

DAYS = days_between(date(2025, 2, 1), date(2025, 2, 28))
DAYS_PER_RUN = 14
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
SHIPPED = ROOT / "salesintel_dagster" / "dagster.yaml"
LAUNCH = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
BACKFILL = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status numPartitions runs(limit: 100) { id status startTime endTime } }
  }
}"""
PARTITIONS = """
query ($keys: [AssetKeyInput!]) {
  assetNodes(assetKeys: $keys) {
    assetKey { path }
    assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } }
  }
}"""
RUN = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { id } }
    ... on PythonError { message }
  }
}"""
EVENTS = """
query ($id: ID!) {
  runOrError(runId: $id) { ... on Run { eventConnection(limit: 1000) { events { __typename } } } }
}"""
OTHER = """
import dagster as dg

@dg.asset
def fine() -> None: ...

@dg.sensor(target=[fine], minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def looks():
    return dg.SkipReason("nothing to do")

defs = dg.Definitions(assets=[fine], sensors=[looks])
"""
TICKED = """{ sensorOrError(sensorSelector: {
    repositoryLocationName: "other", repositoryName: "__repository__", sensorName: "looks"
}) { ... on Sensor { sensorState { ticks(limit: 1) { status } } } } }"""
LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries {
  name
  locationOrLoadError { __typename ... on PythonError { errorChain { error { message } } } }
} } } }"""


class Backfilled:
    """A running stack whose source has 28 days, and the backfill of them that was launched at its start."""

    def __init__(self, stack: LiveStack, sold: dict[date, int], backfill_id: str) -> None:
        self.stack = stack
        self.sold = sold
        self.backfill_id = backfill_id

    def status(self) -> dict[str, object]:
        found: dict[str, object] = self.stack.graphql(BACKFILL, id=self.backfill_id)["partitionBackfillOrError"]
        return found

    def finished(self) -> dict[str, object]:
        return eventually(
            lambda: found if str((found := self.status())["status"]).startswith("COMPLETED") else None,
            "the end of the backfill",
            240,
        )


@pytest.fixture(scope="module")
def backfilled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backfilled]:
    home = tmp_path_factory.mktemp("live") / "home"
    stack = LiveStack(home, free_port(), {"SALESINTEL_BACKFILL_DAYS_PER_RUN": str(DAYS_PER_RUN)})
    try:
        stack.start()
        sold = seeded(home)
        keys = [{"path": [stage]} for stage in STAGES]
        params = {"assetSelection": keys, "partitionNames": [day.isoformat() for day in DAYS]}
        launched = stack.graphql(LAUNCH, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        yield Backfilled(stack, sold, launched["backfillId"])
    finally:
        stack.close()
        if (home / "world.json").exists():
            remove_outside(home)


def seeded(home: Path) -> dict[date, int]:
    """Sell a few products on each day; return how many rows the source has of each."""
    with open_world(home, on_event=print) as world, world.connect_smartgo() as connection:
        assert world.joined
        seed_demo(connection, world.images_folder, world.image_base_url, days=DAYS, sales_per_day=3)
        counted = connection.execute("SELECT (sold_at AT TIME ZONE 'UTC')::date, count(*) FROM sales GROUP BY 1")
        return {day: count for day, count in counted.fetchall() if isinstance(day, date) and isinstance(count, int)}


def history(stack: LiveStack) -> list[dict[str, object]]:
    found: list[dict[str, object]] = stack.ask("history", f"{DAYS[0]}..{DAYS[-1]}")
    return found


def rows_by_day(stack: LiveStack) -> dict[str, int]:
    statement = (
        "SELECT CAST(sold_date AS varchar) AS day, count(*) AS n, count(DISTINCT sale_id) AS ids "
        "FROM s3.pricing_intelligence.smartgo_sales GROUP BY 1"
    )
    told = stack.run("sql", statement, "--json")
    assert told.returncode == 0, told.stderr
    rows = json.loads(told.stdout)
    assert all(row["n"] == row["ids"] for row in rows)
    return {row["day"]: row["n"] for row in rows}


def run_over(first: date, last: date) -> dict[str, object]:
    range_tags = {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}
    return {
        "selector": {
            "repositoryLocationName": "salesintel_dagster",
            "repositoryName": "__repository__",
            "jobName": "smartgo_daily_export",
        },
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in range_tags.items()]},
    }


def materialised(stack: LiveStack, run_id: str) -> int:
    events = stack.graphql(EVENTS, id=run_id)["runOrError"]["eventConnection"]["events"]
    return sum(event["__typename"] == "MaterializationEvent" for event in events)


def test_a_second_stack_on_the_same_home_refuses_with_a_sentence(backfilled: Backfilled):
    """K2"""
    second = backfilled.stack.run("up", "--port", str(free_port()))
    assert second.returncode == 1
    assert "already up" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_stack_with_a_bad_setting_refuses_and_names_it(backfilled: Backfilled, tmp_path: Path):
    """J7"""
    refused = backfilled.stack.run("up", SALESINTEL_HOME=str(tmp_path / "home"), SALESINTEL_IMAGE_RETRIES="many")
    assert refused.returncode == 1
    assert "SALESINTEL_IMAGE_RETRIES: Input should be a valid integer" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_location_that_does_not_load_is_told_in_the_ui_and_another_one_works(tmp_path: Path):
    """J7"""
    (tmp_path / "other.py").write_text(OTHER)
    (tmp_path / "workspace.yaml").write_text(
        "load_from:\n"
        "  - python_module: {module_name: salesintel_dagster.definitions, location_name: ours}\n"
        f"  - python_file: {{relative_path: {tmp_path}/other.py, location_name: other}}\n"
    )
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copyfile(SHIPPED, home / "dagster.yaml")
    port = free_port()
    webserver = ("dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml")
    daemon = ("dagster._daemon", "run", "-w", "workspace.yaml")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(home), "SALESINTEL_IMAGE_RETRIES": "many"}
    with (tmp_path / "log").open("wb") as log:
        servers = [
            subprocess.Popen([sys.executable, "-m", *words], env=environment, stdout=log, stderr=log, cwd=tmp_path)
            for words in (webserver, daemon)
        ]
    below: list[psutil.Process] = []
    try:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: serves(url), "the webserver", 60)
        entries = graphql(url, LOCATIONS)["workspaceOrError"]["locationEntries"]
        found = {entry["name"]: entry["locationOrLoadError"] for entry in entries}
        assert found["ours"]["__typename"] == "PythonError"
        told = " ".join(link["error"]["message"] for link in found["ours"]["errorChain"])
        assert "SALESINTEL_IMAGE_RETRIES: Input should be a valid integer" in told
        assert found["other"]["__typename"] == "RepositoryLocation"
        eventually(
            lambda: graphql(url, TICKED)["sensorOrError"]["sensorState"]["ticks"], "a tick of the other one's", 60
        )
        below = [child for server in servers for child in psutil.Process(server.pid).children(recursive=True)]
        assert [server.poll() for server in servers] == [None, None]
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(20)
        for left in below:
            if is_alive(left):
                left.kill()


def test_a_backfill_of_28_days_completes_in_two_runs_with_every_sale_of_the_source(backfilled: Backfilled):
    """A9"""
    status = backfilled.finished()
    runs = status["runs"]
    assert isinstance(runs, list)
    assert (status["status"], status["numPartitions"]) == ("COMPLETED_SUCCESS", len(DAYS))
    assert [run["status"] for run in runs] == ["SUCCESS"] * (len(DAYS) // DAYS_PER_RUN)
    assert max(run["startTime"] for run in runs) < min(run["endTime"] for run in runs), "they did not run side by side"
    records = {record["day"]: record for record in history(backfilled.stack)}
    assert {record["state"] for record in records.values()} == {"SUCCEEDED"}
    counted = {day: records[day.isoformat()] for day in DAYS}
    taken = {day: int(str(record["sales"])) + int(str(record["quarantined"])) for day, record in counted.items()}
    assert taken == backfilled.sold
    assert rows_by_day(backfilled.stack) == {day.isoformat(): record["sales"] for day, record in counted.items()}


def test_every_partition_of_every_asset_is_green_in_the_ui(backfilled: Backfilled):
    """A9"""
    backfilled.finished()
    nodes = backfilled.stack.graphql(PARTITIONS, keys=[{"path": [stage]} for stage in STAGES])["assetNodes"]
    green = [{"status": "MATERIALIZED", "startKey": DAYS[0].isoformat(), "endKey": DAYS[-1].isoformat()}]
    assert {node["assetKey"]["path"][0]: node["assetPartitionStatuses"]["ranges"] for node in nodes} == dict.fromkeys(
        STAGES, green
    )


def test_everything_listens_on_loopback_and_nothing_called_out_while_28_days_were_exported(backfilled: Backfilled):
    """J6, J12: sockets of every process once a second, and every connect and look-up of every Python process."""
    backfilled.finished()
    assert backfilled.stack.listening == {"127.0.0.1"}
    assert backfilled.stack.reached == {"127.0.0.1"}
    started = Path(f"{backfilled.stack.spied}.processes").read_text().split()
    assert len(set(started)) > 5, "the spy was not in the processes"
    assert not backfilled.stack.spied.exists(), backfilled.stack.spied.read_text()


def test_telemetry_is_off_in_the_shipped_and_in_the_running_instance(backfilled: Backfilled):
    """J12"""
    for path in (SHIPPED, backfilled.stack.home / "dagster" / "dagster.yaml"):
        assert yaml.safe_load(path.read_text())["telemetry"] == {"enabled": False}
    told = backfilled.stack.graphql("{ instance { info } }")["instance"]["info"]
    assert yaml.safe_load(told)["telemetry"] == {"enabled": False}


def test_sigterm_in_the_middle_of_a_run_ends_all_and_the_state_is_there_again(backfilled: Backfilled):
    """J14"""
    stack = backfilled.stack
    backfilled.finished()
    before = rows_by_day(stack)
    launched = stack.graphql(RUN, params=run_over(DAYS[0], DAYS[-1]))["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    eventually(lambda: materialised(stack, launched["run"]["id"]) > len(STAGES), "the second day of the run", 60)
    seconds, code, processes = stack.terminate()
    assert code == 0
    assert seconds <= 10
    assert len(processes) > 5
    eventually(lambda: not [process for process in processes if is_alive(process)], "the end of every process", 2)
    stack.start()
    assert backfilled.status()["status"] == "COMPLETED_SUCCESS"
    again = stack.run("materialise", DAYS[1].isoformat(), "--json")
    assert again.returncode == 0, again.stderr
    assert rows_by_day(stack) == before
