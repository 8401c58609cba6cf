"""Children of jobs on real threads: spawned once, waited for without a turn, ended before their parents, however deep and however few may run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard import (
    BadArgument,
    ChildrenFailed,
    CriticalError,
    Job,
    JobCancelled,
    JobContext,
    JobFailed,
    Library,
    RetryPolicy,
    Runtime,
    Status,
    Submission,
    WouldDeadlock,
)
from callboard.actors import crew
from callboard.jobs.children import HOLES_MOST, ChildEnd
from callboard.jobs.lifecycle import Pauser

PATIENCE = 100.0


@dataclass
class Play(Job, name="test_children.play"):
    part: str = "nothing"
    number: int = 0
    done: int = 0

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Once(Job, name="test_children.once", resumable=False):
    part: str = "nothing"

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Once, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


class Gate:
    """Jobs wait here, looking; the test sees that they have come, and lets them go."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Semaphore(0), threading.Event()

    def __call__(self, job: Any, ctx: JobContext) -> object:
        self._reached.release()
        while not self._open.is_set():
            ctx.sleep(0.01)
        return job.number

    def reached(self, times: int = 1) -> None:
        for _ in range(times):
            assert self._reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.set()


def number(job: Play, ctx: JobContext) -> object:
    return job.number


def failing(job: Play, ctx: JobContext) -> object:
    if job.number % 2:
        raise CriticalError(f"child {job.number} went wrong")
    return job.number


@contextmanager
def stage(folder: Path, *, running_jobs: int = 2, **parts: Callable[[Any, JobContext], object]) -> Iterator[Library]:
    with Runtime(workers=2) as runtime:
        services = {"number": number, "failing": failing, **parts}
        yield runtime.open_library(folder / "library", services=services, running_jobs=running_jobs)


def run(library: Library, job: Job) -> Any:
    return library.submit(job).wait(PATIENCE)


def tree_of(library: Library) -> list[tuple[str, str]]:
    """(part of the job, status) of every ended job, in order of arrival."""
    return [(record.name, record.status) for record in reversed(library.history(limit=10_000).records)]


# --- spawning -----------------------------------------------------------------------------------------------------------


def test_children_run_and_their_results_come_back_in_order(tmp_path: Path) -> None:
    def parent(job: Play, ctx: JobContext) -> object:
        ids = ctx.spawn_children(Play("number", n) for n in range(20))
        ends = ctx.wait_for_children(ids)
        assert [end.id for end in ends] == list(ids)
        return [end.result for end in ends]

    with stage(tmp_path, parent=parent) as library:
        assert run(library, Play("parent")) == list(range(20))


def test_a_name_used_twice_in_one_run_is_an_error_that_says_so(tmp_path: Path) -> None:
    def parent(job: Play, ctx: JobContext) -> object:
        ctx.spawn_children([Play("number")], name="one")
        ctx.spawn_children([Play("number")], name="two")
        with pytest.raises(BadArgument, match="this run has children named 'one' already; give these another name="):
            ctx.spawn_children([Play("number")], name="one")
        return len(ctx.wait_for_children())

    with stage(tmp_path, parent=parent) as library:
        assert run(library, Play("parent")) == 2


def test_a_child_that_cannot_be_queued_is_named_and_none_is_queued(tmp_path: Path) -> None:
    def parent(job: Play, ctx: JobContext) -> object:
        with pytest.raises(BadArgument, match="child 1 cannot be queued"):
            ctx.spawn_children([Play("number"), "no job"], name="bad")  # type: ignore[list-item]
        with pytest.raises(BadArgument, match="children 0 and 1 have the same key"):
            ctx.spawn_children([Submission(Play("number"), key="k"), Submission(Play("number"), key="k")], name="equal")
        with pytest.raises(BadArgument, match="is not an iterable of jobs"):
            ctx.spawn_children(Play("number"))  # type: ignore[arg-type]
        with pytest.raises(BadArgument, match="name=''"):
            ctx.spawn_children([], name="")
        with pytest.raises(BadArgument, match="on_failure='never'"):
            ctx.wait_for_children(on_failure="never")  # type: ignore[arg-type]
        with pytest.raises(BadArgument, match="is no child that this run has spawned"):
            ctx.wait_for_children([ctx.job_id])
        return "seen"

    with stage(tmp_path, parent=parent) as library:
        assert run(library, Play("parent")) == "seen"
        assert len(library.history().records) == 1


def test_no_children_are_nothing_to_wait_for(tmp_path: Path) -> None:
    def parent(job: Play, ctx: JobContext) -> object:
        return list(ctx.spawn_children([])), ctx.wait_for_children(), list(ctx.children_completed())

    with stage(tmp_path, parent=parent) as library:
        assert run(library, Play("parent")) == ([], [], [])


def test_what_the_children_get_is_saved_with_them(tmp_path: Path) -> None:
    """The fields go into the commit of the children, so a parent that is run again knows that it has spawned them."""
    runs: list[int] = []

    def parent(job: Play, ctx: JobContext) -> object:
        runs.append(job.done)
        if not job.done:
            job.done = 7
            ctx.spawn_children([Play("number", 5)])
            raise ValueError("after the children")
        return [end.result for end in ctx.wait_for_children(ctx.spawn_children([]))]

    with stage(tmp_path, parent=parent) as library:
        handle = library.submit(Submission(Play("parent"), retry=RetryPolicy(max_attempts=2, first=0.001)))
        assert handle.wait(PATIENCE) == [5]
    assert runs == [0, 7]


# --- failures -----------------------------------------------------------------------------------------------------------


def test_failed_children_are_raised_after_all_have_ended_and_the_first_are_named(tmp_path: Path) -> None:
    def parent(job: Play, ctx: JobContext) -> object:
        ids = ctx.spawn_children([Play("failing", n) for n in range(10)])
        with pytest.raises(ChildrenFailed) as caught:
            ctx.wait_for_children(ids)
        assert caught.value.count == 5 and len(caught.value.ids) == 3
        assert "5 children have not completed" in str(caught.value) and "went wrong" in str(caught.value) and "and 2 more" in str(caught.value)
        ends = ctx.wait_for_children(ids, on_failure="collect")
        return [(end.ok, end.result, end.error is None) for end in ends]

    with stage(tmp_path, parent=parent) as library:
        assert run(library, Play("parent")) == [(True, n, True) if n % 2 == 0 else (False, None, False) for n in range(10)]


def test_a_failure_that_nobody_catches_fails_the_parent(tmp_path: Path) -> None:
    def parent(job: Play, ctx: JobContext) -> object:
        ctx.spawn_children([Play("failing", 1)])
        return ctx.wait_for_children()

    with stage(tmp_path, parent=parent) as library, pytest.raises(JobFailed, match="1 child has not completed"):
        run(library, Play("parent"))


def test_the_rest_is_cancelled_as_soon_as_one_has_failed(tmp_path: Path) -> None:
    gate = Gate()

    def parent(job: Play, ctx: JobContext) -> object:
        ids = ctx.spawn_children([Play("gate"), Play("failing", 1), *(Play("gate", n) for n in range(2, 50))])
        with pytest.raises(ChildrenFailed) as caught:
            ctx.wait_for_children(ids, on_failure="cancel_rest")
        return caught.value.count

    with stage(tmp_path, parent=parent, gate=gate) as library:
        assert run(library, Play("parent")) == 50
        counts = library.statistics().ended
        assert counts == {"cancelled": 49, "completed": 1, "failed": 1}


# --- turns --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running_jobs", [1, 2])
def test_a_pool_of_two_runs_a_tree_fifty_deep(tmp_path: Path, running_jobs: int) -> None:
    def level(job: Play, ctx: JobContext) -> object:
        if job.number == 50:
            return [50]
        [end] = ctx.wait_for_children(ctx.spawn_children([Play("level", job.number + 1)]))
        assert isinstance(end.result, list)
        return [job.number, *end.result]

    with stage(tmp_path, level=level, running_jobs=running_jobs) as library:
        assert run(library, Play("level")) == list(range(51))
        assert library.statistics().ended == {"completed": 51}


def test_never_more_jobs_run_than_may_also_while_parents_wait_and_come_back(tmp_path: Path) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    @contextmanager
    def running() -> Iterator[None]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        yield
        with lock:
            inside -= 1

    def level(job: Play, ctx: JobContext) -> object:
        with running():
            ctx.sleep(0.001)
            ids = ctx.spawn_children([Play("level", job.number + 1) for _ in range(3)] if job.number < 3 else [])
        ends = ctx.wait_for_children(ids)
        with running():
            ctx.sleep(0.001)
        return 1 + sum(int(str(end.result)) for end in ends)

    with stage(tmp_path, level=level) as library:
        assert run(library, Play("level")) == 40
    assert most == 2


def test_few_parents_wait_on_their_actors_and_further_ones_are_run_again(tmp_path: Path) -> None:
    gate, entered, lock = Gate(), [0] * 12, threading.Lock()
    waiting = threading.Semaphore(0)

    def parent(job: Play, ctx: JobContext) -> object:
        with lock:
            entered[job.number] += 1
        ids = ctx.spawn_children([Play("gate", job.number)])
        waiting.release()
        [end] = ctx.wait_for_children(ids)
        return end.result

    with stage(tmp_path, parent=parent, gate=gate) as library:
        handles = [library.submit(Submission(Play("parent", n), priority=0)) for n in range(12)]
        for _ in range(12):
            assert waiting.acquire(timeout=PATIENCE)
        gate.reached(2)
        statuses = [handle.status for handle in handles]
        assert statuses.count(Status.AWAITING) == 12 - crew.KEPT_PARENTS
        gate.open()
        assert [handle.wait(PATIENCE) for handle in handles] == list(range(12))
    assert sorted(entered) == [1] * crew.KEPT_PARENTS + [2] * (12 - crew.KEPT_PARENTS)


def test_the_slot_that_one_parent_gives_away_is_there_for_another_that_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else can run: nobody's end would ever bring the slot to the one that comes back."""
    of_child, of_second, comes = Gate(), Gate(), threading.Event()
    come_back = crew.Crew.come_back

    def coming(self: crew.Crew, message: Any) -> None:
        come_back(self, message)
        comes.set()

    monkeypatch.setattr(crew.Crew, "come_back", coming)

    def first(job: Play, ctx: JobContext) -> object:
        return [end.result for end in ctx.wait_for_children(ctx.spawn_children([Play("of_child", 7)], name="one"))]

    def second(job: Play, ctx: JobContext) -> object:
        of_second(job, ctx)
        return ctx.wait_for_children(ctx.spawn_children([Submission(Play("number"), delay=3_600)], name="late"))

    with stage(tmp_path, running_jobs=1, first=first, second=second, of_child=of_child) as library:
        parent = library.submit(Play("first"))
        of_child.reached()
        other = library.submit(Play("second"))
        of_child.open()
        of_second.reached()
        assert comes.wait(PATIENCE)
        of_second.open()
        assert parent.wait(PATIENCE) == [7]
        other.cancel()


def test_a_parent_that_cannot_be_run_again_always_waits_on_its_actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "KEPT_PARENTS", 0)
    entered = 0

    def parent(job: Once, ctx: JobContext) -> object:
        nonlocal entered
        entered += 1
        return len(ctx.wait_for_children(ctx.spawn_children([Play("number"), Play("number")])))

    with stage(tmp_path, parent=parent, running_jobs=1) as library:
        assert run(library, Once("parent")) == 2
    assert entered == 1


def test_waiting_on_a_handle_inside_a_run_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    def parent(job: Play, ctx: JobContext) -> object:
        handle = ctx.services["library"][0].submit(Play("number"))
        for wait in (handle.wait, lambda: next(handle.updates())):
            with pytest.raises(WouldDeadlock, match="ctx.wait_for_children"):
                wait()
        return "refused"

    libraries: list[Library] = []
    with stage(tmp_path, parent=parent, library=libraries) as library:  # type: ignore[arg-type]
        libraries.append(library)
        assert run(library, Play("parent")) == "refused"


def test_at_most_so_many_of_a_name_run_at_once_and_others_are_in_nobodys_way(tmp_path: Path) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def one(job: Play, ctx: JobContext) -> object:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        ctx.sleep(0.002)
        with lock:
            inside -= 1
        return job.number

    def parent(job: Play, ctx: JobContext) -> object:
        limited = ctx.spawn_children([Play("one", n) for n in range(20)], name="limited", max_running=2)
        free = ctx.spawn_children([Play("number", n) for n in range(20)], name="free")
        for wrong in (0, True, "2"):
            with pytest.raises(BadArgument, match="max_running="):
                ctx.spawn_children([], name="wrong", max_running=wrong)  # type: ignore[arg-type]
        assert len(ctx.wait_for_children(free)) == 20
        return [end.result for end in ctx.wait_for_children(limited)]

    with stage(tmp_path, parent=parent, one=one, running_jobs=6) as library:
        assert run(library, Play("parent")) == list(range(20))
    assert most == 2


# --- ends ---------------------------------------------------------------------------------------------------------------


def test_a_parent_that_returns_has_ended_when_its_children_have(tmp_path: Path) -> None:
    gate = Gate()

    def parent(job: Play, ctx: JobContext) -> object:
        ctx.spawn_children([Play("gate", 3)])
        return "returned"

    with stage(tmp_path, parent=parent, gate=gate, running_jobs=1) as library:
        handle = library.submit(Play("parent"))
        gate.reached()
        assert handle.status is Status.ENDING
        [child] = library.jobs(parent=handle.id).records
        assert child.parent == handle.id
        gate.open()
        assert handle.wait(PATIENCE) == "returned"
        assert library.statistics().live == {}
        assert [record.id for record in library.history(parent=handle.id).records] == [child.id]


def test_detached_children_are_on_their_own(tmp_path: Path) -> None:
    gate = Gate()
    spawned: list[bytes] = []

    def parent(job: Play, ctx: JobContext) -> object:
        spawned.extend(ctx.spawn_children([Play("gate", 3)], detached=True))
        raise CriticalError("went wrong")

    with stage(tmp_path, parent=parent, gate=gate) as library:
        with pytest.raises(JobFailed, match="went wrong"):
            run(library, Play("parent"))
        gate.reached()
        gate.open()
        assert library.job(spawned[0]).wait(PATIENCE) == 3


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_a_parent_that_does_not_complete_takes_the_whole_tree_with_it(tmp_path: Path, how: str) -> None:
    gate, waits = Gate(), threading.Event()

    def parent(job: Play, ctx: JobContext) -> object:
        ctx.spawn_children([Play("middle", n) for n in range(3)])
        gate.reached(2)
        if how == "fails":
            raise CriticalError("went wrong")
        waits.set()
        return ctx.wait_for_children()

    def middle(job: Play, ctx: JobContext) -> object:
        ctx.spawn_children([Play("gate", n) for n in range(40)])
        return ctx.wait_for_children()

    with stage(tmp_path, parent=parent, middle=middle, gate=gate, running_jobs=3) as library:
        handle = library.submit(Play("parent"))
        if how == "is cancelled":
            assert waits.wait(PATIENCE)
            handle.cancel()
        with pytest.raises(JobFailed if how == "fails" else JobCancelled):
            handle.wait(PATIENCE)
        assert library.statistics().live == {}
        ended = library.statistics().ended
        assert ended.pop("failed", 0) == (how == "fails")
        assert set(ended) == {"cancelled"} and ended["cancelled"] >= 3 + 40


@pytest.mark.parametrize("returned", [True, False], ids=["it has returned", "it runs"])
def test_who_waits_for_a_cancel_waits_for_the_whole_tree(tmp_path: Path, returned: bool) -> None:
    stopping, may_stop, gate = threading.Event(), threading.Event(), Gate()

    def slow(job: Play, ctx: JobContext) -> object:
        gate._reached.release()
        try:
            ctx.sleep(PATIENCE)
        finally:
            stopping.set()
            assert may_stop.wait(PATIENCE)

    def parent(job: Play, ctx: JobContext) -> object:
        ctx.spawn_children([Play("slow")])
        return None if returned else ctx.wait_for_children()

    with stage(tmp_path, parent=parent, slow=slow) as library:
        handle = library.submit(Play("parent"))
        gate.reached()
        while returned and handle.status is not Status.ENDING:  # its child may begin before it has returned
            library.statistics()
        statuses: list[Status] = []
        waiter = threading.Thread(target=lambda: statuses.append(handle.cancel(wait=True, timeout=PATIENCE)))
        waiter.start()
        assert stopping.wait(PATIENCE)
        assert statuses == [] and waiter.is_alive()
        may_stop.set()
        waiter.join(PATIENCE)
        assert statuses == [Status.CANCELLED]
        assert library.statistics().live == {}


def test_a_pause_and_a_resume_of_a_parent_go_down_the_tree(tmp_path: Path) -> None:
    gate = Gate()

    def parent(job: Play, ctx: JobContext) -> object:
        ids = ctx.spawn_children([Play("gate", n) for n in range(5)])
        return [end.result for end in ctx.wait_for_children(ids)]

    with stage(tmp_path, parent=parent, gate=gate) as library:
        handle = library.submit(Play("parent"))
        gate.reached(2)
        handle.pause(wait=True, timeout=PATIENCE)
        children = [record.id for record in library.jobs().records if record.id != handle.id]
        for child in children:
            assert Status.PAUSED in library.job(child).updates(timeout=PATIENCE)
            library.resume(child)
            record = library.record(child)
            assert record.status is Status.PAUSED and record.pausers == {Pauser.PARENT}
        gate.open()
        handle.resume()
        assert handle.wait(PATIENCE) == list(range(5))


# --- many ---------------------------------------------------------------------------------------------------------------


def test_ends_are_streamed_as_they_come_in_bounded_memory(tmp_path: Path) -> None:
    count = 6_000
    seen: list[int] = []
    most = 0

    def parent(job: Play, ctx: JobContext) -> object:
        nonlocal most
        ids = ctx.spawn_children(Play("number", n) for n in range(count))
        assert len(ids) == count
        for end in ctx.children_completed(ids):
            assert isinstance(end, ChildEnd) and isinstance(end.result, int)
            seen.append(end.result)
        return len(seen)

    with stage(tmp_path, parent=parent) as library:
        handle = library.submit(Play("parent"))
        assert handle.wait(PATIENCE) == count
        progress = handle.progress()
        assert progress is not None and (progress.done, progress.total) == (count, count)
    assert sorted(seen) == list(range(count)) and count > HOLES_MOST


def test_a_job_that_stands_for_a_child_of_the_same_key_is_waited_for(tmp_path: Path) -> None:
    gate, spawned = Gate(), threading.Event()

    def parent(job: Play, ctx: JobContext) -> object:
        ids = ctx.spawn_children([Submission(Play("gate", 99), key="taken"), Play("number", 2)])
        spawned.set()
        return [end.result for end in ctx.wait_for_children(ids)], list(ids)

    with stage(tmp_path, parent=parent, gate=gate, running_jobs=3) as library:
        other = library.submit(Submission(Play("gate", 1), key="taken"))
        gate.reached()
        handle = library.submit(Play("parent"))
        assert spawned.wait(PATIENCE)
        gate.open()
        results, ids = handle.wait(PATIENCE)
        assert sorted(results) == [1, 2] and ids[0] == other.id
