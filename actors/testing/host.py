"""One life of a history's process: a runtime, a library, and the threads of a host that submit, steer, wait, close and open again.

What they do is drawn from the history's seed and from what they see; all of it is written to the log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pykka

from callboard.actors.actor import Actor, send
from callboard.actors.door import Library
from callboard.actors.handle import JobHandle
from callboard.actors.machine import Joinable, Ports
from callboard.actors.messages import Answered, FactsSince, HubRequest, Submit, Subscribe
from callboard.actors.ports import ThreadPorts
from callboard.actors.runtime import Runtime
from callboard.actors.testing.history_jobs import JOBS, Fixed, Gathering, Mapping, Quick, Steps, Watch
from callboard.actors.testing.observed import Acked, Closed, Logged, Looker, Observed, Opened, Refused, Row, Rows, Told, Waited, rows_on_disk
from callboard.jobs.errors import CallboardError, JobCancelled, JobFailed, LibraryBusy, LibraryClosed, NoAnswer, NotAllowed, StoreUnavailable
from callboard.jobs.events import Fact, FactsLost, LibraryDegraded
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import Status
from callboard.jobs.registry import Registry
from callboard.jobs.submission import Submission, Submitted
from callboard.persistence.connection import open_reader
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.jobdata import encode_result
from callboard.persistence.place import DATABASE

PATIENCE = 1e6
"""Seconds: longer than the slowest simulated thread takes."""

LEAST_JOBS = 3
"""A history has at least so many."""

Spawn = Callable[[Callable[[], object], str], Joinable]


@dataclass(frozen=True, slots=True)
class Caught:
    """To the listener: what was told before it began to listen."""

    facts: tuple[Fact | FactsLost, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """To the listener: set this when all that came before is noted."""

    future: Any


class Listener(Actor):
    """A host's actor: every fact in its own mailbox."""

    def __init__(self, ports: Ports, observed: Observed, life: int, look: Callable[[bytes], Row | None]) -> None:
        super().__init__(ports)
        self._observed, self._life, self._look = observed, life, look
        self._early: list[Fact] | None = []

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        match message:
            case Fact():
                if self._early is None:
                    self._note(message)
                else:
                    self._early.append(message)
            case Caught():
                early, self._early = self._early or [], None
                for fact in (*message.facts, *early):
                    if isinstance(fact, Fact):
                        self._note(fact)
            case Drain():
                message.future.set(None)
            case FactsLost() | LibraryDegraded():
                self._observed.add(Logged(self._life, f"the listener was told {message}"))
            case _:
                pass

    def _note(self, fact: Fact) -> None:
        try:
            self._observed.add(Told(self._life, fact, self._look(fact.job_id)))
        except LookupError:
            self._observed.add(Told(self._life, fact, None, seen=False))


class Sender(Actor):
    """A host's actor that submits by message: many on their way at once, the answers in its mailbox."""

    def __init__(self, ports: Ports, host: Host) -> None:
        super().__init__(ports)
        self._host = host
        self._sent: list[tuple[Submit, int]] = []

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        match message:
            case list():
                for submission in message:
                    submit = Submit(submission, reply_to=self.actor_ref)
                    self._sent.append((submit, self._host.observed.ask(self._host.life, "submit")))
                    library = self._host.library
                    if library is not None:
                        send(library.ref, submit)
            case Answered():
                number = next(number for submit, number in self._sent if submit is message.request)
                if isinstance(message.value, Submitted):
                    self._host.submitted(number, message.value.job_id, message.value.duplicate)
                elif message.error is not None:
                    self._host.refused(number, message.error)
            case _:
                pass


class Host:
    """One life."""

    def __init__(
        self, seed: int, life: int, ports: Ports, spawn: Spawn, path: Path, observed: Observed, known: list[bytes],
        folder: Callable[[], LibraryFolder], scale: float = 1.0, hapless: bool = False,
    ) -> None:  # fmt: skip
        """`known`: jobs that were acknowledged, over all lives. `folder`: the one opened last. `scale`: ports' seconds in one of the scripts'.
        `hapless`: its jobs take long and save nothing, so that every death of the process is charged to them.
        """
        self.seed, self.life, self.ports, self.path, self.observed, self.known = seed, life, ports, path, observed, known
        self._spawn, self._folder, self._scale, self._hapless = spawn, folder, scale, hapless
        self._lock = ports.lock() if isinstance(ports, ThreadPorts) else None
        self._last = self._has_closed = False
        self._looker: Looker | None = None
        self._listener: Any = None
        self._runtime: Runtime | None = None
        self.library: Library | None = None
        """None while it is closed."""
        self._registry = Registry()
        kinds = [kind for kind in JOBS if kind is not Gathering or self.random("kinds").random() < 0.9]
        for kind in kinds:
            self._registry.add(kind)
        self.knows = frozenset(kind.job_name for kind in kinds)
        """The job types that this life can run."""

    def random(self, script: str) -> Random:
        return Random(f"{self.seed} {self.life} {script}")

    # --- the runtime and the library --------------------------------------------------------------------------------

    def main(self, *, last: bool) -> None:
        """The first script of a life: starts all, waits for the others; in the `last` life it resumes what is paused, or most of it."""
        rng = self.random("main")
        self._last = last
        running_jobs = rng.choice((1, 2, 2, 3))
        self._runtime = Runtime(workers=2, running_jobs=running_jobs, ports=self.ports, registry=self._registry)
        self.open(running_jobs)
        scripts: list[tuple[Callable[[], object], str]] = [(self.submitting, "submitting"), (self.steering, "steering")]
        if rng.random() < 0.3:
            scripts.append((self.bursting, "bursting"))
        if rng.random() < 0.3:
            scripts.append((self.steering_too, "steering too"))
        if rng.random() < 0.2:
            scripts.append((lambda: self.reopening(running_jobs), "reopening"))
        threads = [self._spawn(script, name) for script, name in scripts]
        for thread in threads:
            thread.join(None)
        if last:
            self.finish(rng)

    def open(self, running_jobs: int) -> None:
        assert self._runtime is not None
        watch = Watch(self.observed, self.life, self.ports, self.look)
        self._looker = None
        library = self._runtime.open_library(self.path, services=watch, running_jobs=running_jobs, control=False)
        self.observed.add(Opened(self.life, library.epoch, running_jobs, self.rows()))
        self._listener = Listener.start(self.ports, self.observed, self.life, self.look)
        epoch, n = library.ask(Subscribe(self._listener, progress=False), timeout=PATIENCE)
        send(self._listener, Caught(library.ask(FactsSince(epoch, 0, n), timeout=PATIENCE) if n else ()))
        self.library = library

    def look(self, job: bytes) -> Row | None:
        """What is on disk of a job at this moment; LookupError if the library has been closed meanwhile."""
        return self._look_through().row(job)

    def rows(self) -> Rows:
        """All that is on disk at this moment."""
        return self._look_through().rows()

    def last_rows(self) -> Rows | None:
        """The same, of a process that has just died: what its open transaction did is not in it. None if it had not opened the library."""
        try:
            return None if self._looker is None else self._looker.rows()
        except LookupError:
            return None

    def _look_through(self) -> Looker:
        if self._looker is None:
            if self._lock is None:
                # One thread at a time: the reader actor's connection will do, and to open another takes longer than all that it is asked.
                readers = self._folder()._readers
                if not readers:
                    raise LookupError("the library has been closed")
                self._looker = Looker(readers[0])
            else:
                self._looker = Looker(open_reader(self.path / DATABASE), self._lock)  # none of the folder's, which closes them with itself
        return self._looker

    def close(self, deadline: float) -> bool:
        """Close the library, and wait until all that it told has been noted."""
        library, self.library, self._has_closed = self.library, None, True
        assert library is not None and self._runtime is not None
        stopped = library.close(deadline)
        if self._lock is not None and self._looker is not None:
            self._looker.close()
        self.drain()
        self._listener.stop(block=False)
        if stopped:
            self.observed.add(Closed(self.life, stopped, rows_on_disk(self.path)))
        return stopped

    def drain(self) -> None:
        """Wait until all that has been told so far is noted."""
        assert self._runtime is not None
        for ref, message in ((self._runtime._hub, lambda future: HubRequest(b"", None, future)), (self._listener, Drain)):
            future = self.ports.future()
            send(ref, message(future))
            future.wait(PATIENCE)

    def end(self) -> None:
        """The last script of a life that ends well."""
        assert self._runtime is not None
        if self.library is not None and not self.close(60.0):
            self.observed.add(Logged(self.life, "the library did not close, with nothing running in it"))
        self._runtime.close()

    # --- the scripts ------------------------------------------------------------------------------------------------

    def submitting(self) -> None:
        """A thread that submits jobs, and waits for some of them."""
        rng = self.random("submitting")
        count = rng.choice((2, 3, 4)) if self.life == 1 else rng.choice((0, 0, 1, 2))
        for _ in range(count):
            self._rest(rng)
            handle = self._submit(self._submission(rng))
            if handle is not None and rng.random() < 0.3:
                self._wait(handle, rng)
        while self._last and len(self.known) < LEAST_JOBS:
            self.ports.sleep(self._scale * 0.01)
            self._submit(Submission(self._job(rng)))

    def bursting(self) -> None:
        """An actor that submits many at once, by message."""
        rng = self.random("bursting")
        sender = Sender.start(self.ports, self)
        self._rest(rng)
        quick = rng.random() < 0.6
        send(sender, [Submission(Quick()) if quick else self._submission(rng) for _ in range(rng.choice((2, 4, 8) if quick else (2, 3)))])

    def steering(self) -> None:
        """A thread that pauses, resumes, cancels, retries and looks."""
        self._steer(self.random("steering"))

    def steering_too(self) -> None:
        self._steer(self.random("steering too"))

    def reopening(self, running_jobs: int) -> None:
        """A thread that closes the library in the middle of everything, and opens it again."""
        rng = self.random("reopening")
        self._rest(rng)
        self._rest(rng)
        self.close(self._scale * rng.choice((0.0, 0.01, 5.0)))
        for _ in range(1_000):
            try:
                return self.open(running_jobs)
            except LibraryBusy:  # user code of it runs on
                self.ports.sleep(self._scale * 1.0)
        raise AssertionError("the library stayed locked")

    def finish(self, rng: Random) -> None:
        """Resume what is paused, or most of it, so that the history comes to its end."""
        for job in list(self.known):
            row = self.rows().get(job)
            if row is not None and row.status in (Status.PAUSED, Status.QUARANTINED) and rng.random() < 0.8:
                self._command("resume", job, lambda library, job=job: library.resume(job))

    # --- what they do -----------------------------------------------------------------------------------------------

    def _rest(self, rng: Random) -> None:
        """No time, as long as a message takes, as a short job takes, or as a long one."""
        most = rng.choice((0.0, 0.0001, 0.0001, 0.003, 0.8))
        if most:
            self.ports.sleep(self._scale * rng.uniform(0, most))

    def _steer(self, rng: Random) -> None:
        for _ in range(rng.choice((2, 3, 5))):
            self._rest(rng)
            if not self.known:
                continue
            job = self._some_job(rng)
            self._steer_one(rng, job, rng.random())

    def _some_job(self, rng: Random) -> bytes:
        """Mostly one that has not ended, as far as can be seen."""
        if rng.random() < 0.85 and self.library is not None:
            try:
                live = [job for job, row in self.rows().items() if not row.status.ended]
            except LookupError:
                live = []
            if live:
                return rng.choice(live)
        return rng.choice(self.known)

    def _ended_job(self, rng: Random) -> bytes | None:
        try:
            ended = [job for job, row in self.rows().items() if row.status.ended] if self.library is not None else []
        except LookupError:
            ended = []
        return rng.choice(ended) if ended else None

    def _steer_one(self, rng: Random, job: bytes, which: float) -> None:
        if which < 0.35:
            self._command("pause", job, lambda library: library.pause(job))
        elif which < 0.65:
            self._command("resume", job, lambda library: library.resume(job))
        elif which < 0.75:
            self._command("cancel", job, lambda library: library.cancel(job))
        elif which < 0.85:
            self._submit(self._ended_job(rng) or job, rng.choice(("", "keep_done", "failed_only")))
        elif which < 0.93:
            library = self.library
            if library is not None:
                self._wait(JobHandle(library, job), rng)
        else:
            self._stop_and_go(job, rng)

    def _stop_and_go(self, job: bytes, rng: Random) -> None:
        """Pause, wait until it stands, resume: what a person does."""
        library = self.library
        if library is None:
            return
        handle = JobHandle(library, job)
        status = self._command("pause", job, lambda _: handle.pause(wait=True, timeout=self._scale * 5))
        if status is Status.PAUSED:
            self._rest(rng)
            self._command("resume", job, lambda library: library.resume(job))

    def _submission(self, rng: Random) -> Submission:
        key = rng.choice(("a", "b", None, None, None, None))
        delay = rng.choice((None, None, None, None, None, self._scale * rng.uniform(0, 1.0)))
        return Submission(self._job(rng), key=key, priority=rng.choice((0, 128, 128, 200)), delay=delay)

    def _job(self, rng: Random) -> Job:
        if self._hapless and rng.random() < 0.8:
            return Steps(8, 99, self._scale * 0.2)
        which = rng.random()
        nap = self._scale * rng.choice((0.0, 0.0, 0.0005, 0.2))
        looks = rng.random() < 0.5
        if which < 0.5:
            steps = rng.choice((2, 4, 8))
            trouble = rng.choice(("", "", "", "once", "later", "pause", "pause", "always", "critical", "exit"))
            deaf = self._scale * 6.0 if rng.random() < 0.02 else 0.0
            kind = Fixed if rng.random() < 0.2 else Steps
            return kind(steps, rng.choice((1, 2, 3)), nap, deaf, at=rng.randrange(steps), trouble=trouble)
        if which < 0.7:
            items = rng.choice((1, 4, 8))
            broken = tuple(each for each in range(items) if rng.random() < 0.15)
            return Mapping(
                items, nap / 4, broken, rng.random() < 0.6, looks, rng.choice((0, 2, 3)), rng.choice((-1, -1, 1)), rng.choice((None, None, 2))
            )
        if which < 0.85:
            return Gathering(rng.choice((1, 2)), rng.choice((1, 3)), nap / 4, (1,) if rng.random() < 0.3 else (), looks)
        return Quick()

    def _submit(self, what: Submission | bytes, keep: str = "") -> JobHandle | None:
        """A submission, or a retry of an ended job; `keep`: what it takes over of it."""
        library = self.library
        if library is None:
            return None
        command = "submit" if isinstance(what, Submission) else f"retry {keep}"
        number = self.observed.ask(self.life, command)
        try:
            handle = library.submit(what) if isinstance(what, Submission) else library.retry(what, **({keep: True} if keep else {}))
        except CallboardError as error:
            self.refused(number, error)
            return None
        self.submitted(number, handle.id, handle.duplicate, command)
        return handle

    def submitted(self, number: int, job: bytes, duplicate: bool, command: str = "submit") -> None:
        self._acked(number, job, "duplicate" if duplicate else command, None)
        if not duplicate:
            self.known.append(job)

    def refused(self, number: int, error: Exception) -> None:
        expected = (NotAllowed, LibraryClosed, NoAnswer, *((StoreUnavailable,) if self._has_closed else ()))
        if not isinstance(error, expected):
            self.observed.add(Logged(self.life, f"a command was answered with {error!r}"))
        self.observed.add(Refused(self.life, number, str(error), not isinstance(error, NotAllowed)))

    def _acked(self, number: int, job: bytes, command: str, status: Status | None) -> None:
        try:
            row = self.look(job)
        except LookupError:
            self.observed.add(Acked(self.life, number, job, command, status, None, seen=False))
        else:
            self.observed.add(Acked(self.life, number, job, command, status, row))

    def _command(self, kind: str, job: bytes, call: Callable[[Library], Status]) -> Status | None:
        library = self.library
        if library is None:
            return None
        number = self.observed.ask(self.life, kind, job)
        try:
            status = call(library)
        except CallboardError as error:
            self.refused(number, error)
            return None
        self._acked(number, job, kind, status)
        return status

    def _wait(self, handle: JobHandle, rng: Random) -> None:
        ends, result = frozenset((Status.COMPLETED, Status.COMPLETED_WITH_ERRORS)), None
        try:
            result = encode_result(handle.wait(timeout=self._scale * rng.choice((0.01, 1.0, 20.0))))
        except JobFailed:
            ends = frozenset((Status.FAILED,))
        except JobCancelled:
            ends = frozenset((Status.CANCELLED,))
        except (NoAnswer, LibraryClosed):
            return
        self.observed.add(Waited(self.life, handle.id, ends, result))
