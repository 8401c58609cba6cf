"""The raw limits: bare apsw doing the same rows with the same durability, without any actor, decoding or user code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from callboard.benchmarks.ground import seconds
from callboard.benchmarks.scenario import Answer, Contender, Place

SCHEMA = """
CREATE TABLE jobs (id BLOB PRIMARY KEY, name TEXT, version INT, status TEXT, priority INT, data BLOB) STRICT, WITHOUT ROWID;
CREATE INDEX ready ON jobs (name, version, priority, id) WHERE status = 'queued';
CREATE TABLE history (id BLOB PRIMARY KEY, name TEXT, version INT, status TEXT, priority INT, data BLOB, result BLOB) STRICT, WITHOUT ROWID;
"""
INSERT = "INSERT INTO jobs VALUES (?, 'noop', 1, 'queued', 128, x'81a16e01')"
GROUP = 256
"""Jobs a commit of the bare loop."""


def connection(place: Path, *, schema: bool = True) -> apsw.Connection:
    """WAL, FULL, as a library has it."""
    con = apsw.Connection(str(place / "raw.db"), vfs="unix-excl")
    con.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 0")
    if schema:
        con.execute(SCHEMA)
    return con


def jobs_per_second(at: Place) -> float:
    """Insert and claim GROUP in one commit, move them to the history in the next."""
    con = connection(at.folder)
    ids = [number.to_bytes(16, "big") for number in range(at.size)]

    def work() -> None:
        for start in range(0, at.size, GROUP):
            some = ids[start : start + GROUP]
            with con:
                con.executemany(INSERT, ((each,) for each in some))
                con.executemany("UPDATE jobs SET status = 'running' WHERE id = ?", ((each,) for each in some))
            with con:
                con.executemany("INSERT INTO history SELECT *, NULL FROM jobs WHERE id = ?", ((each,) for each in some))
                con.executemany("DELETE FROM jobs WHERE id = ?", ((each,) for each in some))

    rate = at.size / seconds(work)
    con.close()
    return rate


def commits_ms(at: Place, rows: int = 1) -> list[float]:
    """What each of `at.size` commits of so many rows takes."""
    con = connection(at.folder)
    took = []
    for number in range(at.size):

        def commit(first: int = number * rows) -> None:
            with con:
                for each in range(first, first + rows):
                    con.execute(INSERT, (each.to_bytes(16, "big"),))

        took.append(1000 * seconds(commit))
    con.close()
    return took


def commits_per_second(at: Place) -> float:
    """One row a commit, one thread."""
    return at.size / (sum(commits_ms(at)) / 1000)


def two_commits_ms(at: Place) -> list[float]:
    """What a job alone cannot do without: one commit that queues it, one that records its end."""
    took = commits_ms(Place(at.folder, 2 * at.size, at.ground))
    return [sum(pair) for pair in zip(took[::2], took[1::2], strict=True)]


def bare(run: Callable[[Place], Answer], name: str = "bare apsw") -> Contender:
    """A raw limit as a contender."""
    return Contender(name, run, "raw", version=lambda: f"SQLite {apsw.sqlite_lib_version()}")
