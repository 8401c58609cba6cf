"""A further attempt of a parent: children that completed keep their result, the others are run once more; whatever comes in between."""

from __future__ import annotations

import threading
from collections import Counter
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
    JobContext,
    JobFailed,
    Library,
    OnDuplicate,
    RetryPolicy,
    Runtime,
    Status,
    Submission,
)
from callboard.actors import crew, spawning

PATIENCE = 100.0
TWICE = RetryPolicy(max_attempts=2, first=0.001)


@dataclass
class Again(Job, name="test_children_again.play"):
    part: str
    number: int = 0

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Again, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


class Flaky:
    """A part that fails for odd numbers until it is mended, and counts who ran."""

    def __init__(self) -> None:
        self.ran: Counter[int] = Counter()
        self.mended = False
        self._lock = threading.Lock()

    def __call__(self, job: Again, ctx: JobContext) -> object:
        with self._lock:
            self.ran[job.number] += 1
        if job.number % 2 and not self.mended:
            raise CriticalError(f"child {job.number} went wrong")
        return job.number


@contextmanager
def stage(folder: Path, **parts: Any) -> Iterator[Library]:
    with Runtime(workers=2) as runtime:
        yield runtime.open_library(folder / "library", services=parts, running_jobs=4)


def parent_of(count: int, flaky: Flaky, seen: list[list[bytes]] | None = None) -> Callable[[Again, JobContext], object]:
    def parent(job: Again, ctx: JobContext) -> object:
        ids = ctx.spawn_children([Again("flaky", n) for n in range(count)], name="some")
        if seen is not None:
            seen.append(list(ids))
        try:
            return [end.result for end in ctx.wait_for_children(ids, on_failure="raise")]
        finally:
            flaky.mended = True

    return parent


@pytest.mark.parametrize("at_once", [500, 3])
def test_a_retry_by_policy_runs_anew_only_the_children_that_did_not_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(spawning, "RENEWED_AT_ONCE", at_once)
    flaky, seen = Flaky(), list[list[bytes]]()
    with stage(tmp_path, parent=parent_of(10, flaky, seen), flaky=flaky) as library:
        handle = library.submit(Submission(Again("parent"), retry=TWICE))
        assert sorted(handle.wait(PATIENCE)) == list(range(10))  # type: ignore[call-overload]
        anew = {record.retry_of: record for record in library.history(parent=handle.id, limit=100).records if record.retry_of is not None}
    assert flaky.ran == Counter({n: 1 + n % 2 for n in range(10)})
    first, second = seen
    assert [one == two for one, two in zip(first, second, strict=True)] == [n % 2 == 0 for n in range(10)]
    assert [anew[old].id for old in first[1::2]] == second[1::2]


def test_a_retry_after_the_end_takes_over_what_completed(tmp_path: Path) -> None:
    flaky, seen = Flaky(), list[list[bytes]]()
    with stage(tmp_path, parent=parent_of(6, flaky, seen), flaky=flaky) as library:
        failed = library.submit(Again("parent"))
        with pytest.raises(JobFailed, match="3 children have not completed"):
            failed.wait(PATIENCE)
        again = library.retry(failed.id)
        assert sorted(again.wait(PATIENCE)) == list(range(6))  # type: ignore[call-overload]
        assert len(library.history(parent=again.id).records) == 3
        twice = library.retry(again.id)
        assert sorted(twice.wait(PATIENCE)) == list(range(6))  # type: ignore[call-overload]
    assert [one == two for one, two in zip(*seen[:2], strict=True)] == [True, False] * 3
    assert flaky.ran == Counter({n: 2 + n % 2 for n in range(6)}), "one that completed has nothing to take over"


def test_children_that_failed_stay_so_when_a_parent_is_merely_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "KEPT_PARENTS", 0)
    flaky, entered, left = Flaky(), 0, threading.Event()

    def parent(job: Again, ctx: JobContext) -> object:
        nonlocal entered
        entered += 1
        ids = ctx.spawn_children([Again("child", n) for n in range(4)])
        try:
            return [end.ok for end in ctx.wait_for_children(ids, on_failure="collect")]
        finally:
            left.set()

    def child(job: Again, ctx: JobContext) -> object:
        assert left.wait(PATIENCE)  # a parent whose children have all ended has no need to leave
        return flaky(job, ctx)

    with stage(tmp_path, parent=parent, child=child) as library:
        assert library.submit(Again("parent")).wait(PATIENCE) == [True, False, True, False]
    assert entered == 2 and set(flaky.ran.values()) == {1}


def test_children_that_live_go_on_in_the_next_attempt(tmp_path: Path) -> None:
    ran, gate, here = Counter[int](), threading.Event(), threading.Event()

    def child(job: Again, ctx: JobContext) -> object:
        ran[job.number] += 1
        here.set()
        while not gate.is_set():
            ctx.sleep(0.005)
        return job.number

    def parent(job: Again, ctx: JobContext) -> object:
        ids = ctx.spawn_children([Again("child", n) for n in range(3)])
        if ctx.attempt == 1:
            assert here.wait(PATIENCE)
            raise ValueError("once more")
        gate.set()
        return [end.result for end in ctx.wait_for_children(ids)]

    with stage(tmp_path, parent=parent, child=child) as library:
        assert library.submit(Submission(Again("parent"), retry=TWICE)).wait(PATIENCE) == [0, 1, 2]
        assert library.statistics().ended == {"completed": 4}
    assert ran == Counter(range(3))


def test_a_child_that_is_a_parent_takes_over_its_own_children(tmp_path: Path) -> None:
    flaky = Flaky()

    def middle(job: Again, ctx: JobContext) -> object:
        return len(ctx.wait_for_children(ctx.spawn_children([Again("flaky", n) for n in range(4)])))

    def parent(job: Again, ctx: JobContext) -> object:
        try:
            return [end.result for end in ctx.wait_for_children(ctx.spawn_children([Again("middle")]))]
        except ChildrenFailed:
            flaky.mended = True
            raise

    with stage(tmp_path, parent=parent, middle=middle, flaky=flaky) as library:
        assert library.submit(Submission(Again("parent"), retry=TWICE)).wait(PATIENCE) == [4]
    assert flaky.ran == Counter({0: 1, 1: 2, 2: 1, 3: 2})


def test_what_an_attempt_was_cut_off_in_is_queued_before_the_next_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawning, "CHUNK_ROWS", 3)
    flaky = Flaky()

    def jobs(attempt: int) -> Iterator[Again]:
        for n in range(0, 20, 2):
            if attempt == 1 and n == 14:
                raise ValueError("the disk is away")
            yield Again("flaky", n)

    def parent(job: Again, ctx: JobContext) -> object:
        ids = ctx.spawn_children(jobs(ctx.attempt), max_running=1)
        return [end.result for end in ctx.wait_for_children(ids)]

    with stage(tmp_path, parent=parent, flaky=flaky) as library:
        assert library.submit(Submission(Again("parent"), retry=TWICE)).wait(PATIENCE) == list(range(0, 20, 2))
    assert flaky.ran == Counter(range(0, 20, 2))


def test_a_limit_holds_for_those_that_are_run_anew(tmp_path: Path) -> None:
    inside, most, lock = 0, 0, threading.Lock()
    mended = threading.Event()

    def child(job: Again, ctx: JobContext) -> object:
        nonlocal inside, most
        if not mended.is_set():
            raise CriticalError("not yet")
        with lock:
            inside += 1
            most = max(most, inside)
        ctx.sleep(0.003)
        with lock:
            inside -= 1
        return None

    def parent(job: Again, ctx: JobContext) -> object:
        ids = ctx.spawn_children([Again("child", n) for n in range(8)], max_running=1)
        try:
            return len(ctx.wait_for_children(ids))
        finally:
            mended.set()

    with stage(tmp_path, parent=parent, child=child) as library:
        assert library.submit(Submission(Again("parent"), retry=TWICE)).wait(PATIENCE) == 8
    assert most == 1


def test_one_whose_key_is_taken_meanwhile_is_stood_for(tmp_path: Path) -> None:
    flaky, taken, stood_for = Flaky(), list[bytes](), threading.Event()

    def slow(job: Again, ctx: JobContext) -> object:
        while not stood_for.is_set():
            ctx.sleep(0.005)
        return "stands"

    def parent(job: Again, ctx: JobContext) -> object:
        ids = ctx.spawn_children([Submission(Again("flaky", 1), key="k")], name="some")
        if ctx.attempt == 1:
            [end] = ctx.wait_for_children(ids, on_failure="collect")
            assert end.status is Status.FAILED
            taken.append(ctx.services["library"][0].submit(Submission(Again("slow"), key="k", priority=200)).id)
            raise ValueError("once more")
        assert list(ids) == taken
        stood_for.set()
        return [end.result for end in ctx.wait_for_children(ids)]

    libraries: list[Library] = []
    with stage(tmp_path, parent=parent, flaky=flaky, slow=slow, library=libraries) as library:
        libraries.append(library)
        assert library.submit(Submission(Again("parent"), retry=TWICE)).wait(PATIENCE) == ["stands"]


@pytest.mark.parametrize("way", ["skip", "requeue", "supersede"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_child_with_the_key_of_its_parent_or_grandparent_is_refused_as_they_would_wait_for_each_other(tmp_path: Path, way: str, depth: int) -> None:
    def family(job: Again, ctx: JobContext) -> object:
        last = job.number + 1 == depth
        child = Submission(Again("family", job.number + 1), key="k" if last else None, on_duplicate=OnDuplicate(way))
        try:
            ids = ctx.spawn_children([child], name="some")
        except BadArgument as error:
            return str(error)
        return [end.result for end in ctx.wait_for_children(ids)]

    with stage(tmp_path, family=family) as library:
        found: Any = library.submit(Submission(Again("family"), key="k")).wait(timeout=PATIENCE)
        assert "wait for each other" in (found if depth == 1 else found[0])
