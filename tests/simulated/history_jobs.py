"""The jobs of a history: small, of every kind that behaves differently, and each says all it does to the log.

What makes a job of them fail, pause itself or take long stands in its fields, so a job does the same in every life.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from disk import Row
from observed import (
    Aside,
    Back,
    Counted,
    Delivered,
    Entered,
    ItemsDone,
    Left,
    Noted,
    Observed,
    Saved,
    Saving,
    Spawned,
    State,
    Stepped,
    TaskEntered,
    TaskLeft,
)  # fmt: skip

from callboard.actors.machine import Ports
from callboard.jobs.context import JobContext
from callboard.jobs.errors import CriticalError, Interrupted, RetryLater, TaskCancelled, TaskFailed, Unwound
from callboard.jobs.job import Job
from callboard.jobs.retry import RetryPolicy
from callboard.jobs.task import Failed, Task, TaskContext

OFTEN = RetryPolicy(max_attempts=3, first=0.4)


class Watch:
    """The services of a history's library: where its jobs and tasks say what they do."""

    def __init__(self, observed: Observed, life: int, ports: Ports, look: Callable[[bytes], Row | None]) -> None:
        """`look`: what is on disk of a job."""
        self.observed, self.life, self.ports, self.look = observed, life, ports, look

    @property
    def over(self) -> bool:
        """The life is over; who asks is a ghost on its way out."""
        return bool(getattr(self.ports, "dead", False))

    @contextmanager
    def run(self, ctx: Any, job: Stateful, *, exact: bool = True) -> Iterator[None]:
        """Around the body of `run`."""
        claimed = ctx.claimed
        entered = Entered(
            self.life, ctx.job_id, claimed.claim, ctx.attempt, claimed.alone, state_of(job), exact, self.look(ctx.job_id)
        )  # fmt: skip
        self.observed.add(entered)
        saves = False
        try:
            yield
        except (Interrupted, Unwound):
            saves = True
            raise
        finally:
            if not self.over:
                self.observed.add(Left(self.life, ctx.job_id, saves, state_of(job)))

    def step(self, ctx: JobContext, job: Stateful) -> None:
        """Right behind a look, so that whoever asked the job to stop before is heard."""
        since = len(self.observed.entries)
        ctx.check_interrupt()
        self.observed.add(Stepped(self.life, ctx.job_id, state_of(job), since))

    def save(self, ctx: Any, job: Stateful) -> None:
        state = state_of(job)
        self.observed.add(Saving(self.life, ctx.job_id, state))
        ctx.checkpoint()
        self.observed.add(Saved(self.life, ctx.job_id, state, ctx.saved))

    def spawn(self, ctx: Any, job: Stateful, children: list[Job], name: str, *, first: bool, detached: bool) -> Any:
        """`first`: the fields have changed for these children, and are saved with them."""
        state = state_of(job)
        if first:
            self.observed.add(Saving(self.life, ctx.job_id, state))
        ids = ctx.spawn_children(children, name=name, detached=detached)
        if first:
            self.observed.add(Saved(self.life, ctx.job_id, state, ctx.saved))
        self.observed.add(Spawned(self.life, ctx.job_id, name, len(children), tuple(ids), ctx.attempt))
        return ids

    @contextmanager
    def aside(self, job: bytes) -> Iterator[None]:
        """Around a wait for children."""
        self.observed.add(Aside(self.life, job))
        yield
        self.observed.add(Back(self.life, job))

    def ended(self, job: bytes, end: object) -> None:
        """A task's end was delivered: where its worker died, it has failed though its `run` had not."""
        if isinstance(end, Failed):
            self.observed.add(TaskLeft(self.life, job, end.position or 0, True))

    @contextmanager
    def task(self, job: bytes, item: int, recorded: object) -> Iterator[None]:
        """Around the body of a task's `run`. `recorded`: what it had noted in an earlier run of this item."""
        self.observed.add(TaskEntered(self.life, job, item, recorded if isinstance(recorded, int) else 0))
        failed = True
        try:
            yield
            failed = False
        finally:
            if not self.over:
                self.observed.add(TaskLeft(self.life, job, item, failed))


class Stateful(Protocol):
    """A job with the two fields that always change together: `mirror` is three times `done`."""

    done: int
    mirror: int


def state_of(job: Stateful) -> State:
    return job.done, job.mirror


@dataclass
class Steps(Job, name="history.steps", retry=OFTEN):
    """Counts, with checkpoints, naps and whatever `trouble` it has at step `at`."""

    steps: int = 5
    every: int = 2
    nap: float = 0.0
    deaf: float = 0.0
    """A nap in which it does not look."""
    at: int = -1
    trouble: str = ""
    done: int = 0
    mirror: int = 0
    reports: bool = False
    over_it: bool = False
    mark: int = 0
    """Of an item of a batch: no other has it."""

    def run(self, ctx: JobContext) -> int:
        watch: Watch = ctx.services
        with watch.run(ctx, self):
            while self.done < self.steps:
                watch.step(ctx, self)
                if self.reports:
                    ctx.report_count(self.done, self.steps)
                if self.done == self.at and self.trouble:
                    self._trouble(ctx)
                if self.nap:
                    ctx.sleep(self.nap)
                if self.deaf:
                    watch.ports.sleep(self.deaf)
                self.done, self.mirror = self.done + 1, self.mirror + 3
                if self.done % self.every == 0:
                    watch.save(ctx, self)
        return self.done

    def _trouble(self, ctx: JobContext) -> None:
        match self.trouble:
            case "once" if ctx.attempt == 1:
                raise RuntimeError("the first attempt fails")
            case "later" if ctx.attempt == 1:
                raise RetryLater("not now", after=0.3)
            case "pause" if not self.over_it:
                self.over_it = True
                raise Interrupted("the network is away")
            case "always":
                raise RuntimeError("every attempt fails")
            case "critical":
                raise CriticalError("no use to try again")
            case "exit":
                raise SystemExit(3)
            case _:
                pass


@dataclass
class Fixed(Steps, name="history.fixed", resumable=False):
    """The same, of a kind that a crash fails."""


@dataclass
class Quick(Job, name="history.quick"):
    """Does nothing, so that it is dealt in hands of many."""

    done: int = 0
    mirror: int = 0
    mark: int = 0
    """Of an item of a batch: no other has it."""

    def run(self, ctx: JobContext) -> None:
        watch: Watch = ctx.services
        with watch.run(ctx, self):
            watch.step(ctx, self)


@dataclass
class Item(Task, lane="io"):
    """One item of a job of tasks."""

    job: bytes
    item: int
    nap: float = 0.0
    fails: bool = False
    looks: bool = False
    notes: bool = False
    """It counts its runs by what it records."""

    def run(self, ctx: TaskContext) -> int:
        watch: Watch = ctx.services
        with watch.task(self.job, self.item, ctx.recorded):
            if self.looks:
                ctx.check_interrupt()
            if self.notes:
                runs = ctx.recorded + 1 if isinstance(ctx.recorded, int) else 1
                ctx.record(runs, wait=True)
                watch.observed.add(Noted(watch.life, self.job, self.item, runs))
            if self.nap:
                watch.ports.sleep(self.nap)
            if self.fails:
                raise ValueError(f"item {self.item} is broken")
            if self.looks:
                ctx.check_interrupt()
            return self.item


@dataclass
class Mapping(Job, name="history.mapping", retry=OFTEN):
    """`ctx.map` over items, some of which fail: its count of them and the ledger are saved together."""

    items: int = 6
    nap: float = 0.0
    broken: tuple[int, ...] = ()
    listed: bool = True
    """False: the items come from a function."""
    looks: bool = False
    every: int = 3
    at: int = -1
    parallel: int | None = None
    notes: bool = False
    done: int = 0
    mirror: int = 0

    def run(self, ctx: JobContext) -> int:
        watch: Watch = ctx.services
        with watch.run(ctx, self, exact=False):
            run: Any = ctx.map(functools.partial(self._task, ctx.job_id), self._items(), parallel=self.parallel, name="m")
            watch.observed.add(Counted(watch.life, ctx.job_id, run.done, self.done))
            finished: list[int] = []
            for end in run:
                watch.ended(ctx.job_id, end)
                watch.observed.add(Delivered(watch.life, ctx.job_id, (self.done + 1, self.mirror + 3)))
                if self.done == self.at and ctx.attempt == 1:
                    raise RuntimeError("the first attempt fails")
                if self.every and len(finished) % self.every == self.every - 1:
                    watch.save(ctx, self)
                    watch.observed.add(ItemsDone(watch.life, ctx.job_id, frozenset(finished)))
                self.done, self.mirror = self.done + 1, self.mirror + 3
                finished.append(end.position)
        return self.done

    def _task(self, job: bytes, item: int) -> Item:
        return Item(job, item, self.nap, item in self.broken, self.looks, self.notes)

    def _items(self) -> Any:
        def after(last: int | None) -> Iterable[int]:
            return range(0 if last is None else last + 1, self.items)

        return range(self.items) if self.listed else after


@dataclass
class Gathering(Job, name="history.gathering", retry=OFTEN):
    """Tasks without a ledger, in rounds; a checkpoint between two."""

    rounds: int = 2
    tasks: int = 3
    nap: float = 0.0
    broken: tuple[int, ...] = ()
    looks: bool = False
    withdraws: bool = False
    """It takes its last task back."""
    done: int = 0
    mirror: int = 0

    def run(self, ctx: JobContext) -> int:
        watch: Watch = ctx.services
        with watch.run(ctx, self):
            while self.done < self.rounds:
                watch.step(ctx, self)
                tasks = [Item(ctx.job_id, self.done * 100 + each, self.nap, each in self.broken, self.looks) for each in range(self.tasks)]
                handles = ctx.dispatcher.dispatch_many(tasks)
                if self.withdraws:
                    handles[-1].cancel()
                for handle in ctx.as_completed(handles):
                    try:
                        handle.result()
                    except (TaskFailed, TaskCancelled) as error:
                        ctx.warn(str(error))
                self.done, self.mirror = self.done + 1, self.mirror + 3
                watch.save(ctx, self)
        return self.done


@dataclass
class Family(Job, name="history.family", retry=OFTEN):
    """Children in sets, one after the other; some of them are families again."""

    sets: int = 1
    size: int = 2
    depth: int = 0
    nap: float = 0.0
    how: str = "collect"
    """`on_failure`; or "stream"; or "leave": it returns while they run."""
    detached: bool = False
    trouble: str = ""
    """Of one child: "always"; "pause". Of the parent, behind its first set: "once"; "fails"."""
    done: int = 0
    mirror: int = 0

    def run(self, ctx: JobContext) -> int:
        watch: Watch = ctx.services
        with watch.run(ctx, self):
            for number in range(self.sets):
                watch.step(ctx, self)
                first = self.done == number
                if first:
                    self.done, self.mirror = self.done + 1, self.mirror + 3
                ids = watch.spawn(ctx, self, self._children(number), f"set {number}", first=first, detached=self.detached)
                if self.trouble == "fails" or (self.trouble == "once" and ctx.attempt == 1):
                    raise RuntimeError("the parent fails")
                if self.how != "leave" and not self.detached:
                    self._wait(ctx, watch, ids)
        return self.done

    def _wait(self, ctx: JobContext, watch: Watch, ids: Any) -> None:
        if self.how == "stream":
            ends = ctx.children_completed(ids)
            while True:
                with watch.aside(ctx.job_id):
                    end = next(ends, None)
                if end is None:
                    return
        with watch.aside(ctx.job_id):
            ctx.wait_for_children(ids, on_failure=self.how)  # type: ignore[arg-type]

    def _children(self, number: int) -> list[Job]:
        children: list[Job] = []
        for each in range(self.size):
            trouble = self.trouble if each == 1 and self.trouble in ("always", "pause") else ""
            if self.depth and each == 0:
                children.append(Family(1, 2, self.depth - 1, self.nap, self.how, trouble=self.trouble if self.trouble in ("always", "pause") else ""))
            elif trouble or each % 2:
                children.append(Steps(2, 1, self.nap, at=1, trouble=trouble, mark=each))
            else:
                children.append(Quick(mark=each))
        return children


JOBS = (Steps, Fixed, Quick, Mapping, Gathering, Family)
