"""Tasks that a class runs together: each still ends on its own, whatever the others, the class or the job does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from callboard import Done, Interrupted, Job, JobContext, Library, Runtime, Status, Task, TaskCancelled, TaskContext
from callboard.actors import dispatcher, mapping, worker
from callboard.jobs.errors import JobCancelled
from callboard.jobs.task import Outcome

PATIENCE = 100.0
TOGETHER = 20


@dataclass
class Play(Job, name="test_task_batches.play"):
    count: int = TOGETHER
    ends: list[object] = field(default_factory=list)

    def run(self, ctx: JobContext) -> object:
        for end in ctx.map(Many, range(self.count)):
            self.ends.append((end.position, end.value if isinstance(end, Done) else end.error))
        return sorted(self.ends)  # type: ignore[type-var]


@dataclass
class Direct(Job, name="test_task_batches.direct"):
    def run(self, ctx: JobContext) -> object:
        part: Callable[[JobContext], object] = ctx.services.direct
        return part(ctx)


@dataclass
class Many(Task, batch=TOGETHER):
    number: int

    def run(self, ctx: TaskContext) -> object:
        ctx.services.alone.append(self.number)
        return self.number

    @classmethod
    def run_many(cls, tasks: Sequence[Self], ctxs: Sequence[TaskContext]) -> Iterator[Outcome]:
        services = ctxs[0].services
        services.together.append([task.number for task in tasks])
        return iter(services.many(tasks, ctxs))


@dataclass
class OwnRun(Many):
    def run(self, ctx: TaskContext) -> object:
        return -self.number


@dataclass
class Services:
    many: Callable[[Sequence[Many], Sequence[TaskContext]], Any] = lambda tasks, ctxs: [Done(task.number) for task in tasks]
    direct: Callable[[JobContext], object] = lambda ctx: None
    alone: list[int] = field(default_factory=list)
    together: list[list[int]] = field(default_factory=list)


@contextmanager
def stage(folder: Path, services: Services, workers: int = 2) -> Iterator[Library]:
    with Runtime(workers=workers) as runtime:
        yield runtime.open_library(folder / "library", services=services)


def played(folder: Path, services: Services, **how: Any) -> Any:
    with stage(folder, services, **how) as library:
        return library.submit(Play()).wait(PATIENCE)


def plain(numbers: range) -> list[tuple[int, int]]:
    return [(number, number) for number in numbers]


def test_all_that_wait_go_to_one_call_up_to_the_batch_and_one_alone_goes_to_run(tmp_path: Path) -> None:
    services = Services()
    with stage(tmp_path, services, workers=1) as library:
        assert library.submit(Play(2 * TOGETHER + 1)).wait(PATIENCE) == plain(range(2 * TOGETHER + 1))
    assert sorted(services.alone + [number for numbers in services.together for number in numbers]) == list(range(2 * TOGETHER + 1))
    assert services.together and all(2 <= len(numbers) <= TOGETHER for numbers in services.together)


def test_what_comes_bit_by_bit_is_gathered_while_two_calls_are_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call shares what it does once: four of five tasks would sync four times, where one of twenty does it once."""
    monkeypatch.setattr(mapping, "SOURCE_ITEMS", 5)
    monkeypatch.setattr(mapping, "GATHER_SECONDS", 2 * PATIENCE)
    monkeypatch.setattr(dispatcher, "REVIEW_SECONDS", 2 * PATIENCE)  # a worker that is slow to begin keeps what it was dealt
    fourth = threading.Event()

    def many(tasks: Sequence[Many], ctxs: Sequence[TaskContext]) -> list[Outcome]:
        if len(services.together) > 3:
            fourth.set()
        assert tasks[0].number == 0 or fourth.wait(PATIENCE)
        return [Done(task.number) for task in tasks]

    def run(ctx: JobContext) -> object:
        return sum(1 for _ in ctx.map(Many, lambda after: range(0 if after is None else after + 1, 10 * TOGETHER), parallel=10 * TOGETHER))

    services = Services(many, run)
    with stage(tmp_path, services, workers=3) as library:
        assert library.submit(Direct()).wait(2 * PATIENCE) == 10 * TOGETHER
    assert len(sorted(services.together)[3]) == TOGETHER  # in the order in which they were offered


def test_one_that_fails_does_not_touch_the_others(tmp_path: Path) -> None:
    def many(tasks: Sequence[Many], ctxs: Sequence[TaskContext]) -> list[Outcome]:
        return [ValueError(f"not {task.number}") if task.number in (0, 1) else Done(task.number) for task in tasks]

    found = played(tmp_path, Services(many))
    assert found == [(0, "ValueError: not 0"), (1, "ValueError: not 1"), *plain(range(2, TOGETHER))]


def some_of_pairs(services: Services, last: Callable[[], object]) -> None:
    """Of each call the first task has an outcome before `last` is called."""

    def many(tasks: Sequence[Many], ctxs: Sequence[TaskContext]) -> Iterator[object]:
        yield Done("first")
        outcome = last()
        if outcome is not None:
            yield from [outcome] * (len(tasks) - 1)

    services.many = many


def raise_it() -> None:
    raise SystemExit("no more")


WHOLE = "(raised out of Many.run_many; "


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (raise_it, f"SystemExit: no more {WHOLE}"),
        (lambda: None, "BadArgument: Many.run_many gave 1 outcomes for "),
        (lambda: 7, "BadArgument: Many.run_many gave a int; give Done(value) or an exception for each task"),
        (lambda: Interrupted("by the author, whom nobody asked"), "Interrupted: by the author, whom nobody asked"),
    ],
)
def test_what_has_an_outcome_keeps_it_and_the_rest_fails_clearly(tmp_path: Path, last: Callable[[], object], error: str) -> None:
    services = Services()
    some_of_pairs(services, last)
    found = dict(played(tmp_path, services, workers=1))
    assert services.together and not services.alone
    for first, *rest in services.together:
        assert found[first] == "first"
        assert all(found[number].startswith(error) for number in rest)


def test_too_many_outcomes_are_logged_and_change_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    services = Services(lambda tasks, ctxs: [*(Done(task.number) for task in tasks), Done("more")])
    assert played(tmp_path, services) == plain(range(TOGETHER))
    assert "run_many failed after its last outcome" in caplog.text


def test_a_class_with_a_run_of_its_own_does_not_use_an_inherited_run_many(tmp_path: Path) -> None:
    def direct(ctx: JobContext) -> object:
        return [handle.result() for handle in ctx.dispatcher.dispatch_many([OwnRun(number) for number in range(5)])]

    services = Services(direct=direct)
    with stage(tmp_path, services) as library:
        assert library.submit(Direct()).wait(PATIENCE) == [0, -1, -2, -3, -4]
    assert not services.together


def test_one_cancelled_inside_the_call_is_cancelled_and_the_others_are_done(tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def many(tasks: Sequence[Many], ctxs: Sequence[TaskContext]) -> list[Outcome]:
        inside.set()
        assert go_on.wait(PATIENCE)
        return [Interrupted("left") if ctx.interrupted else Done(task.number) for task, ctx in zip(tasks, ctxs, strict=True)]

    def direct(ctx: JobContext) -> object:
        handles = ctx.dispatcher.dispatch_many([Many(number) for number in range(4)])
        assert inside.wait(PATIENCE)
        assert handles[2].cancel()
        go_on.set()
        with pytest.raises(TaskCancelled):
            handles[2].result()
        return [handles[number].result() for number in (0, 1, 3)]

    services = Services(many, direct)
    with stage(tmp_path, services, workers=1) as library:
        assert library.submit(Direct()).wait(PATIENCE) == [0, 1, 3]
    assert services.together == [[0, 1, 2, 3]]


class Halfway:
    """A run_many that waits after two outcomes until it is asked to stop; a second run does everything."""

    def __init__(self, by_raising: bool) -> None:
        self.by_raising = by_raising
        self.inside, self.again = threading.Event(), False
        self.done: list[int] = []

    def __call__(self, tasks: Sequence[Many], ctxs: Sequence[TaskContext]) -> Iterator[Outcome]:
        for place, (task, ctx) in enumerate(zip(tasks, ctxs, strict=True)):
            if place == 2 and not self.again:
                self.inside.set()
                while not ctx.interrupted:
                    threading.Event().wait(0.001)
            if ctx.interrupted and self.by_raising:
                ctx.check_interrupt()
            if ctx.interrupted:
                yield Interrupted("not begun")
            else:
                self.done.append(task.number)
                yield Done(task.number)


@pytest.mark.parametrize("by_raising", [False, True])
def test_a_pause_inside_the_call_delivers_what_was_done_and_only_that(tmp_path: Path, by_raising: bool) -> None:
    halfway = Halfway(by_raising)
    with stage(tmp_path, Services(halfway), workers=1) as library:
        handle = library.submit(Play())
        assert halfway.inside.wait(PATIENCE)
        assert handle.pause(wait=True, timeout=PATIENCE) is Status.PAUSED
        halfway.again = True
        handle.resume()
        assert handle.wait(PATIENCE) == plain(range(TOGETHER))
    assert sorted(halfway.done) == list(range(TOGETHER)), "each was done once: what was done before the pause was not done again"


@pytest.mark.parametrize("by_raising", [False, True])
def test_a_close_inside_the_call_delivers_what_was_done_and_only_that(tmp_path: Path, by_raising: bool) -> None:
    halfway = Halfway(by_raising)
    with stage(tmp_path, Services(halfway), workers=1) as library:
        job_id = library.submit(Play()).id
        assert halfway.inside.wait(PATIENCE)
        done = list(halfway.done)
    assert halfway.done == done and len(done) < TOGETHER
    halfway.again = True
    with stage(tmp_path, Services(halfway), workers=1) as library:
        assert library.job(job_id).wait(PATIENCE) == plain(range(TOGETHER))
    assert sorted(halfway.done) == list(range(TOGETHER))


def test_a_cancel_inside_the_call_ends_it(tmp_path: Path) -> None:
    halfway = Halfway(by_raising=True)
    with stage(tmp_path, Services(halfway), workers=1) as library:
        handle = library.submit(Play())
        assert halfway.inside.wait(PATIENCE)
        done = list(halfway.done)
        handle.cancel()
        with pytest.raises(JobCancelled):
            handle.wait(PATIENCE)
    assert halfway.done == done and len(done) < TOGETHER


def test_a_worker_that_dies_inside_the_call_fails_what_was_not_told_and_spares_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, died = worker.run_together, []  # type: ignore[var-annotated]

    def dies_once(calls: Any, ports: Any, ended: Any) -> None:
        if died:
            return real(calls, ports, ended)
        died.extend(call.task.number for call in calls)
        ended(calls[0], Done("told", calls[0].position, calls[0].item))
        raise MemoryError

    monkeypatch.setattr(worker, "run_together", dies_once)
    found = dict(played(tmp_path, Services(), workers=1))
    assert len(died) > 1 and found[died[0]] == "told"
    assert {found[number] for number in died[1:]} == {"the worker died: MemoryError"}
    assert all(found[number] == number for number in found.keys() - set(died))
