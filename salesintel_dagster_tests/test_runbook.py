"""docs/runbook.md has a section for whatever can be raised, and each of its commands is one."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import click
import pyarrow as pa
import pytest
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.types import StringType

from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import AwsClients, told
from salesintel_dagster.adapters.commit_attempts import translated
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.table_layout import (
    HISTORY_TABLE,
    ISOLATION,
    NAMESPACE,
    SALES_TABLE,
    check_layout,
    load_or_create,
)
from salesintel_dagster.commands.app import cli
from salesintel_dagster.definitions import build
from salesintel_dagster.defs.incidents import GUIDE, SECTIONS
from salesintel_dagster.domain.alerts import AlertKind
from salesintel_dagster.domain.errors import DuplicateKeys, SchemaDrift, TableError
from salesintel_dagster.domain.event_queues import misfits
from salesintel_dagster.flows.export.checks import ExportChecks
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring.event_checks import event_queue_watch
from salesintel_dagster_tests.command_line import call
from salesintel_dagster_tests.event_stage import EventStage
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.events import TENANT
from salesintel_dagster_tests.fakes.keyed_table import sold_event, sold_rows

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


def _paste(heading: str) -> None:
    """Do what a person does whom the section tells to start `python` and paste."""
    section = PAGE.split(f"### {heading}\n")[1].split("\n###")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(code, {})  # noqa: S102 - what the page tells a person to type


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


def _add_a_column(table: Table) -> None:
    with table.update_schema() as schema:
        schema.add_column("note", StringType())


def _drop_and_add_a_column(table: Table) -> None:
    with table.update_schema(allow_incompatible_changes=True) as schema:
        schema.delete_column("brand")
    _add_a_column(table)


def _add_a_dropped_column_anew(table: Table) -> None:
    with table.update_schema(allow_incompatible_changes=True) as schema:
        schema.delete_column("brand")
    with table.update_schema() as schema:
        schema.add_column("brand", StringType())
        schema.move_after("brand", "category")


def _drop_a_partition(table: Table) -> None:
    with table.update_spec() as spec:
        spec.remove_field("month")


def _loosen(table: Table) -> None:
    with table.transaction() as transaction:
        transaction.set_properties({ISOLATION[0]: "snapshot"})


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog]:
    """The tables of the settings that the environment holds."""
    monkeypatch.setenv("SALESINTEL_MODE", "aws")
    monkeypatch.setenv("SALESINTEL_CATALOG_URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("SALESINTEL_WAREHOUSE", f"file://{tmp_path}/warehouse")
    with closing(wiring.open_tables_catalog(Settings.from_environment(os.environ))) as opened:
        yield opened


@pytest.mark.parametrize(
    "change", [_add_a_column, _drop_and_add_a_column, _add_a_dropped_column_anew, _drop_a_partition, _loosen]
)
def test_the_code_of_the_runbook_takes_any_change_of_a_table_back(change: Callable[[Table], None], catalog: Catalog):
    table = load_or_create(catalog, SALES_TABLE)
    columns = table.schema().columns
    change(table)
    with pytest.raises(SchemaDrift):
        check_layout(table.refresh())
    _paste("a table was changed")
    check_layout(table.refresh())
    assert table.schema().columns == columns


@pytest.mark.parametrize("wrong", ["another run's", "the same again"])
def test_the_code_of_the_runbook_leaves_one_row_of_a_sale_that_is_there_twice(wrong: str, catalog: Catalog):
    history = IcebergHistoryTable(lambda: catalog, held_clock())
    history.write_new(sold_rows(sold_event("S-1"), sold_event("S-2")), {})
    table = catalog.load_table((NAMESPACE, HISTORY_TABLE))
    second = sold_rows(sold_event("S-1", salePrice=1) if wrong == "another run's" else sold_event("S-1"))
    if wrong == "another run's":
        second = second.set_column(second.column_names.index("run_id"), "run_id", pa.array(["by-hand"]))
    table.append(second.cast(table.schema().as_arrow()))
    day = date(2026, 11, 3)
    with pytest.raises(DuplicateKeys):
        history.of_day(TENANT, day)
    _paste("history_ids_are_unique")
    assert history.of_day(TENANT, day) == {
        sale_id: sold_event(sale_id).record.payload_hash for sale_id in ("S-1", "S-2")
    }
    again = history.write_new(sold_rows(sold_event("S-1"), sold_event("S-3")), {})
    assert (again.written, again.held, again.conflicts) == (1, 1, {})


def test_the_code_of_the_runbook_takes_a_sale_away_whose_vector_is_none(catalog: Catalog):
    history = IcebergHistoryTable(lambda: catalog, held_clock())
    history.write_new(sold_rows(sold_event("S-1"), sold_event("S-2")), {})
    _paste("history_vectors_are_1024_dim")
    assert history.of_day(TENANT, date(2026, 11, 3)).keys() == {"S-2"}


def test_the_code_of_the_runbook_gains_time_for_events_that_wait(
    aws: AwsClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stage = EventStage(aws, tmp_path)
    for name, value in stage.environment.items():
        monkeypatch.setenv(name, value)
    _paste("no_event_is_about_to_expire")
    found = event_queue_watch(stage.settings, aws).look()
    assert found.queue.retention == timedelta(days=13)
    assert list(misfits(found, timedelta(seconds=60))) == []


def test_no_section_is_about_a_check_that_there_is_not():
    told = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    assert [name for name in told if name not in _checks()] == []


COMMANDS = sorted(set(COMMAND.findall(PAGE.replace("\n", " "))))


def _parsed(line: str) -> tuple[list[str], click.Command, list[str]]:
    """Return a command's path, the command and the words behind it."""
    words, command, path = shlex.split(line), cli, []
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        path.append(words.pop(0))
        found = command.get_command(click.Context(cli), path[-1])
        assert found is not None, f"no command {path}"
        command = found
    return path, command, words


def test_what_is_a_dry_run_by_itself_stands_there_with_apply_too():
    """Whoever types the dry run alone at night goes back to bed, and nothing was done."""
    parsed = [_parsed(line) for line in COMMANDS]
    rehearsed = {" ".join(path) for path, command, _ in parsed if any("--apply" in at.opts for at in command.params)}
    assert "events dlq replay" in rehearsed
    assert rehearsed - {" ".join(path) for path, _, words in parsed if "--apply" in words} == set()


@pytest.mark.parametrize("kind", ["repeated", "also under another day"])
def test_each_way_in_which_an_id_is_there_twice_has_its_own_remedy(kind: str):
    told = inspect.getsource(ExportChecks)
    section = PAGE.split("### table_ids_are_unique\n")[1].split("\n#")[0].lower()
    assert kind in told
    assert section.count(kind) > 1, "what it means, and what to type"


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_runbook_is_one_with_its_options(line: str):
    path, command, words = _parsed(line)
    if not isinstance(command, click.Group):
        command.make_context("salesintel", words)
    answer = call(*path, "--help")
    assert answer.code == 0, answer.err
    assert f"Usage: salesintel {' '.join(path)}" in answer.out
