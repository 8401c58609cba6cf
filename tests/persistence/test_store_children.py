"""A parent and its children as rows: spawned with its checkpoint or not at all, held at its end until they have ended, woken when they have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from batchwork import BATCH, Work
from batchwork import chunks as batch_chunks
from bench import START_MS, Bench, parts_of, save

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.children import children_batch_id
from callboard.jobs.duplicates import NewRow, OldJob, decide, standing_of
from callboard.jobs.errors import BatchMismatch
from callboard.jobs.identity import nth
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import PAUSER_BITS, Event, Pauser, Status
from callboard.jobs.submission import OnDuplicate, Submission
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.writes import (
    Cascade,
    ChunkStored,
    Claimed,
    End,
    Fenced,
    Insert,
    InsertAgain,
    InsertChunk,
    IntentSet,
    Leave,
    ParentWaits,
    SetBatchIntent,
    SetIntent,
    SpawnChildren,
)

HEAD = ("head", "", 0, encode_head(None, 0))
NAMES = ("children", "folders", 0, b"named")


@dataclass
class Child(Job, name="test_children.child"):
    number: int = 0

    def run(self, ctx: Any) -> None: ...


def chunks(parent: Claimed, jobs: Iterable[Child | Submission], *, most: int = 1_000, name: str = "folders") -> Iterator[InsertChunk]:
    """The writes of a parent's children."""
    batch_id = children_batch_id(parent.job_id, name)
    items = iter(jobs)
    encoder = BatchEncoder(BatchSubmission(()), batch_id, parent=parent.job_id)
    while (chunk := encoder.chunk(items, most)) is not None:
        yield InsertChunk(chunk)


def spawn(bench: Bench, parent: Claimed, count: int, *, name: str = "folders", sequence: int = 1) -> list[bytes]:
    """Children of one chunk; their ids."""
    [chunk] = chunks(parent, map(Child, range(count)), name=name)
    part = ("children", name, 0, b"named")
    answer = bench.do(SpawnChildren(parent.job_id, parent.claim, chunk, save(parent, sequence, HEAD, part)))
    assert isinstance(answer, ChunkStored) and answer.outcome.first_id is not None
    return [nth(answer.outcome.first_id, place) for place in range(count)]


def end(bench: Bench, claimed: Claimed, event: Event = Event.RETURN, **more: Any) -> Any:
    return bench.do(End(claimed.job_id, claimed.claim, event, **more))


def park(bench: Bench, parent: Claimed, name: str = "folders") -> Any:
    return bench.do(Leave(parent.job_id, parent.claim, Event.AWAIT, awaits=children_batch_id(parent.job_id, name)))


def cascade(bench: Bench, most: int = 1_000) -> int:
    """Carry out all that is noted; how many steps it took."""
    steps = 0
    while bench.do(Cascade(most)).more:
        steps += 1
    return steps


# --- spawning -----------------------------------------------------------------------------------------------------------


def test_children_and_the_checkpoint_that_names_them_are_written_together(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        children = spawn(bench, parent, 3)
        assert [bench.row(each)["parent"] for each in children] == [parent.job_id] * 3
        assert parts_of(bench, parent.job_id)["children", "folders", 0] == b"named"
        bench.reopen()
        assert [bench.status(each) for each in children] == ["queued"] * 3
        assert parts_of(bench, parent.job_id)["children", "folders", 0] == b"named"


def test_a_parent_that_another_actor_holds_spawns_nothing(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        stale = bench.start()
        bench.do(Leave(stale.job_id, stale.claim, Event.RELEASE))
        before = bench.contents()
        [chunk] = chunks(stale, [Child(1)])
        assert bench.do(SpawnChildren(stale.job_id, stale.claim, chunk, save(stale, 1, HEAD, NAMES))) == Fenced()
        assert bench.contents() == before


def test_children_spawned_again_are_the_same_and_others_under_their_name_are_refused(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        children = spawn(bench, parent, 3)
        bench.reopen()
        again = bench.claim(only=(parent.job_id,))[0]
        assert spawn(bench, again, 3, sequence=2) == children
        [other] = chunks(again, [Child(77)])
        with pytest.raises(BatchMismatch):
            bench.do(SpawnChildren(again.job_id, again.claim, other, save(again, 3, HEAD, NAMES)))
        assert len(bench.rows("SELECT id FROM jobs WHERE parent IS NOT NULL")) == 3


def test_what_was_cut_off_between_two_chunks_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        first, second, third = chunks(parent, map(Child, range(25)), most=10)
        bench.do(SpawnChildren(parent.job_id, parent.claim, first, save(parent, 1, HEAD, NAMES)))
        bench.do(SpawnChildren(parent.job_id, parent.claim, second, None))
        stored = {row for row, in bench.rows("SELECT id FROM jobs WHERE parent IS NOT NULL")}
        bench.reopen()
        again = bench.claim(only=(parent.job_id,))[0]
        answers = [bench.do(SpawnChildren(again.job_id, again.claim, each, None)) for each in (first, second, third)]
        assert [answer.again for answer in answers] == [True, True, False]
        now = {row for row, in bench.rows("SELECT id FROM jobs WHERE parent IS NOT NULL")}
        assert len(now) == 25 and stored < now


def test_each_new_part_of_children_is_progress_and_one_that_was_stored_before_is_none(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        parts = list(chunks(parent, map(Child, range(30)), most=10))
        bench.do(SpawnChildren(parent.job_id, parent.claim, parts[0], save(parent, 1, HEAD, NAMES)))
        for crashes in (1, 2):
            bench.reopen()
            [parent] = bench.claim(only=(parent.job_id,), alone=crashes == 2)
        assert bench.row(parent.job_id)["crashes"] == 2 and parent.alone
        bench.do(SpawnChildren(parent.job_id, parent.claim, parts[0], None))
        assert bench.row(parent.job_id)["crashes"] == 2
        bench.do(SpawnChildren(parent.job_id, parent.claim, parts[1], None))
        row = bench.row(parent.job_id)
        assert (row["crashes"], row["alone"]) == (0, 0)


def test_children_of_a_parent_that_is_asked_to_stop_stop_too(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        for event, status in ((Event.PAUSE, "paused"), (Event.CANCEL, "cancelled")):
            parent = bench.start()
            bench.do(SetIntent(parent.job_id, event))
            children = spawn(bench, parent, 2)
            cascade(bench)
            assert [bench.status(each) for each in children] == [status] * 2


# --- held at the end ----------------------------------------------------------------------------------------------------


def test_a_parent_that_returns_ends_with_its_last_child(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        children = spawn(bench, parent, 2)
        assert end(bench, parent, result=b"\x05", running_ms=7, drop_checkpoint=True) is Status.ENDING
        one, two = bench.claim()
        assert end(bench, one) is Status.COMPLETED
        assert bench.status(parent.job_id) == "ending"
        bench.store.take_aftermath()
        bench.now += 100
        assert end(bench, two) is Status.COMPLETED
        row = bench.row(parent.job_id, "job_history")
        assert (row["status"], row["result"], row["running_ms"], row["ended_at"]) == ("completed", b"\x05", 7, START_MS + 100)
        assert [(ended.job_id, ended.status, ended.result) for ended in bench.store.take_aftermath().ended] == [
            (parent.job_id, Status.COMPLETED, b"\x05")
        ]
        assert parts_of(bench, parent.job_id) == {}
        assert bench.rows("SELECT count(*) FROM held_ends") == [(0,)]
        assert {bench.status(each) for each in children} == {"completed"}


@pytest.mark.parametrize("reopen", [False, True], ids=["at once", "after a crash"])
def test_a_parent_that_fails_takes_its_children_with_it_and_ends_after_them(tmp_path: Path, reopen: bool) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        children = spawn(bench, parent, 5)
        child = bench.claim(1)[0]
        assert end(bench, parent, Event.FAIL, error="went wrong", traceback="there") is Status.ENDING
        if reopen:
            bench.reopen()
        assert bench.commit(SetIntent(parent.job_id, Event.PAUSE)) and bench.store.take_aftermath().cascades
        steps = cascade(bench, 2)
        assert steps >= 3
        if not reopen:
            assert bench.status(parent.job_id) == "ending"
            assert bench.status(child.job_id) == "cancelling"
            assert bench.do(Leave(child.job_id, child.claim, Event.STOP)) is Status.CANCELLED
        assert {bench.status(each) for each in children} == {"cancelled"}
        row = bench.row(parent.job_id, "job_history")
        assert (row["status"], row["error"], row["traceback"]) == ("failed", "went wrong", "there")


@pytest.mark.parametrize("before", [Status.QUEUED, Status.PAUSED, Status.RUNNING, Status.AWAITING, Status.ENDING])
def test_a_parent_that_is_cancelled_ends_after_its_children_whatever_it_was_doing(tmp_path: Path, before: Status) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        children = spawn(bench, parent, 3)
        match before:
            case Status.QUEUED:
                bench.do(Leave(parent.job_id, parent.claim, Event.RELEASE))
            case Status.PAUSED:
                bench.do(Leave(parent.job_id, parent.claim, Event.YIELD, pauser=2))
            case Status.AWAITING:
                park(bench, parent)
            case Status.ENDING:
                end(bench, parent)
        assert bench.status(parent.job_id) == before
        answer = bench.do(SetIntent(parent.job_id, Event.CANCEL))
        assert answer == IntentSet("work", before, Status.CANCELLING if before is Status.RUNNING else Status.ENDING)
        cascade(bench)
        if before is Status.RUNNING:
            assert {bench.status(each) for each in children} == {"cancelled"}
            bench.do(Leave(parent.job_id, parent.claim, Event.STOP))
        assert bench.status(parent.job_id) == "cancelled"
        assert bench.rows("SELECT count(*) FROM cascades") == [(0,)]


def test_a_parent_that_leaves_while_it_is_cancelled_waits_for_a_child_that_still_runs(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        spawn(bench, parent, 1)
        child = bench.claim()[0]
        bench.do(SetIntent(parent.job_id, Event.CANCEL))
        cascade(bench)
        assert bench.do(Leave(parent.job_id, parent.claim, Event.STOP)) is Status.ENDING
        assert bench.do(Leave(child.job_id, child.claim, Event.STOP)) is Status.CANCELLED
        assert bench.status(parent.job_id) == "cancelled"


def test_ends_go_up_the_whole_tree_in_one_commit(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        line = [bench.start()]
        for _ in range(50):
            spawn(bench, line[-1], 1)
            line += bench.claim()
        for parent in line[:-1]:
            assert end(bench, parent) is Status.ENDING
        end(bench, line[-1])
        assert {bench.status(each.job_id) for each in line} == {"completed"}


def test_a_cancel_goes_down_the_whole_tree_and_the_root_ends_last(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        line = [bench.start()]
        for _ in range(5):
            spawn(bench, line[-1], 3)
            line += bench.claim(1)
        for parent in reversed(line):
            bench.do(Leave(parent.job_id, parent.claim, Event.RELEASE))
        bench.do(SetIntent(line[0].job_id, Event.CANCEL))
        ended = 0
        while bench.do(Cascade(2)).more:
            left = {row for row, in bench.rows("SELECT id FROM jobs")}
            assert all(bench.status(line[0].job_id) == "ending" for _ in left)
            ended += 1
        assert ended > 5
        assert bench.rows("SELECT status, count(*) FROM job_history GROUP BY 1") == [("cancelled", 16)]


def test_what_cannot_go_on_after_a_crash_is_held_as_well(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start(resumable=False)
        children = spawn(bench, parent, 2)
        assert bench.reopen().failed == 1
        assert bench.status(parent.job_id) == "ending"
        cascade(bench)
        assert bench.status(parent.job_id) == "failed"
        assert [bench.status(each) for each in children] == ["cancelled"] * 2


# --- pause and resume ---------------------------------------------------------------------------------------------------


def test_pause_and_resume_go_down_and_what_a_user_paused_himself_stays_paused(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        queued, running, his = spawn(bench, parent, 3)
        bench.do(SetIntent(his, Event.PAUSE))
        child = bench.claim(only=(running,))[0]
        spawn(bench, child, 2)
        bench.do(SetIntent(parent.job_id, Event.PAUSE))
        cascade(bench, 1)
        below = [row for row, in bench.rows("SELECT status FROM jobs WHERE parent = ?", running)]
        assert (bench.status(queued), bench.status(running), bench.status(his), *below) == ("paused", "pausing", "paused", "paused", "paused")
        assert bench.row(his)["pausers"] == 1 | 4
        bench.do(Leave(child.job_id, child.claim, Event.STOP))
        bench.do(Leave(parent.job_id, parent.claim, Event.STOP))
        bench.reopen()
        assert bench.do(SetIntent(running, Event.RESUME, 3)).after is Status.PAUSED, "its parent keeps it paused"
        bench.do(SetIntent(parent.job_id, Event.RESUME, 3))
        cascade(bench, 1)
        below = [row for row, in bench.rows("SELECT status FROM jobs WHERE parent = ?", running)]
        assert (bench.status(queued), bench.status(running), bench.status(his), *below) == ("queued", "queued", "paused", "queued", "queued")


def test_a_resume_goes_past_no_child_that_a_user_keeps_paused(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        spawn(bench, parent, 1)
        child = bench.claim()[0]
        spawn(bench, child, 2)
        bench.do(Leave(child.job_id, child.claim, Event.RELEASE))
        for paused in (parent, child):
            bench.do(SetIntent(paused.job_id, Event.PAUSE))
            cascade(bench)
        bench.do(SetIntent(parent.job_id, Event.RESUME, 3))
        cascade(bench)
        below = bench.rows("SELECT status, pausers FROM jobs WHERE parent = ?", child.job_id)
        assert (bench.status(child.job_id), below) == ("paused", [("paused", 4), ("paused", 4)])


# --- to be run again ----------------------------------------------------------------------------------------------------


def test_a_parent_that_left_to_wait_is_in_line_again_in_the_commit_that_ends_its_last_child(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start(key=b"its key")
        spawn(bench, parent, 2)
        one, two = bench.claim()
        assert park(bench, parent) is Status.AWAITING
        end(bench, one)
        bench.reopen()
        assert bench.status(parent.job_id) == "awaiting_children"
        two = bench.claim()[0]
        assert two.job_id != parent.job_id
        bench.store.take_aftermath()
        end(bench, two, Event.FAIL)
        assert [(each.job_id, each.status) for each in bench.store.take_aftermath().advanced] == [(parent.job_id, Status.QUEUED)]
        assert [each.job_id for each in bench.claim()] == [parent.job_id]


def test_a_parent_that_left_to_wait_for_what_is_over_is_in_line_at_once(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        spawn(bench, parent, 1)
        child = bench.claim()[0]
        leave = Leave(parent.job_id, parent.claim, Event.AWAIT, awaits=children_batch_id(parent.job_id, "folders"))
        bench.commit(leave, End(child.job_id, child.claim, Event.RETURN))
        assert bench.status(parent.job_id) == "queued"
        parent = bench.claim()[0]
        park(bench, parent)
        assert bench.status(parent.job_id) == "queued"


def test_a_parent_that_waits_and_is_paused_is_paused_when_its_children_have_ended(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        spawn(bench, parent, 1)
        child = bench.claim()[0]
        park(bench, parent)
        assert bench.do(SetIntent(parent.job_id, Event.PAUSE)).after is Status.AWAITING
        end(bench, child)
        assert bench.status(parent.job_id) == "paused"


def test_a_parent_that_waits_keeps_its_key(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start(key=b"its key")
        spawn(bench, parent, 1)
        park(bench, parent)
        assert bench.do(Insert("work", 1, b"", key=b"its key")).job_id == parent.job_id


def test_a_parent_that_waits_on_its_actor_is_not_charged_when_the_process_dies(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        one, two = bench.start(), bench.start()
        bench.commit(ParentWaits(one.job_id, one.claim, True), ParentWaits(two.job_id, two.claim, True))
        bench.do(ParentWaits(two.job_id, two.claim, False))
        bench.reopen()
        assert [bench.row(each.job_id)["crashes"] for each in (one, two)] == [0, 1]


# --- a newer job of the same key ----------------------------------------------------------------------------------------

STANDS = [Status.QUEUED, Status.PAUSED, Status.RUNNING, Status.AWAITING, Status.ENDING]


@pytest.mark.parametrize("strategy", sorted(OnDuplicate))
@pytest.mark.parametrize("before", STANDS)
def test_a_parent_whose_children_live_is_met_as_the_table_says(tmp_path: Path, before: Status, strategy: OnDuplicate) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start(key=b"its key")
        children = spawn(bench, parent, 2)
        match before:
            case Status.QUEUED:
                bench.do(Leave(parent.job_id, parent.claim, Event.RELEASE))
            case Status.PAUSED:
                bench.do(Leave(parent.job_id, parent.claim, Event.YIELD, pauser=2))
            case Status.AWAITING:
                park(bench, parent)
            case Status.ENDING:
                end(bench, parent)
        decision = decide(strategy, standing_of(Status.RUNNING, False, True))
        answer = bench.do(Insert("work", 1, b"newer", key=b"its key", on_duplicate=strategy))
        assert answer.met is not None and answer.met.outcome is decision.outcome and answer.met.older == parent.job_id
        assert answer.duplicate == (decision.new is NewRow.NONE)
        if decision.new is NewRow.BEHIND:
            assert bench.row(answer.job_id)["after_id"] == parent.job_id
        cascade(bench)
        if decision.old is OldJob.STAYS:
            assert bench.status(parent.job_id) == before and {bench.status(each) for each in children} == {"queued"}
            return
        if before is Status.RUNNING:
            bench.do(Leave(parent.job_id, parent.claim, Event.STOP))
        assert {bench.status(each) for each in children} == {"cancelled"}
        assert bench.row(parent.job_id, "job_history")["superseded_by"] == answer.job_id
        assert bench.status(answer.job_id) == "queued", "it comes into line when the older one and all its children have ended"


@pytest.mark.parametrize("strategy", [OnDuplicate.SUPERSEDE, OnDuplicate.REQUEUE])
def test_a_successor_that_has_children_gives_up_its_place_at_once_and_ends_when_they_have(tmp_path: Path, strategy: OnDuplicate) -> None:
    with Bench(tmp_path) as bench:
        front = bench.start(key=b"its key")
        older = bench.do(Insert("work", 1, b"", key=b"its key", on_duplicate=OnDuplicate.REQUEUE)).job_id
        child = bench.add("child", parent=older)
        running = bench.claim(only=(child,))[0]
        newer = bench.do(Insert("work", 1, b"", key=b"its key", on_duplicate=strategy)).job_id
        told = bench.store.take_aftermath()
        assert [(each.job_id, each.ended) for each in told.replaced] == [(older, False)] and told.cascades
        assert (bench.status(older), bench.status(newer), bench.row(newer)["after_id"]) == ("ending", "waiting", front.job_id)
        cascade(bench)
        assert (bench.status(older), bench.status(child)) == ("ending", "cancelling")
        end(bench, front)
        assert bench.status(newer) == "queued"
        bench.do(Leave(child, running.claim, Event.STOP))
        assert (bench.status(older), bench.status(child)) == ("cancelled", "cancelled")
        ended = bench.row(older, "job_history")
        assert (ended["superseded_by"], ended["key"]) == (newer, b"its key")


def test_a_successor_that_is_cancelled_with_its_children_has_its_key_in_the_history(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.start(key=b"its key")
        successor = bench.do(Insert("work", 1, b"", key=b"its key", on_duplicate=OnDuplicate.REQUEUE)).job_id
        child = bench.add("child", parent=successor)
        running = bench.claim(only=(child,))[0]
        bench.do(SetIntent(successor, Event.CANCEL))
        newer = bench.do(Insert("work", 1, b"", key=b"its key", on_duplicate=OnDuplicate.REQUEUE)).job_id
        assert (bench.status(successor), bench.status(newer)) == ("ending", "waiting"), "its place is free at once"
        cascade(bench)
        bench.do(Leave(child, running.claim, Event.STOP))
        assert (bench.status(successor), bench.row(successor, "job_history")["key"]) == ("cancelled", b"its key")


def test_a_parent_that_is_being_cancelled_with_its_children_lets_a_newer_job_wait_behind_it(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start(key=b"its key")
        spawn(bench, parent, 1)
        park(bench, parent)
        bench.do(SetIntent(parent.job_id, Event.CANCEL))
        answer = bench.do(Insert("work", 1, b"newer", key=b"its key"))
        assert not answer.duplicate and bench.status(answer.job_id) == "waiting"
        cascade(bench)
        assert (bench.status(parent.job_id), bench.status(answer.job_id)) == ("cancelled", "queued")


def test_a_parent_that_waits_for_children_of_which_none_would_end_with_it_ends_at_once_when_it_is_superseded(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start(key=b"its key")
        encoder = BatchEncoder(BatchSubmission(()), children_batch_id(parent.job_id, "folders"))  # detached
        chunk = encoder.chunk(iter([Child(1)]), 10)
        assert chunk is not None
        bench.do(SpawnChildren(parent.job_id, parent.claim, InsertChunk(chunk), save(parent, 1, HEAD, NAMES)))
        park(bench, parent)
        newer = bench.do(Insert("work", 1, b"", key=b"its key", on_duplicate=OnDuplicate.SUPERSEDE)).job_id
        assert [each.job_id for each in bench.store.take_aftermath().ended] == [parent.job_id]
        assert (bench.status(parent.job_id), bench.status(newer)) == ("cancelled", "queued")
        assert bench.rows("SELECT status FROM jobs WHERE name = 'test_children.child'") == [("queued",)]


@pytest.mark.parametrize("of_batch", [False, True])
def test_a_parent_that_is_being_cancelled_is_so_whatever_is_asked_of_it_then(tmp_path: Path, of_batch: bool) -> None:
    with Bench(tmp_path) as bench:
        [chunk] = [InsertChunk(each) for each in batch_chunks([Submission(Work(1), key=b"its key")])]
        bench.do(chunk)
        [parent] = bench.claim()
        [child] = spawn(bench, parent, 1)
        [running] = bench.claim()
        park(bench, parent)
        bench.do(SetIntent(parent.job_id, Event.CANCEL))
        cascade(bench)
        for event in (Event.PAUSE, Event.RESUME):
            bench.do(SetBatchIntent(BATCH, event) if of_batch else SetIntent(parent.job_id, event))
            row = bench.row(parent.job_id)
            assert (row["status"], row["intent"], row["pausers"]) == ("ending", "cancel", 0) and bench.rows("SELECT * FROM cascades") == []
        assert not bench.do(Insert("work", 1, b"newer", key=b"its key")).duplicate, "nobody wants the older one any more"
        bench.do(Leave(child, running.claim, Event.STOP))
        assert bench.status(parent.job_id) == "cancelled"


def test_a_parent_that_paused_itself_does_not_hold_its_children_once_the_disk_has_room_again(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        [child] = spawn(bench, parent, 1)
        bench.do(Leave(parent.job_id, parent.claim, Event.YIELD, pauser=PAUSER_BITS[Pauser.JOB]))
        for event, status in ((Event.PAUSE, "paused"), (Event.RESUME, "queued")):
            bench.do(SetIntent(parent.job_id, event, PAUSER_BITS[Pauser.DISK]))
            cascade(bench)
            assert (bench.status(parent.job_id), bench.status(child)) == ("paused", status)


# --- again --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent_lives", [True, False])
def test_a_child_that_is_retried_is_a_child_only_while_its_parent_lives(tmp_path: Path, parent_lives: bool) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        spawn(bench, parent, 1)
        child = bench.claim()[0]
        end(bench, child, Event.FAIL)
        if not parent_lives:
            end(bench, parent)
        again = bench.do(InsertAgain(child.job_id, "none")).job_id
        assert bench.row(again)["parent"] == (parent.job_id if parent_lives else None)
        if parent_lives:
            assert end(bench, parent) is Status.ENDING
