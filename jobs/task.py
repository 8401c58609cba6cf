"""What a job hands to the workers, and how it comes back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, Protocol

from callboard.jobs.errors import BadJobType, shown
from callboard.jobs.job import check_run, defined_in_module, pass_on, refuse_own_names
from callboard.jobs.submission import PRIORITY_LAST, Priority
from callboard.jobs.value import Value

LANE_CHARACTERS_MAX = 200

BATCH_LAST = 512
"""Most tasks that `run_many` may be given at once."""

CLASS_ARGUMENTS = ("lane", "priority", "batch")


class TaskContext(Protocol):
    """What a task sees of the world."""

    @property
    def token(self) -> str:
        """For idempotent effects: the same at every repeat of this step, over crashes too."""
        ...

    @property
    def recorded(self) -> object:
        """What `record` last kept for this item in an earlier run, or None. Only items of `ctx.map` have it."""
        ...

    @property
    def interrupted(self) -> bool:
        """True once the task is asked to stop; it stays True."""
        ...

    @property
    def cancelled(self) -> bool:
        """True once the whole job is being cancelled: what a repeat of this task would have used can be cleared away."""
        ...

    @property
    def services(self) -> Any:
        """What the host gave to `open_library(services=…)`."""
        ...

    def check_interrupt(self) -> None:
        """Raises `Interrupted` once the task is asked to stop. A task that never looks is waited for."""
        ...

    def record(self, value: object, *, wait: bool = False) -> None:
        """Keep a small value (a synced offset, a chosen name) for a repeat of this item. `wait=True`: returns once it is on disk."""
        ...

    def advance(self, amount: int) -> None:
        """Say that `amount` more bytes are done; the job sees the sum in `ctx.task_bytes`."""
        ...


class Task:
    """A unit of work without memory of its own: a dataclass with `run(ctx) -> value`, defined at the top of a module.

    It may be run again after a crash, so it must be safe to repeat; `ctx.token` helps. Its fields and its value must be encodable and it
    must be found by its module's name, so that a lane can run it in another process. Class arguments: `lane` (`io`, `cpu`, `net`,
    `db`, or any name; `Runtime(lanes=…)` limits how many of one run at once), `priority` (0 first … 255 last), `batch` (2 to 512: how many
    of `ctx.map` or `dispatch_many` go to `run_many` at once, see there). All are inherited; `batch` not by a class with a `run` of its own.

    Raises `BadJobType` at the class statement for what could never run, and at `dispatch` for a class that is no such dataclass.
    """

    __slots__ = ()  # so that dataclass(slots=True) below it does what it says

    task_lane: ClassVar[str] = "io"
    task_priority: ClassVar[int] = Priority.NORMAL
    task_batch: ClassVar[int] = 1

    def __init_subclass__(cls, *, lane: str | None = None, priority: int | None = None, batch: int | None = None, **kwargs: Any) -> None:
        where = f"{cls.__module__}.{cls.__qualname__}"
        pass_on(super().__init_subclass__, kwargs, where, CLASS_ARGUMENTS)
        if "__dataclass_fields__" in cls.__dict__:
            return  # dataclass(slots=True) builds the class a second time, from a dict that has our settings already
        refuse_own_names(cls, where, "task_", CLASS_ARGUMENTS)
        if lane is not None:
            if not isinstance(lane, str) or not 1 <= len(lane) <= LANE_CHARACTERS_MAX or not lane.isprintable():
                raise BadJobType(f"{where}: lane={shown(lane)} is not printable text of 1 to {LANE_CHARACTERS_MAX} characters")
            cls.task_lane = lane
        if priority is not None:
            if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= PRIORITY_LAST:
                raise BadJobType(f"{where}: priority={shown(priority)} is not an integer from 0 (first) to {PRIORITY_LAST} (last)")
            cls.task_priority = priority
        check_run(cls.run, where)
        _set_batch(cls, batch, where)

    def run(self, ctx: TaskContext) -> object:
        """Do the work and return its value. Called on a worker."""
        raise BadJobType(f"{type(self).__qualname__} has no run(self, ctx)")

    @classmethod
    def run_many(cls, tasks: Sequence[Any], ctxs: Sequence[TaskContext]) -> Iterable[Outcome]:
        """Do the work of several at once, where that is cheaper: one sync, one request for all. Optional, with the class argument `batch`.

        Called on a worker with 2 to `batch` tasks of this class and of one job, as many as wait; one alone goes to `run`. They are not
        shared out among idle workers. Gives the outcome of each, in order: `Done(value)`, or the exception that `run` would have raised,
        of which the others know nothing; `Interrupted` for those not done when `ctx.interrupted` of theirs says so. A generator's outcomes
        stand as soon as they are yielded. What is raised out of it, or too few outcomes, fails the tasks that have none yet.
        """
        raise BadJobType(f"{cls.__qualname__} has no run_many(cls, tasks, ctxs)")


def _set_batch(cls: type[Task], batch: int | None, where: str) -> None:
    """Raises `BadJobType` unless `batch` and `run_many` are given together."""
    own = cls.__dict__.get("run_many")
    if batch is None:
        if own is not None and cls.task_batch == 1:
            raise BadJobType(f"{where}: run_many is never called without the class argument batch=…, 2 to {BATCH_LAST}")
        if own is None and "run" in cls.__dict__:
            cls.task_batch = 1  # a run_many that is inherited knows nothing of this run
    elif isinstance(batch, bool) or not isinstance(batch, int) or not 2 <= batch <= BATCH_LAST:
        raise BadJobType(f"{where}: batch={shown(batch)} is not an integer from 2 to {BATCH_LAST}")
    elif own is None and cls.run_many.__func__ is Task.run_many.__func__:  # type: ignore[attr-defined]
        raise BadJobType(f"{where}: batch={batch} needs a run_many(cls, tasks, ctxs)")
    else:
        cls.task_batch = batch
    if own is not None and not isinstance(own, classmethod):
        raise BadJobType(f"{where}: run_many must be a classmethod run_many(cls, tasks, ctxs)")


def check_task_type(task_type: type[Task]) -> None:
    """Raises `BadJobType` for a class that is no dataclass, that another process could not find, or that has no `run` of its own."""
    if not (isinstance(task_type, type) and issubclass(task_type, Task)):
        raise BadJobType(f"{shown(task_type)} is not a subclass of Task")
    where = f"{task_type.__module__}.{task_type.__qualname__}"
    if task_type.run is Task.run:
        raise BadJobType(f"{where} has no run(self, ctx)")
    if not is_dataclass(task_type):
        raise BadJobType(f"{where} is not a dataclass; decorate it with @dataclass")
    if not defined_in_module(task_type):
        raise BadJobType(f"{where} cannot be found by its name; define the task at the top of a module")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Done(Value):
    """The task returned."""

    value: object
    position: int | None = None
    """Of an item of `ctx.map`: its position in the source, 0 first."""
    item: object = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Failed(Value):
    """The task raised."""

    error: str
    """`TypeName: message`."""
    traceback_text: str = ""
    position: int | None = None
    item: object = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Cancelled(Value):
    """The task was withdrawn before it began, or left by Interrupted."""

    position: int | None = None
    item: object = None


TaskEnd = Done | Failed | Cancelled

Outcome = Done | BaseException
"""What `run_many` gives for one task: `Done(value)`, or what `run` would have raised."""
