"""The TTL backfill over the real table: nothing written in a dry run, resumed after any kill, no ghost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import pytest

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.adapters.sales.table import DynamoTable
from salesintel_dagster.adapters.sales.ttl_items import DynamoTtlStore
from salesintel_dagster.domain.errors import SalesUnavailable, SaleUnreadable
from salesintel_dagster.domain.retention import ttl_of
from salesintel_dagster.domain.sales_keys import KeyPair
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.domain.ttl_backfill import Checkpoint, SetOutcome, TtlItem, TtlRehearsal, TtlStore, TtlTally
from salesintel_dagster.flows.ttl_backfill import Pace, backfill_ttl
from salesintel_dagster_tests.fakes.clocks import SetClock
from salesintel_dagster_tests.fakes.sale_records import record
from salesintel_dagster_tests.fakes.ttl_store import InMemoryTtlStore
from salesintel_dagster_tests.sales_table import all_items, calls_seen, make_table, on_call, refusal
from salesintel_dagster_tests.services import Services

PACE = Pace(page_items=5, items_per_second=1_000)
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"}
DAYS = (date(2026, 11, 20), date(2025, 12, 29), date(2024, 2, 29), date(2019, 11, 1), date(2015, 6, 1))


@dataclass
class Legacy:
    """A table whose items were written without a ttl, but for one."""

    client: AwsClient
    table: str
    clock: SetClock

    @property
    def store(self) -> DynamoTtlStore:
        return DynamoTtlStore(DynamoTable(self.client, self.table, self.clock.clock))

    def run(self, *, dry_run: bool = False, restart: bool = False) -> TtlTally:
        store = TtlRehearsal(self.store) if dry_run else self.store
        return list(backfill_ttl(store, self.clock.clock, PACE, restart=restart))[-1]

    def ttls(self) -> dict[str, int | None]:
        found = {}
        for item in all_items(self.client, self.table):
            if "saleId" in item:
                kind = "guard" if item["SK"]["S"] == "UNIQUE" else "sale"
                ttl = item.get("ttl", {}).get("N")
                found[f"{item['saleId']['S']} {kind}"] = int(ttl) if ttl else None
        return found

    def put(self, item: dict[str, Any]) -> None:
        self.client.put_item(TableName=self.table, Item=item)


@pytest.fixture(scope="module")
def dynamodb(services: Services) -> AwsClient:
    return AwsClients(services.aws.new_target()).client("dynamodb")


@pytest.fixture
def legacy(dynamodb: AwsClient) -> Legacy:
    made = Legacy(dynamodb, make_table(dynamodb), SetClock())
    sales = DynamoSalesRepository(dynamodb, made.table, ShardCounts(), made.clock.clock)
    for number, day in enumerate(DAYS):
        sales.put(CallerContext("acme"), record(f"S-{number}", sold_date=day))
    sales.put(CallerContext("other"), record("S-1", sold_date=DAYS[1], tenant="other"))
    for item in all_items(dynamodb, made.table):
        if item.get("saleId", {}).get("S") != "S-0":
            made.put({name: value for name, value in item.items() if name != "ttl"})
    made.put({"PK": {"S": "TENANT#acme#SALEID#lost"}, "SK": {"S": "UNIQUE"}, "saleId": {"S": "lost"}})
    odd = {"PK": {"S": "TENANT#acme#PRODUCT#p"}, "SK": {"S": "SALE#2026-11-20#text"}, "ttl": {"S": "tomorrow"}}
    made.put(odd)
    return made


SALE = KeyPair("TENANT#acme#PRODUCT#P-1", "SALE#2026-11-20#S-1")
GUARD = KeyPair("TENANT#acme#SALEID#S-1", "UNIQUE")
ITEMS = (
    TtlItem(SALE, "2026-11-20", None),
    TtlItem(GUARD, "2026-11-20", "N"),
    TtlItem(KeyPair("SHARDS", "CONFIG"), None, None),
)


@pytest.fixture(params=["memory", "dynamodb"])
def store(request: pytest.FixtureRequest) -> TtlStore:
    if request.param == "memory":
        return InMemoryTtlStore(*ITEMS)
    client = request.getfixturevalue("dynamodb")
    table = make_table(client)
    for item in ITEMS:
        made: dict[str, Any] = {"PK": {"S": item.key.partition}, "SK": {"S": item.key.sort}}
        made |= {"soldDate": {"S": item.sold_date}} if item.sold_date else {}
        made |= {"ttl": {"N": "7"}} if item.ttl_type else {}
        client.put_item(TableName=table, Item=made)
    return DynamoTtlStore(DynamoTable(client, table, SetClock().clock))


class TestEveryTtlStore:
    @pytest.mark.parametrize("most", [1, 2, 3, 10])
    def test_pages_hold_every_item_once(self, store: TtlStore, most: int) -> None:
        found: list[TtlItem] = []
        page = store.page(None, most)
        while True:
            assert len(page.items) <= most
            found += page.items
            if page.after is None:
                break
            page = store.page(page.after, most)
        assert sorted(found, key=lambda one: one.key.partition) == sorted(ITEMS, key=lambda one: one.key.partition)

    def test_a_ttl_is_set_once_and_never_on_what_is_not_there(self, store: TtlStore) -> None:
        assert store.set_ttl(ITEMS[0], 5) is SetOutcome.SET
        assert store.set_ttl(ITEMS[0], 6) is SetOutcome.THERE
        assert store.set_ttl(ITEMS[1], 6) is SetOutcome.THERE
        assert store.set_ttl(replace(ITEMS[0], key=replace(SALE, sort="SALE#2026-11-20#S-2")), 5) is SetOutcome.GONE
        assert len(store.page(None, 10).items) == 3

    def test_a_checkpoint_is_kept_until_the_end(self, store: TtlStore) -> None:
        assert store.checkpoint() is None
        at = Checkpoint(SALE, TtlTally(scanned=3, set_=2, unreadable=1, unreadable_keys=("a b",)))
        store.keep(at)
        assert store.checkpoint() == at
        store.keep(None)
        store.keep(None)
        assert store.checkpoint() is None


def test_g10_a_dry_run_writes_nothing_and_counts_as_the_real_run_does(legacy: Legacy):
    with calls_seen(legacy.client) as seen:
        dry = legacy.run(dry_run=True)
    assert not {name for name, _ in seen} & WRITES
    assert (dry.there, dry.set_, dry.unreadable, dry.other, dry.gone) == (2, 10, 2, 1, 0)
    assert dry.scanned == 15
    assert legacy.run() == dry
    again = legacy.run()
    assert (again.there, again.set_) == (12, 0)


def test_e8_every_item_gets_the_ttl_of_its_day_and_one_that_is_there_stays(legacy: Legacy):
    before = all_items(legacy.client, legacy.table)
    kept = legacy.ttls()["S-0 sale"]
    legacy.run()
    found = legacy.ttls()
    assert {found[f"S-{n} {kind}"] for n in (1,) for kind in ("sale", "guard")} == {1830038400}
    assert all(found[f"S-{n} guard"] == found[f"S-{n} sale"] == ttl_of(day) for n, day in enumerate(DAYS))
    assert found["S-0 sale"] == kept
    assert found["lost guard"] is None
    after = all_items(legacy.client, legacy.table)
    without = [{name: value for name, value in item.items() if name != "ttl"} for item in after]
    assert sorted(map(str, without)) == sorted(
        str({name: value for name, value in item.items() if name != "ttl"}) for item in before
    )


def test_g12_sales_too_old_for_dynamodb_and_unreadable_items_are_named(legacy: Legacy):
    tally = legacy.run(dry_run=True)
    assert tally.too_old == 4
    assert "TENANT#acme#PRODUCT#P-1 SALE#2015-06-01#S-4" in tally.too_old_keys
    assert set(tally.unreadable_keys) == {
        "TENANT#acme#SALEID#lost UNIQUE",
        "TENANT#acme#PRODUCT#p SALE#2026-11-20#text",
    }


@pytest.mark.parametrize("when", ["before", "after"])
def test_g11_killed_at_any_call_it_goes_on_and_ends_the_same(legacy: Legacy, when: str):
    """Each of the calls of a whole run once: the table and the count of what is without a ttl end as they should."""
    goal = {name: ttl for name, ttl in legacy.ttls().items() if ttl is not None}
    goal |= {f"S-{n} {kind}": ttl_of(day) for n, day in enumerate(DAYS) for kind in ("sale", "guard")}
    unset = all_items(legacy.client, legacy.table)
    call = 0
    while True:
        call += 1
        if not _killed(legacy, call, when):
            break
        tally = legacy.run()
        assert {name: ttl for name, ttl in legacy.ttls().items() if ttl is not None} == goal, call
        assert tally.scanned >= 15, call
        assert legacy.store.checkpoint() is None
        legacy.client.batch_write_item(RequestItems={legacy.table: [{"PutRequest": {"Item": item}} for item in unset]})
    assert call > 15


def _killed(legacy: Legacy, at: int, when: str) -> bool:
    calls = 0

    def kill(**_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt

    event = f"{when}-call.dynamodb"
    legacy.client.meta.events.register_first(event, kill)
    try:
        legacy.run()
    except KeyboardInterrupt:
        return True
    finally:
        legacy.client.meta.events.unregister(event, kill)
    return False


def test_g11_a_resumed_run_does_not_begin_anew_and_counts_the_whole(legacy: Legacy):
    run = backfill_ttl(legacy.store, legacy.clock.clock, PACE)
    first = next(run)
    run.close()
    assert first.scanned == 5
    with calls_seen(legacy.client) as seen:
        assert legacy.run().scanned == 15
    scans = [body for name, body in seen if name == "Scan"]
    assert all("ExclusiveStartKey" in body for body in scans)
    legacy.run()
    assert legacy.run(restart=True).scanned == 15


def test_g11_an_item_that_went_is_not_made_again_and_one_that_was_changed_keeps_its_ttl(legacy: Legacy):
    victims = [item for item in all_items(legacy.client, legacy.table) if "ttl" not in item and "GSI2PK" in item]
    gone, changed = victims[0], victims[1]
    meant = {"ttl": {"N": "1999999999"}}

    def meanwhile(params: dict[str, Any], **_: object) -> None:
        for item, act in ((gone, "delete"), (changed, "put")):
            if f'"{item["PK"]["S"]}"' in str(params["body"]) and item["SK"]["S"] in str(params["body"]):
                if act == "delete":
                    legacy.client.delete_item(TableName=legacy.table, Key={"PK": item["PK"], "SK": item["SK"]})
                else:
                    legacy.put(item | meant)

    with on_call(legacy.client, "UpdateItem", meanwhile):
        tally = legacy.run()
    after = {(item["PK"]["S"], item["SK"]["S"]): item for item in all_items(legacy.client, legacy.table)}
    assert (gone["PK"]["S"], gone["SK"]["S"]) not in after
    assert after[changed["PK"]["S"], changed["SK"]["S"]] == changed | meant
    assert (tally.gone, tally.set_, tally.there) == (1, 8, 3)


def test_it_keeps_the_pace(legacy: Legacy):
    began = legacy.clock.at
    list(backfill_ttl(legacy.store, legacy.clock.clock, Pace(page_items=5, items_per_second=10)))
    assert legacy.clock.at - began >= timedelta(seconds=1)


def test_what_fails_is_an_error_and_the_next_run_goes_on(legacy: Legacy):
    calls = 0

    def fail(**_: object) -> Any:  # noqa: ANN401 - a hook's answer
        nonlocal calls
        calls += 1
        return refusal("AccessDeniedException") if calls == 8 else None

    with on_call(legacy.client, "UpdateItem", fail), pytest.raises(SalesUnavailable, match="AccessDenied"):
        legacy.run()
    assert legacy.store.checkpoint() is not None
    assert legacy.run().scanned == 15


def test_a_checkpoint_that_is_none_of_ours_is_told(legacy: Legacy):
    key = {"PK": {"S": "MAINTENANCE#TTL-BACKFILL"}, "SK": {"S": "CHECKPOINT"}}
    legacy.put(key | {"tally": {"S": '{"colour": 1}'}, "afterPK": {"S": "a"}, "afterSK": {"S": "b"}})
    with pytest.raises(SaleUnreadable, match="--restart"):
        legacy.run()
    assert legacy.run(restart=True).set_ == 10
