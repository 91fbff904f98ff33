"""What `salesintel doctor` asks, capability by capability. Reads settings, asks adapters, changes nothing.

A capability's checks are a module here with one function `checks(patient)`; CAPABILITIES is the one list of them.
A check is a small function from plain values to a Finding: what was found, and what to type or to permit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from salesintel_dagster.doctor import alerts, deployment, enrichment, events, export, instance, tables
from salesintel_dagster.doctor.patient import Patient
from salesintel_dagster.domain.diagnosis import Check
from salesintel_dagster.domain.errors import SettingInvalid

CAPABILITIES: tuple[Callable[[Patient], Iterable[Check]], ...] = (
    deployment.checks,
    export.checks,
    tables.checks,
    events.checks,
    enrichment.checks,
    alerts.checks,
    instance.checks,
)


def checks(patient: Patient, names: Collection[str] = ()) -> list[Check]:
    """Return every check of this deployment, or those whose name begins with one of `names`.

    Raises SettingInvalid for a name that no check begins with.
    """
    every = [check for capability in CAPABILITIES for check in capability(patient)]
    unknown = [name for name in names if not any(check.name.startswith(name) for check in every)]
    if unknown:
        raise SettingInvalid(f"no check is named {unknown[0]!r}; there are: {', '.join(check.name for check in every)}")
    return [check for check in every if not names or check.name.startswith(tuple(names))]
