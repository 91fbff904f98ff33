"""The alerts sensor on a real Dagster instance: real runs, real evaluations, the cursor handed on from tick to tick."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage import tags

from salesintel_dagster.adapters.notify import WebhookAlerts
from salesintel_dagster.defs import alerts, describe
from salesintel_dagster.defs.incidents import PARTITION_RANGE_TAGS, RETRY_TAG, WILL_RETRY_TAG
from salesintel_dagster.domain.alerts import (
    MAX_ALERTS_PER_TICK,
    MAX_TEXT_CHARACTERS,
    RETRY_COMES_WITHIN,
    Alert,
    AlertSink,
)
from salesintel_dagster.domain.checks import Promise, Severity, verdict
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.settings import Settings, variable_of
from salesintel_dagster_tests.fakes.alerts import InMemoryAlerts
from salesintel_dagster_tests.fakes.webhook import status, webhook_server

DAY = date(2026, 11, 20)
PROMISE = Promise("vectors_are_1024_dim", "titan_embeddings", "Every vector is one.")
SETTINGS = Settings.from_environment(
    {
        "SALESINTEL_ALERT_LINK_BASE": "http://127.0.0.1:3000/",
        "SALESINTEL_CATALOG_URI": "postgresql+psycopg://u:canary-known@h/db",
    }
)


class World:
    """One instance, one sensor and the cursor between its ticks; `shift` moves the clock."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings = SETTINGS) -> None:
        self.instance = instance
        self.settings = settings
        self.sink = InMemoryAlerts()
        self.sinks: dict[str, AlertSink] = {"memory": self.sink}
        self.cursor: str | None = None
        self.shift = timedelta(seconds=30)
        self.seconds = 0.0
        self.clock = Clock(lambda: datetime.now(UTC) + self.shift, lambda: self.seconds, time.sleep, lambda: 0.0)

    def tick(self) -> str:
        """Evaluate the sensor as the daemon does, and return its sentence."""
        [sensor] = alerts.build(self.settings, sinks=lambda: self.sinks, clock=self.clock).sensors or ()
        assert isinstance(sensor, dg.SensorDefinition)
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            skipped = sensor(context)
            assert isinstance(skipped, dg.SkipReason)
            self.cursor = context.cursor
        return str(skipped.skip_message)

    def evaluate(self, *days: date, offenders: Sequence[str] = ("carousel-labs/S-7",), found: str = "1 of 3") -> None:
        """Log one evaluation a day, as the export writes them; without offenders it passes."""
        for day in days:
            judged = verdict(PROMISE, expected="1024 floats", found=found, offenders=list(offenders))
            self.instance.report_runless_asset_event(describe.evaluation(judged, day))

    def materialise(self, day: date) -> None:
        self.instance.report_runless_asset_event(dg.AssetMaterialization("smartgo_sales", partition=day.isoformat()))

    def yesterday(self) -> date:
        """The partition whose deadline passed last."""
        return (self.clock.now() - timedelta(hours=4)).date() - timedelta(days=1)

    def told(self, kind: str = "check") -> list[Alert]:
        return [alert for alert in self.sink.sent if alert.id.startswith(kind)]


@pytest.fixture(scope="module")
def empty_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an instance that was never used: making its databases takes two seconds."""
    folder = tmp_path_factory.mktemp("instance")
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        instance.event_log_storage.get_maximum_record_id()
        instance.get_runs(limit=1)
    return folder


@pytest.fixture
def world(empty_instance: Path, tmp_path: Path) -> Iterator[World]:
    shutil.copytree(empty_instance, tmp_path / "instance")
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as instance:
        made = World(instance)
        made.materialise(made.yesterday())
        yield made


def days(count: int) -> list[date]:
    return [DAY - timedelta(days=n) for n in range(count)]


def partitions_told(told: Sequence[Alert]) -> list[str]:
    return [
        line.removeprefix("partition: ") for alert in told for line in alert.text.splitlines() if "partition:" in line
    ]


def export(world: World, day: date, body: Callable[[], None], **tags: str) -> dg.ExecuteInProcessResult:
    """Run one partition of an asset whose check fails without blocking, and whose body may raise."""

    partitions = dg.DailyPartitionsDefinition("2026-01-01")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # partitioned asset checks are in preview in 1.13
        check = dg.AssetCheckSpec(PROMISE.name, asset="titan_embeddings", partitions_def=partitions)

    @dg.multi_asset(
        name="export",
        specs=[dg.AssetSpec("titan_embeddings")],
        check_specs=[check],
        partitions_def=partitions,
        can_subset=True,
    )
    def export_day() -> Iterator[Any]:
        body()
        yield dg.AssetMaterialization("titan_embeddings", partition=day.isoformat())
        judged = verdict(PROMISE, expected="1024 floats", found="1 of 3", offenders=["carousel-labs/S-7"])
        yield describe.evaluation(judged, day)

    return dg.materialize(
        [export_day],
        instance=world.instance,
        partition_key=day.isoformat(),
        tags=tags,
        raise_on_error=False,
        resources={"io_manager": dg.mem_io_manager},
    )


class TestChecks:
    def test_a_green_run_with_a_failed_check_is_told_once_with_the_sale(self, world: World):
        """C11"""
        run = export(world, DAY, lambda: None)
        assert run.success
        world.tick()
        assert world.tick() == "memory: sent 0."
        [alert] = world.sink.sent
        assert alert.text.splitlines()[0] == "ERROR titan_embeddings.vectors_are_1024_dim 2026-11-20"
        assert alert.text.splitlines()[4:] == [
            "asset: titan_embeddings",
            "check: vectors_are_1024_dim",
            "partition: 2026-11-20",
            "expected: 1024 floats",
            "found: 1 of 3",
            "first offenders: carousel-labs/S-7",
            f"run: {run.run_id}",
            "what to do: docs/runbook.md, vectors_are_1024_dim",
        ]
        assert f"link: http://127.0.0.1:3000/runs/{run.run_id}" in alert.text

    def test_an_evaluation_that_passed_is_gone_past_in_silence(self, world: World):
        world.evaluate(*days(3), offenders=())
        assert world.tick() == "memory: sent 0."
        before = world.cursor
        world.evaluate(days(4)[3])
        world.tick()
        assert len(world.sink.sent) == 1
        assert world.cursor != before

    def test_of_a_quarantined_row_code_and_field_are_told_and_not_the_value(self, world: World):
        """J11"""
        world.evaluate(DAY, offenders=["MISSING sold_price=", "INVALID brand=Canary Person, Canary Street 1"])
        world.tick()
        assert "first offenders: MISSING sold_price, INVALID brand\n" in world.sink.sent[0].text
        assert "Canary" not in world.sink.sent[0].text

    def test_a_warning_says_that_it_is_one(self, world: World):
        judged = verdict(PROMISE, expected="a", found="b", offenders=["x"], severity=Severity.WARN)
        world.instance.report_runless_asset_event(describe.evaluation(judged, DAY))
        world.tick()
        assert world.sink.sent[0].subject.startswith("WARN ")
        assert "link: http://127.0.0.1:3000/assets/titan_embeddings" in world.sink.sent[0].text

    def test_a_backlog_goes_out_oldest_first_so_many_a_tick_and_each_once(self, world: World):
        """J10"""
        wanted = days(2 * MAX_ALERTS_PER_TICK + 3)
        world.evaluate(*wanted)
        assert [world.tick() for _ in range(4)] == [f"memory: sent {n}." for n in (10, 10, 3, 0)]
        assert partitions_told(world.told()) == [day.isoformat() for day in wanted]

    def test_the_same_day_evaluated_twice_is_two_evaluations(self, world: World):
        export(world, DAY, lambda: None)
        export(world, DAY, lambda: None)
        world.tick()
        assert len({alert.id for alert in world.told()}) == 2

    def test_an_evaluation_of_the_last_seconds_waits_for_the_next_tick(self, world: World):
        world.shift = timedelta(0)
        world.tick()
        world.evaluate(DAY)
        world.tick()
        assert world.sink.sent == []
        world.shift = timedelta(seconds=6)
        world.tick()
        assert len(world.sink.sent) == 1


class TestSinks:
    def test_a_dead_sink_delays_and_neither_loses_nor_doubles(self, world: World):
        """J10"""
        wanted = days(4)
        world.evaluate(*wanted[:2])
        world.sink.down = True
        assert world.tick() == world.tick() == "memory: sent 0, then the sink is down."
        assert world.sink.attempts == 2
        world.evaluate(*wanted[2:])
        world.sink.down = False
        world.tick()
        world.tick()
        assert partitions_told(world.told()) == [day.isoformat() for day in wanted]

    def test_a_run_stays_green_whatever_becomes_of_its_alert(self, world: World):
        """J10"""
        run = export(world, DAY, lambda: None)
        world.sink.down = True
        world.tick()
        assert world.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS
        assert world.sink.sent == []
        world.sink.down = False
        world.tick()
        assert len(world.sink.sent) == 1
        assert world.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS

    def test_a_sink_that_dies_half_way_goes_on_from_there(self, world: World):
        """J10"""
        world.evaluate(*days(5))

        def die_at_the_third() -> None:
            world.sink.down = world.sink.attempts == 3

        world.sink.before = die_at_the_third
        assert world.tick() == "memory: sent 2, then the sink is down."
        world.tick()
        assert partitions_told(world.told()) == [day.isoformat() for day in days(5)]

    def test_a_slow_sink_ends_the_tick_in_time_and_keeps_what_was_sent(self, world: World):
        """J10: Dagster gives a tick 60 s and forgets its cursor after that: everything sent would be sent again."""
        world.evaluate(*days(5))

        def take_nine_seconds() -> None:
            world.seconds += 9

        world.sink.before = take_nine_seconds
        assert world.tick() == "memory: sent 3, then the tick's time is used up."
        assert world.seconds < 40
        world.tick()
        assert partitions_told(world.told()) == [day.isoformat() for day in days(5)]

    def test_a_slow_sink_leaves_the_other_its_share_of_the_tick(self, world: World):
        """J10"""

        def take_nine_seconds() -> None:
            world.seconds += 9

        world.sinks = {"slow": InMemoryAlerts(before=take_nine_seconds), "memory": world.sink}
        world.evaluate(*days(5))
        assert world.tick() == "slow: sent 2, then the tick's time is used up; memory: sent 5."

    def test_one_dead_sink_doubles_nothing_at_the_other(self, world: World):
        """J10"""
        dead = InMemoryAlerts(down=True)
        world.sinks = {"dead": dead, "memory": world.sink}
        world.evaluate(*days(2))
        for _ in range(3):
            world.tick()
        assert len(world.sink.sent) == 2
        dead.down = False
        world.tick()
        assert partitions_told(dead.sent) == partitions_told(world.sink.sent)

    def test_a_bug_in_a_sink_takes_nothing_back(self, world: World):
        """J10"""
        world.evaluate(*days(2))

        def fail() -> None:
            if world.sink.attempts == 2:
                raise RuntimeError("canary")

        world.sink.before = fail
        assert world.tick() == "memory: sent 1, then RuntimeError in the sink."
        world.tick()
        assert len(world.sink.sent) == 2

    def test_a_webhook_that_is_slow_then_broken_then_well_takes_each_alert_once(self, world: World):
        """J10"""
        world.evaluate(*days(2))
        with webhook_server() as server:
            server.script = [server.silence, status("500 Oh"), status("503 Oh")]
            world.sinks = {"webhook": WebhookAlerts(server.url, deadline_seconds=0.2)}
            said = [world.tick() for _ in range(5)]
            answered = server.posted[3:]
        host = f"webhook at 127.0.0.1:{server.port}"
        assert said == [
            f"webhook: sent 0, then {host}: no answer within 0.2 s.",
            f"webhook: sent 0, then {host}: answered 500.",
            f"webhook: sent 0, then {host}: answered 503.",
            "webhook: sent 2.",
            "webhook: sent 0.",
        ]
        assert [text.splitlines()[0][-10:] for text in answered] == [day.isoformat() for day in days(2)]

    def test_with_no_sink_the_alert_is_a_log_line_and_the_tick_says_what_to_set(
        self, world: World, caplog: pytest.LogCaptureFixture
    ):
        world.evaluate(DAY)
        world.materialise(world.yesterday())
        [sensor] = alerts.build(SETTINGS, clock=world.clock).sensors or ()
        assert isinstance(sensor, dg.SensorDefinition)
        with dg.build_sensor_context(instance=world.instance) as context:
            said = sensor(context)
        assert isinstance(said, dg.SkipReason)
        assert said.skip_message == (
            "No alert sink is configured: 1 alerts were only logged; "
            "set SALESINTEL_ALERT_TOPIC_ARN or SALESINTEL_ALERT_WEBHOOK_URL."
        )
        assert [record.message.startswith("ERROR titan_embeddings") for record in caplog.records] == [True]


class TestRuns:
    def test_a_failed_run_is_told_once_with_the_steps_own_words(self, world: World):
        def fail() -> None:
            raise dg.Failure("1 of 1 days failed: 2026-11-20: the source is down. Materialise again: 2026-11-20")

        run = export(world, DAY, fail)
        assert not run.success
        world.tick()
        world.tick()
        [alert] = world.told("run")
        assert alert.severity is Severity.ERROR
        assert "partition: 2026-11-20" in alert.text
        assert "found: 1 of 1 days failed: 2026-11-20: the source is down." in alert.text
        assert f"link: http://127.0.0.1:3000/runs/{run.run_id}" in alert.text

    def test_a_strange_error_leaks_nothing_and_stays_short(self, world: World):
        """J11"""

        def fail() -> None:
            raise RuntimeError(
                "could not connect to postgresql://u:canary-1@h/db password='canary-2' canary-known "
                "https://h/x?sig=canary-3 canary-4@example.com " + "x" * 100_000
            )

        export(world, DAY, fail)
        world.tick()
        [alert] = world.told("run")
        assert "RuntimeError: could not connect to postgresql://[redacted]@h/db" in alert.text
        assert "canary" not in alert.text
        assert len(alert.text) <= MAX_TEXT_CHARACTERS

    def test_a_run_that_dagster_starts_again_is_a_warning(self, world: World):
        def fail() -> None:
            raise RuntimeError("x")

        run = export(world, DAY, fail, **{"dagster/will_retry": "true"})
        world.tick()
        assert world.told("run") == [], "the new run is made seconds after the failure is told"
        export(world, DAY - timedelta(days=1), fail)
        world.tick()
        assert world.told("run") == [], "oldest first"
        world.instance.add_run_tags(run.run_id, {"dagster/auto_retry_run_id": "the-new-run"})
        world.tick()
        world.tick()
        first, second = world.told("run")
        assert first.severity is Severity.WARN
        assert "again: Dagster starts it again by itself, as run the-new-run" in first.text
        assert (second.severity, "again:" in second.text) == (Severity.ERROR, False)

    def test_a_run_that_dagster_was_to_start_again_and_did_not_is_an_error(self, world: World):
        """A run that dies before a daemon has ever run over its instance is never started again."""

        def fail() -> None:
            raise RuntimeError("x")

        export(world, DAY, fail, **{"dagster/will_retry": "true"})
        world.tick()
        assert world.told("run") == []
        world.shift += RETRY_COMES_WITHIN
        world.tick()
        world.tick()
        [alert] = world.told("run")
        assert alert.severity is Severity.ERROR
        assert "again: Dagster was to start it again and has not within 2 minutes" in alert.text

    @pytest.mark.parametrize("last,told", [(DAY, "2026-11-20"), (DAY + timedelta(days=1), "2026-11-20 to 2026-11-21")])
    def test_the_days_of_a_range_are_told_and_one_day_is_said_once(self, world: World, last: date, told: str):
        @dg.asset
        def failing() -> None:
            raise dg.Failure("down")

        ends = zip(PARTITION_RANGE_TAGS, (DAY.isoformat(), last.isoformat()), strict=True)
        dg.materialize([failing], instance=world.instance, tags=dict(ends), raise_on_error=False)
        world.tick()
        [alert] = world.told("run")
        assert f"partition: {told}\n" in alert.text


class TestFreshness:
    def test_a_day_that_is_missing_at_four_is_told_once(self, world: World):
        world.tick()
        assert world.sink.sent == []
        world.shift += timedelta(days=1)
        world.tick()
        world.tick()
        [alert] = world.told("freshness")
        assert f"partition: {world.yesterday()}" in alert.text
        assert "by 04:00 UTC on" in alert.text
        assert "link: http://127.0.0.1:3000/assets/smartgo_sales" in alert.text

    def test_a_day_that_is_there_is_not(self, world: World):
        world.tick()
        world.shift += timedelta(days=1)
        world.materialise(world.yesterday())
        world.tick()
        assert world.sink.sent == []

    def test_after_downtime_each_missing_day_is_told_once_oldest_first(self, world: World):
        world.tick()
        world.shift += timedelta(days=3)
        last = world.yesterday()
        world.materialise(last - timedelta(days=1))
        world.tick()
        world.tick()
        assert partitions_told(world.told("freshness")) == [str(last - timedelta(days=2)), str(last)]

    def test_a_day_before_the_first_one_is_not_missed(self, world: World):
        world.tick()
        world.settings = SETTINGS.model_copy(update={"first_day": str(world.yesterday() + timedelta(days=9))})
        world.shift += timedelta(days=2)
        world.tick()
        assert world.sink.sent == []

    def test_the_day_is_the_one_that_the_nightly_schedule_makes_in_the_zone(self, world: World):
        """At 03:00 UTC yesterday's day has not ended in Los Angeles: the schedule made the day before."""
        world.tick()
        world.settings = SETTINGS.model_copy(update={"partition_zone": "America/Los_Angeles"})
        world.shift += timedelta(days=2)  # two deadlines, and what the first asks for is there
        world.tick()
        assert partitions_told(world.told("freshness")) == [str(world.yesterday() - timedelta(days=1))]


class TestTheFirstStart:
    def test_it_tells_the_last_day_and_not_the_history(self, world: World):
        world.evaluate(*days(3))
        newest = world.instance.event_log_storage.get_maximum_record_id()
        world.shift = timedelta(days=2)
        world.materialise(world.yesterday())
        world.tick()
        assert world.sink.sent == []
        world.evaluate(days(4)[3])  # two days old to the shifted clock, but after the cursor
        world.tick()
        [alert] = world.told()
        assert int(alert.id.removeprefix("check-")) > newest

    def test_a_sink_that_is_added_later_begins_a_day_ago(self, world: World):
        world.evaluate(DAY)
        world.tick()
        world.shift += timedelta(days=2)
        world.materialise(world.yesterday())
        added = InMemoryAlerts()
        world.sinks["added"] = added
        world.tick()
        assert [alert for alert in added.sent if alert.id.startswith("check")] == []

    @pytest.mark.parametrize("cursor", ["nonsense", '{"memory": {"check": 10000000, "run": 0, "freshness": 1}}'])
    def test_a_cursor_of_another_event_log_begins_anew_and_not_never(self, world: World, cursor: str):
        world.evaluate(DAY)
        world.cursor = cursor
        world.tick()
        assert len(world.told()) == 1


def test_the_tags_of_runs_that_are_started_again_are_dagsters():
    assert (WILL_RETRY_TAG, RETRY_TAG) == (tags.WILL_RETRY_TAG, tags.AUTO_RETRY_RUN_ID_TAG)


def test_the_sensor_runs_by_default_and_needs_no_target():
    [sensor] = alerts.build(SETTINGS).sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    assert (sensor.name, sensor.default_status) == ("alerts", dg.DefaultSensorStatus.RUNNING)
    dg.Definitions.validate_loadable(alerts.build(SETTINGS))


def test_the_page_on_alerts_has_every_setting_of_theirs():
    page = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    assert all(variable_of(name) in page for name in Settings.model_fields if name.startswith("alert_"))
