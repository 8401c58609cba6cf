"""No-op jobs, submitted, claimed, run and recorded durably (FULL); one alone from submit to result; 16 acknowledged submitters; each also
beside one busy Python thread.

Raw limit: bare apsw doing the same rows (insert, claim, move to the history) in groups of 256 a commit, without any actor, decoding or user code;
for single submits, one row a commit. Goals: 20,000 jobs/s, p50 of one alone <= 1 ms.
"""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import apsw
from measure import Figure, busy_threads, options, pairs, scratch, seconds, show

from callboard import Job, Runtime
from callboard.actors.messages import Submit

JOBS = 20_000
ALONE = 300
SUBMITS = 4_000
BUSY_JOBS = 2_000
BUSY_SUBMITS = 400


@dataclass
class Noop(Job, name="benchmark_noop"):
    """Nothing, durably."""

    number: int

    def run(self, ctx: object) -> None:
        return None


def jobs_per_second(folder: Path, count: int) -> float:
    """From the first submit to the last end on disk, one submitting thread that waits for nothing between."""
    with scratch(folder) as place, Runtime(workers=2) as runtime:
        library = runtime.open_library(place / "noop.library")
        library.submit(Noop(0)).wait(30)

        def work() -> None:
            for number in range(count - 1):
                library.ref.tell(Submit(Noop(number)))
            library.submit(Noop(-1)).wait(300)
            while library.statistics().live:
                time.sleep(0.001)

        return count / seconds(work)


def alone_ms(folder: Path) -> list[float]:
    """Each of many, one at a time: milliseconds from submit to result."""
    with scratch(folder) as place, Runtime(workers=2) as runtime:
        library = runtime.open_library(place / "noop.library")
        library.submit(Noop(0)).wait(30)
        return sorted(1000 * seconds(lambda: library.submit(Noop(1)).wait(30)) for _ in range(ALONE))


def acknowledged_per_second(folder: Path, count: int, threads: int) -> float:
    """Submitters that each wait for the answer of one submit before they send the next; the jobs wait for tomorrow."""
    from callboard import Submission

    with scratch(folder) as place, Runtime(workers=2) as runtime:
        library = runtime.open_library(place / "noop.library")

        def submit_some() -> None:
            for number in range(count // threads):
                library.submit(Submission(Noop(number), delay=86_400))

        def work() -> None:
            some = [threading.Thread(target=submit_some) for _ in range(threads)]
            for thread in some:
                thread.start()
            for thread in some:
                thread.join()

        return count / seconds(work)


SCHEMA = """
CREATE TABLE jobs (id BLOB PRIMARY KEY, name TEXT, version INT, status TEXT, priority INT, data BLOB) STRICT, WITHOUT ROWID;
CREATE INDEX ready ON jobs (name, version, priority, id) WHERE status = 'queued';
CREATE TABLE history (id BLOB PRIMARY KEY, name TEXT, version INT, status TEXT, priority INT, data BLOB, result BLOB) STRICT, WITHOUT ROWID;
"""


def raw_connection(place: Path) -> apsw.Connection:
    con = apsw.Connection(str(place / "raw.db"), vfs="unix-excl")
    con.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 0")
    con.execute(SCHEMA)
    return con


def raw_jobs_per_second(folder: Path, count: int, group: int = 256) -> float:
    """The same rows in a bare loop: insert and claim in one commit, move to the history in the next."""
    with scratch(folder) as place:
        con = raw_connection(place)
        ids = [number.to_bytes(16, "big") for number in range(count)]

        def work() -> None:
            for start in range(0, count, group):
                some = ids[start : start + group]
                with con:
                    con.executemany("INSERT INTO jobs VALUES (?, 'noop', 1, 'queued', 128, x'81a16e01')", ((each,) for each in some))
                    con.executemany("UPDATE jobs SET status = 'running' WHERE id = ?", ((each,) for each in some))
                with con:
                    con.executemany("INSERT INTO history SELECT *, NULL FROM jobs WHERE id = ?", ((each,) for each in some))
                    con.executemany("DELETE FROM jobs WHERE id = ?", ((each,) for each in some))

        rate = count / seconds(work)
        con.close()
        return rate


def raw_commits_per_second(folder: Path, count: int) -> float:
    """One row a commit, one thread."""
    with scratch(folder) as place:
        con = raw_connection(place)

        def work() -> None:
            for number in range(count):
                with con:
                    con.execute("INSERT INTO jobs VALUES (?, 'noop', 1, 'queued', 128, x'81a16e01')", (number.to_bytes(16, "big"),))

        rate = count / seconds(work)
        con.close()
        return rate


def main() -> None:
    chosen = options(__doc__)
    where, repeats = chosen.dir, chosen.repeats
    figures = [
        pairs(
            "no-op jobs", lambda: jobs_per_second(where, JOBS), lambda: raw_jobs_per_second(where, JOBS), unit="jobs/s",
            goal=">= 20,000/s", repeats=repeats,
        ),
        pairs(
            "submits from 16 threads, each acknowledged", lambda: acknowledged_per_second(where, SUBMITS, 16),
            lambda: raw_commits_per_second(where, 1000), unit="jobs/s", goal=">= 2.5x raw, with the batches", repeats=repeats,
        ),
        pairs(
            "submits from one thread, each acknowledged", lambda: acknowledged_per_second(where, 1000, 1),
            lambda: raw_commits_per_second(where, 1000), unit="jobs/s", goal=">= 0.7x raw, with the batches", repeats=repeats,
        ),
    ]  # fmt: skip
    show(figures, chosen.json)
    alone = [alone_ms(where) for _ in range(repeats)]
    p50, p99 = (statistics.median(run[int(len(run) * share)] for run in alone) for share in (0.5, 0.99))
    commit = 1000 / statistics.median(raw_commits_per_second(where, 500) for _ in range(repeats))
    show([Figure(f"one alone, submit to result, p50 (p99 {p99:.2f} ms)", p50, 2 * commit, "ms", 2 * commit / p50, 1.0, "<= 1 ms")], chosen.json)
    with busy_threads(1):
        show(
            [
                pairs(
                    "no-op jobs beside one busy thread", lambda: jobs_per_second(where, BUSY_JOBS),
                    lambda: raw_commits_per_second(where, 50), unit="jobs/s", goal="measured; 4,000/s with the batches", repeats=min(3, repeats),
                ),
                pairs(
                    "16 acknowledged submitters beside one busy thread", lambda: acknowledged_per_second(where, BUSY_SUBMITS, 16),
                    lambda: raw_commits_per_second(where, 50), unit="jobs/s", goal="measured; 2x raw with the batches", repeats=min(3, repeats),
                ),
            ],
            chosen.json,
        )  # fmt: skip


if __name__ == "__main__":
    main()
