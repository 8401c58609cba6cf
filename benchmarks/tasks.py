"""1,000 tasks of 20 ms over 10 workers, against the same one after the other; and 200,000 that do nothing.

Raw limit: the sum of the latencies, measured, and a `ThreadPoolExecutor` of 10. Goal: at least 9.5 times the sequential run.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from measure import Figure, options, pairs, scratch, seconds, show

from callboard import Job, JobContext, Runtime, Task

TASKS = 1_000
LATENCY = 0.020
WORKERS = 10


@dataclass
class Wait(Task):
    """Stands for a device or a server."""

    seconds: float

    def run(self, ctx: object) -> None:
        time.sleep(self.seconds)


@dataclass
class Nothing(Task):
    item: int

    def run(self, ctx: object) -> None:
        return None


@dataclass
class Waiting(Job, name="benchmark_waiting"):
    tasks: int
    latency: float

    def run(self, ctx: JobContext) -> int:
        return sum(1 for _ in ctx.map(Wait, (self.latency,) * self.tasks))


@dataclass
class Hurrying(Job, name="benchmark_hurrying"):
    tasks: int

    def run(self, ctx: JobContext) -> int:
        return sum(1 for _ in ctx.map(Nothing, range(self.tasks)))


def ours(folder: Path, job: Job) -> float:
    with scratch(folder) as place, Runtime(workers=WORKERS) as runtime:
        library = runtime.open_library(place / "tasks.library")
        library.submit(Hurrying(1)).wait(30)
        return seconds(lambda: library.submit(job).wait(600))


def sequential() -> float:
    """One after the other; a tenth of them, times ten."""
    return 10 * seconds(lambda: [time.sleep(LATENCY) for _ in range(TASKS // 10)])


def pool() -> float:
    def work() -> None:
        with ThreadPoolExecutor(WORKERS) as executor:
            list(executor.map(time.sleep, (LATENCY,) * TASKS))

    return seconds(work)


def main() -> None:
    chosen = options(__doc__)
    where, repeats = chosen.dir, chosen.repeats
    job = Waiting(TASKS, LATENCY)
    figures: list[Figure] = [
        pairs("1,000 x 20 ms over 10 workers, against sequential", lambda: ours(where, job), sequential, unit="s", goal=">= 9.5",
              repeats=repeats, higher_is_better=False),
        pairs("the same, against ThreadPoolExecutor(10)", lambda: ours(where, job), pool, unit="s", goal="informs", repeats=repeats,
              higher_is_better=False),
    ]  # fmt: skip
    took = ours(where, Hurrying(200_000))
    figures.append(Figure("200,000 no-op tasks with the ledger", 200_000 / took, 0.0, "tasks/s", 0.0, 1.0, "informs"))
    show(figures, chosen.json)


if __name__ == "__main__":
    main()
