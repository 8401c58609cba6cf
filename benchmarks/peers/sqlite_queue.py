"""A queue in one table of SQLite, written out in full: what the bare libraries do with no system around them. A commit each for the job, its
claim and its end; a batch is one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from callboard.benchmarks.peers.peer import LOOP, Peer, Settings, Store, Work, sqlite_settings

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, grp TEXT NOT NULL, priority INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued', data TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS ready ON jobs (priority, id) WHERE state = 'queued'",
)
PUT = "INSERT INTO jobs (key, grp, priority, data) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
CLAIM = """UPDATE jobs SET state = 'running' WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY priority, id LIMIT 1)
RETURNING id, data"""
END = "UPDATE jobs SET state = 'completed' WHERE id = ?"


class SqliteQueue(Store):
    """Over any connection that has `execute` and `executemany` and begins no transaction by itself; here the standard library's."""

    def __init__(self, place: Path) -> None:
        connection: Any = self.connect(str(place / "queue.db"))
        self.connection = connection
        for statement in ("PRAGMA journal_mode = wal", "PRAGMA synchronous = full", *SCHEMA):
            connection.execute(statement).fetchall()

    def connect(self, file: str) -> Any:
        return sqlite3.connect(file, isolation_level=None)

    def close(self) -> None:
        self.connection.close()

    def settings(self) -> Settings:
        return sqlite_settings(lambda name: self.connection.execute(f"PRAGMA {name}").fetchall()[0][0])

    def put(self, job: Work) -> object:
        self.connection.execute(PUT, row(job))
        return None

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        self.connection.execute("BEGIN IMMEDIATE")
        made = list(map(row, jobs))
        self.connection.executemany(PUT, made)
        self.connection.execute("COMMIT")
        return list(made)

    def finish(self, tickets: list[Any]) -> None:
        for _ in tickets:
            ((number, data),) = self.connection.execute(CLAIM).fetchall()
            json.loads(data)
            self.connection.execute(END, (number,))

    def keys(self) -> set[str]:
        return {key for (key,) in self.connection.execute("SELECT key FROM jobs").fetchall()}


class Sqlite3Peer(Peer):
    """The standard library's sqlite3, with the SQLite this Python was built with."""

    name = "sqlite3"
    claim = "fsync at each commit"
    store = SqliteQueue
    notes = {"noop_jobs": LOOP, "alone_ms": LOOP}

    def version(self) -> str:
        return f"sqlite3 of Python (SQLite {sqlite3.sqlite_version})"


def row(job: Work) -> tuple[object, ...]:
    return job.key, job.group, job.priority, json.dumps(job.fields())
