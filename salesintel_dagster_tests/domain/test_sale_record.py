from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.errors import SaleRefused
from salesintel_dagster.domain.payload_hash import payload_hash
from salesintel_dagster.domain.sale_changes import CHANGEABLE_FIELDS, IDENTITY_FIELDS, changed, require_storable
from salesintel_dagster.domain.sale_record import EmbeddingPointer, SaleRecord
from salesintel_dagster_tests.fakes.sale_records import DAY, record


class TestRecord:
    @pytest.mark.parametrize("name", ["sold_price", "listed_price"])
    @pytest.mark.parametrize(
        "price",
        [
            9.99,
            10,
            "10",
            Decimal("NaN"),
            Decimal("sNaN"),
            Decimal("Infinity"),
            Decimal("-Infinity"),
            Decimal("1" * 39),
            Decimal("0." + "1" * 39),
            Decimal("1e126"),
            Decimal("1e-126"),
            Decimal("9.999"),
            Decimal("9999999999999999.999"),
            Decimal(0),
            Decimal(-1),
            True,
        ],
        ids=str,
    )
    def test_e5_what_is_no_price_is_refused_with_the_name_of_its_field(self, name: str, price: object) -> None:
        with pytest.raises(SaleRefused, match=rf"^{name}: ") as refused:
            record(**{name: price})
        assert refused.value.field == name

    @pytest.mark.parametrize("price", ["0.01", "10", "10.0", "1E+1", "9999999999999999.99"])
    def test_a_price_is_kept_to_the_cent(self, price: str) -> None:
        kept = record(sold_price=Decimal(price)).sold_price
        assert kept == Decimal(price)
        assert kept.as_tuple().exponent == -2

    @pytest.mark.parametrize(
        "name,value",
        [
            ("tenant", "Not A Tenant"),
            ("sale_id", ""),
            ("sale_id", " "),
            ("sale_id", 7),
            ("product_id", "half \ud83d"),
            ("product_id", None),
            ("category", 3),
            ("brand", "\udfff"),
            ("condition", "as new"),
            ("condition", ["good"]),
            ("currency", "EURO"),
            ("currency", ["EUR"]),
            ("sold_at", datetime(2026, 11, 20)),  # noqa: DTZ001 - that is what is refused
            ("sold_at", "2026-11-20"),
            ("sold_date", datetime(2026, 11, 20, tzinfo=UTC)),
            ("season", "MONSOON"),
            ("source_system", ""),
            ("days_to_sell", -1),
            ("days_to_sell", 1.5),
            ("payload_hash", "abc"),
            ("payload_hash", "A" * 64),
            ("event_version", 0),
            ("event_version", True),
        ],
    )
    def test_a_value_that_breaks_a_rule_is_refused_with_field_and_rule(self, name: str, value: object) -> None:
        with pytest.raises(SaleRefused) as refused:
            record(**{name: value}) if name != "sold_date" else record(sold_at=datetime.now(UTC), sold_date=value)
        assert refused.value.field == name
        assert refused.value.rule in str(refused.value)

    @pytest.mark.parametrize("day", [DAY - timedelta(days=2), DAY + timedelta(days=2)])
    def test_a_day_is_the_instants_day_in_some_zone(self, day: date) -> None:
        with pytest.raises(SaleRefused, match=r"^sold_date"):
            record(sold_at=datetime(2026, 11, 20, 12, tzinfo=UTC), sold_date=day)

    def test_instants_are_kept_in_utc(self) -> None:
        east = datetime(2026, 11, 20, 1, tzinfo=timezone(timedelta(hours=13)))
        sale = record(sold_at=east)
        assert (sale.sold_at, sale.sold_at.tzinfo) == (east, UTC)

    @pytest.mark.parametrize("pointer", [("", "m", 1), ("k", "", 1), ("k", "m", 0), ("k", "m", 1.0)])
    def test_an_embedding_pointer_is_whole(self, pointer: tuple[Any, Any, Any]) -> None:
        with pytest.raises(SaleRefused, match=r"^embedding_"):
            EmbeddingPointer(*pointer)


class TestStorable:
    @pytest.mark.parametrize(
        "name,value",
        [
            ("product_id", "p" * 2_040),
            ("product_id", "#" * 700),
            ("sale_id", "s" * 1_020),
            ("sale_id", "é" * 510),
            ("category", "c" * 2_040),
            ("brand", "%" * 700),
        ],
    )
    def test_e6_a_key_that_dynamodb_would_refuse_is_refused_before(self, name: str, value: str) -> None:
        with pytest.raises(SaleRefused) as refused:
            require_storable(record(**{name: value}))
        assert refused.value.field == name
        assert len(str(refused.value)) < 400

    def test_e6_so_is_an_item_of_more_than_400_kb(self) -> None:
        with pytest.raises(SaleRefused, match=r"^sale: 4\d{5} bytes: at most 380000 bytes of text"):
            require_storable(record(description="d" * 400_000))

    def test_e6_what_fits_fits(self) -> None:
        require_storable(record("s" * 1_000, product_id="p" * 2_000, description="d" * 370_000))


class TestChanges:
    def test_g7_fields_are_changed_by_name_and_the_season_follows_the_day(self) -> None:
        day = date(2026, 12, 1)
        new = changed(record(), {"brand": "Tarn", "sold_date": day, "sold_at": datetime(2026, 12, 1, tzinfo=UTC)})
        assert (new.brand, new.sold_date, new.season) == ("Tarn", day, Season.WINTER)

    def test_g7_in_the_southern_half_too(self) -> None:
        south = record(season=Season.SPRING)
        new = changed(south, {"sold_date": date(2026, 12, 1), "sold_at": datetime(2026, 12, 1, tzinfo=UTC)})
        assert new.season is Season.SUMMER

    @pytest.mark.parametrize("name", [*sorted(IDENTITY_FIELDS), "colour"])
    def test_identity_and_unknown_fields_do_not_change(self, name: str) -> None:
        with pytest.raises(SaleRefused, match=rf"^{name}: .*a field that may change: brand, category"):
            changed(record(), {name: "x"})

    def test_every_other_field_may(self) -> None:
        assert {field.name for field in fields(SaleRecord)} == CHANGEABLE_FIELDS | IDENTITY_FIELDS

    def test_no_change_at_all_is_a_mistake(self) -> None:
        with pytest.raises(SaleRefused, match=r"^changes: none"):
            changed(record(), {})

    def test_a_changed_value_is_judged_like_any_other(self) -> None:
        with pytest.raises(SaleRefused, match=r"^sold_price"):
            changed(record(), {"sold_price": 9.99})


class TestPayloadHash:
    def test_f10_order_white_space_and_trailing_zeros_do_not_count(self) -> None:
        one = {"b": [1, {"y": Decimal("10.0")}], "a": "é", "day": DAY}
        other = {"day": DAY.isoformat(), "a": "é", "b": [Decimal("1.00"), {"y": 10}]}
        assert payload_hash(one) == payload_hash(other)
        assert len(payload_hash(one)) == 64

    @pytest.mark.parametrize("other", ["10", Decimal("10.01"), True, None, [10], {"#": "1e1"}, Decimal(-10)])
    def test_what_differs_differs(self, other: object) -> None:
        assert payload_hash({"a": 10}) != payload_hash({"a": other})

    @pytest.mark.parametrize("value", [1.5, float("nan"), Decimal("NaN"), b"x", object()])
    def test_what_json_has_no_word_for_is_no_payload(self, value: object) -> None:
        with pytest.raises(TypeError):
            payload_hash({"a": value})
