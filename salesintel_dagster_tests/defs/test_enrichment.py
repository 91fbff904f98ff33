"""The enrichment inside Dagster: real runs, sensors and event log over the in-memory enrichment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from salesintel_dagster.defs.enrichment import JOB, POOL, build
from salesintel_dagster.defs.incidents import IncidentLog
from salesintel_dagster.defs.io_managers import NoValuesIOManager
from salesintel_dagster.domain.alerts import AlertKind, Reached
from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.enrichment.facts import NoFacts
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import ProviderTransient, QueueUnavailable, TableUnavailable
from salesintel_dagster.flows.enrichment.retry import retry
from salesintel_dagster.settings import Mode, Settings
from salesintel_dagster_tests.defs.worlds import QUIET
from salesintel_dagster_tests.fakes.enrichment_world import EnrichmentWorld

ASSET = dg.AssetKey("product_enrichment")


class DagsterEnrichment:
    """The definitions over one enrichment world, and an instance in memory."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings | None = None) -> None:
        self.instance = instance
        self.settings = settings or Settings()
        self.world = EnrichmentWorld()
        self.resources: dict[str, object] = {
            "enrichment_ledger": self.world.ledger,
            "enrichment_queue": self.world.queue,
            "enrichment_dead_letters": self.world.dead,
            "keepa": self.world.provider,
            "enrichment_table": self.world.table,
            "io_manager": NoValuesIOManager(),
        }
        self.definitions = dg.Definitions.merge(
            build(self.settings, self.world.clock),
            dg.Definitions(resources=self.resources, executor=dg.in_process_executor),
        )

    def run(self) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_job_def(JOB)
        return job.execute_in_process(instance=self.instance, raise_on_error=False, run_config=QUIET)

    def tick(self, name: str) -> Any:  # noqa: ANN401 - whatever a sensor returns
        sensor = self.definitions.get_repository_def().get_sensor_def(name)
        wanted = {key: self.resources[key] for key in self.resources if key in sensor.required_resource_keys}
        with dg.build_sensor_context(
            instance=self.instance, resources=wanted, repository_def=self.definitions.get_repository_def()
        ) as context:
            return sensor(context)

    def record(self, result: dg.SensorResult) -> None:
        """Do with the sensor's events what the daemon does."""
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)


@pytest.fixture
def enrichment() -> Iterator[DagsterEnrichment]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield DagsterEnrichment(instance)


def failed_checks(result: dg.ExecuteInProcessResult) -> list[str]:
    return sorted(found.check_name for found in result.get_asset_check_evaluations() if not found.passed)


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


class TestTheAsset:
    def test_a_run_works_until_the_queue_is_empty_and_plots_success_share_and_tokens(
        self, enrichment: DagsterEnrichment
    ):
        world = enrichment.world
        world.provider.tokens = TokenLevel(500, 1.0, 20.0, world.clock.now())
        world.provider.none["B000000003"] = NoFacts(Reason.NOT_FOUND, "unknown")
        world.submit(130, size=10)
        result = enrichment.run()
        assert result.success
        assert failed_checks(result) == []
        told = metadata(result)
        assert (told["products_done"], told["products_failed"], told["batches"]) == (129, 1, 13)
        assert (told["success_share"], told["tokens_left"]) == (0.9923, 370)
        assert told["failed_by_reason"] == {"FAILED_NOT_FOUND": 1}
        assert (told["provider"], told["requests"], told["rows_written"]) == ("local-scripted", 2, 129)
        assert world.store.opened == {}
        assert len(result.get_asset_check_evaluations()) == 7

    def test_a_run_without_a_message_is_green_and_claims_no_success(self, enrichment: DagsterEnrichment):
        result = enrichment.run()
        assert result.success
        assert "success_share" not in metadata(result)
        assert failed_checks(result) == []

    def test_too_many_failures_fail_the_check_and_not_the_run(self, enrichment: DagsterEnrichment):
        world = enrichment.world
        for number in range(3):
            world.provider.none[f"B{number:09d}"] = NoFacts(Reason.NOT_FOUND, "unknown")
        world.submit(30)
        result = enrichment.run()
        assert result.success
        assert failed_checks(result) == ["success_share"]

    def test_h1_a_stand_ins_rows_outside_the_embedded_world_fail_their_check(self):
        with dg.DagsterInstance.ephemeral() as instance:
            abroad = DagsterEnrichment(instance, Settings(mode=Mode.AWS))
            abroad.world.submit(10)
            result = abroad.run()
        assert failed_checks(result) == ["provider_is_named"]

    def test_a_batch_that_waits_long_or_whose_owner_is_silent_fails_its_check(self, enrichment: DagsterEnrichment):
        world = enrichment.world
        world.provider.always = ProviderTransient(Reason.PROVIDER_DOWN, "answered 500")
        world.submit(10)
        world.drain()
        world.time.move(601)
        world.provider.always = None
        result = enrichment.run()
        assert failed_checks(result) == ["no_batch_takes_long"]
        assert metadata(result)["longest_batch_seconds"] == 601

    def test_a_table_that_is_gone_fails_the_run_in_its_own_words(self, enrichment: DagsterEnrichment):
        enrichment.world.submit(10)
        enrichment.world.table.fail.append(TableUnavailable("catalog or storage is out of reach: OSError"))
        result = enrichment.run()
        assert not result.success
        [failure] = [event.step_failure_data for event in result.all_events if event.is_step_failure]
        assert failure.user_failure_data is not None
        assert failure.user_failure_data.description == "catalog or storage is out of reach: OSError"
        assert enrichment.world.states() == {"RETRY": 10}


class TestTheQueueSensor:
    def test_f19_f21_it_asks_for_one_run_at_a_time_and_says_why_for_none(self, enrichment: DagsterEnrichment):
        name = "product_enrichment_queue"
        assert enrichment.tick(name).skip_message.startswith("No batch waits")
        enrichment.world.submit(30)
        asked = enrichment.tick(name)
        assert isinstance(asked, dg.RunRequest)
        assert (asked.run_config, asked.run_key) == ({}, None)
        enrichment.instance.create_run_for_job(
            enrichment.definitions.resolve_job_def(JOB), status=dg.DagsterRunStatus.STARTED
        )
        assert enrichment.tick(name).skip_message == "3 batches wait for the run that is under way."

    def test_f19_a_queue_that_is_gone_is_a_sentence(self, enrichment: DagsterEnrichment):
        class Gone:
            def depth(self) -> None:
                raise QueueUnavailable("look at the depth of queue q: QueueDoesNotExist")

        enrichment.resources["enrichment_queue"] = Gone()
        assert "cannot be looked at now: look at the depth" in enrichment.tick("product_enrichment_queue").skip_message

    def test_it_receives_nothing(self, enrichment: DagsterEnrichment):
        enrichment.world.submit(10)
        before = list(enrichment.world.wire.points)
        enrichment.tick("product_enrichment_queue")
        assert enrichment.world.wire.points == before

    def test_the_pool_takes_one_run_unless_somebody_chose_otherwise(self, enrichment: DagsterEnrichment):
        storage = enrichment.instance.event_log_storage
        enrichment.tick("product_enrichment_queue")
        assert [(pool.name, pool.limit) for pool in storage.get_pool_limits()] == [(POOL, 1)]
        storage.set_concurrency_slots(POOL, 3)
        enrichment.tick("product_enrichment_queue")
        assert [(pool.name, pool.limit) for pool in storage.get_pool_limits()] == [(POOL, 3)]


class TestTheWatch:
    NAME = "product_enrichment_watch"

    def test_h8_it_sends_what_was_never_sent(self, enrichment: DagsterEnrichment):
        world = enrichment.world
        world.queue.refuse = lambda _body: True
        world.submit(30)
        world.queue.refuse = lambda _body: False
        world.time.move(61)
        assert "3 batches sent" in enrichment.tick(self.NAME).skip_message
        assert world.queue.depth().waiting == 3

    def test_f17_dead_letters_fail_a_check_and_alert_once_until_a_retry_has_made_it_good(
        self, enrichment: DagsterEnrichment
    ):
        world = enrichment.world
        submitted = world.submit(10)
        [body] = [one.body for one in world.queue.kept.values()]
        world.queue.kept.clear()
        world.dead.send([body])
        first = enrichment.tick(self.NAME)
        assert [(event.check_name, event.passed) for event in first.asset_events] == [("no_dead_letters", False)]
        enrichment.record(first)
        assert "no verdict has changed" in enrichment.tick(self.NAME).skip_message
        [seen] = self.incidents(enrichment)
        assert seen.headline == "product_enrichment.no_dead_letters"
        assert dict(seen.facts)["found"] == "1 messages"
        retry([submitted.job], world.ledger, world.queue, world.dead, world.clock)
        assert enrichment.run().success
        assert "no verdict has changed" in enrichment.tick(self.NAME).skip_message
        assert world.states() == {"DONE": 10}

    def test_a_deep_queue_and_silent_owners_alert_though_no_run_comes(self, enrichment: DagsterEnrichment):
        world = enrichment.world
        world.submit(1_010, size=10)
        [job] = world.store.jobs.values()
        messages = world.queue.receive(1, 0)
        world.worker("silent")._claimer.claim(messages)
        world.time.move(300 + 601)
        changed = enrichment.tick(self.NAME)
        enrichment.record(changed)
        assert sorted(event.check_name for event in changed.asset_events) == [
            "no_batch_takes_long",
            "no_stale_running",
            "queue_is_short",
        ]
        told = {seen.headline.rpartition(".")[2]: dict(seen.facts) for seen in self.incidents(enrichment)}
        assert told["queue_is_short"]["found"].startswith("101 waiting")
        assert told["no_stale_running"]["first offenders"] == f"summer/{job.plan}-00001"
        assert told["queue_is_short"]["what to do"] == "docs/runbook.md, queue_is_short"

    def test_j1_a_run_that_was_killed_is_ended_once_it_is_silent_and_holds_no_lease(
        self, enrichment: DagsterEnrichment
    ):
        world, instance = enrichment.world, enrichment.instance
        world.time.now = datetime.now(UTC)
        enrichment.tick("product_enrichment_queue")
        run = instance.create_run_for_job(
            enrichment.definitions.resolve_job_def(JOB), status=dg.DagsterRunStatus.STARTED
        )
        instance.event_log_storage.claim_concurrency_slot(POOL, run.run_id, "product_enrichment")
        world.submit(20)
        first, second = world.queue.receive(2, 0)
        claimer = world.worker(f"{run.run_id}/")._claimer
        claimer.claim([first])
        world.time.move(200)
        claimer.claim([second])
        for seconds, status in ((159, "STARTED"), (140, "STARTED"), (1, "FAILURE")):
            world.time.move(seconds)
            enrichment.tick(self.NAME)
            found = instance.get_run_by_id(run.run_id)
            assert found is not None
            assert found.status.value == status
        assert instance.event_log_storage.get_concurrency_info(POOL).active_slot_count == 0
        assert isinstance(enrichment.tick("product_enrichment_queue"), dg.RunRequest)

    @staticmethod
    def incidents(enrichment: DagsterEnrichment) -> list[Any]:
        log = IncidentLog(enrichment.instance, enrichment.settings)
        now = enrichment.world.clock.now() + timedelta(days=400)
        seen = list(log.after(Reached(0, 0, now.toordinal()), now))
        return [one.incident for one in seen if one.kind is AlertKind.CHECK and one.incident is not None]


def test_f23_no_message_body_and_no_title_is_in_anything_that_dagster_keeps(enrichment: DagsterEnrichment):
    enrichment.world.submit(10)
    result = enrichment.run()
    texts = [str(event) for event in result.all_events] + [
        str(result.dagster_run.run_config),
        str(result.dagster_run.tags),
    ]
    texts += [entry.user_message for entry in enrichment.instance.all_logs(result.run_id)]
    assert not [text for text in texts if "B000000001" in text or "Product B" in text]
