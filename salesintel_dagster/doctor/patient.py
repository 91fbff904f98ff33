"""Whom the doctor looks at: one deployment's settings, its AWS clients, and what it was told that it may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.settings import Settings, variable_of


@dataclass(frozen=True, slots=True)
class Patient:
    """`clients` are brief ones; `paid_call` and `send_test_alert` let it do what costs money or wakes somebody."""

    settings: Settings
    clients: AwsClients
    environment: Mapping[str, str]
    clock: Clock = SYSTEM_CLOCK
    paid_call: bool = False
    send_test_alert: bool = False


def setting(patient: Patient, name: str) -> str:
    """Return `VARIABLE=value` of a setting that is no secret, as a remedy names it."""
    return f"{variable_of(name)}={getattr(patient.settings, name)}"
