"""What every system is asked beside which callboard is measured: the same jobs, the same four measures, and the truth about its durability.

An adapter opens its system as a `Store`: how a job is handed in, how a batch, how jobs are worked off and their ends awaited. The measures are
written once, here, so that all are timed alike: making a job's arguments and the calls; not opening, closing, or a first job that warms it up.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, ClassVar

PATIENCE = 120.0
"""Seconds that anything may take which is waited for."""
INSTALL = "pip install 'callboard[bench]'"


class Cannot(Exception):
    """The system has no such thing; the text says why, for the cell of the table."""


class TimeUp(Cannot):
    """What was waited for did not come."""


@dataclass(slots=True)
class Work:
    """One job: an action of a sync engine, about 120 bytes."""

    path: str
    size: int
    etag: str
    key: str
    """Unique."""
    group: str
    """One of 16."""
    priority: int
    """1 to 3."""

    def fields(self) -> dict[str, Any]:
        """The arguments."""
        return {"path": self.path, "size": self.size, "etag": self.etag}


def work(number: int) -> Work:
    """The job of this number: the same for every system and in every run."""
    return Work(
        f"/photos/2026/some/longer/folder/name/file-{number:07d}.jpg",
        number,
        f"d41d8cd98f00b204e9800998ecf8427e-{number}",
        f"key-{number:07d}",
        f"bucket-{number % 16}",
        1 + number % 3,
    )


@dataclass(frozen=True)
class Settings:
    """What an opened system says of its own durability, for the table; and whether a job is on disk when its submission returns."""

    text: str
    synced: bool


SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


def sqlite_settings(pragma: Callable[[str], object]) -> Settings:
    """What SQLite answers on the connection that writes; `pragma` reads one by its name.

    In WAL mode FULL syncs each commit. With a rollback journal a commit stands once the journal's removal is on disk, and only EXTRA syncs that.
    """
    mode, level = str(pragma("journal_mode")).lower(), int(str(pragma("synchronous")))
    return Settings(f"synchronous={SYNCHRONOUS[level]}, journal_mode={mode}", level >= (2 if mode in ("wal", "truncate", "persist") else 3))


LOOP = "no workers of its own: a loop in the caller's thread"


class Store:
    """One system, opened in one folder. The methods of an adapter; each may raise Cannot."""

    def __init__(self, at: Any) -> None:
        """Made there, or found there: `at` is a folder, or the address of a server in it."""

    def close(self) -> None:
        """What is stored stays."""

    def settings(self) -> Settings:
        """Read back from the opened system, not from its documentation."""
        raise NotImplementedError

    def put(self, job: Work) -> object:
        """Hand in one job; return when it is acknowledged, with what `finish` needs to find its end."""
        raise NotImplementedError

    def put_singly(self, jobs: Iterable[Work]) -> list[object]:
        """One after another, each acknowledged before the next."""
        return [self.put(job) for job in jobs]

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        """As the system's own batch."""
        raise Cannot("it has no batch: each job is handed in by itself")

    def working(self, alone: bool = False) -> AbstractContextManager[object]:
        """With its workers running; `alone`: for one job at a time, where that is set up otherwise than for many."""
        return nullcontext()

    def finish(self, tickets: list[Any]) -> None:
        """Work these off, or wait until they are: until each one's end is recorded."""
        raise NotImplementedError

    def keys(self) -> set[str]:
        """The keys of all jobs that are there."""
        raise NotImplementedError


class Peer:
    """One system: what it needs, what it claims, and its four measures. `place` is always an empty folder on the disk under test."""

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    """Distributions with version ranges; the first is the system itself."""
    claim: ClassVar[str]
    """Its durability in these settings, in one phrase."""
    store: ClassVar[type[Store]]
    notes: ClassVar[dict[str, str]] = {}
    """Measure -> what a reader should know about how it is done here."""

    _settings: Settings | None = None

    # --- whether it can run -------------------------------------------------------------------------------------------

    def missing(self) -> str | None:
        """None, or why it cannot run here, with the line that installs what is missing."""
        lacking = [text for text in self.requires if not satisfied(text)]
        return f"{', '.join(lacking)} is not installed: {INSTALL}" if lacking else None

    def version(self) -> str:
        """Of the installed distribution."""
        return f"{self.name} {installed(distribution(self.requires[0]))}"

    def served(self, place: Path) -> AbstractContextManager[Any]:
        """With its server running, whose data is in `place`: what its store is opened with."""
        return nullcontext(place)

    @contextmanager
    def opened(self, place: Path) -> Iterator[Store]:
        """The system in `place`, made there or found there."""
        with self.served(place) as at:
            store = self.store(at)
            try:
                yield store
            finally:
                store.close()

    @contextmanager
    def open(self, place: Path) -> Iterator[Store]:
        """The same, with its settings noted."""
        with self.opened(place) as store:
            self._settings = self._settings or store.settings()
            yield store

    # --- durability ---------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """Read back; it is opened in a temporary folder for that if it never was."""
        if self._settings is None:
            with tempfile.TemporaryDirectory(prefix="callboard-bench-", ignore_cleanup_errors=True) as place, self.open(Path(place)):
                pass
        assert self._settings is not None
        return self._settings

    @property
    def synced(self) -> bool:
        """Whether a job is on disk at return, by the settings read back. False where it cannot run."""
        return self._settings.synced if self._settings else not self.missing() and self.settings.synced

    def submit_for_ever(self, place: Path, acked: Callable[[str], object]) -> None:
        """For the kill test: submit one after another and say each key once it is acknowledged."""
        with self.open(place) as store:
            number = 0
            while True:
                store.put(job := work(number))
                acked(job.key)
                number += 1

    def stored(self, place: Path) -> set[str]:
        """For the kill test: the keys that are there when it is opened again."""
        with self.open(place) as store:
            return store.keys()

    # --- the measures -------------------------------------------------------------------------------------------------

    def submit_singly(self, place: Path, count: int) -> float:
        """Jobs a second, from one thread, each acknowledged before the next."""
        with self.open(place) as store:
            store.put(work(count))
            return count / seconds(lambda: store.put_singly(map(work, range(count))))

    def submit_batch(self, place: Path, count: int) -> float:
        """Jobs a second for a batch."""
        with self.open(place) as store:
            store.put(work(count))
            return count / seconds(lambda: store.put_batch(map(work, range(count))))

    def noop_jobs(self, place: Path, count: int) -> float:
        """Jobs that do nothing, a second, from the submission (as a batch where there is one) to the last recorded end."""
        with self.open(place) as store, store.working():
            store.finish([store.put(work(count))])

            def run() -> None:
                try:
                    tickets = store.put_batch(map(work, range(count)))
                except Cannot:
                    tickets = store.put_singly(map(work, range(count)))
                store.finish(tickets)

            return count / seconds(run)

    def alone_ms(self, place: Path, count: int) -> list[float]:
        """Each job alone, from its submission to its result, in milliseconds."""
        with self.open(place) as store, store.working(alone=True):
            store.finish([store.put(work(count))])
            return [1_000 * seconds(lambda: store.finish([store.put(work(number))])) for number in range(count)]  # noqa: B023 - called at once


def until(done: Callable[[], bool], nap: float, why_not: str = "its jobs do not end", alive: Callable[[], bool] = lambda: True) -> None:
    """Look each `nap` seconds. Raises TimeUp after PATIENCE, or when it is not alive."""
    ends = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > ends or not alive():
            raise TimeUp(why_not)
        time.sleep(nap)


def seconds(call: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def distribution(requirement: str) -> str:
    """The name in "name>=1,<2" or "name[extra]>=1,<2"."""
    return re.split(r"[\[<>=]", requirement)[0]


def satisfied(requirement: str) -> bool:
    """Whether a distribution in that range is installed. Pre-releases count as the release they lead to."""
    try:
        have = _numbers(installed(distribution(requirement)))
    except PackageNotFoundError:
        return False
    least, limit = (re.search(sign + r"([\d.]+)", requirement) for sign in (">=", "<"))
    return (not least or have >= _numbers(least[1])) and (not limit or have < _numbers(limit[1]))


def _numbers(version: str) -> tuple[int, ...]:
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, leading[0].split("."))) if leading else ()
