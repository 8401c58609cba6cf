"""The host calls `pykka.ActorRegistry.stop_all()`, which stops every actor of the process, ours too, at any moment: nothing hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pykka
import pytest

from callboard import Job, JobContext, JobHandle, Library, LibraryClosed, Runtime, Status, StoreError, Submission, Task, TaskContext

PATIENCE = 100.0


@pytest.fixture(autouse=True)
def little_patience_with_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.context.WAIT_SECONDS", 0.02)


@dataclass
class Play(Job, name="test_host_stops_all.play"):
    part: str = "nothing"
    done: int = 0
    seen: list[int] = field(default_factory=list)

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Any, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Piece(Task):
    number: int

    def run(self, ctx: TaskContext) -> object:
        ctx.services["some"].release()
        return self.number


def sleeps(job: Play, ctx: JobContext) -> object:
    if ctx.services["again"]:  # it may be begun only now
        return job.done
    ctx.services["some"].release()
    job.done = 7
    ctx.sleep(PATIENCE)
    return None


def maps(job: Play, ctx: JobContext) -> object:
    for end in ctx.map(Piece, range(400), name="m"):
        job.seen.append(end.position or 0)
    return sorted(job.seen)


def checkpoints(job: Play, ctx: JobContext) -> object:
    while job.done < 300:
        job.done += 1
        ctx.checkpoint()
        ctx.services["some"].release()
    return job.done


MOMENTS: dict[str, tuple[str, int, object]] = {
    "idle": ("", 0, None),
    "a job waits": ("sleeps", 2, 7),
    "at the start": ("sleeps", 0, None),
    "a map runs": ("maps", 50, list(range(400))),
    "a job saves": ("checkpoints", 20, 300),
}


def stop_all() -> None:
    stopping = threading.Thread(target=pykka.ActorRegistry.stop_all, daemon=True)
    stopping.start()
    stopping.join(PATIENCE)
    assert not stopping.is_alive(), "stop_all() hangs"
    for ref in pykka.ActorRegistry.get_all():  # started while the others were stopped
        assert ref.actor_stopped.wait(PATIENCE), f"nobody stops {ref}"


def test_a_job_that_waits_for_long_leaves_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.context.WAIT_SECONDS", 10 * PATIENCE)
    some = threading.Semaphore(0)
    runtime = Runtime(workers=1)
    library = runtime.open_library(tmp_path / "library", services={"some": some, "sleeps": lambda job, ctx: (some.release(), ctx.sleep(3600))})
    library.submit(Play("sleeps"))
    assert some.acquire(timeout=PATIENCE)
    stop_all()
    assert runtime.close(PATIENCE) is True


@pytest.mark.parametrize("moment", MOMENTS)
def test_everything_stops_and_the_library_opens_again_whole(tmp_path: Path, moment: str) -> None:
    part, steps, result = MOMENTS[moment]
    some = threading.Semaphore(0)
    services: dict[str, Any] = {"some": some, "again": False, "nothing": lambda job, ctx: None}
    services |= {"sleeps": sleeps, "maps": maps, "checkpoints": checkpoints}
    runtime = Runtime(workers=2)
    library = runtime.open_library(tmp_path / "library", services=services)
    handles: list[JobHandle] = [library.submit(Play(part)) for _ in range(2 if part else 0)]
    waiting = library.submit(Submission(Play(), delay=3600))
    for _ in range(steps):
        assert some.acquire(timeout=PATIENCE)
    stop_all()
    for call in (waiting.pause, lambda: waiting.wait(PATIENCE), lambda: library.submit(Play())):
        with pytest.raises(LibraryClosed):
            call()
    assert runtime.close(PATIENCE) is True
    assert pykka.ActorRegistry.get_all() == []
    with Runtime(workers=2) as again:
        library = again.open_library(tmp_path / "library", services={**services, "again": True})
        assert library.epoch == 2
        for handle in handles:
            found = library.job(handle.id).wait(PATIENCE)
            assert found == result or moment == "at the start"
            assert library.record(handle.id).crashes == 0
        assert library.job(waiting.id).status is Status.QUEUED


def test_in_a_storm_of_submissions_nothing_that_was_acknowledged_is_lost_and_nobody_waits_in_vain(tmp_path: Path) -> None:
    for turn in range(5):
        runtime = Runtime(workers=2)
        library = runtime.open_library(tmp_path / "library", services={"nothing": lambda job, ctx: None})
        acknowledged: list[bytes] = []
        refused = threading.Semaphore(0)
        enough = threading.Semaphore(0)

        def storm(library: Library = library, acknowledged: list[bytes] = acknowledged, refused: Any = refused, enough: Any = enough) -> None:
            try:
                while True:
                    acknowledged.append(library.submit(Play()).id)
                    enough.release()
            except (LibraryClosed, StoreError):
                refused.release()

        threads = [threading.Thread(target=storm, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20 * (turn + 1)):
            assert enough.acquire(timeout=PATIENCE)
        stop_all()
        for _ in threads:
            assert refused.acquire(timeout=PATIENCE), "a submission was never answered"
        assert runtime.close(PATIENCE) is True
        with Runtime(workers=1) as again:
            library = again.open_library(tmp_path / "library", services={"nothing": lambda job, ctx: None})
            for job_id in acknowledged:
                library.job(job_id).wait(PATIENCE)


def test_a_runtime_made_afterwards_works_as_ever(tmp_path: Path) -> None:
    with Runtime(workers=1):
        stop_all()
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library", services={"nothing": lambda job, ctx: "fine"})
        assert library.submit(Play()).wait(PATIENCE) == "fine"
