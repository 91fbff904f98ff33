"""The one module that knows how dagster-webserver makes its application, and makes the same.

Relied upon, of 1.13: `dagster_webserver.app.create_app_from_workspace_process_context` and the defaults of
`dagster_webserver.cli`; `WorkspaceProcessContext`, `WorkspaceOpts` and `get_instance_for_cli` of dagster, which have
no public names (the two packages are released together, and pinned together here). test_webserver_live.py starts
both webservers and compares them, so that an upgrade that changes one of these is seen.

Left out on purpose: the telemetry uploader, and the temporary instance where DAGSTER_HOME is missing (it would have
telemetry on).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.webserver.guard import App

LIVE_DATA_POLL_MILLISECONDS = 2000


@dataclass(frozen=True, slots=True)
class Served:
    """What is served: workspace files, else a module, else what the working folder names; `read_only`: no mutation."""

    workspaces: tuple[str, ...] = ()
    module: str | None = None
    read_only: bool = False


@contextmanager
def dagster_app(served: Served) -> Iterator[App]:
    """Load the code locations and give Dagster's own application; stop its code servers afterwards.

    Raises SettingInvalid where DAGSTER_HOME is not set or what is served contradicts itself.
    """
    if not os.environ.get("DAGSTER_HOME"):
        raise SettingInvalid("DAGSTER_HOME is not set: it names the folder of the Dagster instance (dagster.yaml)")
    # Imported late: a wrong option is answered in 0.2 s, not after the 2 s of Dagster.
    from dagster._cli.utils import get_instance_for_cli  # noqa: PLC0415
    from dagster._cli.workspace.cli_target import workspace_opts_to_load_target  # noqa: PLC0415
    from dagster._core.workspace.context import WorkspaceProcessContext  # noqa: PLC0415
    from dagster._utils.log import configure_loggers  # noqa: PLC0415
    from dagster_shared.cli import WorkspaceOpts  # noqa: PLC0415
    from dagster_webserver import cli  # noqa: PLC0415
    from dagster_webserver.app import create_app_from_workspace_process_context  # noqa: PLC0415
    from dagster_webserver.version import __version__  # noqa: PLC0415

    configure_loggers(formatter="colored", log_level="INFO")
    opts = WorkspaceOpts(workspace=served.workspaces, module_name=(served.module,) if served.module else ())
    with get_instance_for_cli(logger=logging.getLogger(cli.WEBSERVER_LOGGER_NAME)) as instance:
        instance.optimize_for_webserver(
            cli.DEFAULT_DB_STATEMENT_TIMEOUT, cli.DEFAULT_POOL_RECYCLE, cli.DEFAULT_POOL_MAX_OVERFLOW
        )
        with WorkspaceProcessContext(
            instance,
            version=__version__,
            read_only=served.read_only,
            workspace_load_target=workspace_opts_to_load_target(opts),
        ) as context:
            if served.read_only:
                from salesintel_dagster.webserver.viewer import ViewerWebserver  # noqa: PLC0415 - imports Dagster

                yield ViewerWebserver(context, "", LIVE_DATA_POLL_MILLISECONDS).create_asgi_app()
            else:
                yield create_app_from_workspace_process_context(context, "", LIVE_DATA_POLL_MILLISECONDS)
