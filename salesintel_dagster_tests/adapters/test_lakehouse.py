from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.domain.day_frame import KEY
from salesintel_dagster.domain.errors import DuplicateKeys, EmptyReplacement, OutsideScope, SchemaDrift
from salesintel_dagster.domain.ports import OtherDay, SalesTable
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable, day_scope, sale_rows
from salesintel_dagster_tests.lakes import DAY, KINDS, RUN, ids, rows

STRANGE_TENANTS = ("o'brien", 'say "x"', "a#b", "a/b", "..", "ünïcode-\N{PILE OF POO}", "a=b&c d", "%2F")

STRANGERS = {
    "tenant_id": "other",
    "sold_date": date(2026, 11, 4),
    "source_system": "carousel",
    "month": 12,
    "year": 2025,
}


@pytest.fixture(params=["fake", *KINDS])
def table(request: pytest.FixtureRequest) -> Iterator[SalesTable]:
    if request.param == "fake":
        yield InMemorySalesTable()
        return
    opened = KINDS[request.param](request)
    yield IcebergSalesTable(lambda: opened, held_clock())
    opened.close()


class TestEverySalesTable:
    """D15: the same promises by the fake, the SQL catalog (SQLite, Postgres + S3), Glue and S3 Tables."""

    def test_a_day_of_an_empty_table_has_no_rows(self, table: SalesTable) -> None:
        facts = table.day_facts(DAY)
        assert (facts.rows, facts.price_sum, facts.duplicate_sale_ids) == (0, Decimal(0), ())
        assert ids(table, DAY) == []

    def test_a_replaced_day_holds_exactly_its_new_rows(self, table: SalesTable) -> None:
        """A5, A6"""
        first = table.replace_day(DAY, rows(sale_rows(DAY, 5)), RUN, allow_empty=False)
        again = table.replace_day(DAY, rows(sale_rows(DAY, 3, first=4)), RUN, allow_empty=False)
        assert (first.rows_written, first.rows_replaced) == (5, 0)
        assert (again.rows_written, again.rows_replaced, again.attempts) == (3, 5, 1)
        assert again.snapshot_id not in (None, first.snapshot_id)
        assert ids(table, DAY) == ["sale-1103-4", "sale-1103-5", "sale-1103-6"]
        assert table.day_facts(DAY).price_sum == Decimal("31.50")

    def test_other_days_tenants_and_sources_are_not_touched(self, table: SalesTable) -> None:
        """A5, D2"""
        others = [
            day_scope("2026-11-04"),
            day_scope("2026-12-03"),
            day_scope("2026-11-03", "other"),
            day_scope("2026-11-03", source="carousel"),
        ]
        for scope in (DAY, *others):
            table.replace_day(scope, rows(sale_rows(scope, 2)), RUN, allow_empty=False)
        table.replace_day(DAY, rows(sale_rows(DAY, 1, first=9)), RUN, allow_empty=False)
        assert [table.day_facts(scope).rows for scope in (DAY, *others)] == [1, 2, 2, 2, 2]

    def test_no_rows_never_replace_rows_unless_allowed(self, table: SalesTable) -> None:
        """A11"""
        table.replace_day(DAY, rows(sale_rows(DAY, 2)), RUN, allow_empty=False)
        with pytest.raises(EmptyReplacement, match="2026-11-03"):
            table.replace_day(DAY, rows(), RUN, allow_empty=False)
        assert table.day_facts(DAY).rows == 2
        cleared = table.replace_day(DAY, rows(), RUN, allow_empty=True)
        assert (cleared.rows_written, cleared.rows_replaced) == (0, 2)
        assert table.day_facts(DAY).rows == 0

    def test_nothing_in_place_of_nothing_is_no_commit(self, table: SalesTable) -> None:
        """A12"""
        commit = table.replace_day(DAY, rows(), RUN, allow_empty=False)
        assert (commit.snapshot_id, commit.rows_written, commit.rows_replaced) == (None, 0, 0)

    def test_a_days_newest_commit_tells_its_properties(self, table: SalesTable) -> None:
        """A4: what a look-back compares with is of the same commit as the rows."""
        assert table.day_property(DAY, "mark") is None
        other, foreign = day_scope("2026-11-04"), day_scope("2026-11-03", source="carousel")
        for scope, mark in ((DAY, "1"), (DAY, "2"), (other, "3"), (foreign, "4")):
            named = {"salesintel.day": scope.day.isoformat(), "salesintel.source": scope.source_system, "mark": mark}
            table.replace_day(scope, rows(sale_rows(scope, 2)), named, allow_empty=False)
        found = [table.day_property(scope, "mark") for scope in (DAY, other, foreign, day_scope("2026-11-05"))]
        assert found == ["2", "3", "4", None]
        emptied = {"salesintel.day": "2026-11-03", "salesintel.source": "smartgo", "mark": "5"}
        table.replace_day(DAY, rows(), emptied, allow_empty=True)
        assert table.day_property(DAY, "mark") == "5"
        assert table.day_property(DAY, "no such") is None

    def test_a_frame_with_a_key_twice_is_refused(self, table: SalesTable) -> None:
        """D6"""
        table.replace_day(DAY, rows(sale_rows(DAY, 2)), RUN, allow_empty=False)
        with pytest.raises(DuplicateKeys, match="sale-1103-4"):
            table.replace_day(DAY, rows(sale_rows(DAY, 5), sale_rows(DAY, 2, first=4)), RUN, allow_empty=False)
        assert table.day_facts(DAY).rows == 2

    def test_one_id_of_two_tenants_is_two_sales(self, table: SalesTable) -> None:
        both = day_scope("2026-11-03", "a", "b")
        table.replace_day(both, rows(sale_rows(both, 2, sale_id="same")), RUN, allow_empty=False)
        assert table.day_facts(both) == table.day_facts(both)
        assert table.day_facts(both).rows == 2
        assert table.day_facts(both).duplicate_sale_ids == ()

    def test_a_sale_that_is_also_under_another_day_is_told_with_that_day(self, table: SalesTable) -> None:
        """A5: the source corrected the day of a sale, and its old day was not materialised again yet.

        The ids share their first 16 characters, where Iceberg cuts the bounds of a file.
        """
        old, new, far = day_scope("2026-11-03", "a", "b"), day_scope("2026-12-20", "a", "b"), day_scope("2024-02-29")
        names = [f"sale-with-a-long-name-{n}" for n in range(6)]
        table.replace_day(old, rows(sale_rows(old, 4, sale_id=names[:4])), RUN, allow_empty=False)
        table.replace_day(new, rows(sale_rows(new, 4, sale_id=[*names[2:4], *names[4:]])), RUN, allow_empty=False)
        table.replace_day(far, rows(sale_rows(far, 2, sale_id=names[4:])), RUN, allow_empty=False)  # another tenant's
        foreign = day_scope("2026-11-09", "a", "b", source="carousel")
        table.replace_day(foreign, rows(sale_rows(foreign, 2, sale_id=names[4:])), RUN, allow_empty=False)
        both = (OtherDay(names[2], old.day), OtherDay(names[3], old.day))
        assert table.day_facts(new).other_days == both
        assert [other.day for other in table.day_facts(old).other_days] == [new.day, new.day]
        assert table.day_facts(far).other_days == table.day_facts(foreign).other_days == ()
        table.replace_day(old, rows(sale_rows(old, 2, sale_id=names[:2])), RUN, allow_empty=False)
        assert table.day_facts(new).other_days == ()

    def test_a_row_outside_the_scope_is_refused(self, table: SalesTable) -> None:
        for name, value in STRANGERS.items():
            batch = sale_rows(DAY, 1, first=7, **{name: value})
            with pytest.raises(OutsideScope, match=f"sale-1103-7.*{name}"):
                table.replace_day(DAY, rows(sale_rows(DAY, 2), batch), RUN, allow_empty=False)
        assert table.day_facts(DAY).rows == 0

    def test_rows_with_other_columns_are_refused(self, table: SalesTable) -> None:
        """D10"""
        with pytest.raises(SchemaDrift, match="columns"):
            table.replace_day(DAY, rows(sale_rows(DAY, 1).select(["sale_id"])), RUN, allow_empty=False)

    def test_every_value_comes_back_as_it_went_in(self, table: SalesTable) -> None:
        batch = sale_rows(DAY, 3, brand=["Ñandú x", None, "a'b"], embedding_vector=[[0.5, -1.25], None, []])
        table.replace_day(DAY, rows(batch), RUN, allow_empty=False)
        columns = tuple(batch.schema.names)
        found = pa.Table.from_batches(table.read_day(DAY, columns)).sort_by("sale_id")
        assert found.schema.equals(batch.schema)
        assert found.to_pylist() == batch.to_pylist()

    def test_strange_tenant_names_round_trip(self, table: SalesTable) -> None:
        """D8"""
        scope = day_scope("2026-11-03", *STRANGE_TENANTS)
        count = len(STRANGE_TENANTS)
        table.replace_day(scope, rows(sale_rows(scope, 2 * count)), RUN, allow_empty=False)
        again = table.replace_day(scope, rows(sale_rows(scope, count)), RUN, allow_empty=False)
        assert again.rows_replaced == 2 * count
        for tenant in STRANGE_TENANTS:
            found = [batch["tenant_id"].to_pylist() for batch in table.read_day(day_scope("2026-11-03", tenant), KEY)]
            assert found == [[tenant]]
