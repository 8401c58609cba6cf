"""A pause and a cancel: from the moment it is asked until no code of the job runs any more, for a job that looks every 10 ms.

Counted: the milliseconds of each. The intent and what the job has done are on disk by then. Raw limit: the 10 ms between two looks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from callboard import Job, JobContext
from callboard.benchmarks.ground import seconds
from callboard.benchmarks.scenario import LATENCIES, Case, Contender, Goal, Place
from callboard.benchmarks.work import open_library

LOOK = 0.010


@dataclass
class Looking(Job, name="benchmark_looking"):
    """Looks every 10 ms."""

    looks: int = 0

    def run(self, ctx: JobContext) -> None:
        while True:
            ctx.check_interrupt()
            time.sleep(LOOK)
            self.looks += 1


def stops(at: Place, *, cancel: bool) -> list[float]:
    found = []
    with open_library(at.folder) as library:
        handle = library.submit(Looking())
        for _ in range(at.size):
            while handle.status != "running":
                time.sleep(0.001)
            if cancel:
                found.append(1000 * seconds(partial(handle.cancel, wait=True)))
                handle = library.submit(Looking())
            else:
                found.append(1000 * seconds(partial(handle.pause, wait=True)))
                handle.resume()
        handle.cancel(wait=True)
    return found


def case(name: str) -> Case:
    who = Contender("callboard", partial(stops, cancel=name == "cancel"))
    return Case(name, "asked to stopped", LATENCIES, (who,), full=(200,), quick=(30,), goals=(Goal("p99", 50.0),))


CASES = (case("pause"), case("cancel"))
