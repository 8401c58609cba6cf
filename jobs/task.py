"""What a job hands to the workers, and how it comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, dataclass_transform

from callboard.jobs.errors import BadJobType
from callboard.jobs.job import defined_in_module
from callboard.jobs.submission import Priority


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


@dataclass_transform()
class Task:
    """A unit of work without memory of its own: a dataclass with `run(ctx) -> value`, defined at the top of a module.

    It may be run again after a crash, so it must be safe to repeat; `ctx.token` helps. Its fields and its value must be encodable and it
    must be found by its module's name, so that a lane can run it in another process. Class arguments: `lane` (`io`, `cpu`, `net`,
    `db`, or any name; `Runtime(lanes=…)` limits how many of one run at once), `priority` (0 first).
    """

    task_lane: ClassVar[str] = "io"
    task_priority: ClassVar[int] = Priority.NORMAL

    def __init_subclass__(cls, *, lane: str = "io", priority: int = Priority.NORMAL, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__slots__" in cls.__dict__ and "task_lane" in cls.__dict__:
            return  # dataclass(slots=True) builds the class a second time
        cls.task_lane = lane
        cls.task_priority = priority

    def run(self, ctx: TaskContext) -> object:
        raise BadJobType(f"{type(self).__qualname__} has no run(self, ctx)")


def check_task_type(task_type: type[Task]) -> None:
    """Raises `BadJobType` for a class that another process could not find or that has no `run` of its own."""
    where = f"{task_type.__module__}.{task_type.__qualname__}"
    if not (isinstance(task_type, type) and issubclass(task_type, Task)):
        raise BadJobType(f"{task_type!r:.120} is not a subclass of Task")
    if "<locals>" in task_type.__qualname__ or not defined_in_module(task_type):
        raise BadJobType(f"{where} cannot be found by its name; define the task at the top of a module")
    if task_type.run is Task.run:
        raise BadJobType(f"{where} has no run(self, ctx)")


@dataclass(frozen=True, slots=True)
class Done:
    """The task returned."""

    value: object
    position: int | None = None
    """Of an item of `ctx.map`: its position in the source, 0 first."""
    item: object = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The task raised."""

    error: str
    """`TypeName: message`."""
    traceback_text: str = ""
    position: int | None = None
    item: object = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task was withdrawn before it began, or left by Interrupted."""

    position: int | None = None
    item: object = None


TaskEnd = Done | Failed | Cancelled
