"""The sync inside Dagster: real runs, sensors and event log over a sync in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from salesintel_dagster.defs.carousel_sync import JOB, POOL
from salesintel_dagster.defs.incidents import IncidentLog
from salesintel_dagster.defs.one_run import LAUNCHED_WITHIN
from salesintel_dagster.domain.alerts import AlertKind, Reached
from salesintel_dagster.domain.errors import TableUnavailable
from salesintel_dagster.domain.event_queues import OldestAge
from salesintel_dagster_tests.defs.carousel_worlds import QUICK, DagsterSync, failed, reason, told
from salesintel_dagster_tests.fakes.events import sold

QUEUE = "carousel_sync_queue"
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), JOB)


@pytest.fixture
def sync() -> Iterator[DagsterSync]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield DagsterSync(instance)


class TestTheAsset:
    def test_a_run_drains_the_queue_and_plots_what_became_of_the_events(self, sync: DagsterSync):
        sync.world.send(*(sold(f"S-{n}", soldAt=f"2026-1{n % 2}-03T12:00:00Z") for n in range(12)))
        sync.world.send(sold("S-1", soldAt="2026-11-03T12:00:00Z"))
        sync.world.queue.send("poison")
        result = sync.run()
        assert result.success
        found = told(result)
        counts = ("received", "written", "duplicates", "conflicts", "quarantined", "left", "batches", "commits")
        assert [found[name] for name in counts] == [14, 12, 1, 0, 1, 0, 1, 1]
        assert found["months_touched"] == "carousel-labs 2026-10, carousel-labs 2026-11"
        assert (found["lag_seconds_mean"], found["lag_seconds_most"]) == (55.0, 55.0)
        assert failed(result.get_asset_check_evaluations()) == []
        assert sync.world.queue.depth().total == 0

    def test_a_run_without_an_event_is_green_and_claims_no_lag(self, sync: DagsterSync):
        found = told(sync.run())
        assert found["received"] == 0
        assert "lag_seconds_mean" not in found

    def test_f6_a_conflict_fails_its_check_and_is_told_to_people(self, sync: DagsterSync):
        sync.world.send(sold("S-1"))
        sync.run()
        sync.world.send(sold("S-1", salePrice=1))
        result = sync.run()
        assert result.success
        assert failed(result.get_asset_check_evaluations()) == ["no_event_in_conflict"]
        [incident] = incidents(sync)
        assert incident.headline == "sales_history.no_event_in_conflict"
        assert dict(incident.facts)["what to do"] == "docs/runbook.md, no_event_in_conflict"
        [check] = [one for one in result.get_asset_check_evaluations() if not one.passed]
        assert check.metadata["offenders_named"].value == "carousel-labs/S-1"

    def test_a_run_that_an_error_ends_tells_what_was_done_until_then(self, sync: DagsterSync):
        sync.world.queue.send("poison")
        sync.world.send(*(sold(f"S-{n}") for n in range(9)))
        sync.world.table.fail(TableUnavailable("catalog or storage is out of reach: OSError"))
        first = sync.run()
        assert not first.success
        assert reason(first) == "catalog or storage is out of reach: OSError"
        [seen] = [event for event in first.all_events if event.event_type_value == "ASSET_OBSERVATION"]
        observed = seen.event_specific_data.asset_observation  # type: ignore[union-attr]
        numbers = {name: value.value for name, value in observed.metadata.items()}
        assert (numbers["received"], numbers["quarantined"], numbers["written"]) == (10, 1, 0)
        assert first.get_asset_materialization_events() == []
        sync.world.later(minutes=5)
        assert told(sync.run())["written"] == 9

    def test_an_error_that_nobody_foresaw_tells_what_was_done_until_then(self, sync: DagsterSync):
        sync.world.send(*(sold(f"S-{n}") for n in range(100)), sold("S-0"))
        sync.world.receipts.ending = ZeroDivisionError
        result = sync.run()
        assert not result.success
        [seen] = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
        observed = seen.event_specific_data.asset_observation  # type: ignore[union-attr]
        assert (observed.metadata["written"].value, observed.metadata["received"].value) == (100, 101)
        assert len(sync.world.sales()) == 100

    def test_an_interruption_tells_it_in_the_log(self, sync: DagsterSync, caplog: pytest.LogCaptureFixture):
        sync.world.send(*(sold(f"S-{n}") for n in range(100)), sold("S-0"))
        sync.world.receipts.ending = KeyboardInterrupt
        with caplog.at_level("INFO"):
            assert not sync.run().success
        assert "Interrupted received=100 written=100" in caplog.text

    def test_a_conflict_before_the_error_is_told_all_the_same(self, sync: DagsterSync):
        sync.world.send(sold("S-1"))
        sync.run()
        sync.world.send(sold("S-1", salePrice=1), sold("S-2"))
        sync.world.table.fail(TableUnavailable("out of reach"))
        assert failed(sync.run().get_asset_check_evaluations()) == ["no_event_in_conflict"]

    def test_dead_letters_found_by_runs_are_told_once_and_not_with_every_run(self, sync: DagsterSync):
        sync.queues.dead = 2
        for _ in range(3):
            assert "event_dead_letters_are_empty" in failed(sync.run().get_asset_check_evaluations())
        assert [one.headline for one in incidents(sync)] == ["sales_history.event_dead_letters_are_empty"]
        sync.queues.dead = 0
        assert failed(sync.run().get_asset_check_evaluations()) == []


class TestTheQueueSensor:
    def test_f19_an_empty_queue_is_a_sentence(self, sync: DagsterSync):
        assert sync.tick(QUEUE).skip_message == "No sold event waits; 0 are in flight."

    def test_f19_a_queue_that_cannot_be_looked_at_is_a_sentence(self, sync: DagsterSync):
        sync.world.queue.fail("depth")
        assert sync.tick(QUEUE).skip_message == "The queue cannot be looked at now: depth: the queue is down."

    @pytest.mark.parametrize("status", ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
    def test_f21_it_asks_for_one_run_at_a_time(self, sync: DagsterSync, status: str):
        sync.world.now = datetime.now(UTC)
        sync.world.send(sold("S-1"))
        assert isinstance(sync.tick(QUEUE), dg.RunRequest)
        sync.instance.add_run(dg.DagsterRun(JOB, status=dg.DagsterRunStatus(status), remote_job_origin=ORIGIN))
        assert sync.tick(QUEUE).skip_message == "1 sold events wait for the run that is under way."

    @pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "CANCELED"])
    def test_f21_it_asks_again_when_that_run_has_ended(self, sync: DagsterSync, status: str):
        sync.world.send(sold("S-1"))
        ended = dg.DagsterRunStatus(status)
        sync.instance.create_run_for_job(sync.definitions.resolve_job_def(JOB), status=ended)
        assert isinstance(sync.tick(QUEUE), dg.RunRequest)

    def test_f22_a_run_that_nobody_will_ever_start_stops_no_other(self, sync: DagsterSync):
        sync.world.send(sold("S-1"))
        job = sync.definitions.resolve_job_def(JOB)
        sync.instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED)
        sync.world.now = datetime.now(UTC) + LAUNCHED_WITHIN - timedelta(minutes=1)
        assert isinstance(sync.tick(QUEUE), dg.SkipReason)
        sync.world.now += timedelta(minutes=2)
        assert isinstance(sync.tick(QUEUE), dg.RunRequest)

    def test_f23_it_hands_nothing_on_and_receives_nothing(self, sync: DagsterSync):
        sync.world.send(sold("S-1"))
        asked = sync.tick(QUEUE)
        assert (asked.run_config, asked.tags, asked.run_key) == ({}, {}, None)
        assert [one.receives for one in sync.world.queue.messages] == [0]

    def test_j1_a_run_that_was_killed_is_ended_once_it_is_silent_and_the_next_is_asked_for(self, sync: DagsterSync):
        run = sync.instance.create_run_for_job(
            sync.definitions.resolve_job_def(JOB), status=dg.DagsterRunStatus.STARTED
        )
        sync.tick(QUEUE)
        sync.instance.event_log_storage.claim_concurrency_slot(POOL, run.run_id, "sales_history")
        sync.world.send(sold("S-1"))
        sync.world.now = datetime.now(UTC)
        silent = QUICK.event_visibility_seconds + QUICK.event_idle_seconds
        for seconds, status in ((silent - 5, "STARTED"), (10, "FAILURE")):
            sync.world.now += timedelta(seconds=seconds)
            sync.watch()
            found = sync.instance.get_run_by_id(run.run_id)
            assert found is not None
            assert found.status.value == status
        assert sync.instance.event_log_storage.get_concurrency_info(POOL).active_slot_count == 0
        assert isinstance(sync.tick(QUEUE), dg.RunRequest)

    def test_the_pool_takes_one_run_unless_somebody_chose_otherwise(self, sync: DagsterSync):
        storage = sync.instance.event_log_storage
        sync.tick(QUEUE)
        assert [(pool.name, pool.limit) for pool in storage.get_pool_limits()] == [(POOL, 1)]


class TestTheWatch:
    def test_f17_dead_letters_and_quarantine_are_told_when_they_change(self, sync: DagsterSync):
        assert [event.passed for event in sync.watch().asset_events] == [True] * 4
        assert sync.watch().asset_events == []
        sync.queues.dead, sync.queues.kept = 1, 2
        assert failed(sync.watch().asset_events) == ["event_dead_letters_are_empty", "event_quarantine_is_empty"]
        assert sync.watch().asset_events == []
        assert len(incidents(sync)) == 2
        sync.queues.dead = 0
        [good] = sync.watch().asset_events
        assert (good.check_name, good.passed) == ("event_dead_letters_are_empty", True)

    @pytest.mark.parametrize(
        "days, severity", [(1.9, None), (2.1, dg.AssetCheckSeverity.WARN), (3.1, dg.AssetCheckSeverity.ERROR)]
    )
    def test_f26_an_old_event_warns_before_sqs_drops_it(
        self, sync: DagsterSync, days: float, severity: dg.AssetCheckSeverity | None
    ):
        sync.queues.oldest = OldestAge(days * 86_400, "as CloudWatch tells")
        found = sync.watch().asset_events
        assert [(one.check_name, one.severity) for one in found if not one.passed] == (
            [("no_event_is_about_to_expire", severity)] if severity else []
        )

    def test_f26_a_warning_that_becomes_an_error_is_told_again(self, sync: DagsterSync):
        for days, told_of in [(2.1, 1), (2.2, 0), (3.1, 1), (3.2, 0), (0.1, 1)]:
            sync.queues.oldest = OldestAge(days * 86_400, "as CloudWatch tells")
            names = [event.check_name for event in sync.watch().asset_events]
            assert names.count("no_event_is_about_to_expire") == told_of, days
        assert len(incidents(sync)) == 2

    def test_a_check_that_a_run_under_way_has_only_planned_says_nothing_new(self, sync: DagsterSync):
        sync.watch()
        job = sync.definitions.resolve_implicit_global_asset_job_def()
        sync.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert sync.watch().asset_events == []

    def test_f26_without_a_metric_the_time_without_a_drain_warns(self, sync: DagsterSync):
        sync.world.now = datetime.now(UTC)
        sync.world.send(sold("S-1"))
        cursor = sync.watch().cursor
        sync.world.now += timedelta(days=2, hours=1)
        later = sync.watch(cursor)
        assert failed(later.asset_events) == ["no_event_is_about_to_expire"]
        assert later.cursor == cursor
        sync.instance.report_runless_asset_event(dg.AssetMaterialization("sales_history"))
        assert failed(sync.watch("2020-01-01T00:00:00+00:00").asset_events) == []
        sync.world.queue.messages.clear()
        assert sync.watch(cursor).cursor == ""

    def test_f26_an_old_event_that_a_run_received_warns(self, sync: DagsterSync):
        sync.world.send(sold("S-1"))
        sync.world.now += timedelta(days=2, hours=1)
        assert failed(sync.run().get_asset_check_evaluations()) == ["no_event_is_about_to_expire"]

    def test_f18_attributes_that_contradict_the_design_warn(self, sync: DagsterSync):
        sync.queues.changed = {"dead_letters": None}
        [found] = [event for event in sync.watch().asset_events if not event.passed]
        assert (found.check_name, found.severity) == ("event_queues_are_as_designed", dg.AssetCheckSeverity.WARN)
        assert "has no redrive policy" in str(found.metadata["offenders_named"].value)

    def test_f19_queues_that_are_gone_fail_a_check_in_their_own_words(self, sync: DagsterSync):
        sync.queues.gone = "look at the attributes of queue q: QueueDoesNotExist"
        found = sync.watch("2026-11-03T12:00:00+00:00")
        assert failed(found.asset_events) == ["event_queues_are_as_designed"]
        assert found.cursor == "2026-11-03T12:00:00+00:00"
        assert "QueueDoesNotExist" in str(found.skip_reason)
        assert sync.run().success


def incidents(sync: DagsterSync) -> list[Any]:
    log = IncidentLog(sync.instance, QUICK)
    now = datetime.now(UTC) + timedelta(days=400)
    seen = list(log.after(Reached(0, 0, now.toordinal()), now))
    return [one.incident for one in seen if one.kind is AlertKind.CHECK and one.incident is not None]
