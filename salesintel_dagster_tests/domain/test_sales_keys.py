from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.errors import SaleRefused, TenantMismatch
from salesintel_dagster.domain.sales_keys import (
    KeyPair,
    SaleKey,
    brand_partition,
    category_partition,
    embedding_partition,
    escaped,
    guard_key_pair,
    index_keys,
    key_text,
    product_partition,
    read_key_text,
    read_sale_key,
    sale_key_pair,
    season_sort_key,
    unescaped,
)
from salesintel_dagster.domain.shards import ShardCounts, shard_of
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster_tests.fakes.sale_records import DAY, record

TEXTS = st.one_of(
    st.text(min_size=1).filter(lambda text: text.isprintable() or not re.search("[\ud800-\udfff]", text)),
    st.text("#%25 3ab", min_size=1),
).filter(lambda text: not re.search("[\ud800-\udfff]", text))
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
TENANTS = st.builds(str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "-", max_size=62))
KEYS = st.builds(SaleKey, st.dates(), TEXTS, TEXTS)


class TestEscaping:
    @given(TEXTS)
    @example("%23")
    @example("#")
    @example("%2523#%")
    @example("%C3%A9 é %")
    def test_g2_a_part_comes_back_as_it_was_and_holds_no_divider(self, text: str) -> None:
        assert unescaped(escaped(text)) == text
        assert "#" not in escaped(text)

    @given(TEXTS, TEXTS)
    @example("#", "%23")
    def test_g2_two_parts_are_one_only_when_they_are(self, one: str, other: str) -> None:
        assert (escaped(one) == escaped(other)) == (one == other)


class TestKeys:
    def test_they_are_those_of_the_design(self) -> None:
        sale = record("S-1", product_id="P#1", tenant="carousel-labs")
        shards = ShardCounts()
        assert sale_key_pair(sale.tenant, sale.key) == KeyPair(
            "TENANT#carousel-labs#PRODUCT#P%231", "SALE#2026-11-20#S-1"
        )
        assert guard_key_pair(sale.tenant, "S-1") == KeyPair("TENANT#carousel-labs#SALEID#S-1", "UNIQUE")
        assert index_keys(sale, shards) == {
            "GSI1": KeyPair(
                f"TENANT#carousel-labs#CATEGORY#dress#SHARD#{shard_of('S-1', 10)}", "SEASON#AUTUMN#DATE#2026-11-20"
            ),
            "GSI2": KeyPair(f"TENANT#carousel-labs#EMBTYPE#PRODUCT#SHARD#{shard_of('S-1', 5)}", "DATE#2026-11-20"),
            "GSI3": KeyPair("TENANT#carousel-labs#BRAND#Ilmari", "DATE#2026-11-20"),
        }

    @pytest.mark.parametrize("empty", [None, "", "  "])
    def test_e10_an_absent_brand_or_category_leaves_its_index_out(self, empty: str | None) -> None:
        sale = record(brand=empty, category=empty)
        assert (sale.brand, sale.category) == (None, None)
        assert set(index_keys(sale, ShardCounts())) == {"GSI2"}

    @given(TENANTS, KEYS)
    def test_g2_a_sales_key_is_read_back(self, tenant: str, key: SaleKey) -> None:
        assert read_sale_key(sale_key_pair(tenant, key)) == (tenant, key)

    @given(KEYS)
    def test_g2_a_key_as_a_text_is_read_back(self, key: SaleKey) -> None:
        assert read_key_text(key_text(key)) == key
        assert re.fullmatch(r"[\w.~%#-]+", key_text(key), re.ASCII), "it goes through a shell in single quotes"

    @pytest.mark.parametrize(
        "text", ["", "2026-11-20", "2026-02-30#a#b", "2026-11-20#a#b#c", "x#y#z", "2026-11-20#%ff#b"]
    )
    def test_a_text_that_is_no_key_is_refused(self, text: str) -> None:
        with pytest.raises(SaleRefused, match=r"^after: "):
            read_key_text(text)

    @given(TENANTS, KEYS, TENANTS, KEYS)
    @example("t", SaleKey(DAY, "a#SALE", "b"), "t", SaleKey(DAY, "a", "SALE#b"))
    def test_g2_f25_two_sales_share_a_key_only_when_they_are_one(
        self, tenant: str, key: SaleKey, other: str, other_key: SaleKey
    ) -> None:
        same = (tenant, key) == (other, other_key)
        assert (sale_key_pair(tenant, key) == sale_key_pair(other, other_key)) == same

    @given(TEXTS, TEXTS, st.integers(0, 9), st.integers(0, 9))
    @example("a", "a#SHARD#1", 1, 1)
    def test_g2_no_two_partitions_of_whatever_kind_are_one(self, one: str, other: str, n: int, m: int) -> None:
        def partitions(text: str, shard: int) -> list[str]:
            return [
                product_partition("t", text),
                guard_key_pair("t", text).partition,
                brand_partition("t", text),
                category_partition("t", text, shard),
            ]

        made = [*partitions(one, n), *partitions(other, m), embedding_partition("t", n)]
        distinct = {("p", one), ("p", other), ("g", one), ("g", other), ("b", one), ("b", other)}
        distinct |= {("c", f"{one!r}{n}"), ("c", f"{other!r}{m}")}
        assert len(set(made)) == len(distinct) + 1

    @pytest.mark.parametrize(
        "pair",
        [
            KeyPair("TENANT#t#SALEID#a", "UNIQUE"),
            KeyPair("SHARDS", "CONFIG"),
            KeyPair("TENANT#t#PRODUCT#p", "SALE#2026-02-30#a"),
            KeyPair("TENANT#t#PRODUCT#p#q", "SALE#2026-02-28#a"),
            KeyPair("TENANT#t#PRODUCT#100%", "SALE#2026-02-28#a"),
            KeyPair("TENANT#t#PRODUCT#50%ff", "SALE#2026-02-28#a"),
            KeyPair("TENANT#t#PRODUCT#p", "SALE#2026-02-28#%41"),
            KeyPair("TENANT#t#PRODUCT#p", "SALE#\u0662\u0660\u0662\u0666-02-28#a"),
        ],
    )
    def test_g2_what_is_no_key_of_ours_is_none_also_where_ids_were_written_unescaped(self, pair: KeyPair) -> None:
        assert read_sale_key(pair) is None

    def test_days_sort_as_text_within_a_season(self) -> None:
        days = [date(999, 12, 31), date(2025, 12, 1), date(2026, 1, 31), date(2026, 2, 28)]
        made = [season_sort_key(Season.WINTER, day) for day in days]
        assert made == sorted(made)

    @given(KEYS, KEYS)
    def test_a_day_bounds_its_sort_keys(self, one: SaleKey, other: SaleKey) -> None:
        inside = f"SALE#{one.sold_date.isoformat()}#" <= sale_key_pair("t", other).sort
        inside = inside and sale_key_pair("t", other).sort <= f"SALE#{one.sold_date.isoformat()}$"
        assert inside == (one.sold_date == other.sold_date)


class TestCaller:
    @pytest.mark.parametrize("tenant", ["", "T", "a_b", "t#1", "-t", "t" * 64, "té", "t\n", None, 7])
    def test_f25_a_tenant_that_breaks_the_pattern_is_no_caller(self, tenant: object) -> None:
        with pytest.raises(SaleRefused, match=r"^tenant: .*: a tenant matches"):
            CallerContext(tenant)  # type: ignore[arg-type]

    def test_there_is_no_default_tenant(self) -> None:
        with pytest.raises(TypeError):
            CallerContext()  # type: ignore[call-arg]

    def test_another_tenants_sale_is_refused_without_naming_the_tenant(self) -> None:
        CallerContext("t").require("t")
        with pytest.raises(TenantMismatch) as refused:
            CallerContext("t").require("secret-tenant")
        assert "secret-tenant" not in str(refused.value)
