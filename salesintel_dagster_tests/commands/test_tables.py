from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from salesintel_dagster.commands.tables import look_after_all, show, tables
from salesintel_dagster.domain.errors import TableUnavailable
from salesintel_dagster.domain.upkeep import Step
from salesintel_dagster_tests.fakes.table_keeper import LEFT, ScriptedTableKeeper


def test_a_table_is_a_line_of_snapshots_files_sizes_and_last_upkeep(capsys: pytest.CaptureFixture[str]):
    show([ScriptedTableKeeper(), ScriptedTableKeeper("sales_history", made=False)], as_json=False)
    header, line, unmade, *hints = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["table", "rows", "files", "size", "manifests"]
    assert line.split("  ")[0] == "smartgo_sales"
    for value in ("1,234,567", "31", "4.2 GB", "40", "4.3 GB", "2026-11-17 05:00", "never"):
        assert value in line
    assert unmade.split() == ["sales_history", "-"]
    assert hints == [
        "smartgo_sales: upkeep has work to do; see it with: salesintel tables upkeep",
        "sales_history: not made yet; its first rows make it",
    ]


def test_the_same_as_json(capsys: pytest.CaptureFixture[str]):
    show([ScriptedTableKeeper()], as_json=True)
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["table"], found["snapshots"], found["bytes"]) == ("smartgo_sales", 2, 4_200_000_000)
    assert found["last_upkeep"] is None


def test_upkeep_without_apply_lists_the_files_and_does_nothing(capsys: pytest.CaptureFixture[str]):
    """D4"""
    keeper = ScriptedTableKeeper()
    assert look_after_all([keeper], really=False, as_json=False) == ()
    out = capsys.readouterr().out
    assert keeper.acts == []
    assert f"2026-11-11 05:00    2.5 MB  {LEFT.path}" in out
    assert out.endswith("Nothing was done; --apply does it.\n")


def test_upkeep_with_apply_does_it_and_says_what(capsys: pytest.CaptureFixture[str]):
    keeper = ScriptedTableKeeper()
    assert look_after_all([keeper], really=True, as_json=False) == ()
    assert keeper.acts == list(Step)
    assert "unreferenced files removed: 1 (2.5 MB)" in capsys.readouterr().out


def test_json_of_a_dry_run_names_every_file(capsys: pytest.CaptureFixture[str]):
    look_after_all([ScriptedTableKeeper()], really=False, as_json=True)
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["applied"], found["would_remove"]) == (False, [LEFT.path])
    assert [step["step"] for step in found["steps"]] == list(Step)


def test_a_failure_is_told_and_given_back_for_the_exit_code(capsys: pytest.CaptureFixture[str]):
    down = ScriptedTableKeeper(failing={"survey": TableUnavailable("catalog is down")})
    assert look_after_all([down], really=True, as_json=False) == ("smartgo_sales: catalog is down",)
    assert "catalog is down" in capsys.readouterr().out


def test_both_forms_explain_themselves():
    for arguments in ([], ["upkeep"]):
        answer = CliRunner().invoke(tables, [*arguments, "--help"])
        assert answer.exit_code == 0
        assert "Example: salesintel tables upkeep --apply" in answer.output
