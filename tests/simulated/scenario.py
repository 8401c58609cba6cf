"""A history that is told instead of drawn: a host does one thing after the other, and the process dies where it is said.

    with scenario() as s:
        job = s.submit(Steps(5))
        s.run_until(job.started)
        s.pause(job)
        s.crash(at="store: before commit")
        s.boot()
        s.expect(job.paused)
        s.resume(job)
        s.quiet()
        s.expect(job.completed)

The seed decides the order of steps as in any history; the ordinary invariants hold at the end of each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pykka
from commits import watched_commits
from disk import Row, Stored, on_disk
from histories import ROOT, batches_cut_small, errors_noted, watched_folders
from history_jobs import JOBS
from host import Host
from invariants import breaches
from kept_libraries import connections_kept, empty_library
from observed import ClockSet, Died, Observed, Quiet
from sent_batches import SentBatch

from callboard.actors import children as children_module
from callboard.actors import crew as crew_module
from callboard.actors import runtime as runtime_module
from callboard.actors.runtime import Runtime
from callboard.actors.testing.simulated_ports import SimulatedPorts
from callboard.actors.testing.simulation import Simulation
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import Status
from callboard.jobs.registry import Registry
from callboard.jobs.submission import Submission
from callboard.persistence.folder import LibraryFolder

SOON_STEPS = 5_000
"""What is waited for comes within so many."""

Condition = Callable[[], bool]


class Told:
    """A job of a scenario: conditions that can be waited for and expected, and its row."""

    def __init__(self, scenario: Scenario, job_id: bytes = b"") -> None:
        self._scenario = scenario
        self.id = job_id
        """Empty until its submission was answered."""

    @property
    def row(self) -> Row | None:
        """As it is on disk."""
        return self._scenario.rows().get(self.id)

    def _is(self, *statuses: Status) -> bool:
        row = self.row
        return row is not None and row.status in statuses

    def queued(self) -> bool:
        return self._is(Status.QUEUED)

    def waiting(self) -> bool:
        return self._is(Status.WAITING)

    def started(self) -> bool:
        """User code of it runs, or has run."""
        return any(type(entry).__name__ == "Entered" and entry.job == self.id for entry in self._scenario.observed.entries)  # type: ignore[union-attr]

    def saved(self) -> bool:
        """A checkpoint of it was acknowledged."""
        return any(type(entry).__name__ == "Saved" and entry.job == self.id for entry in self._scenario.observed.entries)  # type: ignore[union-attr]

    def paused(self) -> bool:
        return self._is(Status.PAUSED)

    def unwound(self) -> bool:
        """It has left `run` and waits for its children."""
        return self._is(Status.AWAITING)

    def ending(self) -> bool:
        return self._is(Status.ENDING)

    def completed(self) -> bool:
        return self._is(Status.COMPLETED)

    def failed(self) -> bool:
        return self._is(Status.FAILED)

    def cancelled(self) -> bool:
        return self._is(Status.CANCELLED)

    def acknowledged(self) -> bool:
        """Its submission was answered."""
        return bool(self.id)


class Scenario:
    """Made by `scenario()`."""

    def __init__(self, simulation: Simulation, path: Path, observed: Observed, folders: list[LibraryFolder], running_jobs: int) -> None:
        self.simulation, self.observed = simulation, observed
        self._path, self._running_jobs = path, running_jobs
        self._known: list[bytes] = []
        self._sent: list[SentBatch] = []
        self.folders = folders
        self.host: Any = None
        simulation.on_crash.append(self._bury)
        self.boot()
        simulation.run(until=lambda: simulation.idle)

    # --- what the host does -----------------------------------------------------------------------------------------------

    def submit(self, job: Job | Submission, *, wait: bool = True) -> Told:
        """Submit; `wait` until it is answered."""
        told = Told(self)

        def script() -> None:
            handle = self.host.submit(job if isinstance(job, Submission) else Submission(job))
            told.id = b"" if handle is None else handle.id

        self._do(script, "submit", wait)
        return told

    def send(self, batch: SentBatch, *, wait: bool = True) -> list[Any]:
        """Send a batch, perhaps again: what became of each item; empty if it was not answered (yet)."""
        items: list[Any] = []
        self._do(lambda: items.extend(self.host.submit_batch(batch) or ()), "batch", wait)
        return items

    def pause(self, job: Told, *, wait: bool = True) -> None:
        self._do(lambda: self.host.command("pause", job.id, lambda library: library.pause(job.id)), "pause", wait)

    def resume(self, job: Told, *, wait: bool = True) -> None:
        self._do(lambda: self.host.command("resume", job.id, lambda library: library.resume(job.id)), "resume", wait)

    def cancel(self, job: Told, *, wait: bool = True) -> None:
        self._do(lambda: self.host.command("cancel", job.id, lambda library: library.cancel(job.id)), "cancel", wait)

    def stop_all(self) -> None:
        """The host stops every actor of the process, ours too."""
        self.host.loses_its_library()
        for ref in pykka.ActorRegistry.get_all():
            ref.stop(block=False)

    def children(self, job: Told) -> list[Told]:
        """Those on disk."""
        return [Told(self, row.id) for row in self.rows().values() if row.parent == job.id]

    # --- what befalls it ------------------------------------------------------------------------------------------------

    def run_until(self, condition: Condition) -> None:
        """Let it go on until this is so."""
        before = self.simulation.steps
        if self.simulation.run(until=lambda: condition() or self.simulation.steps - before > SOON_STEPS) != "until" or not condition():
            raise AssertionError(self.simulation.report(f"{_name(condition)} never came"))

    def run(self, seconds: float) -> None:
        """Let so much time pass, or less, if nothing is left to do."""
        until = self.simulation.now + seconds
        self.simulation.run(until=lambda: self.simulation.now >= until)

    def quiet(self) -> None:
        """Until nothing can go on."""
        self.simulation.run()
        stored: Stored = self.host.stored()
        self.observed.add(Quiet(self.host.life, *stored, frozenset(self._registry.names())))

    def crash(self, at: str = "") -> None:
        """Die now; or at the next point of this name, such as "store: before commit", "store: after commit", "job: look"."""
        if at:
            reached: list[bool] = []
            there = SimulatedPorts.yield_point

            def yield_point(ports: SimulatedPorts, name: str, /) -> None:
                if name == at and not ports.dead:
                    reached.append(True)
                    ports.simulation.crash()  # type: ignore[attr-defined]
                there(ports, name)

            with mock.patch.object(SimulatedPorts, "yield_point", yield_point):
                outcome = self.simulation.run()
            assert reached and outcome == "crashed", self.simulation.report(f"{at!r} was never reached")
        else:
            self.simulation.crash()

    def boot(self) -> None:
        """A new life of the process, which opens the library."""
        ports = self.simulation.boot()
        self._registry = Registry()
        for kind in JOBS:
            self._registry.add(kind)
        self.host = Host(ports.number, ports, self._path, self.observed, self._known, self._sent, self.folders)

        def begin() -> None:
            runtime = Runtime(workers=1, running_jobs=self._running_jobs, ports=ports, registry=self._registry)
            self.host.open(runtime, self._running_jobs, 3)

        self._do(begin, "boot", True)

    def set_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock forward by so much, or back."""
        self.simulation.clock_start += seconds
        self.observed.add(ClockSet(self.host.life, seconds))

    # --- what is seen -------------------------------------------------------------------------------------------------------

    def expect(self, condition: Condition | bool) -> None:
        """Raises AssertionError, with the end of the trace, if it is not so."""
        if not (condition if isinstance(condition, bool) else condition()):
            raise AssertionError(self.simulation.report(f"expected: {_name(condition)}"))

    def rows(self) -> dict[bytes, Row]:
        """All jobs on disk."""
        try:
            rows: dict[bytes, Row] = self.host.rows()
        except LookupError:
            rows = on_disk(self._path).rows
        return rows

    # --- inside -------------------------------------------------------------------------------------------------------------

    def _do(self, script: Callable[[], object], name: str, wait: bool) -> None:
        thread = self.simulation.spawn(script, name)
        if wait:
            self.run_until(lambda: thread.finished)

    def _bury(self) -> None:
        seen: Stored | None = self.host.last_seen()
        for folder in self.folders:
            folder.abandon()
        self.observed.add(Died(self.host.life, *(on_disk(self._path) if seen is None else seen)))


def _name(condition: object) -> str:
    return getattr(condition, "__qualname__", str(condition)).removeprefix("Told.")


@contextlib.contextmanager
def scenario(seed: int = 0, *, running_jobs: int = 2, kept_parents: int = 8, judged: bool = True) -> Iterator[Scenario]:
    """`seed`: of the order of steps. `kept_parents`: so many parents wait for their children inside `run`.
    `judged`: the ordinary invariants hold at its end.
    """
    observed, folders = Observed(), list[LibraryFolder]()
    path = empty_library(ROOT, "scenario")
    try:
        with (
            Simulation(seed) as simulation,
            errors_noted(observed),
            watched_folders(folders),
            watched_commits({path: observed}),
            connections_kept(),
            batches_cut_small(),
            mock.patch.object(children_module, "LOOK_AGAIN_SECONDS", None),
            mock.patch.object(crew_module, "KEPT_PARENTS", kept_parents),
            mock.patch.object(runtime_module, "atexit", mock.Mock()),
        ):
            yield Scenario(simulation, path, observed, folders, running_jobs)
            found = breaches(observed.entries) if judged else []
            assert not found, simulation.report("\n".join(found))
    finally:
        for folder in folders:
            folder.abandon()
