"""User code at its worst: it ends in a clear state, and nobody else in the host's process is touched. Also when the process is."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pykka
import pytest

from callboard import (
    Interrupted,
    Job,
    JobCancelled,
    JobContext,
    JobFailed,
    Library,
    NotEncodable,
    RetryLater,
    RetryPolicy,
    Runtime,
    Status,
    Submission,
)
from callboard.jobs.errors import TEXT_LIMIT
from callboard.jobs.events import JobQuarantined

PATIENCE = 100.0


@dataclass
class Play(Job, name="test_job_hazards.play"):
    part: str = "nothing"
    number: int = 0
    anything: Any = None
    things: list[Any] = field(default_factory=list)

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Once(Job, name="test_job_hazards.once", resumable=False):
    part: str = "nothing"

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Once, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


class Gate:
    """A job waits here without looking; the test sees that it has come, and lets it go."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Semaphore(0), threading.Event()

    def __call__(self, job: Any = None, ctx: Any = None) -> object:
        self._reached.release()
        assert self._open.wait(PATIENCE)
        return "through"

    def reached(self) -> None:
        assert self._reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.set()


class HostActor(pykka.ThreadingActor):
    """An actor that the host has of its own, of pykka's plain kind."""

    def on_receive(self, message: Any) -> Any:
        return message


@contextmanager
def stage(folder: Path, **parts: Callable[[Any, JobContext], object]) -> Iterator[Library]:
    with Runtime(workers=2) as runtime:
        yield runtime.open_library(folder / "library", services={"nothing": lambda job, ctx: None, **parts})


# --- what comes out of run ------------------------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt("from str()")


class OddInterrupted(Interrupted):
    reason = object()  # type: ignore[assignment]

    def __init__(self) -> None: ...


class OddRetry(RetryLater):
    after = "soon"  # type: ignore[assignment]

    def __init__(self) -> None: ...


class Opaque(BaseException):
    """Neither its traceback nor its text is to be had."""

    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise SystemExit("from __traceback__")


def recurse(job: Play, ctx: JobContext) -> object:
    return recurse(job, ctx)


def raises(error: Callable[[], BaseException]) -> Callable[[Play, JobContext], object]:
    def part(job: Play, ctx: JobContext) -> object:
        raise error()

    return part


def spoils_its_progress(job: Play, ctx: JobContext) -> object:
    details: list[Any] = []
    ctx.report_phase("scan", details=details)
    details.append(object())
    return None


HAZARDS: dict[str, tuple[Callable[[Play, JobContext], object], str]] = {
    "sys.exit": (raises(lambda: SystemExit(3)), "SystemExit: 3"),
    "Ctrl-C": (raises(KeyboardInterrupt), "KeyboardInterrupt"),
    "generator exit": (raises(GeneratorExit), "GeneratorExit"),
    "recursion": (recurse, "RecursionError: maximum recursion depth"),
    "no memory": (raises(MemoryError), "MemoryError"),
    "str() raises": (raises(Unprintable), r"Unprintable: \(its str\(\) raised KeyboardInterrupt\)"),
    "100 MB": (raises(lambda: ValueError("m" * 100_000_000)), "ValueError: mmmm"),
    "surrogates": (raises(lambda: ValueError("\ud800")), r"ValueError: \\ud800"),
    "a zero byte": (raises(lambda: ValueError("a\0b")), "ValueError: a"),
    "opaque": (raises(Opaque), "Opaque"),
    "result": (lambda job, ctx: object(), "its result cannot be stored"),
    "deep result": (lambda job, ctx: deep(10_000), "its result cannot be stored"),
    "result that raises": (lambda job, ctx: Evil(), "stored|Evil|gotcha"),
    "progress": (spoils_its_progress, "cannot be stored"),
}


def deep(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


class Evil(dict[str, int]):
    def items(self) -> Any:
        raise SystemExit("gotcha")

    def __iter__(self) -> Any:
        raise SystemExit("gotcha")

    def __len__(self) -> int:
        raise SystemExit("gotcha")


@pytest.mark.parametrize("name", HAZARDS)
def test_whatever_comes_out_of_run_fails_that_job_and_touches_nobody_else(tmp_path: Path, name: str) -> None:
    part, text = HAZARDS[name]
    host = HostActor.start()
    gate = Gate()
    try:
        with stage(tmp_path, hazard=part, gate=gate) as library:
            neighbour = library.submit(Play("gate"))
            gate.reached()
            handle = library.submit(Play("hazard"))
            if name == "result that raises":  # may be stored as what it claims to be, may be refused: but it ends
                try:
                    handle.wait(PATIENCE)
                except JobFailed as error:
                    assert "gotcha" in str(error) or "stored" in str(error)
            else:
                with pytest.raises(JobFailed, match=text):
                    handle.wait(PATIENCE)
                record = handle.record()
                assert record.status is Status.FAILED and record.error is not None and len(record.error) <= TEXT_LIMIT + 100
                assert record.crashes == 0
            assert host.ask("there?", timeout=PATIENCE) == "there?"
            gate.open()
            assert neighbour.wait(PATIENCE) == "through"
            library.submit(Play()).wait(PATIENCE)
        assert host.is_alive()
    finally:
        host.stop()


def test_an_odd_reason_pauses_and_an_odd_time_retries_as_well_as_they_can(tmp_path: Path) -> None:
    def retry(job: Play, ctx: JobContext) -> object:
        if ctx.attempt == 1:
            raise OddRetry
        return ctx.attempt

    with stage(tmp_path, odd=raises(OddInterrupted), retry=retry) as library:
        handle = library.submit(Play("odd"))
        assert next(each for each in handle.updates(timeout=PATIENCE) if each is Status.PAUSED)
        assert "object object" in (handle.record().error or "")
        policy = RetryPolicy(max_attempts=2, first=0.0)
        assert library.submit(Submission(Play("retry"), retry=policy)).wait(PATIENCE) == 2


def test_a_field_that_cannot_be_stored_says_so_at_the_checkpoint_and_the_job_may_go_on(tmp_path: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        job.number = 1
        ctx.checkpoint()
        job.anything, job.number = object(), 2
        with pytest.raises(NotEncodable, match=r"anything"):
            ctx.checkpoint()
        job.anything = None
        ctx.checkpoint()
        raise Interrupted("look")

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        assert next(each for each in handle.updates(timeout=PATIENCE) if each is Status.PAUSED)
    with stage(tmp_path, work=lambda job, ctx: job.number) as library:
        handle = library.job(handle.id)
        handle.resume()
        assert handle.wait(PATIENCE) == 2


def test_a_state_that_cannot_be_stored_when_the_job_is_to_pause_fails_it(tmp_path: Path) -> None:
    running = threading.Event()

    def work(job: Play, ctx: JobContext) -> object:
        job.anything = object()
        running.set()
        ctx.sleep(PATIENCE)
        return None

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        assert running.wait(PATIENCE)
        handle.pause()
        with pytest.raises(JobFailed, match="its state cannot be stored"):
            handle.wait(PATIENCE)


def test_nothing_is_done_with_a_damaged_job_but_to_set_it_aside(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        damaged, other = library.submit(Submission(Play(), delay=3600)), library.submit(Submission(Play(), delay=3600))
    with apsw_of(tmp_path) as connection:
        connection.execute("UPDATE jobs SET data = zeroblob(20) WHERE id = ?", (damaged.id,))
        connection.execute("UPDATE jobs SET run_at = 1")  # due, now that it is damaged
    with stage(tmp_path) as library:
        library.job(other.id).wait(PATIENCE)
        handle = library.job(damaged.id)
        assert next(each for each in handle.updates(timeout=PATIENCE) if each is Status.QUARANTINED)
        assert "damaged" in (handle.record().error or "")
        facts = [fact for fact in library.facts_since(library.epoch, 0) if isinstance(fact, JobQuarantined)]
        assert [fact.job_id for fact in facts] == [damaged.id]
        assert handle.cancel() is Status.CANCELLED


@contextmanager
def apsw_of(tmp_path: Path) -> Iterator[apsw.Connection]:
    """The closed library's database."""
    connection = apsw.Connection(str(tmp_path / "library" / "jobs.db"))
    try:
        yield connection
    finally:
        connection.close()


# --- what takes the process along ------------------------------------------------------------------------------------------

CHILD = """
import ctypes, os, sys, threading
from dataclasses import dataclass, field
from typing import Any
from callboard import Job, Runtime, Status, Submission

saved, printed = threading.Event(), threading.Event()

@dataclass
class Play(Job, name="test_job_hazards.play"):
    part: str = "nothing"
    number: int = 0
    anything: Any = None
    things: list[Any] = field(default_factory=list)
    def run(self, ctx):
        return globals()[self.part](self, ctx)

@dataclass
class Once(Job, name="test_job_hazards.once", resumable=False):
    part: str = "nothing"
    def run(self, ctx):
        return globals()[self.part](self, ctx)

def steady(job, ctx):
    job.number = 5
    ctx.checkpoint()
    job.number = 6
    saved.set()
    stuck(job, ctx)

def stuck(job, ctx):
    inside.release()
    threading.Event().wait(60)

def exits(job, ctx):
    assert saved.wait(100) and printed.wait(100)
    os._exit(77)

def crashes(job, ctx):
    assert saved.wait(100) and printed.wait(100)
    ctypes.string_at(0)

def innocent(job, ctx):
    if ctx.attempt == 1 and not saved.is_set():
        saved.set()
        threading.Event().wait(60)

inside = threading.Semaphore(0)
runtime = Runtime(workers=1)
library = runtime.open_library(sys.argv[1], running_jobs=8)
"""


def die(path: Path, more: str, before: str = "") -> list[bytes]:
    """Run a process that dies by its job's own hand; the ids that it printed. `before`: what it does before it opens the library."""
    script = CHILD.replace("runtime = ", before + "\nruntime = ") + more
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.returncode in (77, -11), (done.returncode, done.stderr)
    return [bytes.fromhex(word) for word in done.stdout.split()]


@pytest.mark.parametrize("how", ["exits", "crashes"])
def test_a_job_that_takes_the_process_along_is_charged_and_the_others_go_on(tmp_path: Path, how: str) -> None:
    """One process dies with a job in every status that user code can be in."""
    ids = die(
        tmp_path / "library",
        f"""
once, pausing, cancelling = library.submit(Once("stuck")), library.submit(Play("stuck")), library.submit(Play("stuck"))
for _ in range(3): assert inside.acquire(timeout=100)
assert pausing.pause() is Status.PAUSING and cancelling.cancel() is Status.CANCELLING
going, deadly, waiting = library.submit(Play("steady")), Play("{how}"), library.submit(Submission(Play("stuck"), delay=60))
waiting.pause()
print(*[each.id.hex() for each in (once, pausing, cancelling, going, waiting)], flush=True)
printed.set()
library.submit(Submission(deadly, tags=("deadly",))).wait(100)
""",
    )

    def number(job: Play, ctx: JobContext) -> object:
        return job.number, ctx.resumed, ctx.attempt

    with stage(tmp_path, stuck=number, steady=number, exits=number, crashes=number) as library:
        once, pausing, cancelling, steady, waiting = (library.job(job_id) for job_id in ids)
        with pytest.raises(JobFailed, match="the process died while the job ran"):
            once.wait(PATIENCE)
        assert pausing.status is Status.PAUSED and pausing.record().crashes == 1
        with pytest.raises(JobCancelled):
            cancelling.wait(PATIENCE)
        assert steady.wait(PATIENCE) == (5, True, 1), "from its last checkpoint, and it is no further attempt"
        assert waiting.status is Status.PAUSED and waiting.record().crashes == 0
        deadly = library.job([*library.jobs(tag="deadly").records, *library.history(tag="deadly").records][0].id)
        assert deadly.wait(PATIENCE) == (0, True, 1) and deadly.record().crashes == 1
        pausing.resume()
        assert pausing.wait(PATIENCE) == (0, True, 1)


def test_a_job_that_dies_three_times_is_set_aside_and_the_innocent_beside_it_is_not(tmp_path: Path) -> None:
    """Both are charged twice, for nobody knows which of them it was. Then each runs alone, and it shows."""
    path = tmp_path / "library"
    innocent, deadly = die(
        path,
        """
both = library.submit(Play("innocent")), library.submit(Play("exits"))
print(*[each.id.hex() for each in both], flush=True)
printed.set()
both[1].wait(100)
""",
    )
    again = f'printed.set()\nlibrary.job(bytes.fromhex("{deadly.hex()}")).wait(100)'
    die(path, again)
    with apsw_of(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM jobs WHERE crashes = 1 AND status = 'running'").get == 2
    die(path, again, before="saved.set()")
    with stage(tmp_path, exits=lambda job, ctx: ctx.resumed) as library:
        assert library.job(innocent).wait(PATIENCE) is None
        handle = library.job(deadly)
        record = handle.record()
        assert record.status is Status.QUARANTINED and record.crashes == 3 and "died while the job ran 3 times" in (record.error or "")
        assert library.jobs(status=Status.QUARANTINED).records[0].id == deadly
        handle.resume()
        assert handle.wait(PATIENCE) is True


# --- suspects ---------------------------------------------------------------------------------------------------------------


@contextmanager
def with_suspects(tmp_path: Path, *parts: str, others: int = 0, **how: Any) -> Iterator[tuple[Library, list[bytes], list[bytes]]]:
    """A library in which these jobs have had two crashes, and some have had none."""
    with stage(tmp_path) as library:
        suspects = [library.submit(Submission(Play(part), delay=3600)).id for part in parts]
        innocent = [library.submit(Submission(Play("mark", number), delay=3600, priority=0)).id for number in range(others)]
    with apsw_of(tmp_path) as connection:
        connection.execute("UPDATE jobs SET run_at = NULL")
        for job_id in suspects:
            connection.execute("UPDATE jobs SET crashes = 2, alone = 1, claim = 2, started_at = 1 WHERE id = ?", (job_id,))
    with stage(tmp_path, **how) as library:
        yield library, suspects, innocent


def test_suspects_run_first_one_at_a_time_and_nothing_beside_them(tmp_path: Path) -> None:
    first, second = Gate(), Gate()
    order: list[object] = []

    def noted(name: str, gate: Gate) -> Callable[[Play, JobContext], object]:
        def part(job: Play, ctx: JobContext) -> object:
            order.append(name)
            gate()
            order.append(name)
            return None

        return part

    parts = {"first": noted("first", first), "second": noted("second", second), "mark": lambda job, ctx: order.append(job.number)}
    with with_suspects(tmp_path, "first", "second", others=3, **parts) as (library, suspects, others):
        first.reached()
        assert [record.status for record in library.jobs().records].count(Status.RUNNING) == 1
        late = library.submit(Submission(Play("mark", 9), priority=0))
        assert late.status is Status.QUEUED
        first.open()
        second.reached()
        second.open()
        for job_id in (*suspects, *others, late.id):
            library.job(job_id).wait(PATIENCE)
        assert order[:4] == ["first", "first", "second", "second"] and sorted(order[4:]) == [0, 1, 2, 9]  # type: ignore[type-var]


def test_a_suspect_with_a_checkpoint_behind_it_runs_beside_others_but_the_next_suspect_waits_for_its_end(tmp_path: Path) -> None:
    saved, second = Gate(), Gate()

    def saves(job: Play, ctx: JobContext) -> object:
        ctx.checkpoint()
        return saved()

    with with_suspects(tmp_path, "saves", "second", saves=saves, second=second, mark=lambda job, ctx: None) as (library, suspects, _):
        saved.reached()
        assert library.record(suspects[0]).crashes == 0
        assert library.job(suspects[1]).status is Status.QUEUED, "a crash now could be of either of them"
        saved.open()
        second.reached()
        assert library.job(suspects[0]).wait(PATIENCE) == "through"
        other = library.submit(Play("mark"))
        assert other.status is Status.QUEUED
        second.open()
        other.wait(PATIENCE)
        assert library.job(suspects[1]).wait(PATIENCE) == "through"


def test_the_only_suspect_lets_others_run_from_its_checkpoint_on(tmp_path: Path) -> None:
    saved = Gate()

    def saves(job: Play, ctx: JobContext) -> object:
        ctx.checkpoint()
        return saved()

    with with_suspects(tmp_path, "saves", others=2, saves=saves, mark=lambda job, ctx: job.number) as (library, suspects, others):
        saved.reached()
        assert [library.job(job_id).wait(PATIENCE) for job_id in others] == [0, 1]
        saved.open()
        assert library.job(suspects[0]).wait(PATIENCE) == "through"


def test_a_suspect_runs_alone_in_the_whole_process(tmp_path: Path) -> None:
    gate = Gate()
    with stage(tmp_path) as library:
        handle = library.submit(Submission(Play("gate"), delay=3600))
    with apsw_of(tmp_path) as connection:
        connection.execute("UPDATE jobs SET run_at = NULL, crashes = 2, alone = 1, claim = 2")
    busy = Gate()
    with Runtime(workers=1) as runtime:
        services = {"gate": gate, "busy": busy, "nothing": lambda job, ctx: None}
        other = runtime.open_library(tmp_path / "other", services=services)
        runs = other.submit(Play("busy"))
        busy.reached()
        library = runtime.open_library(tmp_path / "library", services=services)
        suspect = library.job(handle.id)
        assert suspect.status is Status.QUEUED, "it waits for the others to end"
        queued = other.submit(Play())
        busy.open()
        runs.wait(PATIENCE)
        gate.reached()
        assert queued.status is Status.QUEUED
        gate.open()
        assert suspect.wait(PATIENCE) == "through"
        queued.wait(PATIENCE)


@pytest.mark.parametrize("detour", ["paused", "retried", "delayed", "cancelled"])
def test_a_suspect_that_takes_a_detour_is_not_forgotten(tmp_path: Path, detour: str) -> None:
    runs: list[int] = []

    def part(job: Play, ctx: JobContext) -> object:
        runs.append(ctx.attempt)
        if detour == "retried" and ctx.attempt == 1:
            raise RetryLater(after=0.01)
        return "through"

    with stage(tmp_path) as library:
        handle = library.submit(Submission(Play("part"), delay=3600))
        if detour in ("paused", "cancelled"):
            handle.pause()
    with apsw_of(tmp_path) as connection:
        run_at = "run_at" if detour == "delayed" else "NULL"
        connection.execute(f"UPDATE jobs SET run_at = {run_at}, crashes = 2, alone = 1, claim = 2")
        if detour == "delayed":
            connection.execute("UPDATE jobs SET run_at = 1")
    with stage(tmp_path, part=part) as library:
        handle = library.job(handle.id)
        if detour == "paused":
            handle.resume()
        if detour == "cancelled":
            handle.cancel()
            library.submit(Play()).wait(PATIENCE)
        else:
            assert handle.wait(PATIENCE) == "through"
            library.submit(Play()).wait(PATIENCE)
        assert runs == {"retried": [1, 2], "cancelled": []}.get(detour, [1])
