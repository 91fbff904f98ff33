"""Where a text leaves for a terminal: it loses the secrets of the environment, also where the settings are wrong."""

from __future__ import annotations

import os

from salesintel_dagster.domain.redaction import Redaction

AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def redaction() -> Redaction:
    """Return the removal of secrets, told of every variable of this environment that is one."""
    from salesintel_dagster.settings import Settings, variable_of  # noqa: PLC0415 - pydantic, after --help

    held = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    return Redaction(os.environ.get(variable, "") for variable in (*AWS_SECRETS, *map(variable_of, held)))
