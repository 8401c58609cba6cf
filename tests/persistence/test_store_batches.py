"""Batches in a store: chunks whole or not at all and never twice, who is a member, when a batch is over, what is queued then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
from batchwork import BATCH, Work, chunks, send
from bench import START_MS, Bench, Traced

from callboard.jobs.batch_items import DeduplicatedItem, ItemKind, OverriddenItem, SubmittedItem, SupersededItem
from callboard.jobs.batch_outcome import BatchOutcome
from callboard.jobs.errors import BatchMismatch
from callboard.jobs.identity import nth
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.submission import OnDuplicate, Submission
from callboard.persistence.jobdata import restore_job
from callboard.persistence.writes import ChunkStored, Claim, End, Insert, InsertChunk, SetIntent


def keyed(*keys: str | None, first: int = 0) -> list[Submission]:
    return [Submission(Work(first + index), key=key, group=f"g{index % 2}") for index, key in enumerate(keys)]


def batch_row(bench: Bench, batch_id: bytes = BATCH) -> dict[str, Any]:
    return bench.row(batch_id, "batches")


def end_all(bench: Bench, event: Event = Event.RETURN, **more: Any) -> None:
    bench.commit(*(End(each.job_id, each.claim, event) for each in bench.claim(1_000, **more)))


def test_a_chunk_is_stored_with_its_ids_in_a_row_and_runs_as_single_jobs_do(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        [stored] = send(bench, [Submission(Work(n), key=f"{n}", priority=5 - n, tags=("t",), delay=1 if n == 4 else None) for n in range(5)])
        first = stored.outcome.first_id
        assert isinstance(stored, ChunkStored) and first is not None and not stored.again
        assert [row[0] for row in bench.rows("SELECT id FROM jobs ORDER BY id")] == [nth(first, index) for index in range(5)]
        assert [restore_job(each, {}) for each in bench.claim()] == [Work(n) for n in (3, 2, 1, 0)]
        assert bench.row(nth(first, 4))["run_at"] == START_MS + 1_000
        assert len(bench.rows("SELECT * FROM job_tags")) == 5
        row = batch_row(bench)
        counts = json.loads(row.pop("counts"))
        assert row == {
            "id": BATCH, "created_at": START_MS, "requested_by": None, "sealed": 1, "count": 5, "members": 5, "open": 5, "on_complete": None,
            "max_running": None, "parent": None, "completed_at": None, "completed_by": None,
        } and counts == {"submitted": 5}  # fmt: skip


def test_a_chunk_of_any_size_takes_the_same_few_statements(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        for strategy in OnDuplicate:
            counts: dict[str, list[int]] = {"new": [], "taken": [], "again": []}
            for size in (2, 400):
                items = [Submission(Work(n), key=f"{strategy} {size} {n}", tags=("t",), group=f"g{n % 2}") for n in range(size)]
                for what, batch_id in (("new", b"1"), ("taken", b"2"), ("again", b"2")):
                    [chunk] = chunks(items, batch_id=(batch_id + f"{strategy}{size}".encode()).ljust(16), on_duplicate=strategy)
                    with bench.traced() as statements:
                        bench.do(InsertChunk(chunk))
                    counts[what].append(len(statements))
            assert all(few == many <= 23 for few, many in counts.values()), counts


def test_items_that_are_bad_or_overridden_leave_gaps_and_every_index_has_its_place(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        standing = bench.add(key=b"taken")
        items = [*keyed("a", "taken", "a"), Work("x"), *keyed(None, "b", first=4)]  # type: ignore[list-item, arg-type]
        [stored] = send(bench, items)
        outcome = BatchOutcome([stored.outcome])
        first = stored.outcome.first_id
        assert first is not None
        assert outcome.counts == {"submitted": 3, "deduplicated": 1, "failed": 1, "overridden": 1}
        assert outcome[0] == OverriddenItem(0, 2) and outcome[1] == DeduplicatedItem(1, b"taken", standing)
        assert [outcome[index] for index in (2, 4, 5)] == [SubmittedItem(index, nth(first, index)) for index in (2, 4, 5)]
        for index in (2, 4, 5):
            [claimed] = bench.claim(only=(nth(first, index),))
            assert restore_job(claimed, {}) == Work(index)
        assert json.loads(batch_row(bench)["counts"]) == outcome.counts
        assert bench.rows("SELECT rows FROM batch_chunks") == [(3,)]


def test_across_chunks_the_later_one_replaces_what_was_not_claimed_whatever_is_to_be_done_with_duplicates(tmp_path: Path) -> None:
    for strategy in OnDuplicate:
        with Bench(tmp_path / strategy) as bench:
            other = bench.add(key=b"other", name="work")
            one, two = chunks(keyed("a", "b", "c", "a", "b", "other", first=0), 3, on_duplicate=strategy)
            [first] = bench.commit(InsertChunk(one))
            a, b, _ = (nth(first.outcome.first_id, index) for index in range(3))
            bench.claim(only=(b,))
            [second] = bench.commit(InsertChunk(two))
            assert second.outcome.item(3) == SupersededItem(3, nth(second.outcome.first_id, 0), a)
            assert bench.row(a, "job_history")["superseded_by"] == nth(second.outcome.first_id, 0)
            kinds = {OnDuplicate.SKIP: "deduplicated", OnDuplicate.SUPERSEDE: "superseded", OnDuplicate.REQUEUE: "requeued"}
            counts = BatchOutcome([first.outcome, second.outcome]).counts
            if strategy in (OnDuplicate.SKIP, OnDuplicate.SUPERSEDE):
                assert counts[kinds[strategy]] == (2 if strategy is OnDuplicate.SKIP else 3)
            assert (bench.status(other) == "cancelled") == (strategy is OnDuplicate.SUPERSEDE)


def inserts(statements: list[Traced]) -> int:
    """How often new jobs were tried to be written."""
    return sum("INSERT INTO jobs " in " ".join(one.sql.split()) for one in statements)


@pytest.mark.parametrize("strategy", [OnDuplicate.SKIP, OnDuplicate.REJECT])
def test_of_a_chunk_all_of_whose_keys_are_taken_none_is_tried_to_be_written(tmp_path: Path, strategy: OnDuplicate) -> None:
    with Bench(tmp_path) as bench:
        keys = [f"{number}" for number in range(100)]
        send(bench, keyed(*keys))
        [chunk] = chunks(keyed(*keys), batch_id=b"the other batch!", on_duplicate=strategy)
        with bench.traced() as statements:
            outcome = bench.do(InsertChunk(chunk)).outcome
        assert inserts(statements) == 0
        assert outcome.tally() == {ItemKind.DEDUPLICATED if strategy is OnDuplicate.SKIP else ItemKind.REJECTED: 100}


def test_a_chunk_whose_few_taken_keys_were_not_guessed_comes_out_the_same(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        older = bench.add(key=b"50")
        with bench.traced() as statements:
            [stored] = send(bench, keyed(*(f"{number}" for number in range(99))))
        assert inserts(statements) == 1 and stored.outcome.tally() == {ItemKind.SUBMITTED: 98, ItemKind.DEDUPLICATED: 1}
        assert stored.outcome.item(50) == DeduplicatedItem(50, b"50", older)


def test_where_keys_are_taken_a_chunk_looks_first_and_comes_out_the_same(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        older = [bench.add(key=b"%d" % index) for index in range(9)]
        [running, *_] = bench.claim(only=(older[4],))
        items = [Submission(Work(index), key=f"{index}" if index != 6 else None, local="up" if index == 7 else None) for index in range(9)]
        items += [Submission(Work(9), key="9"), Submission(Work(10), key="1"), Submission(Work(11), key="11", parent="up")]
        counts, outcomes = [], []
        for chunk in chunks(items, 4, on_duplicate=OnDuplicate.SUPERSEDE):
            with bench.traced() as statements:
                outcomes.append(bench.do(InsertChunk(chunk)).outcome)
            counts.append(inserts(statements))
        assert counts == [1, 1, 1]
        outcome = BatchOutcome(outcomes)
        assert outcome.counts == {"submitted": 3, "superseded": 9}
        assert [item.replaced for item in outcome.superseded] == [*older[:6], *older[7:], outcome.ids[1]]
        assert bench.status(running.job_id) == "cancelling" and bench.row(outcome.ids[4] or b"")["after_id"] == older[4]
        assert bench.row(outcome.ids[11] or b"")["parent"] == outcome.ids[7]
        assert bench.status(older[6]) == "queued" and batch_row(bench)["open"] == 11


def test_a_job_between_the_chunks_of_a_batch_is_none_of_it(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        one, two = chunks(keyed("a", "b", "k", "c"), 2)
        bench.do(InsertChunk(one))
        between = bench.add(key=b"k")
        [stored] = bench.commit(InsertChunk(two))
        assert stored.outcome.item(2) == DeduplicatedItem(2, b"k", between)
        end_all(bench, only=(between,))
        assert batch_row(bench)["open"] == 3


# --- again --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meanwhile", ("nothing", "a crash", "the end of all"))
def test_sent_again_a_batch_has_the_same_ids_and_nothing_is_stored_twice(tmp_path: Path, meanwhile: str) -> None:
    with Bench(tmp_path) as bench:
        bench.add(key=b"d")
        items = [*keyed("a", "b", "a", "d", None), Work("x"), *keyed("c", "e")]  # type: ignore[list-item, arg-type]
        before = send(bench, items, 3)
        if meanwhile == "a crash":
            bench.reopen()
        elif meanwhile == "the end of all":
            end_all(bench)
        contents = {**bench.contents(), "meta": []}
        after = send(bench, items, 3)
        assert [stored.again for stored in after] == [True] * 3
        told = [BatchOutcome(stored.outcome for stored in some) for some in (before, after)]
        assert list(told[0].ids) == list(told[1].ids) and told[0].counts == told[1].counts
        assert {**bench.contents(), "meta": []} == contents


def test_a_batch_that_was_cut_off_is_completed_by_sending_it_again(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parts = chunks(keyed(*"abcdefg"), 3)
        bench.do(InsertChunk(parts[0]))
        bench.do(InsertChunk(parts[1]))
        bench.reopen()
        stored = [bench.do(InsertChunk(chunk)) for chunk in parts]
        assert [each.again for each in stored] == [True, True, False]
        assert (batch_row(bench)["sealed"], batch_row(bench)["count"], len(bench.rows("SELECT 1 FROM jobs"))) == (1, 7, 7)


def test_a_batch_whose_end_was_not_known_is_sealed_by_sending_its_last_part_as_the_last(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        [chunk] = chunks(keyed("a"))
        bench.do(InsertChunk(replace(chunk, last=False)))
        end_all(bench)
        assert batch_row(bench)["completed_at"] is None
        assert bench.do(InsertChunk(chunk)).again
        assert batch_row(bench)["completed_at"] == START_MS
        assert [each.batch_id for each in bench.store.take_aftermath().over] == [BATCH]


def test_other_content_under_the_same_id_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        send(bench, keyed("a", "b", "c", "d"), 2)
        contents = {**bench.contents(), "meta": []}
        for items, most in ((keyed("a", "x", "c", "d"), 2), (keyed("a", "b", "c", "d"), 3), (keyed("a"), 2)):
            with pytest.raises(BatchMismatch, match="other content from item 0 to 1"):
                send(bench, items, most)
        with pytest.raises(BatchMismatch, match="is complete: there is no item 4"):
            send(bench, keyed("a", "b", "c", "d", "e"), 2)
        with pytest.raises(BatchMismatch, match="none of which starts at item 1"):
            bench.do(InsertChunk(chunks(keyed("a"), start=1)[0]))
        with pytest.raises(BatchMismatch, match="has 0 items so far"):
            bench.do(InsertChunk(chunks(keyed("a"), start=3, batch_id=b"n" * 16)[0]))
        assert {**bench.contents(), "meta": []} == contents


# --- its end ------------------------------------------------------------------------------------------------------------


def test_a_batch_is_over_in_the_commit_that_ends_its_last_job_and_that_queues_what_comes_then(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        then = Insert("then", 1, b"data", priority=3, key=b"once", tags=("t",), on_duplicate=OnDuplicate.REQUEUE)
        send(bench, keyed(*"abc"), 2, on_complete=then)
        first, second, third = bench.claim()
        bench.commit(End(first.job_id, first.claim, Event.RETURN), End(second.job_id, second.claim, Event.FAIL))
        assert (batch_row(bench)["open"], bench.store.take_aftermath().over) == (1, [])
        bench.now += 5
        _, claimed = bench.commit(End(third.job_id, third.claim, Event.RETURN), Claim(5))
        assert [(each.name, each.data) for each in claimed] == [("then", b"data")]
        [over] = bench.store.take_aftermath().over
        assert (over.batch_id, over.counts) == (BATCH, {"completed": 2, "failed": 1})
        assert over.on_complete is not None and over.on_complete.job_id == claimed[0].job_id
        row = batch_row(bench)
        assert (row["open"], row["completed_at"], row["completed_by"]) == (0, START_MS + 5, claimed[0].job_id)
        bench.reopen()
        assert len(bench.rows("SELECT 1 FROM jobs WHERE name = 'then'")) == 1


def test_G3_a_batch_that_is_over_and_sent_again_is_not_over_twice(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        then = Insert("then", 1, b"data")
        send(bench, keyed(*"abc"), 2, on_complete=then)
        end_all(bench)
        assert len(bench.store.take_aftermath().over) == 1
        for _ in range(2):
            send(bench, keyed(*"abc"), 2, on_complete=then)
            assert bench.store.take_aftermath().over == []
            assert len(bench.rows("SELECT 1 FROM jobs WHERE name = 'then' UNION ALL SELECT 1 FROM job_history WHERE name = 'then'")) == 1
            bench.reopen()


def test_every_way_to_end_counts(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        [stored] = send(bench, keyed(*"abcdef"))
        ids = [nth(stored.outcome.first_id or b"", index) for index in range(6)]
        bench.do(SetIntent(ids[0], Event.CANCEL))
        bench.do(Insert("work", 1, b"", key=b"b", on_duplicate=OnDuplicate.SUPERSEDE))
        claimed = bench.claim(only=tuple(ids))
        bench.do(End(claimed[0].job_id, claimed[0].claim, Event.RETURN_WITH_ERRORS))
        bench.do(SetIntent(claimed[1].job_id, Event.CANCEL))
        bench.change(claimed[2].job_id, resumable=0)
        bench.reopen()  # ends two
        assert batch_row(bench)["open"] == 1
        bench.do(SetIntent(claimed[3].job_id, Event.CANCEL))
        [over] = bench.store.take_aftermath().over
        assert over.counts == {"completed_with_errors": 1, "cancelled": 4, "failed": 1}


def test_recovery_that_ends_the_last_job_of_a_batch_queues_what_comes_then(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        send(bench, keyed("a"), on_complete=Insert("then", 1, b""))
        [claimed] = bench.claim()
        bench.do(SetIntent(claimed.job_id, Event.CANCEL))
        assert bench.reopen().cancelled == 1
        assert batch_row(bench)["completed_at"] == START_MS
        assert [each.name for each in bench.claim()] == ["then"]
        last = bench.add()
        assert last > claimed.job_id


def test_a_batch_of_which_nothing_is_new_is_over_at_once(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.add(key=b"a")
        for batch_id, items in ((b"e" * 16, []), (b"d" * 16, keyed("a")), (b"f" * 16, [Work("x")])):  # type: ignore[list-item, arg-type]
            send(bench, items, batch_id=batch_id, on_complete=Insert("then", 1, batch_id))
            assert batch_row(bench, batch_id)["completed_at"] == START_MS
        assert len(bench.rows("SELECT 1 FROM jobs WHERE name = 'then'")) == 3


def test_a_successor_of_a_batch_counts_until_it_has_ended(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        front = bench.start(key=b"a")
        [stored] = send(bench, keyed("a"), on_duplicate=OnDuplicate.REQUEUE)
        assert stored.outcome.kinds is ItemKind.REQUEUED and batch_row(bench)["open"] == 1
        bench.do(End(front.job_id, front.claim, Event.RETURN))
        assert batch_row(bench)["open"] == 1
        end_all(bench)
        assert batch_row(bench)["completed_at"] == START_MS


def test_ids_that_a_chunk_has_set_aside_are_not_given_again(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.add(key=b"taken")
        [stored] = send(bench, [*keyed("a"), *keyed(*["taken"]), Work("x")])  # type: ignore[list-item, arg-type]
        end_all(bench)
        bench.reopen()
        bench.now -= 1_000
        assert bench.add() > nth(stored.outcome.first_id or b"", 2)


# --- failing ------------------------------------------------------------------------------------------------------------


def test_a_chunk_that_cannot_be_stored_leaves_nothing_and_the_others_of_its_group_stay(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        [chunk] = chunks(keyed("a", "b", "c"))
        damaged = replace(chunk, shapes=tuple(shape._replace(priority=999) for shape in chunk.shapes))
        before, refused, after = bench.commit(Insert("work", 1, b""), InsertChunk(damaged), Insert("work", 1, b""))
        assert isinstance(refused, Exception) and not before.duplicate and not after.duplicate
        assert bench.rows("SELECT count(*) FROM jobs") == [(2,)] and batch_row(bench) == {}
        assert not bench.do(InsertChunk(chunk)).again
        end_all(bench)
        assert batch_row(bench)["completed_at"] == START_MS


def test_a_chunk_is_found_after_a_commit_that_failed_and_was_stored(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        parts = chunks(keyed(*"abcd"), 2)
        failing = [True]

        def hook() -> bool:
            return failing[0]

        bench.con.set_commit_hook(hook)
        [answer] = bench.commit(InsertChunk(parts[0]))
        assert isinstance(answer, Exception) and bench.rows("SELECT count(*) FROM batches") == [(0,)]
        bench.con.set_commit_hook(None)
        stored = [bench.do(InsertChunk(chunk)) for chunk in parts]
        assert [each.again for each in stored] == [False, False]


def test_members_have_their_parents_by_id(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        items = [Submission(Work(0), local="root"), Submission(Work(1), parent="root", local="folder"), Work(2), Submission(Work(3), parent="folder")]
        one, two = send(bench, items, 2)
        root, folder = (nth(one.outcome.first_id or b"", index) for index in range(2))
        assert bench.rows("SELECT parent FROM jobs ORDER BY id") == [(None,), (root,), (None,), (folder,)]
        assert two.outcome.count == 2


def test_an_error_of_the_generator_leaves_a_batch_that_goes_on_when_sent_again(tmp_path: Path) -> None:
    def broken() -> Iterator[Job]:
        yield from (Work(n) for n in range(3))
        raise OSError("gone")

    with Bench(tmp_path) as bench:
        send(bench, broken(), 2)
        assert (batch_row(bench)["count"], batch_row(bench)["sealed"]) == (3, 0)
        end_all(bench)
        assert batch_row(bench)["completed_at"] is None
        parts = chunks((Work(n) for n in range(2)), 2), chunks((Work(2) for _ in range(1)), 1, start=2)
        assert parts[0][0].last and bench.do(InsertChunk(replace(parts[0][0], last=False))).again
        assert bench.do(InsertChunk(parts[1][0])).again
        assert batch_row(bench)["completed_at"] == START_MS


def test_two_chunks_in_one_group_are_two_chunks(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        one, two = chunks(keyed("a", "b", "a", "c"), 2)
        first, second = bench.commit(InsertChunk(one), InsertChunk(two))
        assert second.outcome.item(2) == SupersededItem(2, nth(second.outcome.first_id, 0), nth(first.outcome.first_id, 0))
        with pytest.raises(apsw.ConstraintError):
            bench.con.execute("UPDATE batches SET open = -1")
        assert bench.status(nth(first.outcome.first_id, 0)) is not None and Status.CANCELLED == bench.status(nth(first.outcome.first_id, 0))
