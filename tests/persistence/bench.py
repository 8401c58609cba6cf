"""A library on a workbench: a real folder and a real store, with a clock that stands still and ids that say what they are of."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.submission import OnDuplicate, Submitted
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.queries import Reader
from callboard.persistence.recovery import Recovered, recover
from callboard.persistence.store import Place, Store
from callboard.persistence.writes import Answer, Claim, Claimed, End, Insert, Leave, SaveCheckpoint, SetIntent, Write

START_MS = 1_800_000_000_000
NOBODY = b"\0" * 16
"""An id that no job has."""


class Traced(NamedTuple):
    sql: str
    steps: int
    """Of SQLite's virtual machine: what it did, whatever the time it took."""
    scanned: int
    """Rows that were looked at without an index."""


class Bench:
    """A context manager. `knows` may be changed: the names of the types that the process knows; None: all."""

    def __init__(self, path: Path, *, place: Place | None = None) -> None:
        path.mkdir(exist_ok=True)
        self.path = path / "library"
        self.now = START_MS
        self.knows: set[str] | None = None
        self.recovered = Recovered()
        self.folder: LibraryFolder | None = None
        self.open(place)

    def open(self, place: Place | None = None) -> None:
        if place is None:
            place = self.folder = LibraryFolder.open(self.path, recover=self._recover)
        self.place = place
        self.store = Store(place, now_ms=lambda: self.now, random_bytes=os.urandom, knows=lambda name, _: not self.knows or name in self.knows)

    def _recover(self, con: apsw.Connection, epoch: int, clean: bool) -> None:
        self.recovered = recover(con, self.now, clean)

    def read_back(self) -> None:
        """Another store over the same connection: it knows nothing of what this one wrote, and reads it."""
        self.open(self.place)

    def reopen(self, *, clean: bool = False) -> Recovered:
        """As after a crash, or after closing."""
        assert self.folder is not None
        self.folder.close() if clean else self.folder.abandon()
        self.open()
        return self.recovered

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder is not None:
            self.folder.abandon()

    # --- writing ----------------------------------------------------------------------------------------------------

    def commit(self, *writes: Write) -> list[Any]:
        """One group."""
        answers: list[Answer] = self.store.commit(writes)
        return answers

    def do(self, write: Write) -> Any:
        """A group of one; raises what it answers with if that is an error."""
        [answer] = self.store.commit([write])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def add(self, name: str = "work", version: int = 1, data: bytes = b"data", **more: Any) -> bytes:
        """A new job's id."""
        answer = self.do(Insert(name, version, data, **more))
        assert isinstance(answer, Submitted) and not answer.duplicate
        return answer.job_id

    def claim(self, most: int = 100, **more: Any) -> tuple[Claimed, ...]:
        claimed: tuple[Claimed, ...] = self.do(Claim(most, **more))
        return claimed

    def start(self, **more: Any) -> Claimed:
        """A new job, claimed."""
        job_id = self.add(**more)
        return self.claim(only=(job_id,))[0]

    def in_status(self, status: Status, **more: Any) -> Claimed:
        """A job in this status. Of one that was never claimed only the id is true."""
        if status is Status.QUEUED or status is Status.PAUSED:
            job_id = self.add(**more)
            if status is Status.PAUSED:
                self.do(SetIntent(job_id, Event.PAUSE))
            return Claimed(job_id, "", 1, 0, 1, 0, False, False, 0, 0, 0, None, None, 0, None, b"", b"", False)
        if status is Status.WAITING:
            more = {"key": b"key %d" % self.con.total_changes(), **more}
            self.in_status(Status.PAUSED, name=more.get("name", "work"), key=more["key"])  # the job in front of it
            job_id = self.add(on_duplicate=OnDuplicate.REQUEUE, **more)
            return Claimed(job_id, "", 1, 0, 1, 0, False, False, 0, 0, 0, None, None, 0, None, b"", b"", False)
        claimed = self.start(**more)
        match status:
            case Status.AWAITING:
                self.do(Leave(claimed.job_id, claimed.claim, Event.AWAIT, awaits=NOBODY))
            case Status.ENDING:
                self.change(claimed.job_id, status="ending")  # as if it had a child
            case Status.PAUSING:
                self.do(SetIntent(claimed.job_id, Event.PAUSE))
            case Status.CANCELLING:
                self.do(SetIntent(claimed.job_id, Event.CANCEL))
            case Status.QUARANTINED:
                self.do(Leave(claimed.job_id, claimed.claim, Event.POISON, "damaged"))
            case Status.COMPLETED:
                self.do(End(claimed.job_id, claimed.claim, Event.RETURN))
            case Status.COMPLETED_WITH_ERRORS:
                self.do(End(claimed.job_id, claimed.claim, Event.RETURN_WITH_ERRORS))
            case Status.FAILED:
                self.do(End(claimed.job_id, claimed.claim, Event.FAIL, error="went wrong"))
            case Status.CANCELLED:
                self.do(SetIntent(claimed.job_id, Event.CANCEL))
                self.do(Leave(claimed.job_id, claimed.claim, Event.STOP))
        assert self.status(claimed.job_id) == status
        return claimed

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def con(self) -> apsw.Connection:
        return self.place.writer

    def rows(self, sql: str, *values: Any) -> list[Any]:
        return self.con.execute(sql, values).fetchall()

    def row(self, job_id: bytes, table: str = "jobs") -> dict[str, Any]:
        """All columns of a job's row; empty if there is none."""
        cursor = self.con.execute(f"SELECT * FROM {table} WHERE id = ?", (job_id,))
        for row in cursor:
            return dict(zip((column[0] for column in cursor.get_description()), row, strict=True))
        return {}

    def status(self, job_id: bytes) -> str | None:
        """Live or ended; None if there is no such job."""
        found = self.rows("SELECT status FROM jobs WHERE id = ?1 UNION ALL SELECT status FROM job_history WHERE id = ?1", job_id)
        assert len(found) <= 1, "a job is live and ended at once"
        return found[0][0] if found else None

    def contents(self) -> dict[str, list[Any]]:
        """Every row of the library, but what a group's mark changes."""
        tables = [name for (name,) in self.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")]
        return {table: [row for row in self.rows(f"SELECT * FROM {table} ORDER BY 1, 2") if row[0] != "group"] for table in tables}

    def change(self, job_id: bytes, table: str = "jobs", **columns: Any) -> None:
        """Write columns of a row behind the store's back."""
        sets = ", ".join(f"{name} = ?" for name in columns)
        self.con.execute(f"UPDATE {table} SET {sets} WHERE id = ?", (*columns.values(), job_id))
        assert self.con.changes() == 1

    def damage(self, job_id: bytes, column: str, value: str, table: str = "jobs") -> None:
        """Put an SQL expression where the schema would not let it be, as a flipped bit can: CHECK and STRICT are not asked."""
        self.con.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        strict = self.rows("SELECT sql FROM sqlite_schema WHERE name = ?", table)[0][0]
        lax = strict[: strict.rindex(")") + 1].replace("NOT NULL", "") + " WITHOUT ROWID"
        self.con.execute("PRAGMA writable_schema = ON; PRAGMA ignore_check_constraints = ON")
        self._set_schema(table, lax)
        self.con.execute(f"UPDATE {table} SET {column} = {value} WHERE {'id' if table.startswith('job') else 'key'} = ?", (job_id,))
        assert self.con.changes() == 1
        self._set_schema(table, strict)
        self.con.execute("PRAGMA writable_schema = RESET; PRAGMA ignore_check_constraints = OFF")
        self.con.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)

    def _set_schema(self, table: str, sql: str) -> None:
        self.con.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, table))
        self.con.execute(f"PRAGMA schema_version = {self.con.pragma('schema_version') + 1}")

    @contextlib.contextmanager
    def traced(self) -> Iterator[list[Traced]]:
        """The statements that are run meanwhile, each with what it cost."""
        statements: list[Traced] = []

        def take(event: Any) -> None:
            status = event["stmt_status"]
            statements.append(Traced(event["sql"].strip(), status["SQLITE_STMTSTATUS_VM_STEP"], status["SQLITE_STMTSTATUS_FULLSCAN_STEP"]))

        con = self.con
        con.trace_v2(apsw.SQLITE_TRACE_PROFILE, take)
        try:
            yield statements
        finally:
            con.trace_v2(0, None)

    def reader(self, unknown: Mapping[str, str] | None = None) -> Reader:
        """`unknown`: name of a type → why this process does not run it."""
        assert self.folder is not None
        return Reader(self.folder.reader(), lambda name, _: (unknown or {}).get(name))


def parts_of(bench: Bench, job_id: bytes) -> dict[tuple[str, str, int], bytes]:
    return {(kind, name, page): value for kind, name, page, value in bench.reader().checkpoint(job_id).parts}


def save(claimed: Claimed, sequence: int, *parts: tuple[str, str, int, bytes | None], **more: Any) -> SaveCheckpoint:
    return SaveCheckpoint(claimed.job_id, claimed.claim, sequence, parts, **more)


def ids(items: Iterable[Any]) -> list[bytes]:
    return [item.id if hasattr(item, "id") else item.job_id for item in items]
