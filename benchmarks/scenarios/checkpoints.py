"""A job of 100,000 items that saves how far it is every 100 of them: by hand with `ctx.checkpoint()`, and through the ledger of `ctx.map`.

Counted: seconds from submit to result, and bytes written to the disk. Each checkpoint is on disk before the job goes on. Raw limit: a loop
that writes the changed 512-byte page of a bitmap and commits, as often.
"""

from __future__ import annotations

from dataclasses import dataclass

from callboard import Job, JobContext, Task
from callboard.benchmarks import raw
from callboard.benchmarks.ground import seconds, written_bytes
from callboard.benchmarks.scenario import Case, Contender, Figure, Goal, Place, Reading
from callboard.benchmarks.work import PATIENCE, open_library

EVERY = 100


@dataclass
class Counting(Job, name="benchmark_counting"):
    """Counts its items and saves how far it is."""

    items: int
    every: int
    done: int = 0

    def run(self, ctx: JobContext) -> int:
        while self.done < self.items:
            self.done += 1
            if self.done % self.every == 0:
                ctx.checkpoint()
        return self.done


@dataclass
class Nothing(Task):
    """A task that does nothing."""

    item: int

    def run(self, ctx: object) -> None:
        return None


@dataclass
class Mapping(Job, name="benchmark_mapping"):
    """Runs a task an item, with the ledger."""

    items: int

    def run(self, ctx: JobContext) -> int:
        return sum(1 for _ in ctx.map(Nothing, range(self.items)))


def ours(at: Place, job: Job) -> Reading:
    with open_library(at.folder) as library:
        before = written_bytes()
        took = seconds(lambda: library.submit(job).wait(PATIENCE))
        return Reading({"seconds": took, "written": (written_bytes() - before) / 1e6})


def bitmap(at: Place) -> Reading:
    con = raw.connection(at.folder, "CREATE TABLE bitmap (page INTEGER PRIMARY KEY, bits BLOB)")
    wal = raw.with_room(con)
    pages = [bytearray(512) for _ in range(at.size // 4096 + 1)]

    def work() -> None:
        for start in range(0, at.size, EVERY):
            for item in range(start, start + EVERY):
                pages[item // 4096][item % 4096 >> 3] |= 1 << (item & 7)
            with con:
                con.execute("INSERT OR REPLACE INTO bitmap VALUES (?, ?)", (start // 4096, bytes(pages[start // 4096])))
            wal.tidy()

    before = written_bytes()
    took = seconds(work)
    written = written_bytes() - before
    con.close()
    return Reading({"seconds": took, "written": written / 1e6})


FIGURES = (Figure("seconds", "s", False), Figure("written", "MB", False))
LIMIT = raw.bare(bitmap, "bare bitmap")
CASES = (
    Case(
        "by hand",
        f"a checkpoint every {EVERY} items",
        FIGURES,
        (Contender("callboard", lambda at: ours(at, Counting(at.size, EVERY))), LIMIT),
        full=(100_000,),
        quick=(30_000,),
        goals=(Goal("seconds", 1.5, "raw"), Goal("written", 10.0, quick=False), Goal("seconds", 1.2, "raw", firm=False)),
    ),
    Case(
        "ledger",
        "a no-op task an item, recorded by ctx.map",
        FIGURES,
        (Contender("callboard", lambda at: ours(at, Mapping(at.size))), LIMIT),
        full=(100_000,),
    ),
)
