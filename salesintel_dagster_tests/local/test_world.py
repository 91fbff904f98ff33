"""The embedded world under bad luck: taken ports, two starts, SIGKILL, odd paths, other people's credentials."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from salesintel_dagster.domain.errors import TableUnavailable
from salesintel_dagster.local.postgres import reachable
from salesintel_dagster.local.world import open_world
from salesintel_dagster_tests.local.held_worlds import HeldWorld, Holders, eventually, holders

pytestmark = [pytest.mark.world, pytest.mark.slow, pytest.mark.timeout(120)]

QUEUE = "kept-queue"
TABLE = "bg-remover-dev-smartgo-export-progress"


@pytest.fixture
def starter() -> Iterator[Holders]:
    with holders() as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """K4: a path with a space and letters beyond ASCII, in a folder that only we may enter."""
    return tmp_path / "mein Häuschen 家"


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def write_everywhere(held: HeldWorld) -> None:
    clients = held.clients()
    clients.client("s3").put_object(Bucket="carousel-dev-analytics", Key="a/ü b", Body=b"kept")
    queue = clients.client("sqs").create_queue(QueueName=QUEUE)["QueueUrl"]
    clients.client("sqs").send_message(QueueUrl=queue, MessageBody="kept")
    item = {"PK": {"S": "EXPORT#2026-01-01"}, "SK": {"S": "METADATA"}, "said": {"S": "kept"}}
    clients.client("dynamodb").put_item(TableName=TABLE, Item=item)
    with psycopg.connect(held.owner_dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'kept' AS said")
    catalog = iceberg(held)
    catalog.create_namespace("kept")
    catalog.create_table("kept.rows", Schema(NestedField(1, "n", LongType())))
    catalog.engine.dispose()


def assert_kept(held: HeldWorld) -> None:
    clients = held.clients()
    body = clients.client("s3").get_object(Bucket="carousel-dev-analytics", Key="a/ü b")["Body"].read()
    queue = clients.client("sqs").get_queue_url(QueueName=QUEUE)["QueueUrl"]
    messages = clients.client("sqs").receive_message(QueueUrl=queue).get("Messages", [])
    key = {"PK": {"S": "EXPORT#2026-01-01"}, "SK": {"S": "METADATA"}}
    item = clients.client("dynamodb").get_item(TableName=TABLE, Key=key)["Item"]
    with psycopg.connect(held.owner_dsn) as connection:
        row = connection.execute("SELECT said FROM kept").fetchone()
    catalog = iceberg(held)
    table = catalog.load_table("kept.rows")
    catalog.engine.dispose()
    assert port_of(queue) == port_of(held.environment["AWS_ENDPOINT_URL"])
    assert (body, [message["Body"] for message in messages], item["said"]["S"]) == (b"kept", ["kept"], "kept")
    assert (row, table.schema().column_names) == (("kept",), ["n"])


def iceberg(held: HeldWorld) -> SqlCatalog:
    env = held.environment
    return SqlCatalog(
        "world",
        uri=env["SALESINTEL_CATALOG_URI"],
        warehouse="s3://carousel-dev-analytics/pricing-intelligence",
        **{
            "s3.endpoint": env["AWS_ENDPOINT_URL"],
            "s3.access-key-id": env["AWS_ACCESS_KEY_ID"],
            "s3.secret-access-key": env["AWS_SECRET_ACCESS_KEY"],
            "s3.region": env["AWS_REGION"],
        },
    )


def assert_gone(processes: list[psutil.Process]) -> None:
    eventually(
        lambda: not [process for process in processes if process.is_running() and process.status() != "zombie"],
        f"the end of {processes}",
        deadline_seconds=10,
    )


def test_a_command_whose_world_is_killed_under_it_says_so_and_what_to_type(starter: Holders, home: Path):
    """What fails then says only that a catalog, a queue or a bucket is out of reach."""
    said: list[str] = []
    runner = starter.start(home)
    with contextlib.suppress(TableUnavailable), open_world(home, on_event=said.append) as world:
        assert world.joined
        with open_world(home, on_event=said.append):
            pass
        assert [line.split()[0] for line in said] == ["Joined", "Joined"], "all is well with it"
        os.kill(runner.process.pid, signal.SIGKILL)
        runner.process.wait()
        raise TableUnavailable("catalog or storage is out of reach")
    [told] = said[2:]
    assert told == (
        f"The embedded world in {home} stopped meanwhile: process {runner.process.pid}, which ran it, has ended. "
        "Type the command again: it starts the world anew"
    )


def test_a_taken_port_is_replaced_and_the_data_follows(starter: Holders, home: Path):
    """K1"""
    first = starter.start(home)
    write_everywhere(first)
    image_port = int(first.environment["SALESINTEL_IMAGE_HOSTS_ALLOWED"].split(":")[1])
    with psycopg.connect(first.owner_dsn) as connection:
        connection.execute("CREATE TABLE sales AS SELECT %s AS image_url", [f"http://127.0.0.1:{image_port}/a.png"])
    ports = set(json.loads((home / "world.json").read_text())["ports"].values())
    assert first.stop() == 0
    occupied = [socket.create_server(("127.0.0.1", port)) for port in ports]
    try:
        second = starter.start(home)
    finally:
        for listener in occupied:
            listener.close()
    assert sum("is taken by another program" in event for event in second.events) == 5
    assert ports.isdisjoint(json.loads((home / "world.json").read_text())["ports"].values())
    assert_kept(second)
    with psycopg.connect(second.owner_dsn) as connection:
        row = connection.execute("SELECT image_url FROM sales").fetchone()
    assert row == (f"http://{second.environment['SALESINTEL_IMAGE_HOSTS_ALLOWED']}/a.png",)


def test_of_three_starts_at_once_one_runs_the_world_and_two_join_it(starter: Holders, home: Path):
    """K2"""
    held = [starter.begin(home) for _ in range(3)]
    for one in held:
        one.wait_until_ready()
    said = sorted(one.events[-1].split()[0] for one in held)
    assert said == ["Joined", "Joined", "Started"]
    assert held[0].environment == held[1].environment == held[2].environment
    owner = next(one for one in held if one.events[-1].startswith("Started"))
    for one in held:
        if one is not owner:
            assert one.children == []
            assert one.stop() == 0
    owner.clients().client("s3").head_bucket(Bucket="carousel-dev-analytics")


def test_a_joiner_of_another_stage_finds_its_own_infrastructure(starter: Holders, home: Path):
    """K2"""
    starter.start(home)
    other = starter.start(home, {"STAGE": "staging"})
    other.clients().client("s3").head_bucket(Bucket="carousel-staging-analytics")
    config = (
        other.clients().client("ssm").get_parameter(Name="/tf/staging/smartgo/database/config", WithDecryption=True)
    )
    given = json.loads(config["Parameter"]["Value"])
    with (
        psycopg.connect(
            host=given["host"],
            port=given["port"],
            dbname=given["database"],
            user=given["username"],
            password=given["password"],
            sslmode=given["sslmode"],
        ) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE TABLE mine (n int)")


def test_a_killed_supervisor_leaves_no_child_and_a_restart_has_all_data(starter: Holders, home: Path):
    """K3"""
    held = starter.start(home)
    write_everywhere(held)
    children = held.children
    assert len(children) >= 4
    held.process.kill()
    again = starter.start(home)  # at once: the start itself waits for the old children
    assert_gone(children)
    assert_kept(again)


def test_everything_killed_at_once_loses_nothing_that_was_idle_for_a_moment(starter: Holders, home: Path):
    """K3"""
    held = starter.start(home)
    write_everywhere(held)
    eventually(lambda: not (home / "aws" / "services" / "unsaved").exists(), "a save when idle")
    everything = [*held.children, psutil.Process(held.process.pid)]
    for process in everything:
        process.suspend()
    for process in everything:
        process.kill()
    assert_kept(starter.start(home))


def test_a_crashed_server_comes_back_with_its_data(starter: Holders, home: Path):
    """K3"""
    held = starter.start(home)
    write_everywhere(held)
    eventually(lambda: not (home / "aws" / "services" / "unsaved").exists(), "a save when idle")
    for word in ("emulator_app", "bin/postgres"):
        victim = child_of(held, word)
        victim.kill()
        assert_gone([victim])
    eventually(lambda: serves(held), "both servers again")
    assert_kept(held)


def child_of(held: HeldWorld, word: str) -> psutil.Process:
    for child in held.children:
        with contextlib.suppress(psutil.Error):
            if word in " ".join(child.cmdline()):
                return child
    raise AssertionError(f"no child {word}")


def serves(held: HeldWorld) -> bool:
    try:
        psycopg.connect(held.owner_dsn, connect_timeout=2).close()
        socket.create_connection(("127.0.0.1", port_of(held.environment["AWS_ENDPOINT_URL"])), timeout=1).close()
    except (OSError, psycopg.OperationalError):
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_stops_every_server(starter: Holders, home: Path, number: signal.Signals):
    """K4: also where the user's own HOME cannot be written."""
    held = starter.start(home, {"HOME": "/proc/nowhere"})
    children = held.children
    held.process.send_signal(number)
    held.process.wait(20)
    assert not [child for child in children if child.is_running()]
    assert not (home / "running.json").exists()


def test_an_unusable_home_is_told_with_a_way_out(starter: Holders, tmp_path: Path):
    """K4"""
    (tmp_path / "file").write_text("")
    for impossible in (Path("/proc/nowhere/world"), tmp_path / "file" / "world"):
        held = starter.begin(impossible, {"HOME": "/proc/nowhere"}).wait_until_ready()
        assert held.stop() == 1
        assert held.error is not None
        assert "set SALESINTEL_HOME to a folder that can be written" in held.error


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.skipif(not reachable(Path(sys.executable).resolve()), reason="this Python is root's alone")
def test_a_user_who_is_not_root_needs_nothing_outside_the_home(starter: Holders):
    """K4"""
    home = Path(tempfile.mkdtemp(dir="/var/tmp"))
    os.chown(home, 65534, 65534)
    launcher = Path(__file__).resolve().parents[2] / "salesintel_dagster" / "local" / "launch.py"
    prefix = (sys.executable, "-I", "-S", str(launcher), "15", str(os.getpid()), "65534", "65534")
    held = starter.begin(home / "world", {"HOME": "/nonexistent"}, prefix)
    try:
        held.wait_until_ready()
        assert held.error is None
        assert (home / "world" / "postgres" / "PG_VERSION").exists()
        assert held.stop() == 0
    finally:
        shutil.rmtree(home)


def told(question: Callable[[], list[Any]]) -> list[Any]:
    """What a child says of itself; nothing when it has ended, as Postgres's own children do."""
    try:
        return question()
    except psutil.NoSuchProcess:
        return []


def test_everything_listens_on_loopback_only_and_postgres_wants_its_random_password(starter: Holders, home: Path):
    """K7"""
    held = starter.start(home)
    listening = [
        connection.laddr.ip
        for child in held.children
        for connection in told(child.net_connections)
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 4
    assert set(listening) == {"127.0.0.1"}
    port = port_of(held.owner_dsn)
    for wrong in ("", "postgres", "salesintel"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://salesintel:{wrong}@127.0.0.1:{port}/smartgo", connect_timeout=5)
    assert len(urlsplit(held.owner_dsn).password or "") >= 32
    for name in ("world.json", "running.json", "logs/postgres.log"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert held.owner_dsn.split(":")[2].split("@")[0] not in " ".join(
        word for child in held.children for word in told(child.cmdline)
    )
