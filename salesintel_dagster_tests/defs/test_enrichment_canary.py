"""I4, H11: the provider's key, marked, is searched for in all that a failing enrichment leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.defs.enrichment import JOB, build
from salesintel_dagster.defs.io_managers import NoValuesIOManager
from salesintel_dagster.domain.errors import TableUnavailable
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.defs.worlds import QUIET
from salesintel_dagster_tests.harness.enrichment_flow import EnrichmentFlow
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.local.stand_ins import call_json, stand_in
from salesintel_dagster_tests.services import Services

CANARY = b"canary-key"
FAULTS = ("echo-key", "payment")


@pytest.fixture(scope="module")
def flow(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnrichmentFlow]:
    with closing(local_catalog(tmp_path_factory.mktemp("lake"))) as catalog, stand_in("keepa_server") as url:
        yield EnrichmentFlow(AwsClients(services.aws.new_target()), catalog, url)


@pytest.mark.slow
def test_i4_h11_the_key_is_in_nothing_that_failures_leave_behind(
    flow: EnrichmentFlow, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    settings = Settings.from_environment({"SALESINTEL_KEEPA_KEY": CANARY.decode()})
    resources = {
        "enrichment_ledger": flow.ledger,
        "enrichment_queue": flow.queue,
        "enrichment_dead_letters": flow.dead,
        "keepa": flow.keepa,
        "enrichment_table": flow.table,
        "io_manager": NoValuesIOManager(),
    }
    definitions = dg.Definitions.merge(
        build(settings, flow.clock, poll_seconds=0),
        dg.Definitions(resources=resources, executor=dg.in_process_executor),
    )
    with caplog.at_level(logging.INFO), dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for fault in FAULTS:
            call_json("POST", f"{flow.provider_url}/faults", {"next": [], "always": fault})
            world = flow.world()
            flow.submit(world)
            job = definitions.resolve_job_def(JOB)
            assert job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET).success
            assert flow.states(world) == {"RETRY": 3}
        call_json("POST", f"{flow.provider_url}/faults", {"next": [], "always": None})
        flow.submit(flow.world())
        flow.table.merge = _fail  # type: ignore[method-assign]
        assert not job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET).success
    items = flow.aws.client("dynamodb").scan(TableName=flow.settings.enrichment_table_name)["Items"]
    told = [str(item).encode() for item in items]
    assert len([text for text in told if b"RETRY" in text]) == len(FAULTS) + 1
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    captured = capfd.readouterr()
    texts = [*told, *files, captured.out.encode(), captured.err.encode(), caplog.text.encode()]
    assert not [text[:200] for text in texts if CANARY in text]


def _fail(*_: object) -> None:
    raise TableUnavailable("catalog or storage is out of reach: OSError")
