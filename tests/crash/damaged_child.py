"""Child process: damages copies of a library, a seed each, and does with each all that is done with libraries. Prints what should not be.

Usage: damaged_child.py BASE SCRATCH FIRST COUNT. BASE holds `closed`, `crashed` and `expected.json`, as `make` left them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import shutil
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import apsw

from callboard import Job, JobContext, Runtime, Submission
from callboard.jobs.errors import CallboardError, NotDecodable
from callboard.jobs.lifecycle import Event
from callboard.jobs.record import JobFilter
from callboard.jobs.registry import REGISTRY
from callboard.jobs.submission import Submitted
from callboard.persistence.checkpoints import StoredCheckpoint, encode_head
from callboard.persistence.checksum import job_checksum
from callboard.persistence.codec import encode_value
from callboard.persistence.examination import examine
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.jobdata import new_job, restore_job
from callboard.persistence.queries import Reader
from callboard.persistence.recovery import recover
from callboard.persistence.salvage import salvage
from callboard.persistence.store import Store
from callboard.persistence.writes import Claim, End, Insert, SaveCheckpoint

PAGE = 4_096
SECONDS = 180
"""A seed that takes longer has hung."""
NOW = 1_700_000_000_000
ACTORS_EVERY = 20
"""One seed in so many goes through the runtime as well."""

ran: list[tuple[bytes, int, str, int]] = []


@dataclass
class Fuzzed(Job, name="fuzzed"):
    n: int
    pad: str
    done: int = 0

    def run(self, ctx: JobContext) -> int:
        ran.append((ctx.job_id, self.n, self.pad, self.done))
        return self.n


def pad_of(n: int) -> str:
    return "same start " * 60 + str(n) * (n * 13 % 700)


# --- the libraries that are damaged -------------------------------------------------------------------------------------


def make(base: Path) -> None:
    """`closed`, and `crashed` with half of it in its -wal; which job was submitted under which id."""
    expected: dict[str, int] = {}
    folder = LibraryFolder.open(base / "library")
    store = Store(folder, now_ms=lambda: NOW, random_bytes=os.urandom, knows=lambda name, version: True)

    def add(start: int, stop: int) -> None:
        new = [Submission(Fuzzed(n, pad_of(n)), key=f"key {n}", tags=("tag",), priority=n % 256) for n in range(start, stop)]
        for n, answer in zip(range(start, stop), store.commit([new_job(each) for each in new]), strict=True):
            assert isinstance(answer, Submitted)
            expected[answer.job_id.hex()] = n
        [claimed] = store.commit([Claim(20)])
        assert isinstance(claimed, tuple)
        parts = ("head", "", 0, encode_head(None, 0)), ("field", "done", 0, encode_value(7))
        store.commit([SaveCheckpoint(each.job_id, each.claim, 1, parts) for each in claimed])
        store.commit([End(each.job_id, each.claim, Event.RETURN, result=encode_value(each.claim)) for each in claimed[:8]])
        store.commit([End(each.job_id, each.claim, Event.FAIL, error="it failed") for each in claimed[8:14]])

    add(0, 60)
    folder.writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    add(60, 100)
    folder.abandon()
    shutil.copytree(base / "library", base / "crashed")
    LibraryFolder.open(base / "library").close()
    (base / "library").rename(base / "closed")
    (base / "expected.json").write_text(json.dumps(expected))


# --- damage -------------------------------------------------------------------------------------------------------------


def flip(raw: bytearray, rng: Random) -> None:
    """Bits here and there; often where SQLite keeps its structure."""
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        at = rng.randrange(len(raw))
        if rng.random() < 0.4:
            at = at // PAGE * PAGE + rng.randrange(100 if at < PAGE else 40)
        raw[min(at, len(raw) - 1)] ^= 1 << rng.randrange(8)


def fill(raw: bytearray, rng: Random) -> None:
    """Pages, or parts of them, of zeros, ones or noise."""
    for _ in range(rng.choice((1, 1, 3))):
        at, size = rng.randrange(len(raw) // 512) * 512, rng.choice((16, 512, PAGE))
        at = at // size * size if size == PAGE else at
        raw[at : at + size] = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))[: len(raw) - at]


def swap(raw: bytearray, rng: Random) -> None:
    """Two pages have changed places, or one stands twice."""
    one, other = (rng.randrange(1, max(2, len(raw) // PAGE)) * PAGE for _ in range(2))
    page = raw[one : one + PAGE]
    if rng.random() < 0.7:
        raw[one : one + PAGE] = raw[other : other + PAGE]
    raw[other : other + PAGE] = page


def cut(raw: bytearray, rng: Random) -> None:
    """Truncated, or longer than it was."""
    if rng.random() < 0.7:
        del raw[rng.choice((rng.randrange(len(raw)), rng.randrange(len(raw)) // PAGE * PAGE)) :]
    else:
        raw += rng.randbytes(rng.choice((1, PAGE, 3 * PAGE)))


BYTES: tuple[Callable[[bytearray, Random], None], ...] = (flip, flip, fill, swap, cut)

SCHEMAS = (
    "CREATE TRIGGER t AFTER UPDATE ON jobs BEGIN DELETE FROM jobs; END",
    "CREATE TRIGGER t BEFORE INSERT ON meta BEGIN SELECT hex(zeroblob(500000000)); END",
    "DROP TABLE jobs; CREATE VIEW jobs AS SELECT zeroblob(500000000) AS id, 'queued' AS status",
    "ALTER TABLE jobs ADD COLUMN x TEXT AS (hex(zeroblob(100000000)))",
    "DROP TABLE job_tags; CREATE VIRTUAL TABLE job_tags USING fts5(tag, job_id)",
    "DROP TABLE meta; CREATE TABLE meta (key, value AS (1))",
    "CREATE INDEX x ON jobs (length(hex(zeroblob(100000000))))",
    "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'job_history') WHERE name = 'jobs'",
    "UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'jobs'",
    "UPDATE sqlite_schema SET sql = 'CREATE TABLE jobs (' WHERE name = 'jobs'",
    "UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', 'STRICT ') WHERE name = 'jobs'",
    "DELETE FROM sqlite_schema WHERE name = 'jobs_ready'",
)
VALUES = ("NULL", "'banana'", "-1", "9223372036854775807", "x''", "x'ff'", "CAST(x'ff' AS TEXT)", "zeroblob(3000000)", "1e300", "''")
COLUMNS = (
    "limited kept_back "
    "id name version status intent pausers priority key grp parent retry_of run_at resumable retry tags requested_by created_at queued_at"
    " started_at claim attempt crashes alone excused running_ms waiting_ms warnings unresponsive after_id after_batch superseded_by error progress"
    " data checksum"
).split()  # fmt: skip
DEEP = (b"\x91" * 5_000 + b"\xc0", b"\xdd\x00\xff\xff\xff" + b"\x80" * 60_000, b"\x81\xa1n" + b"\x81\x01" * 900 + b"\xc0", b"\xc1", b"\xc9\xff\xff")


def laxly(library: Path, table: str, statements: list[str]) -> None:
    """Change rows as if the table took anything."""
    with contextlib.closing(sqlite3.connect(library / "jobs.db", isolation_level=None)) as con:
        con.execute("PRAGMA writable_schema = 1")
        strict = con.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
        con.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (strict.replace("STRICT, ", "").replace("NOT NULL", ""), table))
    with contextlib.closing(sqlite3.connect(library / "jobs.db", isolation_level=None)) as con:
        con.execute("PRAGMA writable_schema = 1")
        con.execute("PRAGMA ignore_check_constraints = 1")
        for statement in statements:
            with contextlib.suppress(sqlite3.Error):
                con.execute(statement)
        con.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (strict, table))


def by_sql(library: Path, rng: Random) -> str:
    """As somebody with SQLite's shell: the schema, values of any type, payloads that are no payloads under a checksum that fits."""
    with contextlib.closing(sqlite3.connect(library / "jobs.db", isolation_level=None)) as con:
        con.execute("PRAGMA writable_schema = 1")
        con.execute("PRAGMA ignore_check_constraints = 1")
        kind = rng.randrange(3)
        if kind == 0:
            what = rng.choice(SCHEMAS)
            with contextlib.suppress(sqlite3.Error):
                for statement in what.split("; ") if "TRIGGER" not in what else [what]:
                    con.execute(statement)
            return what
        where = f"id IN (SELECT id FROM jobs ORDER BY id LIMIT {rng.randrange(1, 30)} OFFSET {rng.randrange(60)})"
        if kind == 1:
            table = rng.choice(("jobs", "jobs", "job_history"))
            what = f"UPDATE OR IGNORE {table} SET {rng.choice(COLUMNS)} = {rng.choice(VALUES)} WHERE {where.replace('FROM jobs', 'FROM ' + table)}"
            con.close()
            laxly(library, table, [what])
            return what
        data = rng.choice(DEEP)
        for (job_id,) in con.execute(f"SELECT id FROM jobs WHERE {where}").fetchall():
            con.execute("UPDATE jobs SET data = ?, checksum = ? WHERE id = ?", (data, job_checksum("fuzzed", 1, data) + job_id[8:], job_id))
        return f"payload {data[:8]!r}"


def damage(library: Path, rng: Random) -> str:
    """Do something to it. Says what."""
    choice = rng.random()
    if choice < 0.15:
        return by_sql(library, rng)
    if choice < 0.2:
        name = rng.choice(("jobs.db-shm", "jobs.db-journal", "library.lock", "jobs.db.new", "control.sock"))
        (library / name).unlink(missing_ok=True)
        kind = rng.randrange(3)
        if kind == 0:
            (library / name).write_bytes(rng.randbytes(rng.choice((1, 40_000))))
        elif kind == 1:
            (library / name).mkdir()
        else:
            (library / name).symlink_to("/dev/null")
        return f"{name} {kind}"
    if choice < 0.22:
        (library / "jobs.db").unlink()
        with contextlib.closing(sqlite3.connect(library / "jobs.db")) as con:
            con.executescript(f"PRAGMA application_id = {rng.choice((0, 0x43425244))}; PRAGMA user_version = 2; CREATE TABLE jobs (id)")
        return "another database"
    files = [path for path in (library / "jobs.db", library / "jobs.db-wal") if path.exists() and path.stat().st_size]
    what: list[str] = []
    for path in rng.sample(files, rng.randrange(1, len(files) + 1)):
        raw = bytearray(path.read_bytes())
        change = rng.choice(BYTES)
        change(raw, rng)
        path.write_bytes(raw)
        what.append(f"{change.__name__} {path.name}")
    return ", ".join(what)


# --- what is done with each ---------------------------------------------------------------------------------------------


class Wrong(Exception):
    """Something that should not be."""


class Fuzz:
    def __init__(self, base: Path, scratch: Path) -> None:
        self.base, self.scratch = base, scratch
        self.expected: dict[str, int] = json.loads((base / "expected.json").read_text())
        self.seen: Counter[str] = Counter()

    def one(self, seed: int) -> None:
        rng = Random(f"damage {seed}")
        library = self.scratch / "library"
        for left in (library, self.scratch / "saved"):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(self.base / rng.choice(("closed", "crashed")), library)
        library.chmod(0o700)
        what = damage(library, rng)
        try:
            self.look(library)
            if rng.randrange(ACTORS_EVERY):
                self.use(library, rng)
            else:
                self.open_beside_another(library)
        except Exception as error:
            raise Wrong(f"seed {seed} ({what}): {type(error).__name__}: {error}") from error

    def look(self, library: Path) -> None:
        whole = False
        with contextlib.suppress(CallboardError):
            whole = not any(finding.damage for finding in examine(library))
        self.seen["called whole" if whole else "called damaged"] += 1
        try:
            done = salvage(library, self.scratch / "saved", NOW)
        except CallboardError:
            self.seen["nothing to salvage"] += 1
            if whole:
                raise
            return
        self.seen["rows left out"] += len(done.left_out)
        left = [finding for finding in examine(self.scratch / "saved") if finding.damage]
        if left:
            raise Wrong(f"what was saved is damaged: {left[:3]}")
        self.use(self.scratch / "saved", Random(1))

    def right(self, job_id: bytes, n: int, pad: str, done: int) -> None:
        """Nothing runs but what was submitted, as it was; and under its own id, if that is one that was given."""
        if n not in range(100) or pad != pad_of(n) or self.expected.get(job_id.hex(), n) != n or done not in (0, 7):
            raise Wrong(f"job {job_id.hex()} ran with n={n!r:.50} pad={pad!r:.50} done={done!r:.50}")
        self.seen["jobs run"] += 1

    def use(self, library: Path, rng: Random) -> None:
        """As the store does; errors of ours are all there may be."""
        try:
            folder = LibraryFolder.open(library, recover=lambda con, _, clean: recover(con, NOW, clean) and None)
        except CallboardError:
            self.seen["refused"] += 1
            return
        except apsw.Error as error:
            self.seen[f"refused with {type(error).__name__}"] += 1
            folder = None
        if folder is None:
            return
        self.seen["opened"] += 1
        try:
            try:
                store = Store(folder, now_ms=lambda: NOW, random_bytes=os.urandom, knows=REGISTRY.knows)
            except apsw.Error as error:
                self.seen[f"no store: {type(error).__name__}"] += 1
                return
            for _ in range(8):
                [claimed, answer] = store.commit([Claim(20), Insert("other", 1, b"\x80")])
                if not isinstance(claimed, tuple) or not claimed:
                    break
                for each in claimed:
                    self.run(store, folder, each)
            with contextlib.suppress(CallboardError, apsw.Error):
                reader = Reader(folder.reader(), REGISTRY.why_not)
                reader.jobs(JobFilter(limit=1_000))
                reader.history(JobFilter(limit=1_000))
                reader.statistics()
        finally:
            folder.close()

    def run(self, store: Store, folder: LibraryFolder, claimed: Any) -> None:
        try:
            saved = StoredCheckpoint.read(folder.writer, claimed.job_id).fields() if claimed.has_checkpoint else {}
            job = restore_job(claimed, saved)
        except (CallboardError, apsw.Error) as error:
            self.seen["refused to run" if isinstance(error, NotDecodable) else f"not run: {type(error).__name__}"] += 1
            return
        if isinstance(job, Fuzzed):
            self.right(claimed.job_id, job.n, job.pad, job.done)
        store.commit([End(claimed.job_id, claimed.claim, Event.RETURN)])

    def open_beside_another(self, library: Path) -> None:
        """In one runtime: whatever the damaged one does, the other one works."""
        ran.clear()
        shutil.rmtree(self.scratch / "other", ignore_errors=True)
        with Runtime(workers=1) as runtime:
            other = runtime.open_library(self.scratch / "other", control=False)
            with contextlib.suppress(CallboardError, apsw.Error):
                damaged = runtime.open_library(library, control=False)
                last = damaged.submit(Submission(Fuzzed(3, pad_of(3)), priority=255))
                last.wait(3)
            if other.submit(Fuzzed(5, pad_of(5))).wait(100) != 5:
                raise Wrong("the other library does not work")
        for each in ran:
            self.right(*each)
        self.seen["opened beside another"] += 1


def main(base: Path, scratch: Path, first: int, count: int) -> int:
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    fuzz = Fuzz(base, scratch)
    wrong: list[str] = []
    for seed in range(first, first + count):
        print(seed, end=" ", flush=True)
        signal.alarm(SECONDS)  # its default action ends the process, wherever it is
        try:
            fuzz.one(seed)
        except Wrong as error:
            wrong.append(str(error))
    signal.alarm(0)
    print(json.dumps({"wrong": wrong, "seen": fuzz.seen}))
    return 1 if wrong else 0


if __name__ == "__main__":
    base, scratch, first, count = sys.argv[1:]
    if count == "make":
        make(Path(base))
    else:
        sys.exit(main(Path(base), Path(scratch), int(first), int(count)))
