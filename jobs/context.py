"""What a running job sees of the world: `ctx`. This file says what it can do; `actors/context.py` does it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from callboard.jobs.children import ChildEnd, ChildIds, OnFailure
from callboard.jobs.job import Job
from callboard.jobs.submission import Submission
from callboard.jobs.task import Done, Failed, Task

I = TypeVar("I")  # noqa: E741 - an item


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a job has used so far."""

    elapsed_seconds: float
    """In `run`, over all its runs."""
    waiting_seconds: float
    """Queued, since it was submitted, over all its turns."""
    memory_mb: float
    """Most memory the process has had resident, in MiB; jobs share a process, so it is an upper bound for this one."""


class TaskHandle(ABC):
    """One dispatched task."""

    @abstractmethod
    def done(self) -> bool: ...

    @abstractmethod
    def result(self) -> object:
        """Waits for the task. Raises `TaskFailed`, `TaskCancelled`, or `Interrupted` if the job is to stop."""

    @abstractmethod
    def cancel(self) -> bool:
        """Withdraw it, or ask it to stop if it runs. False if it has ended."""


class Dispatcher(ABC):
    """Hands tasks to the workers."""

    @abstractmethod
    def dispatch(self, task: Task, *, step: str | None = None) -> TaskHandle:
        """Queue one task. `step` names it for its token; default: a hash of its type and fields."""

    @abstractmethod
    def dispatch_many(self, tasks: Iterable[Task]) -> list[TaskHandle]: ...


class JobContext(ABC):
    """Given to `Job.run`. Every method may be called from the thread of `run` only."""

    log: logging.LoggerAdapter[logging.Logger]
    """Writes to the job's own log file and to logging as `callboard.job`; records carry `job_id` and `attempt`."""
    dispatcher: Dispatcher
    attempt: int
    """1 for the first, one more after each failure that was retried."""
    resumed: bool
    """True if `run` has been entered before for this job."""
    requested_by: str | None
    services: Any
    """What the host gave to `open_library(services=…)`: its own actors, clients, paths."""

    @property
    @abstractmethod
    def job_id(self) -> bytes: ...

    @property
    @abstractmethod
    def interrupted(self) -> bool:
        """True once the job is asked to pause, cancel or shut down. Once asked, it stays asked."""

    @property
    @abstractmethod
    def metrics(self) -> Metrics: ...

    @property
    @abstractmethod
    def task_bytes(self) -> int:
        """Sum of what this run's tasks have reported with `advance`, in bytes."""

    @abstractmethod
    def check_interrupt(self) -> None:
        """Raises `Interrupted` if the job is to stop. Costs well under a microsecond: call it in every loop."""

    @abstractmethod
    def checkpoint(self) -> None:
        """Save the fields that changed. When it returns they are on disk. Raises `Interrupted` if the job is to stop."""

    @abstractmethod
    def report_count(self, done: int, total: int | None = None) -> None: ...

    @abstractmethod
    def report_bytes(self, done: int, total: int | None = None) -> None: ...

    @abstractmethod
    def report_percentage(self, fraction: float) -> None:
        """0.0 … 1.0."""

    @abstractmethod
    def report_phase(self, name: str, **details: object) -> None:
        """A new name starts the counts anew. The details must be encodable."""

    @abstractmethod
    def warn(self, message: str, item: object = None) -> None:
        """A non-critical error: kept and counted; the job goes on and ends as `completed_with_errors`."""

    @abstractmethod
    def as_completed(self, handles: Iterable[TaskHandle]) -> Iterator[TaskHandle]:
        """The handles as their tasks end."""

    @abstractmethod
    def map(
        self,
        make: Callable[[I], Task],
        items: Sequence[I] | Callable[[I | None], Iterable[I]],
        *,
        parallel: int | None = None,
        name: str | None = None,
        describe: Callable[[I], str] | None = None,
    ) -> Iterator[Done | Failed]:
        """Run `make(item)` for every item, on up to `parallel` workers; yield how each ended, in order of ending.

        Asking for the next end makes the previous one done: it is in the ledger, and is not done again after a crash. Fields of the job
        changed in the loop's body are saved in the same commit as the ledger. A Failed item is done too, kept as a warning, and is what
        `retry(failed_only=True)` does again. `items`: a sequence that is the same at every run; or a function `items(after)` that yields
        the items behind `after` (None: from the start), for sources without positions. `name` tells two maps of one job apart.
        `describe` names an item in the warning of its failure; default `str`.
        """

    @abstractmethod
    def spawn_children(
        self, jobs: Iterable[Job | Submission], *, name: str = "children", detached: bool = False, max_running: int | None = None
    ) -> ChildIds:  # fmt: skip
        """Queue jobs whose parent this job is, in one commit with a checkpoint of this job (in parts of 2,500, if they are more).

        The same `name` gives the same children when `run` is entered again, without a look at `jobs`; if a crash came between two parts, the
        rest is queued then, so `jobs` must give the same ones. In a further attempt (the retry policy's, or a `retry` of this job after its end,
        unless it completed without errors) those of the children that failed or were cancelled are queued anew, as they were submitted, under
        ids of their own in the same places; those that completed keep their result and those that live go on. A child that is queued anew finds
        its own children in the same way. Pause, resume and cancel of this job go down to them, and it ends only when they
        have ended: one that returns waits for them, one that fails or is cancelled takes them with it. `detached`: nothing of that holds for them.
        `max_running`: so many of these run at once, the others are `queued` and kept back; None: as many as the library runs. One that waits for
        children of its own counts as running; one that is paused, or waits for its time, or was queued by an earlier
        attempt, does not. What was said at first holds.
        Raises `BadArgument` for a name that this run has used already and for a child that cannot be queued, such as one with the key of this
        very job, which would wait for it; `BatchMismatch`.
        """

    @abstractmethod
    def wait_for_children(self, ids: Iterable[bytes] | None = None, *, on_failure: OnFailure = "raise") -> list[ChildEnd]:
        """How they ended, in order of their ids. `ids`: what `spawn_children` gave, or some of it; None: all of this run.

        Unless the job reports itself, its progress is that of its children: each counts 1, one that has not ended the fraction that it has
        reported (a parent: that of its own children). It never goes back.

        The job's turn is given to others meanwhile. Few jobs at once wait inside `run`; beyond that number `run` is left here, fields saved, and
        entered anew when the children have ended. `on_failure`: "raise": `ChildrenFailed`, after all have ended; "cancel_rest": the same, and
        the others are cancelled as soon as one has not completed; "collect": no error.
        """

    @abstractmethod
    def children_completed(self, ids: Iterable[bytes] | None = None) -> Iterator[ChildEnd]:
        """As `wait_for_children`, one by one as they become known, however many there are in little memory; none is an error."""

    @abstractmethod
    def sleep(self, seconds: float) -> None:
        """Wait; leaves at once with `Interrupted` when the job is to stop."""
