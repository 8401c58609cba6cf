"""Batches: submissions from the caller's generator to the outcome; keys in order and in none; all duplicates; a million.

Each submission is a dataclass of three fields (about 120 bytes stored), a unique key, one of 16 groups. Counted: jobs a second, until the last
part is on disk; of a million also the memory that it takes beyond what the process had, and the rate of the last tenth over that of the
first; and what a single acknowledged submit of another thread takes meanwhile. Raw limit: bare apsw that builds the same rows in Python and
inserts them into the same table with the same indexes, `executemany` in transactions of 10,000, an fsync each.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import msgpack

from callboard import BatchSubmission, Job, OnDuplicate, Submission
from callboard.benchmarks import raw
from callboard.benchmarks.ground import busy_threads, memory_kib, seconds
from callboard.benchmarks.scenario import LATENCIES, Case, Contender, Figure, Goal, Place, Reading
from callboard.benchmarks.work import TOMORROW, Noop, open_library
from callboard.persistence import migrate

CHUNK = 10_000
GROUPS = tuple(f"bucket-{number}" for number in range(16))


@dataclass
class SyncFile(Job, name="benchmark_sync_file"):
    """One action of a sync engine."""

    path: str
    size: int
    etag: str

    def run(self, ctx: object) -> None:
        return None


def fields(number: int) -> tuple[str, int, str]:
    return f"/photos/2026/some/longer/folder/name/file-{number:07d}.jpg", number, f"d41d8cd98f00b204e9800998ecf8427e-{number}"


def key_of(number: int, count: int, shuffled: bool) -> str:
    """In order, as sorted listings come; or in none, as hashes come: each part then writes leaves all over the index."""
    return f"key-{number * 7_919 % count if shuffled else number:07d}"


def actions(count: int, shuffled: bool = False) -> Iterator[Submission]:
    for number in range(count):
        yield Submission(SyncFile(*fields(number)), key=key_of(number, count, shuffled), group=GROUPS[number % 16], delay=TOMORROW)


def ours(at: Place, *, shuffled: bool = False, again: OnDuplicate | None = None, busy: int = 0) -> float:
    """`again`: time a second batch of the same keys instead of the first."""
    with open_library(at.folder) as library:

        def submit() -> None:
            outcome = library.submit_batch(BatchSubmission(actions(at.size, shuffled), on_duplicate=again or OnDuplicate.SKIP))
            assert len(outcome) == at.size and outcome.complete, outcome.counts

        if again is not None:
            submit()
        with busy_threads(busy):
            return at.size / seconds(submit)


RAW = """
INSERT INTO jobs (id, name, version, status, intent, pausers, priority, key, grp, run_at, resumable, created_at, queued_at, claim, attempt,
  crashes, alone, excused, running_ms, waiting_ms, warnings, data, checksum)
VALUES (?, 'benchmark_sync_file', 1, 'queued', 'run', 0, 128, ?, ?, 9, 1, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0, ?, x'0011223344556677')"""


def bare(at: Place, *, shuffled: bool = False) -> float:
    """The library's own schema, so that rows and indexes are the same."""
    con = raw.connection(at.folder, "")
    migrate.create(con)

    def row(number: int) -> tuple[object, ...]:
        data = msgpack.packb(dict(zip(("path", "size", "etag"), fields(number), strict=True)))
        return (number + 1).to_bytes(16, "big"), key_of(number, at.size, shuffled).encode(), GROUPS[number % 16], data

    def insert() -> None:
        for start in range(0, at.size, CHUNK):
            with con:
                con.executemany(RAW, map(row, range(start, min(at.size, start + CHUNK))))

    rate = at.size / seconds(insert)
    con.close()
    return rate


def watched(at: Place, shuffled: bool) -> Reading:
    """A batch with its memory and its slope."""
    with open_library(at.folder) as library:
        library.submit_batch(Submission(Noop(number), delay=TOMORROW) for number in range(1_000))
        gc.collect()
        before, most, marks, tenth = memory_kib(), 0, [time.perf_counter()], max(1, at.size // 10)

        def counted() -> Iterator[Submission]:
            nonlocal most
            for number, submission in enumerate(actions(at.size, shuffled), 1):
                yield submission
                if number % tenth == 0:
                    marks.append(time.perf_counter())
                    most = max(most, memory_kib())

        outcome = library.submit_batch(counted())
        marks[-1] = time.perf_counter()
        assert len(outcome) == at.size and outcome.complete
        tenths = [after - before for before, after in zip(marks, marks[1:], strict=False)]
        memory = (max(most, memory_kib()) - before) / 1024
        return Reading({"jobs/s": at.size / (marks[-1] - marks[0]), "memory": max(0.0, memory), "last tenth": tenths[0] / tenths[-1]})


def single_beside(at: Place) -> list[float]:
    """What each acknowledged submit of another thread takes, in ms, while a batch is being submitted."""
    took: list[float] = []
    with open_library(at.folder) as library:
        done = threading.Event()

        def singles() -> None:
            while not done.is_set():
                took.append(1000 * seconds(lambda: library.submit(Submission(Noop(0), delay=TOMORROW))))
                done.wait(0.002)

        thread = threading.Thread(target=singles)
        thread.start()
        try:
            library.submit_batch(actions(at.size, True))
        finally:
            done.set()
            thread.join()
    return took


RATE = Figure("jobs/s", "jobs/s", True)
WATCHED = (RATE, Figure("memory", "MiB", False, least=10.0), Figure("last tenth", "of the first", True))
BOUNDED = (Goal("memory", 128.0, firm=False), Goal("last tenth", 0.8, firm=False))
RATIO, ABSOLUTE = Goal("jobs/s", 0.75, "raw"), Goal("jobs/s", 150_000, firm=False)


def million(name: str, shuffled: bool, repeats: int) -> Case:
    text = f"new jobs from a generator, keys in {'no ' if shuffled else ''}order"
    who = Contender("callboard", partial(watched, shuffled=shuffled), alone=True)
    limit = raw.bare(partial(bare, shuffled=shuffled))
    return Case(name, text, WATCHED, (who, limit), full=(1_000_000,), goals=BOUNDED, most_repeats=repeats, room=lambda size: size * 2_000)


def duplicates(name: str, again: OnDuplicate, aim: float) -> Case:
    contenders = Contender("callboard", partial(ours, again=again)), raw.bare(bare, "bare apsw, inserting")
    goals = (Goal("jobs/s", aim, firm=False),)
    return Case(name, f"every key is taken: {name}", (RATE,), contenders, full=(100_000,), goals=goals)


CASES = (
    Case(
        "fresh",
        "new jobs, keys in order",
        (RATE,),
        (Contender("callboard", ours), raw.bare(bare)),
        full=(100_000,),
        quick=(20_000,),
        goals=(RATIO, ABSOLUTE),
        peers="submit_batch",
    ),
    Case(
        "no order",
        "new jobs, keys in no order",
        (RATE,),
        (Contender("callboard", partial(ours, shuffled=True)), raw.bare(partial(bare, shuffled=True))),
        full=(100_000,),
        goals=(RATIO,),
    ),
    Case("small", "new jobs, keys in order", (RATE,), (Contender("callboard", ours), raw.bare(bare)), full=(1_000,), peers="submit_batch"),
    duplicates("skip", OnDuplicate.SKIP, 200_000),
    duplicates("supersede", OnDuplicate.SUPERSEDE, 80_000),
    Case(
        "single beside",
        "single acknowledged submits of another thread while a batch is submitted",
        LATENCIES,
        (Contender("callboard", single_beside),),
        full=(100_000,),
        quick=(20_000,),
        goals=(Goal("p99", 50.0, firm=False),),
    ),
    million("million", False, 3),
    million("million, no order", True, 1),  # minutes each
)
