"""How a claim ends: for good (the row moves to the history) or not (it waits, pauses, is quarantined). Always behind the fence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from callboard.jobs.lifecycle import Event, Status, transition
from callboard.persistence.checkpoints import FORGET, put
from callboard.persistence.fence import held
from callboard.persistence.rows import ByIds, Grouped, Kind, Layout, bound, of_one_row
from callboard.persistence.writes import End, Fenced, Leave

_ID, _CLAIM, _RESULT = "substr(e.value, 7, 16)", "CAST(substr(e.value, 23, 10) AS INTEGER)", "nullif(substr(e.value, 33), x'')"

_LEFT = Layout(
    id=16, claim="int", before="text", after="text", run_at="int", error="text", running="int", warned="int", progress="blob",
    retried="int", pauser="int", saved="int",
)  # fmt: skip

_HOW: dict[str, Kind] = dict(
    status="text", error="text", traceback="text", running="int", warned="int", metrics="text", progress="blob"
)  # fmt: skip


def _move_from(rows: str, result: str, claim: str) -> str:
    return f"""
INSERT INTO job_history (id, name, version, status, priority, key, grp, parent, retry_of, resumable, retry, tags, requested_by,
  created_at, started_at, ended_at, claim, attempt, crashes, running_ms, waiting_ms, warnings, error, traceback, metrics, progress, result,
  data, checksum, superseded_by)
SELECT j.id, j.name, j.version, s.status, j.priority, j.key, j.grp, j.parent, j.retry_of, j.resumable, j.retry, j.tags, j.requested_by,
  j.created_at, j.started_at, ?2, j.claim, j.attempt, j.crashes, j.running_ms + s.running, j.waiting_ms, max(j.warnings, s.warned),
  coalesce(s.error, CASE WHEN s.status IN ('failed', 'cancelled') THEN j.error END), s.traceback, s.metrics,
  coalesce(s.progress, j.progress), {result}, j.data, j.checksum, CASE WHEN s.status = 'cancelled' THEN j.superseded_by END
FROM {rows}
WHERE j.claim = {claim} AND j.status IN ('running', 'pausing', 'cancelling')"""


MOVE = Grouped(
    "ended_jobs", _HOW, _move_from(f"carray(?1) AS e {{shape}} CROSS JOIN jobs AS j ON j.id = {_ID}", _RESULT, _CLAIM), parameters=2
)  # fmt: skip
"""A row has the number of how its job ended, the id, the claim, and the result if it has one."""
MOVE_ONE = of_one_row(_move_from("(SELECT * FROM jobs WHERE id = ?1) AS j", "?4", "?3"), _HOW, 4)
"""The same of a single one: id, now, claim, result, how it ended."""

REMOVE = ByIds("DELETE FROM jobs WHERE id {these} AND status IN ('running', 'pausing', 'cancelling')")


def _leave(rows: str) -> str:
    return f"""
UPDATE jobs SET status = e.after, queued_at = ?1, run_at = e.run_at, error = coalesce(e.error, jobs.error),
  running_ms = jobs.running_ms + e.running, warnings = max(jobs.warnings, e.warned), progress = coalesce(e.progress, jobs.progress),
  attempt = jobs.attempt + e.retried, pausers = jobs.pausers | e.pauser, intent = CASE WHEN e.pauser THEN 'pause' ELSE jobs.intent END,
  crashes = CASE WHEN e.saved THEN 0 ELSE jobs.crashes END, alone = CASE WHEN e.saved THEN 0 ELSE jobs.alone END,
  unresponsive = NULL, excused = 0
{rows}WHERE jobs.id = e.id AND jobs.claim = e.claim AND jobs.status = e.before"""


LEAVE = _leave(f"FROM (SELECT {_LEFT.select()} FROM carray(?2)) AS e ")
LEAVE_ONE = of_one_row(_leave(""), _LEFT.columns, 1, "e")

FINISH = """
INSERT INTO job_history (id, name, version, status, priority, key, grp, parent, retry_of, resumable, retry, tags, requested_by,
  created_at, started_at, ended_at, claim, attempt, crashes, running_ms, waiting_ms, warnings, error, progress, data, checksum, superseded_by)
SELECT j.id, j.name, j.version, ?2, j.priority, j.key, j.grp, j.parent, j.retry_of, j.resumable, j.retry, j.tags, j.requested_by,
  j.created_at, j.started_at, ?3, j.claim, j.attempt, j.crashes, j.running_ms,
  j.waiting_ms + iif(j.status = 'queued' AND j.run_at IS NULL, max(0, ?3 - j.queued_at), 0), j.warnings, coalesce(?4, j.error), j.progress,
  j.data, j.checksum, iif(?2 = 'cancelled', j.superseded_by, NULL)
FROM carray(?1) AS e CROSS JOIN jobs AS j ON j.id = e.value"""
REMOVE_FINISHED = "DELETE FROM jobs WHERE id IN (SELECT value FROM carray(?))"


def prepare(con: apsw.Connection) -> None:
    """Once a connection, outside any transaction."""
    MOVE.prepare(con)


def end(con: apsw.Connection, writes: Sequence[End], now_ms: int) -> list[Status | Fenced]:
    """Move all of them to the history. What an ended job leaves behind is decided here too: its checkpoint goes if it completed."""
    after = [_AFTER_RUN[write.event] for write in writes]
    moved = _move(con, list(zip(writes, after, strict=True)), now_ms)
    fresh: Sequence[End] = writes
    if moved != len(writes):
        holds = held(con, writes)  # what was moved is not yet removed
        fresh = [write for write in writes if (write.job_id, write.claim) in holds]
    put(con, fresh)
    _remove(con, [write.job_id for write in fresh], moved)
    dropped = [write.job_id for write in fresh if write.drop_checkpoint]
    if dropped:
        FORGET.execute(con, dropped)
    if len(fresh) == len(writes):
        return list(after)
    ended = {(write.job_id, write.claim) for write in fresh}
    return [status if (write.job_id, write.claim) in ended else Fenced() for write, status in zip(writes, after, strict=True)]


_AFTER_RUN = {event: transition(Status.RUNNING, event) for event in (Event.RETURN, Event.RETURN_WITH_ERRORS, Event.FAIL)}
"""The same from the two others that are claimed."""


def _move(con: apsw.Connection, ends: Sequence[tuple[End | Leave, Status]], now_ms: int) -> int:
    """Copy these to the history, those of them that their actors hold; how many they were."""
    shapes: dict[tuple[Any, ...], int] = {}
    rows: list[bytes] = []
    for write, status in ends:
        how: tuple[Any, ...]
        if isinstance(write, End):
            how = status, write.error, write.traceback, write.running_ms, write.warned, write.metrics, write.progress
            result = write.result or b""
        else:
            how = status, write.error, None, write.running_ms, write.warned, None, write.progress
            result = b""
        if len(ends) == 1:
            con.execute(MOVE_ONE, (write.job_id, now_ms, write.claim, result or None, *how))
            return con.changes()
        rows.append(b"%6d%b%10d%b" % (shapes.setdefault(how, len(shapes)), write.job_id, write.claim, result))
    MOVE.execute(con, (bound(rows), now_ms), tuple(shapes))
    return con.changes()


def leave(con: apsw.Connection, writes: Sequence[Leave], now_ms: int) -> list[Status | Fenced]:
    """The jobs leave their actors and have not ended, save those that were being cancelled: they have."""
    holds = held(con, writes)
    answers: list[Status | Fenced] = []
    fresh: list[Leave] = []
    left: list[tuple[Any, ...]] = []
    cancelled: list[tuple[Leave, Status]] = []
    for write in writes:
        before = holds.pop((write.job_id, write.claim), None)
        if before is None:
            answers.append(Fenced())
            continue
        after = transition(before, write.event)
        answers.append(after)
        fresh.append(write)
        if after.ended:
            cancelled.append((write, after))
        else:
            retried = write.event is Event.RETRY
            left.append((
                write.job_id, write.claim, before, after, write.run_at_ms if retried else None, write.error, write.running_ms,
                write.warned, write.progress, int(retried), write.pauser if after is Status.PAUSED else 0, int(bool(write.parts)),
            ))  # fmt: skip
    put(con, fresh)
    if left:
        if len(left) == 1:
            con.execute(LEAVE_ONE, (now_ms, *left[0]))
        else:
            con.execute(LEAVE, (now_ms, bound(map(_LEFT.pack, left))))
        if con.changes() != len(left):
            raise AssertionError(f"{len(left)} jobs were held in this transaction and {con.changes()} have left their actors")
    if cancelled:
        _remove(con, [write.job_id for write, _ in cancelled], _move(con, cancelled, now_ms))
    return answers


def _remove(con: apsw.Connection, ids: Sequence[bytes], moved: int) -> None:
    removed = 0
    if ids:
        REMOVE.execute(con, ids)
        removed = con.changes()
    if not moved == removed == len(ids):
        raise AssertionError(f"of {len(ids)} jobs {moved} were written to the history and {removed} removed from the queue")


def finish(con: apsw.Connection, job_ids: Sequence[bytes], status: Status, now_ms: int, error: str | None = None) -> None:
    """Move jobs that no actor holds to the history."""
    con.execute(FINISH, (bound(job_ids), status, now_ms, error))
    moved = con.changes()
    con.execute(REMOVE_FINISHED, (bound(job_ids),))
    if not moved == con.changes() == len(job_ids):
        raise AssertionError(f"of {len(job_ids)} jobs {moved} were written to the history and {con.changes()} removed from the queue")
