"""How far a parent is by its children: the weighted sum of its tree, never back, also over restarts, and told at the pace of all readings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard import Job, JobContext, JobHandle, Library, Progress, Runtime, Status
from callboard.actors import crew, family_news
from callboard.actors.reporting import Reports

PATIENCE = 100.0


@dataclass
class Part(Job, name="test_family_progress.part"):
    part: str
    number: int = 0

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Part, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@contextmanager
def stage(folder: Path, **parts: Any) -> Iterator[Library]:
    with Runtime(workers=1) as runtime:
        yield runtime.open_library(folder / "library", services=parts, running_jobs=4)


class Steps:
    """Children wait here, and are let through one by one."""

    def __init__(self) -> None:
        self._free = threading.Semaphore(0)

    def __call__(self, job: Part, ctx: JobContext) -> object:
        while not self._free.acquire(blocking=False):
            ctx.sleep(0.002)
        return job.number

    def let(self, number: int) -> None:
        self._free.release(number)


def fractions(handle: JobHandle, enough: Callable[[float], bool]) -> list[float]:
    """What is told of it until it is far enough."""
    found: list[float] = []
    for each in handle.updates(timeout=PATIENCE):
        if isinstance(each, Progress) and each.fraction is not None:
            found.append(each.fraction)
            if enough(each.fraction):
                break
    return found


def spawning(count: int, part: str = "steps", *, waits: bool = True) -> Callable[[Part, JobContext], object]:
    def parent(job: Part, ctx: JobContext) -> object:
        ids = ctx.spawn_children([Part(part, n) for n in range(count)])
        return len(ctx.wait_for_children(ids)) if waits else None

    return parent


@pytest.mark.parametrize("where", ["on its actor", "without one", "at its end"])
def test_a_parent_is_as_far_as_its_children_wherever_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    if where == "without one":
        monkeypatch.setattr(crew, "KEPT_PARENTS", 0)
    steps = Steps()
    with stage(tmp_path, parent=spawning(4, waits=where != "at its end"), steps=steps) as library:
        handle = library.submit(Part("parent"))
        steps.let(1)
        assert fractions(handle, lambda at: at >= 0.25)[-1] == 0.25
        steps.let(2)
        told = fractions(handle, lambda at: at >= 0.75)
        assert told == sorted(told) and told[-1] == 0.75
        expected = {"on its actor": Status.RUNNING, "without one": Status.AWAITING, "at its end": Status.ENDING}
        while handle.status is not expected[where]:  # as soon as it has left its actor
            assert handle.status is Status.RUNNING
        steps.let(1)
        handle.wait(PATIENCE)
        progress = handle.progress()
        assert progress is not None and (progress.fraction, progress.done, progress.total) == (1.0, 4, 4)


def test_a_child_that_has_not_ended_counts_by_its_own_progress_however_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "KEPT_PARENTS", 0)
    gate = threading.Event()

    def half(job: Part, ctx: JobContext) -> object:
        ctx.report_percentage(0.5)
        while not gate.is_set():
            ctx.sleep(0.005)
        return None

    with stage(tmp_path, parent=spawning(2, "middle"), middle=spawning(2, "half"), half=half) as library:
        handle = library.submit(Part("parent"))
        told = fractions(handle, lambda at: at >= 0.5)
        assert told[-1] == 0.5 and told == sorted(told)
        gate.set()
        assert handle.wait(PATIENCE) == 2
        record = handle.record()
        assert record.progress is not None and record.progress.fraction == 1.0


def test_what_children_told_before_their_parent_left_its_actor_counts_though_they_say_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "KEPT_PARENTS", 0)
    monkeypatch.setattr(family_news, "TELL_EVERY", 0.0)
    monkeypatch.setattr(Reports, "of_children", lambda reports, family: None)  # its last look was before
    told, gate, looked = threading.Event(), threading.Event(), threading.Event()
    loaded = family_news.FamilyNews.loaded

    def loaded_once(news: family_news.FamilyNews, message: Any) -> None:
        loaded(news, message)
        looked.set()

    monkeypatch.setattr(family_news.FamilyNews, "loaded", loaded_once)

    def parent(job: Part, ctx: JobContext) -> object:
        ids = ctx.spawn_children([Part("half")])
        assert told.wait(PATIENCE)
        return len(ctx.wait_for_children(ids))

    def half(job: Part, ctx: JobContext) -> object:
        ctx.report_percentage(0.5)
        while not gate.is_set():
            ctx.sleep(0.005)
        return None

    with stage(tmp_path, parent=parent, half=half) as library:
        handle = library.submit(Part("parent"))
        while [record.progress.fraction for record in library.jobs(parent=handle.id).records if record.progress] != [0.5]:
            assert not handle.status.ended
        assert looked.wait(PATIENCE)  # for what it told: nobody looks again, unless it is for the parent
        told.set()
        assert fractions(handle, lambda at: at >= 0.5)[-1] == 0.5
        gate.set()
        handle.wait(PATIENCE)


def test_progress_does_not_go_back_over_a_restart_nor_when_more_children_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "KEPT_PARENTS", 0)
    steps = Steps()

    def parent(job: Part, ctx: JobContext) -> object:
        ctx.wait_for_children(ctx.spawn_children([Part("steps", n) for n in range(2)], name="first"))
        return len(ctx.wait_for_children(ctx.spawn_children([Part("steps", n) for n in range(6)], name="second")))

    with stage(tmp_path, parent=parent, steps=steps) as library:
        handle = library.submit(Part("parent"))
        steps.let(1)
        assert fractions(handle, lambda at: at >= 0.5)[-1] == 0.5
        job_id = handle.id
    with stage(tmp_path, parent=parent, steps=steps) as library:
        handle = library.job(job_id)
        progress = handle.progress()
        assert progress is not None and progress.fraction == 0.5 and progress.of_children
        steps.let(7)
        told = fractions(handle, lambda at: at >= 1.0)
        assert told == sorted(told) and told[0] >= 0.5
        assert handle.wait(PATIENCE) == 6


def test_what_the_author_reports_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "KEPT_PARENTS", 0)

    def parent(job: Part, ctx: JobContext) -> object:
        ctx.report_count(3, 100)
        return len(ctx.wait_for_children(ctx.spawn_children([Part("number", n) for n in range(5)])))

    with stage(tmp_path, parent=parent, number=lambda job, ctx: job.number) as library:
        handle = library.submit(Part("parent"))
        assert handle.wait(PATIENCE) == 5
        progress = handle.progress()
        assert progress is not None and (progress.done, progress.total, progress.of_children) == (3, 100, False)


def test_many_children_are_few_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "KEPT_PARENTS", 0)
    with stage(tmp_path, parent=spawning(3_000, "number"), number=lambda job, ctx: None) as library:
        handle = library.submit(Part("parent"))
        told = fractions(handle, lambda at: at >= 1.0)
        assert told == sorted(told) and len(told) < 300
        assert handle.wait(PATIENCE) == 3_000
