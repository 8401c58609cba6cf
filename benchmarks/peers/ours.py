"""callboard itself, for the kill test, asked as its peers are. Its figures are those of the scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import apsw

from callboard import Job, Library, Runtime, Submission
from callboard.benchmarks.peers.peer import Peer, Settings, Store, Work, sqlite_settings

T = TypeVar("T")

PAGE = 10_000
LATER = 86_400.0
"""Seconds: none of them runs."""


@dataclass
class SyncFile(Job, name="benchmark_peer_file"):
    """What all the others are given too."""

    path: str
    size: int
    etag: str

    def run(self, ctx: object) -> bool:
        return True


class Opened(Store):
    """One library, and the connections that were made for it."""

    def __init__(self, library: Library, connections: list[apsw.Connection]) -> None:
        self.library, self.connections = library, connections

    def settings(self) -> Settings:
        (writer,) = filter(writes, self.connections)
        return sqlite_settings(lambda name: asked(lambda: writer.pragma(name)))

    def put(self, job: Work) -> object:
        file = SyncFile(job.path, job.size, job.etag)
        return self.library.submit(Submission(file, key=job.key, group=job.group, priority=job.priority, delay=LATER))

    def keys(self) -> set[str]:
        found: set[str] = set()
        after = None
        while records := self.library.jobs(after=after, limit=PAGE).records:
            found |= {record.key.decode() for record in records if record.key}
            after = records[-1].id
        return found


def asked(question: Callable[[], T]) -> T:
    """The answer of a connection, as soon as its own thread lets it give one."""
    while True:
        with suppress(apsw.ThreadingViolationError):
            return question()


def writes(connection: apsw.Connection) -> bool:
    """Whether it is open, and not only for reading."""
    try:
        return not asked(lambda: connection.readonly("main"))
    except apsw.ConnectionClosedError:
        return False


class CallboardPeer(Peer):
    """A library with two workers."""

    name = "callboard"
    requires = ("callboard",)
    claim = "fsync at each commit, shared by all that is submitted meanwhile"

    def missing(self) -> None:
        return None

    def version(self) -> str:
        try:
            return f"callboard {version('callboard')}"
        except PackageNotFoundError:
            return "callboard (a checkout)"

    @contextmanager
    def opened(self, place: Path) -> Iterator[Store]:
        made: list[apsw.Connection] = []
        apsw.connection_hooks.append(made.append)
        try:
            with Runtime(workers=2) as runtime:
                yield Opened(runtime.open_library(place / "bench.library"), made)
        finally:
            apsw.connection_hooks.remove(made.append)
