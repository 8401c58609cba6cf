"""What is asked of batches, and of all their jobs at once: records, pages, plans, pause and cancel, and how much there is room for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from batchwork import BATCH, Work, chunks, send
from bench import START_MS, Bench

from callboard.jobs.batch_outcome import BatchOutcome, BatchPlan
from callboard.jobs.errors import Busy, NoSuchBatch
from callboard.jobs.identity import nth
from callboard.jobs.lifecycle import LIVE, RESUMED_BY_USER, Event, Status, transition
from callboard.jobs.record import JobFilter
from callboard.jobs.submission import OnDuplicate, Submission
from callboard.persistence.store import Store
from callboard.persistence.writes import Claim, End, Insert, InsertAgain, InsertChunk, Leave, SetBatchIntent, SetIntent


def keyed(*keys: str | None, **more: Any) -> list[Submission]:
    return [Submission(Work(index), key=key, **more) for index, key in enumerate(keys)]


def limited(bench: Bench, **limits: int) -> None:
    bench.store = Store(bench.place, now_ms=lambda: bench.now, random_bytes=bytes, knows=lambda *_: True, **limits)


# --- records ------------------------------------------------------------------------------------------------------------


def test_a_batch_says_how_its_items_came_out_and_how_its_jobs_stand(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.add(key=b"d")
        send(bench, [*keyed(*"abcdefg"), Work("x")], 3, requested_by="who", on_complete=Insert("then", 1, b""))  # type: ignore[list-item, arg-type]
        reader = bench.reader()
        record = reader.batch(BATCH)
        assert (record.count, record.jobs, record.open, record.sealed, record.requested_by) == (8, 6, 6, True, "who")
        assert record.counts == {"submitted": 6, "deduplicated": 1, "failed": 1} and record.states == {"queued": 6}
        assert (record.created_at, record.completed_at, record.completed_by) == (START_MS / 1000, None, None)
        ids = [each.id for each in reader.jobs(JobFilter(batch=BATCH))]
        one, two, three, *_ = bench.claim(only=tuple(ids[:3]))
        bench.commit(End(one.job_id, one.claim, Event.RETURN), End(two.job_id, two.claim, Event.FAIL), SetIntent(ids[3], Event.PAUSE))
        assert reader.batch(BATCH).states == {"queued": 2, "running": 1, "paused": 1, "completed": 1, "failed": 1}
        bench.commit(Leave(three.job_id, three.claim, Event.POISON), *(SetIntent(job_id, Event.CANCEL) for job_id in ids[2:]))
        record = reader.batch(BATCH)
        assert record.states == {"completed": 1, "failed": 1, "cancelled": 4} and record.open == 0
        [(then,)] = bench.rows("SELECT id FROM jobs WHERE name = 'then'")
        assert (record.completed_at, record.completed_by) == (START_MS / 1000, then)
        with pytest.raises(NoSuchBatch):
            reader.batch(b"n" * 16)


def test_batches_are_listed_newest_first_in_pages(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        made = [b"batch %010d" % index for index in range(7)]
        for index, batch_id in enumerate(made):
            bench.now += index % 2
            send(bench, keyed(None), batch_id=batch_id)
        reader = bench.reader()
        pages: list[bytes] = []
        while page := reader.batches(3, pages[-1] if pages else None):
            pages += [record.id for record in page]
            assert all(record.states is None for record in page)
        assert pages == made[::-1]


def test_the_jobs_of_a_batch_are_paged_and_nobody_elses_are_among_them(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        mine: list[bytes] = []
        parts = chunks([*keyed(*"abcdefgh")], 3)
        for chunk in parts:
            bench.add()
            [stored] = bench.commit(InsertChunk(chunk))
            mine += [nth(stored.outcome.first_id, index) for index in range(chunk.count)]
            send(bench, keyed(None, None), batch_id=b"other %10d" % chunk.start)
        ended = mine[::3]
        bench.commit(*(SetIntent(job_id, Event.CANCEL) for job_id in ended))
        reader = bench.reader()
        for ask, expected in ((reader.jobs, [each for each in mine if each not in ended]), (reader.history, ended[::-1])):
            found: list[bytes] = []
            while page := ask(JobFilter(batch=BATCH, limit=2, after=found[-1] if found else None)):
                found += [record.id for record in page]
            assert found == expected
        assert reader.jobs(JobFilter(batch=b"n" * 16)) == []
        stored_chunks = reader.batch_chunks(BATCH)
        assert [(each.start, each.size, each.rows) for each in stored_chunks] == [(0, 3, 3), (3, 3, 3), (6, 2, 2)]
        assert reader.batch_chunks(b"n" * 16) == []


def test_a_record_says_who_took_a_jobs_place_and_whom_it_waits_for(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        front = bench.start(key=b"k")
        new = bench.do(Insert("work", 1, b"", key=b"k", on_duplicate=OnDuplicate.SUPERSEDE)).job_id
        reader = bench.reader()
        assert (reader.job(front.job_id).superseded_by, reader.job(new).after) == (new, front.job_id)
        assert [record.id for record in reader.jobs(JobFilter(name="work", key="k"))] == [front.job_id, new]
        bench.do(Leave(front.job_id, front.claim, Event.STOP))
        assert (reader.job(front.job_id).superseded_by, reader.job(new).after) == (new, None)


# --- plans --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", OnDuplicate)
def test_a_plan_is_what_the_batch_would_answer_and_writes_nothing(tmp_path: Path, strategy: OnDuplicate) -> None:
    with Bench(tmp_path) as bench:
        for status in sorted(LIVE):
            bench.in_status(status, key=b"in " + status.encode())
        items = [Submission(Work(1), key=f"in {status}", priority=index % 3) for index, status in enumerate(sorted(LIVE))]
        items += [*keyed(None, "new", "twice", "twice"), Submission(Work(2), on_duplicate=OnDuplicate.REJECT, key="in running", priority=9)]
        [chunk] = chunks([*items, Work("x")], on_duplicate=strategy)  # type: ignore[list-item, arg-type]
        before = bench.contents()
        plan = BatchPlan([bench.reader().plan(chunk, bench.now)])
        assert bench.contents() == before
        outcome = BatchOutcome([bench.do(InsertChunk(chunk)).outcome])
        assert plan.counts == outcome.counts
        for planned, done in zip(plan, outcome, strict=True):
            assert type(planned) is type(done)
            assert [value for name, value in planned._asdict().items() if name != "job_id" or planned.__class__.__name__ in OLDER] == [
                value for name, value in done._asdict().items() if name != "job_id" or planned.__class__.__name__ in OLDER
            ]


OLDER = ("DeduplicatedItem", "RejectedItem")
"""Their `job_id` is that of a job that exists already."""


def test_a_plan_of_nothing_taken_has_no_ids(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        plan = BatchPlan([bench.reader().plan(chunks(keyed("a", None))[0], bench.now)])
        assert plan.counts == {"submitted": 2} and list(plan.ids) == [None, None]
        assert len(BatchPlan([bench.reader().plan(chunks([])[0], bench.now)])) == 0


# --- all at once --------------------------------------------------------------------------------------------------------


COMMANDS = {Event.PAUSE: 1, Event.RESUME: RESUMED_BY_USER, Event.CANCEL: 1}


@pytest.mark.parametrize("event", COMMANDS)
def test_a_command_to_a_batch_does_to_each_of_its_jobs_what_it_does_to_one(tmp_path: Path, event: Event) -> None:
    with Bench(tmp_path / "one") as one, Bench(tmp_path / "all") as together:
        expected: dict[bytes, tuple[Status, Status, bool]] = {}
        for bench in (one, together):
            items = keyed(*(str(status) for status in sorted(LIVE)))
            [stored] = send(bench, items)
            ids = [nth(stored.outcome.first_id or b"", index) for index in range(len(items))]
            outsider = bench.add()
            for status, job_id in zip(sorted(LIVE), ids, strict=True):
                bring(bench, job_id, status)
            bench.now += 50
            if bench is one:
                said = [bench.do(SetIntent(job_id, event, COMMANDS[event])) for job_id in ids]
                expected = {job_id[6:]: (said.before, said.after, said.alone) for job_id, said in zip(ids, said, strict=True)}
            else:
                answer = bench.do(SetBatchIntent(BATCH, event, COMMANDS[event]))
                assert (answer.refused, answer.go_on_after) == (0, None)
                found = {changed.job_id: (changed.before, changed.after, changed.alone) for changed in answer.changed}
                assert list(found.values()) == [change for change in expected.values() if change[0] is not change[1]]
            assert bench.status(outsider) == "queued"
        drop = ("id", "superseded_by", "after_id", "checksum")
        for table in ("jobs", "job_history"):
            assert all_but(one, table, drop) == all_but(together, table, drop)


def all_but(bench: Bench, table: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = (bench.row(job_id, table) for (job_id,) in bench.rows(f"SELECT id FROM {table} ORDER BY id"))
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def bring(bench: Bench, job_id: bytes, status: Status) -> None:
    """Bring a queued job to this status."""
    match status:
        case Status.QUEUED:
            return
        case Status.PAUSED:
            bench.do(SetIntent(job_id, Event.PAUSE))
        case Status.WAITING:
            key = bench.row(job_id)["key"]
            bench.change(job_id, status="waiting", after_id=bench.add(key=b"front of " + key))
            bench.read_back()
        case Status.AWAITING | Status.ENDING:
            bench.change(job_id, status=status)
        case _:
            [claimed] = bench.claim(only=(job_id,))
            if status is Status.QUARANTINED:
                bench.do(Leave(job_id, claimed.claim, Event.POISON))
            elif status is not Status.RUNNING:
                bench.do(SetIntent(job_id, Event.PAUSE if status is Status.PAUSING else Event.CANCEL))
    assert bench.status(job_id) == status


def test_a_command_to_a_batch_goes_on_in_parts_and_the_statements_stay_few(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        send(bench, keyed(*(str(index) for index in range(500))), 100)
        bench.claim(3)
        counts, changed, after = [], 0, b""
        for most in (3, 200, 200, 200):
            with bench.traced() as statements:
                answer = bench.do(SetBatchIntent(BATCH, Event.PAUSE, after_id=after, most=most))
            counts.append(len(statements))
            changed += len(answer.changed)
            after = answer.go_on_after
        assert changed == 500 and after is None and set(counts) == {counts[0]}
        assert bench.reader().batch(BATCH).states == {"pausing": 3, "paused": 497}
        ended = bench.do(SetBatchIntent(BATCH, Event.CANCEL, most=1_000))
        assert [change.after for change in ended.changed].count(Status.CANCELLED) == 497
        assert bench.reader().batch(BATCH).open == 3
        assert transition(Status.PAUSING, Event.CANCEL) is Status.CANCELLING


def test_cancelling_a_batch_ends_it_and_lets_others_take_their_turn(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        send(bench, keyed("a", "b"), on_complete=Insert("then", 1, b""))
        [first, _] = [record.id for record in bench.reader().jobs(JobFilter(batch=BATCH))]
        bench.do(SetIntent(first, Event.PAUSE))
        new = bench.do(Insert("work", 1, b"", key=b"a", on_duplicate=OnDuplicate.REQUEUE)).job_id
        answer, claimed = bench.commit(SetBatchIntent(BATCH, Event.CANCEL), Claim(5))
        assert len(answer.changed) == 2
        assert {each.name for each in claimed} == {"work", "then"} and new in [each.job_id for each in claimed]
        assert isinstance(bench.commit(SetBatchIntent(b"n" * 16, Event.CANCEL))[0], NoSuchBatch)


def test_a_running_job_that_is_not_resumable_is_counted_and_not_paused(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        send(bench, keyed("a", "b"))
        [claimed] = bench.claim(1)
        bench.change(claimed.job_id, resumable=0)
        answer = bench.do(SetBatchIntent(BATCH, Event.PAUSE))
        assert (answer.refused, [change.after for change in answer.changed]) == (1, [Status.PAUSED])
        assert bench.status(claimed.job_id) == "running"


# --- room ---------------------------------------------------------------------------------------------------------------


def test_over_its_limit_a_library_says_busy_and_stores_nothing_of_that_write(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.add()
        limited(bench, max_queued=4)
        answers = bench.commit(*(Insert("work", 1, b"") for _ in range(5)))
        assert [isinstance(answer, Busy) for answer in answers] == [False] * 3 + [True] * 2
        assert "4 jobs of the library have not ended, the limit is 4 (max_queued)" in str(answers[4])
        [chunk] = chunks(keyed("a", "b"))
        assert isinstance(bench.commit(InsertChunk(chunk))[0], Busy) and bench.rows("SELECT 1 FROM batches") == []
        claimed = bench.claim(2)
        assert isinstance(bench.commit(InsertChunk(chunk))[0], Busy)
        answers = bench.commit(*(End(each.job_id, each.claim, Event.FAIL) for each in claimed), InsertChunk(chunk))
        assert not answers[-1].again
        assert bench.do(InsertChunk(chunk)).again
        assert isinstance(bench.commit(InsertAgain(claimed[0].job_id, "none"))[0], Busy)
        bench.do(SetBatchIntent(BATCH, Event.CANCEL))
        assert not isinstance(bench.commit(InsertAgain(claimed[0].job_id, "none"))[0], Busy)
        answers = bench.commit(Insert("work", 1, b""), Insert("work", 1, b""), Claim(5))
        assert [isinstance(answer, Busy) for answer in answers[:2]] == [False, True] and len(answers[2]) == 4


def test_a_group_has_a_limit_of_its_own(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.add(group="a")
        limited(bench, max_queued_per_group=2)
        answers = bench.commit(*(Insert("work", 1, b"", group=group) for group in ("a", "b", "a", None, "b", "b")))
        assert [isinstance(answer, Busy) for answer in answers] == [False, False, True, False, False, True]
        assert "2 jobs of group 'a' have not ended, the limit is 2 (group_max_queued)" in str(answers[2])
        bench.do(SetIntent(answers[0].job_id, Event.CANCEL))
        assert not isinstance(bench.commit(Insert("work", 1, b"", group="a"))[0], Busy)
        assert isinstance(bench.commit(Insert("work", 1, b"", group="a"))[0], Busy)


def test_a_retry_counts_in_the_group_of_the_job_that_it_is_made_of(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        ended = bench.add(group="a")
        bench.do(SetIntent(ended, Event.CANCEL))
        limited(bench, max_queued_per_group=1)
        assert not isinstance(bench.do(Insert("work", 1, b"", group="a")), Busy)
        assert isinstance(bench.commit(InsertAgain(ended, "none"))[0], Busy)


def test_what_supersedes_takes_no_more_room_than_what_it_replaces(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        limited(bench, max_queued=3)
        for n in range(5):
            for _ in range(2):
                bench.do(Insert("work", 1, b"", key=b"k", on_duplicate=OnDuplicate.SUPERSEDE))
            send(bench, keyed("k"), on_duplicate=OnDuplicate.SUPERSEDE, batch_id=b"%16d" % n)
        assert bench.rows("SELECT count(*) FROM jobs") == [(1,)]
        assert not any(isinstance(answer, Busy) for answer in bench.commit(Insert("work", 1, b""), Insert("work", 1, b"")))
        assert isinstance(bench.commit(Insert("work", 1, b""))[0], Busy)
