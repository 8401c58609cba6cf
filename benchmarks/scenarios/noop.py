"""Jobs that do nothing, from submit to recorded end: many at once, and one alone, on an idle library and on one under load.

Counted: jobs a second, from the first submit by one thread that waits for nothing between, to the last end on disk; and for one alone the
milliseconds from submit to result. Each job is claimed, run and recorded with an fsync at each commit. Raw limit: bare apsw doing the same
rows in groups of 256 a commit (insert and claim, move to the history); for one alone, two commits of one row.
"""

from __future__ import annotations

import threading

from callboard.actors.messages import Submit
from callboard.benchmarks import raw
from callboard.benchmarks.ground import busy_threads, seconds
from callboard.benchmarks.scenario import LATENCIES, Case, Contender, Figure, Goal, Place
from callboard.benchmarks.work import PATIENCE, Noop, drained, open_library

LOAD = 200
"""Jobs in flight beside the one that is timed."""


def many(at: Place, busy: int = 0) -> float:
    with open_library(at.folder) as library, busy_threads(busy):

        def work() -> None:
            for number in range(at.size - 1):
                library.ref.tell(Submit(Noop(number)))
            library.submit(Noop(-1)).wait(PATIENCE)
            drained(library)

        return at.size / seconds(work)


def alone(at: Place, busy: int = 0) -> list[float]:
    with open_library(at.folder) as library, busy_threads(busy):
        return [1000 * seconds(lambda: library.submit(Noop(1)).wait(30)) for _ in range(at.size)]


def under_load(at: Place) -> list[float]:
    """Another thread keeps LOAD jobs in flight."""
    with open_library(at.folder) as library:
        done = threading.Event()

        def keep_busy() -> None:
            while not done.is_set():
                for number in range(LOAD - 1):
                    library.ref.tell(Submit(Noop(number)))
                library.submit(Noop(-1)).wait(PATIENCE)

        thread = threading.Thread(target=keep_busy)
        thread.start()
        try:
            return [1000 * seconds(lambda: library.submit(Noop(1)).wait(30)) for _ in range(at.size)]
        finally:
            done.set()
            thread.join()


RATE = Figure("jobs/s", "jobs/s", True)
CASES = (
    Case(
        "many",
        "no-op jobs, submitted by one thread, to the last recorded end",
        (RATE,),
        (Contender("callboard", many), raw.bare(raw.jobs_per_second)),
        full=(20_000,),
        quick=(5_000,),
        goals=(Goal("jobs/s", 20_000), Goal("jobs/s", 40_000, firm=False)),
        peers="noop_jobs",
    ),
    Case(
        "alone",
        "one no-op job at a time, from submit to result, nothing else going on",
        LATENCIES,
        (Contender("callboard", alone), raw.bare(raw.two_commits_ms, "bare apsw, two commits")),
        full=(1_000,),
        quick=(200,),
        goals=(Goal("p50", 1.0), Goal("p99", 5.0), Goal("p50", 0.6, firm=False)),
        peers="alone_ms",
    ),
    Case(
        "under load",
        f"one no-op job at a time, from submit to result, while another thread keeps {LOAD} in flight",
        LATENCIES,
        (Contender("callboard", under_load),),
        full=(500,),
    ),
)
