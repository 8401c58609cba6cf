"""The read side of a library: its own read-only connection, which never waits behind a write."""

from __future__ import annotations

import json
from collections.abc import Callable

import apsw

from callboard.jobs.errors import NoSuchJob
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import Status, pausers
from callboard.jobs.progress import Progress
from callboard.jobs.record import JobFilter, JobRecord, Statistics, Warned
from callboard.jobs.submission import key_bytes
from callboard.persistence.checkpoints import StoredCheckpoint
from callboard.persistence.codec import decode_value

LIVE_COLUMNS = (
    "id, name, version, status, priority, key, grp, tags, requested_by, retry_of, created_at, run_at, started_at, NULL, attempt, crashes,"
    " running_ms, waiting_ms, warnings, error, progress, pausers, unresponsive, alone, NULL, NULL, NULL"
)
ENDED_COLUMNS = (
    "id, name, version, status, priority, key, grp, tags, requested_by, retry_of, created_at, NULL, started_at, ended_at, attempt, crashes,"
    " running_ms, waiting_ms, warnings, error, progress, 0, NULL, 0, traceback, metrics, result"
)


def progress_from(blob: bytes | None) -> Progress | None:
    """A stored reading; None where there is none or it does not fit (a reading is never worth an error)."""
    if not blob:
        return None
    try:
        stored = decode_value(blob)
        return Progress(**stored) if isinstance(stored, dict) else None
    except Exception:  # noqa: BLE001
        return None


class Reader:
    """Questions about jobs. Owned by one thread at a time; each question is one snapshot."""

    def __init__(self, connection: apsw.Connection, why_passed_over: Callable[[str, int], str | None]) -> None:
        self._con = connection
        self._why = why_passed_over

    def job(self, job_id: bytes) -> JobRecord:
        """One job, live or ended. Raises `NoSuchJob`."""
        for table, columns in (("jobs", LIVE_COLUMNS), ("job_history", ENDED_COLUMNS)) * 2:  # twice: it may move between the two looks
            row = self._con.execute(f"SELECT {columns} FROM {table} WHERE id = ?", (job_id,)).fetchone()
            if row is not None:
                return self._record(row)
        raise NoSuchJob(f"no job {id_text(job_id)} in this library")

    def jobs(self, wanted: JobFilter) -> list[JobRecord]:
        """Live jobs in order of arrival."""
        return self._list("jobs", LIVE_COLUMNS, wanted, ">", "ASC")

    def history(self, wanted: JobFilter) -> list[JobRecord]:
        """Ended jobs, the latest arrival first."""
        return self._list("job_history", ENDED_COLUMNS, wanted, "<", "DESC")

    def with_key(self, name: str, key: bytes) -> bytes | None:
        """The id of the live job that has this key."""
        found: bytes | None = self._con.execute("SELECT id FROM jobs WHERE name = ? AND key = ?", (name, key)).get
        return found

    def warnings(self, job_id: bytes, after: int = 0, limit: int = 1000) -> list[Warned]:
        rows = self._con.execute(
            "SELECT n, item, message FROM job_warnings WHERE job_id = ? AND n > ? ORDER BY n LIMIT ?", (job_id, after, limit)
        )
        return [Warned(*row) for row in rows.fetchall()]

    def checkpoint(self, job_id: bytes) -> StoredCheckpoint:
        """Raises `NotDecodable` if a part is damaged."""
        return StoredCheckpoint.read(self._con, job_id)

    def statistics(self) -> Statistics:
        live = dict(self._con.execute("SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status").fetchall())
        ended = dict(self._con.execute("SELECT status, count(*) FROM job_history GROUP BY status ORDER BY status").fetchall())
        due = self._con.execute("SELECT min(run_at) FROM jobs WHERE run_at IS NOT NULL").get
        return Statistics(live, ended, None if due is None else due / 1000)

    def ids_of(self, statuses: tuple[Status, ...]) -> list[bytes]:
        """Ids of the live jobs in these statuses, in order of arrival."""
        marks = ", ".join("?" * len(statuses))
        return [row[0] for row in self._con.execute(f"SELECT id FROM jobs WHERE status IN ({marks}) ORDER BY id", statuses).fetchall()]

    def closed(self) -> bool:
        """True if the connection was closed, here or with the library's others."""
        try:
            self._con.get_autocommit()
        except apsw.ConnectionClosedError:
            return True
        return False

    def close(self) -> None:
        self._con.close()

    def _list(self, table: str, columns: str, wanted: JobFilter, behind: str, order: str) -> list[JobRecord]:
        where, values = ["true"], []
        for column, value in (("name", wanted.name), ("grp", wanted.group), ("requested_by", wanted.requested_by)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if wanted.key is not None:
            where.append("key = ?")
            values.append(key_bytes(wanted.key))
        if wanted.statuses is not None:
            where.append(f"status IN ({', '.join('?' * len(wanted.statuses))})")
            values += [str(status) for status in wanted.statuses]
        if wanted.after is not None:
            where.append(f"id {behind} ?")
            values.append(wanted.after)
        source = table
        if wanted.tag is not None:
            source = f"(SELECT job_id AS id FROM job_tags WHERE tag = ?) JOIN {table} USING (id)"
            values.insert(0, wanted.tag)
        sql = f"SELECT {columns} FROM {source} WHERE {' AND '.join(where)} ORDER BY id {order} LIMIT ?"
        return [self._record(row) for row in self._con.execute(sql, (*values, wanted.limit)).fetchall()]

    def _record(self, row: tuple) -> JobRecord:  # type: ignore[type-arg]
        (job_id, name, version, status, priority, key, group, tags, who, retry_of, created, run_at, started, ended, attempt, crashes, running,
         waiting, warnings, error, progress, bits, unresponsive, alone, trace, metrics, result) = row  # fmt: skip
        return JobRecord(
            id=job_id, name=name, version=version, status=Status(status), priority=priority, key=key, group=group,
            tags=tuple(json.loads(tags)) if tags else (), requested_by=who, retry_of=retry_of, created_at=created / 1000,
            run_at=_seconds(run_at), started_at=_seconds(started), ended_at=_seconds(ended), attempt=attempt, crashes=crashes,
            running_seconds=running / 1000, waiting_seconds=waiting / 1000, warnings=warnings, error=error, progress=progress_from(progress),
            pausers=pausers(bits), unresponsive_since=_seconds(unresponsive), suspect=bool(alone), traceback_text=trace,
            memory_mb=json.loads(metrics).get("memory_mb") if metrics else None, result=result,
            passed_over=self._why(name, version) if status == "queued" else None,
        )  # fmt: skip


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
