"""One deployed stage a module; a test that breaks something breaks its own copy of the environment, or mends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster_tests import services as running
from salesintel_dagster_tests.doctor.wards import Ward
from salesintel_dagster_tests.local.stand_ins import stand_in


@pytest.fixture(scope="session")
def titan_url() -> Iterator[str]:
    with stand_in("titan_server") as url:
        yield url


@pytest.fixture(scope="module")
def ward(services: running.Services, titan_url: str, tmp_path_factory: pytest.TempPathFactory) -> Ward:
    clients = AwsClients(services.aws.new_target())
    return Ward(clients, services.postgres.new_database(), titan_url, tmp_path_factory.mktemp("ward"))


@pytest.fixture
def broken(ward: Ward) -> Iterator[Ward]:
    """The ward, whose parameter a test may store otherwise."""
    yield ward
    ward.store_parameter()
