"""Delays are bounded, rise, and never overflow; a policy out of range is refused by name and value."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callboard.jobs.errors import BadSubmission
from callboard.jobs.retry import MAX_DELAY, NO_RETRY, RetryPolicy

seconds = st.floats(0.0, MAX_DELAY) | st.integers(0, int(MAX_DELAY))
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1_000_000),
    first=seconds,
    factor=st.floats(1.0, 1000.0) | st.integers(1, 1000),
    longest=seconds,
    jitter=st.floats(0.0, 1.0),
)
chances = st.floats(0.0, 1.0, exclude_max=True)


@given(policies, st.integers(1, 1_000_000), chances)
@example(RetryPolicy(max_attempts=1_000_000, factor=1000), 999_999, 0.5)
@example(RetryPolicy(max_attempts=1_000, factor=10.0), 310, 0.5)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_a_delay_is_never_longer_than_longest_nor_shorter_than_the_jitter_allows(policy: RetryPolicy, attempt: int, chance: float) -> None:
    delay = policy.delay(attempt, chance)
    if attempt >= policy.max_attempts:
        assert delay is None
        return
    assert delay is not None
    full = policy.delay(attempt, 0.0)
    assert full is not None
    assert min(policy.first, policy.longest) <= full <= policy.longest or (full == 0 and not policy.first)
    assert full * (1 - policy.jitter) * (1 - 1e-9) <= delay <= full


@given(policies, st.integers(1, 2_000))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_without_chance_delays_only_rise(policy: RetryPolicy, attempt: int) -> None:
    first, second = policy.delay(attempt, 0.0), policy.delay(attempt + 1, 0.0)
    assert first is None or second is None or first <= second


def test_each_delay_is_factor_times_the_one_before_up_to_the_longest() -> None:
    policy = RetryPolicy(max_attempts=8, first=1.0, factor=3.0, longest=60.0, jitter=0.0)
    assert [policy.delay(attempt, 0.9) for attempt in range(1, 9)] == [1.0, 3.0, 9.0, 27.0, 60.0, 60.0, 60.0, None]


@pytest.mark.parametrize("attempt", [1, 999, 1_000, 1_001, 500_000])
def test_with_factor_one_the_delay_stays_the_same_for_ever(attempt: int) -> None:
    assert RetryPolicy(max_attempts=1_000_000, first=5.0, factor=1.0, jitter=0.0).delay(attempt, 0.0) == 5.0


@pytest.mark.parametrize("attempt", [1, 400, 2_000])
def test_no_first_delay_means_no_delay_at_all(attempt: int) -> None:
    assert RetryPolicy(max_attempts=1_000_000, first=0.0, factor=1000.0).delay(attempt, 0.0) == 0.0


def test_the_whole_delay_is_drawn_at_random_where_the_jitter_is_one() -> None:
    policy = RetryPolicy(max_attempts=2, first=8.0, jitter=1.0)
    assert [policy.delay(1, chance) for chance in (0.0, 0.5, 0.75)] == [8.0, 4.0, 2.0]


def test_by_default_nothing_is_tried_again() -> None:
    assert NO_RETRY.delay(1, 0.0) is None


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("max_attempts", 0, "an integer from 1 to 1000000"),
        ("max_attempts", 1_000_001, "an integer from 1 to 1000000"),
        ("max_attempts", 2.5, "an integer from 1 to 1000000"),
        ("max_attempts", True, "an integer from 1 to 1000000"),
        ("max_attempts", None, "an integer from 1 to 1000000"),
        ("first", -1.0, "a number from 0 to 31536000"),
        ("first", math.nan, "a number from 0 to 31536000"),
        ("first", "1", "a number from 0 to 31536000"),
        ("factor", 0.5, "a number from 1 to 1000"),
        ("factor", math.inf, "a number from 1 to 1000"),
        ("longest", MAX_DELAY + 1, "a number from 0 to 31536000"),
        ("jitter", 1.01, "a number from 0 to 1"),
        ("jitter", False, "a number from 0 to 1"),
    ],
)
def test_a_policy_out_of_range_is_refused_by_name_and_value(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(BadSubmission) as caught:
        RetryPolicy(**{field: value})
    assert str(caught.value) == f"retry: {field}={value!r} is not {allowed}"
