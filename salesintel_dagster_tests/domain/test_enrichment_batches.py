from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.enrichment.batch import ALLOWED, Lease, ProductStatus, Reason, State, counts, state_of
from salesintel_dagster.domain.enrichment.job import (
    MAX_MESSAGE_BYTES,
    MessageInvalid,
    batch_size,
    job_id,
    message,
    parse_message,
    planned,
    split,
    suggested_sizes,
)
from salesintel_dagster.domain.enrichment.product import (
    MAX_ATTRIBUTE_BYTES,
    CatalogProduct,
    LookUpKey,
    LookUpKind,
    is_product_code,
    parse_product,
    read_catalog,
    same_code,
)
from salesintel_dagster.domain.errors import CatalogInvalid
from salesintel_dagster.domain.sale import Rejection

NOW = datetime(2026, 11, 27, 6, tzinfo=UTC)


def product(number: int, asin: str | None = None, attributes: str = "{}") -> CatalogProduct:
    return CatalogProduct(f"p-{number}", LookUpKey(LookUpKind.ASIN, asin or f"B{number:09d}"), attributes)


class TestALine:
    def test_becomes_a_product_with_its_other_columns_beside_it(self):
        found = parse_product({"Product_ID": " p1 ", "ASIN": "b00abcdef1", "Title": "Röck", "note": ""})
        assert found == CatalogProduct("p1", LookUpKey(LookUpKind.ASIN, "B00ABCDEF1"), '{"title":"R\\u00f6ck"}')

    def test_is_looked_up_by_ean_or_upc_where_it_has_no_asin(self):
        for column, code in (("ean", "4006381333931"), ("upc", "036000291452"), ("code", "96385074")):
            found = parse_product({"product_id": "p1", column: code})
            assert isinstance(found, CatalogProduct)
            assert found.key == LookUpKey(LookUpKind.CODE, code)

    @pytest.mark.parametrize(
        "values,code,field",
        [
            ({"asin": "B000000001"}, "PRODUCT_ID_MISSING", "product_id"),
            ({"product_id": "p\x00", "asin": "B000000001"}, "PRODUCT_ID_INVALID", "product_id"),
            ({"product_id": "p" * 513, "asin": "B000000001"}, "PRODUCT_ID_INVALID", "product_id"),
            ({"product_id": "p", "asin": "B00-000001"}, "ASIN_INVALID", "asin"),
            ({"product_id": "p", "asin": "B0000000011"}, "ASIN_INVALID", "asin"),
            ({"product_id": "p", "ean": "4006381333932"}, "CODE_INVALID", "ean"),
            ({"product_id": "p", "upc": "12"}, "CODE_INVALID", "upc"),
            ({"product_id": "p", "title": "nothing to look it up by"}, "NO_IDENTIFIER", "asin"),
            ({"product_id": "p", "asin": "B000000001", "text": "x" * 40_000}, "ATTRIBUTES_TOO_LARGE", "attributes"),
        ],
    )
    def test_that_breaks_a_rule_is_rejected_with_value_and_rule(self, values: dict[str, str], code: str, field: str):
        found = parse_product(values)
        assert isinstance(found, Rejection)
        assert (found.code, found.field) == (code, field)
        assert found.rule

    def test_one_bad_line_stops_no_other_and_does_not_vanish(self):
        good, bad = {"product_id": "a", "asin": "B000000001"}, {"product_id": "b"}
        read = read_catalog([(2, good), (3, bad), (4, good), (5, {**good, "asin": "B000000002"})])
        assert [found.product_id for found in read.products] == ["a"]
        assert [(line, found.code) for line, found in read.rejections] == [(3, "NO_IDENTIFIER"), (5, "CONFLICT")]

    def test_check_digits_are_checked_and_leading_zeros_do_not_tell_codes_apart(self):
        assert is_product_code("4006381333931")
        assert not is_product_code("4006381333930")
        assert not is_product_code("0000000000000")
        assert not is_product_code("٤006381333931")
        assert same_code("036000291452", "0036000291452")
        assert not same_code("036000291452", "36000291453")


class TestAJob:
    def test_h4_the_same_set_is_the_same_job_whatever_its_order(self):
        some = [product(n) for n in range(5)]
        assert job_id("t", "c", some) == job_id("t", "c", reversed(some))
        assert job_id("t", "c", some) != job_id("t", "c", some[1:])
        assert job_id("t", "c", some) != job_id("u", "c", some)
        assert job_id("t", "c", some) != job_id("t", "d", some)

    @pytest.mark.parametrize(
        "products,sizes,size",
        [
            (1, (10, 15), 15),
            (99, (10, 15), 15),
            (100, (15, 25), 20),
            (500, (15, 25), 20),
            (501, (20, 30), 20),
            (1000, (20, 30), 20),
            (1001, (25, 40), 25),
        ],
    )
    def test_the_size_follows_the_catalog(self, products: int, sizes: tuple[int, int], size: int):
        assert suggested_sizes(products) == sizes
        assert batch_size(products, None) == size
        assert batch_size(products, 50) == 50

    @pytest.mark.parametrize("size", [0, 4, 51])
    def test_a_size_out_of_range_is_refused(self, size: int):
        with pytest.raises(CatalogInvalid, match=f"batch size {size}: expected 5 to 50"):
            batch_size(10, size)

    @given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3_000)), max_size=80), st.integers(5, 50))
    def test_h7_every_product_is_in_one_batch_and_no_batch_is_too_large(self, given: list[tuple[int, int]], size: int):
        some = [
            CatalogProduct(f"p-{n}", LookUpKey(LookUpKind.ASIN, f"B{asin:09d}"), '"' * attributes * 9)
            for n, (asin, attributes) in enumerate(given)
        ]
        batches = list(split(some, size))
        assert sorted(p.product_id for batch in batches for p in batch) == sorted(p.product_id for p in some)
        assert all(0 < len(batch) <= size for batch in batches)
        if batches:
            _, planned_batches = planned(
                tenant="t", catalog_id="c", user_id="u", products=some, size=size, refused=0, now=NOW
            )
            assert all(len(batch.body) <= MAX_MESSAGE_BYTES for batch in planned_batches)
            assert all(parse_message(batch.body) == (batch.key, batch.products) for batch in planned_batches)

    def test_products_of_one_asin_are_asked_for_in_one_batch(self):
        some = [product(n, asin=f"B{n % 7:09d}") for n in range(28)]
        for batch in split(some, 5):
            assert len({p.key for p in batch}) == 1 or len(batch) <= 5
        where = {
            key: {n for n, batch in enumerate(split(some, 10)) if any(p.key == key for p in batch)}
            for key in {p.key for p in some}
        }
        assert all(len(batches) == 1 for batches in where.values())

    @pytest.mark.parametrize(
        "ids", [("T", "c", "u"), ("t", "c#d", "u"), ("t", "", "u"), ("t", "c", "a b"), ("t", "../c", "u")]
    )
    def test_ids_that_could_forge_a_key_are_refused(self, ids: tuple[str, str, str]):
        with pytest.raises(CatalogInvalid, match="expected"):
            planned(
                tenant=ids[0],
                catalog_id=ids[1],
                user_id=ids[2],
                products=[product(1)],
                size=20,
                refused=0,
                now=NOW,
            )

    def test_a_catalog_without_a_product_is_refused(self):
        with pytest.raises(CatalogInvalid, match="no product that can be looked up"):
            planned(tenant="t", catalog_id="c", user_id="u", products=[], size=20, refused=3, now=NOW)

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "null",
            "[]",
            "{}",
            '{"batch":[1,"t","c","E1",1],"products":[["p","asin","B000000001"]]}',
            '{"batch":[2,"t","c","E1",1],"products":[]}',
            '{"batch":[1,"t","c","E1",1],"batch":[1,"t","c","E1",1],"products":[]}',
            '{"batch":[1,"t","c","E1","x"],"products":[]}',
            '{"batch":[1,"t","c","E1",1e999],"products":[]}',
            "[" * 100_000,
            '{"batch":[1,"t","c","E1",1],"products":[["p","title","B000000001","{}"]]}',
            "x" * (MAX_MESSAGE_BYTES + 1),
        ],
    )
    def test_a_message_that_is_not_ours_is_told(self, body: str):
        with pytest.raises(MessageInvalid):
            parse_message(body)


class TestStates:
    def test_only_the_allowed_steps_can_be_made(self):
        for before, after in itertools.product(State, State):
            status = ProductStatus(before)
            if after in ALLOWED[before]:
                assert status.to(after).state is after
            else:
                with pytest.raises(ValueError, match=f"from {before} to {after}"):
                    status.to(after)
        assert not ALLOWED[State.DONE]

    @pytest.mark.parametrize(
        "states,expected",
        [
            ("DONE RUNNING FAILED", "RUNNING"),
            ("DONE RETRY PENDING", "RETRY"),
            ("DONE PENDING", "PENDING"),
            ("DONE FAILED", "DONE"),
            ("FAILED", "FAILED"),
        ],
    )
    def test_a_batch_is_in_the_liveliest_state_of_its_products(self, states: str, expected: str):
        assert state_of([State(word) for word in states.split()]) is State(expected)

    @given(st.lists(st.sampled_from(["claim", "keep", "settle", "send", "reopen"]), max_size=25), st.randoms())
    def test_h10_whatever_happens_the_states_add_up_to_the_products(self, steps: list[str], chance):  # noqa: ANN001
        _, (batch,) = planned(
            tenant="t",
            catalog_id="c",
            user_id="u",
            products=[product(n) for n in range(7)],
            size=7,
            refused=0,
            now=NOW,
        )
        lease = Lease("me", NOW + timedelta(minutes=5))
        for step in steps:
            before = batch
            if step == "claim" and not batch.is_final:
                batch = batch.claimed(lease, NOW)
            elif step == "keep" and batch.lease:
                batch = batch.kept(NOW + timedelta(minutes=9), NOW)
            elif step == "settle" and batch.lease:
                ends = (State.DONE, State.FAILED, State.RETRY)
                batch = batch.settled(
                    tuple(
                        status if status.state is not State.RUNNING else status.to(chance.choice(ends), tried=True)
                        for status in batch.statuses
                    ),
                    None,
                    NOW,
                )
            elif step == "send":
                batch = batch.sent(NOW)
            elif step == "reopen":
                batch = batch.reopened(NOW)
            assert batch is before or batch.version == before.version + 1
            assert sum(counts([batch]).values()) == 7
            assert (batch.finished_at is not None) <= batch.is_final

    def test_a_failed_product_is_told_by_its_reason(self):
        failed = ProductStatus(State.RUNNING).to(State.FAILED, Reason.INVALID, "x" * 500, tried=True)
        assert failed.told == "FAILED_INVALID"
        assert (len(failed.detail), failed.attempts) == (200, 1)

    def test_a_lease_ends_by_itself(self):
        _, (batch,) = planned(
            tenant="t", catalog_id="c", user_id="u", products=[product(1)], size=5, refused=0, now=NOW
        )
        held = batch.claimed(Lease("me", NOW + timedelta(seconds=60)), NOW)
        assert held.held_at(NOW + timedelta(seconds=59)) == held.lease
        assert held.held_at(NOW + timedelta(seconds=60)) is None
        assert replace(held, lease=None).held_at(NOW) is None

    def test_settling_with_too_few_states_is_a_defect_that_is_told(self):
        _, (batch,) = planned(
            tenant="t", catalog_id="c", user_id="u", products=[product(1)], size=5, refused=0, now=NOW
        )
        with pytest.raises(ValueError, match="0 states for 1 products"):
            batch.settled((), None, NOW)


@pytest.mark.parametrize("character,together", [("x", 7), ('"', 3)])
def test_h7_so_many_products_of_the_largest_fit_into_one_message(character: str, together: int):
    values = {"product_id": "p", "asin": "B000000001", "t": ""}
    room = MAX_ATTRIBUTE_BYTES - len('{"t":""}')
    largest = parse_product(values | {"t": character * (room // len(json.dumps(character)[1:-1]))})
    assert isinstance(largest, CatalogProduct)
    batches = list(split([replace(product(n), attributes=largest.attributes) for n in range(2 * together)], 50))
    assert [len(batch) for batch in batches] == [together] * 2


def test_a_message_is_ascii_so_that_a_character_is_a_byte():
    _, (batch,) = planned(
        tenant="t",
        catalog_id="c",
        user_id="u",
        products=[CatalogProduct("p-ö-\U0001f45f", LookUpKey(LookUpKind.ASIN, "B000000001"))],
        size=5,
        refused=0,
        now=NOW,
    )
    assert batch.body.isascii()
    assert batch.body == message(batch.key, batch.products)
