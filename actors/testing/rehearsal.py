"""An author's own job under the simulator: the whole runtime over a real library, on virtual time, in an order that a seed decides.

What the job does to the world outside it really does. So each run has a folder of its own, and the services that were made for it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callboard.actors.door import Library
from callboard.actors.handle import JobHandle
from callboard.actors.runtime import Runtime
from callboard.actors.testing.simulated_ports import SimulatedPorts
from callboard.actors.testing.simulation import Simulation
from callboard.jobs.errors import JobError, NoAnswer
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import Status
from callboard.jobs.record import JobRecord
from callboard.jobs.submission import Submission

TAG = "callboard-rehearsal"
"""By which the next life of the process knows the job that it is about."""

LOOK_SECONDS = 3_600.0
"""Virtual seconds between two looks whether it has stopped for good without an end: paused, or quarantined."""

LOOKS_MOST = 24 * 365
STEPS_MOST = 5_000_000

JobMaker = Job | Callable[[Any], Job]
"""A job, or a function that makes one from what it finds outside: the services, else the folder."""


@dataclass(frozen=True)
class Rehearsed:
    """How a simulated run of a job went."""

    status: Status
    """How it ended; `paused` or `quarantined` if it stopped without an end."""
    result: Any
    """What `run` returned; None unless it completed."""
    error: str | None
    """Why it did not complete."""
    outside: Any
    """What `check` said; None without one."""
    seconds: float
    """Virtual time that it took."""
    trace: tuple[str, ...]
    """The latest steps, a line each: step, time, who, what."""
    trace_hash: str
    """Over all steps. The same for the same seed, as long as the job itself leaves nothing to chance."""


def simulate(
    job: JobMaker, *, seed: int = 0, services: Callable[[Path], Any] | None = None, check: Callable[[Any], object] | None = None,
    workers: int = 4, running_jobs: int = 4, folder: Path | None = None,
) -> Rehearsed:  # fmt: skip
    """Run a job to its end under the simulator: `ctx.sleep` takes hardly any time, and the seed decides who goes first.

    `services(folder)` makes what the job finds in `ctx.services`; without it that is the folder itself, which is empty. `check(services)` is
    asked at the end for what became of the world outside. `folder`: where the run has its folder, removed afterwards; None: among the
    temporary files. Raises `SimulationStuck` when nothing can go on, with who waits for what.
    """
    with Rehearsal(job, seed, services, check, workers, running_jobs, folder) as rehearsal:
        return rehearsal.run()


class Rehearsal:
    """One run. A context manager, which leaves nothing behind."""

    def __init__(
        self, job: JobMaker, seed: int, services: Callable[[Path], Any] | None, check: Callable[[Any], object] | None, workers: int,
        running_jobs: int, folder: Path | None, passed: Callable[[Rehearsal, str, object], None] | None = None,
    ) -> None:  # fmt: skip
        """`passed(self, name, about)` is called at each milestone of the first life, until the end of the job is known; it may `crash`."""
        self.simulation = _Rehearsing(seed, self._pass)
        self._folder = Path(tempfile.mkdtemp(prefix="callboard-rehearsal-", dir=folder))
        outside = self._folder / "outside"
        outside.mkdir()
        self._outside = outside if services is None else services(outside)
        made = job if isinstance(job, Job) else job(self._outside)
        self._submission = Submission(made, tags=(TAG,))
        self._check, self._workers, self._running_jobs, self._passed = check, workers, running_jobs, passed
        self._runtime: Runtime | None = None
        self._ended: tuple[JobRecord, Any, float] | None = None
        self.simulation.on_crash.append(self._bury)

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(self, *_: object) -> None:
        self._bury()
        self.simulation.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self) -> Rehearsed:
        """Live until the job has ended; after a crash boot again."""
        while self._ended is None:
            self.simulation.boot()
            self.simulation.spawn(self._live, "main")
            outcome = self.simulation.run(max_steps=STEPS_MOST)
            assert outcome == "crashed" or self._ended is not None
        record, result, seconds = self._ended
        # The dead have not been cleared away yet: what they had buffered and not written is not seen, as if they had been killed.
        outside = None if self._check is None else self._check(self._outside)
        trace, trace_hash = tuple(self.simulation.trace), self.simulation.trace_hash
        return Rehearsed(record.status, result, record.error, outside, seconds, trace, trace_hash)

    def crash(self) -> None:
        """Kill the process that runs now, from within it. Does not return."""
        self.simulation.crash()

    @property
    def job_type(self) -> type[Job]:
        return type(self._submission.job)

    def _pass(self, name: str, about: object) -> None:
        if self._passed is not None and self._ended is None and len(self.simulation.boots) == 1:
            self._passed(self, name, about)

    def _live(self) -> None:
        ports = self.simulation.boots[-1]
        self._runtime = runtime = Runtime(workers=self._workers, running_jobs=self._running_jobs, ports=ports)
        library = runtime.open_library(self._folder / "library", services=self._outside, running_jobs=self._running_jobs)
        record = _wait(self._handle(library))
        result = library.result_of(record) if record.status in (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS) else None
        self._ended = (record, result, self.simulation.now)
        runtime.close()

    def _handle(self, library: Library) -> JobHandle:
        """Of the job: submitted now, unless an earlier life has done so."""
        for page in (library.jobs(tag=TAG), library.history(tag=TAG)):
            for record in page.records:
                if record.parent is None:
                    return library.job(record.id)
        return library.submit(self._submission)

    def _bury(self) -> None:
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.abandon()


def _wait(handle: JobHandle) -> JobRecord:
    """Until it has ended, or stays as it is unless somebody comes."""
    for _ in range(LOOKS_MOST):
        with suppress(JobError, NoAnswer):
            handle.wait(LOOK_SECONDS)
        record = handle.record()
        if record.status.ended or record.status in (Status.PAUSED, Status.QUARANTINED):
            return record
    raise AssertionError(f"job {handle.id_text} has not ended after a year of virtual time: it is {handle.status}")


class _Rehearsing(Simulation):
    """A simulation whose ports tell of milestones. Time passes only when nobody can go on: a slow thread is another test's matter."""

    def __init__(self, seed: int, passed: Callable[[str, object], None]) -> None:
        super().__init__(seed, time_lapse=0.0)
        self._milestone_passed = passed

    def boot(self) -> SimulatedPorts:
        ports = _Milestones(self, len(self.boots) + 1, self._milestone_passed)
        self.boots.append(ports)
        return ports


class _Milestones(SimulatedPorts):
    def __init__(self, simulation: Simulation, number: int, passed: Callable[[str, object], None]) -> None:
        super().__init__(simulation, number)
        self._passed = passed

    def milestone(self, name: str, about: object, /) -> None:
        self.check()
        self._passed(name, about)
