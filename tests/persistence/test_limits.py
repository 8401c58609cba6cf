"""Of a batch with a limit so many jobs run at once, whatever happens to them; the others are in no claim's way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bench import Bench, save

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.children import children_batch_id
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.record import JobFilter
from callboard.jobs.submission import Submission
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.writes import (
    Cascade,
    Claim,
    Claimed,
    End,
    InsertChunk,
    Leave,
    MakeDue,
    SetBatchIntent,
    SetIntent,
    SpawnChildren,
    WriteProgress,
)

HEAD = ("head", "", 0, encode_head(None, 0))


@dataclass
class Limited(Job, name="test_limits.child"):
    number: int = 0

    def run(self, ctx: Any) -> None: ...


def spawn(bench: Bench, parent: Claimed, jobs: list[Any], most: int | None, *, rows: int = 1_000) -> bytes:
    """Children of which `most` run at once; the id of their batch."""
    batch_id, items = children_batch_id(parent.job_id, "c"), iter(jobs)
    encoder = BatchEncoder(BatchSubmission(()), batch_id, parent=parent.job_id)
    head: Any = save(parent, 1, HEAD, ("children", "c", 0, b"named"))
    while (chunk := encoder.chunk(items, rows)) is not None:
        bench.do(SpawnChildren(parent.job_id, parent.claim, InsertChunk(chunk, max_running=most), head))
        head = None
    return batch_id


def children_of(bench: Bench, status: str) -> list[bytes]:
    return [row for row, in bench.rows("SELECT id FROM jobs WHERE parent IS NOT NULL AND status = ? ORDER BY id", status)]


@contextmanager
def family(path: Path, count: int, most: int, *, rows: int = 1_000) -> Iterator[tuple[Bench, Claimed, bytes]]:
    with Bench(path) as bench:
        parent = bench.start()
        yield bench, parent, spawn(bench, parent, [Limited(number) for number in range(count)], most, rows=rows)


def test_so_many_are_claimed_in_order_and_each_end_lets_one_more(tmp_path: Path) -> None:
    with family(tmp_path, 6, 2, rows=4) as (bench, _, _):
        claimed = list(bench.claim())
        order = [each.job_id for each in claimed]
        assert len(claimed) == 2 and bench.claim() == ()
        while claimed:
            gone = claimed.pop(0)
            bench.store.take_aftermath()
            bench.do(End(gone.job_id, gone.claim, Event.RETURN))
            assert bool(bench.store.take_aftermath().admitted) == (len(order) < 6)
            new = bench.claim()
            assert len(new) == (len(order) < 6)
            claimed += new
            order += [each.job_id for each in new]
        assert order == sorted(order) and len(order) == 6
        assert bench.rows("SELECT count(*) FROM jobs WHERE limited IS NOT NULL") == [(0,)]


def test_an_end_and_a_claim_in_one_commit_fill_the_place(tmp_path: Path) -> None:
    with family(tmp_path, 3, 1) as (bench, _, _):
        [one] = bench.claim()
        _, claimed = bench.commit(End(one.job_id, one.claim, Event.RETURN), Claim(5))
        assert len(claimed) == 1


def test_what_is_kept_back_is_in_nobodys_way(tmp_path: Path) -> None:
    with family(tmp_path, 2_000, 1) as (bench, _, _):
        last = bench.add()
        assert bench.claim(2)[1].job_id == last
        with bench.traced() as traced:
            assert bench.claim(5) == ()
        assert sum(one.scanned for one in traced) == 0


def test_a_limit_holds_over_a_crash_and_what_was_said_first_holds(tmp_path: Path) -> None:
    with family(tmp_path, 5, 2, rows=3) as (bench, parent, batch_id):
        assert len(bench.claim()) == 2
        bench.reopen()
        claimed = bench.claim()
        assert [each.job_id for each in claimed if each.job_id != parent.job_id] != [] and bench.claim() == ()
        children = [each for each in claimed if each.job_id != parent.job_id]
        assert len(children) == 2
        assert bench.rows("SELECT max_running FROM batches WHERE id = ?", batch_id) == [(2,)]
        bench.do(End(children[0].job_id, children[0].claim, Event.RETURN))
        assert len(bench.claim()) == 1, "those that are kept back have their turn after the crash too"


def test_one_that_is_paused_gives_its_place_away_and_waits_for_another_when_it_goes_on(tmp_path: Path) -> None:
    with family(tmp_path, 3, 1) as (bench, _, _):
        [one] = bench.claim()
        bench.do(SetIntent(one.job_id, Event.PAUSE))
        assert bench.claim() == ()
        bench.do(Leave(one.job_id, one.claim, Event.STOP))
        [two] = bench.claim()
        bench.do(SetIntent(one.job_id, Event.RESUME))
        assert bench.claim() == () and bench.status(one.job_id) == "queued"
        bench.do(End(two.job_id, two.claim, Event.RETURN))
        assert [each.job_id for each in bench.claim()] == [one.job_id]


def test_one_that_waits_for_its_time_gives_its_place_away_and_one_that_waits_for_children_keeps_it(tmp_path: Path) -> None:
    with family(tmp_path, 3, 1) as (bench, _, _):
        [one] = bench.claim()
        bench.do(Leave(one.job_id, one.claim, Event.RETRY, run_at_ms=bench.now + 10))
        [two] = bench.claim()
        bench.now += 20
        bench.do(MakeDue())
        assert bench.claim() == ()
        bench.do(Leave(two.job_id, two.claim, Event.AWAIT, awaits=b"b" * 16))
        assert bench.claim() == ()


def test_a_suspect_is_not_kept_back(tmp_path: Path) -> None:
    with family(tmp_path, 3, 1) as (bench, parent, _):
        for _ in range(2):
            bench.claim()
            bench.reopen()
        assert bench.store.suspects() == 2  # with the parent
        assert {bench.claim(1, alone=True)[0].job_id, bench.claim(1, alone=True)[0].job_id} > {parent.job_id}


def test_all_that_are_kept_back_are_counted_paused_and_cancelled_as_the_others(tmp_path: Path) -> None:
    with family(tmp_path, 6, 2) as (bench, parent, batch_id):
        assert bench.reader().statistics().live == {"queued": 6, "running": 1}
        assert bench.reader().batch(batch_id).states == {"queued": 6}
        kept = [record.kept_back for record in bench.reader().jobs(JobFilter(parent=parent.job_id))]
        assert kept == [False] * 2 + [True] * 4
        bench.do(SetBatchIntent(batch_id, Event.PAUSE))
        assert bench.claim() == ()
        bench.do(SetBatchIntent(batch_id, Event.RESUME))
        assert len(bench.claim()) == 2
        bench.do(SetIntent(parent.job_id, Event.CANCEL))
        while bench.do(Cascade(2)).more:
            pass
        assert [len(children_of(bench, status)) for status in ("cancelling", "queued")] == [2, 0]


def test_a_group_that_was_not_stored_leaves_the_limit_as_it_was(tmp_path: Path) -> None:
    with family(tmp_path, 4, 1) as (bench, _, _):
        [one] = bench.claim()
        stored, refused = bench.commit(End(one.job_id, one.claim, Event.RETURN), WriteProgress(one.job_id, 1, object()))  # type: ignore[arg-type]
        assert stored is Status.COMPLETED and isinstance(refused, Exception)
        assert len(bench.claim()) == 1 and bench.claim() == ()


@pytest.mark.parametrize("seed", range(4))
def test_never_more_run_and_no_place_stays_empty_whatever_happens(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    most = rng.randint(1, 4)
    with Bench(tmp_path) as bench:
        parent = bench.start()
        jobs = [Submission(Limited(number), priority=rng.choice((0, 128)), delay=rng.choice((None, None, 0.01))) for number in range(30)]
        batch_id = spawn(bench, parent, jobs, most, rows=rng.choice((3, 30)))
        running: dict[bytes, Claimed] = {}
        for _ in range(60):
            for each in bench.claim(rng.randint(1, 6)):
                running[each.job_id] = each
            live = children_of(bench, "running") + children_of(bench, "pausing")
            assert len(live) <= most
            if len(live) < most:
                bench.claim()
                ready = "status = 'queued' AND run_at IS NULL AND parent IS NOT NULL"
                left = bench.rows(f"SELECT count(*) FROM jobs WHERE {ready}")[0][0]
                now = len(children_of(bench, "running") + children_of(bench, "pausing"))
                assert now == most or left == 0
                running = {job_id: _held(bench, job_id) for job_id in live + children_of(bench, "running")}
            some = rng.choice(sorted(running)) if running else None
            match rng.randrange(8):
                case 0 | 1 if some is not None:
                    gone = running.pop(some)
                    bench.do(End(some, gone.claim, Event.RETURN))
                case 2 if some is not None:
                    gone = running.pop(some)
                    bench.do(Leave(some, gone.claim, Event.RETRY, run_at_ms=bench.now + 5))
                case 3 if some is not None and bench.status(some) == "running":
                    bench.do(SetIntent(some, Event.PAUSE))
                    bench.do(Leave(some, running.pop(some).claim, Event.STOP))
                case 4:
                    bench.do(SetBatchIntent(batch_id, Event.RESUME))
                case 5:
                    bench.reopen(clean=True)
                    running = {}
                case _:
                    bench.now += 7
                    bench.do(MakeDue())
        assert bench.rows("SELECT count(*) FROM jobs WHERE limited IS NULL AND parent IS NOT NULL") == [(0,)]


def _held(bench: Bench, job_id: bytes) -> Claimed:
    claim = bench.row(job_id)["claim"]
    return Claimed(job_id, "", 1, claim, 1, 0, False, False, 0, 0, 0, None, None, 0, None, b"", b"", False)


def test_planted_statuses_are_those_of_the_lifecycle() -> None:
    """The statement counts by name; a status that is added must be decided on."""
    assert set(Status) == {
        "queued", "waiting", "awaiting_children", "running", "pausing", "paused", "cancelling", "ending", "quarantined", "completed",
        "completed_with_errors", "failed", "cancelled",
    }  # fmt: skip
