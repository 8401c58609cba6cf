"""The standard library's sqlite3: the same table, with the SQLite this Python was built with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from callboard.benchmarks.peers.peer import Peer, Store
from callboard.benchmarks.peers.sqlite_queue import SqliteQueue


class Sqlite3Peer(Peer):
    """A table, a connection, no threads."""

    name = "sqlite3"
    claim = "fsync at each commit"
    notes = {"noop_jobs": "a loop in the caller's thread", "alone_ms": "a loop in the caller's thread"}

    def version(self) -> str:
        return f"sqlite3 of Python (SQLite {sqlite3.sqlite_version})"

    @contextmanager
    def opened(self, place: Path) -> Iterator[Store]:
        with closing(sqlite3.connect(place / "queue.db", isolation_level=None)) as connection:
            yield SqliteQueue(connection)
