"""Every setting, in one frozen object. Read from an environment mapping at the edge and nowhere else.

Embedded by default: with no variable set, everything is on this machine. Unknown variables under our prefix, wrong
types and values out of range are refused with a sentence that names the variable, never a secret's value.
The fields stand in one module a capability beside this one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import ConfigDict, ValidationError

from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.settings.alerts import AlertSettings
from salesintel_dagster.settings.deployment import DeploymentSettings
from salesintel_dagster.settings.embedding_cost import EmbeddingCostSettings
from salesintel_dagster.settings.encryption import EncryptionSettings
from salesintel_dagster.settings.enrichment import EnrichmentSettings
from salesintel_dagster.settings.events import EventSettings
from salesintel_dagster.settings.export import ExportSettings
from salesintel_dagster.settings.kinds import Catalog, Mode
from salesintel_dagster.settings.metrics import MetricSettings
from salesintel_dagster.settings.sales import SalesTableSettings
from salesintel_dagster.settings.source import SourceSettings

__all__ = ["Catalog", "Mode", "Settings", "variable_of"]

PREFIX = "SALESINTEL_"
DESIGN_NAMES = {
    "stage": "STAGE",
    "tenant": "TENANT",
    "aws_region": "AWS_REGION",
    "bedrock_region": "BEDROCK_REGION",
    "export_progress_table": "EXPORT_PROGRESS_TABLE_NAME",
    "sales_table": "SALES_INTELLIGENCE_TABLE_NAME",
}
"""Settings whose variable carries the name that the deployments already use."""


LISTS = ("image_hosts_allowed", "event_tenants")
"""Settings whose variable is a comma-separated list."""


class Settings(
    SalesTableSettings,
    SourceSettings,
    AlertSettings,
    EnrichmentSettings,
    EventSettings,
    EncryptionSettings,
    MetricSettings,
    EmbeddingCostSettings,
    ExportSettings,
    DeploymentSettings,
):
    """The settings, the last base's fields first. A field's description is its documentation in `docs/settings.md`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings. Raises SettingInvalid naming every variable that is wrong and its rule."""
        by_variable = {variable_of(name): name for name in cls.model_fields}
        unknown = [key for key in environment if key.startswith(PREFIX) and key not in by_variable | _OUR_OTHERS]
        problems = [_unknown(key, by_variable) for key in sorted(unknown)]
        values: dict[str, object] = {
            name: environment[key] for key, name in by_variable.items() if environment.get(key)
        }
        values |= {name: _listed(values[name]) for name in LISTS if name in values}
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [
                f"{variable_of(str(problem['loc'][0]))}: {problem['msg']}"
                for problem in error.errors(include_url=False)
            ]
        if problems:
            raise SettingInvalid("; ".join(problems))
        return settings


_OUR_OTHERS: dict[str, str] = {"SALESINTEL_HOME": "", "SALESINTEL_WORLD": ""}
"""Variables under our prefix that are the embedded world's, not settings."""


def _listed(text: object) -> tuple[str, ...]:
    return tuple(part.strip() for part in str(text).split(",") if part.strip())


def variable_of(name: str) -> str:
    """Return the environment variable of the setting `name`."""
    if name == "aws_endpoint_url":
        return "AWS_ENDPOINT_URL"
    if name == "bedrock_endpoint_url":
        return "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"
    return DESIGN_NAMES.get(name, PREFIX + name.upper())


def _unknown(key: str, known: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"{key}: no such setting" + (f"; did you mean {near[0]}?" if near else "")
