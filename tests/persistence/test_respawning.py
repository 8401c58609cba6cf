"""Children of an earlier attempt as rows: one part a commit, behind the parent's fence, and a crash between two parts loses and doubles nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from batchwork import Work
from bench import Bench, parts_of, save

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.batch_items import ItemKind
from callboard.jobs.children import children_batch_id
from callboard.jobs.errors import BatchMismatch, Busy
from callboard.jobs.lifecycle import Event, Status
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.store import Store
from callboard.persistence.writes import Claimed, End, Fenced, Insert, InsertAgain, InsertChunk, Leave, SetIntent, SpawnAgain, SpawnChildren

HEAD = ("head", "", 0, encode_head(None, 0))


def end(bench: Bench, claimed: Claimed, event: Event, **more: Any) -> Any:
    return bench.do(End(claimed.job_id, claimed.claim, event, **more))


def again(bench: Bench, parent: Claimed, start: int, most: int = 2, *, first: bool = False, source: bytes | None = None) -> Any:
    """One part, for the second attempt."""
    source = source or children_batch_id(parent.job_id, "folders")
    saved = save(parent, 9, HEAD, ("children", "folders", 0, b"again")) if first else None
    batch_id = children_batch_id(parent.job_id, "folders", 2)
    return bench.do(SpawnAgain(parent.job_id, parent.claim, source, batch_id, start, most, False, None, saved))


def with_ends(bench: Bench, parent: Claimed, *events: Event, group: str | None = None) -> list[bytes]:
    """Children that have ended so."""
    encoder = BatchEncoder(BatchSubmission((), default_group=group), children_batch_id(parent.job_id, "folders"), parent=parent.job_id)
    chunk = encoder.chunk(iter([Work(number) for number in range(len(events))]), 100)
    assert chunk is not None
    saved = save(parent, 1, HEAD, ("children", "folders", 0, b"named"))
    stored = bench.do(SpawnChildren(parent.job_id, parent.claim, InsertChunk(chunk), saved)).outcome
    children = [job_id for job_id in stored.job_ids(range(stored.count)) if job_id is not None]
    by_id = {each.job_id: each for each in bench.claim()}
    for job_id, event in zip(children, events, strict=True):
        end(bench, by_id[job_id], event, **({"error": "went wrong"} if event is Event.FAIL else {}))
    return children


def test_only_those_that_have_not_completed_are_queued_and_each_has_its_place(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        children = with_ends(bench, parent, Event.RETURN, Event.FAIL, Event.RETURN_WITH_ERRORS)
        stored = again(bench, parent, 0, 10, first=True).outcome
        ids = list(stored.job_ids(range(3)))
        assert [one == two for one, two in zip(ids, children, strict=True)] == [True, False, True]
        row = bench.row(ids[1])
        assert (row["status"], row["parent"], row["retry_of"]) == ("queued", parent.job_id, children[1])
        batch = bench.reader().batch(children_batch_id(parent.job_id, "folders", 2))
        assert (batch.count, batch.jobs, batch.open, batch.sealed, dict(batch.counts)) == (3, 1, 1, True, {"submitted": 1, "deduplicated": 2})
        assert parts_of(bench, parent.job_id)["children", "folders", 0] == b"again"


@pytest.mark.parametrize("reopen", [False, True], ids=["at once", "after a crash"])
def test_what_was_cut_off_goes_on_at_the_part_that_is_missing(tmp_path: Path, reopen: bool) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        children = with_ends(bench, parent, *[Event.FAIL] * 5)
        again(bench, parent, 0, first=True)
        if reopen:
            bench.reopen()
            parent = bench.claim(only=(parent.job_id,))[0]
            sealed, chunks = bench.reader().children(children_batch_id(parent.job_id, "folders", 2))
            assert not sealed and sum(chunk.count for chunk in chunks) == 2
        for start in (2, 4):
            again(bench, parent, start)
        with pytest.raises(BatchMismatch):
            again(bench, parent, 4)
        assert sorted(row for row, in bench.rows("SELECT retry_of FROM jobs WHERE retry_of IS NOT NULL")) == children


def test_those_that_are_queued_anew_count_in_their_groups(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        with_ends(bench, parent, Event.FAIL, Event.RETURN, Event.FAIL, group="a")
        bench.store = Store(bench.place, now_ms=lambda: bench.now, random_bytes=bytes, knows=lambda *_: True, max_queued_per_group=2)
        other = bench.add(group="a")
        write = SpawnAgain(parent.job_id, parent.claim, children_batch_id(parent.job_id, "folders"), b"the second batch", 0, 10, False, None, None)
        [refused] = bench.commit(write)
        assert isinstance(refused, Busy) and "1 jobs of group 'a'" in str(refused)
        assert bench.rows("SELECT id FROM jobs") == [(parent.job_id,), (other,)]
        bench.do(SetIntent(other, Event.CANCEL))
        assert bench.do(write).outcome.tally() == {ItemKind.SUBMITTED: 2, ItemKind.DEDUPLICATED: 1}
        assert isinstance(bench.commit(Insert("work", 1, b"", group="a"))[0], Busy)


def test_a_parent_that_another_actor_holds_takes_nothing_over(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        with_ends(bench, parent, Event.FAIL)
        bench.do(Leave(parent.job_id, parent.claim, Event.RELEASE))
        before = bench.contents()
        assert again(bench, parent, 0, first=True) == Fenced()
        assert bench.contents() == before


def test_those_of_a_parent_that_is_being_cancelled_are_told(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        with_ends(bench, parent, Event.FAIL)
        bench.do(SetIntent(parent.job_id, Event.CANCEL))
        again(bench, parent, 0, first=True)
        assert bench.store.take_aftermath().cascades


def test_children_that_are_not_all_stored_cannot_be_taken_over(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        with pytest.raises(BatchMismatch, match="are not all stored"):
            again(bench, parent, 0, first=True, source=b"n" * 16)


def test_no_children_are_taken_over_as_none(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        with_ends(bench, parent)
        assert again(bench, parent, 0, first=True).outcome.count == 0
        assert bench.reader().children(children_batch_id(parent.job_id, "folders", 2)) == (True, ())


def test_a_damaged_child_stays_as_it_ended(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        children = with_ends(bench, parent, Event.FAIL, Event.FAIL)
        bench.change(children[0], "job_history", checksum=b"wrong!!!")
        ids = list(again(bench, parent, 0, first=True).outcome.job_ids(range(2)))
        assert ids[0] == children[0] and ids[1] != children[1]


def test_a_retry_finds_the_children_of_the_job_that_it_retries(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        with_ends(bench, parent, Event.FAIL)
        assert end(bench, parent, Event.FAIL, error="e") is Status.FAILED
        new = bench.do(InsertAgain(parent.job_id, "none")).job_id
        assert parts_of(bench, new) == {("children", "folders", 0): b"named"}
        assert again(bench, bench.claim(only=(new,))[0], 0, first=True, source=children_batch_id(parent.job_id, "folders")).outcome.kinds == bytes(
            [ItemKind.SUBMITTED]
        )


def test_what_is_stored_of_the_children_is_damaged_and_the_job_is_retried_without(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent = bench.start()
        with_ends(bench, parent, Event.FAIL)
        end(bench, parent, Event.FAIL, error="e")
        bench.con.execute("UPDATE job_checkpoints SET checksum = x'00' WHERE kind = 'children'")
        assert parts_of(bench, bench.do(InsertAgain(parent.job_id, "none")).job_id) == {}
