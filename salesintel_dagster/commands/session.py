"""What every command needs first: settings, the embedded world where there is no other, and the ports on them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from salesintel_dagster import wiring
from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.domain.ports import ObjectStore, ProgressLedger, SalesTable
from salesintel_dagster.flows.export.quarantine import Quarantine
from salesintel_dagster.settings import Mode, Settings, variable_of

if TYPE_CHECKING:
    from salesintel_dagster.adapters.aws import AwsClients
    from salesintel_dagster.local.world import World

HOME_VARIABLE = "SALESINTEL_HOME"
DEFAULT_HOME = ".salesintel"
KEPT_SETTINGS_FILE = "settings.json"
INSTANCE_FILE = "dagster.yaml"


@dataclass
class Session:
    """Settings and the ports that commands read and write through, each opened on first use."""

    settings: Settings
    world: World | None = None

    @cached_property
    def clients(self) -> AwsClients:
        """The AWS clients."""
        return wiring.aws_clients(self.settings)

    @cached_property
    def store(self) -> ObjectStore:
        """The analytics bucket or folder."""
        return wiring.object_store(self.settings, self.clients)

    @cached_property
    def table(self) -> SalesTable:
        """The Iceberg table smartgo_sales."""
        return wiring.sales_table(self.settings)

    @cached_property
    def ledger(self) -> ProgressLedger:
        """The export progress table."""
        return wiring.progress_ledger(self.settings, self.clients)

    @cached_property
    def quarantine(self) -> Quarantine:
        """The rows that the export did not take."""
        return wiring.quarantine(self.store)


def home() -> Path:
    """Return where the embedded world keeps its state."""
    return Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).absolute()


@contextmanager
def session() -> Iterator[Session]:
    """Open a session; in embedded mode join the running world or start one for as long as the command lasts."""
    settings = Settings.from_environment(os.environ)
    if settings.mode is not Mode.EMBEDDED:
        yield Session(settings)
        return
    from salesintel_dagster.local.world import open_world  # noqa: PLC0415 - the [local] extra, not there on AWS

    with open_world(home(), on_event=lambda event: click.echo(event, err=True)) as world:
        os.environ.update(world.environment)
        os.environ.update(kept_settings())
        yield Session(Settings.from_environment(os.environ), world)


def kept_settings() -> dict[str, str]:
    """Return the settings that a command has kept for this home; a variable that is set already wins."""
    try:
        kept: dict[str, str] = json.loads((home() / KEPT_SETTINGS_FILE).read_text())
    except FileNotFoundError:
        return {}
    return {variable: value for variable, value in kept.items() if variable not in os.environ}


def keep_setting(opened: Session, name: str, value: str) -> None:
    """Keep a setting for every later command and for the UI in this home, and use it from now on."""
    kept = {**kept_settings(), variable_of(name): value}
    (home() / KEPT_SETTINGS_FILE).write_text(json.dumps(kept, indent=2) + "\n")
    os.environ[variable_of(name)] = value
    opened.settings = Settings.from_environment(os.environ)


def prepare_instance() -> Path:
    """Make DAGSTER_HOME usable: the folder and, if it has none, our dagster.yaml. Raises SettingInvalid."""
    given = os.environ.get("DAGSTER_HOME")
    if not given:
        raise SettingInvalid("DAGSTER_HOME: set it to the folder of your Dagster instance (docs/aws.md)")
    folder = Path(given)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / INSTANCE_FILE).exists():
        shutil.copyfile(Path(__file__).parent.parent / INSTANCE_FILE, folder / INSTANCE_FILE)
    return folder


class DayRange(click.ParamType[list[date]]):
    """`2026-11-20` or `2026-11-01..2026-11-20`, both ends included."""

    name = "DATE[..DATE]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[date]:
        """Return the days, in order."""
        if isinstance(value, list):
            return value
        first, _, last = str(value).partition("..")
        try:
            days = days_between(date.fromisoformat(first), date.fromisoformat(last or first))
        except ValueError:
            self.fail(f"{value!r}: expected a day such as 2026-11-20 or a range 2026-11-01..2026-11-20", param, ctx)
        if not days:
            self.fail(f"{value!r}: the first day lies after the last", param, ctx)
        return days


class Day(click.ParamType[date]):
    """`2026-11-20`."""

    name = "DATE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the day."""
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r}: expected a day such as 2026-11-20", param, ctx)
