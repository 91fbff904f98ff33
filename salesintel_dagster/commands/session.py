"""What every command needs first: settings, the embedded world where there is no other, and the ports on them.

Everything heavy is imported when it is first used: `salesintel COMMAND --help` answers at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from salesintel_dagster.domain.errors import SettingInvalid

if TYPE_CHECKING:
    from salesintel_dagster.adapters.aws import AwsClients
    from salesintel_dagster.domain.ports import ObjectStore, ProgressLedger
    from salesintel_dagster.flows.export.quarantine import Quarantine
    from salesintel_dagster.local.world import World
    from salesintel_dagster.settings import Settings

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
        from salesintel_dagster import wiring  # noqa: PLC0415 - boto3, after --help

        return wiring.aws_clients(self.settings)

    @cached_property
    def store(self) -> ObjectStore:
        """The analytics bucket or folder."""
        from salesintel_dagster import wiring  # noqa: PLC0415 - same

        return wiring.object_store(self.settings, self.clients)

    @cached_property
    def ledger(self) -> ProgressLedger:
        """The export progress table."""
        from salesintel_dagster import wiring  # noqa: PLC0415 - same

        return wiring.progress_ledger(self.settings, self.clients)

    @cached_property
    def quarantine(self) -> Quarantine:
        """The rows that the export did not take."""
        from salesintel_dagster import wiring  # noqa: PLC0415 - same

        return wiring.quarantine(self.store)


def home() -> Path:
    """Return where the embedded world keeps its state."""
    return Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).absolute()


@contextmanager
def session() -> Iterator[Session]:
    """Open a session; in embedded mode join the running world or start one for as long as the command lasts.

    The world's variables are in the environment until the session ends: Dagster's definitions read them there.
    """
    from salesintel_dagster.settings import Mode, Settings  # noqa: PLC0415 - pydantic, after --help

    settings = Settings.from_environment(os.environ)
    if settings.mode is not Mode.EMBEDDED:
        yield Session(settings)
        return
    from salesintel_dagster.commands.output import say  # noqa: PLC0415 - same
    from salesintel_dagster.local.world import open_world  # noqa: PLC0415 - the [local] extra, not there on AWS
    from salesintel_dagster.local.world_environment import overlaid  # noqa: PLC0415 - same

    kept = kept_settings()
    with open_world(home(), on_event=say) as world, overlaid(kept | world.environment):
        yield Session(Settings.from_environment(os.environ), world)


def kept_settings() -> dict[str, str]:
    """Return the settings that a command has kept for this home; a variable that is set already wins.

    Raises SettingInvalid where the file is not one of ours.
    """
    return {variable: value for variable, value in _kept().items() if variable not in os.environ}


def keep_setting(opened: Session, name: str, value: str) -> None:
    """Keep a setting for every later command and for the UI in this home, and use it from now on."""
    from salesintel_dagster.settings import Settings, variable_of  # noqa: PLC0415 - pydantic, after --help

    kept = {**_kept(), variable_of(name): value}
    _write_whole(home() / KEPT_SETTINGS_FILE, json.dumps(kept, indent=2) + "\n")
    os.environ[variable_of(name)] = value
    opened.settings = Settings.from_environment(os.environ)


def _write_whole(file: Path, text: str) -> None:
    """Write a file that nobody sees half: not a command that starts at once, not after a kill or on a full disk."""
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        unfinished.write_text(text)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _kept() -> dict[str, str]:
    file = home() / KEPT_SETTINGS_FILE
    try:
        kept = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):  # a home that is a file: the world says so in a sentence
        return {}
    except ValueError:
        kept = None
    if not isinstance(kept, dict):
        raise SettingInvalid(f"{file}: expected a JSON object of variables; mend it or remove it")
    return {str(variable): str(value) for variable, value in kept.items()}


def prepare_instance() -> Path:
    """Make DAGSTER_HOME usable: the folder and, if it has none, our dagster.yaml. Raises SettingInvalid."""
    given = os.environ.get("DAGSTER_HOME")
    if not given:
        raise SettingInvalid("DAGSTER_HOME: set it to the folder of your Dagster instance; it may be empty")
    folder = Path(given)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / INSTANCE_FILE).exists():
        _write_whole(folder / INSTANCE_FILE, (Path(__file__).parent.parent / INSTANCE_FILE).read_text())
    return folder
