"""Facts to one and to a hundred subscribers, each an actor that counts them, while no-op jobs run.

Counted: facts delivered a second, over all subscribers, and jobs a second. A fact is told after the commit that makes it true; each job has
three (queued, started, completed). Raw limit: one thread that tells as many bare pykka actors as many objects.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pykka

from callboard.actors.messages import Submit
from callboard.benchmarks.scenario import Case, Contender, Figure, Place, Reading
from callboard.benchmarks.work import PATIENCE, Noop, open_library

JOBS = 1_000
FACTS = 3


class Counter(pykka.ThreadingActor):
    """Counts what it is told, and says when it has all of it."""

    def __init__(self, expected: int, done: threading.Semaphore) -> None:
        super().__init__()
        self.left = expected
        self.done = done

    def on_receive(self, message: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.done.release()


def ours(at: Place) -> Reading:
    with open_library(at.folder) as library:
        done = threading.Semaphore(0)
        counters = [Counter.start(JOBS * FACTS, done) for _ in range(at.size)]
        try:
            for counter in counters:
                library.subscribe(counter, name="benchmark_noop", progress=False, lag=1 << 30)
            started = time.perf_counter()
            for number in range(JOBS):
                library.ref.tell(Submit(Noop(number)))
            for _ in counters:
                assert done.acquire(timeout=PATIENCE)
            took = time.perf_counter() - started
        finally:
            for counter in counters:
                counter.stop()
        return Reading({"facts/s": at.size * JOBS * FACTS / took, "jobs/s": JOBS / took})


def told(at: Place) -> float:
    done = threading.Semaphore(0)
    counters = [Counter.start(JOBS * FACTS, done) for _ in range(at.size)]
    try:
        started = time.perf_counter()
        for number in range(JOBS * FACTS):
            for counter in counters:
                counter.tell(number)
        for _ in counters:
            assert done.acquire(timeout=PATIENCE)
        return at.size * JOBS * FACTS / (time.perf_counter() - started)
    finally:
        for counter in counters:
            counter.stop()


CASES = (
    Case(
        "subscribers",
        f"the facts of {JOBS:,} no-op jobs, to so many subscribers",
        (Figure("facts/s", "facts/s", True), Figure("jobs/s", "jobs/s", True)),
        (Contender("callboard", ours), Contender("bare pykka tell", told, "raw", False, "keeps nothing")),
        full=(1, 100),
        warm_up=lambda size: 1,
    ),
)
