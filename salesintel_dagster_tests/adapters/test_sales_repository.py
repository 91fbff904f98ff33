"""The contract of the sales repository: the same class on the fake and on DynamoDB over HTTP."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.domain.calendar import Hemisphere, Season, season
from salesintel_dagster.domain.errors import RevisionConflict, SaleNotFound, SaleRefused, TenantMismatch
from salesintel_dagster.domain.payload_hash import payload_hash
from salesintel_dagster.domain.retention import ttl_of
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_keys import SaleKey
from salesintel_dagster.domain.sales_repository import (
    ALWAYS,
    CorrectionOutcome,
    HeldSale,
    PageRequest,
    Period,
    PutOutcome,
    SalePage,
    SalesRepository,
    StoredSale,
)
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster_tests.fakes.clocks import SetClock
from salesintel_dagster_tests.fakes.sale_records import DAY, record
from salesintel_dagster_tests.fakes.sales_repository import InMemorySalesRepository
from salesintel_dagster_tests.sales_table import make_table
from salesintel_dagster_tests.services import Services

ACME = CallerContext("acme")


@pytest.fixture(scope="module")
def dynamodb(services: Services) -> AwsClient:
    """One client for all of them (making one takes 0.4 s); each test has a table of its own."""
    return AwsClients(services.aws.new_target()).client("dynamodb")


@pytest.fixture
def held() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "dynamodb"])
def sales(request: pytest.FixtureRequest, held: SetClock) -> SalesRepository:
    if request.param == "memory":
        return InMemorySalesRepository(held.clock)
    client = request.getfixturevalue("dynamodb")
    return DynamoSalesRepository(client, make_table(client), ShardCounts(), held.clock)


def there(sales: SalesRepository, sale_id: str = "S-1", context: CallerContext = ACME) -> StoredSale:
    found = sales.by_sale_id(context, sale_id)
    assert found is not None
    return found


def ids(page: SalePage) -> list[str]:
    return [sale.record.sale_id for sale in page.sales]


class TestEverySalesRepository:
    def test_a_sale_comes_back_as_it_was_put(self, sales: SalesRepository) -> None:
        full = record()
        assert sales.put(ACME, full).outcome is PutOutcome.CREATED
        assert there(sales) == StoredSale(full, 1, ttl_of(DAY))
        assert sales.get(ACME, full.key) == there(sales)
        assert sales.get_many(ACME, [full.key, SaleKey(DAY, "P-1", "none"), full.key]) == (there(sales),)

    def test_so_does_one_with_nothing_but_what_must_be(self, sales: SalesRepository) -> None:
        bare = record(
            category=None,
            brand=None,
            embedding=None,
            listed_price=None,
            days_to_sell=None,
            vendor_id=None,
            description=None,
        )
        sales.put(ACME, bare)
        assert there(sales).record == bare

    def test_the_same_again_is_a_duplicate_and_another_payload_a_conflict(self, sales: SalesRepository) -> None:
        first, other = record(), record(sold_price=Decimal(7))
        created, duplicate, conflict = (sales.put(ACME, one) for one in (first, first, other))
        assert [one.outcome for one in (created, duplicate, conflict)] == list(PutOutcome)
        assert {one.held_hash for one in (created, duplicate, conflict)} == {first.payload_hash}
        assert there(sales).record == first

    @pytest.mark.parametrize("moved", [{"sold_date": date(2026, 10, 1)}, {"product_id": "P-2"}])
    def test_f7_the_same_id_on_another_day_or_product_is_a_conflict_too(
        self, sales: SalesRepository, moved: dict[str, Any]
    ) -> None:
        sales.put(ACME, record())
        result = sales.put(ACME, record(**moved, payload_hash="0" * 64))
        assert (result.outcome, result.held_hash) == (PutOutcome.CONFLICT, record().payload_hash)
        assert ids(sales.brand_prices(ACME, "Ilmari")) == ["S-1"]

    def test_e7_an_expired_sale_is_invisible_and_its_id_is_free(self, sales: SalesRepository, held: SetClock) -> None:
        old = record(sold_date=date(2025, 12, 29))
        sales.put(ACME, old)
        held.at = datetime.fromtimestamp(1830038400 - 1, UTC)
        assert there(sales).ttl == 1830038400
        held.at = datetime.fromtimestamp(1830038400, UTC)
        assert_nothing_of(sales, old)
        with pytest.raises(SaleNotFound):
            sales.update(ACME, "S-1", {"brand": "x"}, 1)
        with pytest.raises(SaleNotFound):
            sales.delete(ACME, "S-1")
        with pytest.raises(SaleNotFound):
            sales.correct(ACME, replace(old, event_version=2))
        again = record(sold_date=date(2027, 12, 30), payload_hash="1" * 64)
        assert sales.put(ACME, again).outcome is PutOutcome.CREATED
        assert there(sales).record == again

    def test_e7_an_expired_sale_is_overwritten_by_a_batch_as_well(self, sales: SalesRepository, held: SetClock) -> None:
        sales.put(ACME, record())
        held.at += timedelta(days=731)
        newer = record(sold_date=held.at.date(), payload_hash="1" * 64)
        assert sales.put_many(ACME, [newer]).created == 1
        assert there(sales).record == newer

    def test_e10_without_brand_and_category_a_sale_is_found_by_every_other_way(self, sales: SalesRepository) -> None:
        bare = record(brand="", category=None)
        sales.put(ACME, bare)
        assert there(sales).record.brand is None
        assert ids(sales.embeddings(ACME, "P-1")) == ids(sales.embeddings(ACME, None)) == ["S-1"]
        assert sales.of_day(ACME, DAY) == (HeldSale("S-1", bare.payload_hash),)
        assert sales.brand_prices(ACME, "").sales == ()

    def test_a_correction_of_a_higher_version_replaces_the_sale(self, sales: SalesRepository) -> None:
        sales.put(ACME, record())
        corrected = record(sold_price=Decimal(30), event_version=2)
        result = sales.correct(ACME, corrected)
        assert (result.outcome, result.held_hash, result.held_version) == (
            CorrectionOutcome.APPLIED,
            corrected.payload_hash,
            2,
        )
        assert there(sales) == StoredSale(corrected, 2, ttl_of(DAY))
        assert sales.put(ACME, corrected).outcome is PutOutcome.DUPLICATE

    @pytest.mark.parametrize(
        "version,price,outcome",
        [
            (3, "3", CorrectionOutcome.DUPLICATE),
            (3, "4", CorrectionOutcome.CONFLICT),
            (2, "2", CorrectionOutcome.STALE),
        ],
    )
    def test_a_correction_that_is_not_higher_changes_nothing(
        self, sales: SalesRepository, version: int, price: str, outcome: CorrectionOutcome
    ) -> None:
        held = record(sold_price=Decimal(3), event_version=3)
        sales.put(ACME, held)
        result = sales.correct(ACME, record(sold_price=Decimal(price), event_version=version))
        assert (result.outcome, result.held_hash, result.held_version) == (outcome, held.payload_hash, 3)
        assert there(sales) == StoredSale(held, 1, ttl_of(DAY))

    @pytest.mark.parametrize("changed", [{"payload_hash": "0" * 64}, {"product_id": "P-2"}])
    def test_what_is_withdrawn_is_gone_and_what_says_something_else_stays(
        self, sales: SalesRepository, changed: dict[str, Any]
    ) -> None:
        sales.put(ACME, record())
        assert not sales.withdraw(ACME, record(**changed))
        assert there(sales).record == record()
        assert sales.withdraw(ACME, record())
        assert not sales.withdraw(ACME, record())
        assert_nothing_of(sales, record())
        assert sales.put(ACME, record()).outcome is PutOutcome.CREATED

    def test_a_correction_that_moves_the_sale_takes_the_old_item_along(self, sales: SalesRepository) -> None:
        sales.put(ACME, record())
        day = date(2026, 12, 3)
        moved = record(event_version=2, product_id="P-2", sold_date=day, brand="Tarn", payload_hash="2" * 64)
        assert sales.correct(ACME, moved).outcome is CorrectionOutcome.APPLIED
        assert_nothing_of(sales, record(), but_its_id=True)
        assert there(sales) == StoredSale(moved, 2, ttl_of(day))
        assert ids(sales.category_season(ACME, "dress", Season.WINTER)) == ["S-1"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"sold_price": Decimal("12.34")},
            {"category": "coat"},
            {"category": None},
            {"brand": "Tarn", "condition": "new"},
            {"brand": ""},
            {"product_id": "P-2"},
            {"embedding": None},
            {"sold_date": date(2026, 12, 1), "sold_at": datetime(2026, 12, 1, 8, tzinfo=UTC)},
        ],
        ids="-".join,
    )
    def test_g7_after_an_update_every_way_leads_to_the_new_and_none_to_the_old(
        self, sales: SalesRepository, changes: dict[str, Any]
    ) -> None:
        sales.put(ACME, record())
        updated = sales.update(ACME, "S-1", changes, 1)
        assert updated == there(sales)
        new = updated.record
        assert updated.revision == 2
        assert updated.ttl == ttl_of(new.sold_date)
        assert new.payload_hash == record().payload_hash
        assert all(getattr(new, name) == (value or None) for name, value in changes.items())
        for sale in (record(), new):
            found = [
                sales.get(ACME, sale.key),
                *sales.category_season(ACME, sale.category or "-", sale.season).sales,
                *sales.brand_prices(ACME, sale.brand or "-", Period(sale.sold_date, sale.sold_date)).sales,
                *sales.embeddings(ACME, sale.product_id).sales,
            ]
            assert {one for one in found if one is not None} <= {updated}
        asked = Period(new.sold_date, new.sold_date)
        assert ids(sales.category_season(ACME, new.category or "-", new.season, asked)) == ["S-1"] * bool(new.category)
        assert ids(sales.brand_prices(ACME, new.brand or "-", asked)) == ["S-1"] * bool(new.brand)
        assert ids(sales.embeddings(ACME, new.product_id, asked)) == ["S-1"] * bool(new.embedding)
        assert sales.of_day(ACME, new.sold_date) == (HeldSale("S-1", new.payload_hash),)

    def test_g7_a_lost_update_is_refused(self, sales: SalesRepository) -> None:
        sales.put(ACME, record())
        sales.update(ACME, "S-1", {"brand": "first"}, 1)
        with pytest.raises(RevisionConflict, match="at revision 2, not 1"):
            sales.update(ACME, "S-1", {"brand": "second"}, 1)
        with pytest.raises(RevisionConflict, match="at revision 2, not 1"):
            sales.delete(ACME, "S-1", 1)
        assert there(sales).record.brand == "first"

    def test_a_deleted_sale_is_gone_from_every_way_and_its_id_is_free(self, sales: SalesRepository) -> None:
        sales.put(ACME, record())
        assert sales.delete(ACME, "S-1", 1).record == record()
        assert_nothing_of(sales, record())
        assert sales.put(ACME, record(sold_price=Decimal(1))).outcome is PutOutcome.CREATED

    def test_g8_a_missing_sale_is_not_found_by_update_delete_and_correct(self, sales: SalesRepository) -> None:
        with pytest.raises(SaleNotFound, match="tenant acme has no sale 'none'"):
            sales.update(ACME, "none", {"brand": "x"}, 1)
        with pytest.raises(SaleNotFound):
            sales.delete(ACME, "none")
        with pytest.raises(SaleNotFound):
            sales.correct(ACME, record("none", event_version=2))
        assert sales.by_sale_id(ACME, "none") is None
        assert_nothing_of(sales, record("none"))

    @pytest.mark.parametrize("size", [0, 1, 25, 26, 100, pytest.param(1000, marks=pytest.mark.slow)])
    def test_g9_a_batch_of_any_size_is_written_as_a_whole(self, sales: SalesRepository, size: int) -> None:
        batch = [record(f"S-{n}", product_id=f"P-{n % 7}") for n in range(size)]
        report = sales.put_many(ACME, batch)
        assert (report.created, report.total) == (size, size)
        assert sales.of_day(ACME, DAY) == tuple(sorted(HeldSale(one.sale_id, one.payload_hash) for one in batch))
        again = sales.put_many(ACME, batch)
        assert (again.created, again.duplicates) == (0, size)
        if batch:
            assert there(sales, batch[-1].sale_id) == StoredSale(batch[-1], 1, ttl_of(DAY))

    def test_g9_repetitions_and_contradictions_in_a_batch_are_counted(self, sales: SalesRepository) -> None:
        sales.put(ACME, record("held"))
        batch = [
            record("a"),
            record("a"),
            record("a", sold_price=Decimal(1)),
            record("held"),
            record("b"),
            record("held-2"),
            record("held", sold_price=Decimal(2)),
        ]
        report = sales.put_many(ACME, batch)
        assert (report.created, report.duplicates, report.repeated, report.total) == (3, 1, 1, 7)
        assert [one.sale_id for one in report.conflicts] == ["a", "held"]
        assert record("a").payload_hash in report.conflicts[0].reason
        assert there(sales, "a").record == record("a")

    def test_e6_what_cannot_be_stored_is_told_and_the_rest_is_written(self, sales: SalesRepository) -> None:
        misfits = [
            record("huge", description="d" * 400_000),
            record("long-product", product_id="#" * 1_000),
            record("s" * 1_100),
        ]
        report = sales.put_many(ACME, [record("a"), *misfits, record("b")])
        assert (report.created, report.total) == (2, 5)
        assert [one.sale_id for one in report.refused] == [one.sale_id for one in misfits]
        assert [one.reason.split(":")[0] for one in report.refused] == ["sale", "product_id", "sale_id"]
        assert [one.sale_id for one in sales.of_day(ACME, DAY)] == ["a", "b"]
        for misfit in misfits:
            with pytest.raises(SaleRefused):
                sales.put(ACME, misfit)

    def test_g1_a_record_of_another_tenant_is_refused_by_every_write(self, sales: SalesRepository) -> None:
        other = record(tenant="other")
        for write in (sales.put, sales.correct, lambda context, one: sales.put_many(context, [record("a"), one])):
            with pytest.raises(TenantMismatch):
                write(ACME, other)
        assert sales.of_day(ACME, DAY) == ()

    def test_f25_tenants_that_look_alike_are_apart(self, sales: SalesRepository) -> None:
        tenants = ["t", "t-1", "t1"]
        for tenant in tenants:
            assert sales.put(CallerContext(tenant), record(tenant=tenant)).outcome is PutOutcome.CREATED
        for tenant in tenants:
            context = CallerContext(tenant)
            found = [*sales.brand_prices(context, "Ilmari").sales, *sales.embeddings(context, None).sales]
            assert {sale.record.tenant for sale in found} == {tenant}

    def test_g13_embeddings_of_a_product_by_days_with_both_ends_included(self, sales: SalesRepository) -> None:
        days = [DAY + timedelta(days=n) for n in range(-2, 3)]
        for day in days:
            sales.put(ACME, record(f"S-{day.day}", sold_date=day))
        sales.put(ACME, record("none", embedding=None))
        sales.put(ACME, record("other product", product_id="P-1#"))
        period = Period(days[1], days[3])
        assert ids(sales.embeddings(ACME, "P-1", period)) == ["S-19", "S-20", "S-21"]
        assert ids(sales.embeddings(ACME, "P-1", Period(DAY, DAY))) == ["S-20"]
        assert ids(sales.embeddings(ACME, "P-1")) == ["S-18", "S-19", "S-20", "S-21", "S-22"]
        assert len(ids(sales.embeddings(ACME, None))) == 6
        first = sales.embeddings(ACME, "P-1", page=PageRequest(2))
        assert ids(first) == ["S-18", "S-19"]
        assert ids(sales.embeddings(ACME, "P-1", page=PageRequest(3, first.after))) == ["S-20", "S-21", "S-22"]

    def test_a_page_behind_the_period_is_empty(self, sales: SalesRepository) -> None:
        sales.put(ACME, record())
        late = PageRequest(5, SaleKey(DAY + timedelta(days=9), "P", "S"))
        assert sales.brand_prices(ACME, "Ilmari", Period(DAY, DAY), late) == SalePage(())

    @pytest.mark.slow
    def test_g5_every_question_equals_brute_force(self, sales: SalesRepository, held: SetClock) -> None:
        chance = random.Random(11)
        written = [_random_sale(chance, n) for n in range(120)]
        assert sales.put_many(ACME, written).created == len(written)
        sales.put_many(CallerContext("other"), [replace(one, tenant="other") for one in written])
        live = [one for one in written if ttl_of(one.sold_date) > held.at.timestamp()]
        assert len(live) < len(written)
        winter = Period(date(2025, 12, 1), date(2026, 2, 28))
        for period, limit in ((ALWAYS, 1000), (winter, 3), (Period(DAY - timedelta(days=9), DAY), 7)):
            within = [one for one in live if period.holds(one.sold_date)]
            for category in ("dress", "a#b", "none"):
                for one_season in Season:
                    expected = [one for one in within if (one.category, one.season) == (category, one_season)]
                    _assert_pages(partial(sales.category_season, ACME, category, one_season, period), expected, limit)
            for brand in ("Ilmari", "100%"):
                expected = [one for one in within if one.brand == brand]
                _assert_pages(partial(sales.brand_prices, ACME, brand, period), expected, limit)
            for product in ("P-1", "P-2", None):
                expected = [one for one in within if one.embedding and product in (None, one.product_id)]
                _assert_pages(partial(sales.embeddings, ACME, product, period), expected, limit)

    def test_g5_crowded_days_come_page_by_page_in_the_order_of_keys(self, sales: SalesRepository) -> None:
        """Within a day an index goes by escaped keys, where `#` comes behind `$`: a page must not cut a day there."""
        batch = [
            record(f"S-{n}", product_id="P#" if n % 2 else "P$", sold_date=DAY - timedelta(days=n % 3))
            for n in range(210)
        ]
        assert sales.put_many(ACME, batch).created == 210
        _assert_pages(partial(sales.brand_prices, ACME, "Ilmari", ALWAYS), batch, 100)
        _assert_pages(partial(sales.category_season, ACME, "dress", Season.AUTUMN, ALWAYS), batch, 60)
        _assert_pages(partial(sales.embeddings, ACME, None, ALWAYS), batch, 60)
        _assert_pages(
            partial(sales.embeddings, ACME, "P#", ALWAYS), [one for one in batch if one.product_id == "P#"], 40
        )

    @pytest.mark.parametrize("text", ["x" * 2_049, "#" * 800, "half \ud83d"], ids=["long", "escaped", "half"])
    def test_a_text_that_can_be_no_key_is_refused_by_every_question(self, sales: SalesRepository, text: str) -> None:
        for field, ask in {
            "sale_id": lambda: sales.by_sale_id(ACME, text),
            "key": lambda: sales.get(ACME, SaleKey(DAY, "P-1", text)),
            "category": lambda: sales.category_season(ACME, text, Season.AUTUMN),
            "product_id": lambda: sales.embeddings(ACME, text),
            "brand": lambda: sales.brand_prices(ACME, text),
        }.items():
            with pytest.raises(SaleRefused) as refused:
                ask()
            assert refused.value.field == field
        with pytest.raises(SaleRefused):
            sales.get_many(ACME, [SaleKey(DAY, text, "S")])

    @pytest.mark.parametrize("limit", [0, -1, 10_001])
    def test_a_limit_out_of_range_is_refused(self, limit: int) -> None:
        with pytest.raises(SaleRefused, match=r"^limit: -?\d+: between 1 and 10000"):
            PageRequest(limit)

    def test_a_period_of_the_wrong_way_round_is_refused(self) -> None:
        with pytest.raises(SaleRefused, match=r"^period: 2026-11-20..2026-11-19: the first day"):
            Period(DAY, DAY - timedelta(days=1))


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.text("#%25 ", min_size=1, max_size=12),
    st.just("x" * 300),
).filter(lambda text: text.strip())


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sale_id=TEXTS, product=TEXTS, category=TEXTS, brand=TEXTS)
@example(sale_id="#", product="%23", category="#SHARD#1", brand="\U0010ffff")
@example(sale_id="\x00\n", product="a" * 500, category="%", brand="é" * 300)
def test_g2_whatever_an_id_holds_it_goes_all_the_way(
    sales: SalesRepository, sale_id: str, product: str, category: str, brand: str
):
    sale = record(sale_id, product_id=product, category=category, brand=brand)
    assert sales.put(ACME, sale).outcome is PutOutcome.CREATED
    assert sales.put(ACME, sale).outcome is PutOutcome.DUPLICATE
    stored = there(sales, sale_id)
    assert stored.record == sale
    assert sales.get(ACME, sale.key) == stored
    assert sales.category_season(ACME, category, Season.AUTUMN).sales == (stored,)
    assert sales.brand_prices(ACME, brand).sales == sales.embeddings(ACME, product).sales == (stored,)
    updated = sales.update(ACME, sale_id, {"product_id": product + "#", "brand": brand + "%"}, 1)
    assert sales.brand_prices(ACME, brand + "%").sales == (updated,)
    assert sales.delete(ACME, sale_id) == updated
    assert_nothing_of(sales, updated.record)


def assert_nothing_of(sales: SalesRepository, sale: SaleRecord, *, but_its_id: bool = False) -> None:
    """No way leads to the sale as it was."""
    context = CallerContext(sale.tenant)
    assert but_its_id or sales.by_sale_id(context, sale.sale_id) is None
    assert sales.get(context, sale.key) is None
    assert sales.get_many(context, [sale.key]) == ()
    found = [
        *sales.category_season(context, sale.category or "-", sale.season).sales,
        *sales.brand_prices(context, sale.brand or "-").sales,
        *sales.embeddings(context, sale.product_id).sales,
    ]
    assert sale.sale_id not in [one.record.sale_id for one in found]
    assert sale.sale_id not in [one.sale_id for one in sales.of_day(context, sale.sold_date)]


def _random_sale(chance: random.Random, number: int) -> SaleRecord:
    day = DAY - timedelta(days=chance.choice([0, 0, 1, 2, 30, 280, 300, 355, 360, 700, 720, 730, 800]))
    return record(
        f"S{chance.choice(['', '#', '%', '$'])}{number}",
        product_id=chance.choice(["P-1", "P-2", "P#3"]),
        category=chance.choice(["dress", "a#b", None]),
        brand=chance.choice(["Ilmari", "100%", None]),
        sold_date=day,
        season=season(day, Hemisphere.NORTH),
        embedding=chance.choice([record().embedding, None]),
        payload_hash=payload_hash({"n": number}),
    )


def _assert_pages(ask: Any, expected: list[SaleRecord], limit: int) -> None:  # noqa: ANN401 - a question
    """Both ways: all at once, and page by page, no page empty but an empty answer's."""
    wanted = sorted(expected, key=lambda one: one.key)
    assert [sale.record for sale in ask(PageRequest()).sales] == wanted
    found: list[SaleRecord] = []
    page = ask(PageRequest(limit))
    while True:
        found += [sale.record for sale in page.sales]
        assert len(page.sales) == min(limit, len(wanted) - len(found) + len(page.sales))
        if page.after is None:
            break
        page = ask(PageRequest(limit, page.after))
    assert found == wanted
