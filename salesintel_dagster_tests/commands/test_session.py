from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from salesintel_dagster.commands.session import Session, keep_setting, kept_settings, prepare_instance
from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.command_line import call


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SALESINTEL_HOME", str(tmp_path))
    monkeypatch.setenv("SALESINTEL_FIRST_DAY", "")
    monkeypatch.setenv("SALESINTEL_HEMISPHERE", "")
    return tmp_path


def test_a_kept_setting_is_found_by_the_next_command(home: Path, monkeypatch: pytest.MonkeyPatch):
    opened = Session(Settings())
    keep_setting(opened, "first_day", "2010-12-01")
    assert opened.settings.first_day == "2010-12-01"
    keep_setting(opened, "hemisphere", "south")
    for variable in ("SALESINTEL_FIRST_DAY", "SALESINTEL_HEMISPHERE"):
        monkeypatch.delenv(variable)
    assert kept_settings() == {"SALESINTEL_FIRST_DAY": "2010-12-01", "SALESINTEL_HEMISPHERE": "south"}
    assert json.loads((home / "settings.json").read_text()) == kept_settings()


def test_kept_settings_are_whole_at_every_moment(home: Path):
    opened = Session(Settings())
    keep_setting(opened, "first_day", "2010-12-01")
    with (home / "settings.json").open() as before:
        keep_setting(opened, "first_day", "2009-12-01")
        assert json.load(before) == {"SALESINTEL_FIRST_DAY": "2010-12-01"}
    assert [file.name for file in home.iterdir()] == ["settings.json"]


def test_a_variable_that_is_set_wins_over_a_kept_one(home: Path, monkeypatch: pytest.MonkeyPatch):
    (home / "settings.json").write_text('{"SALESINTEL_FIRST_DAY": "2010-12-01"}')
    monkeypatch.setenv("SALESINTEL_FIRST_DAY", "2020-01-01")
    assert kept_settings() == {}


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_file_of_kept_settings_that_is_not_ours_is_named(home: Path, text: str):
    (home / "settings.json").write_text(text)
    answer = call("status", environment={"SALESINTEL_HOME": str(home)})
    assert answer.code == 1
    assert "settings.json: expected a JSON object of variables; mend it or remove it" in answer.err


def test_an_empty_instance_folder_gets_our_configuration_and_another_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """J12"""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "new" / "instance"))
    assert "telemetry:\n  enabled: false" in (prepare_instance() / "dagster.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text("mine: true")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert (prepare_instance() / "dagster.yaml").read_text() == "mine: true"


def test_a_configuration_that_could_not_be_written_whole_is_not_there_at_all(tmp_path: Path):
    """A second command that starts at once, or the next one after a full disk, would read half of it."""
    code = (
        "import resource, signal\n"
        "from salesintel_dagster.commands.session import prepare_instance\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "prepare_instance()\n"
    )
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "File too large" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_an_instance_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(SettingInvalid, match="DAGSTER_HOME: set it"):
        prepare_instance()
