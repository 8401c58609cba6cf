"""Who asks for the facts behind a number gets each of them once and in order, or is told which are lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.events import Fact, FactsLost, JobPaused, JobQueued
from callboard.jobs.factlog import CODES, FactLog, RawFact, build

EPOCH = 5
quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def raw(number: int) -> RawFact:
    return CODES[JobQueued], number.to_bytes(16, "big"), "sweep", ()


def log_of(facts: int, kept: int) -> FactLog:
    log = FactLog(EPOCH, kept)
    for number in range(1, facts + 1):
        log.add(number, [raw(number)])
    return log


def numbers(answer: tuple[Fact | FactsLost, ...]) -> list[int]:
    """Of the facts; each must be the one that was added under its number."""
    found = [fact for fact in answer if isinstance(fact, Fact)]
    for fact in found:
        assert fact == JobQueued(EPOCH, fact.n, fact.n.to_bytes(16, "big"), "sweep")
    return [fact.n for fact in found]


@given(st.integers(0, 30), st.integers(1, 12), st.integers(-3, 35), st.integers(0, 40))
@quick
def test_the_answer_goes_on_behind_the_number_without_a_gap_that_is_not_told(facts: int, kept: int, n: int, limit: int) -> None:
    log = log_of(facts, kept)
    answer = log.since(EPOCH, n, limit)
    wanted = list(range(max(0, n) + 1, facts + 1))
    lost = [number for number in wanted if number <= facts - kept]
    assert numbers(answer) == [number for number in wanted if number not in lost][:limit]
    told = [each for each in answer if isinstance(each, FactsLost)]
    assert told == ([FactsLost(EPOCH, lost[0], lost[-1])] if lost else [])
    assert not told or answer[0] is told[0], "what is lost comes first"


@given(st.integers(0, 30), st.integers(1, 12), st.integers(0, 35), st.sampled_from([EPOCH - 1, EPOCH + 1]))
@quick
def test_who_knows_another_epoch_is_told_of_the_loss_and_gets_all_that_is_kept(facts: int, kept: int, n: int, epoch: int) -> None:
    first, *rest = log_of(facts, kept).since(epoch, n, 1000)
    oldest = max(1, facts - kept + 1)
    assert first == FactsLost(EPOCH, 1, oldest - 1)
    assert numbers(tuple(rest)) == list(range(oldest, facts + 1))


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 5))
@quick
def test_asking_on_and_on_from_the_last_number_one_got_gives_all_that_is_kept_once(facts: int, kept: int, limit: int) -> None:
    log, at, got = log_of(facts, kept), 0, list[int]()
    while some := numbers(log.since(EPOCH, at, limit)):
        got += some
        at = some[-1]
    assert got == list(range(max(1, facts - kept + 1), facts + 1))


def test_facts_that_came_together_are_numbered_one_by_one() -> None:
    log = FactLog(EPOCH)
    log.add(1, [raw(1), raw(2), raw(3)])
    log.add(4, [])
    log.add(4, [raw(4)])
    assert log.last == 4
    assert numbers(log.since(EPOCH, 1, 100)) == [2, 3, 4]


def test_a_fact_has_its_own_fields_behind_the_common_ones() -> None:
    assert build(EPOCH, 7, (CODES[JobPaused], b"id", "sweep", ("away",))) == JobPaused(EPOCH, 7, b"id", "sweep", reason="away")


@pytest.mark.parametrize("first", [0, 1, 3])
def test_a_gap_or_a_repeat_is_never_taken(first: int) -> None:
    log = log_of(1, 10)
    with pytest.raises(AssertionError, match=f"^fact {first} came behind fact 1$"):
        log.add(first, [raw(first)])
    assert log.last == 1
