"""Families: a parent with 10,000 children beside each other, and one that is fifty deep, each level the parent of the next.

Counted: children a second, and milliseconds a level, from the parent's submit to its result. The children of a batch and their parent's
checkpoint are one commit; every one is claimed, run and recorded with an fsync at each commit. Raw limit: bare apsw doing the rows of as many
no-op jobs in groups; three commits of one row for each level (spawned, claimed, ended).
"""

from __future__ import annotations

from dataclasses import dataclass

from callboard import Job, JobContext
from callboard.benchmarks import raw
from callboard.benchmarks.ground import seconds
from callboard.benchmarks.scenario import Case, Contender, Figure, Place
from callboard.benchmarks.work import PATIENCE, Noop, open_library


@dataclass
class Wide(Job, name="benchmark_wide"):
    """A parent of many."""

    children: int

    def run(self, ctx: JobContext) -> int:
        ctx.spawn_children(Noop(number) for number in range(self.children))
        return len(ctx.wait_for_children())


@dataclass
class Deep(Job, name="benchmark_deep"):
    """A parent of one that is as deep, less one."""

    levels: int

    def run(self, ctx: JobContext) -> int:
        if self.levels > 1:
            ctx.spawn_children([Deep(self.levels - 1)])
            ctx.wait_for_children()
        return self.levels


def wide(at: Place) -> float:
    with open_library(at.folder) as library:
        return at.size / seconds(lambda: library.submit(Wide(at.size)).wait(PATIENCE))


def deep(at: Place) -> float:
    with open_library(at.folder) as library:
        return 1000 * seconds(lambda: library.submit(Deep(at.size)).wait(PATIENCE)) / at.size


def commits(at: Place) -> float:
    took = raw.commits_ms(Place(at.folder, 3 * at.size, at.ground))
    return 3 * sum(took) / len(took)


CASES = (
    Case(
        "wide",
        "children of one parent",
        (Figure("children/s", "children/s", True),),
        (Contender("callboard", wide), raw.bare(raw.jobs_per_second)),
        full=(10_000,),
    ),
    Case(
        "deep",
        "levels, each the parent of the next",
        (Figure("a level", "ms", False),),
        (Contender("callboard", deep), raw.bare(commits, "bare apsw, three commits")),
        full=(50,),
    ),
)
