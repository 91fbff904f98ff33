"""The enrichment status table: one contract on the fake and on DynamoDB (emulated), and what only DynamoDB does."""

from __future__ import annotations

import io
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.enrichment_items import KEPT, USER_INDEX
from salesintel_dagster.adapters.enrichment_ledger import (
    DynamoEnrichmentBatches,
    DynamoEnrichmentJobs,
    DynamoTokenLevels,
    DynamoUnfinishedJobs,
    StatusTable,
)
from salesintel_dagster.adapters.enrichment_paid_rows import DynamoPaidRows
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.enrichment.batch import Batch, Lease, Reason, State
from salesintel_dagster.domain.enrichment.job import Job, planned
from salesintel_dagster.domain.enrichment.ports import OpenJob
from salesintel_dagster.domain.enrichment.product import CatalogProduct, LookUpKey, LookUpKind
from salesintel_dagster.domain.enrichment.rows import RowSource, row, table_of
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import LedgerUnavailable
from salesintel_dagster.flows.enrichment.parts import EnrichmentLedger
from salesintel_dagster_tests.fakes.enrichment import InMemoryJobs
from salesintel_dagster_tests.fakes.enrichment_provider import facts

TABLE = "dev-enrichment-status"
NOW = datetime.now(UTC).replace(microsecond=123_456)
"""Of today: the emulator removes items whose ttl has passed."""


def job_of(  # noqa: PLR0913 - all by name
    products: int = 7, *, tenant: str = "t", catalog: str = "c", user: str = "ann", size: int = 5, at: datetime = NOW
) -> tuple[Job, tuple[Batch, ...]]:
    named = [CatalogProduct(f"p-{n}", LookUpKey(LookUpKind.ASIN, f"B{n:09d}"), '{"a":"ö"}') for n in range(products)]
    return planned(tenant=tenant, catalog_id=catalog, user_id=user, products=named, size=size, refused=2, now=at)


def rows_of(batch: Batch, attributes: Sequence[str] = ()) -> pa.Table:
    source = RowSource(batch.key.tenant, batch.key.catalog_id, "E1", "local-scripted", "run", NOW)
    products = [
        replace(product, attributes=text) for product, text in zip(batch.products, attributes, strict=False)
    ] or batch.products
    return table_of(row(source, product, facts(product.key.identifier)) for product in products)


def made_table(aws: AwsClients) -> AwsClient:
    client = aws.client("dynamodb")
    names = ("catalog_id", "batch_id", "user_id", "created_at")
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        KeySchema=[
            {"AttributeName": "catalog_id", "KeyType": "HASH"},
            {"AttributeName": "batch_id", "KeyType": "RANGE"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": USER_INDEX,
                "KeySchema": [
                    {"AttributeName": "user_id", "KeyType": "HASH"},
                    {"AttributeName": "created_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    return client


def ledger_on(client: AwsClient, clock: Clock = SYSTEM_CLOCK) -> EnrichmentLedger:
    table = StatusTable(client, TABLE, clock)
    return EnrichmentLedger(
        DynamoEnrichmentJobs(table),
        DynamoUnfinishedJobs(table),
        DynamoEnrichmentBatches(table),
        DynamoTokenLevels(table),
        DynamoPaidRows(table),
    )


@dataclass
class MovedClock:
    """The calendar, `by` ahead: nothing is deleted by the emulator meanwhile, and all has expired for who reads."""

    by: timedelta = timedelta()

    @property
    def clock(self) -> Clock:
        return replace(SYSTEM_CLOCK, now=lambda: datetime.now(UTC) + self.by)


@pytest.fixture
def time() -> MovedClock:
    return MovedClock()


@pytest.fixture(params=["memory", "dynamodb"])
def ledger(request: pytest.FixtureRequest, time: MovedClock) -> EnrichmentLedger:
    if request.param == "memory":
        return InMemoryJobs(clock=time.clock).ledger
    return ledger_on(made_table(request.getfixturevalue("aws")), time.clock)


@pytest.fixture
def dynamodb(aws: AwsClients) -> AwsClient:
    return made_table(aws)


class TestEveryLedger:
    def test_a_job_comes_back_with_its_batches_as_they_were_made(self, ledger: EnrichmentLedger):
        job, batches = job_of()
        assert ledger.jobs.add(job, batches) == job
        assert ledger.jobs.of_catalog("t", "c") == [job]
        assert ledger.jobs.of_user("t", "ann") == [job]
        assert ledger.batches.of_job(job) == list(batches)
        assert ledger.batches.load(batches[1].key) == batches[1]
        assert ledger.unfinished.all() == [OpenJob(job, NOW)]

    def test_what_was_never_made_is_not_there(self, ledger: EnrichmentLedger):
        job, batches = job_of()
        assert ledger.jobs.of_catalog("t", "c") == []
        assert ledger.batches.load(batches[0].key) is None
        assert ledger.batches.of_job(job) == []
        assert ledger.unfinished.all() == []
        assert ledger.tokens.last("keepa") is None

    def test_h4_making_it_again_gives_the_first_and_changes_nothing(self, ledger: EnrichmentLedger):
        job, batches = job_of()
        ledger.jobs.add(job, batches)
        claimed = batches[0].claimed(Lease("me", NOW + timedelta(seconds=300)), NOW)
        assert ledger.batches.replace(batches[0], claimed)
        for size in (5, 20):
            again, others = job_of(user="bob", at=NOW + timedelta(hours=1), size=size)
            assert ledger.jobs.add(again, others) == job
        assert ledger.batches.load(claimed.key) == claimed
        assert ledger.batches.of_job(job) == [claimed, batches[1]]

    def test_every_field_of_a_batch_comes_back(self, ledger: EnrichmentLedger):
        job, (batch, _) = job_of()
        ledger.jobs.add(job, job_of()[1])
        claimed = batch.claimed(Lease("run-1/token", NOW + timedelta(seconds=300)), NOW)
        assert ledger.batches.replace(batch, claimed)
        kept = claimed.kept(NOW + timedelta(seconds=600), NOW + timedelta(seconds=9))
        assert ledger.batches.replace(claimed, kept)
        states = (State.DONE, State.FAILED, State.RETRY, State.DONE, State.RETRY)
        statuses = tuple(
            one.to(state, None if state is State.DONE else Reason.INVALID, "price is 'ö'", tried=True)
            for one, state in zip(kept.statuses, states, strict=True)
        )
        settled = kept.settled(statuses, NOW + timedelta(seconds=30), NOW + timedelta(seconds=11))
        assert ledger.batches.replace(kept, settled)
        assert ledger.batches.load(batch.key) == settled
        sent = settled.sent(NOW + timedelta(seconds=12))
        assert ledger.batches.replace(settled, sent)
        assert ledger.batches.load(batch.key) == sent
        reopened = sent.reopened(NOW + timedelta(seconds=13))
        assert ledger.batches.replace(sent, reopened)
        assert ledger.batches.load(batch.key) == reopened

    def test_h5_who_has_seen_an_older_version_is_refused(self, ledger: EnrichmentLedger):
        job, batches = job_of()
        ledger.jobs.add(job, batches)
        first = batches[0].claimed(Lease("zombie", NOW + timedelta(seconds=300)), NOW)
        assert ledger.batches.replace(batches[0], first)
        assert not ledger.batches.replace(batches[0], batches[0].claimed(Lease("rival", NOW), NOW))
        taken_over = first.claimed(Lease("second", NOW + timedelta(seconds=900)), NOW + timedelta(seconds=301))
        assert ledger.batches.replace(first, taken_over)
        done = tuple(status.to(State.DONE) for status in first.statuses)
        assert not ledger.batches.replace(first, first.settled(done, None, NOW))
        assert not ledger.batches.replace(first, first.kept(NOW + timedelta(days=1), NOW))
        assert ledger.batches.load(first.key) == taken_over

    def test_a_job_is_closed_unless_it_was_opened_again(self, ledger: EnrichmentLedger):
        job, batches = job_of()
        ledger.jobs.add(job, batches)
        [opened] = ledger.unfinished.all()
        ledger.unfinished.reopen(job, NOW + timedelta(seconds=1))
        ledger.unfinished.close(opened)
        [again] = ledger.unfinished.all()
        assert again == OpenJob(job, NOW + timedelta(seconds=1))
        ledger.unfinished.close(again)
        ledger.unfinished.close(again)
        assert ledger.unfinished.all() == []
        assert ledger.jobs.of_catalog("t", "c") == [job]

    def test_tenants_catalogs_and_users_do_not_see_each_other(self, ledger: EnrichmentLedger):
        mine, _ = job_of()
        newer, _ = job_of(3, at=NOW + timedelta(seconds=5))
        for job, batches in (
            job_of(),
            job_of(3, at=NOW + timedelta(seconds=5)),
            job_of(tenant="t2"),
            job_of(catalog="c2", user="bob"),
        ):
            ledger.jobs.add(job, batches)
        assert ledger.jobs.of_catalog("t", "c") == [newer, mine]
        assert ledger.jobs.of_user("t", "ann") == [newer, mine]
        assert [job.catalog_id for job in ledger.jobs.of_user("t", "bob")] == ["c2"]
        assert len(ledger.batches.of_job(mine)) == 2
        assert len(ledger.batches.of_job(newer)) == 1

    def test_the_newest_token_level_stands(self, ledger: EnrichmentLedger):
        level = TokenLevel(-4, 1.5, 5.0, NOW)
        older = replace(level, left=100, observed_at=NOW - timedelta(seconds=1))
        newer = replace(level, left=7, observed_at=NOW + timedelta(seconds=1))
        for one, stands in ((level, level), (older, level), (newer, newer)):
            ledger.tokens.note("keepa", one)
            assert ledger.tokens.last("keepa") == stands
        assert ledger.tokens.last("local-keepa") is None

    def test_what_has_expired_and_is_not_deleted_yet_is_gone(self, ledger: EnrichmentLedger, time: MovedClock):
        job, batches = job_of()
        ledger.jobs.add(job, batches)
        ledger.tokens.note("keepa", TokenLevel(7, 1.5, 5.0, NOW))
        ledger.paid.keep(batches[0].key, rows_of(batches[0]))
        time.by = KEPT - timedelta(hours=1)
        assert ledger.jobs.of_catalog("t", "c") == [job]
        time.by = KEPT + timedelta(hours=1)
        assert ledger.jobs.of_catalog("t", "c") == []
        assert ledger.jobs.of_user("t", "ann") == []
        assert ledger.unfinished.all() == []
        assert ledger.batches.of_job(job) == []
        assert ledger.batches.load(batches[0].key) is None
        assert ledger.tokens.last("keepa") is None
        assert ledger.paid.of(batches[0].key).num_rows == 0

    def test_h4_a_job_whose_like_has_expired_is_made_anew_with_all_its_batches(
        self, ledger: EnrichmentLedger, time: MovedClock
    ):
        old, batches = job_of()
        ledger.jobs.add(old, batches)
        done = tuple(status.to(State.RUNNING).to(State.DONE) for status in batches[0].statuses)
        assert ledger.batches.replace(batches[0], replace(batches[0], statuses=done, version=2))
        time.by = KEPT + timedelta(hours=1)
        new, fresh = job_of(at=NOW + time.by)
        assert new.job_id == old.job_id
        assert ledger.jobs.add(new, fresh) == new
        assert ledger.jobs.of_catalog("t", "c") == [new]
        assert ledger.batches.of_job(new) == list(fresh)
        assert ledger.unfinished.all() == [OpenJob(new, new.created_at)]

    def test_paid_rows_come_back_until_they_are_forgotten(self, ledger: EnrichmentLedger):
        _, (first, second) = job_of()
        assert ledger.paid.of(first.key).num_rows == 0
        ledger.paid.keep(first.key, rows_of(first).slice(0, 2))
        ledger.paid.keep(first.key, rows_of(first).slice(1, 4))
        ledger.paid.keep(second.key, rows_of(second))
        assert ledger.paid.of(first.key).sort_by("product_id") == rows_of(first)
        assert ledger.paid.of(second.key).sort_by("product_id") == rows_of(second)
        ledger.paid.forget(first.key)
        ledger.paid.forget(first.key)
        assert ledger.paid.of(first.key).num_rows == 0
        assert ledger.paid.of(second.key) == rows_of(second)

    def test_paid_rows_of_a_batch_may_be_larger_than_an_item(self, ledger: EnrichmentLedger):
        _, (batch, _) = job_of()
        large = rows_of(batch, [secrets.token_hex(100_000) for _ in batch.products])
        ledger.paid.keep(batch.key, large)
        assert ledger.paid.of(batch.key).sort_by("product_id") == large
        ledger.paid.forget(batch.key)
        assert ledger.paid.of(batch.key).num_rows == 0


class TestDynamo:
    def test_h3_rows_that_are_kept_are_not_written_again_so_that_a_crash_cannot_cut_them_off(self, dynamodb: AwsClient):
        _, (batch, _) = job_of()
        paid = ledger_on(dynamodb).paid
        paid.keep(batch.key, rows_of(batch).slice(0, 3))
        [before] = [one for one in dynamodb.scan(TableName=TABLE)["Items"] if "rows" in one]
        rest = rows_of(batch, [secrets.token_hex(300_000) for _ in batch.products]).slice(3)
        paid.keep(batch.key, rest)
        kept = [one for one in dynamodb.scan(TableName=TABLE)["Items"] if "rows" in one]
        assert before in kept
        assert len(kept) == 1 + rest.num_rows
        assert max(len(one["rows"]["B"]) for one in kept) < 400_000
        assert paid.of(batch.key).num_rows == rows_of(batch).num_rows

    def test_paid_rows_stand_apart_and_those_of_another_version_are_left_out(self, dynamodb: AwsClient):
        job, (first, _) = job_of()
        ledger = ledger_on(dynamodb)
        ledger.jobs.add(job, job_of()[1])
        ledger.paid.keep(first.key, rows_of(first))
        [item] = [one for one in dynamodb.scan(TableName=TABLE)["Items"] if "rows" in one]
        assert item["catalog_id"]["S"] == "PAID#t#c"
        assert item["batch_id"]["S"] == f"{first.key.batch_id}#001"
        assert item["tenant"]["S"] == "t"
        assert int(item["ttl"]["N"]) > (NOW + timedelta(days=89)).timestamp()
        assert ledger.batches.of_job(job) == list(job_of()[1])
        sink = pa.BufferOutputStream()
        other = rows_of(first).drop_columns(["brand"])
        with pa.ipc.new_stream(sink, other.schema) as stream:
            stream.write_table(other)
        dynamodb.put_item(TableName=TABLE, Item=item | {"rows": {"B": sink.getvalue().to_pybytes()}})
        assert ledger.paid.of(first.key).num_rows == 0
        dynamodb.put_item(TableName=TABLE, Item=item | {"rows": {"B": b"no rows"}})
        with pytest.raises(LedgerUnavailable, match="not an item of ours"):
            ledger.paid.of(first.key)

    def test_items_stand_under_the_keys_of_the_design(self, dynamodb: AwsClient):
        job, batches = job_of()
        ledger_on(dynamodb).jobs.add(job, batches)
        items = {
            (item["catalog_id"]["S"], item["batch_id"]["S"]): item for item in dynamodb.scan(TableName=TABLE)["Items"]
        }
        assert set(items) == {
            ("t#c", job.job_id),
            ("t#c", f"{job.job_id}-05-00001"),
            ("t#c", f"{job.job_id}-05-00002"),
            ("OPEN", f"t#c#{job.job_id}"),
        }
        assert {item["tenant"]["S"] for item in items.values()} == {"t"}
        assert all(int(item["ttl"]["N"]) == int((NOW + timedelta(days=90)).timestamp()) for item in items.values())
        indexed = dynamodb.scan(TableName=TABLE, IndexName=USER_INDEX)["Items"]
        assert [item["batch_id"]["S"] for item in indexed] == [job.job_id]

    def test_the_largest_batch_is_an_item_that_dynamodb_takes(self, dynamodb: AwsClient):
        text = '{"t":"' + "x" * 32_000 + '"}'
        large = [CatalogProduct(f"{n}" * 400, LookUpKey(LookUpKind.ASIN, f"B{n:09d}"), text) for n in range(1, 9)]
        job, batches = planned(tenant="t", catalog_id="c", user_id="u", products=large, size=50, refused=0, now=NOW)
        ledger = ledger_on(dynamodb)
        ledger.jobs.add(job, batches)
        [first, *_] = batches
        assert len(first.body) > 200_000
        statuses = tuple(
            status.to(State.RUNNING).to(State.FAILED, Reason.INVALID, "\N{CAT FACE}" * 999, tried=True)
            for status in first.statuses
        )
        after = replace(first, statuses=statuses, version=2)
        assert ledger.batches.replace(first, after)
        [item] = [one for one in dynamodb.scan(TableName=TABLE)["Items"] if one["batch_id"]["S"] == first.key.batch_id]
        assert len(repr(item).encode()) < 400_000

    def test_h5_a_write_whose_answer_was_lost_counts_as_written(self, dynamodb: AwsClient):
        job, batches = job_of()
        ledger = ledger_on(dynamodb)
        ledger.jobs.add(job, batches)
        lost: list[int] = []

        def lose(**_: object) -> None:
            lost.append(1)
            if len(lost) == 1:
                raise ConnectionClosedError(endpoint_url="http://nowhere")

        dynamodb.meta.events.register("response-received.dynamodb.UpdateItem", lose)
        claimed = batches[0].claimed(Lease("me", NOW + timedelta(seconds=300)), NOW)
        try:
            done = ledger.batches.replace(batches[0], claimed)
        except LedgerUnavailable:
            done = ledger.batches.replace(batches[0], claimed)
        assert done
        assert ledger.batches.load(claimed.key) == claimed

    def test_h4_of_two_that_make_a_job_at_once_the_slower_takes_no_progress_back(self, dynamodb: AwsClient):
        job, batches = job_of()
        ledger, once = ledger_on(dynamodb), [1]
        claimed = batches[0].claimed(Lease("me", NOW + timedelta(seconds=300)), NOW)

        def rival(**_: object) -> None:
            if once:
                once.clear()
                ledger.jobs.add(job, batches)
                assert ledger.batches.replace(batches[0], claimed)

        dynamodb.meta.events.register("before-call.dynamodb.PutItem", rival)
        slower, others = job_of(user="bob", at=NOW + timedelta(seconds=1))
        assert ledger.jobs.add(slower, others) == job
        assert ledger.batches.load(claimed.key) == claimed

    def test_queries_go_past_one_page(self, dynamodb: AwsClient):
        job, batches = job_of(30)
        ledger = ledger_on(dynamodb)
        ledger.jobs.add(job, batches)
        dynamodb.meta.events.register(
            "provide-client-params.dynamodb.Query", lambda params, **_: {**params, "Limit": 2}
        )
        assert ledger.batches.of_job(job) == list(batches)
        assert ledger.jobs.of_catalog("t", "c") == [job]

    def test_whatever_the_table_answers_is_one_error_without_values(self, dynamodb: AwsClient):
        job, batches = job_of()
        ledger = ledger_on(dynamodb)

        def refuse(**_: object) -> tuple[AWSResponse, dict[str, Any]]:
            parsed = {
                "Error": {"Code": "AccessDeniedException", "Message": "canary"},
                "ResponseMetadata": {"HTTPStatusCode": 400},
            }
            return AWSResponse("", 400, {}, io.BytesIO()), parsed

        dynamodb.meta.events.register("before-call.dynamodb", refuse)
        for call in (
            lambda: ledger.jobs.add(job, batches),
            lambda: ledger.jobs.of_catalog("t", "c"),
            lambda: ledger.jobs.of_user("t", "u"),
            ledger.unfinished.all,
            lambda: ledger.unfinished.close(OpenJob(job, NOW)),
            lambda: ledger.unfinished.reopen(job, NOW),
            lambda: ledger.batches.of_job(job),
            lambda: ledger.batches.load(batches[0].key),
            lambda: ledger.batches.replace(batches[0], batches[0].sent(NOW)),
            lambda: ledger.tokens.last("keepa"),
            lambda: ledger.tokens.note("keepa", TokenLevel(1, 1, 1, NOW)),
            lambda: ledger.paid.keep(batches[0].key, rows_of(batches[0])),
            lambda: ledger.paid.of(batches[0].key),
            lambda: ledger.paid.forget(batches[0].key),
        ):
            with pytest.raises(LedgerUnavailable, match=rf"table {TABLE}: AccessDenied") as failure:
                call()
            assert "canary" not in str(failure.value)

    def test_an_item_that_is_not_ours_is_told(self, dynamodb: AwsClient):
        job, batches = job_of()
        ledger = ledger_on(dynamodb)
        ledger.jobs.add(job, batches)
        key = {"catalog_id": {"S": "t#c"}, "batch_id": {"S": batches[0].key.batch_id}}
        dynamodb.put_item(TableName=TABLE, Item=key | {"body": {"S": "{}"}})
        with pytest.raises(LedgerUnavailable, match="not an item of ours"):
            ledger.batches.load(batches[0].key)
