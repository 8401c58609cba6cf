"""Pause, resume and cancel, in every status, on real threads: what is answered, what becomes of the job, and what it had done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from callboard import (
    Interrupted,
    Job,
    JobCancelled,
    JobContext,
    JobFailed,
    JobHandle,
    Library,
    NoAnswer,
    NotAllowed,
    Runtime,
    Status,
    Submission,
)
from callboard.jobs.events import JobPaused, JobResumed
from callboard.jobs.lifecycle import Pauser

PATIENCE = 100.0


@dataclass
class Play(Job, name="test_job_steering.play"):
    part: str = "nothing"
    done: int = 0

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Once(Job, name="test_job_steering.once", resumable=False):
    part: str = "nothing"
    done: int = 0

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Once, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Spoilt(Job, name="test_job_steering.spoilt"):
    """Cannot be restored as long as it is spoilt."""

    part: str = "nothing"
    spoilt = threading.Event()

    def __post_init__(self) -> None:
        if self.spoilt.is_set():
            raise ValueError("spoilt")

    def run(self, ctx: JobContext) -> object:
        return "restored"


class Gate:
    """A job waits here without looking; the test sees that it has come, and lets it go."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Semaphore(0), threading.Event()

    def __call__(self, job: Any, ctx: JobContext) -> object:
        self._reached.release()
        assert self._open.wait(PATIENCE)
        return job.done

    def reached(self) -> None:
        assert self._reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.set()


@contextmanager
def stage(folder: Path, *, running_jobs: int = 2, **parts: Callable[[Any, JobContext], object]) -> Iterator[Library]:
    with Runtime(workers=2) as runtime:
        yield runtime.open_library(folder / "library", services={"nothing": lambda job, ctx: None, **parts}, running_jobs=running_jobs)


@dataclass
class Scene:
    """A library with one job in a given status."""

    library: Library
    gate: Gate
    handle: JobHandle
    log: list[str] = field(default_factory=list)


SCENES: dict[str, Status] = {
    "queued": Status.QUEUED,
    "delayed": Status.QUEUED,
    "running": Status.RUNNING,
    "pausing": Status.PAUSING,
    "paused": Status.PAUSED,
    "cancelling": Status.CANCELLING,
    "quarantined": Status.QUARANTINED,
    "completed": Status.COMPLETED,
    "completed with errors": Status.COMPLETED_WITH_ERRORS,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
}


@contextmanager
def scene(folder: Path, name: str) -> Iterator[Scene]:
    gate = Gate()

    def warn(job: Play, ctx: JobContext) -> object:
        ctx.warn("hm")
        return None

    def fail(job: Play, ctx: JobContext) -> object:
        raise ValueError

    with ExitStack() as stack:
        library = stack.enter_context(stage(folder, running_jobs=1, gate=gate, warn=warn, fail=fail))
        stack.callback(gate.open)
        stack.callback(Spoilt.spoilt.clear)
        handle = set_scene(library, gate, name)
        assert handle.status is SCENES[name]
        yield Scene(library, gate, handle)


def set_scene(library: Library, gate: Gate, name: str) -> JobHandle:
    match name:
        case "queued":
            library.submit(Play("gate"))
            gate.reached()
            return library.submit(Play())
        case "delayed":
            return library.submit(Submission(Play(), delay=3600))
        case "paused":
            handle = library.submit(Submission(Play(), delay=3600))
            handle.pause()
            return handle
        case "running" | "pausing" | "cancelling":
            handle = library.submit(Play("gate"))
            gate.reached()
            if name == "pausing":
                handle.pause()
            if name == "cancelling":
                handle.cancel()
            return handle
        case "quarantined":
            library.submit(Play("gate"))
            gate.reached()
            handle = library.submit(Spoilt())
            Spoilt.spoilt.set()
            gate.open()
            assert next(each for each in handle.updates(timeout=PATIENCE) if each is Status.QUARANTINED)
            return handle
        case "cancelled":
            handle = library.submit(Submission(Play(), delay=3600))
            handle.cancel()
            return handle
        case _:
            handle = library.submit(Play({"completed": "nothing", "completed with errors": "warn", "failed": "fail"}[name]))
            try:
                handle.wait(PATIENCE)
            except JobFailed:
                pass
            return handle


ANSWERS: dict[str, dict[str, Status | None]] = {
    "queued": {"pause": Status.PAUSED, "resume": Status.QUEUED, "cancel": Status.CANCELLED},
    "delayed": {"pause": Status.PAUSED, "resume": Status.QUEUED, "cancel": Status.CANCELLED},
    "running": {"pause": Status.PAUSING, "resume": Status.RUNNING, "cancel": Status.CANCELLING},
    "pausing": {"pause": Status.PAUSING, "resume": Status.RUNNING, "cancel": Status.CANCELLING},
    "paused": {"pause": Status.PAUSED, "resume": Status.QUEUED, "cancel": Status.CANCELLED},
    "cancelling": {"pause": Status.CANCELLING, "resume": Status.CANCELLING, "cancel": Status.CANCELLING},
    "quarantined": {"pause": Status.QUARANTINED, "resume": Status.QUEUED, "cancel": Status.CANCELLED},
    **{ended: dict.fromkeys(("pause", "resume", "cancel")) for ended in ("completed", "completed with errors", "failed", "cancelled")},
}
"""What a command answers; None: it is refused."""


@pytest.mark.parametrize("command", ["pause", "resume", "cancel"])
@pytest.mark.parametrize("name", SCENES)
def test_every_command_in_every_status_is_answered_or_refused_and_twice_is_harmless(tmp_path: Path, name: str, command: str) -> None:
    expected = ANSWERS[name][command]
    with scene(tmp_path, name) as play:
        if expected is None:
            with pytest.raises(NotAllowed, match="it has ended and cannot be"):
                getattr(play.handle, command)()
            assert play.handle.status is SCENES[name]
            return
        assert getattr(play.handle, command)() is expected
        if (name, command) == ("quarantined", "resume"):
            return  # it runs now, alone: see the suspects' tests
        assert play.handle.status is expected
        if expected.ended:
            with pytest.raises(NotAllowed):
                getattr(play.handle, command)()
        else:
            assert getattr(play.handle, command)() is expected
        assert play.handle.status is expected


@pytest.mark.parametrize("name", SCENES)
def test_a_paused_job_stays_paused_over_a_restart_and_any_other_goes_on(tmp_path: Path, name: str) -> None:
    with scene(tmp_path, name) as play:
        job_id = play.handle.id
        play.gate.open()
        if name in ("running", "pausing", "cancelling"):
            play.handle.wait(PATIENCE)
    with stage(tmp_path) as library:
        handle = library.job(job_id)
        match name:
            case "queued" | "running" | "pausing" | "cancelling":
                assert handle.wait(PATIENCE) in (None, 0)
            case "delayed":
                assert handle.status is Status.QUEUED and handle.record().run_at is not None
            case _:
                assert handle.status is SCENES[name]


# --- while it runs ------------------------------------------------------------------------------------------------------


def until_asked(job: Play, ctx: JobContext) -> object:
    """Counts, and looks at each step."""
    ctx.services["running"].set()
    while True:
        job.done += 1
        ctx.sleep(0.001)


def test_a_pause_stops_a_job_that_looks_and_it_goes_on_from_what_its_fields_were(tmp_path: Path) -> None:
    running = threading.Event()
    resumed: list[tuple[int, bool, int]] = []

    def work(job: Play, ctx: JobContext) -> object:
        if ctx.resumed:
            resumed.append((job.done, ctx.resumed, ctx.attempt))
            return job.done
        return until_asked(job, ctx)

    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library", services={"work": work, "running": running})
        handle = library.submit(Play("work"))
        assert running.wait(PATIENCE)
        assert handle.pause() in (Status.PAUSING, Status.PAUSED)
        assert handle.pause(wait=True, timeout=PATIENCE) is Status.PAUSED
        record = handle.record()
        assert record.pausers == {Pauser.USER} and record.crashes == 0 and record.attempt == 1 and record.running_seconds > 0
        assert handle.resume() in (Status.QUEUED, Status.RUNNING)
        done = handle.wait(PATIENCE)
        assert done > 0 and resumed == [(done, True, 1)]


def test_a_cancel_stops_a_job_that_looks(tmp_path: Path) -> None:
    running = threading.Event()
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library", services={"work": until_asked, "running": running})
        handle = library.submit(Play("work"))
        assert running.wait(PATIENCE)
        assert handle.cancel(wait=True, timeout=PATIENCE) is Status.CANCELLED
        with pytest.raises(JobCancelled):
            handle.wait(PATIENCE)


@pytest.mark.parametrize("look", ["check_interrupt", "checkpoint", "sleep", "interrupted"])
def test_each_way_of_looking_sees_the_pause(tmp_path: Path, look: str) -> None:
    gate = Gate()

    def work(job: Play, ctx: JobContext) -> object:
        gate(job, ctx)
        if look == "sleep":
            ctx.sleep(PATIENCE)
        elif look == "interrupted":
            assert ctx.interrupted and ctx.interrupted
            return "saw it"
        else:
            getattr(ctx, look)()
        raise AssertionError("it did not see it")

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        gate.reached()
        assert handle.pause() is Status.PAUSING
        gate.open()
        if look == "interrupted":
            assert handle.wait(PATIENCE) == "saw it"
        else:
            assert handle.pause(wait=True, timeout=PATIENCE) is Status.PAUSED


def test_waiting_for_a_stop_gives_up_when_told_to_and_the_pause_stays_asked(tmp_path: Path) -> None:
    with scene(tmp_path, "running") as play:
        with pytest.raises(NoAnswer):
            play.handle.pause(wait=True, timeout=0.01)
        assert play.handle.status is Status.PAUSING


@pytest.mark.parametrize("asked", ["pause", "cancel"])
def test_a_run_that_returns_while_it_is_asked_to_leave_has_completed(tmp_path: Path, asked: str) -> None:
    with scene(tmp_path, "running") as play:
        getattr(play.handle, asked)()
        play.gate.open()
        assert play.handle.wait(PATIENCE) == 0
        assert play.handle.status is Status.COMPLETED


def test_cancel_beats_pause_and_nothing_leads_back(tmp_path: Path) -> None:
    gate = Gate()

    def work(job: Play, ctx: JobContext) -> object:
        gate(job, ctx)
        ctx.check_interrupt()
        return "went on"

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        gate.reached()
        assert [handle.pause(), handle.cancel(), handle.pause(), handle.resume()] == [
            Status.PAUSING, Status.CANCELLING, Status.CANCELLING, Status.CANCELLING,
        ]  # fmt: skip
        gate.open()
        with pytest.raises(JobCancelled):
            handle.wait(PATIENCE)


def test_resume_while_pausing_withdraws_the_pause_and_the_job_never_leaves(tmp_path: Path) -> None:
    gate = Gate()
    entered: list[int] = []

    def work(job: Play, ctx: JobContext) -> object:
        entered.append(1)
        gate(job, ctx)
        ctx.check_interrupt()
        ctx.checkpoint()
        ctx.sleep(0)
        return "went on"

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        gate.reached()
        for _ in range(3):
            assert (handle.pause(), handle.resume()) == (Status.PAUSING, Status.RUNNING)
        gate.open()
        assert handle.wait(PATIENCE) == "went on" and entered == [1]


def test_a_pause_withdrawn_when_the_job_had_left_already_lets_it_go_on(tmp_path: Path) -> None:
    """Its last line looks at the world after `Interrupted` was raised: by then there is no way back into `run`."""
    gate, leaving, entered = Gate(), Gate(), []

    def work(job: Play, ctx: JobContext) -> object:
        entered.append(job.done)
        job.done += 1
        if len(entered) > 1:
            return job.done
        gate(job, ctx)
        try:
            ctx.check_interrupt()
        finally:
            leaving(job, ctx)
        return None

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        gate.reached()
        handle.pause()
        gate.open()
        leaving.reached()
        assert handle.resume() is Status.RUNNING
        leaving.open()
        assert handle.wait(PATIENCE) == 2 and entered == [0, 1]
        kinds = [type(fact) for fact in library.facts_since(library.epoch, 0)]
        assert JobPaused not in kinds and JobResumed in kinds


def test_a_hundred_pauses_and_resumes_lose_no_step_and_double_none(tmp_path: Path) -> None:
    steps: list[int] = []

    def work(job: Play, ctx: JobContext) -> object:
        while job.done < 2_000:
            ctx.check_interrupt()
            steps.append(job.done)
            job.done += 1
            if job.done % 20 == 0:
                ctx.sleep(0)
        return job.done

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        for _ in range(100):
            try:
                handle.pause(wait=True, timeout=PATIENCE)
                handle.resume()
            except NotAllowed:  # it has ended
                break
        assert handle.wait(PATIENCE) == 2_000
        assert steps == list(range(2_000))


# --- pauses of the job's own ---------------------------------------------------------------------------------------------


def test_an_interrupted_that_the_author_raises_pauses_the_job_with_his_reason(tmp_path: Path) -> None:
    away = threading.Event()
    away.set()

    def work(job: Play, ctx: JobContext) -> object:
        job.done += 1
        if away.is_set():
            raise Interrupted("the network is away")
        return job.done

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        assert next(each for each in handle.updates(timeout=PATIENCE) if each is Status.PAUSED)
        record = handle.record()
        assert record.error == "the network is away" and record.pausers == {Pauser.JOB}
        paused = [fact for fact in library.facts_since(library.epoch, 0) if isinstance(fact, JobPaused)]
        assert [fact.reason for fact in paused] == ["the network is away"]
        away.clear()
        handle.resume()
        assert handle.wait(PATIENCE) == 2


def test_a_job_that_paused_itself_and_is_paused_by_a_user_runs_after_one_resume(tmp_path: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        if not ctx.resumed:
            raise Interrupted
        return "went on"

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        assert next(each for each in handle.updates(timeout=PATIENCE) if each is Status.PAUSED)
        handle.pause()
        assert handle.record().pausers == {Pauser.JOB, Pauser.USER}
        handle.resume()
        assert handle.wait(PATIENCE) == "went on"


# --- not resumable ------------------------------------------------------------------------------------------------------


def test_a_job_that_is_not_resumable_cannot_be_paused_while_it_runs_only_before_and_can_be_cancelled(tmp_path: Path) -> None:
    gate = Gate()

    def work(job: Once, ctx: JobContext) -> object:
        gate(job, ctx)
        ctx.check_interrupt()
        return "went on"

    with stage(tmp_path, running_jobs=1, work=work) as library:
        handle = library.submit(Once("work"))
        gate.reached()
        waiting = library.submit(Once())
        assert waiting.pause() is Status.PAUSED
        with pytest.raises(NotAllowed, match="not resumable: it cannot be paused, only cancelled"):
            handle.pause()
        assert handle.status is Status.RUNNING
        assert handle.cancel() is Status.CANCELLING
        gate.open()
        with pytest.raises(JobCancelled):
            handle.wait(PATIENCE)
        waiting.resume()
        assert waiting.wait(PATIENCE) is None


def test_a_job_that_is_not_resumable_and_interrupts_itself_has_failed(tmp_path: Path) -> None:
    def work(job: Once, ctx: JobContext) -> object:
        raise Interrupted("the network is away")

    with stage(tmp_path, work=work) as library:
        with pytest.raises(JobFailed, match="the network is away; the job is not resumable"):
            library.submit(Once("work")).wait(PATIENCE)
