from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from salesintel_dagster.commands.app import ALSO_CALLED, COMMANDS, cli
from salesintel_dagster_tests.command_line import call

HEAVY = ("dagster", "pyiceberg", "duckdb", "boto3", "psycopg", "pyarrow", "pydantic", "rich")


def _commands() -> list[tuple[str, ...]]:
    found = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, inner) for inner in command.commands]
    return found


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_explains_itself_with_an_example(command: tuple[str, ...]):
    answer = call(*command, "--help")
    assert answer.code == 0
    assert "Usage: salesintel" in answer.out
    assert command == ("quarantine",) or "Example:" in answer.out
    assert "..." not in answer.out.replace("[ARGS]...", ""), "a help text is cut off"


HELPS = [("--help",), *((*command, "--help") for command in _commands())]
READERS = ["status", "sql", "quarantine", "deploy", "records", "rows", "live", "session"]
AFTER_EACH_HELP = f"""
import json, sys
from salesintel_dagster.commands.app import main

for words in {HELPS!r}:
    try:
        main(list(words))
    except SystemExit as ended:
        assert not ended.code, words
    sys.stderr.write(json.dumps([module for module in {HEAVY!r} if module in sys.modules]) + chr(10))
"""
AFTER_EACH_IMPORT = f"""
import importlib, json, sys

import salesintel_dagster.wiring

for name in {READERS!r}:
    importlib.import_module("salesintel_dagster.commands." + name)
    sys.stderr.write(json.dumps("dagster" in sys.modules) + chr(10))
"""


def _told_after_each(script: str) -> list[object]:
    """Run a child for all cases: what the first one imports is told of the later ones, too, and all of them fail."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.fixture(scope="module")
def heavy_after_help() -> dict[tuple[str, ...], object]:
    return dict(zip(HELPS, _told_after_each(AFTER_EACH_HELP), strict=True))


@pytest.fixture(scope="module")
def dagster_after_import() -> dict[str, object]:
    return dict(zip(READERS, _told_after_each(AFTER_EACH_IMPORT), strict=True))


@pytest.mark.parametrize("arguments", HELPS, ids=" ".join)
def test_help_answers_at_once_because_nothing_heavy_is_imported(
    heavy_after_help: dict[tuple[str, ...], object], arguments: tuple[str, ...]
):
    assert heavy_after_help[arguments] == []


@pytest.mark.parametrize("module", READERS)
def test_a_command_that_only_reads_does_not_import_dagster(dagster_after_import: dict[str, object], module: str):
    assert dagster_after_import[module] is False


@pytest.mark.parametrize(
    "arguments,told",
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("status", "tomorrow"), "expected a day such as 2026-11-20"),
        (("status", "2026-02-30"), "expected a day such as 2026-11-20"),
        (("history",), "Missing argument 'DATE[..DATE]'"),
        (("history", "2026-11-20..2026-11-01"), "the first day lies after the last"),
        (("history", "0001-01-01..9999-12-31"), "at most 4000 at once"),
        (("materialise", "2026-11-01-2026-11-20"), "a range 2026-11-01..2026-11-20"),
        (("sql",), "Missing argument 'STATEMENT'"),
        (("quarantine", "nonsense"), "No such command 'nonsense'"),
        (("quarantine", "replay"), "Missing argument 'DATE'"),
        (("demo", "--photos", "."), "--photos needs --sales"),
        (("demo", "--sales", "nowhere.csv"), "File 'nowhere.csv' does not exist"),
        (("demo", "--days", "0"), "0 is not in the range"),
        (("up", "--port", "70000"), "70000 is not in the range"),
        (("deploy", "--now"), "No such option"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_was_expected(arguments: tuple[str, ...], told: str):
    answer = call(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err


def test_without_a_command_the_help_is_shown():
    answer = call()
    assert answer.code == 2
    assert "Commands:" in answer.err


def test_the_version_is_told():
    assert call("--version").out.startswith("salesintel, version ")


def test_a_wrong_setting_is_one_sentence_and_exit_code_1():
    """I1"""
    answer = call("status", environment={"SALESINTEL_IMAGE_CONCURENCY": "5", "STAGE": "UPPER"})
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("salesintel: SALESINTEL_IMAGE_CONCURENCY: no such setting; did you mean")
    assert "STAGE:" in answer.err
    assert answer.err.count("\n") == 1


FULL_INSTANCE = """
import sys, types
import click, sqlalchemy
from salesintel_dagster.commands import app

@click.command()
def status():
    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        connection.exec_driver_sql("CREATE TABLE runs (id)")

module = types.ModuleType("salesintel_dagster.commands.status")
module.status = status
sys.modules[module.__name__] = module
app.main(["status"])
"""


def test_a_full_disk_under_dagsters_instance_is_one_sentence_and_exit_code_1():
    """J9: the error of SQLAlchemy as SQLite makes it; it was a traceback of 300 lines with the statement in it."""
    done = subprocess.run([sys.executable, "-c", FULL_INSTANCE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("salesintel: the database of Dagster's instance: database or disk is full (")
    assert done.stderr.count("\n") == 1


def test_dagsters_own_spelling_is_understood():
    assert set(ALSO_CALLED.values()) <= set(COMMANDS)
    assert "Export one day or a range of days" in call("materialize", "--help").out
