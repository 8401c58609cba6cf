"""Tasks in parallel through `ctx.map`, with the ledger: 1,000,000 that do nothing; 100 and 1,000 of 20 ms each over ten workers.

A task of 20 ms sleeps, and so stands for a device or a server: this is also how a copy of many slow files goes. Counted: tasks a second from
the job's submit to its result; which tasks are done is on disk as the job goes on. Raw limit: the same latencies one after the other (a tenth
of them, measured); a ThreadPoolExecutor of ten stands beside it, which keeps nothing.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from callboard import Job, JobContext, Task
from callboard.benchmarks.ground import seconds
from callboard.benchmarks.scenario import Case, Contender, Figure, Goal, Place
from callboard.benchmarks.scenarios.checkpoints import Mapping
from callboard.benchmarks.work import PATIENCE, open_library

LATENCY = 0.020
WORKERS = 10


@dataclass
class Wait(Task):
    """Stands for a device or a server."""

    seconds: float

    def run(self, ctx: object) -> None:
        time.sleep(self.seconds)


@dataclass
class Waiting(Job, name="benchmark_waiting"):
    """So many tasks that wait."""

    tasks: int
    latency: float

    def run(self, ctx: JobContext) -> int:
        return sum(1 for _ in ctx.map(Wait, (self.latency,) * self.tasks))


def ours(at: Place, job: Job) -> float:
    with open_library(at.folder, workers=WORKERS) as library:
        library.submit(Mapping(1)).wait(30)
        return at.size / seconds(lambda: library.submit(job).wait(PATIENCE))


def sequential(at: Place) -> float:
    some = max(1, at.size // 10)

    def work() -> None:
        for _ in range(some):
            time.sleep(LATENCY)

    return some / seconds(work)


def pool(at: Place) -> float:
    def work() -> None:
        with ThreadPoolExecutor(WORKERS) as executor:
            list(executor.map(time.sleep, (LATENCY,) * at.size))

    return at.size / seconds(work)


def nothing(_: int) -> None:
    return None


def pool_of_noops(at: Place) -> float:
    def work() -> None:
        with ThreadPoolExecutor(WORKERS) as executor:
            for _ in executor.map(nothing, range(at.size)):
                pass

    return at.size / seconds(work)


RATE = Figure("tasks/s", "tasks/s", True)
WAITERS = (
    Contender("callboard", lambda at: ours(at, Waiting(at.size, LATENCY))),
    Contender("one after the other", sequential, "raw", False, "keeps nothing"),
    Contender("ThreadPoolExecutor(10)", pool, "peer", False, "keeps nothing"),
)
TEXT = "tasks of 20 ms over 10 workers"
CASES = (
    Case("latency", TEXT, (RATE,), WAITERS, full=(1_000,), quick=(300,), goals=(Goal("tasks/s", 9.5, "raw"),)),
    Case("few", TEXT, (RATE,), WAITERS, full=(100,)),
    Case(
        "no-op items",
        "tasks that do nothing",
        (RATE,),
        (
            Contender("callboard", lambda at: ours(at, Mapping(at.size))),
            Contender("ThreadPoolExecutor(10)", pool_of_noops, "peer", False, "keeps nothing"),
        ),
        full=(1_000_000,),
        most_repeats=1,
    ),
)
