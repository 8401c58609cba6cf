"""Batches: 100,000 submissions from the caller's generator to the outcome, alone and beside busy Python threads; duplicates; a million; what a
single submit waits meanwhile; and a queue a million deep.

Each submission is a dataclass of three fields (about 120 bytes stored), a unique key, one of 16 groups. Raw limit: bare apsw that builds the
same rows in Python and inserts them into the same table with the same indexes, `executemany` in transactions of 10,000 (FULL).
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import apsw
import msgpack
from measure import Figure, busy_threads, options, pairs, scratch, seconds, show

from callboard import BatchSubmission, Job, OnDuplicate, Runtime, Submission
from callboard.persistence import migrate

COUNT = 100_000
MANY = 1_000_000
CHUNK = 10_000


@dataclass
class SyncFile(Job, name="benchmark_sync_file"):
    """One action of a sync engine."""

    path: str
    size: int
    etag: str

    def run(self, ctx: object) -> None:
        return None


def path_of(number: int) -> str:
    return f"/photos/2026/some/longer/folder/name/file-{number:07d}.jpg"


def etag_of(number: int) -> str:
    return f"d41d8cd98f00b204e9800998ecf8427e-{number}"


SHUFFLED = False
"""True: keys in no order, as hashes come. Every part then touches leaves all over the index, and each of them is written anew with it."""


def key_of(number: int, count: int) -> str:
    """Unique; in order, as sorted listings come."""
    return f"key-{number * 7_919 % count if SHUFFLED else number:07d}"


def actions(count: int, first: int = 0) -> Iterator[Submission]:
    for number in range(first, first + count):
        job = SyncFile(path_of(number), number, etag_of(number))
        yield Submission(job, key=key_of(number, count), group=f"bucket-{number % 16}", delay=86_400)


# --- ours and the raw limit ---------------------------------------------------------------------------------------------


def batch_per_second(folder: Path | None, count: int, on_duplicate: OnDuplicate | None = None) -> float:
    """`on_duplicate`: time a second batch of the same keys instead of the first."""
    with scratch(folder) as place, Runtime(workers=2) as runtime:
        library = runtime.open_library(place / "batch.library")
        library.submit(Submission(SyncFile("", 0, ""), delay=86_400))

        def submit() -> None:
            outcome = library.submit_batch(BatchSubmission(actions(count), on_duplicate=on_duplicate or OnDuplicate.SKIP))
            assert len(outcome) == count and outcome.complete, outcome.counts

        if on_duplicate is not None:
            submit()
        return count / seconds(submit)


def raw_connection(place: Path) -> apsw.Connection:
    """The library's own schema, so that rows and indexes are the same."""
    con = apsw.Connection(str(place / "raw.db"), vfs="unix-excl")
    con.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 0")
    migrate.create(con)
    return con


RAW = """
INSERT INTO jobs (id, name, version, status, intent, pausers, priority, key, grp, run_at, resumable, created_at, queued_at, claim, attempt,
  crashes, alone, excused, running_ms, waiting_ms, warnings, data, checksum)
VALUES (?, 'benchmark_sync_file', 1, 'queued', 'run', 0, 128, ?, ?, 9, 1, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0, ?, x'0011223344556677')"""


def raw_per_second(folder: Path | None, count: int) -> float:
    with scratch(folder) as place:
        con = raw_connection(place)

        def row(number: int) -> tuple[object, ...]:
            data = msgpack.packb({"path": path_of(number), "size": number, "etag": etag_of(number)})
            return (number + 1).to_bytes(16, "big"), key_of(number, count).encode(), f"bucket-{number % 16}", data

        def insert() -> None:
            for start in range(0, count, CHUNK):
                with con:
                    con.executemany(RAW, map(row, range(start, min(count, start + CHUNK))))

        rate = count / seconds(insert)
        con.close()
        return rate


# --- a million ----------------------------------------------------------------------------------------------------------


def memory_kib(field: str = "VmRSS") -> int:
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(field)).split()[1])


def million(folder: Path | None, count: int) -> tuple[float, float, float]:
    """(jobs/s, most MiB above the baseline, rate of the last tenth over that of the first)."""
    with scratch(folder) as place, Runtime(workers=2) as runtime:
        library = runtime.open_library(place / "batch.library")
        library.submit_batch(actions(1_000, first=count))
        gc.collect()
        before, most, marks = memory_kib(), 0, [time.perf_counter()]

        def watched() -> Iterator[Submission]:
            nonlocal most
            for number, submission in enumerate(actions(count), 1):
                yield submission
                if number % (count // 10) == 0:
                    marks.append(time.perf_counter())
                    most = max(most, memory_kib())

        outcome = library.submit_batch(watched())
        marks[-1] = time.perf_counter()
        assert len(outcome) == count and outcome.complete
        tenths = [after - before for before, after in zip(marks, marks[1:], strict=False)]
        return count / (marks[-1] - marks[0]), (max(most, memory_kib()) - before) / 1024, tenths[0] / tenths[-1]


def single_beside_batch_ms(folder: Path | None, count: int) -> list[float]:
    """What each acknowledged submit of another thread takes while a batch is being submitted, in ms, sorted."""
    took: list[float] = []
    with scratch(folder) as place, Runtime(workers=2) as runtime:
        library = runtime.open_library(place / "batch.library")
        done = threading.Event()

        def singles() -> None:
            while not done.is_set():
                took.append(1000 * seconds(lambda: library.submit(Submission(SyncFile("", 0, ""), delay=86_400))))
                done.wait(0.002)

        thread = threading.Thread(target=singles)
        thread.start()
        library.submit_batch(actions(count))
        done.set()
        thread.join()
    return sorted(took)


# --- deep queues --------------------------------------------------------------------------------------------------------


@dataclass
class Waits(Job, name="benchmark_waits"):
    """Fills a queue."""

    number: int

    def run(self, ctx: object) -> None:
        return None


def deep(folder: Path | None, depth: int, jobs: int) -> tuple[float, float]:
    """(no-op jobs a second through a queue of this depth, seconds to open and recover it)."""
    with scratch(folder) as place:
        with Runtime(workers=2) as runtime:
            library = runtime.open_library(place / "deep.library", running_jobs=1)
            ids = library.submit_batch(BatchSubmission((Waits(number) for number in range(depth)), default_priority=200)).submitted
        with Runtime(workers=2) as runtime:
            started = time.perf_counter()
            library = runtime.open_library(place / "deep.library")
            opening = time.perf_counter() - started
            begun = library.statistics().ended.get("completed", 0)
            last = min(begun + jobs, depth - 1)
            took = seconds(lambda: library.job(ids[last]).wait(600))
        return (last - begun) / took, opening


# --- peers --------------------------------------------------------------------------------------------------------------


def payload(number: int) -> bytes:
    return cast(bytes, msgpack.packb({"path": path_of(number), "size": number, "etag": etag_of(number)}))


def peers(folder: Path | None, count: int) -> list[str]:
    """What is installed of huey, litequeue, persist-queue and DBOS, on the same payloads, in their own best documented way."""
    found: list[str] = []
    for name, durability, run in (
        ("huey", "fsync=True; one at a time; no keys", _huey),
        ("litequeue", "not synced at return; one transaction; no keys", _litequeue),
        ("persist-queue", "synced at commit; one at a time", _persist_queue),
        ("DBOS (SQLite)", "synced; a workflow enqueued at a time, dedup by key", _dbos),
    ):
        with ExitStack() as stack, suppress(ImportError):
            place = stack.enter_context(scratch(folder))
            some = count if name == "litequeue" else min(count, 200 if name.startswith("DBOS") else 2_000)
            found.append(f"  {name:<16} {some / run(place, some):>10,.0f}/s   {durability}")
    return found


def _huey(place: Path, count: int) -> float:
    huey: Any = import_module("huey").SqliteHuey(filename=str(place / "huey.db"), fsync=True)

    @huey.task()
    def sync_file(data: bytes) -> None: ...

    return seconds(lambda: [sync_file(payload(number)) for number in range(count)] and None)


def _litequeue(place: Path, count: int) -> float:
    queue: Any = import_module("litequeue").LiteQueue(str(place / "lite.db"))

    def put() -> None:
        with queue.transaction(mode="IMMEDIATE"):
            for number in range(count):
                queue.put(payload(number).hex())

    return seconds(put)


def _persist_queue(place: Path, count: int) -> float:
    queue: Any = import_module("persistqueue").UniqueQ(str(place / "persist"), auto_commit=True)
    return seconds(lambda: [queue.put(payload(number)) for number in range(count)] and None)


def _dbos(place: Path, count: int) -> float:
    dbos: Any = import_module("dbos")
    DBOS = dbos.DBOS
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{place / 'dbos.sqlite'}", "log_level": "CRITICAL"})

    @DBOS.workflow()
    def sync_file(data: bytes) -> None: ...

    DBOS.launch()
    try:
        queue = DBOS.register_queue("bench")

        def enqueue() -> None:
            for number in range(count):
                with dbos.SetEnqueueOptions(deduplication_id=key_of(number, count)):
                    queue.enqueue(sync_file, payload(number))

        return seconds(enqueue)
    finally:
        DBOS.destroy()


def main() -> None:
    chosen = options(__doc__)
    where, repeats = chosen.dir, chosen.repeats

    few = min(3, repeats)

    def raw() -> float:
        return raw_per_second(where, COUNT)

    def against_raw(name: str, goal: str, *, busy: int = 0, on_duplicate: OnDuplicate | None = None) -> None:
        """The raw limit always runs idle."""

        def ours() -> float:
            with busy_threads(busy):
                return batch_per_second(where, COUNT, on_duplicate)

        show([pairs(name, ours, raw, unit="jobs/s", goal=goal, repeats=few if busy or on_duplicate else repeats)], chosen.json)

    def one(name: str, ours: float, raw: float, unit: str, ratio: float, goal: str) -> None:
        show([Figure(name, ours, raw, unit, ratio, 1.0, goal)], chosen.json)

    against_raw("100,000 fresh", ">= 0.75 of raw")
    against_raw("the same beside one busy thread, raw idle", ">= 0.4", busy=1)
    against_raw("the same beside four busy threads, raw idle", ">= 0.15", busy=4)
    against_raw("all duplicates, skip", ">= 200,000/s", on_duplicate=OnDuplicate.SKIP)
    against_raw("all duplicates, supersede", ">= 80,000/s", on_duplicate=OnDuplicate.SUPERSEDE)
    beside = single_beside_batch_ms(where, COUNT)
    p50, p99 = (beside[int(len(beside) * share)] for share in (0.5, 0.99))
    one(f"a single submit during it, p99 (p50 {p50:.1f} ms)", p99, p50, "ms", p50 / p99, "<= 50 ms")
    rate, mib, slope = million(where, MANY)
    goal = "<= 128 MiB; the last tenth at >= 0.8 of the rate of the first"
    one(f"1,000,000 from a generator, {mib:.0f} MiB more memory", rate, rate / slope, "jobs/s", slope, goal)
    (deep_rate, opening), (shallow, _) = deep(where, MANY, 20_000), deep(where, 1_000, 500)
    goal = ">= 0.8; opened in <= 1 s"
    one(f"no-op jobs, 1,000,000 deep against 1,000 (opened in {opening:.2f} s)", deep_rate, shallow, "jobs/s", deep_rate / shallow, goal)
    for line in peers(where, 20_000):
        print(line)


if __name__ == "__main__":
    main()
