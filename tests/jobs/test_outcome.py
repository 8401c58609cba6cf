"""What it means that `run` was left, for everything that can come out of it and everything that can have been asked."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.errors import TEXT_LIMIT, BadArgument, CriticalError, Interrupted, RetryLater
from callboard.jobs.lifecycle import Event, Status, transition
from callboard.jobs.outcome import Asked, Outcome, raised, returned
from callboard.jobs.retry import MAX_DELAY, NO_RETRY, RetryPolicy

THRICE = RetryPolicy(max_attempts=3, first=10.0, jitter=0.0)
NOT_RESUMABLE = "; the job is not resumable, so what it had done is lost"
quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def left(
    error: BaseException, asked: Asked | None = None, *, ours: bool = False, resumable: bool = True, attempt: int = 1, policy: RetryPolicy = NO_RETRY
) -> Outcome:  # fmt: skip
    return raised(error, asked, ours, resumable, attempt, policy, 0.0)


class Rude(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


# --- returning and raising ----------------------------------------------------------------------------------------------


def test_a_run_that_returned_has_completed_with_errors_if_some_items_failed() -> None:
    assert returned(0) == Outcome(Event.RETURN)
    assert returned(1) == returned(500) == Outcome(Event.RETURN_WITH_ERRORS)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), RecursionError("deep"), GeneratorExit(), Rude()])
@pytest.mark.parametrize("asked", [None, "pause", "cancel", "close"])
def test_whatever_else_is_raised_follows_the_policy_and_goes_on_from_the_checkpoint(error: BaseException, asked: Asked | None) -> None:
    attempts = [left(error, asked, attempt=attempt, policy=THRICE) for attempt in (1, 2, 3)]
    assert [(each.event, each.retry_after) for each in attempts] == [(Event.RETRY, 10.0), (Event.RETRY, 20.0), (Event.FAIL, None)]
    assert not any(each.keep_state for each in attempts)
    assert all(each.error is not None and each.error.startswith(type(error).__name__) for each in attempts)


def test_where_it_was_raised_is_kept() -> None:
    try:
        raise ValueError("no room")
    except ValueError as error:
        outcome = left(error)
    assert outcome.error == "ValueError: no room"
    assert outcome.traceback_text is not None
    assert "test_where_it_was_raised_is_kept" in outcome.traceback_text


def test_a_critical_error_is_never_tried_again() -> None:
    assert left(CriticalError("gone for good"), policy=THRICE).event is Event.FAIL


# --- RetryLater ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "attempt", "policy", "seconds"),
    [
        (None, 1, THRICE, 10.0),
        (None, 2, THRICE, 20.0),
        (None, 3, THRICE, 10.0),
        (None, 1, NO_RETRY, 1.0),
        (7.5, 1, THRICE, 7.5),
        (7, 99, NO_RETRY, 7.0),
        (0, 1, THRICE, 0.0),
        (-3.0, 1, THRICE, 0.0),
        (1e12, 1, THRICE, MAX_DELAY),
        (math.inf, 1, THRICE, MAX_DELAY),
    ],
)
def test_retry_later_is_never_the_last_attempt(after: float | None, attempt: int, policy: RetryPolicy, seconds: float) -> None:
    outcome = left(RetryLater("busy", after=after), attempt=attempt, policy=policy)
    assert (outcome.event, outcome.retry_after, outcome.error) == (Event.RETRY, seconds, "RetryLater: busy")


@pytest.mark.parametrize("after", ["5", True, math.nan, timedelta(seconds=5), b"5"])
def test_retry_later_after_what_is_no_number_is_refused_where_it_is_raised(after: Any) -> None:
    with pytest.raises(BadArgument) as caught:
        RetryLater(after=after)
    assert str(caught.value) == f"RetryLater: after={after!r} is not a number of seconds"


class Throttled(RetryLater):
    """An author's own, which forgot its base's `__init__`."""

    def __init__(self, wait: float) -> None:
        self.wait = wait


def test_a_subclass_that_forgot_its_base_is_retried_as_the_policy_says() -> None:
    assert left(Throttled(3.0), policy=THRICE).retry_after == 10.0


# --- Interrupted --------------------------------------------------------------------------------------------------------

INTERRUPTED = [
    # asked, ours, resumable, event, status then
    ("cancel", True, True, Event.STOP, Status.CANCELLED),
    ("cancel", False, True, Event.STOP, Status.CANCELLED),
    ("cancel", True, False, Event.STOP, Status.CANCELLED),
    ("cancel", False, False, Event.STOP, Status.CANCELLED),
    ("pause", True, True, Event.STOP, Status.PAUSED),
    ("pause", False, True, Event.STOP, Status.PAUSED),
    ("close", True, True, Event.RELEASE, Status.QUEUED),
    ("close", False, True, Event.RELEASE, Status.QUEUED),
    ("close", True, False, Event.FAIL, Status.FAILED),
    (None, True, True, Event.STOP, Status.QUEUED),
    (None, False, True, Event.YIELD, Status.PAUSED),
    (None, False, False, Event.FAIL, Status.FAILED),
]
STATUS_OF: dict[str | None, Status] = {"cancel": Status.CANCELLING, "pause": Status.PAUSING, "close": Status.RUNNING, None: Status.RUNNING}


@pytest.mark.parametrize(("asked", "ours", "resumable", "event", "then"), INTERRUPTED)
def test_an_interrupted_means_what_was_asked(asked: Asked | None, ours: bool, resumable: bool, event: Event, then: Status) -> None:
    outcome = left(Interrupted("asked"), asked, ours=ours, resumable=resumable, policy=THRICE)
    assert outcome.event is event
    assert transition(STATUS_OF[asked], event) is then
    assert outcome.keep_state is (event is not Event.FAIL), "the live fields are saved, save where they would be of no use"


def test_an_interrupted_of_the_authors_own_pauses_with_his_reason() -> None:
    assert left(Interrupted("the network is away")) == Outcome(Event.YIELD, "the network is away", keep_state=True)
    assert left(Interrupted()).error == "the job paused itself"


class Away(Interrupted):
    """An author's own, which forgot its base's `__init__`."""

    def __init__(self, host: str) -> None:
        self.host = host


def test_a_subclass_of_interrupted_that_forgot_its_base_pauses_without_a_reason() -> None:
    assert left(Away("example.org")) == Outcome(Event.YIELD, "the job paused itself", keep_state=True)


def test_a_job_that_is_not_resumable_fails_with_the_reason() -> None:
    assert left(Interrupted("the library is closing"), "close", resumable=False).error == "the library is closing" + NOT_RESUMABLE
    assert left(Interrupted(), resumable=False).error == "interrupted" + NOT_RESUMABLE


def test_a_reason_that_no_row_could_hold_is_made_one() -> None:
    assert left(Interrupted("no \udcff here")).error == r"no \udcff here"
    assert left(Interrupted(OSError("disk"))).error == "disk"  # type: ignore[arg-type]
    assert left(Interrupted(Rude())).error == "(its str() raised SystemExit)"  # type: ignore[arg-type]
    assert len(left(Interrupted("x" * 100_000)).error or "") == TEXT_LIMIT


# --- always -------------------------------------------------------------------------------------------------------------

anything = st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(Rude) | st.just(10**5000) | st.just(timedelta(days=1))


@given(
    st.sampled_from([Interrupted, RetryLater, CriticalError, ValueError, Throttled, Rude]),
    anything,
    st.sampled_from([None, "pause", "cancel", "close"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 1_000_000),
    st.floats(0.0, 1.0, exclude_max=True),
)
@quick
def test_reading_an_outcome_never_raises_and_fits_a_row(
    kind: type[Any], value: Any, asked: Asked | None, ours: bool, resumable: bool, attempt: int, chance: float
) -> None:
    error = kind(value)
    error.after = error.reason = value
    policy = RetryPolicy(max_attempts=1_000_000, factor=1000.0)
    outcome = raised(error, asked, ours, resumable, attempt, policy, chance)
    assert not transition(STATUS_OF[asked], outcome.event).claimed
    for text in (outcome.error, outcome.traceback_text):
        assert text is None or (isinstance(text, str) and len(text.encode()) >= len(text) <= TEXT_LIMIT + len(NOT_RESUMABLE))
    if outcome.event is Event.RETRY:
        assert isinstance(outcome.retry_after, float)
        assert 0.0 <= outcome.retry_after <= MAX_DELAY
    else:
        assert outcome.retry_after is None
