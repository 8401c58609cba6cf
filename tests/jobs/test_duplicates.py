"""The table of duplicates, cell by cell, written out here a second time; and the laws that hold over all of it."""

from __future__ import annotations

from itertools import product

import pytest

from callboard.jobs.duplicates import (
    DECISIONS,
    Answer,
    Children,
    Decision,
    NewRow,
    OldJob,
    Standing,
    Waiters,
    decide,
    raises_priority,
    standing_of,
)
from callboard.jobs.errors import NotAllowed
from callboard.jobs.lifecycle import CLAIMED, ENDED, LIVE, Event, Status, transition
from callboard.jobs.submission import OnDuplicate

ROWS = """
skip      | queued           | deduplicated | none                             | stays         | untouched | go on waiting
skip      | delayed          | deduplicated | none                             | stays         | untouched | go on waiting
skip      | waiting          | deduplicated | none                             | stays         | untouched | go on waiting
skip      | paused           | deduplicated | none                             | stays         | untouched | go on waiting
skip      | pausing          | deduplicated | none                             | stays         | untouched | go on waiting
skip      | running          | deduplicated | none                             | stays         | untouched | go on waiting
skip      | cancelling       | submitted    | waiting behind the older one     | stays         | untouched | go on waiting
skip      | quarantined      | deduplicated | none                             | stays         | untouched | go on waiting
skip      | children running | deduplicated | none                             | stays         | untouched | go on waiting
supersede | queued           | superseded   | queued                           | ends now      | cancelled | superseded
supersede | delayed          | superseded   | queued                           | ends now      | cancelled | superseded
supersede | waiting          | superseded   | waiting in place of the older one | ends now     | cancelled | superseded
supersede | paused           | superseded   | queued                           | ends now      | cancelled | superseded
supersede | pausing          | superseded   | waiting behind the older one     | is cancelling | cancelled | its result, or superseded
supersede | running          | superseded   | waiting behind the older one     | is cancelling | cancelled | its result, or superseded
supersede | cancelling       | superseded   | waiting behind the older one     | is cancelling | cancelled | its result, or superseded
supersede | quarantined      | superseded   | queued                           | ends now      | cancelled | superseded
supersede | children running | superseded   | waiting behind the older one     | is cancelling | cancelled | its result, or superseded
requeue   | queued           | deduplicated | none                             | stays         | untouched | go on waiting
requeue   | delayed          | deduplicated | none                             | stays         | untouched | go on waiting
requeue   | waiting          | requeued     | waiting in place of the older one | ends now     | cancelled | superseded
requeue   | paused           | requeued     | waiting behind the older one     | stays         | untouched | go on waiting
requeue   | pausing          | requeued     | waiting behind the older one     | stays         | untouched | go on waiting
requeue   | running          | requeued     | waiting behind the older one     | stays         | untouched | go on waiting
requeue   | cancelling       | requeued     | waiting behind the older one     | stays         | untouched | go on waiting
requeue   | quarantined      | requeued     | waiting behind the older one     | stays         | untouched | go on waiting
requeue   | children running | requeued     | waiting behind the older one     | stays         | untouched | go on waiting
reject    | queued           | rejected     | none                             | stays         | untouched | go on waiting
reject    | delayed          | rejected     | none                             | stays         | untouched | go on waiting
reject    | waiting          | rejected     | none                             | stays         | untouched | go on waiting
reject    | paused           | rejected     | none                             | stays         | untouched | go on waiting
reject    | pausing          | rejected     | none                             | stays         | untouched | go on waiting
reject    | running          | rejected     | none                             | stays         | untouched | go on waiting
reject    | cancelling       | rejected     | none                             | stays         | untouched | go on waiting
reject    | quarantined      | rejected     | none                             | stays         | untouched | go on waiting
reject    | children running | rejected     | none                             | stays         | untouched | go on waiting
"""
EVERY = list(product(OnDuplicate, Standing))
CELLS = [tuple(word.strip() for word in line.split("|")) for line in ROWS.strip().splitlines()]
STATUS_OF = {Standing.DELAYED: Status.QUEUED, Standing.CHILDREN_RUNNING: Status.RUNNING}
"""Where a standing is not called as the status is."""


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell[0]}-{cell[1]}")
def test_each_cell_says_what_is_written_here(cell: tuple[str, ...]) -> None:
    strategy, standing, outcome, new, old, children, waiters = cell
    expected = Decision(Answer(outcome), NewRow(new), OldJob(old), Children(children), Waiters(waiters))
    assert decide(OnDuplicate(strategy), Standing(standing)) == expected


def test_every_strategy_has_an_answer_for_every_state_and_every_one_is_written_here() -> None:
    assert set(DECISIONS) == set(EVERY)
    assert [(cell[0], cell[1]) for cell in CELLS] == [(str(strategy), str(standing)) for strategy, standing in EVERY]


# --- laws ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "standing"), EVERY)
def test_a_newcomer_waits_just_where_the_key_is_still_held_by_one_that_lives(strategy: OnDuplicate, standing: Standing) -> None:
    decision = decide(strategy, standing)
    status = STATUS_OF.get(standing) or Status(standing)
    becomes = status if decision.old is OldJob.STAYS else transition(status, Event.CANCEL)
    match decision.new:
        case NewRow.QUEUED:
            assert becomes.ended
        case NewRow.BEHIND:
            assert not becomes.ended and status is not Status.WAITING, "one successor a key"
        case NewRow.IN_PLACE:
            assert becomes.ended and status is Status.WAITING
        case NewRow.NONE:
            assert becomes is status


@pytest.mark.parametrize(("strategy", "standing"), EVERY)
def test_the_word_for_the_older_is_what_the_lifecycle_makes_of_a_cancel(strategy: OnDuplicate, standing: Standing) -> None:
    status = STATUS_OF.get(standing) or Status(standing)
    expected = {OldJob.ENDS: Status.CANCELLED, OldJob.CANCELLING: Status.CANCELLING}.get(decide(strategy, standing).old)
    assert expected in (None, transition(status, Event.CANCEL))


@pytest.mark.parametrize(("strategy", "standing"), EVERY)
def test_children_and_waiters_follow_the_older_one(strategy: OnDuplicate, standing: Standing) -> None:
    decision = decide(strategy, standing)
    assert (decision.old is OldJob.STAYS) == (decision.children is Children.UNTOUCHED) == (decision.waiters is Waiters.GO_ON)


# --- priority -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "standing"), EVERY)
def test_only_a_skip_raises_and_only_one_that_is_still_to_be_claimed(strategy: OnDuplicate, standing: Standing) -> None:
    expected = strategy == "skip" and standing in ("queued", "delayed", "waiting", "paused")
    assert raises_priority(strategy, standing, 128, 127) is expected


@pytest.mark.parametrize(("older", "newer"), [(128, 128), (0, 0), (0, 1), (64, 255)])
def test_a_priority_is_never_lowered_and_an_equal_one_is_no_raise(older: int, newer: int) -> None:
    assert not any(raises_priority(OnDuplicate.SKIP, standing, older, newer) for standing in Standing)


@pytest.mark.parametrize("standing", Standing)
def test_whose_priority_is_raised_stands(standing: Standing) -> None:
    if raises_priority(OnDuplicate.SKIP, standing, 1, 0):
        assert decide(OnDuplicate.SKIP, standing).outcome is Answer.DEDUPLICATED


# --- how far the older one is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "delayed", "is_parent", "standing"),
    [
        (Status.QUEUED, False, False, "queued"),
        (Status.QUEUED, True, False, "delayed"),
        (Status.QUEUED, False, True, "queued"),
        (Status.QUEUED, True, True, "delayed"),
        (Status.WAITING, False, False, "waiting"),
        (Status.WAITING, True, False, "waiting"),
        (Status.PAUSED, False, False, "paused"),
        (Status.PAUSED, True, True, "paused"),
        (Status.PAUSING, False, False, "pausing"),
        (Status.PAUSING, False, True, "pausing"),
        (Status.RUNNING, False, False, "running"),
        (Status.RUNNING, True, False, "running"),
        (Status.RUNNING, False, True, "children running"),
        (Status.CANCELLING, False, False, "cancelling"),
        (Status.CANCELLING, False, True, "cancelling"),
        (Status.QUARANTINED, False, False, "quarantined"),
    ],
)
def test_a_standing_is_read_off_the_status_the_time_and_the_children(status: Status, delayed: bool, is_parent: bool, standing: str) -> None:
    assert standing_of(status, delayed, is_parent) == standing


def test_every_live_job_has_a_standing_and_every_standing_is_of_one() -> None:
    found = {standing_of(status, delayed, is_parent) for status in LIVE for delayed in (False, True) for is_parent in (False, True)}
    assert found == set(Standing)
    assert {standing_of(status, False, True) for status in CLAIMED} == {"children running", "pausing", "cancelling"}


@pytest.mark.parametrize("status", sorted(ENDED))
def test_an_ended_job_stands_in_nobodys_way(status: Status) -> None:
    with pytest.raises(NotAllowed) as caught:
        standing_of(status, False, False)
    assert str(caught.value) == f"a job that is {status} holds no key; queue the newer one as if the older had never been"
