"""A process with many open libraries under load: `load_child.py FOLDER LIBRARIES SECONDS [all]`. Prints what it measured and what went wrong (JSON).

Sixteen actors submit, each with some jobs on their way and told every fact of each; a listener a library reads, another one never does.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykka

from callboard import Job, JobContext, Runtime, Submission
from callboard.actors import hub
from callboard.actors.door import Library
from callboard.actors.messages import Answered, Submit
from callboard.jobs.events import Fact, FactsLost, JobCompleted, JobQueued, JobRequeued, JobStarted
from callboard.jobs.factlog import FactLog

SUBMITTERS, ON_THEIR_WAY = 16, 32
LAG = 100
"""Messages in the mailbox of a listener that does not read."""
FACTS_KEPT = 100
"""Of a library, unless all are kept that callboard keeps: what is measured are not they."""
ENOUGH = 100
"""Jobs of each library that make a load, however long they take: three facts of each are more than a listener's mailbox and the library keep."""
PATIENCE = 120.0

MAY_FOLLOW: dict[type, tuple[type, ...]] = {
    JobQueued: (Answered,),
    JobStarted: (JobQueued, JobRequeued),
    JobRequeued: (JobQueued, JobRequeued, JobStarted),
    JobCompleted: (JobStarted,),
}
"""What a job is told to have gone through before. It is requeued when another library was given the place in which it was to run."""


@dataclass
class Little(Job, name="load.little"):
    number: int

    def run(self, ctx: JobContext) -> int:
        return self.number


class Submitter(pykka.ThreadingActor):
    """Keeps so many jobs on their way until it is told to stop. What it finds wrong is in `wrong`."""

    use_daemon_thread = True

    def __init__(self, libraries: list[Library], number: int) -> None:
        super().__init__()
        self.libraries, self.number = libraries, number
        self.sent, self.ended, self.requeued, self.stopping = 0, 0, 0, False
        self.under_way: dict[int, Library] = {}
        self.stage: dict[bytes, tuple[type, int]] = {}
        self.submitted: dict[str, int] = {}
        self.wrong: list[str] = []
        self.done = threading.Event()

    def on_receive(self, message: object) -> None:
        match message:
            case "begin":
                for _ in range(ON_THEIR_WAY):
                    self.submit()
            case "stop":
                self.stopping = True
            case Answered():
                self.answered(message)
            case Fact():
                self.told(message)
            case _:
                self.wrong.append(f"it got {message!r:.200}")
        if self.stopping and not self.under_way and not self.stage:
            self.done.set()

    def submit(self) -> None:
        library = self.libraries[(self.number + self.sent) % len(self.libraries)]
        self.sent += 1
        message = Submit(Submission(Little(self.sent)), reply_to=self.actor_ref)
        self.under_way[id(message)] = library
        library.tell(message)

    def answered(self, message: Answered) -> None:
        library = self.under_way.pop(id(message.request))
        if message.error is not None:
            self.wrong.append(f"refused: {message.error!r}")
        else:
            self.submitted[str(library.path)] = self.submitted.get(str(library.path), 0) + 1
            self.stage[message.value.job_id] = (Answered, 0)

    def told(self, fact: Fact) -> None:
        before, n = self.stage.get(fact.job_id, (None, 0))
        if before not in MAY_FOLLOW.get(type(fact), ()) or fact.n <= n:
            self.wrong.append(f"{fact} came after {before} with number {n}")
        self.stage[fact.job_id] = (type(fact), fact.n)
        self.requeued += isinstance(fact, JobRequeued)
        if isinstance(fact, JobCompleted):
            del self.stage[fact.job_id]
            self.ended += 1
            if not self.stopping:
                self.submit()


class Listener(pykka.ThreadingActor):
    """Of one library. Every number is told once, or as lost; `gate`: it reads nothing before this is set."""

    use_daemon_thread = True

    def __init__(self, gate: threading.Event | None) -> None:
        super().__init__()
        self.gate, self.last, self.lost, self.wrong = gate, 0, 0, list[str]()
        self.completed = 0

    def on_receive(self, message: object) -> None:
        if self.gate is not None:
            self.gate.wait()
        if isinstance(message, FactsLost):
            first, last = message.first, message.last
            self.lost += last - first + 1
        elif isinstance(message, Fact):
            first = last = message.n
            self.completed += isinstance(message, JobCompleted)
        else:
            return
        if first != self.last + 1:
            self.wrong.append(f"{message!r:.200} came behind number {self.last}")
        self.last = last


class Measured:
    """What the process costs."""

    def __init__(self) -> None:
        gc.collect()
        self.mib = resident()
        self.threads = threading.active_count()
        self.files = len(os.listdir("/proc/self/fd"))


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def load(folder: Path, count: int, seconds: float, all_facts: bool) -> dict[str, Any]:
    if not all_facts:
        hub.FactLog = functools.partial(FactLog, kept=FACTS_KEPT)  # type: ignore[misc,assignment]
    with Runtime(workers=2, running_jobs=32) as runtime:
        first = runtime.open_library(folder / "first.library")
        first.submit(Little(0)).wait(PATIENCE)  # its actors have been started then
        before = Measured()
        libraries = [runtime.open_library(folder / f"{number}.library") for number in range(count)]
        opened = Measured()
        gate = threading.Event()
        readers = [Listener.start(None) for _ in libraries]
        sleepers = [Listener.start(gate) for _ in libraries]
        subscribe(libraries, readers, 1 << 30)
        subscribe(libraries, sleepers, LAG)
        submitters = [Submitter.start(libraries, number) for number in range(SUBMITTERS)]
        them, reading, sleeping = ([actor_of(ref) for ref in refs] for refs in (submitters, readers, sleepers))
        for submitter in submitters:
            submitter.tell("begin")
        mib = list(samples(seconds))
        until = time.monotonic() + PATIENCE
        while sum(each.ended for each in them) < ENOUGH * count and time.monotonic() < until:
            mib += samples(0.5)
        for submitter in submitters:
            submitter.tell("stop")
        wrong = [f"submitter {each.number} still waits: {each.stage}" for each in them if not each.done.wait(PATIENCE)]
        gate.set()
        wrong += held(libraries, them, reading, sleeping)
        jobs = sum(each.ended for each in them)
        requeued = sum(each.requeued for each in them)
        lost = sum(each.lost for each in sleeping)
        for actor in (*submitters, *readers, *sleepers):
            actor.stop()
        del submitters, them, readers, sleepers, reading, sleeping
        idle = Measured()
        wrong += [f"{library} did not close" for library in libraries if not library.close()]
        del libraries
        closed = Measured()
        first.close()
    return {
        "jobs": jobs, "requeued": requeued, "lost_to_sleepers": lost, "wrong": wrong[:20], "mib": mib, "before": vars(before), "opened": vars(opened),
        "idle": vars(idle), "closed": vars(closed),
    }  # fmt: skip


def subscribe(libraries: list[Library], listeners: list[Any], lag: int) -> None:
    for library, listener in zip(libraries, listeners, strict=True):
        library.subscribe(listener, lag=lag)


def actor_of(ref: Any) -> Any:
    return ref._actor_weakref()


def samples(seconds: float) -> Iterator[float]:
    """Resident memory, some sixty times."""
    pause = threading.Event()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield round(resident(), 1)
        pause.wait(seconds / 60)


def held(libraries: list[Library], submitters: list[Any], readers: list[Any], sleepers: list[Any]) -> list[str]:
    """Nothing is lost, nothing is told twice or out of order."""
    wrong = [text for each in (*submitters, *readers, *sleepers) for text in each.wrong[:3]]
    for library, reader, sleeper in zip(libraries, readers, sleepers, strict=True):
        submitted = sum(each.submitted.get(str(library.path), 0) for each in submitters)
        statistics = library.statistics()
        if statistics.live or statistics.ended != ({"completed": submitted} if submitted else {}):
            wrong.append(f"{library}: {submitted} were submitted, and there are {statistics}")
        epoch, last = library.subscribe(reader.actor_ref)
        for listener in (reader, sleeper):
            until = time.monotonic() + PATIENCE
            while listener.last < last and time.monotonic() < until:
                threading.Event().wait(0.01)
        if (reader.last, reader.lost, sleeper.last, reader.completed) != (last, 0, last, submitted):
            wrong.append(
                f"{library}: {last} facts of {submitted} jobs; told were {reader.completed} ends and {reader.last} facts ({reader.lost} lost), and"
                f" {sleeper.last}"
            )
    return wrong


if __name__ == "__main__":
    print(json.dumps(load(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:] == ["all"])))
