"""The laws of the table: what leads where, whatever happens in whatever order, and that the documented diagram is this table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.errors import NotAllowed
from callboard.jobs.lifecycle import (
    CLAIMED,
    ENDED,
    LIVE,
    MAX_CRASHES,
    PAUSER_BITS,
    RESUMED_BY_USER,
    SUSPECT_CRASHES,
    TRANSITIONS,
    Event,
    Pauser,
    Status,
    after_crash,
    diagram,
    pausers,
    transition,
)

ARCHITECTURE = Path(__file__).resolve().parents[2] / "ARCHITECTURE.md"

S, E = Status, Event

USER = (E.PAUSE, E.RESUME, E.CANCEL)
OF_A_CLAIM = (E.STOP, E.YIELD, E.RETURN, E.RETURN_WITH_ERRORS, E.FAIL, E.RETRY, E.RELEASE, E.AWAIT, E.CRASH, E.CRASH_FOR_GOOD, E.POISON)
"""How a claim can end."""


def reachable(start: Status) -> set[Status]:
    found, waiting = {start}, [start]
    while waiting:
        status = waiting.pop()
        for (source, _), target in TRANSITIONS.items():
            if source is status and target not in found:
                found.add(target)
                waiting.append(target)
    return found


def of(status: Status) -> set[tuple[Event, Status]]:
    """What leads where from here, but for what befalls every parent: see `test_a_parent_that_would_end…`."""
    return {(event, target) for (source, event), target in TRANSITIONS.items() if source is status and event is not E.HOLD}


# --- the table ----------------------------------------------------------------------------------------------------------


def test_every_event_is_the_users_or_a_claims_or_the_claim_itself_or_a_successors_turn() -> None:
    assert {*USER, *OF_A_CLAIM, E.CLAIM, E.ADVANCE, E.HOLD} == set(Event)


def test_every_status_can_be_reached_from_a_first_one_and_waiting_only_is_one() -> None:
    assert reachable(S.QUEUED) == set(Status) - {S.WAITING}
    assert reachable(S.WAITING) == set(Status)


@pytest.mark.parametrize("status", sorted(ENDED))
def test_an_ended_job_never_changes(status: Status) -> None:
    for event in Event:
        with pytest.raises(NotAllowed, match=f"^a job that is {status} cannot {event}; `retry` makes a new job of it$"):
            transition(status, event)


@pytest.mark.parametrize("status", sorted(LIVE))
def test_from_every_live_status_an_end_can_be_reached(status: Status) -> None:
    assert reachable(status) & ENDED


def test_cancel_beats_pause_so_nothing_leads_from_cancelling_back() -> None:
    assert reachable(S.CANCELLING) == {S.CANCELLING, S.ENDING} | ENDED


@pytest.mark.parametrize("status", sorted(CLAIMED))
def test_every_claimed_status_answers_every_end_of_a_claim_and_is_claimed_no_more(status: Status) -> None:
    assert [event for event in OF_A_CLAIM if transition(status, event).claimed] == []


@pytest.mark.parametrize("status", sorted(CLAIMED))
def test_a_user_only_asks_while_code_runs_so_the_job_stays_claimed(status: Status) -> None:
    assert [event for event in USER if not transition(status, event).claimed] == []


@pytest.mark.parametrize("status", sorted(LIVE - CLAIMED))
def test_where_no_code_runs_every_wish_of_a_user_is_granted_at_once(status: Status) -> None:
    assert transition(status, E.CANCEL) is S.CANCELLED
    assert {transition(status, E.PAUSE), transition(status, E.RESUME)} <= LIVE - CLAIMED


@pytest.mark.parametrize("status", sorted(LIVE))
def test_asking_twice_is_asking_once(status: Status) -> None:
    for event in USER:
        once = transition(status, event)
        assert once.ended or transition(once, event) is once, event


def test_only_a_claim_makes_a_job_claimed_and_only_a_queued_job_is_claimed() -> None:
    into = {(source, event) for (source, event), target in TRANSITIONS.items() if target.claimed and not source.claimed}
    assert into == {(S.QUEUED, E.CLAIM)}
    assert {source for source, event in TRANSITIONS if event is E.CLAIM} == {S.QUEUED}


def test_a_paused_job_stays_paused_until_someone_resumes_or_cancels_it() -> None:
    assert of(S.PAUSED) == {
        (E.PAUSE, S.PAUSED), (E.RESUME, S.QUEUED), (E.CANCEL, S.CANCELLED),
    }  # fmt: skip


def test_a_successor_waits_for_its_turn_whatever_a_user_wants_but_its_end() -> None:
    assert of(S.WAITING) == {
        (E.ADVANCE, S.QUEUED), (E.PAUSE, S.WAITING), (E.RESUME, S.WAITING), (E.CANCEL, S.CANCELLED), (E.POISON, S.QUARANTINED),
    }  # fmt: skip


def test_only_a_successor_and_a_parent_that_waits_advance() -> None:
    assert {source for source, event in TRANSITIONS if event is E.ADVANCE} == {S.WAITING, S.AWAITING}


def test_a_parent_that_would_end_while_its_children_live_is_held_whatever_it_was_and_can_only_end() -> None:
    assert {transition(status, E.HOLD) for status in LIVE} == {S.ENDING}
    assert reachable(S.ENDING) == {S.ENDING} | ENDED


def test_a_parent_that_waits_to_be_run_again_waits_whatever_a_user_wants_but_its_end() -> None:
    assert of(S.AWAITING) == {
        (E.ADVANCE, S.QUEUED), (E.PAUSE, S.AWAITING), (E.RESUME, S.AWAITING), (E.CANCEL, S.CANCELLED), (E.POISON, S.QUARANTINED),
    }  # fmt: skip
    assert transition(transition(S.RUNNING, E.AWAIT), E.ADVANCE) is S.QUEUED


def test_a_successor_that_somebody_has_paused_is_paused_when_its_turn_comes() -> None:
    assert transition(transition(transition(S.WAITING, E.PAUSE), E.ADVANCE), E.PAUSE) is S.PAUSED


def test_a_quarantined_job_waits_for_a_person() -> None:
    leaving = {event for event, target in of(S.QUARANTINED) if target is not S.QUARANTINED}
    assert leaving == {E.RESUME, E.CANCEL}


def test_quarantine_comes_from_poison_alone() -> None:
    assert {event for (source, event), target in TRANSITIONS.items() if target is S.QUARANTINED and source is not target} == {E.POISON}


def test_a_pausing_job_never_runs_again_by_itself() -> None:
    assert {transition(S.PAUSING, event) for event in OF_A_CLAIM} <= {S.PAUSED, S.QUARANTINED} | ENDED


def test_a_resume_withdraws_a_pause_that_has_not_been_reached() -> None:
    assert transition(transition(S.RUNNING, E.PAUSE), E.RESUME) is S.RUNNING


@pytest.mark.parametrize("status", sorted(CLAIMED))
def test_a_run_that_returns_has_completed_whatever_was_asked(status: Status) -> None:
    assert transition(status, E.RETURN) is S.COMPLETED
    assert transition(status, E.RETURN_WITH_ERRORS) is S.COMPLETED_WITH_ERRORS


def test_an_event_that_the_table_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(NotAllowed, match="^a job that is paused cannot claim$"):
        transition(S.PAUSED, E.CLAIM)


@given(st.sampled_from((S.QUEUED, S.WAITING)), st.lists(st.sampled_from(Event)))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_whatever_happens_an_end_is_an_end_and_a_cancel_is_kept(first: Status, events: list[Event]) -> None:
    status, cancelled = first, False
    for event in events:
        before = status
        try:
            status = transition(status, event)
        except NotAllowed:
            continue
        assert not before.ended
        cancelled = cancelled or event is E.CANCEL
        assert not cancelled or status in (S.CANCELLING, S.ENDING) or status.ended


# --- crashes ------------------------------------------------------------------------------------------------------------

AFTER_CRASH = {
    # status: (first to the one before the last, the last, not resumable)
    S.RUNNING: (S.QUEUED, S.QUARANTINED, S.FAILED),
    S.PAUSING: (S.PAUSED, S.QUARANTINED, S.FAILED),
    S.CANCELLING: (S.CANCELLED, S.CANCELLED, S.CANCELLED),
}


@pytest.mark.parametrize("status", sorted(CLAIMED))
def test_after_a_crash_a_resumable_job_goes_on_until_it_has_died_too_often(status: Status) -> None:
    goes_on, too_often, _ = AFTER_CRASH[status]
    assert [after_crash(status, crashes, True) for crashes in range(5)] == [goes_on, goes_on, goes_on, too_often, too_often]


@pytest.mark.parametrize("status", sorted(CLAIMED))
def test_after_a_crash_a_job_that_is_not_resumable_has_ended(status: Status) -> None:
    assert {after_crash(status, crashes, False) for crashes in range(5)} == {AFTER_CRASH[status][2]}


def test_a_job_is_a_suspect_one_crash_before_it_is_quarantined() -> None:
    assert SUSPECT_CRASHES == MAX_CRASHES - 1


@pytest.mark.parametrize("status", sorted(LIVE - CLAIMED))
def test_a_job_that_nobody_held_has_not_crashed(status: Status) -> None:
    with pytest.raises(NotAllowed):
        after_crash(status, 1, True)


# --- what is stored -----------------------------------------------------------------------------------------------------


def test_the_stored_words_are_for_ever() -> None:
    words = "queued waiting awaiting_children running pausing paused cancelling ending quarantined completed completed_with_errors failed cancelled"
    assert list(Status) == words.split()
    assert PAUSER_BITS == {"user": 1, "job": 2, "parent": 4, "disk": 8}


def test_a_status_knows_whether_it_is_an_end_and_whether_an_actor_holds_it() -> None:
    assert {status for status in Status if status.ended} == {S.COMPLETED, S.COMPLETED_WITH_ERRORS, S.FAILED, S.CANCELLED}
    assert {status for status in Status if status.claimed} == {S.RUNNING, S.PAUSING, S.CANCELLING}


@given(st.sets(st.sampled_from(Pauser)))
@settings(deadline=None, derandomize=True, database=None)
def test_bits_stand_for_the_set_of_pausers(who: set[Pauser]) -> None:
    assert pausers(sum(PAUSER_BITS[each] for each in who)) == who


def test_a_users_resume_lifts_his_own_pause_and_the_jobs_but_no_others() -> None:
    assert pausers(RESUMED_BY_USER) == {Pauser.USER, Pauser.JOB}


# --- the diagram --------------------------------------------------------------------------------------------------------


def test_the_diagram_has_every_arrow_of_the_table_and_no_other() -> None:
    drawn = {
        (Status(source), Event(event), Status(target))
        for source, target, events in re.findall(r"^ {4}(\w+) --> (\w+): (.+)$", diagram(), re.MULTILINE)
        for event in events.split(", ")
    }
    assert drawn == {(source, event, target) for (source, event), target in TRANSITIONS.items() if source is not target}


def test_the_diagram_says_how_a_job_begins_and_ends() -> None:
    lines = diagram().splitlines()
    assert [line.strip() for line in lines if "[*] -->" in line] == [
        "[*] --> queued: submit", "[*] --> waiting: submit behind a job of the same key",
    ]  # fmt: skip
    assert {line.split()[0] for line in lines if line.endswith("--> [*]")} == {"completed", "completed_with_errors", "failed", "cancelled"}


def test_the_diagram_in_the_architecture_page_is_this_table() -> None:
    begin, end = "<!-- lifecycle -->\n", "\n<!-- end of lifecycle -->"
    page = ARCHITECTURE.read_text()
    assert page.count(begin) == page.count(end) == 1
    block = f"```mermaid\n{diagram()}\n```"
    if page.split(begin)[1].split(end)[0] != block:
        pytest.fail(f"put this into ARCHITECTURE.md between {begin.strip()} and {end.strip()}:\n\n{block}", pytrace=False)
