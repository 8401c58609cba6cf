"""Bare apsw: the limit that SQLite sets to everything in this table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from callboard.benchmarks.peers.peer import Peer, Store
from callboard.benchmarks.peers.sqlite_queue import SqliteQueue


class ApswPeer(Peer):
    """A table, a connection, no threads."""

    name = "apsw"
    requires = ("apsw>=3.51.3,<4",)
    claim = "fsync at each commit"
    notes = {"noop_jobs": "a loop in the caller's thread", "alone_ms": "a loop in the caller's thread"}

    def version(self) -> str:
        return f"apsw {apsw.apsw_version()} (SQLite {apsw.sqlite_lib_version()})"

    @contextmanager
    def opened(self, place: Path) -> Iterator[Store]:
        connection = apsw.Connection(str(place / "queue.db"))
        try:
            yield SqliteQueue(connection)
        finally:
            connection.close()
