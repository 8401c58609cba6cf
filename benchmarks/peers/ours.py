"""callboard itself, asked as its peers are: for the kill test, and to see that all are timed alike."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import apsw

from callboard import Job, Library, Runtime, Submission
from callboard.benchmarks.peers.peer import Peer, Settings, Store, Work, sqlite_settings

PAGE = 10_000
LATER = 86_400.0
"""Seconds. Nothing runs while only submissions are measured."""
PATIENCE = 600.0


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
        self.delay: float | None = LATER

    def settings(self) -> Settings:
        """Of the connection that writes."""
        (writer,) = filter(writes, self.connections)
        return sqlite_settings(writer.pragma)

    def submission(self, job: Work) -> Submission:
        return Submission(SyncFile(job.path, job.size, job.etag), key=job.key, group=job.group, priority=job.priority, delay=self.delay)

    def put(self, job: Work) -> object:
        return self.library.submit(self.submission(job))

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        outcome = self.library.submit_batch(map(self.submission, jobs))
        assert outcome.complete, outcome.counts
        return [self.library.job(outcome.submitted[-1])]

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        self.delay = None
        yield

    def finish(self, tickets: list[Any]) -> None:
        tickets[-1].wait(PATIENCE)
        while len(tickets) > 1 and self.library.statistics().live:
            time.sleep(0.001)

    def keys(self) -> set[str]:
        found: set[str] = set()
        after = None
        while records := self.library.jobs(after=after, limit=PAGE).records:
            found |= {record.key.decode() for record in records if record.key}
            after = records[-1].id
        return found


def writes(connection: apsw.Connection) -> bool:
    """Whether it is open, and not only for reading."""
    try:
        return not connection.readonly("main")
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
