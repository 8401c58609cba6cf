"""What is going on in a library when its process is killed: jobs of every kind, and threads that submit and steer them.

Whatever callboard acknowledged is told at once, and what is asked for is told before: `killed_ledger.py` holds it against the disk.
"""

from __future__ import annotations

import hashlib
import random
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from callboard import BatchSubmission, Job, JobContext, OnDuplicate, Runtime, Submission, Task
from callboard.actors import batching
from callboard.actors import runtime as runtime_module
from callboard.actors.door import Library
from callboard.jobs.batch_outcome import BatchOutcome
from callboard.jobs.errors import CallboardError, JobCancelled, JobFailed, NoAnswer, NotAllowed
from callboard.jobs.lifecycle import Pauser
from callboard.jobs.retry import RetryPolicy
from callboard.jobs.task import Done, TaskContext

ONCE = RetryPolicy(max_attempts=1)
PART, ITEMS = 4, 10
"""A batch has so many items, so many of which are one transaction."""
CHILDREN = 5
NEVER = 1e6
"""Seconds: jobs that are only steered."""
THREADS = 3
PATIENCE = 100.0

Tell = Callable[..., None]


@contextmanager
def running(ctx: JobContext, number: int, **fields: int) -> Iterator[None]:
    ctx.services(runs=number, **fields)
    try:
        yield
    finally:
        ctx.services(left=number)


@dataclass
class Steps(Job, name="killed.steps", retry=ONCE):
    """Counts to `steps`, with a checkpoint at each; `twin` is always seven times `at`."""

    number: int
    steps: int
    nap: float = 0.0
    at: int = 0
    twin: int = 0

    def run(self, ctx: JobContext) -> int:
        with running(ctx, self.number, at=self.at, twin=self.twin):
            while self.at < self.steps:
                self.at, self.twin = self.at + 1, (self.at + 1) * 7
                ctx.checkpoint()
                ctx.services(saved=self.number, at=self.at)
                ctx.sleep(self.nap)
        return self.number * 10


@dataclass
class Look(Task):
    item: int

    def run(self, ctx: TaskContext) -> int:
        return self.item * self.item


@dataclass
class Pictures(Job, name="killed.pictures", retry=ONCE):
    """A map with its ledger; `seen` is right only if no item is done twice or left out between a checkpoint and its ledger."""

    number: int
    count: int
    seen: int = 0

    def run(self, ctx: JobContext) -> int:
        with running(ctx, self.number):
            for end in ctx.map(Look, range(self.count), name="items"):
                assert isinstance(end, Done)
                self.seen += int(str(end.value))
        return self.seen


@dataclass
class Leaf(Job, name="killed.leaf", retry=ONCE):
    number: int

    def run(self, ctx: JobContext) -> int:
        return self.number


@dataclass
class Family(Job, name="killed.family", retry=ONCE):
    """Spawns its children, and adds up what they give."""

    number: int

    def run(self, ctx: JobContext) -> int:
        with running(ctx, self.number):
            jobs = (Submission(Leaf(at), requested_by=f"n{self.number}/{at}") for at in range(CHILDREN))
            ids = ctx.spawn_children(jobs, name="leaves")
            ctx.services(spawned=self.number, ids=[job.hex() for job in ids])
            return sum(int(str(end.result)) for end in ctx.wait_for_children(ids))


def result_of(name: str, who: str) -> int:
    """What a job that completed must have given; `who` asked for it."""
    number, _, at = who.removeprefix("n").replace("/", "#").partition("#")
    if name == "killed.steps":
        return (item_number(int(number), int(at)) if at else int(number)) * 10
    if name == "killed.leaf":
        return int(at)
    return sum(range(CHILDREN)) if name == "killed.family" else sum(item * item for item in range(pictures_of(int(number))))


def pictures_of(number: int) -> int:
    return number % 7 + 3


def item_number(batch: int, at: int) -> int:
    """Negative: those of other jobs are not."""
    return -(batch * 100 + at)


def batch_of(number: int) -> BatchSubmission:
    items = [Submission(Steps(item_number(number, at), 0), requested_by=f"n{number}#{at}") for at in range(ITEMS)]
    return BatchSubmission(items, batch_id=hashlib.sha256(b"%d" % number).digest()[:16])


def ids_of(outcome: BatchOutcome) -> list[str]:
    """Of the items that became jobs, or are stood for by some."""
    return [job_id.hex() for item in outcome if (job_id := getattr(item, "job_id", None))]


def work(path: str, seed: int, first: int, known: list[tuple[str, int]], batches: list[int], tell: Tell, closes: bool) -> None:
    """Until the process is killed; `closes`: or until it has closed the library after a little while.

    `first`: the number of its first job. `known`: (id, number) of jobs of earlier lives to steer, and `batches` those to send again.
    """
    tell(phase="start")
    tell_of_recovery(tell)
    tell_of_parts(tell)
    runtime = Runtime(workers=2, running_jobs=3)
    library = runtime.open_library(path, services=tell, running_jobs=3, batch_rows=PART)
    tell(phase="work")
    threads = [
        threading.Thread(target=Somebody(library, seed + at, first + at * 1_000, known[at::THREADS], batches[at::THREADS], tell).run)
        for at in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    if closes:
        threads[0].join(random.Random(seed).uniform(0.0, 0.04))
        tell(phase="close")
        runtime.close()
        tell(phase="closed")
        return
    threads[0].join(PATIENCE)


def tell_of_recovery(tell: Tell) -> None:
    recover = runtime_module.recover

    def telling(*args: Any) -> Any:
        tell(phase="recovery")
        done = recover(*args)
        tell(phase="opening")
        return done

    runtime_module.recover = telling  # type: ignore[assignment]


def tell_of_parts(tell: Tell) -> None:
    add = batching.Account.add

    def telling(self: batching.Account, chunk: Any, stored: Any) -> None:
        add(self, chunk, stored)
        if not isinstance(stored, Exception):
            tell(part=self.batch_id.hex(), stored=self.end)

    batching.Account.add = telling  # type: ignore[method-assign]


class Somebody:
    """A thread of the application: it does one thing after the other, at random."""

    def __init__(self, library: Library, seed: int, first: int, known: list[tuple[str, int]], batches: list[int], tell: Tell) -> None:
        self.library, self.chance, self.tell, self.next = library, random.Random(seed), tell, first
        self.known = [(bytes.fromhex(job), number) for job, number in known]
        self.batches = batches

    def run(self) -> None:
        things = [self.steps, self.waiter, self.keyed, self.steer, self.steer, self.batch, self.pictures, self.family]
        try:
            for number in self.batches:
                self.send(number)
            while True:
                self.chance.choice(things)()
        except CallboardError as error:
            if not getattr(self.library, "_runtime")._closed:  # noqa: B009
                self.tell(defect=f"{error!r}\n{traceback.format_exc()}")
        except BaseException:  # noqa: BLE001 - for the parent to judge
            self.tell(defect=traceback.format_exc())

    def number(self) -> int:
        self.next += 1
        return self.next

    def submit(self, job: Steps | Pictures | Family, **how: Any) -> bytes | None:
        number = job.number
        self.tell(asks="submit", number=number)
        try:
            handle = self.library.submit(Submission(job, requested_by=f"n{number}", **how))
        except NotAllowed:
            self.tell(refused="submit", number=number)
            return None
        self.tell(acked="submit", number=number, id=handle.id.hex(), duplicate=handle.duplicate, key=how.get("key"))
        return handle.id

    def steps(self) -> None:
        job = self.submit(Steps(self.number(), self.chance.randint(0, 4), self.chance.choice((0.0, 0.001, 0.005))))
        assert job is not None
        if self.chance.random() < 0.4:
            self.known.append((job, self.next))
        if self.chance.random() < 0.4:
            self.wait(job)

    def waiter(self) -> None:
        """A job that waits far in the future, for somebody to steer it."""
        job = self.submit(Steps(self.number(), 1), delay=NEVER)
        assert job is not None
        self.known.append((job, self.next))

    def keyed(self) -> None:
        job = Steps(self.number(), self.chance.randint(0, 2), 0.001)
        self.submit(job, key=f"key {self.chance.randint(0, 2)}", on_duplicate=self.chance.choice(list(OnDuplicate)))

    def pictures(self) -> None:
        number = self.number()
        self.submit(Pictures(number, pictures_of(number)))

    def family(self) -> None:
        self.submit(Family(self.number()))

    def batch(self) -> None:
        if self.chance.random() < 0.5:
            self.send(self.number())

    def send(self, number: int) -> None:
        batch = batch_of(number)
        assert batch.batch_id is not None
        self.tell(asks="batch", number=number, batch=batch.batch_id.hex())
        outcome = self.library.submit_batch(batch)
        if outcome.error is not None:
            raise outcome.error
        self.tell(acked="batch", number=number, complete=outcome.complete, ids=ids_of(outcome))

    def steer(self) -> None:
        if not self.known:
            return
        job, number = self.chance.choice(self.known)
        kind = self.chance.choice(("pause", "pause", "resume", "cancel"))
        call = {"pause": self.library.pause, "resume": self.library.resume, "cancel": self.library.cancel}[kind]
        self.tell(asks=kind, number=number)
        try:
            status = call(job)
        except NotAllowed as error:
            self.tell(refused=kind, number=number, why=str(error))
        else:
            self.tell(acked=kind, number=number, status=str(status))

    def wait(self, job: bytes) -> None:
        number = self.next
        try:
            result = self.library.job(job).wait(0.01)
        except NoAnswer:
            return
        except JobFailed as error:
            self.tell(ended=number, status="failed", error=str(error))
        except JobCancelled:
            self.tell(ended=number, status="cancelled")
        else:
            self.tell(ended=number, status="completed", result=result)


def finish(path: str, batches: list[int], tell: Tell) -> None:
    """Undisturbed: everything is let go on to its end."""
    tell(phase="start")
    with Runtime(workers=2, running_jobs=3) as runtime:
        library = runtime.open_library(path, services=tell, running_jobs=3, batch_rows=PART)
        tell(phase="work")
        for number in batches:
            outcome = library.submit_batch(batch_of(number))
            tell(acked="batch", number=number, complete=outcome.complete, ids=ids_of(outcome))
        while records := library.jobs(limit=1_000).records:
            for record in records:
                try:
                    if record.run_at is not None:
                        library.cancel(record.id)
                    elif Pauser.USER in record.pausers or record.status == "quarantined":
                        library.resume(record.id)
                except NotAllowed:
                    continue
            for record in records:
                try:
                    library.job(record.id).wait(PATIENCE)
                except (JobFailed, JobCancelled):
                    continue
                except NoAnswer:
                    tell(defect=f"stuck: {library.record(record.id)}")
                    return
    tell(phase="finished")
