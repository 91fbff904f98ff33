"""The doctor's checks of the enrichment, on a deployed stage of the emulator."""

from __future__ import annotations

import secrets

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.doctor.enrichment import checks
from salesintel_dagster.doctor.patient import Patient
from salesintel_dagster.domain.diagnosis import Finding
from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import enrichment
from salesintel_dagster_tests.services import Services


@pytest.fixture(scope="module")
def deployed(services: Services) -> tuple[AwsClients, str]:
    clients, stage = AwsClients(services.aws.new_target()), f"t{secrets.token_hex(4)}"
    deploy(clients, stage, lambda _line: None)
    return clients, stage


def found(deployed: tuple[AwsClients, str], **variables: str) -> dict[str, Finding]:
    clients, stage = deployed
    settings = Settings.from_environment({"STAGE": stage, **variables})
    return {check.name: check.ask() for check in checks(Patient(settings, clients, {}))}


def test_a_stage_that_is_well_says_so_without_its_key(deployed: tuple[AwsClients, str]):
    told = found(deployed, SALESINTEL_KEEPA_KEY="canary-key")
    assert {finding.health.value for finding in told.values()} == {"ok"}
    assert "canary" not in repr(told)


def test_dead_letters_a_missing_key_and_a_stand_in_abroad_are_told(deployed: tuple[AwsClients, str]):
    clients, stage = deployed
    enrichment.enrichment_dead_letters(Settings(stage=stage), clients).send(["a letter"])
    told = found(deployed)
    assert told["enrichment: dead letters"].health.value == "warn"
    assert "set SALESINTEL_KEEPA_KEY" in repr(told["enrichment: provider"])
    abroad = found(
        deployed,
        SALESINTEL_MODE="aws",
        SALESINTEL_KEEPA_KEY="k",
        SALESINTEL_KEEPA_URL="http://127.0.0.1:9",
    )
    assert abroad["enrichment: provider"].health.value == "fail"


def test_what_was_never_deployed_is_an_error_that_names_it(deployed: tuple[AwsClients, str]):
    clients, _ = deployed
    never = {check.name: check for check in checks(Patient(Settings(stage="never"), clients, {}))}
    with pytest.raises(QueueUnavailable, match="product-enrichment-never"):
        never["enrichment: queue"].ask()
