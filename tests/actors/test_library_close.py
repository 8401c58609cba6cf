"""Closing: what runs is brought to a checkpoint or left as it was, no crash is charged, and the lock outlasts the last line of user code."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykka
import pytest

from callboard import (
    Job,
    JobContext,
    JobFailed,
    Library,
    LibraryBusy,
    LibraryClosed,
    Runtime,
    Status,
    Submission,
    Task,
    TaskContext,
)
from callboard.actors.dispatcher import DispatcherActor
from callboard.actors.messages import Submit
from callboard.actors.worker import WorkerActor
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.store import Store

PATIENCE = 100.0


@pytest.fixture(autouse=True)
def little_patience_with_those_who_do_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.opened.LEAVE_SECONDS", 0.02)


@dataclass
class Play(Job, name="test_library_close.play"):
    part: str = "nothing"
    done: int = 0

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Once(Job, name="test_library_close.once", resumable=False):
    part: str = "nothing"

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Once, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Piece(Task):
    part: str
    number: int = 0

    def run(self, ctx: TaskContext) -> object:
        part: Callable[[Piece, TaskContext], object] = ctx.services[self.part]
        return part(self, ctx)


class Gate:
    """User code waits here without looking; the test sees that it has come, and lets it go."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Semaphore(0), threading.Event()

    def __call__(self, job: Any, ctx: Any) -> object:
        self._reached.release()
        assert self._open.wait(PATIENCE)
        return "through"

    def reached(self) -> None:
        assert self._reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.set()


def counting(running: threading.Event) -> Callable[[Play, JobContext], object]:
    """Looks at each step; a run that goes on says with what it began."""

    def work(job: Play, ctx: JobContext) -> object:
        if ctx.resumed:
            return job.done
        while True:
            job.done += 1
            if job.done == 5:
                running.set()
            ctx.sleep(0.001)

    return work


def test_a_job_that_looks_leaves_and_goes_on_from_its_fields_at_the_next_opening(tmp_path: Path) -> None:
    running = threading.Event()
    services = {"work": counting(running)}
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library", services=services)
        handle = library.submit(Play("work"))
        assert running.wait(PATIENCE)
        assert library.close(PATIENCE) is True
        assert library.close(PATIENCE) is True
        library = runtime.open_library(tmp_path / "library", services=services)
        done = library.job(handle.id).wait(PATIENCE)
        record = library.record(handle.id)
        assert isinstance(done, int) and done >= 5
        assert record.crashes == 0 and record.attempt == 1
        assert library.epoch == 2


def test_a_job_that_was_asked_to_pause_as_well_is_paused_at_the_next_opening(tmp_path: Path) -> None:
    gate = Gate()

    def work(job: Play, ctx: JobContext) -> object:
        gate(job, ctx)
        ctx.check_interrupt()
        return None

    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library", services={"work": work})
        handle = library.submit(Play("work"))
        gate.reached()
        handle.pause()
        closing = threading.Thread(target=library.close, args=(PATIENCE,))
        closing.start()
        gate.open()
        closing.join(PATIENCE)
        library = runtime.open_library(tmp_path / "library", services={"work": work})
        assert library.job(handle.id).status is Status.PAUSED


def assert_busy(path: Path) -> None:
    with Runtime(workers=1) as other:
        with pytest.raises(LibraryBusy):
            other.open_library(path)


def test_a_job_that_does_not_look_keeps_the_lock_until_its_last_line_and_is_left_as_it_was(tmp_path: Path) -> None:
    gate = Gate()
    path = tmp_path / "library"

    def work(job: Play, ctx: JobContext) -> object:
        job.done += 1
        if not ctx.resumed:
            gate(job, ctx)
        return job.done

    with Runtime(workers=1) as runtime:
        library = runtime.open_library(path, services={"work": work})
        handle = library.submit(Play("work"))
        gate.reached()
        assert library.close(deadline=0) is False
        assert library.close(deadline=0) is False, "it is not closed by being asked again"
        assert_busy(path)
        with pytest.raises(LibraryBusy):
            runtime.open_library(path)
        with pytest.raises(LibraryClosed):
            handle.wait(PATIENCE)
        gate.open()
        assert library.close(PATIENCE) is True
        library = runtime.open_library(path, services={"work": work})
        assert library.job(handle.id).wait(PATIENCE) == 1, "what it did after its last checkpoint is done again"
        record = library.record(handle.id)
        assert record.crashes == 0 and record.attempt == 1


def test_a_task_that_does_not_look_keeps_the_lock_too(tmp_path: Path) -> None:
    gate = Gate()
    path = tmp_path / "library"

    def work(job: Play, ctx: JobContext) -> object:
        return [handle.result() for handle in ctx.dispatcher.dispatch_many([Piece("gate"), *(Piece("gate") for _ in range(50))])]

    with Runtime(workers=1) as runtime:
        library = runtime.open_library(path, services={"work": work, "gate": gate})
        library.submit(Play("work"))
        gate.reached()
        assert library.close(deadline=0) is False
        assert_busy(path)
        gate.open()
        assert library.close(PATIENCE) is True
    Runtime(workers=1).open_library(path).close()


def test_a_runtime_that_is_closed_over_a_task_that_does_not_look_lets_the_job_leave_afterwards(tmp_path: Path) -> None:
    """Its dispatcher is gone by then: what waited for a worker must come back to the job all the same."""
    gate = Gate()
    path = tmp_path / "library"

    def work(job: Play, ctx: JobContext) -> object:
        ctx.dispatcher.dispatch_many([Piece("gate") for _ in range(50)])
        return gate(job, ctx)

    runtime = Runtime(workers=1)
    library = runtime.open_library(path, services={"work": work, "gate": gate})
    library.submit(Play("work"))
    gate.reached()
    gate.reached()
    assert runtime.close(deadline=0) is False
    assert_busy(path)
    gate.open()
    assert runtime.close(PATIENCE) is True
    Runtime(workers=1).open_library(path).close()


def test_closing_the_runtime_asks_all_libraries_at_once(tmp_path: Path) -> None:
    """One stubborn job must not use up the time of the others. Here it leaves only when the other one has."""
    gate, running = Gate(), threading.Event()

    def willing(job: Play, ctx: JobContext) -> object:
        running.set()
        try:
            ctx.sleep(PATIENCE)
        finally:
            gate.open()
        return None

    runtime = Runtime(workers=1)
    runtime.open_library(tmp_path / "stubborn", services={"gate": gate}).submit(Play("gate"))
    gate.reached()
    runtime.open_library(tmp_path / "willing", services={"willing": willing}).submit(Play("willing"))
    assert running.wait(PATIENCE)
    assert runtime.close(PATIENCE / 2) is True


def test_one_library_is_closed_and_the_other_works_on(tmp_path: Path) -> None:
    running = threading.Event()
    with Runtime(workers=1) as runtime:
        services = {"work": counting(running), "nothing": lambda job, ctx: None}
        first = runtime.open_library(tmp_path / "first", services=services)
        second = runtime.open_library(tmp_path / "second", services=services)
        first.submit(Play("work"))
        assert running.wait(PATIENCE)
        first.close(PATIENCE)
        second.submit(Play()).wait(PATIENCE)


def test_a_job_that_is_not_resumable_fails_when_the_library_closes_over_it(tmp_path: Path) -> None:
    running = threading.Event()

    def work(job: Once, ctx: JobContext) -> object:
        running.set()
        ctx.sleep(PATIENCE)
        return None

    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library", services={"work": work})
        handle = library.submit(Once("work"))
        assert running.wait(PATIENCE)
        library.close(PATIENCE)
        library = runtime.open_library(tmp_path / "library")
        with pytest.raises(JobFailed, match="the library is closing; the job is not resumable"):
            library.job(handle.id).wait(PATIENCE)


def test_what_is_submitted_while_the_library_closes_is_stored_or_refused(tmp_path: Path) -> None:
    accepted: list[bytes] = []
    refused = threading.Event()
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library")

        def submit() -> None:
            try:
                while True:
                    accepted.append(library.submit(Submission(Play(), delay=3600)).id)
                    enough.release()
            except LibraryClosed:
                refused.set()

        enough = threading.Semaphore(0)
        submitter = threading.Thread(target=submit)
        submitter.start()
        for _ in range(20):
            assert enough.acquire(timeout=PATIENCE)
        library.close(PATIENCE)
        assert refused.wait(PATIENCE)
        submitter.join(PATIENCE)
        library = runtime.open_library(tmp_path / "library")
        assert {record.id for record in library.jobs(limit=10_000).records} >= set(accepted)


def test_what_was_asked_while_the_library_stops_is_answered_not_left(tmp_path: Path) -> None:
    """A pause on its way to the store when the library stops: whoever asked hears of it at once, not after a minute."""
    with Runtime(workers=1) as runtime:
        for _ in range(20):
            library = runtime.open_library(tmp_path / "library")
            handle = library.submit(Submission(Play(), delay=3600))
            answers: list[object] = []
            begun = threading.Event()

            def steer(
                library: Library = library, job_id: bytes = handle.id, answers: list[object] = answers, begun: threading.Event = begun
            ) -> None:
                try:
                    while True:
                        library.pause(job_id)
                        library.resume(job_id)
                        begun.set()
                except LibraryClosed as error:
                    answers.append(error)

            steerer = threading.Thread(target=steer)
            steerer.start()
            assert begun.wait(PATIENCE)
            library.close(PATIENCE)
            steerer.join(PATIENCE)
            assert len(answers) == 1


def test_a_job_may_close_its_own_library(tmp_path: Path) -> None:
    opened: list[Library] = []
    closed: list[bool] = []
    left = threading.Event()

    def work(job: Play, ctx: JobContext) -> object:
        if not closed:
            closed.append(opened[0].close(deadline=0))
            left.set()
        return "done"

    with Runtime(workers=1) as runtime:
        opened.append(runtime.open_library(tmp_path / "library", services={"work": work}))
        handle = opened[0].submit(Play("work"))
        assert left.wait(PATIENCE)
        assert opened[0].close(PATIENCE) is True
        assert closed == [False]
        assert runtime.open_library(tmp_path / "library", services={"work": work}).job(handle.id).wait(PATIENCE) == "done"


def test_nothing_of_ours_is_left_running(tmp_path: Path) -> None:
    def ours() -> set[pykka.ActorRef[Any]]:
        return {ref for ref in pykka.ActorRegistry.get_all() if ref.actor_class.__module__.startswith("callboard.")}

    before = ours()
    with Runtime(workers=3) as runtime:
        library = runtime.open_library(tmp_path / "library", services={"nothing": lambda job, ctx: None})
        library.submit(Play()).wait(PATIENCE)
        assert {WorkerActor, DispatcherActor} <= {ref.actor_class for ref in ours() - before}
        begun = ours() - before
    for ref in begun:  # workers and job actors were told to stop, and are not waited for
        assert ref.actor_stopped.wait(PATIENCE), f"nobody stops {ref}"


# --- the end of the process ---------------------------------------------------------------------------------------------

CHILD = """
import os, sys, threading
from dataclasses import dataclass
from callboard import Job, Runtime, LibraryClosed

running = threading.Event()

@dataclass
class Play(Job, name="test_library_close.play"):
    part: str = "nothing"
    done: int = 0
    def run(self, ctx):
        while True:
            self.done += 1
            if self.done == 5:
                running.set()
            ctx.sleep(0.001)

runtime = Runtime(workers=1)
library = runtime.open_library(sys.argv[1])
handle = library.submit(Play("work"))
assert running.wait(100)
print(handle.id.hex(), flush=True)
"""

FORKING = """
child = os.fork()
if child == 0:
    try:
        library.submit(Play("work"))
    except LibraryClosed as error:
        assert "forked child" in str(error), error
        runtime.close()
        sys.exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
handle.pause(wait=True, timeout=100)
handle.resume()
"""


def run_child(path: Path, more: str = "", code: int = 0) -> bytes:
    done = subprocess.run([sys.executable, "-c", CHILD + more, str(path)], capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.returncode == code, done.stderr
    return bytes.fromhex(done.stdout.split()[0])


@pytest.mark.parametrize("more", ["", FORKING], ids=["exits", "forks and exits"])
def test_a_process_that_just_exits_brings_its_jobs_to_a_checkpoint(tmp_path: Path, more: str) -> None:
    job_id = run_child(tmp_path / "library", more)
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library", services={"work": counting(threading.Event())})
        done = library.job(job_id).wait(PATIENCE)
        assert isinstance(done, int) and done >= 5
        assert library.record(job_id).crashes == 0


def test_a_process_that_ends_over_a_job_it_could_not_wait_for_charges_it_with_no_crash(tmp_path: Path) -> None:
    job_id = run_child(
        tmp_path / "library",
        """
stubborn = threading.Event()
Play.run = lambda self, ctx: (stubborn.set(), threading.Event().wait(60))
handle = library.submit(Play("stubborn"))
assert stubborn.wait(100)
assert library.close(deadline=0) is False
os._exit(5)
""",
        code=5,
    )
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library", services={"work": lambda job, ctx: None, "stubborn": lambda job, ctx: None})
        records = (*library.jobs().records, *library.history().records)  # one that ends between the two is in both
        assert {record.crashes for record in records} == {0} and len({record.id for record in records}) == 2
        library.job(job_id).wait(PATIENCE)


@pytest.mark.parametrize("failed", [True, False])
def test_a_library_whose_store_has_failed_is_left_as_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: bool) -> None:
    stores: list[Store] = []

    class Watched(Store):
        def __init__(self, *given: Any, **how: Any) -> None:
            super().__init__(*given, **how)
            stores.append(self)

    monkeypatch.setattr("callboard.actors.runtime.Store", Watched)
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "failed.library")
        if failed:
            stores[0].failure = "planted: the disk"
        assert library.close(PATIENCE)
    folder = LibraryFolder.open(tmp_path / "failed.library")
    assert folder.was_clean is not failed
    folder.close()


def test_nothing_is_taken_from_under_a_commit_that_a_slow_disk_holds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.opened.STOP_SECONDS", 0.1)
    inside, on = threading.Event(), threading.Event()
    evidence = Store._evidence

    def slowly(self: Store, *given: Any) -> Any:
        found = evidence(self, *given)
        inside.set()
        assert on.wait(PATIENCE)
        return found

    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "slow.library", services={})
        monkeypatch.setattr(Store, "_evidence", slowly)
        library.tell(Submit(Submission(Play(), delay=1e6)))
        assert inside.wait(PATIENCE)
        assert not library.close(0.0)
        with pytest.raises(LibraryBusy):
            LibraryFolder.open(tmp_path / "slow.library")
        on.set()
        assert library.close(PATIENCE)
        assert runtime.open_library(tmp_path / "slow.library", services={}).statistics().live == {"queued": 1}


FORKS = """
import os, signal, sys
from callboard import Runtime
with Runtime(workers=1) as runtime:
    with runtime.open_library(sys.argv[1]) as library:
        if os.fork() == 0:
            signal.alarm(20)
            sys.exit(0)
        _, status = os.wait()
        print(status, library.statistics().live, os.path.exists(sys.argv[1] + "/control.sock"))
"""


def test_a_forked_child_that_leaves_its_parents_with_closes_nothing_and_waits_for_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKS, str(tmp_path / "library")], capture_output=True, text=True, timeout=200)
    assert done.stdout == "0 {} True\n", done.stderr
