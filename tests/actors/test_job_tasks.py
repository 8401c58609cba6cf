"""Tasks that a job dispatches: how they end, what limits them, what becomes of them when the job is asked to leave or leaves by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard import (
    BadJobType,
    Interrupted,
    Job,
    JobContext,
    JobFailed,
    Library,
    Runtime,
    Status,
    Task,
    TaskCancelled,
    TaskContext,
    TaskFailed,
    UsageError,
)
from callboard.actors import worker
from callboard.actors.dispatcher import DispatcherActor
from callboard.actors.messages import Withdraw
from callboard.actors.ports import ThreadPorts
from callboard.jobs.context import TaskHandle

PATIENCE = 100.0


@dataclass
class Play(Job, name="test_job_tasks.play"):
    part: str
    done: int = 0

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Piece(Task):
    part: str = "number"
    number: int = 0

    def run(self, ctx: TaskContext) -> object:
        part: Callable[[Piece, TaskContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Urgent(Piece, priority=0): ...


@dataclass
class Narrow(Piece, lane="narrow"): ...


@dataclass
class Wide(Piece, lane="wide"): ...


class Gate:
    """Tasks and jobs wait here without looking; the test sees that they have come, and lets them go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reached, self._open = threading.Semaphore(0), threading.Event()
        self.inside = self.most = 0

    def __call__(self, piece: Any, ctx: Any) -> object:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self._reached.release()
        assert self._open.wait(PATIENCE)
        with self._lock:
            self.inside -= 1
        return getattr(piece, "number", None)

    def reached(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.set()


Part = Callable[[Any, Any], object]


@contextmanager
def stage(
    folder: Path, *, workers: int = 2, lanes: dict[str, int] | None = None, ports: ThreadPorts | None = None, **parts: Part
) -> Iterator[Library]:
    with Runtime(workers=workers, lanes=lanes, ports=ports) as runtime:
        services: dict[str, Part] = {"number": lambda piece, ctx: piece.number, **parts}
        yield runtime.open_library(folder / "library", services=services)


def played(folder: Path, work: Callable[[Play, JobContext], object], **how: Any) -> Any:
    """What a job that does `work` comes to."""
    with stage(folder, work=work, **how) as library:
        return library.submit(Play("work")).wait(PATIENCE)


# --- how they end -------------------------------------------------------------------------------------------------------


def test_the_results_come_back_in_memory_whatever_they_are(tmp_path: Path) -> None:
    thing = object()

    def work(job: Play, ctx: JobContext) -> object:
        one = ctx.dispatcher.dispatch(Piece(number=5))
        many = ctx.dispatcher.dispatch_many(Piece(number=number) for number in range(100))
        odd = ctx.dispatcher.dispatch(Piece("thing"))
        assert odd.result() is thing, "a result is not stored, so it need not be storable"
        return [one.result(), sum(handle.result() for handle in many)]  # type: ignore[misc]

    assert played(tmp_path, work, thing=lambda piece, ctx: thing) == [5, 4950]


def test_as_completed_gives_each_handle_once_in_the_order_of_ending(tmp_path: Path) -> None:
    gate = Gate()

    def work(job: Play, ctx: JobContext) -> object:
        slow, quick = ctx.dispatcher.dispatch(Piece("gate", 1)), ctx.dispatcher.dispatch(Piece(number=2))
        order = []
        for handle in ctx.as_completed([slow, quick, slow]):
            order.append(handle.result())
            gate.open()
        again = [handle.result() for handle in ctx.as_completed([slow, quick])]
        with pytest.raises(UsageError, match="handles of this job"):
            next(ctx.as_completed(["x"]))  # type: ignore[list-item]
        return order, again

    assert played(tmp_path, work, gate=gate) == ([2, 1], [1, 2])


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("from str()")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "ValueError: no": lambda: ValueError("no"),
    "SystemExit: 3": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "RecursionError: deep": lambda: RecursionError("deep"),
    "Unprintable: (its str() raised SystemExit)": Unprintable,
    "Interrupted: by itself": lambda: Interrupted("by itself"),
}


@pytest.mark.parametrize("text", ERRORS)
def test_whatever_a_task_raises_is_its_end_and_not_that_of_its_worker(tmp_path: Path, text: str) -> None:
    def raises(piece: Piece, ctx: TaskContext) -> object:
        raise ERRORS[text]()

    def work(job: Play, ctx: JobContext) -> object:
        for _ in range(3):
            with pytest.raises(TaskFailed) as caught:
                ctx.dispatcher.dispatch(Piece("raises")).result()
            assert str(caught.value) == text and "in raises" in caught.value.traceback_text
        return ctx.dispatcher.dispatch(Piece(number=1)).result()

    assert played(tmp_path, work, workers=1, raises=raises) == 1


def test_a_worker_that_dies_is_replaced_and_its_task_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_task, deaths = worker.run_task, iter(range(2))

    def deadly(call: Any, ports: Any) -> Any:
        if call.task.part == "deadly" and next(deaths, None) is not None:
            raise MemoryError("in the worker's own code")
        return run_task(call, ports)

    monkeypatch.setattr(worker, "run_task", deadly)

    def work(job: Play, ctx: JobContext) -> object:
        for _ in range(2):
            with pytest.raises(TaskFailed, match="the worker died: MemoryError"):
                ctx.dispatcher.dispatch(Piece("deadly")).result()
        return [handle.result() for handle in ctx.dispatcher.dispatch_many([Piece(number=1), Piece(number=2)])]

    assert played(tmp_path, work, workers=1) == [1, 2]


def test_a_task_that_waits_is_withdrawn_by_cancel_and_one_that_runs_is_asked(tmp_path: Path) -> None:
    gate, seen = Gate(), threading.Event()

    def looks(piece: Piece, ctx: TaskContext) -> object:
        gate(piece, ctx)
        if ctx.interrupted:
            seen.set()
        ctx.check_interrupt()
        return "was not asked"

    def work(job: Play, ctx: JobContext) -> object:
        running, other = ctx.dispatcher.dispatch_many([Piece("looks"), Piece("gate", 7)])
        gate.reached()
        waiting = ctx.dispatcher.dispatch(Piece(number=1))
        assert waiting.cancel() and running.cancel()
        gate.open()
        for handle in (waiting, running):
            with pytest.raises(TaskCancelled):
                handle.result()
            assert handle.done() and not handle.cancel()
        return other.result()

    assert played(tmp_path, work, workers=1, gate=gate, looks=looks) == 7
    assert seen.is_set()


def test_a_task_class_that_no_other_process_could_find_is_refused(tmp_path: Path) -> None:
    @dataclass
    class Local(Task):
        def run(self, ctx: TaskContext) -> object:
            return None

    def work(job: Play, ctx: JobContext) -> object:
        with pytest.raises(BadJobType, match="cannot be found by its name; define the task at the top of a module"):
            ctx.dispatcher.dispatch(Local())
        with pytest.raises(BadJobType):
            list(ctx.map(lambda item: Local(), [1, 2, 3], name="local"))
        with pytest.raises(BadJobType):
            ctx.dispatcher.dispatch_many([Piece(), object()])  # type: ignore[list-item]
        return "went on"

    assert played(tmp_path, work) == "went on"


def test_what_a_task_sees(tmp_path: Path) -> None:
    def look(piece: Piece, ctx: TaskContext) -> object:
        ctx.advance(40)
        ctx.advance(2)
        return ctx.interrupted, ctx.recorded, "look" in ctx.services

    def work(job: Play, ctx: JobContext) -> object:
        seen = ctx.dispatcher.dispatch(Piece("look")).result()
        return seen, ctx.task_bytes

    assert played(tmp_path, work, look=look) == ((False, None, True), 42)


def test_a_token_is_the_same_at_every_repeat_of_a_step_and_no_other(tmp_path: Path) -> None:
    def token(piece: Piece, ctx: TaskContext) -> object:
        return ctx.token

    def work(job: Play, ctx: JobContext) -> object:
        dispatch = ctx.dispatcher.dispatch
        tokens = [dispatch(Piece("token", 1)).result(), dispatch(Piece("token", 2)).result(), dispatch(Piece("token", 1), step="a").result()]
        for number in (1, 2):
            tokens += sorted(str(done.value) for done in ctx.map(lambda item: Piece("token", item), [7, 7], name=f"m{number}"))  # type: ignore[union-attr]
        job.done += 1
        if job.done == 1:
            first.extend(tokens)
            raise Interrupted("once more")
        return tokens

    first: list[object] = []
    with stage(tmp_path, work=work, token=token) as library:
        handle, other = library.submit(Play("work")), library.submit(Play("work", done=5))
        assert next(each for each in handle.updates(timeout=PATIENCE) if each is Status.PAUSED)
        assert len(set(first)) == 7
        handle.resume()
        tokens = handle.wait(PATIENCE)
        assert tokens[:3] == first[:3]  # the maps are done, and not repeated: see the map's own tests
        assert all(str(token).startswith(handle.id_text) for token in first)
        assert not set(first) & set(other.wait(PATIENCE))


# --- what limits them ---------------------------------------------------------------------------------------------------


def test_no_more_of_a_lane_run_at_once_than_it_may_and_other_lanes_do_not_wait(tmp_path: Path) -> None:
    narrow, wide = Gate(), Gate()

    def work(job: Play, ctx: JobContext) -> object:
        handles = ctx.dispatcher.dispatch_many([Narrow("narrow", number) for number in range(6)])
        handles += ctx.dispatcher.dispatch_many([Wide("wide", number) for number in range(2)])
        wide.reached(2)  # both at once, though four narrow ones were there before
        narrow.reached(2)
        assert narrow.inside == 2
        narrow.open()
        wide.open()
        return [handle.result() for handle in handles]

    assert played(tmp_path, work, workers=4, lanes={"narrow": 2}, narrow=narrow, wide=wide) == [0, 1, 2, 3, 4, 5, 0, 1]
    assert (narrow.most, wide.most) == (2, 2)


def test_a_worker_that_dies_leaves_its_place_in_the_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_task = worker.run_task

    def deadly(call: Any, ports: Any) -> Any:
        if call.task.part == "deadly":
            raise MemoryError("in the worker's own code")
        return run_task(call, ports)

    monkeypatch.setattr(worker, "run_task", deadly)

    def work(job: Play, ctx: JobContext) -> object:
        with pytest.raises(TaskFailed, match="the worker died: MemoryError"):
            ctx.dispatcher.dispatch(Narrow("deadly")).result()
        return ctx.dispatcher.dispatch(Narrow(number=7)).result()

    runtime = Runtime(workers=1, lanes={"narrow": 1})
    try:
        services: dict[str, Any] = {"number": lambda piece, ctx: piece.number, "work": work}
        assert runtime.open_library(tmp_path / "library", services=services).submit(Play("work")).wait(PATIENCE) == 7
    finally:
        runtime.close(1)  # a job whose task nobody runs would never leave


def test_the_more_urgent_task_goes_first(tmp_path: Path) -> None:
    gate = Gate()
    order: list[int] = []

    def work(job: Play, ctx: JobContext) -> object:
        handles = [ctx.dispatcher.dispatch(Piece("gate"))]
        gate.reached()
        handles += [ctx.dispatcher.dispatch(Piece("mark", number)) for number in (1, 2)]
        handles += [ctx.dispatcher.dispatch(Urgent("mark", number)) for number in (3, 4)]
        gate.open()
        for handle in handles:
            handle.result()
        return None

    played(tmp_path, work, workers=1, gate=gate, mark=lambda piece, ctx: order.append(piece.number))
    assert order == [3, 4, 1, 2]


class HeldClock(ThreadPorts):
    """A monotonic clock that stands still: every task takes no time, so all of them may travel in chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.monotonic = lambda: 100.0


def test_small_tasks_travel_in_chunks_and_a_slow_one_holds_up_nobody(tmp_path: Path) -> None:
    gate, stuck, told = Gate(), Gate(), threading.Event()

    def work(job: Play, ctx: JobContext) -> object:
        for handle in ctx.dispatcher.dispatch_many([Piece() for _ in range(50)]):  # it is learnt that they are small
            handle.result()
        blockers = ctx.dispatcher.dispatch_many([Wide("gate"), Wide("gate")])
        gate.reached(2)
        tasks = [Piece(number=1), Piece(number=2), Piece("stuck"), *(Piece(number=number) for number in range(3, 60))]
        handles = ctx.dispatcher.dispatch_many(tasks)
        gate.open()
        stuck.reached()
        results = [handle.result() for handle in handles if handle is not handles[2]]
        told.set()
        return results, [handle.result() for handle in (handles[2], *blockers)]

    with stage(tmp_path, ports=HeldClock(), work=work, gate=gate, stuck=stuck) as library:
        handle = library.submit(Play("work"))
        assert told.wait(PATIENCE), "what is before or behind the slow one in its chunk waits for it"
        stuck.open()
        assert handle.wait(PATIENCE) == (list(range(1, 60)), [0, 0, 0])


def test_what_a_worker_that_died_had_not_begun_is_done_by_another_and_what_it_had_done_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_task, died = worker.run_task, []  # type: ignore[var-annotated]

    def deadly(call: Any, ports: Any) -> Any:
        if call.task.part == "deadly":
            died.append(call.task.number)
            raise MemoryError("in the worker's own code")
        return run_task(call, ports)

    monkeypatch.setattr(worker, "run_task", deadly)
    gate, ran = Gate(), []  # type: ignore[var-annotated]

    def work(job: Play, ctx: JobContext) -> object:
        for handle in ctx.dispatcher.dispatch_many([Piece() for _ in range(50)]):  # it is learnt that they are small
            handle.result()
        blocker = ctx.dispatcher.dispatch(Wide("gate"))
        gate.reached()
        handles = ctx.dispatcher.dispatch_many([Piece("deadly" if number == 5 else "counted", number) for number in range(20)])
        gate.open()
        blocker.result()
        with pytest.raises(TaskFailed, match="the worker died: MemoryError"):
            handles[5].result()
        return [handle.result() for handle in handles if handle is not handles[5]]

    def counted(piece: Piece, ctx: TaskContext) -> int:
        ran.append(piece.number)
        return piece.number

    others = [number for number in range(20) if number != 5]
    runtime = Runtime(workers=1, ports=HeldClock())
    try:
        services: dict[str, Any] = {"number": lambda piece, ctx: piece.number, "work": work, "gate": gate, "counted": counted}
        assert runtime.open_library(tmp_path / "library", services=services).submit(Play("work")).wait(PATIENCE) == others
    finally:
        runtime.close(0)  # a job whose tasks are lost would never leave, and this clock brings no later moment
    assert sorted(ran) == others and died == [5]


@pytest.fixture
def withdrawn(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when tasks have been taken back from the workers."""
    event, withdraw = threading.Event(), DispatcherActor._withdraw

    def watched(self: DispatcherActor, message: Withdraw) -> None:
        withdraw(self, message)
        event.set()

    monkeypatch.setattr(DispatcherActor, "_withdraw", watched)
    return event


# --- when the job leaves ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["returns", "raises", "exits"])
def test_no_task_outlives_its_job(tmp_path: Path, how: str, withdrawn: threading.Event) -> None:
    gate, ran = Gate(), []

    def opens(piece: Piece, ctx: TaskContext) -> object:
        gate(piece, ctx)
        ran.append(piece.number)
        return None

    def work(job: Play, ctx: JobContext) -> object:
        ctx.dispatcher.dispatch_many([Piece("opens", number) for number in range(40)])
        gate.reached(2)
        if how == "raises":
            raise ValueError
        if how == "exits":
            raise SystemExit
        return None

    with stage(tmp_path, workers=2, work=work, opens=opens) as library:
        handle = library.submit(Play("work"))
        assert withdrawn.wait(PATIENCE)  # by the job, which has left
        gate.open()
        try:
            handle.wait(PATIENCE)
        except JobFailed:
            assert how != "returns"
        assert gate.inside == 0 and sorted(ran) == [0, 1], "the two that ran have ended, the others never began"


def test_a_job_that_waits_for_a_result_leaves_when_it_is_asked_to(tmp_path: Path) -> None:
    gate = Gate()

    def work(job: Play, ctx: JobContext) -> object:
        if ctx.resumed:
            return "went on"
        handles = ctx.dispatcher.dispatch_many([Piece("looks") for _ in range(10)])
        return [handle.result() for handle in handles]

    def looks(piece: Piece, ctx: TaskContext) -> object:
        gate._reached.release()
        while True:
            ctx.check_interrupt()
            threading.Event().wait(0.001)

    with stage(tmp_path, work=work, looks=looks) as library:
        handle = library.submit(Play("work"))
        gate.reached(2)
        assert handle.pause(wait=True, timeout=PATIENCE) is Status.PAUSED
        handle.resume()
        assert handle.wait(PATIENCE) == "went on"


def test_a_pause_waits_for_what_runs_and_delivers_every_result_that_was_made(tmp_path: Path, withdrawn: threading.Event) -> None:
    gate = Gate()
    made: list[int] = []
    delivered: list[object] = []

    def makes(piece: Piece, ctx: TaskContext) -> object:
        gate(piece, ctx)
        made.append(piece.number)
        return piece.number

    def work(job: Play, ctx: JobContext) -> object:
        if ctx.resumed:
            return "went on"
        handles = ctx.dispatcher.dispatch_many([Piece("makes", number) for number in range(30)])
        for handle in ctx.as_completed(handles):
            delivered.append(handle.result())
        raise AssertionError("it did not leave")

    with stage(tmp_path, workers=3, work=work, makes=makes) as library:
        handle = library.submit(Play("work"))
        gate.reached(3)
        assert handle.pause() is Status.PAUSING
        assert withdrawn.wait(PATIENCE)
        gate.open()
        assert handle.pause(wait=True, timeout=PATIENCE) is Status.PAUSED
        assert sorted(delivered) == sorted(made) and len(made) == 3  # type: ignore[type-var]
        handle.resume()
        assert handle.wait(PATIENCE) == "went on"


def by_as_completed(ctx: JobContext, handles: list[TaskHandle]) -> list[object]:
    return [handle.result() for handle in ctx.as_completed(handles)]


def by_result(ctx: JobContext, handles: list[TaskHandle]) -> list[object]:
    return [handle.result() for handle in handles]


@pytest.mark.parametrize("collect", [by_as_completed, by_result])
def test_a_pause_that_is_withdrawn_when_the_tasks_were_taken_back_already_does_not_fail_the_job(
    tmp_path: Path, withdrawn: threading.Event, collect: Callable[[JobContext, list[TaskHandle]], list[object]]
) -> None:
    gate, entered = Gate(), []

    def work(job: Play, ctx: JobContext) -> object:
        entered.append(ctx.attempt)
        return sorted(collect(ctx, ctx.dispatcher.dispatch_many([Piece("gate", number) for number in range(10)])))  # type: ignore[type-var]

    with stage(tmp_path, workers=1, work=work, gate=gate) as library:
        handle = library.submit(Play("work"))
        gate.reached()
        handle.pause()
        assert withdrawn.wait(PATIENCE)
        handle.resume()
        gate.open()
        assert handle.wait(PATIENCE) == list(range(10))
        assert entered == [1, 1]


def test_a_library_that_closes_over_tasks_waits_for_those_that_run(tmp_path: Path, withdrawn: threading.Event) -> None:
    gate = Gate()

    def work(job: Play, ctx: JobContext) -> object:
        return ctx.resumed or by_result(ctx, ctx.dispatcher.dispatch_many([Piece("gate") for _ in range(9)]))

    with Runtime(workers=2) as runtime:
        library = runtime.open_library(tmp_path / "library", services={"work": work, "gate": gate})
        handle = library.submit(Play("work"))
        gate.reached(2)
        threading.Thread(target=lambda: withdrawn.wait(PATIENCE) and gate.open()).start()
        assert library.close(PATIENCE) is True
        assert gate.inside == 0 and gate.most == 2
        library = runtime.open_library(tmp_path / "library", services={"work": work, "gate": gate})
        assert library.job(handle.id).wait(PATIENCE) is True
        assert library.record(handle.id).crashes == 0


def test_two_jobs_share_the_workers_and_neither_gets_the_others_results(tmp_path: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        handles = ctx.dispatcher.dispatch_many([Piece(number=job.done + number) for number in range(300)])
        return [handle.result() for handle in handles]

    with stage(tmp_path, work=work) as library:
        handles = [library.submit(Play("work", done=1000 * job)) for job in range(4)]
        for job, handle in enumerate(handles):
            assert handle.wait(PATIENCE) == [1000 * job + number for number in range(300)]
