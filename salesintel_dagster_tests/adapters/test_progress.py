from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError

from salesintel_dagster.adapters.aws import AwsClient, AwsClients, AwsTarget
from salesintel_dagster.adapters.progress import DynamoProgressLedger
from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.ports import ProgressLedger
from salesintel_dagster.domain.progress import MAX_ERROR_CHARACTERS, MAX_ERRORS_KEPT, Progress, RunState
from salesintel_dagster_tests.fakes.progress import InMemoryProgressLedger

TABLE = "export-progress"
STARTED = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=7)
"""Of today: the emulator removes items whose ttl has passed."""
DAY = STARTED.date() - timedelta(days=1)


def _progress(run_id: str = "run-1", started_at: datetime = STARTED, **changes: Any) -> Progress:  # noqa: ANN401
    base = Progress(DAY, run_id, started_at, started_at, RunState.RUNNING, "smartgo_sales_raw")
    return replace(base, **changes)


def _dynamodb(aws: AwsClients) -> AwsClient:
    client = aws.client("dynamodb", brief=True)
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
    )
    return client


@pytest.fixture(params=["memory", "dynamodb"])
def ledger(request: pytest.FixtureRequest) -> ProgressLedger:
    if request.param == "memory":
        return InMemoryProgressLedger()
    return DynamoProgressLedger(_dynamodb(request.getfixturevalue("aws")), TABLE)


@pytest.fixture
def dynamodb(aws: AwsClients) -> AwsClient:
    return _dynamodb(aws)


class TestEveryProgressLedger:
    def test_a_day_that_never_ran_has_no_progress(self, ledger: ProgressLedger) -> None:
        assert ledger.newest(DAY) is None
        assert ledger.history(DAY) == []

    def test_a_record_comes_back_as_it_was_written(self, ledger: ProgressLedger) -> None:
        full = _progress(
            state=RunState.SUCCEEDED,
            updated_at=STARTED + timedelta(seconds=61),
            finished_at=STARTED + timedelta(seconds=61, microseconds=123_456),
            sales=150,
            quarantined=2,
            images_ok=147,
            embedded=146,
            paid_calls=140,
            failed={"GONE": 2, "TIMEOUT": 1},
            errors=("sale 7: GONE: 404", "\N{CAT FACE} \x00"),
            error_count=2,
        )
        ledger.record(full)
        assert ledger.newest(DAY) == full
        assert ledger.history(DAY) == [full]

    def test_a_run_updates_its_own_record(self, ledger: ProgressLedger) -> None:
        ledger.record(_progress(sales=10))
        ledger.record(_progress(sales=20, state=RunState.SUCCEEDED))
        newest = ledger.newest(DAY)
        assert newest is not None
        assert (newest.sales, newest.state) == (20, RunState.SUCCEEDED)
        assert len(ledger.history(DAY)) == 1

    def test_an_older_run_that_ends_after_a_newer_one_leaves_the_newer(self, ledger: ProgressLedger) -> None:
        """A22"""
        older, newer = _progress("older"), _progress("newer", STARTED + timedelta(microseconds=1))
        ledger.record(older)
        ledger.record(newer)
        ended = replace(older, state=RunState.FAILED, updated_at=STARTED + timedelta(hours=5))
        ledger.record(ended)
        assert ledger.newest(DAY) == newer
        assert ledger.history(DAY) == [newer, ended]

    def test_it_holds_across_zones(self, ledger: ProgressLedger) -> None:
        """A22"""
        east = timezone(timedelta(hours=13))
        newer = _progress("newer", STARTED + timedelta(hours=1))
        older_with_a_later_wall_clock = _progress("older", STARTED.astimezone(east))
        ledger.record(newer)
        ledger.record(older_with_a_later_wall_clock)
        assert ledger.newest(DAY) == newer

    def test_of_two_runs_that_began_at_once_the_first_to_write_stands(self, ledger: ProgressLedger) -> None:
        ledger.record(_progress("b"))
        ledger.record(_progress("a"))
        newest = ledger.newest(DAY)
        assert newest is not None
        assert newest.run_id == "b"

    def test_days_do_not_see_each_other(self, ledger: ProgressLedger) -> None:
        ledger.record(_progress())
        ledger.record(_progress(day=DAY - timedelta(days=1), run_id="yesterday"))
        assert [run.run_id for run in ledger.history(DAY)] == ["run-1"]

    def test_a_run_that_died_is_lost_and_keeps_its_numbers(self, ledger: ProgressLedger) -> None:
        """A21"""
        seen, at = _progress(sales=10, errors=("one",), error_count=1), STARTED + timedelta(hours=5)
        ledger.record(seen)
        assert ledger.lose(seen, at)
        lost = replace(seen, state=RunState.LOST, updated_at=at, finished_at=at)
        assert ledger.newest(DAY) == lost
        assert ledger.history(DAY) == [lost]
        assert not ledger.lose(seen, at)

    def test_a_newer_run_of_the_day_stands(self, ledger: ProgressLedger) -> None:
        """A21"""
        dead, newer = _progress("dead"), _progress("newer", STARTED + timedelta(minutes=1), updated_at=STARTED)
        ledger.record(dead)
        ledger.record(newer)
        assert ledger.lose(dead, STARTED + timedelta(hours=5))
        assert ledger.newest(DAY) == newer
        assert [run.state for run in ledger.history(DAY)] == [RunState.RUNNING, RunState.LOST]

    def test_a_run_that_wrote_since_or_has_ended_is_not_lost(self, ledger: ProgressLedger) -> None:
        """A21"""
        seen = _progress()
        later = replace(seen, updated_at=STARTED + timedelta(seconds=3), sales=5)
        ended = replace(later, state=RunState.SUCCEEDED)
        for record in (later, ended):
            ledger.record(record)
            assert not ledger.lose(seen, STARTED + timedelta(hours=5))
            assert ledger.newest(DAY) == record
            assert ledger.history(DAY) == [record]
        assert not ledger.lose(ended, STARTED + timedelta(hours=5))
        assert not ledger.lose(_progress("never there"), STARTED)

    def test_ten_thousand_errors_keep_the_first_fifty_and_the_count(self, ledger: ProgressLedger) -> None:
        """A23"""
        errors = tuple(f"sale {n}: GONE: " + "\N{CAT FACE}" * 500 for n in range(10_000))
        ledger.record(_progress(errors=errors, error_count=len(errors), failed={"GONE": 10_000}))
        newest = ledger.newest(DAY)
        assert newest is not None
        assert (len(newest.errors), newest.error_count) == (MAX_ERRORS_KEPT, 10_000)
        assert newest.errors[0] == errors[0][:MAX_ERROR_CHARACTERS]


class TestDynamo:
    def test_items_stand_under_the_keys_of_the_design(self, dynamodb: AwsClient) -> None:
        DynamoProgressLedger(dynamodb, TABLE).record(_progress(sales=3))
        items = dynamodb.scan(TableName=TABLE)["Items"]
        assert {(item["PK"]["S"], item["SK"]["S"]) for item in items} == {
            (f"EXPORT#{DAY}", "METADATA"),
            (f"EXPORT#{DAY}", "RUN#run-1"),
        }
        for item in items:
            assert item["ttl"] == {"N": str(int((STARTED + timedelta(days=90)).timestamp()))}
            assert item["sales"] == {"N": "3"}

    def test_the_largest_item_is_far_from_400_kb(self, dynamodb: AwsClient) -> None:
        """A23"""
        errors = tuple("\N{CAT FACE}" * 10_000 for _ in range(10_000))
        DynamoProgressLedger(dynamodb, TABLE).record(_progress(errors=errors, error_count=10_000))
        items = dynamodb.scan(TableName=TABLE)["Items"]
        assert max(len(json.dumps(item, ensure_ascii=False).encode()) for item in items) < 80_000

    def test_a_crash_between_the_two_items_is_made_good_by_the_next_look(self, dynamodb: AwsClient) -> None:
        """A21"""
        ledger, seen = DynamoProgressLedger(dynamodb, TABLE), _progress()
        ledger.record(seen)
        calls: list[object] = []

        def crash(**_: object) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt

        dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", crash)
        with pytest.raises(KeyboardInterrupt):
            ledger.lose(seen, STARTED + timedelta(hours=5))
        assert [run.state for run in ledger.history(DAY)] == [RunState.RUNNING]
        assert ledger.lose(seen, STARTED + timedelta(hours=6))
        newest = ledger.newest(DAY)
        assert newest is not None
        assert [newest.state, *(run.state for run in ledger.history(DAY))] == [RunState.LOST] * 2

    def test_an_error_with_half_a_character_costs_no_record(self, dynamodb: AwsClient) -> None:
        ledger = DynamoProgressLedger(dynamodb, TABLE)
        ledger.record(_progress(errors=("\ud83d broken",), error_count=1))
        newest = ledger.newest(DAY)
        assert newest is not None
        assert newest.errors == ("? broken",)

    def test_history_goes_past_one_page(self, dynamodb: AwsClient) -> None:
        ledger = DynamoProgressLedger(dynamodb, TABLE)
        for number in range(5):
            ledger.record(_progress(f"run-{number}", STARTED + timedelta(minutes=number)))
        dynamodb.meta.events.register(
            "provide-client-params.dynamodb.Query", lambda params, **_: {**params, "Limit": 2}
        )
        assert [run.run_id for run in ledger.history(DAY)] == [f"run-{number}" for number in (4, 3, 2, 1, 0)]

    @pytest.mark.parametrize(
        "code",
        ["ProvisionedThroughputExceededException", "ResourceNotFoundException", "AccessDeniedException"],
    )
    def test_whatever_the_table_answers_is_one_error(self, dynamodb: AwsClient, code: str) -> None:
        """A20"""

        def refuse(**_: object) -> tuple[AWSResponse, dict[str, Any]]:
            parsed = {"Error": {"Code": code, "Message": "canary"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
            return AWSResponse("", 400, {}, io.BytesIO()), parsed

        dynamodb.meta.events.register("before-call.dynamodb", refuse)
        for call in _calls(dynamodb):
            with pytest.raises(ProgressUnavailable, match=rf"of {DAY} in table {TABLE}: {code} \(HTTP 400") as failure:
                call()
            assert "canary" not in str(failure.value)

    def test_a_network_that_is_gone_is_the_same_error(self, dynamodb: AwsClient) -> None:
        """A20"""

        def cut(**_: object) -> None:
            raise EndpointConnectionError(endpoint_url="http://nowhere")

        dynamodb.meta.events.register("before-call.dynamodb", cut)
        for call in _calls(dynamodb):
            with pytest.raises(ProgressUnavailable, match=r": EndpointConnectionError$"):
                call()

    def test_a_brief_client_gives_up_within_seconds(self, aws_target: AwsTarget) -> None:
        """A20"""
        gone = replace(aws_target, endpoint_url="http://127.0.0.1:9")
        ledger = DynamoProgressLedger(AwsClients(gone).client("dynamodb", brief=True), TABLE)
        began = time.monotonic()
        with pytest.raises(ProgressUnavailable):
            ledger.record(_progress())
        assert time.monotonic() - began < 5

    def test_an_item_that_is_not_ours_is_told(self, dynamodb: AwsClient) -> None:
        key = {"PK": {"S": f"EXPORT#{DAY}"}, "SK": {"S": "METADATA"}}
        dynamodb.put_item(TableName=TABLE, Item=key | {"day": {"S": "someday"}})
        with pytest.raises(ProgressUnavailable, match="not an item of ours"):
            DynamoProgressLedger(dynamodb, TABLE).newest(DAY)


def _calls(client: AwsClient) -> list[Callable[[], object]]:
    ledger = DynamoProgressLedger(client, TABLE)
    day: date = DAY
    return [
        lambda: ledger.record(_progress()),
        lambda: ledger.newest(day),
        lambda: ledger.history(day),
        lambda: ledger.lose(_progress(), STARTED),
    ]
