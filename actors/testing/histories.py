"""One history: a seed, and what becomes of the whole real system under it, over the lives of a process that crashes and boots again.

The runtime, its actors and the store are the real ones, on simulated ports and a real database. `run_history(seed)` answers what was
broken; the same seed is the same history, to the last step.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from callboard.actors import runtime as runtime_module
from callboard.actors.testing.host import Host
from callboard.actors.testing.invariants import breaches
from callboard.actors.testing.observed import Died, Logged, Observed, Quiet, rows_on_disk
from callboard.actors.testing.simulation import Simulation, SimulationStuck
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import DATABASE

FIRST_STEPS = 150
"""Steps in which a life opens its library: a share of the crashes comes there."""

MOST_STEPS = 2_000
"""Steps of a life of many jobs; it dies before, or when it has come to rest."""

SOME_STEPS = 500
"""Steps in which jobs that take long have begun and not ended."""

NEVER = 1 << 60

ROOT = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())


@dataclass(frozen=True)
class Outcome:
    """What became of a history."""

    seed: int
    breaches: list[str]
    """One line each; empty: all is well."""
    report: str
    """For people: the seed, the breaches, the end of the trace."""
    steps: int
    crashes: int
    jobs: int
    fingerprint: str
    """The same for the same seed: of every step, and of everything observed. Empty if not asked for."""


def run_history(seed: int, root: Path = ROOT, *, closely: bool = False) -> Outcome:
    """Run the history of a seed, in a folder of its own below `root`, which is removed. `closely`: with a fingerprint, and all in the report."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-history-", dir=root))
    observed = Observed()
    try:
        with errors_noted(observed), Simulation(seed, hashed=closely) as simulation:
            history = History(seed, simulation, folder, observed)
            history.run()
            return history.outcome(closely)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class History:
    """One run of a seed."""

    def __init__(self, seed: int, simulation: Simulation, path: Path, observed: Observed) -> None:
        self.simulation, self.path, self.observed = simulation, path, observed
        self.rng = Random(f"history {seed}")
        self._known: list[bytes] = []
        self._folders: list[LibraryFolder] = []
        self._crashes = 0
        self._host: Host | None = None
        simulation.on_crash.append(self._bury)

    def run(self) -> None:
        """All its lives. What stops it early is written to the log as well."""
        if self.rng.random() < 0.97:
            (self.path / DATABASE).touch(0o600)
            (self.path / DATABASE).write_bytes(_template())
        hapless = self.rng.random() < 0.08
        lives = 4 if hapless else self.rng.choice((2, 2, 2, 3))
        with self._watched():
            try:
                for life in range(1, lives + 1):
                    gently = not hapless and 1 < life < lives and self.rng.random() < 0.3
                    self._live(last=life == lives, gently=gently, hapless=hapless)
            except SimulationStuck as error:
                self._note(str(error))
            except Exception as error:  # noqa: BLE001 - a script met what it did not expect
                self._note("".join(traceback.format_exception(error)))

    def outcome(self, closely: bool) -> Outcome:
        """What became of it."""
        found, simulation = breaches(self.observed.entries), self.simulation
        report, fingerprint = "", ""
        if closely:
            report = "\n".join(("what was observed:", *(f"{place:5} {entry}" for place, entry in enumerate(self.observed.entries)), ""))
            fingerprint = blake2b(f"{simulation.trace_hash} {self.observed.entries}".encode()).hexdigest()
        if found or closely:
            report += simulation.report(f"{len(found)} breaches", 1_000 if closely else 50)
            report += "\n" + "\n".join((*found, f"again: pytest tests/simulated --sim-seed {simulation.seed}"))
        return Outcome(simulation.seed, found, report, simulation.steps, self._crashes, len(self._known), fingerprint)

    # --- a life -----------------------------------------------------------------------------------------------------

    def _live(self, *, last: bool, gently: bool, hapless: bool) -> None:
        simulation = self.simulation
        ports = simulation.boot()
        life = ports.number
        host = Host(
            simulation.seed, life, ports, simulation.spawn, self.path, self.observed, self._known, lambda: self._folders[-1], hapless=hapless
        )
        self._host = host
        simulation.spawn(functools.partial(host.main, last=last), "main")
        if not last and not gently:
            first, most = (FIRST_STEPS, SOME_STEPS) if hapless else (1, FIRST_STEPS) if self.rng.random() < 0.15 else (1, MOST_STEPS)
            simulation.crash_at(simulation.steps + self.rng.randrange(first, most))
        if simulation.run() == "crashed":
            return
        self.observed.add(Quiet(life, host.rows(), host.knows))
        if last or gently:
            simulation.crash_at(NEVER)
            simulation.spawn(host.end, "end")
            simulation.run()
        else:
            simulation.crash()

    def _bury(self) -> None:
        """What an operating system does for the dead: close its connections and drop its locks. Then see what is on disk."""
        self._crashes += 1
        rows = None if self._host is None else self._host.last_rows()
        for folder in self._folders:
            folder.abandon()
        self.observed.add(Died(len(self.simulation.boots), rows_on_disk(self.path) if rows is None else rows))

    def _note(self, text: str) -> None:
        self.observed.add(Logged(len(self.simulation.boots), text))

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """The runtime as it is, save that its folders are known when it dies, and that it can die in the middle of a recovery."""
        recover = runtime_module.recover

        def recovering(*given: Any) -> object:
            self.simulation.boots[-1].yield_point("recovery: begins")
            recovered = recover(*given)
            self.simulation.boots[-1].yield_point("recovery: before commit")
            return recovered

        with (
            watched_folders(self._folders),
            mock.patch.object(runtime_module, "recover", recovering),
            mock.patch.object(runtime_module, "atexit", SimpleNamespace(register=id, unregister=id)),
        ):
            yield


@contextlib.contextmanager
def watched_folders(folders: list[LibraryFolder]) -> Iterator[None]:
    """Let `folders` have each library folder that a runtime opens, from its first moment on."""

    class WatchedFolder(LibraryFolder):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            folders.append(self)

    with mock.patch.object(runtime_module, "LibraryFolder", WatchedFolder):
        yield


@contextlib.contextmanager
def errors_noted(observed: Observed) -> Iterator[None]:
    """While a history runs, what callboard logs as an error is a breach; what it warns of is not even formatted."""
    noting = _Noting(observed)
    loggers = [logging.getLogger(name) for name in ("callboard", "pykka")]
    before = [logger.propagate for logger in loggers]
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    for logger in loggers:
        logger.addHandler(noting)
        logger.propagate = False
    try:
        yield
    finally:
        logging.disable(disabled)
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(noting)
            logger.propagate = propagate


class _Noting(logging.Handler):
    def __init__(self, observed: Observed) -> None:
        super().__init__(logging.ERROR)
        self._observed = observed

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "callboard.job":  # what a job that fails writes into its own log
            self._observed.add(Logged(0, f"{record.name}: {self.format(record)}"))


@functools.cache
def _template() -> bytes:
    """An empty library's database: making one takes longer than a history."""
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        LibraryFolder.open(folder).close()
        return (Path(folder) / DATABASE).read_bytes()
