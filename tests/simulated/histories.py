"""One history: a seed, and what becomes of the whole real system under it, over the lives of a process that crashes and boots again.

The runtime, its actors and the store are the real ones, on simulated ports and a real database. `run_history(seed)` answers what was
broken; the same seed is the same history, to the last step.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import logging
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from commits import watched_commits
from deaths import Deaths
from disk import NOTHING, Looker, Looks, Stored, on_disk
from host import Host
from invariants import breaches
from kept_libraries import connections_kept, empty_library, is_kept
from observed import Died, Logged, Observed, Quiet
from pykka import _actor as pykka_actor_module
from pykka import _registry as pykka_registry_module
from rare_paths import RarePaths
from replaced import replaced
from scripts import Life
from sent_batches import SentBatch
from variety import Variety
from weather import Weather

from callboard.actors import children as children_module
from callboard.actors import crew as crew_module
from callboard.actors import messages
from callboard.actors import parents as parents_module
from callboard.actors import runtime as runtime_module
from callboard.actors import spawning as spawning_module
from callboard.actors import worker as worker_module
from callboard.actors.joblog import JobLog
from callboard.actors.testing.simulation import Simulation, SimulationStuck
from callboard.jobs import outcome as outcome_module
from callboard.persistence.folder import LibraryFolder

FIRST_STEPS = 150
"""Steps in which a life opens its library: a share of the crashes comes there."""

MOST_STEPS = 1_200
"""Steps of a life of many jobs; it dies before, or when it has come to rest."""

SOME_STEPS = 500
"""Steps in which jobs that take long have begun and not ended."""

CLOSING_STEPS = 60
"""Steps of a close of a library in which nothing runs."""

LIGHT = 0.9
"""So many histories do little of each kind. They cost half, and a planted defect takes as much time to find, in more of them; the rest has
what takes many jobs or lives to meet.
"""

LIGHT_STEPS = 250
"""Steps of the first life of a light one."""

FOUND = [int(line.split()[0]) for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines() if line and line[0] != "#"]
"""Seeds that once found a defect. None of them is light: each is the history that it was."""

SMALL_CHUNK = 3
"""Items of a batch that is sent by message which go in one commit."""

RUNS_A_COLLECTION = 5

QUIET_TIMERS = 100
QUIET_SECONDS = 60.0

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
    """Run the history of a seed, in a folder of its own below `root`, which is removed again.

    `closely`: with a fingerprint, and with all that happened in the report. One that breaks an invariant is run again for its report.
    """
    outcome = _run(seed, root, closely)
    return _run(seed, root, True) if outcome.breaches and not closely else outcome


def _run(seed: int, root: Path, closely: bool) -> Outcome:
    _collect_now_and_then()
    with contextlib.ExitStack() as stack:
        simulation = stack.enter_context(Simulation(seed, traced=closely))
        history = History(seed, simulation, lambda: stack.enter_context(_new_folder(root)), root)
        with errors_noted(history.places[0].observed):
            history.run()
            return history.outcome(closely)


@contextlib.contextmanager
def _new_folder(root: Path) -> Iterator[Path]:
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="callboard-history-", dir=root)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_runs = itertools.count(1)


def _collect_now_and_then() -> None:
    """Where garbage is not collected by itself: a few histories' is still at hand, that of many takes three times as long for each."""
    if next(_runs) % RUNS_A_COLLECTION == 0 and not gc.isenabled():
        gc.collect()


@dataclass
class Shelf:
    """A library over all lives: where it is, what was seen of it, which jobs were acknowledged and which batches sent, who has it open."""

    path: Path
    observed: Observed = field(default_factory=Observed)
    known: list[bytes] = field(default_factory=list)
    sent: list[SentBatch] = field(default_factory=list)
    host: Host | None = None


def is_light(seed: int) -> bool:
    """Whether the history of a seed does little of each kind."""
    return seed not in FOUND and Random(f"light {seed}").random() < LIGHT


class History:
    """One run of a seed."""

    def __init__(self, seed: int, simulation: Simulation, new_folder: Callable[[], Path], root: Path) -> None:
        """`new_folder`: for a library that is to be made; `root`: where those are kept that are there already."""
        self.simulation = simulation
        self.rng = Random(f"history {seed}")
        self._light = is_light(seed)
        names = ("one", "two") if self.rng.random() < 0.06 and not self._light else ("one",)
        self.places = [
            Shelf(empty_library(root, name) if self._light or self.rng.random() < 0.97 else new_folder() / name) for name in names
        ]
        self._folders: list[LibraryFolder] = []
        self._crashes = 0
        self._weather = Weather(simulation, self._note)
        self._variety = Variety(seed, light=self._light)
        simulation.on_crash.append(self._bury)

    def run(self) -> None:
        """All its lives. What stops it early is written to the log as well."""
        for shelf in self.places:
            shelf.path.mkdir(0o700, exist_ok=True)
        hapless = self.rng.random() < 0.08 and not self._light
        lives = 4 if hapless else 2 if self._light else self.rng.choice((2, 2, 2, 2, 3))
        with self._watched():
            try:
                for life in range(1, lives + 1):
                    self._live(last=life == lives, gently=not hapless and 1 < life and self.rng.random() < 0.3, hapless=hapless)
            except SimulationStuck as error:
                self._note(str(error))
            except Exception as error:  # noqa: BLE001 - a script met what it did not expect
                self._note("".join(traceback.format_exception(error)))
            finally:
                for folder in self._folders:  # the next history may be in the same place
                    folder.abandon()

    def outcome(self, closely: bool) -> Outcome:
        """What became of it."""
        simulation = self.simulation
        found = [f"{shelf.path.name}: {breach}" for shelf in self.places for breach in breaches(shelf.observed.entries)]
        report, fingerprint = "", ""
        if closely:
            log = [f"{shelf.path.name} {place:5} {entry}" for shelf in self.places for place, entry in enumerate(shelf.observed.entries)]
            report = "\n".join(("what was observed:", *log, ""))
            fingerprint = blake2b(f"{simulation.trace_hash} {log}".encode()).hexdigest()
        if found or closely:
            report += simulation.report(f"{len(found)} breaches", 1_000 if closely else 50)
            report += "\n" + "\n".join((*found, f"again: pytest tests/simulated --sim-seed {simulation.seed}"))
        jobs = sum(len(shelf.known) for shelf in self.places)
        return Outcome(simulation.seed, found, report, simulation.steps, self._crashes, jobs, fingerprint)

    # --- a life -----------------------------------------------------------------------------------------------------

    def _live(self, *, last: bool, gently: bool, hapless: bool) -> None:
        simulation, rng = self.simulation, self.rng
        ports = simulation.boot()
        hosts: list[Host] = []
        for shelf in self.places:
            shelf.host = Host(ports.number, ports, shelf.path, shelf.observed, shelf.known, shelf.sent, self._folders)
            hosts.append(shelf.host)
        life = Life(simulation.seed, hosts, self._weather.spawn, last=last, hapless=hapless, light=self._light, variety=self._variety)
        self._weather.spawn(life.main, "main")
        self._weather.begin(hosts, life.waiting, last or gently)
        if not (last or gently):
            most_steps = LIGHT_STEPS if self._light else MOST_STEPS
            first, most = (FIRST_STEPS, SOME_STEPS) if hapless else (1, FIRST_STEPS) if rng.random() < 0.15 else (1, most_steps)
            simulation.crash_at(simulation.steps + rng.randrange(first, most))
        if simulation.run(until=self._nothing_new() if life.waiting else None, when_idle=life.waiting) == "crashed":
            return
        if self._weather.stopped:
            simulation.crash()
            return
        if any(thread.script for thread in ports.threads):
            self._note(simulation.report("nothing happens any more, and a script waits"))
        for host in hosts:
            host.observed.add(Quiet(ports.number, *host.stored(), life.knows))
        simulation.crash_at(NEVER)
        if (planning := life.planning()) is not None:
            simulation.spawn(planning, "planning")
            simulation.run(until=self._nothing_new() if life.waiting else None, when_idle=life.waiting)
            hosts[0].observed.add(Quiet(ports.number, *hosts[0].stored(), life.knows))
        if (last and not self._light) or gently or rng.random() < 0.5:
            simulation.spawn(life.end, "end")
            if not (last or gently):
                simulation.crash_at(simulation.steps + rng.randrange(1, CLOSING_STEPS))
            if simulation.run() == "crashed" or last or gently:
                return
        simulation.crash()

    def _nothing_new(self) -> Callable[[], bool]:
        """For parents that wait for a child which nobody resumes: somebody looks every second whether it still runs, so timers never end.

        It is quiet when all wait, and have done so for many timers and a minute, in which nothing was observed.
        """
        simulation, logs = self.simulation, [shelf.observed.entries for shelf in self.places]
        seen, since, timers = 0, 0.0, 0

        def quiet() -> bool:
            nonlocal seen, since, timers
            now = sum(map(len, logs))
            if now != seen:
                seen, since, timers = now, simulation.now, 0
            else:
                timers += 1
            return timers >= QUIET_TIMERS and simulation.now - since >= QUIET_SECONDS

        return quiet

    def _bury(self) -> None:
        """What an operating system does for the dead: close its connections and drop its locks. Then see what is on disk."""
        self._crashes += 1
        seen = [None if shelf.host is None else shelf.host.last_seen() for shelf in self.places]
        for folder in self._folders:
            folder.abandon()
        for shelf, stored in zip(self.places, seen, strict=True):
            shelf.observed.add(Died(len(self.simulation.boots), *(on_disk(shelf.path) if stored is None else stored)))

    def _note(self, text: str) -> None:
        self.places[0].observed.add(Logged(len(self.simulation.boots), text))

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """The runtime as it is, save that its folders and commits are watched, that it can die in the middle of a recovery, that batches are
        cut small, and that its connections may have been others' before.
        """
        recover = vars(runtime_module)["recover"]

        def recovering(*given: Any) -> object:
            self.simulation.boots[-1].yield_point("recovery: begins")
            recovered = recover(*given)
            self.simulation.boots[-1].yield_point("recovery: before commit")
            return recovered

        with (
            watched_folders(self._folders),
            watched_commits({shelf.path: shelf.observed for shelf in self.places}),
            self._weather.over(),
            connections_kept(),
            batches_cut_small(),
            replaced(
                (runtime_module, "recover", recovering),
                # Who waits is told of every end of its children, as none has a key: to look again now and then would hide that it was not.
                (children_module, "LOOK_AGAIN_SECONDS", None),
                (spawning_module, "CHUNK_ROWS", SMALL_CHUNK),
                (crew_module, "KEPT_PARENTS", self.simulation.seed // 7 % 3),
                (parents_module, "CASCADE_ROWS", 2),
                (runtime_module, "atexit", _NOT_AT_EXIT),
                (pykka_actor_module, "uuid", SimpleNamespace(uuid4=map(_Named, itertools.count()).__next__)),
                (pykka_actor_module, "threading", SimpleNamespace(Event=_Flag)),
                *((module, "logger", _terse(module.logger)) for module in (pykka_actor_module, pykka_registry_module)),
                *(_LEFT_OUT if self._light else ()),
            ),
            Deaths(self.simulation.seed).over(),
            self._variety.over(self.simulation, self.places[0].observed.add),
            RarePaths(self.simulation.seed).over(),
        ):
            yield


# For people, and read by nobody here: a traceback of each failure, the log file of each job. And a look for damage that no history does.
_LEFT_OUT = (
    (outcome_module, "traceback_text", lambda error: "somewhere"),
    (worker_module, "traceback_text", lambda error: "somewhere"),
    (JobLog, "log", lambda log, *what, **more: None),
    (LibraryFolder, "_read_through", lambda folder: None),
)
_NOT_AT_EXIT = SimpleNamespace(register=id, unregister=id)


class _Named:
    """A name for an actor. pykka's own take as long as a commit each: the system is asked for random bytes."""

    def __init__(self, number: int) -> None:
        self.urn = f"urn:actor:{number}"


class _Flag:
    """The event by which pykka knows that an actor has stopped, for one thread: it is asked twice a message."""

    def __init__(self) -> None:
        stops: list[None] = []
        self.is_set = stops.__len__
        self.set = functools.partial(stops.append, None)


def _terse(logger: logging.Logger) -> Any:
    """Does not even ask who wants to know of what went well: a history starts and stops two dozen actors."""
    return SimpleNamespace(debug=id, info=logger.info, warning=logger.warning, error=logger.error, exception=logger.exception)


def batches_cut_small() -> Any:
    """A few items are many: what is sent by message goes in chunks of `SMALL_CHUNK`. For what is sent by a method, `open_library` takes the size."""
    return replaced((messages, "BATCH_ROWS", SMALL_CHUNK), (messages, "CHUNK_ROWS", SMALL_CHUNK))


@contextlib.contextmanager
def watched_folders(folders: list[LibraryFolder]) -> Iterator[None]:
    """Let `folders` have each library folder that a runtime opens, from its first moment on; `last`: with what it was closed."""
    _FOLDERS.append(folders)
    try:
        with replaced((runtime_module, "LibraryFolder", WatchedFolder)):
            yield
    finally:
        _FOLDERS.pop()


_FOLDERS: list[list[LibraryFolder]] = []
"""Where they go now, the last one."""


def _yes() -> bool:
    return True


class WatchedFolder(LibraryFolder):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.last: Stored = NOTHING
        self.looks = Looks()
        if is_kept(self.path):  # it is asked before every commit
            setattr(self, "in_place", _yes)  # noqa: B010 - a method of this one alone
        _FOLDERS[-1].append(self)

    def close(self, clean: bool = True) -> None:
        if self.lock.held and self._writer is not None:
            self.last = Looker(self._writer).stored()
        super().close(clean)


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
        if record.name == "callboard.job":  # one that fails writes into its own log
            return
        text = self.format(record)
        # A job that a close has not waited for finds nobody who would write down how it ended.
        if "the library's store has stopped" not in text:
            self._observed.add(Logged(0, f"{record.name}: {text}"))
