"""A process that runs a tree of jobs until it is done, or killed: `family_child.py LIBRARY CHILDREN KEPT`.

Prints a line at each step, so that whoever kills it knows how far it had come.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from callboard import Job, JobContext, Runtime, Submission
from callboard.actors import crew, spawning

library_path, count, kept = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
crew.KEPT_PARENTS = kept
spawning.CHUNK_ROWS = 200
"""Many commits to be killed in."""


@dataclass
class Leaf(Job, name="family.leaf"):
    number: int

    def run(self, ctx: JobContext) -> int:
        return self.number


@dataclass
class Middle(Job, name="family.middle"):
    count: int

    def run(self, ctx: JobContext) -> int:
        ids = ctx.spawn_children((Leaf(number) for number in range(self.count)), name="leaves")
        return sum(int(str(end.result)) for end in ctx.children_completed(ids))


@dataclass
class Root(Job, name="family.root"):
    count: int

    def run(self, ctx: JobContext) -> int:
        print("root runs", flush=True)
        ids = ctx.spawn_children([Middle(self.count) for _ in range(3)], name="middles")
        print("root waits", flush=True)
        return sum(int(str(end.result)) for end in ctx.wait_for_children(ids))


with Runtime(workers=1) as runtime:
    library = runtime.open_library(library_path, running_jobs=2)
    print("open", flush=True)
    for record in library.jobs(status="quarantined").records:  # killed again and again before it got anywhere: as its user would
        library.resume(record.id)
    known = [*library.jobs(name="family.root").records, *library.history(name="family.root").records]
    handle = library.job(known[0].id) if known else library.submit(Submission(Root(count), key="the family"))
    print("result", handle.wait(120), flush=True)
