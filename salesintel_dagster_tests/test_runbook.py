"""docs/runbook.md has a section for whatever can be raised, and each of its commands is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
from pyiceberg.exceptions import CommitFailedException

from salesintel_dagster.adapters.aws import told
from salesintel_dagster.adapters.commit_attempts import translated
from salesintel_dagster.commands.app import cli
from salesintel_dagster.definitions import build
from salesintel_dagster.defs.incidents import GUIDE, SECTIONS
from salesintel_dagster.domain.alerts import AlertKind
from salesintel_dagster.domain.errors import TableError
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.command_line import call

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / GUIDE).read_text()
HEADINGS = {line.lstrip("# ") for line in PAGE.splitlines() if line.startswith("##")}
COMMAND = re.compile(r"`salesintel ([^`]+)`")
"""Also where a line of the page ends in the middle of it."""


def _checks() -> list[str]:
    """Return the names of all checks that Dagster can evaluate, whichever capability they belong to."""
    graph = build(Settings()).resolve_asset_graph()
    return sorted({key.name for key in graph.asset_check_keys})


def _words_of_failed_runs() -> list[str]:
    """Return what the first column of the table of failed runs quotes."""
    table = PAGE.split("| the alert says | do |\n|---|---|\n")[1].split("\n\n")[0]
    return [words for row in table.splitlines() for words in row.split("|")[1].strip().split(", ")]


def _forbidden() -> ClientError:
    return ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "PutObject")


def test_every_check_has_a_section_that_says_what_it_means_and_what_to_type():
    names = _checks()
    assert len(names) > 9
    assert [name for name in names if name not in HEADINGS] == []
    for name in names:
        section = PAGE.split(f"### {name}\n")[1].split("\n#")[0]
        assert "**Means:**" in section, name
        assert "**Type:**" in section, name
        assert "`salesintel " in section, name


def test_every_kind_of_alert_has_a_section():
    assert set(SECTIONS) | {AlertKind.CHECK} == set(AlertKind)
    assert set(SECTIONS.values()) <= HEADINGS


@pytest.mark.parametrize(
    "error",
    [
        PermissionError("/tables"),
        OSError("AWS Error NETWORK_CONNECTION"),
        OSError("AWS Error ACCESS_DENIED during PutObject operation"),
        CommitFailedException("branch main has changed"),
    ],
    ids=str,
)
def test_what_a_table_says_when_it_fails_stands_in_the_runbook(error: Exception):
    with pytest.raises(TableError) as failed, translated():
        raise error
    assert any(words in str(failed.value) for words in _words_of_failed_runs())


@pytest.mark.parametrize("error", [_forbidden(), EndpointConnectionError(endpoint_url="https://s3")], ids=str)
def test_what_a_store_says_when_it_fails_stands_in_the_runbook(error: ClientError | BotoCoreError):
    assert any(words in told(error) for words in _words_of_failed_runs())


def test_no_section_is_about_a_check_that_there_is_not():
    told = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    assert [name for name in told if name not in _checks()] == []


@pytest.mark.parametrize("line", sorted(set(COMMAND.findall(PAGE.replace("\n", " ")))))
def test_every_command_of_the_runbook_is_one_with_its_options(line: str):
    words, command, path = shlex.split(line), cli, []
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        path.append(words.pop(0))
        found = command.get_command(click.Context(cli), path[-1])
        assert found is not None, f"no command {path}"
        command = found
    if not isinstance(command, click.Group):
        command.make_context("salesintel", words)
    answer = call(*path, "--help")
    assert answer.code == 0, answer.err
    assert f"Usage: salesintel {' '.join(path)}" in answer.out
