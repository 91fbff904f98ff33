from __future__ import annotations

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


@pytest.mark.parametrize("arguments", [("--help",), *((*command, "--help") for command in _commands())], ids=" ".join)
def test_help_answers_at_once_because_nothing_heavy_is_imported(arguments: tuple[str, ...]):
    script = (
        "import sys\nfrom salesintel_dagster.commands.app import main\n"
        f"try:\n    main({list(arguments)!r})\n"
        f"finally:\n    sys.stderr.write(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("module", ["status", "sql", "quarantine", "deploy", "records", "rows", "live", "session"])
def test_a_command_that_only_reads_does_not_import_dagster(module: str):
    script = (
        f"import sys, salesintel_dagster.commands.{module}, salesintel_dagster.wiring; print('dagster' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


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
