"""How a claim ends, and the fence: an actor that does not hold the job any more changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench import NOBODY, START_MS, Bench, parts_of, save

from callboard.jobs.errors import NotAccepted, NotAllowed
from callboard.jobs.lifecycle import CLAIMED, PAUSER_BITS, TRANSITIONS, Event, Pauser, Status, transition
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.codec import encode_value
from callboard.persistence.writes import Claim, Claimed, End, Fenced, Insert, Leave, SetIntent, SetUnresponsive, WriteProgress

ENDS = (Event.RETURN, Event.RETURN_WITH_ERRORS, Event.FAIL)
LEAVES = (Event.STOP, Event.YIELD, Event.RETRY, Event.RELEASE, Event.POISON)
HEAD = ("head", "", 0, encode_head(None, 0))
JOB = PAUSER_BITS[Pauser.JOB]


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ENDS)
@pytest.mark.parametrize("before", sorted(CLAIMED))
def test_an_end_moves_the_job_to_the_history(tmp_path: Path, before: Status, event: Event) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.in_status(before, tags=("t",))
        assert bench.do(End(claimed.job_id, claimed.claim, event)) is transition(before, event)
        assert bench.status(claimed.job_id) == transition(before, event)
        assert bench.row(claimed.job_id) == {}
        assert bench.rows("SELECT tag FROM job_tags WHERE job_id = ?", claimed.job_id) == [("t",)]


def test_the_history_has_all_of_the_row_and_of_the_end(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.add(
            name="näme\0", version=4, data=b"\0data", priority=9, key=b"\0k", group="g\0", resumable=False, retry="{}", tags=("t",),
            requested_by="who", parent=NOBODY,
        )  # fmt: skip
        bench.now += 100
        [claimed] = bench.claim()
        live = bench.row(job_id)
        bench.now += 50
        error, progress = "error \0💾", encode_value({"done": 1})
        bench.do(End(job_id, claimed.claim, Event.FAIL, b"\0result", error, "trace\nback", 49, 7, '{"memory_mb": 1.5}', progress))
        row = bench.row(job_id, "job_history")
        kept = (
            "id", "name", "version", "priority", "key", "grp", "parent", "retry_of", "resumable", "retry", "tags", "requested_by", "created_at",
            "started_at", "claim", "attempt", "crashes", "waiting_ms", "data", "checksum",
        )  # fmt: skip
        assert {name: row.pop(name) for name in kept} == {name: live[name] for name in kept}
        assert row == {
            "status": "failed", "ended_at": START_MS + 150, "running_ms": 49, "warnings": 7, "error": error, "traceback": "trace\nback",
            "metrics": '{"memory_mb": 1.5}', "progress": progress, "result": b"\0result",
            "superseded_by": None,
        }  # fmt: skip


def test_what_an_end_does_not_say_stays_as_it_was(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        first = bench.start()
        job_id = first.job_id
        bench.do(Leave(job_id, first.claim, Event.RETRY, "first try", START_MS, running_ms=10, warned=5, progress=b"\x05"))
        bench.change(job_id, run_at=None)
        [second] = bench.claim()
        bench.do(End(job_id, second.claim, Event.FAIL, running_ms=3, warned=2))
        row = bench.row(job_id, "job_history")
        assert (row["error"], row["warnings"], row["running_ms"], row["progress"], row["attempt"]) == ("first try", 5, 13, b"\x05", 2)


@pytest.mark.parametrize("event", [Event.RETURN, Event.RETURN_WITH_ERRORS])
def test_a_job_that_completed_does_not_show_the_error_of_an_earlier_attempt(tmp_path: Path, event: Event) -> None:
    with Bench(tmp_path) as bench:
        first = bench.start()
        bench.do(Leave(first.job_id, first.claim, Event.RETRY, "first try", START_MS))
        bench.change(first.job_id, run_at=None)
        [second] = bench.claim()
        bench.do(End(first.job_id, second.claim, event))
        assert bench.row(first.job_id, "job_history")["error"] is None


@pytest.mark.parametrize("status", [status for status in Status if status.ended])
def test_a_history_row_never_changes(tmp_path: Path, status: Status) -> None:
    with Bench(tmp_path) as bench:
        ended = bench.in_status(status)
        before = bench.contents()
        job_id, claim = ended.job_id, ended.claim
        bench.commit(
            *(End(job_id, claim, event, drop_checkpoint=True) for event in ENDS), *(Leave(job_id, claim, event) for event in LEAVES), Claim(9),
            *(SetIntent(job_id, event) for event in (Event.PAUSE, Event.RESUME, Event.CANCEL)), save(ended, 1, HEAD),
        )  # fmt: skip
        bench.reopen()
        assert {**bench.contents(), "meta": []} == {**before, "meta": []}


def test_a_group_of_ends_is_a_few_statements(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.commit(*(Insert("work", 1, b"") for _ in range(200)))
        claimed = bench.claim(200)
        with bench.traced() as statements:
            answers = bench.commit(*(End(one.job_id, one.claim, Event.RETURN, drop_checkpoint=True) for one in claimed))
        assert answers == [Status.COMPLETED] * 200
        assert len(statements) == 5  # BEGIN, to the history, from the queue, checkpoints, COMMIT
        assert len(bench.rows("SELECT 1 FROM job_history")) == 200


def test_ends_of_others_are_carried_out_beside_stale_ones(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        good, stale, gone, last = (bench.start() for _ in range(4))
        bench.do(End(gone.job_id, gone.claim, Event.RETURN))
        answers = bench.commit(
            End(good.job_id, good.claim, Event.RETURN), End(stale.job_id, stale.claim + 1, Event.RETURN), End(gone.job_id, gone.claim, Event.FAIL),
            End(NOBODY, 1, Event.RETURN), End(last.job_id, last.claim, Event.FAIL, error="oh"),
        )  # fmt: skip
        assert answers == [Status.COMPLETED, Fenced(), Fenced(), Fenced(), Status.FAILED]
        assert [bench.status(one.job_id) for one in (good, stale, gone, last)] == ["completed", "running", "completed", "failed"]


def test_of_two_ends_of_one_claim_in_a_group_the_first_counts(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        twice, other = bench.start(), bench.start()
        answers = bench.commit(
            End(twice.job_id, twice.claim, Event.FAIL), End(other.job_id, other.claim, Event.RETURN), End(twice.job_id, twice.claim, Event.RETURN)
        )
        assert answers == [Status.FAILED, Status.COMPLETED, Fenced()]


def test_a_checkpoint_is_kept_unless_the_end_says_that_it_goes(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        dropped, kept = bench.start(), bench.start()
        bench.commit(save(dropped, 1, HEAD, ("field", "x", 0, b"1")), save(kept, 1, HEAD, ("field", "x", 0, b"2")))
        bench.commit(End(dropped.job_id, dropped.claim, Event.RETURN, drop_checkpoint=True), End(kept.job_id, kept.claim, Event.FAIL))
        assert bench.rows("SELECT job_id, kind FROM job_checkpoints") == [(kept.job_id, "field"), (kept.job_id, "head")]


def test_the_last_parts_and_warnings_come_with_the_end(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed, only_warned = bench.start(), bench.start()
        parts = HEAD, ("done", "map", 3, b"\xff")
        bench.commit(
            End(claimed.job_id, claimed.claim, Event.RETURN_WITH_ERRORS, parts=parts, sequence=1, warnings=((1, None, "w"),)),
            End(only_warned.job_id, only_warned.claim, Event.FAIL, warnings=((1, "item", "w"),)),
        )
        assert parts_of(bench, claimed.job_id)["done", "map", 3] == b"\xff"
        assert bench.rows("SELECT job_id, n, item FROM job_warnings") == [(claimed.job_id, 1, None), (only_warned.job_id, 1, "item")]


# --- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", LEAVES)
@pytest.mark.parametrize("before", sorted(CLAIMED))
def test_leaving_follows_the_table(tmp_path: Path, before: Status, event: Event) -> None:
    with Bench(tmp_path) as bench:
        bench.now += 10
        claimed = bench.in_status(before)
        job_id, after = claimed.job_id, TRANSITIONS[before, event]
        bench.do(SetUnresponsive(job_id, claimed.claim, START_MS))
        bench.now += 10
        assert bench.do(Leave(job_id, claimed.claim, event, "why", START_MS + 99, JOB, 7, 3, b"\x01")) is after
        assert bench.status(job_id) == after
        if after.ended:
            row = bench.row(job_id, "job_history")
            assert (row["error"], row["running_ms"], row["warnings"], row["progress"], row["ended_at"]) == ("why", 7, 3, b"\x01", START_MS + 20)
            return
        row = bench.row(job_id)
        assert (row["error"], row["running_ms"], row["warnings"], row["progress"], row["queued_at"]) == ("why", 7, 3, b"\x01", START_MS + 20)
        assert (row["unresponsive"], row["excused"], row["claim"]) == (None, 0, claimed.claim)
        retried = event is Event.RETRY
        assert (row["attempt"], row["run_at"]) == ((2, START_MS + 99) if retried else (1, None))
        pausers = (1 if before is Status.PAUSING else 0) | (JOB if after is Status.PAUSED else 0)
        assert row["pausers"] == pausers
        assert row["intent"] == ("pause" if pausers else "run")


def test_leaving_without_a_word_keeps_what_was_said_before(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        bench.change(claimed.job_id, error="before", progress=b"\x02", warnings=9)
        bench.do(Leave(claimed.job_id, claimed.claim, Event.STOP))
        row = bench.row(claimed.job_id)
        assert (row["error"], row["progress"], row["warnings"]) == ("before", b"\x02", 9)


def test_a_hand_given_back_is_a_few_statements(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.commit(*(Insert("work", 1, b"") for _ in range(64)))
        hand = bench.claim(64)
        bench.do(SetIntent(hand[5].job_id, Event.CANCEL))
        bench.do(SetIntent(hand[6].job_id, Event.PAUSE))
        with bench.traced() as statements:
            answers = bench.commit(*(Leave(one.job_id, one.claim, Event.RELEASE) for one in hand))
        assert len(statements) == 7  # BEGIN, who holds what, leaving, to the history, from the queue, the mark, COMMIT
        assert answers == [Status.QUEUED] * 5 + [Status.CANCELLED, Status.PAUSED] + [Status.QUEUED] * 57
        assert len(bench.claim(99)) == 62


def test_leaving_with_its_state_saved_forgets_the_crashes(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        saved, unsaved = bench.start(), bench.start()
        for one in (saved, unsaved):
            bench.change(one.job_id, crashes=2, alone=1)
        bench.commit(
            Leave(saved.job_id, saved.claim, Event.STOP, parts=(HEAD,), sequence=1), Leave(unsaved.job_id, unsaved.claim, Event.STOP)
        )
        assert [(bench.row(one.job_id)["crashes"], bench.row(one.job_id)["alone"]) for one in (saved, unsaved)] == [(0, 0), (2, 1)]


def test_of_two_departures_of_one_claim_in_a_group_the_first_counts(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        one = bench.start()
        answers = bench.commit(
            Leave(one.job_id, one.claim, Event.YIELD, pauser=JOB), Leave(one.job_id, one.claim, Event.STOP), End(one.job_id, one.claim, Event.RETURN)
        )
        assert answers == [Status.PAUSED, Fenced(), Fenced()]


def test_an_event_that_no_actor_sends_is_refused_alone(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        one, other = bench.start(), bench.start()
        refused, left = bench.commit(Leave(one.job_id, one.claim, Event.CLAIM), Leave(other.job_id, other.claim, Event.STOP))
        assert isinstance(refused, NotAllowed) and left is Status.QUEUED
        [refused] = bench.commit(End(one.job_id, one.claim, Event.STOP))
        assert isinstance(refused, NotAccepted)
        assert bench.status(one.job_id) == "running"


# --- the fence --------------------------------------------------------------------------------------------------------


def writes_of(claimed: Claimed, sequence: int) -> list[Any]:
    job_id, claim = claimed.job_id, claimed.claim
    parts = (HEAD, ("field", "x", 0, b"stale"), ("field", "y", 0, None))
    warnings = ((1, None, "stale"), (2, None, "stale"))
    return [
        save(claimed, sequence, *parts, warnings=warnings, charged=True),
        End(job_id, claim, Event.RETURN, b"r", "e", "t", 5, 5, "{}", b"p", drop_checkpoint=True),
        End(job_id, claim, Event.FAIL, parts=parts, sequence=sequence, warnings=warnings),
        *(Leave(job_id, claim, event, "e", 5, 2, 5, 5, b"p", parts, sequence, warnings) for event in LEAVES),
        WriteProgress(job_id, claim, b"stale"),
        SetUnresponsive(job_id, claim, 5),
    ]


@pytest.mark.parametrize("together", [False, True])
def test_a_stale_claim_changes_nothing(tmp_path: Path, together: bool) -> None:
    with Bench(tmp_path) as bench:
        stale = bench.start()
        bench.do(Leave(stale.job_id, stale.claim, Event.RELEASE))
        [now] = bench.claim()
        bench.do(save(now, 1, HEAD, ("field", "x", 0, b"x"), ("field", "y", 0, b"y"), warnings=((1, None, "w"),)))
        before = bench.contents()
        writes = writes_of(stale, 9) + writes_of(Claimed(*(NOBODY, *stale[1:])), 9)
        answers = bench.commit(*writes) if together else [bench.do(write) for write in writes]
        of_one = [Fenced()] * 8 + [None, False]
        assert answers == of_one * 2
        assert bench.contents() == before


@pytest.mark.parametrize("status", [Status.QUEUED, Status.PAUSED, Status.QUARANTINED])
def test_the_last_claim_is_stale_too_once_the_job_was_left(tmp_path: Path, status: Status) -> None:
    with Bench(tmp_path) as bench:
        last = bench.start()
        bench.do(save(last, 1, HEAD, ("field", "x", 0, b"x")))
        event = {Status.QUEUED: Event.STOP, Status.PAUSED: Event.YIELD, Status.QUARANTINED: Event.POISON}[status]
        assert bench.do(Leave(last.job_id, last.claim, event, pauser=JOB)) is status
        before = bench.contents()
        for write in writes_of(last, 9):
            assert bench.do(write) in (Fenced(), None, False)
        assert bench.contents() == before


def test_a_group_in_which_all_are_stale_writes_nothing_at_all(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        stale = bench.start()
        bench.do(Leave(stale.job_id, stale.claim, Event.RELEASE))
        before = bench.contents()
        bench.commit(*writes_of(stale, 1), Insert("work", 1, b"", key=b"k"), Claim(0), Insert("work", 1, b"", key=b"k"))
        assert bench.contents() == {**before, "jobs": [*before["jobs"], tuple(bench.rows("SELECT * FROM jobs ORDER BY id DESC LIMIT 1")[0])]}
        before = bench.contents()
        bench.commit(*writes_of(stale, 1), Insert("work", 1, b"", key=b"k"), SetIntent(NOBODY, Event.PAUSE))
        assert bench.contents() == before
