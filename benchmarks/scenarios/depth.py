"""No-op jobs through a queue that is 1,000 deep, and up to a million: what depth costs, in time and in memory.

Counted: jobs a second, from the moment that a full queue may run to the recorded end of its first 10,000 jobs, or of all of them, as often as it
takes for 5,000; and the most memory of the process beyond what it had before the queue was filled. Each job is claimed, run and recorded with
an fsync at each commit. Each reading has a process of its own. Limit: ours at the least depth.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from callboard import Job, JobContext, Library, Priority, Runtime, Submission
from callboard.actors.messages import CancelJob
from callboard.benchmarks.ground import memory_kib
from callboard.benchmarks.scenario import Case, Contender, Figure, Goal, Place, Reading
from callboard.benchmarks.work import PATIENCE, Noop, drained

SLOTS = 8
FIRST, ENOUGH = 10_000, 5_000


@dataclass
class Holding(Job, name="benchmark_holding"):
    """Keeps a slot until it is cancelled."""

    number: int

    def run(self, ctx: JobContext) -> None:
        ctx.sleep(86_400)


def through(library: Library, depth: int) -> tuple[int, float]:
    """(jobs, seconds) of a queue that is filled while nothing can run, then let go."""
    holders = [library.submit(Submission(Holding(number), priority=Priority.URGENT)) for number in range(SLOTS)]
    while any(holder.status != "running" for holder in holders):
        time.sleep(0.001)
    ids = library.submit_batch(Noop(number) for number in range(depth)).submitted
    jobs = min(depth, FIRST)
    last = library.job(ids[jobs - 1])
    started = time.perf_counter()
    for holder in holders:
        library.tell(CancelJob(holder.id))
    last.wait(PATIENCE)
    return jobs, time.perf_counter() - started


def ours(at: Place) -> Reading:
    with Runtime(workers=2) as runtime:
        library = runtime.open_library(at.folder / "deep.library", running_jobs=SLOTS)
        library.submit_batch([Noop(number) for number in range(1_000)])
        drained(library)
        before, jobs, seconds = memory_kib(), 0, 0.0
        while jobs < ENOUGH:
            if jobs:
                drained(library)
            some, took = through(library, at.size)
            jobs, seconds = jobs + some, seconds + took
        return Reading({"jobs/s": jobs / seconds, "memory": max(0, memory_kib("VmHWM") - before) / 1024})


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
