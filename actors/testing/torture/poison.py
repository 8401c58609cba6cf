"""Jobs that take their process with them: each is set aside after its third time, whoever runs beside it is not, and one that gets on never is."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from callboard.actors.runtime import Runtime
from callboard.actors.testing.draining import drain
from callboard.actors.testing.torture.child import Child, Line
from callboard.actors.testing.torture.ledger import ENDED, LIVE
from callboard.actors.testing.torture.tally import Tally
from callboard.actors.testing.torture.work import Scene
from callboard.jobs.context import JobContext
from callboard.jobs.job import Job
from callboard.jobs.submission import Submission
from callboard.persistence.folder import LibraryFolder

DEATHS_MOST = 3
POISONS_MOST = 2
BYSTANDERS_MOST = 12
STUBBORN_STEPS = 5
EXIT = 9
PATIENCE = 120.0
ENDS = (-signal.SIGKILL, -signal.SIGSEGV, EXIT, 0)


@dataclass
class Poison(Job, name="torture.poison"):
    """Ends the process, each time in the same way."""

    number: int
    how: int

    def run(self, ctx: JobContext) -> None:
        ctx.services.say(dies=self.number)
        _die(self.how)


@dataclass
class Stubborn(Job, name="torture.stubborn"):
    """Dies behind each of its checkpoints, and gets on."""

    number: int
    at: int = 0

    def run(self, ctx: JobContext) -> int:
        if self.at < STUBBORN_STEPS:
            self.at += 1
            ctx.checkpoint()
            _die(0)
        return self.at


@dataclass
class Bystander(Job, name="torture.bystander"):
    """Takes a moment, in which others may die."""

    number: int

    def run(self, ctx: JobContext) -> int:
        ctx.services.say(comes=self.number)
        ctx.sleep(0.001 * (self.number % 4))
        ctx.services.say(goes=self.number)
        return self.number


def _die(how: int) -> None:
    if how == 0:
        os._exit(EXIT)
    os.kill(os.getpid(), signal.SIGSEGV if how == 1 else signal.SIGKILL)
    time.sleep(PATIENCE)  # until the signal has come


def poison_round(folder: Path, chance: Random, tally: Tally, _until: float) -> None:
    """One library, opened again after each death until nothing is left that could run."""
    library = folder / "poison.library"
    poisons = {number: chance.randrange(3) for number in range(chance.randint(1, POISONS_MOST))}
    jobs: list[Job] = [Poison(number, how) for number, how in poisons.items()]
    jobs += (Bystander(number) for number in range(chance.randint(1, BYSTANDERS_MOST)))
    stubborn = chance.random() < 0.5
    jobs += [Stubborn(0)] if stubborn else []
    chance.shuffle(jobs)
    running = chance.randint(1, 4)
    died: Counter[int] = Counter()
    for life in range(1 + DEATHS_MOST * len(poisons) + (STUBBORN_STEPS if stubborn else 0)):
        with Child(lambda say, first=life == 0: _live(library, Scene(folder, say), jobs if first else [], running)) as child:  # type: ignore[misc]
            if not child.listen(PATIENCE):
                tally.breach("G11", f"a life with {len(jobs)} jobs did not end within {PATIENCE:g} s")
        tally.tried("G11", "lives")
        _judge(child, died, tally)
        if child.exit == 0:
            break
    else:
        tally.breach("G11", f"after {dict(died)} deaths the library still has jobs that end its process")
    _look(library, len(jobs), tally)


def _live(path: Path, scene: Scene, jobs: list[Job], running: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Runtime(workers=2) as runtime:
        library = runtime.open_library(path, services=scene, running_jobs=running, control=False)
        if jobs:
            library.submit_batch([Submission(job) for job in jobs])  # in one transaction: all of them are there when the first one runs
        drain(library, PATIENCE)


def _judge(child: Child, died: Counter[int], tally: Tally) -> None:
    if child.exit not in ENDS:
        tally.breach("G11", f"the process ended with {child.exit}: {child.told('failed')}")
    inside: set[int] = set()
    for line in child.lines:
        _follow(line, inside, died, tally)


def _follow(line: Line, inside: set[int], died: Counter[int], tally: Tally) -> None:
    match line:
        case {"comes": number}:
            inside.add(number)
        case {"goes": number}:
            inside.discard(number)
        case {"dies": number}:
            died[number] += 1
            tally.tried("G11", "deaths under a job")
            if died[number] > DEATHS_MOST:
                tally.breach("G11", f"poison {number} ran once more after {DEATHS_MOST} deaths")
            elif died[number] == DEATHS_MOST and inside:
                tally.breach("G11", f"poison {number} ran its third time beside {len(inside)} others")


def _look(path: Path, jobs: int, tally: Tally) -> None:
    """Poisons are quarantined, all others have completed."""
    folder = LibraryFolder.open(path, create=False, stays=False)
    try:
        reader = folder.reader()
        rows = [(str(values[1]), str(values[2])) for sql in (LIVE, ENDED) for values in reader.execute(sql)]
    finally:
        folder.abandon()
    if len(rows) != jobs:
        tally.breach("G11", f"{len(rows)} of {jobs} jobs are there")
    for name, status in rows:
        tally.tried("G11", "jobs set aside" if name == "torture.poison" else "jobs beside them")
        if status != ("quarantined" if name == "torture.poison" else "completed"):
            tally.breach("G11", f"a {name} is {status}")
