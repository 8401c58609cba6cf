"""Items of a batch with a parent in it: the parent is whoever stands for its item and lives; an item without such a parent fails with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from batchwork import Work, chunks
from bench import START_MS, Bench

from callboard.jobs.batch_items import FailedItem
from callboard.jobs.lifecycle import PAUSER_BITS, Event, Pauser
from callboard.jobs.submission import OnDuplicate, Submission
from callboard.persistence.store import Store
from callboard.persistence.writes import Cascade, End, InsertAgain, InsertChunk, SetIntent

BATCH = b"family".ljust(16)


def job(number: int, **more: Any) -> Submission:
    return Submission(Work(number), **more)


def send(bench: Bench, items: Sequence[Submission], size: int = 100) -> list[Any]:
    """The outcome of each item."""
    parts = [bench.do(InsertChunk(chunk)).outcome for chunk in chunks(list(items), size, batch_id=BATCH)]
    found = [part.item(index) for part in parts for index in range(part.start, part.start + part.count)]
    again = [bench.do(InsertChunk(chunk)) for chunk in chunks(list(items), size, batch_id=BATCH)]
    assert all(answer.again for answer in again)
    kinds = [type(part.item(index)) for part in (answer.outcome for answer in again) for index in range(part.start, part.start + part.count)]
    assert kinds == [type(item) for item in found], "what is sent again comes out as it did"
    bench.reader().children(BATCH)
    return found


def parent_of(bench: Bench, item: Any) -> bytes | None:
    return bench.row(item.job_id)["parent"]


def older(bench: Bench, key: bytes, **more: Any) -> bytes:
    return bench.add(Work.job_name, Work.job_version, key=key, **more)


@pytest.mark.parametrize("size", [100, 1], ids=["in one part", "in parts"])
def test_the_child_of_an_item_whose_key_is_taken_is_the_child_of_the_job_that_has_it(tmp_path: Path, size: int) -> None:
    with Bench(tmp_path) as bench:
        stands = older(bench, b"k")
        found = send(bench, [job(0, key="k", local="a"), job(1, parent="a", local="b"), job(2, parent="b")], size)
        assert found[0].job_id == stands
        assert [parent_of(bench, each) for each in found[1:]] == [stands, found[1].job_id]


def test_the_child_of_an_overridden_item_is_the_child_of_the_one_that_won(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        items = [job(0, key="k", local="a"), job(1, parent="a"), job(2, key="k"), job(3, key="k"), job(4), job(5, parent="a")]
        found = send(bench, items, 5)
        assert parent_of(bench, found[1]) == parent_of(bench, found[5]) == found[3].job_id


def test_an_item_that_would_be_its_own_parent_fails_and_takes_nobodys_place(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        found = send(bench, [job(0, key="k", local="a"), job(1, key="k", parent="a")])
        assert isinstance(found[1], FailedItem) and "descends from this item itself" in str(found[1].error)
        assert bench.row(found[0].job_id)["parent"] is None


def test_a_parent_that_gives_way_to_a_later_item_hands_its_children_on(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        found = send(bench, [job(0, key="k", local="a"), job(1), job(2, key="k"), job(3, parent="a")], 2)
        assert parent_of(bench, found[3]) == found[2].job_id


@pytest.mark.parametrize("size", [100, 1], ids=["in one part", "in parts"])
def test_the_child_of_a_rejected_item_fails_with_its_own_children(tmp_path: Path, size: int) -> None:
    with Bench(tmp_path) as bench:
        older(bench, b"k")
        items = [
            job(0, key="k", local="a", on_duplicate=OnDuplicate.REJECT), job(1, parent="a", local="b", tags=("t",)), job(2, parent="b"), job(3),
        ]  # fmt: skip
        found = send(bench, items, size)
        assert [isinstance(each, FailedItem) for each in found] == [False, True, True, False]
        assert "its parent, item 0, has no job" in str(found[1].error)
        assert bench.rows("SELECT count(*) FROM jobs") == [(2,)] and bench.rows("SELECT * FROM job_tags") == []
        record = bench.reader().batch(BATCH)
        assert (record.jobs, record.open, record.sealed, dict(record.counts)) == (1, 1, True, {"rejected": 1, "failed": 2, "submitted": 1})


def test_an_item_that_fails_for_its_parent_counts_in_no_group(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        older(bench, b"k")
        bench.store = Store(bench.place, now_ms=lambda: bench.now, random_bytes=bytes, knows=lambda *_: True, max_queued_per_group=2)
        items = [job(0, key="k", local="a", on_duplicate=OnDuplicate.REJECT), job(1, parent="a", group="g"), job(2, group="g")]
        assert [isinstance(each, FailedItem) for each in send(bench, items)] == [False, True, False]
        again = [job(3, group="g")]
        [stored] = [bench.do(InsertChunk(chunk)).outcome for chunk in chunks(again, 9, batch_id=b"other".ljust(16))]
        assert not isinstance(stored.item(0), FailedItem)


@pytest.mark.parametrize("how", ["completed", "ending", "cancelled"])
def test_the_child_of_a_parent_that_has_ended_or_is_about_to_fails(tmp_path: Path, how: str) -> None:
    with Bench(tmp_path) as bench:
        parts = chunks([job(0, local="a"), job(1, local="c"), job(2, parent="a")], 2, batch_id=BATCH)
        stored = bench.do(InsertChunk(parts[0])).outcome
        claimed = bench.claim(1)[0]
        assert claimed.job_id == stored.item(0).job_id
        if how == "ending":
            bench.add("child", parent=claimed.job_id)
        bench.do(SetIntent(claimed.job_id, Event.CANCEL) if how == "cancelled" else End(claimed.job_id, claimed.claim, Event.RETURN))
        outcome = bench.do(InsertChunk(parts[1])).outcome
        assert isinstance(outcome.item(2), FailedItem) and "has ended or is ending" in str(outcome.item(2).error)
        again = bench.do(InsertChunk(parts[1]))
        assert again.again and isinstance(again.outcome.item(2), FailedItem)
        assert (bench.reader().batch(BATCH).jobs, bench.reader().batch(BATCH).sealed) == (2, True)


def test_the_child_of_a_paused_parent_is_paused_with_it(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parts = chunks([job(0, local="a"), job(1, parent="a")], 1, batch_id=BATCH)
        parent = bench.do(InsertChunk(parts[0])).outcome.item(0).job_id
        bench.do(SetIntent(parent, Event.PAUSE))
        child = bench.do(InsertChunk(parts[1])).outcome.item(1).job_id
        while bench.do(Cascade(10)).more:
            pass
        assert bench.status(child) == "paused"


def test_the_child_of_a_parent_that_paused_itself_is_not_held(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parts = chunks([job(0, local="a"), job(1, parent="a")], 1, batch_id=BATCH)
        parent = bench.do(InsertChunk(parts[0])).outcome.item(0).job_id
        bench.change(parent, status="paused", intent="pause", pausers=PAUSER_BITS[Pauser.JOB])
        child = bench.do(InsertChunk(parts[1])).outcome.item(1).job_id
        while bench.do(Cascade(10)).more:
            pass
        assert bench.status(child) == "queued"


def test_a_plan_says_who_would_fail_for_a_parent(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        older(bench, b"k")
        items = [job(0, key="k", local="a", on_duplicate=OnDuplicate.REJECT), job(1, parent="a"), job(2, local="b"), job(3, parent="b")]
        [chunk] = chunks(items, 100, batch_id=BATCH)
        plan = bench.reader().plan(chunk, START_MS)
        assert [isinstance(plan.item(index), FailedItem) for index in range(4)] == [False, True, False, False]
        assert bench.rows("SELECT count(*) FROM jobs") == [(1,)]


@pytest.mark.parametrize("way", [OnDuplicate.SUPERSEDE, OnDuplicate.REQUEUE], ids=str)
def test_an_item_whose_key_its_parent_has_in_an_earlier_part_fails_as_they_would_wait_for_each_other(tmp_path: Path, way: OnDuplicate) -> None:
    with Bench(tmp_path) as bench:
        items = [job(0, key="k", local="a"), job(1), job(2, key="k", parent="a", on_duplicate=way), job(3, parent="a")]
        found = send(bench, items, 2)
        assert isinstance(found[2], FailedItem) and "wait for each other" in str(found[2].error)
        assert parent_of(bench, found[3]) == found[0].job_id, "whose place was not taken after all"


@pytest.mark.parametrize("way", [OnDuplicate.SUPERSEDE, OnDuplicate.REQUEUE], ids=str)
def test_an_item_whose_key_its_grandparent_has_fails_as_well(tmp_path: Path, way: OnDuplicate) -> None:
    with Bench(tmp_path) as bench:
        found = send(bench, [job(0, key="k", local="a"), job(1, parent="a", local="b"), job(2, parent="b", key="k", on_duplicate=way)], 2)
        assert isinstance(found[2], FailedItem) and "wait for each other" in str(found[2].error)


def test_the_child_of_a_job_whose_place_is_not_taken_after_all_stays_with_it(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        older(bench, b"bad")
        items = [
            job(0, key="k", local="a"), job(1, key="bad", local="c", on_duplicate=OnDuplicate.REJECT),
            job(2, key="k", parent="c", on_duplicate=OnDuplicate.SUPERSEDE), job(3, parent="a"),
        ]  # fmt: skip
        found = send(bench, items, 2)
        assert isinstance(found[2], FailedItem)
        assert parent_of(bench, found[3]) == found[0].job_id


def test_the_child_of_an_item_that_collapses_into_a_queued_job_does_not_make_it_one_with_children_meanwhile(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        stands = older(bench, b"k")
        found = send(bench, [job(0, key="k", local="a", on_duplicate=OnDuplicate.REQUEUE), job(1, key="l", parent="a")])
        assert found[0].job_id == stands == parent_of(bench, found[1])


def retried_child(bench: Bench, event: Event) -> tuple[bytes, bytes]:
    """A parent of whom something is wanted, and a retry of its child."""
    parent, child = (item.job_id for item in send(bench, [job(0, local="a"), job(1, parent="a")]))
    claimed = {each.job_id: each for each in bench.claim(2)}
    bench.do(End(child, claimed[child].claim, Event.FAIL))
    bench.do(SetIntent(parent, event))
    return parent, bench.do(InsertAgain(child, "none")).job_id


def test_the_retry_of_a_child_whose_parent_is_paused_is_paused_with_it(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parent, again = retried_child(bench, Event.PAUSE)
        bench.do(Cascade(10))
        row = bench.row(again)
        assert (row["parent"], row["status"], row["pausers"]) == (parent, "paused", PAUSER_BITS[Pauser.PARENT])


def test_the_retry_of_a_child_whose_parent_is_being_cancelled_has_no_parent(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        _, again = retried_child(bench, Event.CANCEL)
        assert bench.row(again)["parent"] is None
