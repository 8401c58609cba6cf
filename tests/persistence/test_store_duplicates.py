"""Every cell of the table of duplicates against a real store, as a single job and in a batch: who stands, who ends, who waits for whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest
from batchwork import Work, chunks
from bench import NOBODY, START_MS, Bench

from callboard.jobs.batch_items import DeduplicatedItem, RejectedItem, RequeuedItem, SubmittedItem, SupersededItem
from callboard.jobs.duplicates import Answer, NewRow, OldJob, Standing, decide
from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.submission import OnDuplicate, Submission
from callboard.persistence.writes import Claim, Claimed, End, Insert, InsertChunk, Leave, SetIntent

KEY = b"key"
STORED = sorted(set(Standing) - {Standing.CHILDREN_RUNNING})
"""A running job that has children is decided like one that has none."""


def standing(bench: Bench, state: Standing) -> tuple[bytes, bytes | None, int | None]:
    """A job of the key in this state: its id, the job in front of it, the claim of whoever runs."""
    match state:
        case Standing.DELAYED:
            return bench.add(key=KEY, delay_ms=1_000, priority=100), None, None
        case Standing.WAITING:
            front = bench.start(key=KEY, priority=100)
            older = bench.do(Insert("work", 1, b"", key=KEY, priority=100, on_duplicate=OnDuplicate.REQUEUE))
            assert older.met == (Answer.REQUEUED, front.job_id, False, True)
            return older.job_id, front.job_id, front.claim
        case _:
            claimed = bench.in_status(Status(state), key=KEY, priority=100)
            return claimed.job_id, None, claimed.claim or None


def single(bench: Bench, strategy: OnDuplicate, priority: int) -> tuple[Answer, bytes | None, bytes | None, bool]:
    """Outcome, id of the new job, id of the older one, whether that was raised."""
    answer = bench.do(Insert("work", 1, b"newer", key=KEY, priority=priority, on_duplicate=strategy))
    assert answer.met is not None
    assert answer.duplicate == (answer.met.outcome in (Answer.DEDUPLICATED, Answer.REJECTED))
    return answer.met.outcome, None if answer.duplicate else answer.job_id, answer.met.older, answer.met.raised


def in_a_batch(bench: Bench, strategy: OnDuplicate, priority: int) -> tuple[Answer, bytes | None, bytes | None, bool]:
    items = [Work(1), Submission(Work(2), key=KEY, priority=priority), Work(3)]
    [chunk] = chunks(items, on_duplicate=strategy)
    stored = bench.do(InsertChunk(chunk))
    assert isinstance(stored.outcome.item(0), SubmittedItem) and isinstance(stored.outcome.item(2), SubmittedItem)
    match stored.outcome.item(1):
        case SubmittedItem(_, job_id):
            return Answer.SUBMITTED, job_id, None, False
        case DeduplicatedItem(_, key, older, raised):
            assert key == KEY
            return Answer.DEDUPLICATED, None, older, raised
        case SupersededItem(_, job_id, older):
            return Answer.SUPERSEDED, job_id, older, False
        case RequeuedItem(_, job_id, older):
            return Answer.REQUEUED, job_id, older, False
        case RejectedItem(_, key, older):
            assert key == KEY
            return Answer.REJECTED, None, older, False
    raise AssertionError(stored.outcome.item(1))


@pytest.mark.parametrize("submit", (single, in_a_batch))
@pytest.mark.parametrize("state", STORED)
@pytest.mark.parametrize("strategy", OnDuplicate)
def test_every_cell_of_the_table(tmp_path: Path, strategy: OnDuplicate, state: Standing, submit: Any) -> None:
    with Bench(tmp_path) as bench:
        older, front, _ = standing(bench, state)
        before = bench.row(older)
        decision = decide(strategy, state)
        outcome, new, met, raised = submit(bench, strategy, 100)
        assert (outcome, met or older, raised) == (decision.outcome, older, False)
        assert (new is None) == (decision.new is NewRow.NONE)
        match decision.old:
            case OldJob.STAYS:
                assert bench.row(older) == before
            case OldJob.CANCELLING:
                now = bench.row(older)
                assert (now["status"], now["intent"], now["superseded_by"]) == ("cancelling", "cancel", new)
            case OldJob.ENDS:
                assert bench.row(older) == {}
                ended = bench.row(older, "job_history")
                assert (ended["status"], ended["superseded_by"], ended["error"]) == ("cancelled", new, "superseded by a newer job of the same key")
                same = ended.keys() & before.keys() - {"status", "superseded_by", "error", "waiting_ms"}
                assert {name: ended[name] for name in same} == {name: before[name] for name in same}
        if new is not None:
            row = bench.row(new)
            behind = {NewRow.QUEUED: None, NewRow.BEHIND: older, NewRow.IN_PLACE: front}[decision.new]
            assert (row["status"], row["after_id"], row["key"]) == ("waiting" if behind else "queued", behind, KEY)
        told = [(each.job_id, each.by, each.ended) for each in bench.store.take_aftermath().replaced]
        assert told == ([] if decision.old is OldJob.STAYS else [(older, new, decision.old is OldJob.ENDS)])


@pytest.mark.parametrize("submit", (single, in_a_batch))
@pytest.mark.parametrize("state", STORED)
@pytest.mark.parametrize("strategy", OnDuplicate)
def test_a_more_urgent_priority_is_passed_on_by_skip_alone_and_to_what_has_not_begun(
    tmp_path: Path, strategy: OnDuplicate, state: Standing, submit: Any
) -> None:
    with Bench(tmp_path) as bench:
        older, _, _ = standing(bench, state)
        for priority in (101, 99):
            _, new, _, raised = submit(bench, strategy, priority)
            expected = strategy is OnDuplicate.SKIP and priority == 99 and state in {"queued", "delayed", "waiting", "paused"}
            assert raised == expected
            row = bench.row(older) or bench.row(older, "job_history")
            assert row["priority"] == (99 if expected else 100)
            if new is not None or submit is in_a_batch:
                return


@pytest.mark.parametrize("state", STORED)
@pytest.mark.parametrize("strategy", OnDuplicate)
def test_the_newcomer_runs_only_when_the_older_one_has_stopped(tmp_path: Path, strategy: OnDuplicate, state: Standing) -> None:
    with Bench(tmp_path) as bench:
        older, front, claim = standing(bench, state)
        _, new, _, _ = single(bench, strategy, 100)
        holder = front or older
        assert new is None or (new in [each.job_id for each in bench.claim()]) == (decide(strategy, state).new is NewRow.QUEUED)
        if claim is not None and bench.status(holder) in ("running", "pausing", "cancelling"):
            cancelled = bench.status(holder) == "cancelling"
            bench.do(Leave(holder, claim, Event.STOP) if cancelled else End(holder, claim, Event.RETURN))
            if cancelled:
                assert bench.row(holder, "job_history")["superseded_by"] == (new if strategy is OnDuplicate.SUPERSEDE else None)
            if new is not None:
                assert bench.row(new)["status"] == "queued" and bench.row(new)["after_id"] is None
                assert [each.job_id for each in bench.claim()] == [new]


def test_one_that_completed_before_it_could_be_stopped_is_not_superseded(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        older = bench.start(key=KEY)
        new = bench.do(Insert("work", 1, b"", key=KEY, on_duplicate=OnDuplicate.SUPERSEDE)).job_id
        assert bench.do(End(older.job_id, older.claim, Event.RETURN)) is Status.COMPLETED
        assert bench.row(older.job_id, "job_history")["superseded_by"] is None
        assert bench.status(new) == "queued"


# --- successors ---------------------------------------------------------------------------------------------------------


def behind(bench: Bench, **more: Any) -> tuple[Claimed, bytes]:
    front = bench.start(key=KEY)
    return front, bench.do(Insert("work", 1, b"", key=KEY, on_duplicate=OnDuplicate.REQUEUE, **more)).job_id


def test_a_successor_comes_into_line_in_the_commit_that_ends_the_job_in_front(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        front, new = behind(bench)
        bench.now += 70
        _, claimed = bench.commit(End(front.job_id, front.claim, Event.FAIL), Claim(5))
        assert [each.job_id for each in claimed] == [new]
        assert bench.store.take_aftermath().advanced == [(new, "work", Status.QUEUED)]
        assert (bench.row(new)["queued_at"], bench.row(new)["waiting_ms"]) == (START_MS + 70, 0)


def test_a_successor_that_somebody_paused_is_paused_when_its_turn_comes(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        front, new = behind(bench)
        assert bench.do(SetIntent(new, Event.PAUSE)).after is Status.WAITING
        bench.do(End(front.job_id, front.claim, Event.RETURN))
        assert (bench.status(new), bench.row(new)["intent"]) == ("paused", "pause")
        bench.do(SetIntent(new, Event.RESUME))
        assert bench.claim()[0].job_id == new


def test_a_successor_with_a_time_waits_for_both(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        front, new = behind(bench, delay_ms=500)
        assert bench.store.next_due_ms() == START_MS + 500
        bench.do(End(front.job_id, front.claim, Event.RETURN))
        assert bench.claim() == () and bench.status(new) == "queued" and bench.row(new)["run_at"] == START_MS + 500


@pytest.mark.parametrize("ends", ("cancelled by a user", "left while cancelling", "by a crash"))
def test_however_the_front_ends_the_successor_comes_into_line(tmp_path: Path, ends: str) -> None:
    with Bench(tmp_path) as bench:
        if ends == "cancelled by a user":
            front = bench.in_status(Status.PAUSED, key=KEY)
            new = bench.do(Insert("work", 1, b"", key=KEY, on_duplicate=OnDuplicate.REQUEUE)).job_id
            bench.do(SetIntent(front.job_id, Event.CANCEL))
        else:
            front, new = behind(bench)
            bench.do(SetIntent(front.job_id, Event.CANCEL))
            if ends == "by a crash":
                assert bench.reopen().queued == 1
            else:
                bench.do(Leave(front.job_id, front.claim, Event.STOP))
        assert bench.status(front.job_id) == "cancelled" and bench.status(new) == "queued"
        assert [each.job_id for each in bench.claim()] == [new]


def test_a_front_that_survives_a_crash_keeps_its_successor_waiting(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        front, new = behind(bench)
        bench.reopen()
        assert (bench.status(front.job_id), bench.status(new)) == ("queued", "waiting")
        [again] = bench.claim()
        assert again.job_id == front.job_id
        bench.do(End(again.job_id, again.claim, Event.RETURN))
        assert bench.status(new) == "queued"


def test_the_indexes_allow_one_live_job_and_one_successor_of_a_key(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        front, new = behind(bench)
        other = bench.add()
        with pytest.raises(apsw.ConstraintError):
            bench.change(other, key=KEY)
        with pytest.raises(apsw.ConstraintError):
            bench.change(other, key=KEY, status="waiting", after_id=front.job_id)
        with pytest.raises(apsw.ConstraintError):
            bench.change(other, status="waiting")
        bench.change(other, key=b"another", status="waiting", after_id=front.job_id)
        assert bench.status(new) == "waiting"


def test_a_successor_whose_front_was_set_aside_does_not_come_into_line_beside_a_third(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        front, new = behind(bench)
        bench.damage(front.job_id, "warnings", "'no number'")
        bench.add(key=b"other")
        bench.read_back()
        bench.change(new, run_at=None)
        recovered = bench.reopen()
        assert recovered.quarantined == 1 and bench.status(new) == "queued"
        third = bench.do(Insert("work", 1, b"", key=KEY))
        assert third.duplicate and third.job_id == new


# --- in one group -------------------------------------------------------------------------------------------------------


def test_of_many_in_one_group_that_supersede_each_other_the_last_stands_and_the_statements_stay_few(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        counts = []
        for size in (3, 300):
            older = bench.add(key=b"%d" % size)
            writes = [Insert("work", 1, b"%d" % place, key=b"%d" % size, on_duplicate=OnDuplicate.SUPERSEDE, tags=("t",)) for place in range(size)]
            with bench.traced() as statements:
                answers = bench.commit(*writes)
            counts.append(len(statements))
            assert [answer.met.older for answer in answers] == [older, *(answer.job_id for answer in answers[:-1])]
            [(live, data)] = bench.rows("SELECT id, data FROM jobs WHERE key = ?", b"%d" % size)
            assert (live, data) == (answers[-1].job_id, b"%d" % (size - 1))
            ended = bench.rows("SELECT id, superseded_by FROM job_history WHERE key = ? ORDER BY id", b"%d" % size)
            chain = [older, *(answer.job_id for answer in answers)]
            assert ended == list(zip(chain, chain[1:], strict=False))
            assert len(bench.store.take_aftermath().replaced) == size
        assert counts == [9, 9]  # BEGIN, INSERT, who has the key, two to end the older, the newest, those between, tags, COMMIT


def test_behind_a_running_one_many_requeues_collapse_to_the_newest(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        front = bench.start(key=KEY)
        for group in (3, 1, 2):
            bench.commit(*(Insert("work", 1, b"%d %d" % (group, place), key=KEY, on_duplicate=OnDuplicate.REQUEUE) for place in range(group)))
        assert bench.rows("SELECT data FROM jobs WHERE status = 'waiting'") == [(b"2 1",)]
        assert len(bench.rows("SELECT 1 FROM job_history")) == 5
        bench.do(End(front.job_id, front.claim, Event.RETURN))
        assert [each.data for each in bench.claim()] == [b"2 1"]


def test_a_claim_in_the_same_group_takes_what_stands_in_the_end(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        assert bench.claim() == ()
        way = OnDuplicate.SUPERSEDE
        *answers, claimed = bench.commit(*(Insert("work", 1, b"%d" % n, key=KEY, on_duplicate=way) for n in range(3)), Claim(5))
        assert [each.job_id for each in claimed] == [answers[-1].job_id]
        bench.do(End(claimed[0].job_id, claimed[0].claim, Event.RETURN))
        first, second, third, claimed = bench.commit(
            Insert("work", 1, b"", key=KEY, priority=9), Insert("work", 1, b"", priority=5), Insert("work", 1, b"", key=KEY, priority=1), Claim(5)
        )
        assert third.duplicate and third.met.raised and bench.row(first.job_id)["priority"] == 1
        assert [each.job_id for each in claimed] == [first.job_id, second.job_id]


def test_nothing_is_asked_about_successors_where_none_waits(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = [bench.start() for _ in range(2)]
        with bench.traced() as statements:
            bench.do(End(claimed[0].job_id, claimed[0].claim, Event.RETURN))
        alone = len(statements)
        _, new = behind(bench)
        bench.do(SetIntent(new, Event.CANCEL))
        with bench.traced() as statements:
            bench.do(End(claimed[1].job_id, claimed[1].claim, Event.RETURN))
        assert len(statements) == alone == 4
        assert bench.row(new, "job_history")["status"] == "cancelled" and bench.row(NOBODY) == {}
