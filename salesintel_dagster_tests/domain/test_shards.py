from __future__ import annotations

import random
import uuid

import pytest

from salesintel_dagster.domain.errors import SaleRefused
from salesintel_dagster.domain.shards import MAX_SKEW, ShardCounts, shard_of, verify_shard_distribution

IDS = 100_000
_CHANCE = random.Random(4)


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"


KINDS = {
    "uuid": lambda _n: str(uuid.UUID(int=_CHANCE.getrandbits(128))),
    "base36": lambda n: _base36(n * 7919),
    "digits": lambda n: f"{n:08d}",
    "size suffix": lambda n: f"SKU-{n // 5}-{('XS', 'S', 'M', 'L', 'XL')[n % 5]}",
    "ends in 0 or 5": lambda n: str(n * 5),
}


@pytest.mark.long
@pytest.mark.parametrize("count", [5, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_g3_every_kind_of_id_spreads_evenly(kind: str, count: int):
    found = verify_shard_distribution((KINDS[kind](n) for n in range(IDS)), count)
    assert found.ids == IDS
    assert 1.0 <= found.skew <= MAX_SKEW, found


def test_g3_uneven_ids_are_told():
    found = verify_shard_distribution(["one and the same"] * 10, 10)
    assert (max(found.sizes), found.skew) == (10, 10.0)
    assert verify_shard_distribution([], 10).skew == 0.0


def test_g3_few_ids_are_uneven_by_chance_and_many_are_not():
    few = verify_shard_distribution((f"S-{n}" for n in range(50)), 10)
    assert few.skew > MAX_SKEW
    assert few.is_even
    assert not verify_shard_distribution(["one"] * 50, 10).is_even
    assert verify_shard_distribution((str(n) for n in range(IDS)), 10).allowed_skew == MAX_SKEW


def test_a_shard_is_what_other_software_would_compute_too():
    """The last digit of `echo -n S-1 | sha256sum` as a decimal number."""
    assert (shard_of("S-1", 10), shard_of("é", 5)) == (5, 3)


@pytest.mark.parametrize("counts", [(0, 5), (10, 0), (-1, 5), (257, 5), (10, 257)])
def test_i1_a_shard_count_out_of_range_is_refused(counts: tuple[int, int]):
    with pytest.raises(SaleRefused, match=r"shards: -?\d+: between 1 and 256"):
        ShardCounts(*counts)


def test_g4_the_most_of_each_count_is_taken():
    assert ShardCounts(10, 8).or_more(ShardCounts(16, 5)) == ShardCounts(16, 8)
