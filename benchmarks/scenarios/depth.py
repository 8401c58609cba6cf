"""No-op jobs through a queue that is 1,000 deep, and up to a million: what depth costs, in time and in memory.

Counted: jobs a second while the queue is about so deep, from one that runs to a later one, and the most memory of the process beyond what it
had before the queue was filled. Each job is claimed, run and recorded with an fsync at each commit. The shallow ones are filled many times over. Each
reading has a process of its own. Limit: ours at the least depth.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from callboard import BatchSubmission, Job, JobContext, Library, Priority, Runtime, Submission
from callboard.actors.messages import CancelJob
from callboard.benchmarks.ground import memory_kib
from callboard.benchmarks.scenario import Case, Contender, Figure, Goal, Place, Reading
from callboard.benchmarks.work import PATIENCE, Noop, drained

SLOTS = 8
JOBS = 12_000
"""So many are timed in a reading, about."""


MARKS: dict[int, float] = {}
"""When each job ran."""


@dataclass
class Marking(Job, name="benchmark_marking"):
    """Notes when it ran."""

    number: int

    def run(self, ctx: object) -> None:
        MARKS[self.number] = time.perf_counter()


@dataclass
class Holding(Job, name="benchmark_holding"):
    """Keeps a slot until it is cancelled."""

    number: int

    def run(self, ctx: JobContext) -> None:
        ctx.sleep(86_400)


def through(library: Library, depth: int) -> tuple[int, float]:
    """(jobs, seconds) while a queue filled to `depth` runs down."""
    holders = [library.submit(Submission(Holding(number), priority=Priority.URGENT)) for number in range(SLOTS)]
    while any(holder.status != "running" for holder in holders):
        time.sleep(0.001)
    ids = library.submit_batch(BatchSubmission(Marking(number) for number in range(depth))).submitted
    first = min(depth // 10, 2_000)
    last = first + min(depth * 8 // 10, JOBS)
    end = library.job(ids[last])
    for holder in holders:
        library.tell(CancelJob(holder.id))
    end.wait(PATIENCE)
    return last - first, MARKS[last] - MARKS[first]


def ours(at: Place) -> Reading:
    with Runtime(workers=2) as runtime:
        library = runtime.open_library(at.folder / "deep.library", running_jobs=SLOTS)
        library.submit_batch(Noop(number) for number in range(1_000))
        drained(library)
        before, jobs, seconds = memory_kib(), 0, 0.0
        while jobs < min(JOBS, 20 * at.size) // 2:
            some, took = through(library, at.size)
            jobs, seconds = jobs + some, seconds + took
            if at.size < JOBS:
                drained(library)
        memory = (memory_kib("VmHWM") - before) / 1024
        return Reading({"jobs/s": jobs / seconds, "memory": max(0.0, memory)})


CASES = (
    Case(
        "throughput",
        "no-op jobs a second through a queue of this depth",
        (Figure("jobs/s", "jobs/s", True), Figure("memory", "MiB", False, least=10.0)),
        (Contender("callboard", ours, alone=True),),
        full=(1_000, 10_000, 100_000, 1_000_000),
        quick=(1_000, 20_000),
        goals=(Goal("jobs/s", 0.8, "smallest"), Goal("memory", 128.0, firm=False)),
        warm_up=lambda size: 0,
        most_repeats=5,
        room=lambda size: size * 2_000,
    ),
)
