"""Opening a library whose owner was killed while eight of its jobs ran: with 1,000 jobs in it, and up to a million.

Counted: the milliseconds that `open_library` takes: the lock, SQLite's own recovery, what was running goes back into the queue, all of it on
disk. Each reading opens a fresh copy. Raw limit: bare apsw that opens the same file, counts its rows and puts the running ones back in one
commit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import apsw

from callboard import Job, JobContext, Runtime
from callboard.benchmarks import raw
from callboard.benchmarks.ground import seconds, settle
from callboard.benchmarks.scenario import Case, Contender, Figure, Goal, Place
from callboard.benchmarks.work import Noop

RUNNING = 8


@dataclass
class Resting(Job, name="benchmark_resting"):
    """Runs until it is stopped."""

    number: int

    def run(self, ctx: JobContext) -> None:
        ctx.sleep(86_400)


def fill(folder: Path, count: int) -> None:
    """A library with so many jobs, left without a farewell."""
    runtime = Runtime(workers=2)
    library = runtime.open_library(folder, running_jobs=RUNNING)
    handles = [library.submit(Resting(number)) for number in range(RUNNING)]
    library.submit_batch(Noop(number) for number in range(count - RUNNING))
    assert {str(handle.status) for handle in handles} == {"running"}
    os._exit(0)


def prepare(ground: Path, sizes: tuple[int, ...]) -> None:
    for size in sizes:
        subprocess.run([sys.executable, "-m", __name__, str(ground / str(size)), str(size)], check=True, capture_output=True)


def own_copy(at: Place) -> Path:
    folder = at.folder / "opened"
    shutil.copytree(at.ground / str(at.size), folder, ignore=shutil.ignore_patterns("control.sock"))
    settle(folder)
    return folder


def ours(at: Place) -> float:
    folder = own_copy(at)
    with Runtime(workers=2) as runtime:
        return 1000 * seconds(lambda: runtime.open_library(folder, runs="own"))


def bare(at: Place) -> float:
    file = own_copy(at) / "jobs.db"

    def work() -> None:
        con = apsw.Connection(str(file), vfs="unix-excl")
        con.execute("PRAGMA synchronous = full; SELECT count(*) FROM jobs").fetchall()
        con.execute("UPDATE jobs SET status = 'queued' WHERE status = 'running'")
        con.close()

    return 1000 * seconds(work)


CASES = (
    Case(
        "recover",
        "open and recover after a kill",
        (Figure("opening", "ms", False),),
        (Contender("callboard", ours), raw.bare(bare)),
        full=(1_000, 10_000, 100_000, 1_000_000),
        goals=(Goal("opening", 1_000.0),),
        prepare=prepare,
        warm_up=lambda size: size,
        most_repeats=3,
        room=lambda size: size * 3_000,
    ),
)

if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]))
