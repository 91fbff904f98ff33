from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.retry import JITTER_SHARE, RetryPolicy

SHARES = st.floats(0, 1, exclude_max=True)


def test_the_waits_are_one_two_and_four_seconds_and_then_it_ends():
    policy = RetryPolicy(retries=3, base_seconds=1.0, deadline_seconds=30.0)
    assert [policy.wait_seconds(tries, 0.0, jitter=0.0) for tries in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, None]


@given(tries=st.integers(1, 3), jitter=SHARES)
def test_jitter_only_stretches_a_wait_and_by_a_bounded_share(tries: int, jitter: float):
    plain = 2.0 ** (tries - 1)
    wait = RetryPolicy().wait_seconds(tries, 0.0, jitter)
    assert wait is not None
    assert plain <= wait <= plain * (1 + JITTER_SHARE)


@given(tries=st.integers(1, 12), elapsed=st.floats(0, 100), jitter=SHARES, after=st.none() | st.floats(0, 5000))
def test_no_wait_ever_reaches_past_the_deadline_or_below_retry_after(
    tries: int, elapsed: float, jitter: float, after: float | None
):
    policy = RetryPolicy(retries=10, deadline_seconds=60.0)
    wait = policy.wait_seconds(tries, elapsed, jitter, after)
    if wait is not None:
        assert elapsed + wait < policy.deadline_seconds
        assert wait >= (after or 0.0)
        assert tries <= policy.retries


def test_retry_after_is_a_lower_bound_and_one_past_the_deadline_gives_up_at_once():
    policy = RetryPolicy()
    assert policy.wait_seconds(1, 0.0, 0.0, retry_after_seconds=2.0) == 2.0
    assert policy.wait_seconds(3, 0.0, 0.0, retry_after_seconds=2.0) == 4.0
    assert policy.wait_seconds(1, 0.0, 0.0, retry_after_seconds=3600.0) is None


@given(jitter=SHARES)
def test_jitter_never_gives_up_a_wait_that_the_deadline_leaves_room_for(jitter: float):
    """B12: of hosts that said 25 s every fifth was given up, since 25 s and a fifth of jitter are more than 30."""
    wait = RetryPolicy(deadline_seconds=30.0).wait_seconds(1, 0.0, jitter, retry_after_seconds=25.0)
    assert wait is not None
    assert 25.0 <= wait < 30.0


@pytest.mark.parametrize("junk", [math.nan, -5.0, math.inf])
def test_a_senseless_retry_after_never_makes_a_wait_shorter_or_endless(junk: float):
    assert RetryPolicy().wait_seconds(1, 0.0, 0.0, retry_after_seconds=junk) in {1.0, None}


def test_no_retries_means_one_try():
    assert RetryPolicy(retries=0).wait_seconds(1, 0.0, 0.0) is None
