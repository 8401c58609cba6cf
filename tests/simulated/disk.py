"""What is on disk of a library, looked at through a connection of one's own: its jobs and its batches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from callboard.jobs.lifecycle import Status
from callboard.persistence.connection import open_writer
from callboard.persistence.place import DATABASE

T = TypeVar("T")


class Row(NamedTuple):
    """A job as it stands on disk."""

    id: bytes
    name: str
    status: Status
    key: bytes | None
    claim: int
    attempt: int
    crashes: int
    pausers: int
    run_at: int | None
    created_at: int
    ended_at: int | None
    error: str | None
    result: bytes | None
    retry_of: bytes | None
    sequence: int
    """Of its last checkpoint; 0: none is kept."""
    started_at: int | None
    after_id: bytes | None
    superseded_by: bytes | None
    data: bytes
    parent: bytes | None


Rows = dict[bytes, Row]


class BatchRow(NamedTuple):
    """A batch as it stands on disk."""

    id: bytes
    sealed: bool
    items: int
    members: int
    open: int
    has_last: bool
    """With a job for its end."""
    completed_at: int | None
    completed_by: bytes | None
    chunks: tuple[tuple[int, int, bytes | None, bytes | None], ...]
    """(start, items, first id, last id), in order."""

    def has(self, job: bytes) -> bool:
        """Whether the job is one of its members."""
        return any(first is not None and last is not None and first <= job <= last for _, _, first, last in self.chunks)


Batches = dict[bytes, BatchRow]


class Stored(NamedTuple):
    """All that is on disk, of one snapshot."""

    rows: Rows
    batches: Batches


NOTHING = Stored({}, {})

_LIVE = (
    "SELECT j.id, j.name, j.status, j.key, j.claim, j.attempt, j.crashes, j.pausers, j.run_at, j.created_at, NULL, j.error, NULL,"
    " j.retry_of, coalesce((SELECT sequence FROM job_checkpoints WHERE job_id = j.id AND kind = 'head'), 0), j.started_at, j.after_id,"
    " j.superseded_by, j.data, j.parent FROM jobs AS j"
)
_ENDED = (
    "SELECT j.id, j.name, j.status, j.key, j.claim, j.attempt, j.crashes, 0, NULL, j.created_at, j.ended_at, j.error, j.result, j.retry_of,"
    " coalesce((SELECT sequence FROM job_checkpoints WHERE job_id = j.id AND kind = 'head'), 0), j.started_at, NULL, j.superseded_by, j.data,"
    " j.parent FROM job_history AS j"
)
_BATCHES = (
    "SELECT b.id, b.sealed, b.count, b.members, b.open, b.on_complete IS NOT NULL, b.completed_at, b.completed_by,"
    " c.start, c.count, c.first_id, c.last_id, c.rows"
    " FROM batches AS b LEFT JOIN batch_chunks AS c ON c.batch_id = b.id {where} ORDER BY b.id, c.start"
)
_ALL_BATCHES = _BATCHES.format(where="")
_ONE_BATCH = _BATCHES.format(where="WHERE b.id = ?")


_ONE = f"{_LIVE} WHERE j.id = ?1 UNION ALL {_ENDED} WHERE j.id = ?1"
_ALL = f"{_LIVE} UNION ALL {_ENDED} ORDER BY 1"


class Look(NamedTuple):
    """One look at all of a library."""

    stored: Stored
    live_and_ended: list[bytes]
    """Jobs that are both, which no job may be."""
    chunk_rows: list[tuple[bytes, int, int]]
    """(batch, start, jobs that were made) of each chunk."""
    read: dict[bytes, tuple[Any, ...]]
    """The jobs as they were read: those that are the same at the next look need not be made again."""


class Looks:
    """The latest look at a library: the same one for as long as nothing is committed. For one thread at a time."""

    def __init__(self) -> None:
        self._latest: Look | None = None
        self._at: tuple[object, ...] = ()

    def look(self, connection: Any, writer: Any) -> Look:
        """`connection`: with which to look; `writer`: the only one that writes, None when it was closed: nobody can look then."""
        if writer is None:
            raise LookupError("the library has been closed")
        at = writer, writer.total_changes(), writer.in_transaction
        if self._latest is None or at != self._at:
            self._latest, self._at = look_at(connection, self._latest), at
        return self._latest


class Looker:
    """A connection of its own, on which the committed rows are seen at any moment."""

    def __init__(self, connection: Any, lock: AbstractContextManager[object] | None = None, look: Callable[[Any], Look] | None = None) -> None:
        """`connection`: read-only, as `LibraryFolder.reader` gives it. `lock`: where several threads look. `look`: where only one does, and
        the latest look will do.
        """
        self._connection = connection
        self._lock = nullcontext() if lock is None else lock
        self._look = look

    def close(self) -> None:
        """Close the connection; who looks from now on gets a LookupError."""
        with self._lock:
            self._connection.close()

    def row(self, job_id: bytes) -> Row | None:
        """The job, live or ended, in one snapshot. AssertionError if it is both, LookupError if the library was closed."""
        if self._look is not None:
            return self.stored().rows.get(job_id)
        found = self._looked(lambda: _ask(self._connection, _ONE, (job_id,)))
        if len(found) > 1:
            raise AssertionError(f"job {job_id.hex()} is live and ended")
        return _row(found[0]) if found else None

    def batch(self, batch_id: bytes) -> BatchRow | None:
        """One batch. LookupError if the library was closed."""
        if self._look is not None:
            return self.stored().batches.get(batch_id)
        return self._looked(lambda: _batches(_ask(self._connection, _ONE_BATCH, (batch_id,)))).get(batch_id)

    def rows(self) -> Rows:
        """All jobs, by id in order of arrival. LookupError if the library was closed."""
        return self.stored().rows

    def stored(self) -> Stored:
        """Jobs and batches, in one snapshot. LookupError if the library was closed."""
        found = self._looked(lambda: _looked_at_once(self._connection)) if self._look is None else self._looked_before(self._look)
        if found.live_and_ended:
            raise AssertionError("a job is live and ended")
        return found.stored

    def _looked_before(self, look: Callable[[Any], Look]) -> Look:
        try:
            return look(self._connection)
        except Exception as error:
            raise _explained(error) from None

    def _looked(self, look: Callable[[], T]) -> T:
        with self._lock:
            try:
                return look()
            except Exception as error:
                raise _explained(error) from None


def _explained(error: Exception) -> Exception:
    return LookupError("the library has been closed") if type(error).__name__ == "ConnectionClosedError" else error


def _looked_at_once(connection: Any) -> Look:
    with connection:
        return look_at(connection)


def look_at(connection: Any, before: Look | None = None) -> Look:
    """What is committed, while nobody commits. `before`: an earlier look."""
    seen, known = ({}, {}) if before is None else (before.stored.rows, before.read)
    rows: Rows = {}
    read: dict[bytes, tuple[Any, ...]] = {}
    twice: list[bytes] = []
    for values in _ask(connection, _ALL, ()):
        job_id = values[0]
        if job_id in rows:
            twice.append(job_id)
        rows[job_id] = seen[job_id] if known.get(job_id) == values else _row(values)
        read[job_id] = values
    found = _ask(connection, _ALL_BATCHES, ())
    return Look(Stored(rows, _batches(found)), twice, [(each[0], each[8], each[12]) for each in found if each[8] is not None], read)


def _ask(connection: Any, sql: str, values: tuple[object, ...]) -> list[Any]:
    found: list[Any] = connection.execute(sql, values).fetchall()
    return found


_STATUS = {str(status): status for status in Status}


def _row(values: Any) -> Row:
    job_id, name, status, *more = values
    return Row._make((job_id, name, _STATUS[status], *more))


def _batches(found: list[Any]) -> Batches:
    batches: Batches = {}
    for values in found:
        before = batches.get(values[0])
        chunks = () if values[8] is None else (*(() if before is None else before.chunks), values[8:12])
        batch_id, sealed, items, members, still_open, has_last, completed_at, completed_by = values[:8]
        batches[batch_id] = BatchRow(batch_id, bool(sealed), items, members, still_open, bool(has_last), completed_at, completed_by, chunks)
    return batches


def on_disk(folder: Path) -> Stored:
    """What is on disk of a library that nobody has open: its owner died, perhaps before it was made, or has closed it."""
    if not (folder / DATABASE).exists():
        return NOTHING
    connection = open_writer(folder / DATABASE)
    try:
        return Looker(connection).stored()
    finally:
        connection.close()
