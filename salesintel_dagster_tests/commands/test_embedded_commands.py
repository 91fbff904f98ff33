"""The command line as a user's shell starts it: child processes over one embedded world, from nothing."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from salesintel_dagster_tests.command_line import COMMAND, TIMEOUT_SECONDS, Answer, call, child
from salesintel_dagster_tests.defs.live_stack import SPY
from salesintel_dagster_tests.local.held_worlds import HeldWorld, holders

pytestmark = [pytest.mark.world, pytest.mark.slow]

LOGGED = "[SmartGoExporter]"
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
DAY_BEFORE = YESTERDAY - timedelta(days=1)
BOTH = f"{DAY_BEFORE}..{YESTERDAY}"
AVERAGE = (
    "SELECT category, avg(sold_price) AS price FROM s3.pricing_intelligence.smartgo_sales "  # noqa: S608 - our own days
    f"WHERE year = {YESTERDAY.year} AND month = {YESTERDAY.month} GROUP BY category"
)


@dataclass(frozen=True, slots=True)
class FirstDemo:
    """What the first demo on a fresh machine left behind."""

    answer: Answer
    work: Path
    user_home: Path
    reached: Path

    @property
    def home(self) -> Path:
        return self.work / ".salesintel"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> FirstDemo:
    """`demo --days 2` in an empty folder, with an empty HOME and no other variable but the spy's."""
    folder = tmp_path_factory.mktemp("fresh machine ž")
    folder.chmod(0o711)
    for name in ("work", "user", "spy"):
        (folder / name).mkdir()
    (folder / "spy" / "sitecustomize.py").write_text(SPY)
    spied = {"PYTHONPATH": str(folder / "spy"), "SPIED_FILE": str(folder / "reached")}
    done = subprocess.run(
        [*COMMAND, "demo", "--days", "2"],
        cwd=folder / "work",
        env={"HOME": str(folder / "user"), **spied},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return FirstDemo(
        Answer(done.returncode, done.stdout, done.stderr), folder / "work", folder / "user", folder / "reached"
    )


@pytest.fixture(scope="module")
def second(first: FirstDemo) -> Answer:
    return child("demo", "--days", "2", home=first.home)


@pytest.fixture(scope="module")
def world(second: Answer, first: FirstDemo) -> Iterator[HeldWorld]:
    """The same world, held open, so that each command joins it in no time."""
    assert second.code == 0, second.err
    with holders() as held:
        yield held.start(first.home)


@pytest.fixture
def home(world: HeldWorld, first: FirstDemo) -> Path:
    assert world.process.poll() is None
    return first.home


def ask(*arguments: str, home: Path) -> Answer:
    """Run a command that only reads in this process: it joins the world without a second's imports."""
    return call(*arguments, environment={"SALESINTEL_HOME": str(home)})


@contextlib.contextmanager
def source(world: HeldWorld) -> Iterator[psycopg.Connection]:
    """The SmartGo database, as its owner."""
    with psycopg.connect(world.owner_dsn) as connection:
        yield connection


def test_on_a_fresh_machine_the_demo_ends_with_data_to_see(first: FirstDemo):
    """K6"""
    answer = first.answer
    assert answer.code == 0, answer.err
    assert "Traceback" not in answer.err
    assert "leaked" not in answer.err, "DuckDB's binding complains at the end"
    for day in (DAY_BEFORE, YESTERDAY):
        assert f"\n{day}  SUCCEEDED" in answer.out
    assert "rows in the table (+" in answer.out
    assert "GROUP BY category, currency\n" in answer.out
    assert "\ndress " in answer.out
    assert "python -m salesintel_dagster up" in answer.out
    for line in ("Starting daily export", "Found sales to export", "Iceberg write successful", "Export complete"):
        assert f"{LOGGED} {line} tenant=carousel-labs partition={YESTERDAY}" in answer.err


def test_the_demo_leaves_the_users_home_alone_and_reaches_nothing_outside_this_machine(first: FirstDemo):
    """K6, I12: by the audit hook of every Python process of ours that the environment reaches."""
    assert list(first.user_home.iterdir()) == []
    assert [path.name for path in first.work.iterdir()] == [".salesintel"]
    assert first.reached.with_suffix(".processes").exists(), "the spy did not run"
    assert not first.reached.exists(), first.reached.read_text()


def test_a_second_demo_adds_no_row_pays_for_nothing_and_says_so(first: FirstDemo, second: Answer):
    assert second.code == 0
    assert "rows in the table (+0), " in second.out
    assert "Nothing was new: no row was added and no embedding was paid for.\n" in second.out
    assert "Nothing was new" not in first.answer.out
    assert second.err.count("paid_calls=0 ") == 2


def test_status_and_history_tell_both_demos(home: Path):
    status = ask("status", home=home)
    assert status.code == 0
    assert f"\n{YESTERDAY}  SUCCEEDED" in status.out
    assert status.out.count("not exported") == 5
    one = ask("status", YESTERDAY.isoformat(), "--json", home=home).json
    assert (one[0]["day"], one[0]["state"], one[0]["paid_calls"]) == (YESTERDAY.isoformat(), "SUCCEEDED", 0)
    runs = ask("history", BOTH, "--json", home=home).json
    assert [(run["day"], run["paid_calls"] > 0) for run in runs] == [
        (day.isoformat(), paid) for day in (DAY_BEFORE, YESTERDAY) for paid in (False, True)
    ]


def test_sql_answers_by_the_three_part_name(home: Path):
    table = child("sql", AVERAGE, home=home)
    assert (table.code, table.out.splitlines()[0].split()) == (0, ["category", "price"])
    rows = child("sql", AVERAGE, "--json", home=home).json
    assert {row["category"] for row in rows} > {"dress", "shoes"}
    assert all(row["price"] > 0 for row in rows)


def test_the_doctor_finds_the_embedded_world_well(home: Path):
    answer = ask("doctor", "--json", home=home)
    assert [one for one in answer.json if one["health"] != "ok"] == []
    assert answer.code == 0
    found = {one["name"]: one["found"] for one in answer.json}
    assert "the layout is ours" in found["iceberg table smartgo_sales"]
    assert "mapped columns are there" in found["source database"]
    assert "only logged" in found["alerts"]


def test_a_reader_that_has_seen_enough_is_no_error(home: Path):
    command = [*COMMAND, "sql", "SELECT range, repeat('x', 100) FROM range(200000)", "--json"]
    environment = {"SALESINTEL_HOME": str(home)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
        assert process.wait(TIMEOUT_SECONDS) == 1
    assert told.startswith("Joined the embedded world")
    assert told.count("\n") == 1, told


def test_a_day_that_has_not_ended_is_wrong_usage(home: Path):
    answer = ask("materialise", f"{YESTERDAY}..{YESTERDAY + timedelta(days=1)}", home=home)
    assert (answer.code, answer.out) == (2, "")
    assert f"{YESTERDAY + timedelta(days=1)} is no partition: " in answer.err


def test_rows_leave_the_quarantine_once_the_source_is_mended(home: Path, world: HeldWorld):
    """A16"""
    listed = ask("quarantine", "list", YESTERDAY.isoformat(), "--json", home=home).json
    assert len(listed) == 1
    sale_id = listed[0]["sale_id"]
    with source(world) as connection:
        connection.execute(
            "UPDATE sales SET category = 'bag', product_id = 'P1', sold_price = 10, currency = 'EUR'"
            " WHERE sale_id = %s",
            (sale_id,),
        )
    dry = ask("quarantine", "replay", YESTERDAY.isoformat(), home=home)
    assert dry.out == f"1 row would be tried again for {YESTERDAY}; nothing was done (--apply does it)\n"
    done = _on_a_terminal("quarantine", "replay", YESTERDAY.isoformat(), "--apply", "--verbose", home=home)
    assert f"{YESTERDAY}: 1 row left the quarantine, 0 stay, 0 are new" in done
    assert LOGGED in done, "--verbose"
    listed = ask("quarantine", "list", YESTERDAY.isoformat(), home=home)
    assert listed.out == f"0 rows in quarantine for {YESTERDAY}\n"
    count = f"SELECT count(*) AS n FROM smartgo_sales WHERE sale_id = '{sale_id}'"  # noqa: S608 - our own id
    assert child("sql", count, "--json", home=home).json == [{"n": 1}]


def test_a_day_that_fails_is_exit_code_1_and_told_without_a_traceback(home: Path, world: HeldWorld):
    with source(world) as connection:
        connection.execute("ALTER TABLE sales RENAME COLUMN sold_price TO price")
    try:
        answer = child("materialise", YESTERDAY.isoformat(), home=home)
        status = ask("status", YESTERDAY.isoformat(), home=home)
    finally:
        with source(world) as connection:
            connection.execute("ALTER TABLE sales RENAME COLUMN price TO sold_price")
    assert answer.code == 1
    assert f"\n{YESTERDAY}  FAILED" in answer.out
    assert "FAILED: 1 of 1 days failed" in answer.out
    assert "no column sold_price" in answer.out
    assert "Traceback" not in answer.out + answer.err
    assert (status.code, "no column sold_price" in status.out) == (1, True)


def test_on_a_terminal_a_moving_line_replaces_the_log_lines(home: Path):
    screen = _on_a_terminal("materialise", YESTERDAY.isoformat(), home=home)
    assert f"{YESTERDAY}  downloading images" in screen
    assert "0/1" in screen
    assert LOGGED not in screen
    assert f"{YESTERDAY}  SUCCEEDED" in screen


def test_ctrl_c_is_a_sentence_and_keeps_the_days_that_are_done(home: Path):
    first_day = date(2026, 1, 1)
    (answer,) = _signalled(signal.SIGINT, first_day, home=home)
    assert answer.code == 130
    assert "Traceback" not in answer.err
    assert answer.err.splitlines()[-1].startswith("salesintel: stopped; the days that were committed stay")
    assert answer.err.count("Export complete") < 5
    assert ask("status", first_day.isoformat(), "--json", home=home).json[0]["state"] == "SUCCEEDED"


def test_command_lines_that_were_killed_hold_nobody_up(home: Path):
    """K3: each leaves a run that looks started, and a place that looks taken in a pool of two."""
    answers = _signalled(signal.SIGKILL, date(2026, 3, 1), date(2026, 5, 1), home=home)
    assert [answer.code for answer in answers] == [-signal.SIGKILL] * 2
    answer = child("materialise", YESTERDAY.isoformat(), "--json", home=home)
    assert answer.json["success"], answer.err
    assert "running already" not in answer.err
    assert ask("status", "2026-03-01", "--json", home=home).json[0]["state"] == "SUCCEEDED"


def test_own_sales_and_photos_go_the_same_way(home: Path, tmp_path: Path):
    sales = tmp_path / "mine.csv"
    sales.write_text(
        "sale_id,product_id,category,sold_price,sold_at,currency\n"
        "OWN-0,P-0,lamp,99.50,2023-04-28T10:00:00Z,EUR\n"
        "OWN-1,P-1,lamp,12.50,2023-05-01T10:00:00Z,EUR\n"
        "OWN-2,P-2,lamp,17.50,2023-05-03T10:00:00Z,EUR\n"
    )
    answer = child("demo", "--sales", str(sales), "--days", "2", home=home)
    assert answer.code == 0, answer.err
    assert [line[:10] for line in answer.out.splitlines() if "SUCCEEDED" in line] == [
        "2023-05-01",
        "2023-05-02",
        "2023-05-03",
    ]
    assert "lamp          2          15.00  EUR" in answer.out
    kept = json.loads((home / "settings.json").read_text())
    assert kept == {"SALESINTEL_FIRST_DAY": "2023-04-28"}, (
        "the UI would not show these days, or not all that are loaded"
    )


def _signalled(number: signal.Signals, *first_days: date, home: Path) -> list[Answer]:
    """Start an export of 50 days from each of `first_days` and send the signal when all have done their first.

    It goes to all processes of the group, as a terminal sends Ctrl-C.
    """
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [*COMMAND, "materialise", f"{day}..{day + timedelta(days=50)}"],
                    env={"SALESINTEL_HOME": str(home)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
            for day in first_days
        ]
        heard = [
            _until(process, f"Export complete tenant=carousel-labs partition={day}")
            for process, day in zip(started, first_days, strict=True)
        ]
        for process in started:
            os.killpg(process.pid, number)
        ended = [process.communicate(timeout=TIMEOUT_SECONDS) for process in started]
        return [
            Answer(process.returncode, out, begin + err)
            for process, begin, (out, err) in zip(started, heard, ended, strict=True)
        ]


def _until(process: subprocess.Popen[str], sentence: str) -> str:
    assert process.stderr is not None
    heard = ""
    for line in process.stderr:
        heard += line
        if sentence in line:
            return heard
    raise AssertionError(f"not heard: {sentence}; but: {heard}")


def _on_a_terminal(*arguments: str, home: Path) -> str:
    """Run the command line on a terminal of its own and return all that it drew."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(  # noqa: S606 - our own command, where a shell would start it
            sys.executable, [*COMMAND, *arguments], {"SALESINTEL_HOME": str(home), "TERM": "xterm", "COLUMNS": "120"}
        )
    drawn = b""
    with contextlib.suppress(OSError):  # the terminal's other end was closed
        while part := os.read(terminal, 65536):
            drawn += part
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, drawn.decode()
    return drawn.decode()
