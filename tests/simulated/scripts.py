"""The threads of a host in one life: what they submit, steer, wait for, close and open again. Drawn from a seed and from what they see."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from history_jobs import JOBS, Family, Fixed, Gathering, Mapping, Quick, Steps
from host import Host
from listeners import Burst, Sender
from sent_batches import SentBatch, again
from variety import Variety

from callboard.actors.actor import send
from callboard.actors.handle import JobHandle
from callboard.actors.machine import Joinable
from callboard.actors.runtime import Runtime
from callboard.jobs.errors import LibraryBusy
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import Status
from callboard.jobs.registry import Registry
from callboard.jobs.submission import OnDuplicate, Submission

Spawn = Callable[[Callable[[], object], str], Joinable]

LEAST_JOBS = 3
"""A history has at least so many."""

FULL_TRIES = 50
"""… unless its library is full so often."""

NEVER = 1 << 60

LOOKS_AT_LOCK = 1_000

BATCHING = 0.3
"""So many lives send a batch."""

FAMILIES = 0.2
"""So many histories have jobs with children."""

KEYS = ("a", "b", "c")
STRATEGIES = tuple(OnDuplicate)


class Life:
    """The process in one life: its runtime, and a host for each library, of which the first does everything and the others a little."""

    def __init__(
        self, seed: int, hosts: list[Host], spawn: Spawn, *, last: bool, hapless: bool = False, light: bool = False, scale: float = 1.0,
        variety: Variety | None = None,
    ) -> None:  # fmt: skip
        """`last`: what is paused is resumed in the end, or most of it. `hapless`: jobs take long and save nothing, so that each death of
        the process is charged to them. `light`: there is little of each kind. `scale`: the ports' seconds in one of the scripts'.
        """
        self._seed, self._hosts, self._spawn, self._last, self._hapless, self._scale = seed, hosts, spawn, last, hapless, scale
        self._light, self._seldom = light, 0.3 if light else 1.0
        self._runtime: Runtime | None = None
        rng = self._random("types")
        kinds = [kind for kind in JOBS if kind is not Gathering or rng.random() < 0.9]
        self._batching_too = rng.random() < BATCHING * (0.5 if light else 1.0)
        self.families = Random(f"{seed} families").random() < FAMILIES
        """There may be jobs with children."""
        self._batch_rows = rng.choice((2, 3, 3, 5, 10_000))
        self._variety = Variety(seed) if variety is None else variety
        self._registry = Registry()
        for kind in (*kinds, *self._variety.kinds()):
            self._registry.add(kind)

    @property
    def waiting(self) -> bool:
        """There may be jobs that wait for others, for ever, and look again now and then."""
        return self.families or self._variety.brooding

    def planning(self) -> Callable[[], object] | None:
        """When nothing goes on: a thread that plans, and does what it has planned."""
        host = self._hosts[0]
        return (lambda: self._variety.plan_and_do(host)) if self._variety.planning and host.library is not None else None

    @property
    def knows(self) -> frozenset[str]:
        """The job types that this life can run by now."""
        return frozenset(self._registry.names())

    def main(self) -> None:
        """The first thread: starts all, and waits for the others."""
        rng = self._random("main")
        ports, running_jobs = self._hosts[0].ports, rng.choice((1, 2, 2, 3))
        self._runtime = Runtime(workers=2, running_jobs=running_jobs, ports=ports, registry=self._registry)
        threads = [self._spawn(script, name) for script, name in self._scripts(rng, running_jobs)]
        for thread in threads:
            thread.join(None)
        if self._last:
            for host in self._hosts:
                self._finish(host, rng)

    def end(self) -> None:
        """The last thread of a life that ends well."""
        for host in self._hosts:
            host.close_for_good()
        if self._runtime is not None:
            self._runtime.close()

    def _scripts(self, rng: Random, running_jobs: int) -> list[tuple[Callable[[], object], str]]:
        assert self._runtime is not None
        host, *others = self._hosts
        host.options = self._variety.options
        for each in self._hosts:
            each.open(self._runtime, running_jobs, self._batch_rows)
        scripts: list[tuple[Callable[[], object], str]] = [
            (lambda: self._submitting(host), "submitting"),
            (lambda: self._steering(host, "steering"), "steering"),
        ]
        if rng.random() < 0.15 * self._seldom:
            scripts.append((lambda: self._bursting(host), "bursting"))
        if self._batching_too:
            scripts.append((lambda: self._batching(host), "batching"))
        if rng.random() < 0.15 * self._seldom:
            scripts.append((lambda: self._steering(host, "steering too"), "steering too"))
        if rng.random() < 0.12 * self._seldom:
            scripts.append((lambda: self._reopening(host, running_jobs), "reopening"))
        if "history.gathering" not in self.knows and rng.random() < 0.5:
            scripts.append((lambda: self._learning(host), "learning"))
        scripts += self._variety.scripts(host)
        for other in others:
            scripts.append((lambda other=other: self._bursting(other), "bursting elsewhere"))  # type: ignore[misc]
        return scripts

    def _family(self, rng: Random, nap: float) -> Family:
        how = rng.choice(("collect", "collect", "raise", "cancel_rest", "stream", "leave"))
        trouble = rng.choice(("", "", "", "always", "pause", "once", "fails"))
        sets, size, depth = self._some(rng, (1, 1, 2), 1), self._some(rng, (1, 2, 4), 2), self._some(rng, (0, 0, 1, 2), 1)
        return Family(sets, size, depth, nap, how, rng.random() < 0.1, trouble)

    def _some(self, rng: Random, numbers: tuple[int, ...], most: int) -> int:
        """One of `numbers`, and in a light history no more than `most`."""
        number = rng.choice(numbers)
        return min(number, most) if self._light else number

    def _random(self, script: str) -> Random:
        return Random(f"{self._seed} {self._hosts[0].life} {script}")

    # --- the scripts ------------------------------------------------------------------------------------------------

    def _submitting(self, host: Host) -> None:
        """Submits jobs, and waits for some of them."""
        rng = self._random("submitting")
        counts, most = ((0, 0, 0, 1), 0) if host.life > 1 else ((1, 1, 2), 1) if self._batching_too else ((2, 3, 3), 2)
        count = self._some(rng, counts, most)
        for _ in range(count):
            self._rest(host, rng)
            submission = self._submission(rng)
            handle = host.submit(submission)
            again = submission.key is not None and rng.random() < 0.5
            if again:
                self._rest(host, rng)
                self._submit_again(host, submission, rng)
            if handle is not None and rng.random() < (0.6 if again else 0.3):
                host.wait(handle.id, self._wait_time(rng))
        tries = FULL_TRIES if host.options else NEVER
        while self._last and len(host.known) < LEAST_JOBS and (tries := tries - 1):
            host.ports.sleep(self._scale * 0.01)
            host.submit(Submission(self._job(rng)))

    def _submit_again(self, host: Host, submission: Submission, rng: Random) -> None:
        """Another one of the same key, which the first one may still have."""
        way = rng.choice((OnDuplicate.SUPERSEDE, OnDuplicate.SUPERSEDE, OnDuplicate.REQUEUE, *STRATEGIES))
        host.submit(Submission(submission.job, key=submission.key, on_duplicate=way))

    def _bursting(self, host: Host) -> None:
        """An actor that submits many at once, by message."""
        rng = self._random("bursting")
        sender = Sender.start(host.ports, host)
        self._rest(host, rng)
        if rng.random() < 0.6:
            burst = [Submission(Quick()) for _ in range(rng.choice((2, 3, 6)))]
        else:
            burst = [self._submission(rng) for _ in range(rng.choice((2, 3)))]
        send(sender, Burst(tuple(burst)))

    def _batching(self, host: Host) -> None:
        """Sends a batch, or one of an earlier life again; steers it, waits for it, sends it once more."""
        rng = self._random("batching")
        self._rest(host, rng)
        for _ in range(self._some(rng, (1, 1, 2), 1)):
            if host.sent and rng.random() < 0.6:
                batch = again(rng.choice(host.sent), rng)
            else:
                batch = self._batch(host, rng)
                host.sent.append(batch)
            host.submit_batch(batch)
            self._rest(host, rng)
            which = rng.random()
            if which < 0.3:
                self._stop_and_go_batch(host, batch, rng)
            elif which < 0.4:
                host.steer_batch("cancel", batch.batch_id)
            elif which < 0.6:
                host.wait_for_batch(batch.batch_id, self._wait_time(rng))
            elif which < 0.8:
                host.submit_batch(batch)

    def _stop_and_go_batch(self, host: Host, batch: SentBatch, rng: Random) -> None:
        host.steer_batch("pause", batch.batch_id)
        if rng.random() < 0.7:
            self._rest(host, rng)
            host.steer_batch("resume", batch.batch_id)

    def _steering(self, host: Host, name: str) -> None:
        """Pauses, resumes, cancels, retries and looks."""
        rng = self._random(name)
        for _ in range(self._some(rng, (2, 3, 4), 1 if host.life > 1 else 2)):
            self._rest(host, rng)
            if host.known:
                self._steer(host, rng, rng.random())

    def _reopening(self, host: Host, running_jobs: int) -> None:
        """Closes the library in the middle of everything, and opens it again."""
        rng = self._random("reopening")
        self._rest(host, rng)
        self._rest(host, rng)
        assert self._runtime is not None
        host.close(self._scale * rng.choice((0.0, 0.01, 5.0)))
        for _ in range(LOOKS_AT_LOCK):
            try:
                return host.open(self._runtime, running_jobs, self._batch_rows)
            except LibraryBusy:  # user code of it runs on
                host.ports.sleep(self._scale * 1.0)
        raise AssertionError("the library stayed locked")

    def _learning(self, host: Host) -> None:
        """Registers a job type that was not known: what waited for it can run."""
        rng = self._random("learning")
        self._rest(host, rng)
        self._rest(host, rng)
        self._registry.add(Gathering)

    def _finish(self, host: Host, rng: Random) -> None:
        """Resume what is paused, or most of it, so that the history comes to its end."""
        for job in list(host.known):
            row = host.rows().get(job)
            if row is not None and row.status in (Status.PAUSED, Status.QUARANTINED) and rng.random() < 0.8:
                host.command("resume", job, lambda library, job=job: library.resume(job))  # type: ignore[misc]

    # --- what they do -----------------------------------------------------------------------------------------------

    def _rest(self, host: Host, rng: Random) -> None:
        """No time, as long as a message takes, as a short job takes, or as a long one."""
        most = rng.choice((0.0, 0.0001, 0.0001, 0.003, 0.8))
        if most:
            host.ports.sleep(self._scale * rng.uniform(0, most))

    def _wait_time(self, rng: Random) -> float:
        return self._scale * rng.choice((0.01, 1.0, 20.0))

    def _steer(self, host: Host, rng: Random, which: float) -> None:
        live = self._one_of(host, rng, ended=False)
        job = rng.choice(host.known) if live is None or rng.random() < 0.15 else live
        if which < 0.35:
            host.command("pause", job, lambda library: library.pause(job))
        elif which < 0.65:
            host.command("resume", job, lambda library: library.resume(job))
        elif which < 0.75:
            host.command("cancel", job, lambda library: library.cancel(job))
        elif which < 0.85:
            host.submit(self._one_of(host, rng, ended=True) or job, rng.choice(("", "keep_done", "failed_only")))
        elif which < 0.93:
            host.wait(job, self._wait_time(rng))
        else:
            self._stop_and_go(host, job, rng)

    def _one_of(self, host: Host, rng: Random, *, ended: bool) -> bytes | None:
        """A job that has ended, or one that has not; None if there is none or it cannot be seen."""
        try:
            some = [job for job, row in host.rows().items() if row.status.ended is ended] if host.library is not None else []
        except LookupError:
            some = []
        return rng.choice(some) if some else None

    def _stop_and_go(self, host: Host, job: bytes, rng: Random) -> None:
        """Pause, wait until it stands, resume: what a person does."""
        status = host.command("pause", job, lambda library: JobHandle(library, job).pause(wait=True, timeout=self._scale * 5))
        if status is Status.PAUSED:
            self._rest(host, rng)
            host.command("resume", job, lambda library: library.resume(job))

    # --- what they submit -------------------------------------------------------------------------------------------

    def _batch(self, host: Host, rng: Random) -> SentBatch:
        number = len(host.sent) + 1
        quick, alike = rng.random() < 0.3, rng.random() < 0.7
        marks = range(1_000 * number, 1_000 * number + self._some(rng, (2, 3, 4, 4, 5, 7, 12), 5))
        items: list[Any] = [self._item(rng, quick if alike else rng.random() < 0.3, mark) for mark in marks]
        if rng.random() < 0.1:
            orphan = Submission(Quick(mark=-number), key=rng.choice(KEYS), parent="nobody")
            items[rng.randrange(len(items))] = rng.choice((42, orphan))
        return SentBatch(
            batch_id=rng.randbytes(16), items=tuple(items), on_duplicate=rng.choice(STRATEGIES), by_message=rng.random() < 0.3,
            last=Submission(Quick(mark=1_000 * number + 999)) if rng.random() < 0.4 else None, from_generator=rng.random() < 0.3,
            whole=rng.random() < 0.1,
        )  # fmt: skip

    def _item(self, rng: Random, quick: bool, mark: int) -> Submission | Job:
        if rng.random() < 0.15:
            return Quick(mark=mark)
        key = rng.choice((*KEYS, *KEYS, None))
        return Submission(self._keyed_job(rng, quick, mark), key=key, on_duplicate=rng.choice((None, None, None, *STRATEGIES)))

    def _keyed_job(self, rng: Random, quick: bool, mark: int = 0) -> Job:
        """Of few types, so that keys meet."""
        if quick:
            return Quick(mark=mark)
        nap, trouble = self._scale * rng.choice((0.0, 0.0, 0.2, 0.8)), rng.choice(("", "", "", "once", "pause"))
        return Steps(2, 1, nap, at=rng.randrange(2), trouble=trouble, mark=mark)

    def _submission(self, rng: Random) -> Submission:
        delay = rng.choice((None, None, None, None, None, self._scale * rng.uniform(0, 1.0)))
        priority = rng.choice((0, 128, 128, 200))
        if rng.random() < 0.5:
            job = self._keyed_job(rng, rng.random() < 0.2)
            return Submission(job, key=rng.choice(KEYS), priority=priority, delay=delay, on_duplicate=rng.choice(STRATEGIES))
        return Submission(self._job(rng), key=rng.choice((*KEYS, None, None, None, None, None)), priority=priority, delay=delay)

    def _job(self, rng: Random) -> Job:
        if self._hapless and rng.random() < 0.8:
            return Steps(20, 99, self._scale * 0.2)
        which, nap, looks = rng.random(), self._scale * rng.choice((0.0, 0.0, 0.0005, 0.2)), rng.random() < 0.5
        if self.families and rng.random() < (0.35 if self._light else 0.5):
            return self._family(rng, nap)
        if which < 0.5:
            steps = self._some(rng, (2, 3, 6), 3)
            trouble = rng.choice(("", "", "", "once", "later", "pause", "pause", "always", "critical", "exit"))
            deaf = self._scale * 6.0 if rng.random() < 0.02 else 0.0
            kind = Fixed if rng.random() < 0.2 else Steps
            return kind(steps, rng.choice((1, 2, 3)), nap, deaf, at=rng.randrange(steps), trouble=trouble, reports=rng.random() < 0.2)
        if which < 0.7:
            items = self._some(rng, (1, 3, 6), 3)
            broken = tuple(each for each in range(items) if rng.random() < 0.15)
            every, at, parallel = rng.choice((0, 2, 3)), rng.choice((-1, -1, 1)), rng.choice((None, None, 2))
            return Mapping(items, nap / 4, broken, rng.random() < 0.6, looks, every, at, parallel, rng.random() < 0.2)
        if which < 0.85:
            return Gathering(rng.choice((1, 1, 2)), rng.choice((1, 3)), nap / 4, (1,) if rng.random() < 0.3 else (), looks, rng.random() < 0.2)
        return Quick()
