"""The queue of tasks against a sorted list: by priority, then in order of arrival, within what the lanes allow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.queue import TaskQueue

LIMITS = {"one": 1, "two": 2}
lanes = st.sampled_from(["one", "two", "free", "free too"])
priorities = st.integers(0, 2)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), lanes, priorities),
        st.tuples(st.just("put"), lanes, priorities),
        st.tuples(st.just("take"), st.integers(0, 3), st.integers(-1, 3)),
        st.tuples(st.just("free"), lanes, st.just(0)),
        st.tuples(st.just("withdraw"), st.integers(1, 4), st.just(0)),
    ),
    max_size=60,
)


class Task:
    """Two of them cannot be compared: a queue that tries to is wrong."""

    def __init__(self, number: int) -> None:
        self.number = number

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> Any:
        raise AssertionError("tasks are not compared")

    __lt__ = __eq__


@dataclass
class Model:
    waiting: list[tuple[int, int, str]] = field(default_factory=list)
    """(priority, number, lane)"""
    busy: dict[str, int] = field(default_factory=lambda: dict.fromkeys(["one", "two", "free", "free too"], 0))

    def best(self) -> tuple[int, int, str] | None:
        return min((entry for entry in self.waiting if self.busy[entry[2]] < LIMITS.get(entry[2], 10**9)), default=None)


@given(steps)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_a_queue_is_a_sorted_list_with_lanes(script: list[tuple[str, Any, int]]) -> None:
    queue: TaskQueue[Task] = TaskQueue(LIMITS)
    model = Model()
    for number, (step, argument, more) in enumerate(script):
        if step == "put":
            queue.put(argument, more, Task(number))
            model.waiting.append((more, number, argument))
        elif step == "take":
            take(queue, model, modulus=argument + 1, most=more)
        elif step == "free" and model.busy[argument]:
            queue.free(argument)
            model.busy[argument] -= 1
        elif step == "withdraw":
            withdrawn = queue.withdraw(lambda task, argument=argument: task.number % argument == 0)
            gone = sorted(entry for entry in model.waiting if entry[1] % argument == 0)
            assert [task.number for task in withdrawn] == [entry[1] for entry in gone]
            model.waiting = [entry for entry in model.waiting if entry[1] % argument]
        assert len(queue) == len(model.waiting)


def take(queue: TaskQueue[Task], model: Model, *, modulus: int, most: int) -> None:
    """Take the best, and a chunk of those behind it in its lane that are like it."""
    best, taken = model.best(), queue.take()
    if best is None:
        assert taken is None
        return
    assert taken is not None
    lane, task = taken
    assert (lane, task.number) == (best[2], best[1])
    model.waiting.remove(best)
    model.busy[lane] += 1
    expected: list[int] = []
    for entry in sorted(entry for entry in model.waiting if entry[2] == lane):
        if len(expected) >= most or entry[1] % modulus:
            break
        expected.append(entry[1])
    chunk = queue.take_more(lane, lambda each: each.number % modulus == 0, most)
    assert [each.number for each in chunk] == expected
    model.waiting = [entry for entry in model.waiting if entry[1] not in expected]


def test_of_equal_tasks_in_two_lanes_the_one_that_came_first_is_next() -> None:
    queue: TaskQueue[str] = TaskQueue({})
    queue.put("disk", 0, "a")
    assert queue.take() == ("disk", "a")
    queue.put("net", 0, "b")
    queue.put("disk", 0, "c")
    queue.put("disk", 1, "e")
    queue.put("net", 0, "d")
    assert [queue.take() for _ in range(4)] == [("net", "b"), ("disk", "c"), ("net", "d"), ("disk", "e")]


def test_a_full_lane_holds_up_no_other() -> None:
    queue: TaskQueue[str] = TaskQueue({"disk": 1})
    for lane, priority, task in (("disk", 0, "first"), ("disk", 0, "second"), ("net", 200, "third")):
        queue.put(lane, priority, task)
    assert [queue.take(), queue.take(), queue.take()] == [("disk", "first"), ("net", "third"), None]
    queue.free("disk")
    assert queue.take() == ("disk", "second")


def test_a_chunk_counts_as_one_in_its_lane() -> None:
    queue: TaskQueue[str] = TaskQueue({"disk": 1})
    for task in "abcd":
        queue.put("disk", 0, task)
    assert queue.take() == ("disk", "a")
    assert queue.take_more("disk", lambda task: True, 2) == ["b", "c"]
    assert queue.take() is None
    queue.free("disk")
    assert queue.take() == ("disk", "d")


def test_a_lane_without_a_limit_may_be_freed_as_often_as_one_likes() -> None:
    queue: TaskQueue[str] = TaskQueue({})
    queue.free("net")
    queue.put("net", 0, "a")
    assert queue.take() == ("net", "a")
