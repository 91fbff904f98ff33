"""`salesintel up --read-only`: the whole stack over our definitions, whose UI shows everything and changes nothing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from salesintel_dagster.defs.smartgo_export import JOB
from salesintel_dagster.local.ports import free_port
from salesintel_dagster_tests.defs.live_stack import LiveStack
from salesintel_dagster_tests.local.held_worlds import eventually, remove_outside

pytestmark = [pytest.mark.world, pytest.mark.slow]

HOST = "dagster.example.com"
SELECTOR = {"repositoryLocationName": "salesintel_dagster", "repositoryName": "__repository__"}
READS = """
{
  assetNodes { assetKey { path } }
  permissions { permission value }
  workspaceOrError { ... on Workspace { locationEntries { permissions { permission value } } } }
  instance { runQueuingSupported daemonHealth { daemonStatus(daemonType: "SCHEDULER") { healthy } } }
}"""
CHANGES = {
    "launchRun": (
        "mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename } }",
        {"params": {"selector": {**SELECTOR, "jobName": JOB}, "mode": "default", "runConfigData": {}}},
    ),
    "launchPartitionBackfill": (
        "mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) { __typename } }",
        {"params": {"assetSelection": [{"path": ["smartgo_sales"]}], "partitionNames": ["2026-11-01"]}},
    ),
    "startSchedule": (
        "mutation ($schedule: ScheduleSelector!) { startSchedule(scheduleSelector: $schedule) { __typename } }",
        {"schedule": {**SELECTOR, "scheduleName": "smartgo_nightly"}},
    ),
    "wipeAssets": (
        'mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["smartgo_sales"]}}]) { __typename } }',
        {},
    ),
    "setConcurrencyLimit": ('mutation { setConcurrencyLimit(concurrencyKey: "viewed", limit: 1) }', {}),
}


@pytest.fixture(scope="module")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    home = tmp_path_factory.mktemp("viewed") / "home"
    stack = LiveStack(home, free_port(), words=("--read-only", "--allow-host", HOST))
    try:
        yield stack.start()
    finally:
        stack.close()
        if (home / "world.json").exists():
            remove_outside(home)


def test_a_viewer_sees_the_assets_and_the_schedule_runs(viewed: LiveStack):
    eventually(
        lambda: "viewer mode: nothing can be launched or changed there" in viewed.said(), "the line for a person"
    )
    found = eventually(
        lambda: answer if (answer := viewed.graphql(READS))["assetNodes"] else None, "the definitions in the UI", 30
    )
    assert {"path": ["smartgo_sales"]} in [node["assetKey"] for node in found["assetNodes"]]
    (entry,) = found["workspaceOrError"]["locationEntries"]
    permissions = found["permissions"] + entry["permissions"]
    assert permissions
    assert [one["permission"] for one in permissions if one["value"]] == []
    healthy = """{ instance { daemonHealth { daemonStatus(daemonType: "SCHEDULER") { healthy } } } }"""
    eventually(lambda: viewed.graphql(healthy)["instance"]["daemonHealth"]["daemonStatus"]["healthy"], "the daemon", 40)


@pytest.mark.parametrize("name", CHANGES)
def test_what_would_change_something_is_refused(viewed: LiveStack, name: str):
    query, variables = CHANGES[name]
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{viewed.url}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        answer = urllib.request.urlopen(request, timeout=30)  # noqa: S310 - our own loopback address
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        told = json.loads(answer.read())
    assert "Unauthorized" in told["errors"][0]["message"], told
    assert told["data"] is None
    assert viewed.graphql("{ runsOrError { ... on Runs { results { id } } } }")["runsOrError"]["results"] == []


@pytest.mark.parametrize("host,status", [(HOST, 200), ("evil.example.com", 403)])
def test_a_proxy_reaches_it_by_the_name_that_was_allowed(viewed: LiveStack, host: str, status: int):
    request = urllib.request.Request(f"{viewed.url}/server_info", headers={"Host": host})  # noqa: S310
    try:
        answer = urllib.request.urlopen(request, timeout=30)  # noqa: S310 - our own loopback address
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        assert answer.status == status
