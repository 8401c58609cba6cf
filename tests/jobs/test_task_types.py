"""What an author may write as a Task class, what is refused and with which words."""

from __future__ import annotations

from dataclasses import dataclass
from types import new_class
from typing import Any

import pytest

from callboard.jobs.errors import BadJobType
from callboard.jobs.task import Task, check_task_type


@dataclass
class Hash(Task, lane="cpu", priority=3):
    path: str

    def run(self, ctx: Any) -> int:
        return len(self.path)


@dataclass(slots=True)
class SlottedHash(Task, lane="disk 1", priority=0):
    path: str

    def run(self, ctx: Any) -> None: ...


@dataclass
class QuickHash(Hash):
    bits: int = 64


@dataclass
class NoRun(Task):
    path: str


class NoDataclass(Task):
    def run(self, ctx: Any) -> None: ...


class House:
    @dataclass
    class Inner(Task):
        def run(self, ctx: Any) -> None: ...


def task_class(body: dict[str, Any] | None = None, /, **arguments: Any) -> type[Task]:
    content = {"__module__": __name__, "run": lambda self, ctx: None, **(body or {})}
    made: type[Task] = new_class("Made", (Task,), arguments, lambda body: body.update(content))
    return made


def test_lane_and_priority_are_the_classes_and_are_inherited() -> None:
    assert (Hash.task_lane, Hash.task_priority) == ("cpu", 3)
    assert (QuickHash.task_lane, QuickHash.task_priority) == ("cpu", 3)
    assert (Task.task_lane, Task.task_priority) == ("io", 128)


def test_batch_is_inherited_but_not_past_another_run() -> None:
    together = task_class({"run_many": _run_many}, batch=7)
    heir, other = new_class("Heir", (together,)), new_class("Other", (together,), {}, lambda body: body.update(run=lambda self, ctx: 1))
    assert (Task.task_batch, together.task_batch, heir.task_batch, other.task_batch) == (1, 7, 7, 1)
    with pytest.raises(BadJobType, match="Hash has no run_many"):
        Hash.run_many([], [])


def test_a_slotted_dataclass_keeps_its_settings() -> None:
    assert (SlottedHash.task_lane, SlottedHash.task_priority) == ("disk 1", 0)
    assert not hasattr(SlottedHash("x"), "__dict__")


@pytest.mark.parametrize("task_type", [Hash, SlottedHash, QuickHash, House.Inner])
def test_a_dataclass_that_a_module_has_can_be_dispatched(task_type: type[Task]) -> None:
    check_task_type(task_type)


def test_a_task_that_another_process_could_not_find_is_refused() -> None:
    @dataclass
    class Local(Task):
        def run(self, ctx: Any) -> None: ...

    with pytest.raises(BadJobType, match=r"<locals>\.Local cannot be found by its name; define the task at the top of a module$"):
        check_task_type(Local)


def test_a_task_that_its_module_has_replaced_is_refused() -> None:
    gone = dataclass(new_class("Hash", (Task,), {}, lambda body: body.update(__module__=__name__, run=lambda self, ctx: None)))
    with pytest.raises(BadJobType, match=rf"^{__name__}\.Hash cannot be found by its name"):
        check_task_type(gone)


@pytest.mark.parametrize(
    ("task_type", "text"),
    [
        (NoRun, f"{__name__}.NoRun has no run(self, ctx)"),
        (NoDataclass, f"{__name__}.NoDataclass is not a dataclass; decorate it with @dataclass"),
        (str, "<class 'str'> is not a subclass of Task"),
        (Task, "callboard.jobs.task.Task has no run(self, ctx)"),
        (Hash("x"), "Hash(path='x') is not a subclass of Task"),
        (None, "None is not a subclass of Task"),
    ],
)
def test_what_cannot_be_dispatched_is_named_with_the_way_out(task_type: Any, text: str) -> None:
    with pytest.raises(BadJobType) as caught:
        check_task_type(task_type)
    assert str(caught.value) == text


async def _async_run(self: Any, ctx: Any) -> None: ...


def _generator_run(self: Any, ctx: Any) -> Any:
    yield 1


_run_many = classmethod(lambda cls, tasks, ctxs: [])

LANE = "is not printable text of 1 to 200 characters"
PRIORITY = "is not an integer from 0 (first) to 255 (last)"


@pytest.mark.parametrize(
    ("body", "arguments", "text"),
    [
        ({}, {"lane": ""}, f"lane='' {LANE}"),
        ({}, {"lane": "a\tb"}, f"lane='a\\tb' {LANE}"),
        ({}, {"lane": 3}, f"lane=3 {LANE}"),
        ({}, {"priority": -1}, f"priority=-1 {PRIORITY}"),
        ({}, {"priority": 256}, f"priority=256 {PRIORITY}"),
        ({}, {"priority": "high"}, f"priority='high' {PRIORITY}"),
        ({}, {"priority": 1.5}, f"priority=1.5 {PRIORITY}"),
        ({}, {"priority": False}, f"priority=False {PRIORITY}"),
        ({}, {"prio": 1}, "no base takes the class argument prio; there are lane, priority, batch"),
        ({"task_lane": "cpu"}, {}, "task_lane is set by the class argument lane=…; give it there, or name the field otherwise"),
        ({}, {"batch": 2}, "batch=2 needs a run_many(cls, tasks, ctxs)"),
        ({"run_many": _run_many}, {}, "run_many is never called without the class argument batch=…, 2 to 512"),
        ({"run_many": _run_many}, {"batch": 1}, "batch=1 is not an integer from 2 to 512"),
        ({"run_many": _run_many}, {"batch": 513}, "batch=513 is not an integer from 2 to 512"),
        ({"run_many": _run_many}, {"batch": True}, "batch=True is not an integer from 2 to 512"),
        ({"run_many": lambda tasks, ctxs: []}, {"batch": 2}, "run_many must be a classmethod run_many(cls, tasks, ctxs)"),
        ({"run": _async_run}, {}, "run is async; it must be a plain function run(self, ctx)"),
        ({"run": _generator_run}, {}, "run is a generator; it must be a plain function run(self, ctx)"),
    ],
)
def test_a_class_that_could_not_work_is_refused_where_it_is_written(body: dict[str, Any], arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(BadJobType) as caught:
        task_class(body, **arguments)
    assert str(caught.value) == f"{__name__}.Made: {text}"


def test_run_of_a_class_without_one_says_that_it_is_missing() -> None:
    with pytest.raises(BadJobType, match=r"^NoRun has no run\(self, ctx\)$"):
        NoRun("x").run(None)  # type: ignore[arg-type]
