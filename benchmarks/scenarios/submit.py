"""Single submits, each acknowledged before its sender goes on: from one thread, and from sixteen at once.

Counted: acknowledged submits a second. Each is on disk when it is acknowledged; the jobs themselves wait for tomorrow. Raw limit: bare apsw,
one row a commit, one thread.
"""

from __future__ import annotations

from callboard import Submission
from callboard.benchmarks import raw
from callboard.benchmarks.ground import at_once, busy_threads, seconds
from callboard.benchmarks.scenario import Case, Contender, Figure, Goal, Place
from callboard.benchmarks.work import TOMORROW, Noop, open_library


def acknowledged(at: Place, threads: int, busy: int = 0) -> float:
    """Submits a second of so many threads, one outstanding each."""
    with open_library(at.folder) as library, busy_threads(busy):
        share = max(1, at.size // threads)

        def submit(_: int) -> None:
            for number in range(share):
                library.submit(Submission(Noop(number), delay=TOMORROW))

        return threads * share / seconds(lambda: at_once(threads, submit))


RATE = Figure("jobs/s", "jobs/s", True)
CASES = (
    Case(
        "one",
        "from one thread",
        (RATE,),
        (Contender("callboard", lambda at: acknowledged(at, 1)), raw.bare(raw.commits_per_second)),
        full=(2_000,),
        quick=(400,),
        goals=(Goal("jobs/s", 0.7, "raw"),),
        peers="submit_singly",
    ),
    Case(
        "sixteen",
        "from 16 threads",
        (RATE,),
        (Contender("callboard", lambda at: acknowledged(at, 16)), raw.bare(raw.commits_per_second, "bare apsw, one thread")),
        full=(8_000,),
        quick=(800,),
        goals=(Goal("jobs/s", 2.5, "raw"),),
    ),
)
