"""Submits, batches, no-op jobs and one job alone, each beside one and beside four Python threads of the host that only count.

Counted as in the scenarios of that name. A busy thread holds the interpreter for whole switch intervals (5 ms), so whoever asks for it back
often is slow. Raw limit: for batches bare apsw with nobody beside it; for the others bare apsw beside the same threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from callboard.benchmarks import raw
from callboard.benchmarks.ground import busy_threads
from callboard.benchmarks.scenario import LATENCIES, Answer, Case, Contender, Figure, Goal, Place
from callboard.benchmarks.scenarios import batch, noop
from callboard.benchmarks.scenarios.submit import acknowledged


def commits(at: Place, busy: int) -> float:
    """Of the limit an eighth of the work: it is slow there, too."""
    with busy_threads(busy):
        return raw.commits_per_second(Place(at.folder, max(1, at.size // 8), at.ground))


RATE = (Figure("jobs/s", "jobs/s", True),)


def cases(threads: int) -> tuple[Case, ...]:
    text = "beside one busy thread" if threads == 1 else f"beside {threads} busy threads"
    one = threads == 1
    share = 1 if one else 2  # beside four a job alone takes a third of a second
    limit = raw.bare(partial(commits, busy=threads), "bare apsw, as busy")

    def who(run: Callable[..., Answer], **how: int) -> Contender:
        return Contender("callboard", partial(run, busy=threads, **how))

    return (
        Case(
            f"batch, {threads}", f"a batch of new jobs {text}", RATE, (who(batch.ours), raw.bare(batch.bare, "bare apsw, idle")),
            full=(100_000,), quick=(20_000,) if one else (), goals=(Goal("jobs/s", 0.4 if one else 0.15, "raw"),),
        ),
        Case(
            f"noop, {threads}", f"no-op jobs {text}", RATE, (who(noop.many), limit), full=(2_000 // share,), quick=(2_000,) if one else (),
            goals=(Goal("jobs/s", 4_000),) if one else (),
        ),
        Case(
            f"sixteen, {threads}", f"acknowledged submits of 16 threads {text}", RATE, (who(acknowledged, threads=16), limit),
            full=(400 // share,), quick=(160,) if one else (), goals=(Goal("jobs/s", 2.0, "raw"),) if one else (),
        ),
        Case(f"one, {threads}", f"acknowledged submits of one thread {text}", RATE, (who(acknowledged, threads=1), limit), full=(100 // share,)),
        Case(f"alone, {threads}", f"one no-op job at a time, submit to result, {text}", LATENCIES, (who(noop.alone),), full=(100 // share,)),
    )  # fmt: skip


CASES = (*cases(1), *cases(4))
