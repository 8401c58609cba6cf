"""The read side of a library: its own read-only connection, which never waits behind a write.

A damaged row does not keep the others from being read: text that is no UTF-8 is shown with escapes, and a row that makes no sense at all
is shown as quarantined, with the reason as its error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import apsw

from callboard.jobs.batch_items import ChunkOutcome
from callboard.jobs.errors import NoSuchJob, error_text
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import Status, pausers
from callboard.jobs.record import NO_PARENT, BatchRecord, JobFilter, JobRecord, Statistics, StoredChunk, Warned
from callboard.jobs.submission import key_bytes
from callboard.persistence import batchqueries, planning
from callboard.persistence.batchintents import OF_BATCH
from callboard.persistence.checkpoints import StoredCheckpoint
from callboard.persistence.families import Family, HeldParent, family, held_parents, progress_from
from callboard.persistence.inserting import tags_from
from callboard.persistence.parentage import stored_outcome
from callboard.persistence.rows import bound
from callboard.persistence.writes import Chunk

_TEXT = ("name", "status", "grp", "tags", "requested_by", "error", "traceback", "metrics")
_NOT_LIVE = ("ended_at", "traceback", "metrics", "result")
_NOT_ENDED = {"run_at": "NULL", "pausers": "0", "unresponsive": "NULL", "alone": "0", "after_id": "NULL", "kept_back": "0"}
_COLUMNS = (
    "id", "name", "version", "status", "priority", "key", "grp", "tags", "requested_by", "retry_of", "created_at", "run_at", "started_at",
    "ended_at", "attempt", "crashes", "running_ms", "waiting_ms", "warnings", "error", "progress", "pausers", "unresponsive", "alone",
    "traceback", "metrics", "result", "superseded_by", "after_id", "parent", "kept_back",
)  # fmt: skip


def _read_as(column: str) -> str:
    """Text as bytes: one that is no UTF-8 would otherwise fail the whole list."""
    return f"CAST({column} AS BLOB)" if column in _TEXT else column


LIVE_COLUMNS = ", ".join("NULL" if column in _NOT_LIVE else _read_as(column) for column in _COLUMNS)
ENDED_COLUMNS = ", ".join(_NOT_ENDED.get(column, _read_as(column)) for column in _COLUMNS)
USUAL = {"jobs": Status.QUEUED, "job_history": Status.COMPLETED}
"""The status that most rows have. The others have an index, which a statement is given that says that it wants none of these."""

# The table is read through as seldom as can be: its rows are wide.
LIVE_COUNTS = """
SELECT CAST(status AS BLOB), count(*) FROM jobs WHERE status <> 'queued' GROUP BY status
UNION ALL SELECT CAST('queued' AS BLOB), (SELECT count(*) FROM jobs WHERE status = 'queued' AND run_at IS NULL AND kept_back = 0 AND alone IN (0, 1))
  + (SELECT count(*) FROM jobs WHERE limited IS NOT NULL AND kept_back = 1 AND status = 'queued' AND run_at IS NULL)
  + (SELECT count(*) FROM jobs WHERE status = 'queued' AND run_at IS NOT NULL)"""
ENDED_COUNTS = """
SELECT CAST(status AS BLOB), count(*) FROM job_history WHERE status <> 'completed' GROUP BY status
UNION ALL SELECT CAST('completed' AS BLOB), (SELECT count(*) FROM job_history)
  - (SELECT count(*) FROM job_history WHERE status <> 'completed')"""
WITH_KEY = """id IN (SELECT id FROM jobs WHERE name = ? AND key = ? AND key IS NOT NULL AND after_id IS NULL
  UNION ALL SELECT id FROM jobs WHERE name = ? AND key = ? AND after_id IS NOT NULL)"""
"""The live job and its successor, each by the index that knows it."""
NEXT_DUE = "SELECT iif(typeof(run_at) = 'integer', run_at, NULL) FROM jobs WHERE run_at IS NOT NULL ORDER BY run_at LIMIT 1"
WARNINGS = """
SELECT n, CAST(item AS BLOB), CAST(message AS BLOB) FROM job_warnings WHERE job_id = ? AND n > ? ORDER BY n LIMIT ?"""

CHILDREN_SEEN = """
SELECT CAST(json_group_array(iif(h.id IS NULL, iif(j.id IS NULL, 0, 1), json_array(h.status, hex(h.result), h.error))) AS BLOB)
FROM carray(?) AS e LEFT JOIN jobs AS j ON j.id = e.value LEFT JOIN job_history AS h ON h.id = e.value"""
BATCHES_OVER = """
SELECT CAST(group_concat(b.id, x'') AS BLOB) FROM carray(?) AS e CROSS JOIN batches AS b ON b.id = e.value WHERE b.completed_at IS NOT NULL"""
CHILDREN_COUNTS = "SELECT (SELECT count(*) FROM jobs WHERE parent = ?1), (SELECT count(*) FROM job_history WHERE parent = ?1)"
SEALED = "SELECT sealed FROM batches WHERE id = ?"
CHUNKS = "SELECT start, count, first_id, others FROM batch_chunks WHERE batch_id = ? ORDER BY start"


class EndedChild(NamedTuple):
    """A child that has ended, as it is stored."""

    job_id: bytes
    status: Status
    result: bytes | None
    error: str | None


class Reader:
    """Questions about jobs. Owned by one thread at a time; each question is one snapshot."""

    def __init__(self, connection: apsw.Connection, why_passed_over: Callable[[str, int], str | None]) -> None:
        self._con = connection
        self._why = why_passed_over

    def job(self, job_id: bytes) -> JobRecord:
        """One job, live or ended. Raises `NoSuchJob`."""
        for table, columns in (("jobs", LIVE_COLUMNS), ("job_history", ENDED_COLUMNS)) * 2:  # twice: it may move between the two looks
            found = self._rows(columns, f"FROM {table} WHERE id = ?", (job_id,))
            if found:
                return self._record(found[0])
        raise NoSuchJob(f"no job {id_text(job_id)} in this library")

    def jobs(self, wanted: JobFilter) -> list[JobRecord]:
        """Live jobs in order of arrival."""
        return self._list("jobs", LIVE_COLUMNS, wanted, ">", "ASC")

    def history(self, wanted: JobFilter) -> list[JobRecord]:
        """Ended jobs, the latest arrival first."""
        return self._list("job_history", ENDED_COLUMNS, wanted, "<", "DESC")

    def warnings(self, job_id: bytes, after: int = 0, limit: int = 1000) -> list[Warned]:
        found: list[Any] = self._con.execute(WARNINGS, (job_id, after, limit)).fetchall()
        return [Warned(n, _text(item), _text(message) or "") for n, item, message in found]

    def checkpoint(self, job_id: bytes) -> StoredCheckpoint:
        """Raises `NotDecodable` if a part is damaged."""
        return StoredCheckpoint.read(self._con, job_id)

    def batch(self, batch_id: bytes) -> BatchRecord:
        """One batch. Raises `NoSuchBatch`."""
        return batchqueries.batch(self._con, batch_id)

    def batches(self, limit: int = 100, after: bytes | None = None) -> list[BatchRecord]:
        """The newest first. `after`: the last id of the page before."""
        return batchqueries.batches(self._con, limit, after)

    def batch_chunks(self, batch_id: bytes) -> list[StoredChunk]:
        """What is stored of a batch, so that it can be cut in the same way again; empty if there is no such batch."""
        return batchqueries.chunks(self._con, batch_id)

    def plan(self, chunk: Chunk, now_ms: int) -> ChunkOutcome:
        """What would become of a batch that is one chunk. Nothing is written."""
        return planning.plan_chunk(self._con, chunk, now_ms)

    def ended(self, ids: Sequence[bytes], batches: Sequence[bytes]) -> tuple[tuple[EndedChild, ...], tuple[bytes, ...], frozenset[bytes]]:
        """Which of these jobs have ended, in their order; which do not exist; and which of these batches are over. One look."""
        with self._con:  # one snapshot
            raw: bytes = self._con.execute(CHILDREN_SEEN, (bound(ids),)).get
            over: bytes = (self._con.execute(BATCHES_OVER, (bound(batches),)).get if batches else None) or b""
        ended: list[EndedChild] = []
        missing: list[bytes] = []
        for job_id, row in zip(ids, json.loads(raw.decode("utf-8", "replace")), strict=True):
            if row == 0:
                missing.append(job_id)
            elif row != 1:
                status, result, error = row
                ended.append(EndedChild(job_id, Status(status), bytes.fromhex(result) if result else None, error))
        return tuple(ended), tuple(missing), frozenset(over[at : at + 16] for at in range(0, len(over), 16))

    def family(self, parent: bytes) -> Family:
        """How far the children of a job are."""
        with self._con:  # one snapshot
            found = family(self._con, parent)
        return found

    def held_parents(self, batches: Sequence[bytes], jobs: Sequence[bytes], parents: Sequence[bytes]) -> tuple[list[HeldParent], bool]:
        """The parents of the jobs of these batches, those of these jobs, and `parents`, as far as they have no actor; and whether anyone has none."""
        with self._con:
            found = held_parents(self._con, batches, jobs, parents)
        return found

    def children(self, batch_id: bytes) -> tuple[bool, tuple[ChunkOutcome, ...]]:
        """Whether all of this batch is stored, and what was made of its items, as far as jobs stand for them."""
        rows: list[Any] = self._con.execute(CHUNKS, (batch_id,)).fetchall()
        return bool(self._con.execute(SEALED, (batch_id,)).get), tuple(stored_outcome(*row) for row in rows)

    def children_of(self, job_id: bytes) -> tuple[int, int]:
        """How many children of a job live, and how many have ended."""
        return tuple(next(iter(self._con.execute(CHILDREN_COUNTS, (job_id,)))))

    def statistics(self) -> Statistics:
        """Counts by status; those that nobody has are left out."""
        live, ended = self._counts(LIVE_COUNTS), self._counts(ENDED_COUNTS)
        due = self._con.execute(NEXT_DUE).get
        return Statistics(live, ended, _seconds(due))

    def closed(self) -> bool:
        """True if the connection was closed, here or with the library's others."""
        try:
            self._con.get_autocommit()
        except apsw.ConnectionClosedError:
            return True
        return False

    def close(self) -> None:
        self._con.close()

    def _counts(self, sql: str) -> dict[str, int]:
        found: list[Any] = self._con.execute(sql).fetchall()
        return dict(sorted((_text(status) or "", count) for status, count in found if count))

    def _list(self, table: str, columns: str, wanted: JobFilter, behind: str, order: str) -> list[JobRecord]:
        where, values = ["true"], list[Any]()
        for column, value in (("name", wanted.name), ("grp", wanted.group), ("requested_by", wanted.requested_by)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if wanted.key is not None:
            where.append("key = ?")
            values.append(key_bytes(wanted.key))
            if wanted.name is not None and table == "jobs":
                where.append(WITH_KEY)
                values += (wanted.name, values[-1]) * 2
        if wanted.statuses is not None:
            where.append(f"status IN ({', '.join('?' * len(wanted.statuses))})")
            values += map(str, wanted.statuses)
            if USUAL[table] not in wanted.statuses:
                where.append(f"status <> '{USUAL[table]}'")
        if wanted.parent == NO_PARENT:
            where.append("parent IS NULL")
        elif wanted.parent is not None:
            where.append("parent = ?")
            values.append(wanted.parent)
        if wanted.batch is not None:
            where.append(OF_BATCH.format(table=table).replace("?1", "?"))
            values += [wanted.batch] * 3
        if wanted.after is not None:
            where.append(f"id {behind} ?")
            values.append(wanted.after)
        source = table
        if wanted.tag is not None:
            source = f"(SELECT job_id AS id FROM job_tags WHERE tag = ?) CROSS JOIN {table} USING (id)"
            values.insert(0, wanted.tag)
        rest = f"FROM {source} WHERE {' AND '.join(where)} ORDER BY id {order} LIMIT ?"
        return [self._record(row) for row in self._rows(columns, rest, (*values, wanted.limit))]

    def _rows(self, columns: str, rest: str, values: Any) -> list[Any]:
        try:
            return self._con.execute(f"SELECT {columns} {rest}", values).fetchall()
        except UnicodeDecodeError:  # text that is none where no text should be
            guarded = ", ".join(column if " " in column else f"iif(typeof({column}) = 'text', x'', {column})" for column in columns.split(", "))
            return self._con.execute(f"SELECT {guarded} {rest}", values).fetchall()

    def _record(self, row: tuple[Any, ...]) -> JobRecord:
        try:
            return self._whole_record(row)
        except Exception as error:  # noqa: BLE001 - a damaged page may hold anything
            return JobRecord(
                row[0], _text(row[1]) or "", 0, Status.QUARANTINED, 0, None, None, (), None, None, 0.0, None, None, None, 0, 0, 0.0, 0.0, 0,
                f"its row is damaged: {error_text(error, 500)}", None,
            )  # fmt: skip

    def _whole_record(self, row: tuple[Any, ...]) -> JobRecord:
        (job_id, raw_name, version, status, priority, key, group, tags, who, retry_of, created, run_at, started, ended, attempt, crashes,
         running, waiting, warnings, error, progress, bits, unresponsive, alone, trace, metrics, result, superseded_by, after_id,
         parent, kept_back) = row  # fmt: skip
        name, now = _text(raw_name) or "", Status(_text(status) or "")
        return JobRecord(
            id=job_id, name=name, version=version, status=now, priority=priority, key=key, group=_text(group), tags=tags_from(tags),
            requested_by=_text(who), retry_of=retry_of, created_at=created / 1000, run_at=_seconds(run_at), started_at=_seconds(started),
            ended_at=_seconds(ended), attempt=attempt, crashes=crashes, running_seconds=running / 1000, waiting_seconds=waiting / 1000,
            warnings=warnings, error=_text(error), progress=progress_from(progress), pausers=pausers(bits),
            unresponsive_since=_seconds(unresponsive), suspect=bool(alone), traceback_text=_text(trace), memory_mb=_memory(metrics),
            result=result, superseded_by=superseded_by, after=after_id, parent=parent, kept_back=bool(kept_back) and now is Status.QUEUED,
            passed_over=self._why(name, version) if now is Status.QUEUED else None,
        )  # fmt: skip


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "backslashreplace")


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _memory(metrics: bytes | None) -> float | None:
    try:
        found = json.loads(metrics).get("memory_mb") if metrics else None
    except (ValueError, AttributeError):
        return None
    return float(found) if isinstance(found, (int, float)) else None
