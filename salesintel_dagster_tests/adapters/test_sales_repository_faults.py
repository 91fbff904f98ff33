"""What DynamoDB does when it does not simply answer: throttling, conflicts, leftovers, crashes, races, lost shards."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from botocore.exceptions import ConnectionClosedError

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.commands.sales_input import store_all
from salesintel_dagster.domain.calendar import Hemisphere, Season
from salesintel_dagster.domain.errors import (
    BatchUnfinished,
    RevisionConflict,
    SalesUnavailable,
    SaleUnreadable,
)
from salesintel_dagster.domain.sale_request import RequestRules
from salesintel_dagster.domain.sales_keys import SaleKey
from salesintel_dagster.domain.sales_repository import CorrectionOutcome, PageRequest, PutOutcome
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster_tests.fakes.clocks import SetClock
from salesintel_dagster_tests.fakes.sale_records import DAY, record
from salesintel_dagster_tests.sales_table import (
    Refusal,
    all_items,
    answer,
    calls_seen,
    make_table,
    on_answer,
    on_call,
    refusal,
)
from salesintel_dagster_tests.services import Services

ACME = CallerContext("acme")


@dataclass
class Door:
    """A repository over a table of its own, and ways to look behind it."""

    client: AwsClient
    table: str
    clock: SetClock
    sales: DynamoSalesRepository

    def again(self, shards: ShardCounts | None = None) -> DynamoSalesRepository:
        return DynamoSalesRepository(self.client, self.table, shards or ShardCounts(), self.clock.clock)

    def items(self, entity: str | None = None) -> list[dict[str, Any]]:
        found = [item for item in all_items(self.client, self.table) if item["PK"]["S"] != "SHARDS"]
        return [item for item in found if entity in (None, item.get("entity", {}).get("S"))]


@pytest.fixture(scope="module")
def dynamodb(services: Services) -> AwsClient:
    return AwsClients(services.aws.new_target()).client("dynamodb")


@pytest.fixture
def door(dynamodb: AwsClient) -> Door:
    clock, table = SetClock(), make_table(dynamodb)
    return Door(dynamodb, table, clock, DynamoSalesRepository(dynamodb, table, ShardCounts(), clock.clock))


CALLS: dict[str, tuple[str, Callable[[DynamoSalesRepository], object]]] = {
    "put": ("TransactWriteItems", lambda sales: sales.put(ACME, record("new"))),
    "correct": ("TransactWriteItems", lambda sales: sales.correct(ACME, record(event_version=2))),
    "withdraw": ("TransactWriteItems", lambda sales: sales.withdraw(ACME, record())),
    "update": ("TransactWriteItems", lambda sales: sales.update(ACME, "S-1", {"brand": "x"}, 1)),
    "delete": ("TransactWriteItems", lambda sales: sales.delete(ACME, "S-1")),
    "put_many": ("BatchWriteItem", lambda sales: sales.put_many(ACME, [record("new")])),
    "put_many reads": ("BatchGetItem", lambda sales: sales.put_many(ACME, [record("new")])),
    "get": ("GetItem", lambda sales: sales.get(ACME, record().key)),
    "by_sale_id": ("GetItem", lambda sales: sales.by_sale_id(ACME, "S-1")),
    "get_many": ("BatchGetItem", lambda sales: sales.get_many(ACME, [record().key])),
    "category_season": ("Query", lambda sales: sales.category_season(ACME, "dress", Season.AUTUMN)),
    "embeddings": ("Query", lambda sales: sales.embeddings(ACME, "P-1")),
    "all embeddings": ("BatchGetItem", lambda sales: sales.embeddings(ACME, None)),
    "brand_prices": ("Query", lambda sales: sales.brand_prices(ACME, "Ilmari")),
    "of_day": ("Query", lambda sales: sales.of_day(ACME, DAY)),
}


class Scripted:
    """A hook that answers with each of its outcomes once, then lets the calls through; None lets one through."""

    def __init__(self, *outcomes: Refusal | BaseException | None) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0

    def __call__(self, **_: object) -> Refusal | None:
        self.calls += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def always(code: str, **more: object) -> Callable[..., Refusal]:
    return lambda **_: refusal(code, **more)


def cancelled(*codes: str) -> Refusal:
    reasons = [{"Code": code, "Message": "canary"} for code in codes]
    return refusal("TransactionCanceledException", CancellationReasons=reasons)


class TestThrottling:
    @pytest.mark.parametrize("name", CALLS)
    def test_e1_a_throttled_call_is_made_again_after_ever_longer_waits(self, door: Door, name: str) -> None:
        door.sales.put(ACME, record())
        operation, call = CALLS[name]
        codes = ("ProvisionedThroughputExceededException", "ThrottlingException", "InternalServerError")
        script = Scripted(*(refusal(code) for code in codes))
        with on_call(door.client, operation, script):
            call(door.sales)
        assert script.calls > 3
        assert sorted(door.clock.slept) == door.clock.slept or operation == "Query"  # ten shards wait on their own
        assert len(door.clock.slept) == 3

    @pytest.mark.parametrize("name", CALLS)
    def test_e1_throttled_for_ever_it_is_an_error_within_the_deadline_and_nothing_is_half(
        self, door: Door, name: str
    ) -> None:
        door.sales.put(ACME, record())
        before = door.items()
        operation, call = CALLS[name]
        began = door.clock.at
        with (
            on_call(door.client, operation, always("ThrottlingException")),
            pytest.raises((SalesUnavailable, BatchUnfinished), match="ThrottlingException") as failure,
        ):
            call(door.sales)
        assert "canary" not in str(failure.value)
        assert door.items() == before
        waited = (door.clock.at - began).total_seconds()
        assert waited < 30 * (10 if operation == "Query" else 1)  # ten shards wait on the one clock

    def test_what_is_no_throttling_is_not_tried_again(self, door: Door) -> None:
        script = Scripted(*[refusal("AccessDeniedException")] * 2)
        with on_call(door.client, "GetItem", script), pytest.raises(SalesUnavailable, match="AccessDeniedException"):
            door.sales.by_sale_id(ACME, "S-1")
        assert (script.calls, door.clock.slept) == (1, [])

    def test_a_connection_that_is_cut_is_tried_again(self, door: Door) -> None:
        script = Scripted(*[ConnectionClosedError(endpoint_url="http://nowhere")] * 2)
        with on_call(door.client, "TransactWriteItems", script):
            assert door.sales.put(ACME, record()).outcome is PutOutcome.CREATED


class TestTransactions:
    def test_e3_a_transaction_that_met_another_is_tried_again(self, door: Door) -> None:
        script = Scripted(cancelled("TransactionConflict", "None"), cancelled("None", "ThrottlingError"))
        with on_call(door.client, "TransactWriteItems", script):
            assert door.sales.put(ACME, record()).outcome is PutOutcome.CREATED
        assert script.calls == 3

    def test_e3_a_condition_that_failed_is_an_answer_and_not_tried_again(self, door: Door) -> None:
        door.sales.put(ACME, record())
        script = Scripted()
        with on_call(door.client, "TransactWriteItems", script):
            assert door.sales.put(ACME, record()).outcome is PutOutcome.DUPLICATE
        assert (script.calls, door.clock.slept) == (1, [])

    def test_e3_a_transaction_cancelled_for_another_reason_is_an_error_that_names_it(self, door: Door) -> None:
        script = Scripted(cancelled("ValidationError", "None"))
        with (
            on_call(door.client, "TransactWriteItems", script),
            pytest.raises(SalesUnavailable, match="ValidationError"),
        ):
            door.sales.put(ACME, record())
        assert script.calls == 1

    def test_a_lost_answer_does_not_make_a_sale_its_own_duplicate(self, door: Door) -> None:
        lost: list[int] = []

        def lose(**_: object) -> None:
            if not lost:
                lost.append(1)
                raise ConnectionClosedError(endpoint_url="http://nowhere")

        with on_answer(door.client, "TransactWriteItems", lose):
            assert door.sales.put(ACME, record()).outcome is PutOutcome.CREATED
        assert len(door.items()) == 2

    def test_a_put_writes_sale_and_guard_under_the_keys_of_the_design(self, door: Door) -> None:
        door.sales.put(ACME, record())
        (sale,), (guard,) = door.items("SALE"), door.items("GUARD")
        assert (sale["PK"]["S"], sale["SK"]["S"]) == ("TENANT#acme#PRODUCT#P-1", "SALE#2026-11-20#S-1")
        assert (guard["PK"]["S"], guard["SK"]["S"]) == ("TENANT#acme#SALEID#S-1", "UNIQUE")
        assert sale["ttl"] == guard["ttl"] == {"N": "1858291200"}
        assert sale["salePrice"] == {"N": "35.5"}
        projected = {"embeddingS3Key", "productId", "category", "salePrice", "brand"}
        assert projected <= set(sale)

    def test_e10_an_absent_brand_or_category_has_no_index_attribute(self, door: Door) -> None:
        door.sales.put(ACME, record(brand="", category=None))
        (sale,) = door.items("SALE")
        assert {name for name in sale if name.startswith("GSI")} == {"GSI2PK", "GSI2SK"}
        assert not {"brand", "category"} & set(sale)

    def test_g7_g8_no_change_leaves_a_ghost(self, door: Door) -> None:
        door.sales.put(ACME, record())
        door.sales.update(ACME, "S-1", {"product_id": "P-2", "category": None}, 1)
        (sale,) = door.items("SALE")
        assert (sale["PK"]["S"], sale["revision"]["N"]) == ("TENANT#acme#PRODUCT#P-2", "2")
        assert "GSI1PK" not in sale
        door.sales.delete(ACME, "S-1")
        assert door.items() == []
        for call in ("update", "delete", "correct"):
            with pytest.raises(Exception, match="has no sale"):
                CALLS[call][1](door.sales)
        assert door.items() == []


class TestRaces:
    def test_of_sixteen_that_put_one_sale_at_once_one_creates_it(self, door: Door) -> None:
        versions = [record(sold_price=Decimal(n + 1), sold_date=DAY - timedelta(days=n % 3)) for n in range(16)]
        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(lambda one: door.sales.put(ACME, one), versions))
        created = [one for one, result in zip(versions, results, strict=True) if result.outcome is PutOutcome.CREATED]
        assert len(created) == 1
        assert {result.held_hash for result in results} == {created[0].payload_hash}
        assert len(door.items()) == 2

    def test_of_eight_that_update_one_revision_at_once_one_does(self, door: Door) -> None:
        door.sales.put(ACME, record())
        start = threading.Barrier(8)

        def update(number: int) -> bool:
            start.wait(timeout=10)
            try:
                door.sales.update(ACME, "S-1", {"product_id": f"P-{number}"}, 1)
            except RevisionConflict:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(update, range(8))) == 1
        assert [item["revision"]["N"] for item in door.items()] == ["2", "2"]

    def test_corrections_in_any_order_end_with_the_highest_version(self, door: Door) -> None:
        door.sales.put(ACME, record())
        versions = [
            record(event_version=n, sold_price=Decimal(n), product_id=f"P-{n % 3}", payload_hash=f"{n:064d}")
            for n in (5, 2, 9, 7, 3, 8)
        ]
        with ThreadPoolExecutor(6) as pool:
            results = list(pool.map(lambda one: door.sales.correct(ACME, one).outcome, versions))
        assert set(results) <= {CorrectionOutcome.APPLIED, CorrectionOutcome.STALE}
        found = door.sales.by_sale_id(ACME, "S-1")
        assert found is not None
        assert found.record == versions[2]
        assert len(door.items()) == 2

    def test_another_payload_at_the_same_revision_is_not_what_was_read(self, door: Door) -> None:
        """One that was withdrawn between reading and writing, with another one put since, is judged anew."""
        door.sales.put(ACME, record())
        newest = record(event_version=9, payload_hash="9" * 64)
        script = Scripted()

        def overtake(**_: object) -> None:
            script()
            if script.calls == 1:
                assert door.again().withdraw(ACME, record())
                assert door.again().put(ACME, newest).outcome is PutOutcome.CREATED

        with on_call(door.client, "TransactWriteItems", overtake):
            result = door.sales.correct(ACME, record(event_version=2, payload_hash="2" * 64))
        assert result.outcome is CorrectionOutcome.STALE
        found = door.sales.by_sale_id(ACME, "S-1")
        assert found is not None
        assert (found.record, found.revision) == (newest, 1)

    def test_a_sale_that_moves_while_it_is_looked_up_is_followed(self, door: Door) -> None:
        door.sales.put(ACME, record())
        moved: list[int] = []

        def move(params: dict[str, Any], **_: object) -> None:
            if "PRODUCT#P-1" in str(params["body"]) and not moved:
                moved.append(1)
                door.again().update(ACME, "S-1", {"product_id": "P-2"}, 1)

        with on_call(door.client, "GetItem", move):
            found = door.sales.by_sale_id(ACME, "S-1")
        assert found is not None
        assert found.record.product_id == "P-2"

    def test_an_update_overtaken_between_reading_and_writing_is_refused(self, door: Door) -> None:
        door.sales.put(ACME, record())
        script = Scripted()

        def overtake(**_: object) -> None:
            script()
            if script.calls == 1:
                door.again().update(ACME, "S-1", {"brand": "other"}, 1)

        with on_call(door.client, "TransactWriteItems", overtake), pytest.raises(RevisionConflict, match="revision 2"):
            door.sales.update(ACME, "S-1", {"brand": "mine"}, 1)
        (sale,) = door.items("SALE")
        assert sale["brand"]["S"] == "other"


class TestBatches:
    def test_g9_no_request_holds_more_than_dynamodb_takes(self, door: Door) -> None:
        with calls_seen(door.client) as seen:
            door.sales.put_many(ACME, [record(f"S-{n}") for n in range(101)])
        written = [len(body["RequestItems"][door.table]) for name, body in seen if name == "BatchWriteItem"]
        read = [len(body["RequestItems"][door.table]["Keys"]) for name, body in seen if name == "BatchGetItem"]
        assert sorted(written) == [1, 1, *[25] * 8]
        assert max(read) <= 100

    @pytest.mark.parametrize("kept", [1, 24, 25])
    def test_e2_unprocessed_items_are_sent_again_until_done(self, door: Door, kept: int) -> None:
        rounds: list[int] = []

        def leave(params: dict[str, Any], **_: object) -> Refusal | None:
            requests = json.loads(params["body"])["RequestItems"][door.table]
            rounds.append(len(requests))
            if len(rounds) > 2 or len(requests) < kept:
                return None
            for request in requests[kept:]:
                door.client.put_item(TableName=door.table, Item=request["PutRequest"]["Item"])
            return answer({"UnprocessedItems": {door.table: requests[:kept]}})

        with on_call(door.client, "BatchWriteItem", leave):
            assert door.sales.put_many(ACME, [record(f"S-{n}") for n in range(25)]).created == 25
        assert len(door.items()) == 50

    def test_e2_unprocessed_for_ever_is_an_error_with_the_rest(self, door: Door) -> None:
        def leave(params: dict[str, Any], **_: object) -> Refusal | None:
            requests = json.loads(params["body"])["RequestItems"][door.table]
            stuck = [one for one in requests if one["PutRequest"]["Item"]["saleId"]["S"] in {"S-3", "S-7"}]
            if not stuck:
                return None
            for request in requests:
                if request not in stuck:
                    door.client.put_item(TableName=door.table, Item=request["PutRequest"]["Item"])
            return answer({"UnprocessedItems": {door.table: stuck}})

        batch = [record(f"S-{n}") for n in range(60)]
        with on_call(door.client, "BatchWriteItem", leave), pytest.raises(BatchUnfinished) as failure:
            door.sales.put_many(ACME, batch)
        assert {"S-3", "S-7"} <= set(failure.value.rest) <= {one.sale_id for one in batch[:25]}
        assert door.sales.put_many(ACME, batch).total == 60
        assert len(door.items()) == 120

    def test_e2_unprocessed_keys_are_asked_for_again_and_for_ever_is_an_error(self, door: Door) -> None:
        batch = [record(f"S-{n}") for n in range(130)]
        door.sales.put_many(ACME, batch)
        left: list[int] = []

        def leave(parsed: dict[str, Any], **_: object) -> None:
            items = parsed["Responses"][door.table]
            if len(left) < 4 and len(items) > 2:
                left.append(len(items))
                kept = items[2:]
                parsed["Responses"][door.table] = items[:2]
                keys = [{"PK": item["PK"], "SK": item["SK"]} for item in kept]
                parsed["UnprocessedKeys"] = {door.table: {"Keys": keys, "ConsistentRead": True}}

        with on_answer(door.client, "BatchGetItem", leave):
            assert len(door.sales.get_many(ACME, [one.key for one in batch])) == 130
        assert len(left) == 4

        def never(parsed: dict[str, Any], **_: object) -> None:
            keys = [{"PK": item["PK"], "SK": item["SK"]} for item in parsed["Responses"].pop(door.table)]
            parsed["UnprocessedKeys"] = {door.table: {"Keys": keys, "ConsistentRead": True}}

        with (
            on_answer(door.client, "BatchGetItem", never),
            pytest.raises(SalesUnavailable, match=r"100 of 100 keys stay unread, first TENANT#acme#PRODUCT#P-1"),
        ):
            door.sales.get_many(ACME, [one.key for one in batch[:100]])

    @pytest.mark.parametrize("call", range(1, 6))
    def test_a_batch_that_dies_at_any_call_is_whole_after_the_next_try(self, door: Door, call: int) -> None:
        batch = [record(f"S-{n}") for n in range(25)]
        door.sales.put(ACME, record("first"))
        script = Scripted(*[None] * (call - 1), KeyboardInterrupt())
        died = False
        try:
            with on_call(door.client, "", script):
                door.sales.put_many(ACME, batch)
        except KeyboardInterrupt:
            died = True
        assert died == (call <= 3)
        report = door.again().put_many(ACME, batch)
        assert report.created + report.duplicates == 25
        assert (len(door.items("SALE")), len(door.items("GUARD"))) == (26, 26)
        assert all(door.sales.by_sale_id(ACME, one.sale_id) is not None for one in batch)

    def test_a_put_gives_a_sale_whose_batch_died_its_guard(self, door: Door) -> None:
        script = Scripted(None, None, KeyboardInterrupt())
        door.sales.put(ACME, record("first"))
        with pytest.raises(KeyboardInterrupt), on_call(door.client, "", script):
            door.sales.put_many(ACME, [record()])
        assert door.sales.by_sale_id(ACME, "S-1") is None
        assert door.sales.put(ACME, record(sold_price=Decimal(1))).outcome is PutOutcome.CONFLICT
        assert door.sales.put(ACME, record()).outcome is PutOutcome.DUPLICATE
        assert door.sales.by_sale_id(ACME, "S-1") is not None

    @pytest.mark.parametrize("price", [None, "1"], ids=["the same payload", "another"])
    @pytest.mark.parametrize("moved", [{}, {"product_id": "P-2"}], ids=["in its place", "moved"])
    def test_f28_a_sale_deleted_by_hand_is_put_again_although_its_guard_is_there(
        self, door: Door, price: str | None, moved: dict[str, str]
    ) -> None:
        door.sales.put(ACME, record())
        if moved:
            door.sales.update(ACME, "S-1", moved, 1)
        (item,) = door.items("SALE")
        door.client.delete_item(TableName=door.table, Key={"PK": item["PK"], "SK": item["SK"]})
        assert door.sales.by_sale_id(ACME, "S-1") is None
        again = record(sold_price=Decimal(price)) if price else record()
        assert door.sales.put(ACME, again).outcome is PutOutcome.CREATED
        assert door.sales.put(ACME, again).outcome is PutOutcome.DUPLICATE
        found = door.sales.by_sale_id(ACME, "S-1")
        assert found is not None
        assert (found.record, len(door.items())) == (again, 2)

    def test_f28_and_so_it_is_by_a_batch(self, door: Door) -> None:
        batch = [record("a"), record("b")]
        door.sales.put_many(ACME, batch)
        for item in door.items("SALE"):
            door.client.delete_item(TableName=door.table, Key={"PK": item["PK"], "SK": item["SK"]})
        assert door.sales.put_many(ACME, batch).created == 2
        assert len(door.items()) == 4


class TestQuestions:
    def test_e4_more_than_a_megabyte_in_a_shard_comes_whole(self, door: Door) -> None:
        door.sales = door.again(ShardCounts(1, 1))
        batch = [record(f"S-{n}", description="d" * 100_000) for n in range(30)]
        assert door.sales.put_many(ACME, batch).created == 30
        with calls_seen(door.client) as seen:
            assert len(door.sales.embeddings(ACME, "P-1").sales) == 30
            assert len(door.sales.category_season(ACME, "dress", Season.AUTUMN).sales) == 30
        assert [name for name, _ in seen].count("Query") >= 4

    def test_many_pages_of_an_index_are_followed(self, door: Door) -> None:
        batch = [record(f"S-{n}", sold_date=DAY - timedelta(days=n % 3)) for n in range(60)]
        door.sales.put_many(ACME, batch)

        def small(params: dict[str, Any], **_: object) -> dict[str, Any]:
            return {**params, "Limit": 2}

        event = "provide-client-params.dynamodb.Query"
        door.client.meta.events.register(event, small)
        try:
            assert len(door.sales.category_season(ACME, "dress", Season.AUTUMN).sales) == 60
            page = door.sales.category_season(ACME, "dress", Season.AUTUMN, page=PageRequest(25))
            assert [sale.record.key for sale in page.sales] == sorted(one.key for one in batch)[:25]
        finally:
            door.client.meta.events.unregister(event, small)

    @pytest.mark.parametrize("page", [PageRequest(), PageRequest(5)])
    @pytest.mark.parametrize("shard", [0, 9])
    def test_g6_one_shard_that_fails_makes_the_question_fail(self, door: Door, shard: int, page: PageRequest) -> None:
        door.sales.put_many(ACME, [record(f"S-{n}") for n in range(40)])

        def fail(params: dict[str, Any], **_: object) -> Refusal | None:
            return refusal("AccessDeniedException") if f"SHARD#{shard}" in str(params["body"]) else None

        with on_call(door.client, "Query", fail), pytest.raises(SalesUnavailable, match="AccessDenied"):
            door.sales.category_season(ACME, "dress", Season.AUTUMN, page=page)

    def test_g4_after_the_shards_grew_old_sales_are_found_and_after_they_shrank_new_ones(self, door: Door) -> None:
        counts = (ShardCounts(10, 5), ShardCounts(16, 8), ShardCounts(4, 2))
        for number, count in enumerate(counts):
            door.again(count).put_many(ACME, [record(f"S-{number}-{n}") for n in range(40)])
        for count in counts:
            sales = door.again(count)
            assert len(sales.category_season(ACME, "dress", Season.AUTUMN).sales) == 120
            assert len(sales.of_day(ACME, DAY)) == len(sales.embeddings(ACME, None).sales) == 120

    def test_g4_a_reader_that_is_already_running_learns_of_more_shards(self, door: Door) -> None:
        reader = door.again(ShardCounts(1, 1))
        assert reader.of_day(ACME, DAY) == ()
        door.again(ShardCounts(16, 16)).put_many(ACME, [record(f"S-{n}") for n in range(40)])
        assert len(reader.of_day(ACME, DAY)) == 40

    def test_what_the_index_still_names_but_has_gone_or_changed_is_left_out(self, door: Door) -> None:
        """An index is a moment behind: here it names a deleted sale, and one that has another brand by now."""
        door.sales.put_many(ACME, [record("gone"), record("changed"), record("there")])

        def late(**_: object) -> None:
            door.client.meta.events.unregister("before-call.dynamodb.BatchGetItem", late)
            door.again().delete(ACME, "gone")
            door.again().update(ACME, "changed", {"brand": "Tarn"}, 1)

        with on_call(door.client, "BatchGetItem", late):
            found = door.sales.brand_prices(ACME, "Ilmari")
        assert [sale.record.sale_id for sale in found.sales] == ["there"]

    def test_an_item_that_is_not_ours_is_told_by_its_key_and_not_left_out(self, door: Door) -> None:
        door.sales.put(ACME, record())
        (sale,) = door.items("SALE")
        for broken in ({"salePrice": {"N": "1E+60"}}, {"season": {"S": "MONSOON"}}, {"productId": {"S": "P-9"}}):
            door.client.put_item(TableName=door.table, Item=sale | broken)
            with pytest.raises(SaleUnreadable, match=r"item TENANT#acme#PRODUCT#P-1 SALE#2026-11-20#S-1: "):
                door.sales.brand_prices(ACME, "Ilmari")
        del sale["revision"]
        door.client.put_item(TableName=door.table, Item=sale)
        with pytest.raises(SaleUnreadable, match="revision"):
            door.sales.get(ACME, record().key)


@pytest.mark.parametrize("entity,missing", [("SALE", "payloadHash"), ("GUARD", "soldDate")])
def test_e6_an_item_of_other_software_is_told_by_a_put_and_stops_no_other_of_a_batch(
    door: Door, entity: str, missing: str
):
    door.sales.put(ACME, record())
    (held,) = door.items(entity)
    for item in door.items():
        door.client.delete_item(TableName=door.table, Key={"PK": item["PK"], "SK": item["SK"]})
    del held[missing]
    door.client.put_item(TableName=door.table, Item=held)
    with pytest.raises(SaleUnreadable, match=missing):
        door.sales.put(ACME, record())
    report = door.sales.put_many(ACME, [record(), record("S-2")])
    assert (report.created, [one.sale_id for one in report.conflicts]) == (1, ["S-1"])
    assert missing in report.conflicts[0].reason
    assert held in door.items()


def test_f7_a_file_that_is_stored_and_another_writer_of_the_same_sale_never_make_two(door: Door):
    """What `salesintel sales put` does: the event sync writes the sale, as another product's, in the middle of it."""
    given = {"saleId": "S-1", "productId": "P-9", "soldPrice": 5, "currency": "EUR", "soldAt": f"{DAY}T10:00:00Z"}
    overtaken: list[str] = []

    def overtake(model: Any, **_: object) -> None:  # noqa: ANN401 - botocore's
        if "Write" in model.name and not overtaken:
            overtaken.append(model.name)
            assert door.again().put(ACME, record()).outcome is PutOutcome.CREATED

    rules = RequestRules(ZoneInfo("UTC"), Hemisphere.NORTH)
    with on_call(door.client, "", overtake):
        stored = store_all(io.BytesIO(json.dumps(given).encode()), door.sales, ACME, rules, door.clock.clock)
    assert overtaken
    assert (stored.created, [one.sale_id for one in stored.conflicts]) == (0, ["S-1"])
    assert [sale["productId"]["S"] for sale in door.items("SALE")] == ["P-1"]


def test_g1_an_index_entry_that_names_another_tenants_sale_is_an_error(door: Door):
    """Not even an item written by hand, with an index key of ours, shows another tenant's sale."""
    door.sales.put(CallerContext("other"), replace(record(), tenant="other"))
    (sale,) = door.items("SALE")
    door.client.put_item(TableName=door.table, Item=sale | {"GSI3PK": {"S": "TENANT#acme#BRAND#Ilmari"}})
    with pytest.raises(SaleUnreadable, match="not a sale of tenant acme"):
        door.sales.brand_prices(ACME, "Ilmari")


def test_e6_what_dynamodb_itself_refuses_is_a_refusal_and_no_crash(door: Door):
    def refuse(**_: object) -> Refusal:
        return refusal("ValidationException")

    with on_call(door.client, "GetItem", refuse), pytest.raises(Exception, match="ValidationException"):
        door.sales.get(ACME, SaleKey(DAY, "p", "s"))
