"""The raw limits: bare apsw doing the same rows with the same durability, without any actor, decoding or user code."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import apsw

from callboard.benchmarks.ground import seconds
from callboard.benchmarks.scenario import Answer, Contender, Place
from callboard.persistence.wal import Wal

SCHEMA = """
CREATE TABLE jobs (id BLOB PRIMARY KEY, name TEXT, version INT, status TEXT, priority INT, data BLOB) STRICT, WITHOUT ROWID;
CREATE INDEX ready ON jobs (name, version, priority, id) WHERE status = 'queued';
CREATE TABLE history (id BLOB PRIMARY KEY, name TEXT, version INT, status TEXT, priority INT, data BLOB, result BLOB) STRICT, WITHOUT ROWID;
"""
INSERT = "INSERT INTO jobs VALUES (?, 'noop', 1, 'queued', 128, x'81a16e01')"
GROUP = 256
"""Jobs a commit of the bare loop."""
LONGEST, FEWEST = 1.0, 20
"""Seconds after which enough single commits have been timed; and how many there are at least."""


def connection(place: Path, schema: str = SCHEMA) -> apsw.Connection:
    """WAL, FULL, as a library has it. An empty `schema` makes no table."""
    con = apsw.Connection(str(place / "raw.db"), vfs="unix-excl")
    con.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 0")
    if schema:
        con.execute(schema)
    return con


def with_room(con: apsw.Connection) -> Wal:
    """The same room in the WAL as a library's connection keeps: without it each small commit makes the file longer, and its sync costs twice.

    After each commit `tidy` is to be called, as the library does.
    """
    wal = Wal(con)
    con.execute("CREATE TABLE room (page INT)")  # the WAL is lengthened behind a first small commit
    wal.tidy()
    return wal


def jobs_per_second(at: Place) -> float:
    """Insert and claim GROUP in one commit, move them to the history in the next."""
    con = connection(at.folder)
    wal = with_room(con)
    ids = [number.to_bytes(16, "big") for number in range(at.size)]

    def work() -> None:
        for start in range(0, at.size, GROUP):
            some = ids[start : start + GROUP]
            with con:
                con.executemany(INSERT, ((each,) for each in some))
                con.executemany("UPDATE jobs SET status = 'running' WHERE id = ?", ((each,) for each in some))
            wal.tidy()
            with con:
                con.executemany("INSERT INTO history SELECT *, NULL FROM jobs WHERE id = ?", ((each,) for each in some))
                con.executemany("DELETE FROM jobs WHERE id = ?", ((each,) for each in some))
            wal.tidy()

    rate = at.size / seconds(work)
    con.close()
    return rate


def commits_ms(at: Place) -> list[float]:
    """What each of `at.size` commits of one row takes, one thread; of fewer, where they would take longer than LONGEST in all.

    Tidying the WAL between two of them is not counted: a library does it behind its acknowledgement.
    """
    con = connection(at.folder)
    wal = with_room(con)
    took, until = [], time.perf_counter() + LONGEST
    for number in range(at.size):
        if number >= FEWEST and number % 2 == 0 and time.perf_counter() > until:
            break

        def commit(row: bytes = number.to_bytes(16, "big")) -> None:
            with con:
                con.execute(INSERT, (row,))

        took.append(1000 * seconds(commit))
        wal.tidy()
    con.close()
    return took


def commits_per_second(at: Place) -> float:
    """One row a commit, one thread."""
    took = commits_ms(at)
    return 1000 * len(took) / sum(took)


def two_commits_ms(at: Place) -> list[float]:
    """What a job alone cannot do without: one commit that queues it, one that records its end."""
    took = commits_ms(Place(at.folder, 2 * at.size, at.ground))
    return [sum(pair) for pair in zip(took[::2], took[1::2], strict=True)]


def bare(run: Callable[[Place], Answer], name: str = "bare apsw") -> Contender:
    """A raw limit as a contender."""
    return Contender(name, run, "raw", version=lambda: f"SQLite {apsw.sqlite_lib_version()}")
