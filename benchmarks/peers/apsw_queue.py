"""Bare apsw: the limit that SQLite sets to everything in this table."""

from __future__ import annotations

import apsw

from callboard.benchmarks.peers.peer import LOOP, Peer
from callboard.benchmarks.peers.sqlite_queue import SqliteQueue


class ApswQueue(SqliteQueue):
    """The same table and statements."""

    def connect(self, file: str) -> apsw.Connection:
        return apsw.Connection(file)


class ApswPeer(Peer):
    """A table, a connection, no threads."""

    name = "apsw"
    requires = ("apsw>=3.51.3,<4",)
    claim = "fsync at each commit"
    store = ApswQueue
    notes = {"noop_jobs": LOOP, "alone_ms": LOOP}

    def version(self) -> str:
        return f"apsw {apsw.apsw_version()} (SQLite {apsw.sqlite_lib_version()})"
