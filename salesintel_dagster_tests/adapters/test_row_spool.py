from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations

import pytest

from salesintel_dagster.adapters.row_spool import RowSpool
from salesintel_dagster.domain.columns import BATCH_ROWS
from salesintel_dagster.domain.sale import SourceRow
from salesintel_dagster_tests.fakes.source import sale_row

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


@pytest.fixture
def spool() -> Iterator[RowSpool]:
    with closing(RowSpool()) as opened:
        yield opened


def _through(*rows: SourceRow) -> tuple[list[SourceRow], str]:
    with closing(RowSpool()) as spool:
        for row in rows:
            spool.add(row)
        return [row for block in spool.blocks() for row in block], spool.fingerprint.text


def test_rows_come_in_one_order_whatever_the_order_in_which_they_went():
    """A17: which of two contents of one id is the first is no chance."""
    rows = [
        sale_row(NOON, 1, product_id="P-1", sold_price=Decimal(9)),
        sale_row(NOON, 1, product_id="P-1", sold_price=Decimal(10)),
        sale_row(NOON, 1, product_id="P-2", sold_price=Decimal(1), brand="a"),
        sale_row(NOON, 1, product_id="P-2", sold_price=Decimal(1), brand="b"),
        sale_row(NOON, 1, product_id="P-2", sold_price=None),
        sale_row(NOON, 1, product_id=None),
    ]
    found = [_through(*shuffled) for shuffled in permutations(rows)]
    assert all(each == (rows, found[0][1]) for each in found)


def test_what_json_lacks_comes_back_as_it_went():
    odd: list[dict[str, object]] = [
        {"sold_at": NOON.replace(tzinfo=None), "sold_price": Decimal("1E+400")},
        {"sold_at": "yesterday", "sold_price": Decimal("NaN"), "sale_id": "\ud800"},
        {"sold_at": None, "sold_price": "9.90", "sale_id": {"decimal": ["9.90", None, True]}},
        {"sold_at": None, "sold_price": 10**300, "sale_id": 7},
    ]
    found, _ = _through(*odd)
    assert sorted(map(repr, found)) == sorted(map(repr, odd))


def test_blocks_are_bounded(spool: RowSpool):
    for number in range(BATCH_ROWS + 1):
        spool.add(sale_row(NOON, number))
    assert [len(block) for block in spool.blocks()] == [BATCH_ROWS, 1]
    assert spool.fingerprint.rows == BATCH_ROWS + 1


def test_a_full_disk_is_this_machines_error(spool: RowSpool):
    """J9: the day fails by it, with words of its own for the one who is on call."""
    spool._database.connection.execute("PRAGMA max_page_count = 4")
    with pytest.raises(OSError, match="the temporary file of the source's rows") as caught:
        spool.add(sale_row(NOON, 1, brand="x" * 100_000))
    assert caught.value.errno == errno.ENOSPC
