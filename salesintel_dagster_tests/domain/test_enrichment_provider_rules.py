from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.enrichment.facts import LookUp, NoFacts, ProductFacts
from salesintel_dagster.domain.enrichment.keepa import facts_of, moment, products_of, token_level
from salesintel_dagster.domain.enrichment.product import LookUpKind
from salesintel_dagster.domain.enrichment.tokens import LONGEST_WAIT_SECONDS, TokenLevel

NOW = datetime(2026, 11, 27, 6, tzinfo=UTC)
ASIN = "B000000001"


def keepa_product(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any wrong type
    current: list[Any] = [1999, 1899, -1, 4321, 2499, -2] + [-1] * 12 + [1850]
    product = {
        "asin": ASIN,
        "productType": 0,
        "title": "A red\tdress",
        "brand": "Brisa",
        "categoryTree": [{"catId": 1, "name": "Clothing"}, {"catId": 2, "name": "Dresses"}],
        "stats": {"current": current},
        "imagesCSV": "51abc+DEF.jpg,61x.jpg",
        "lastUpdate": 8_000_000,
        "eanList": ["4006381333931"],
        "upcList": None,
    }
    return product | changes


def facts(product: object, domain: int = 3) -> ProductFacts | NoFacts:
    return facts_of([product], LookUp(LookUpKind.ASIN, (ASIN,)), domain)[ASIN]


class TestFacts:
    def test_values_are_read_as_keepa_writes_them(self):
        assert facts(keepa_product()) == ProductFacts(
            asin=ASIN,
            title="A red dress",
            brand="Brisa",
            category="Dresses",
            category_path="Clothing > Dresses",
            prices={
                "amazon": Decimal("19.99"),
                "new": Decimal("18.99"),
                "list": Decimal("24.99"),
            },
            currency="EUR",
            sales_rank=4321,
            image_urls=(
                "https://m.media-amazon.com/images/I/51abc+DEF.jpg",
                "https://m.media-amazon.com/images/I/61x.jpg",
            ),
            updated_at=datetime(2026, 3, 18, 13, 20, tzinfo=UTC),
        )

    def test_time_is_minutes_since_2011(self):
        assert moment(0) == datetime(2011, 1, 1, tzinfo=UTC)
        assert moment(8_000_000).timestamp() == (8_000_000 + 21_564_000) * 60

    def test_minus_one_and_minus_two_and_a_short_list_mean_that_there_is_no_value(self):
        found = facts(keepa_product(stats={"current": [-1, -2]}, images=None, imagesCSV=None, categoryTree=None))
        assert isinstance(found, ProductFacts)
        assert (found.prices, found.sales_rank, found.image_urls, found.category) == ({}, None, (), None)

    def test_yen_have_no_cents(self):
        found = facts(keepa_product(), domain=5)
        assert isinstance(found, ProductFacts)
        assert (found.prices["amazon"], found.currency) == (Decimal(1999), "JPY")

    def test_images_come_as_objects_too(self):
        found = facts(keepa_product(images=[{"l": "71a.jpg", "lH": 500}, {"m": "71b.jpg"}]))
        assert isinstance(found, ProductFacts)
        assert [url.rpartition("/")[2] for url in found.image_urls] == ["71a.jpg", "71b.jpg"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"title": 7},
            {"title": "x" * 2_001},
            {"brand": ["Brisa"]},
            {"stats": {"current": "1999"}},
            {"stats": {"current": [-3]}},
            {"stats": {"current": [1999.5]}},
            {"stats": {"current": [True]}},
            {"stats": {"current": [[1]]}},
            {"stats": {"current": [10**15 + 1]}},
            {"stats": {"current": [0, 0, 0, -5]}},
            {"stats": [1]},
            {"categoryTree": "Dresses"},
            {"categoryTree": [{"catId": 1}]},
            {"categoryTree": [7]},
            {"categoryTree": [{"name": "x"}] * 21},
            {"imagesCSV": "../../etc/passwd"},
            {"imagesCSV": "a.jpg," * 51},
            {"images": [{"l": "http://evil/x.jpg"}]},
            {"lastUpdate": -5},
            {"lastUpdate": 10**12},
            {"lastUpdate": "yesterday"},
            {"productType": []},
        ],
        ids=lambda changes: str(changes)[:40],
    )
    def test_h9_wrong_types_and_impossible_values_give_no_facts_and_the_rule(self, changes: dict[str, Any]):
        found = facts(keepa_product(**changes)) if changes != {"stats": [1]} else facts(keepa_product(stats=7))
        assert isinstance(found, NoFacts), found
        assert found.reason is Reason.INVALID
        assert found.detail

    @pytest.mark.parametrize("changes", [{"productType": 4}, {"productType": 3}, {"title": None}])
    def test_a_product_of_which_nothing_is_known_is_not_found(self, changes: dict[str, Any]):
        found = facts(keepa_product(**changes))
        assert isinstance(found, NoFacts)
        assert found.reason is Reason.NOT_FOUND

    def test_answers_are_matched_by_asin_and_not_by_position(self):
        request = LookUp(LookUpKind.ASIN, ("B000000001", "B000000002", "B000000003"))
        products = [keepa_product(asin="B000000003", title="three"), keepa_product(asin="B000000001", title="one"), 7]
        found = facts_of([*products, keepa_product(asin="B000000009")], request, 3)
        titles = {asin: one.title if isinstance(one, ProductFacts) else one.reason for asin, one in found.items()}
        assert titles == {"B000000001": "one", "B000000002": Reason.NOT_FOUND, "B000000003": "three"}

    def test_two_answers_for_one_asin_are_none(self):
        request = LookUp(LookUpKind.ASIN, (ASIN,))
        found = facts_of([keepa_product(), keepa_product(title="other")], request, 3)[ASIN]
        assert isinstance(found, NoFacts)
        assert found.reason is Reason.INVALID

    def test_of_several_products_of_a_code_the_best_selling_is_taken_and_the_others_counted(self):
        request = LookUp(LookUpKind.CODE, ("4006381333931", "96385074"))
        ranked = {"current": [-1, -1, -1, 10]}
        products = [
            keepa_product(asin="B00000000A"),
            keepa_product(asin="B00000000B", stats=ranked),
            keepa_product(asin="B00000000C", eanList=None, upcList=["4006381333931"], stats=None),
            keepa_product(asin="B00000000D", eanList=["96385075", 7]),
        ]
        found = facts_of(products, request, 3)
        best = found["4006381333931"]
        assert isinstance(best, ProductFacts)
        assert (best.asin, best.matches) == ("B00000000B", 3)
        assert isinstance(found["96385074"], NoFacts)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(keepa_product())), inner),
            max_leaves=20,
        )
    )
    def test_h9_no_answer_makes_the_reading_fail(self, junk: object):
        changed = keepa_product(**junk, asin=ASIN) if isinstance(junk, dict) and "asin" not in junk else junk
        assert isinstance(facts(changed), ProductFacts | NoFacts)
        products_of(junk)
        token_level(junk, NOW)


class TestTokens:
    LEVEL = TokenLevel(left=-4, refill_in_seconds=30, refill_per_minute=5, observed_at=NOW)

    def test_h6_the_wait_is_refill_in_and_missing_by_refill_rate(self):
        assert self.LEVEL.wait_seconds(1, NOW) == 30 + 5 / 5 * 60
        assert self.LEVEL.wait_seconds(21, NOW) == 30 + 25 / 5 * 60
        assert self.LEVEL.wait_seconds(1, NOW + timedelta(seconds=60)) == 30
        assert self.LEVEL.wait_seconds(1, NOW + timedelta(hours=1)) == 0

    def test_no_wait_where_there_are_enough(self):
        assert TokenLevel(20, 1, 5, NOW).wait_seconds(20, NOW) == 0
        assert TokenLevel(20, 1, 5, NOW).less(1).wait_seconds(20, NOW) == 1 + 12

    def test_more_than_the_bucket_holds_is_not_waited_for(self):
        assert TokenLevel(60, 0, 1, NOW).wait_seconds(100, NOW) == 0
        assert TokenLevel(59, 0, 1, NOW).wait_seconds(100, NOW) == 60

    def test_a_bucket_that_never_refills_is_asked_again_after_an_hour(self):
        hour = timedelta(seconds=LONGEST_WAIT_SECONDS)
        for level in (TokenLevel(0, 0, 0, NOW), TokenLevel(-(10**9), 0, 1, NOW)):
            assert level.wait_seconds(1, NOW) == LONGEST_WAIT_SECONDS
            assert level.wait_seconds(1, NOW + hour) == 0

    def test_the_level_now_is_told_up_to_what_the_bucket_holds(self):
        assert self.LEVEL.at(NOW) == -4
        assert self.LEVEL.at(NOW + timedelta(seconds=90)) == 1
        assert self.LEVEL.at(NOW + timedelta(days=1)) == 300

    def test_it_is_read_from_every_answer_errors_too(self):
        answer = {"tokensLeft": -4, "refillIn": 30_000, "refillRate": 5, "error": {"message": "no tokens"}}
        assert token_level(answer, NOW) == self.LEVEL

    @pytest.mark.parametrize(
        "changes",
        [
            {"tokensLeft": "many"},
            {"refillIn": -1},
            {"refillRate": -1},
            {"refillRate": float("nan")},
            {"refillIn": None},
        ],
    )
    def test_h9_a_level_that_cannot_be_is_not_believed(self, changes: dict[str, Any]):
        assert token_level({"tokensLeft": 1, "refillIn": 1, "refillRate": 1} | changes, NOW) is None

    @given(st.integers(-1000, 1000), st.floats(0, 600), st.integers(0, 100), st.integers(1, 200), st.floats(0, 7200))
    def test_after_the_wait_there_are_enough_or_the_answer_is_an_hour_old(
        self, left: int, refill_in: float, rate: int, needed: int, later: float
    ):
        level = TokenLevel(left, refill_in, rate, NOW)
        now = NOW + timedelta(seconds=later)
        wait = level.wait_seconds(needed, now)
        assert 0 <= wait <= LONGEST_WAIT_SECONDS
        if later + wait < LONGEST_WAIT_SECONDS - 1:  # an hour after the answer it is asked again, whatever it said
            assert level.at(now + timedelta(seconds=wait + 0.001)) >= min(needed, max(level.capacity, 1)) - 0.01
