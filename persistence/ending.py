"""How a claim ends: for good (the row moves to the history) or not (it waits, pauses, is quarantined). Always behind the fence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw

from callboard.jobs.lifecycle import Event, Status, transition
from callboard.persistence.checkpoints import FORGET, put_parts, put_warnings
from callboard.persistence.rows import Layout, bound
from callboard.persistence.writes import End, Fenced, Leave

_ENDED = Layout(
    id="blob", claim="int", status="text", error="text", traceback="text", running="int", warned="int", metrics="text", progress="blob",
    result="blob",
)  # fmt: skip

_HELD = "j.claim = e.claim AND j.status IN ('running', 'pausing', 'cancelling')"

MOVE = f"""
INSERT INTO job_history (id, name, version, status, priority, key, grp, parent, retry_of, resumable, retry, tags, requested_by, created_at,
  started_at, ended_at, claim, attempt, crashes, running_ms, waiting_ms, warnings, error, traceback, metrics, progress, result, data, checksum)
SELECT j.id, j.name, j.version, e.status, j.priority, j.key, j.grp, j.parent, j.retry_of, j.resumable, j.retry, j.tags, j.requested_by,
  j.created_at, j.started_at, ?2, j.claim, j.attempt, j.crashes, j.running_ms + e.running, j.waiting_ms, max(j.warnings, e.warned),
  coalesce(e.error, CASE WHEN e.status <> 'completed' THEN j.error END), e.traceback, e.metrics, coalesce(e.progress, j.progress), e.result,
  j.data, j.checksum
FROM (SELECT {_ENDED.select()} FROM carray(?1)) AS e CROSS JOIN jobs AS j ON j.id = e.id WHERE {_HELD}"""

REMOVE = f"""
DELETE FROM jobs WHERE id IN (SELECT j.id FROM (SELECT {_ENDED.sql("id")} AS id, {_ENDED.sql("claim")} AS claim FROM carray(?)) AS e
  CROSS JOIN jobs AS j ON j.id = e.id WHERE {_HELD})"""

END_STATUS = {
    Event.RETURN: Status.COMPLETED,
    Event.RETURN_WITH_ERRORS: Status.COMPLETED_WITH_ERRORS,
    Event.FAIL: Status.FAILED,
}

FENCE = "SELECT status FROM jobs WHERE id = ? AND claim = ? AND status IN ('running', 'pausing', 'cancelling')"


def end(con: apsw.Connection, writes: Sequence[End], now_ms: int) -> list[Status | Fenced]:
    """Move all of them to the history. What an ended job leaves behind is decided here too: its checkpoint goes if it completed."""
    answers: list[Status | Fenced] = [END_STATUS[write.event] for write in writes]
    _put_last_parts(con, writes)
    rows = [
        _ENDED.pack((
            write.job_id, write.claim, str(status), write.error, write.traceback, write.running_ms, write.warned, write.metrics,
            write.progress, write.result,
        ))
        for write, status in zip(writes, answers, strict=True)
    ]  # fmt: skip
    con.execute(MOVE, (bound(rows), now_ms))
    moved = con.changes()
    con.execute(REMOVE, (bound(rows),))
    if con.changes() != moved:
        raise AssertionError(f"{moved} jobs were written to the history and {con.changes()} removed from the queue")
    if moved != len(writes):
        answers = [answer if _is_ended_by(con, write) else Fenced() for write, answer in zip(writes, answers, strict=True)]
    dropped = [write.job_id for write in writes if write.drop_checkpoint]
    if dropped:
        con.execute(FORGET, (bound(dropped),))
    return answers


def _put_last_parts(con: apsw.Connection, writes: Iterable[End | Leave]) -> None:
    for write in writes:
        if (write.parts or write.warnings) and con.execute(FENCE, (write.job_id, write.claim)).get:
            if write.parts:
                put_parts(con, write.job_id, write.sequence, write.parts)
            put_warnings(con, write.job_id, write.warnings)


def _is_ended_by(con: apsw.Connection, write: End) -> bool:
    return bool(con.execute("SELECT 1 FROM job_history WHERE id = ? AND claim = ?", (write.job_id, write.claim)).get)


LEAVE = """
UPDATE jobs SET status = ?3, queued_at = ?4, run_at = ?5, error = coalesce(?6, error), running_ms = running_ms + ?7,
  warnings = max(warnings, ?8), progress = coalesce(?9, progress), attempt = attempt + ?10, pausers = pausers | ?11,
  intent = CASE WHEN ?11 THEN 'pause' ELSE intent END, unresponsive = NULL, excused = 0
WHERE id = ?1 AND claim = ?2 AND status = ?12"""

FINISH = """
INSERT INTO job_history (id, name, version, status, priority, key, grp, parent, retry_of, resumable, retry, tags, requested_by, created_at,
  started_at, ended_at, claim, attempt, crashes, running_ms, waiting_ms, warnings, error, progress, data, checksum)
SELECT id, name, version, ?2, priority, key, grp, parent, retry_of, resumable, retry, tags, requested_by, created_at,
  started_at, ?3, claim, attempt, crashes, running_ms, waiting_ms, warnings, coalesce(?4, error), progress, data, checksum
FROM jobs WHERE id = ?1"""


def leave(con: apsw.Connection, write: Leave, now_ms: int) -> Status | Fenced:
    """The job leaves its actor and has not ended, unless it was being cancelled: then it has."""
    found = con.execute(FENCE, (write.job_id, write.claim)).get
    if found is None:
        return Fenced()
    _put_last_parts(con, (write,))
    before = Status(found)
    after = transition(before, write.event)
    values = (
        write.job_id, write.claim, str(Status.QUEUED if after.ended else after), now_ms,
        write.run_at_ms if after is Status.QUEUED or write.event is Event.RETRY else None,
        write.error, write.running_ms, write.warned, write.progress, int(write.event is Event.RETRY),
        write.pauser if after is Status.PAUSED else 0, str(before),
    )  # fmt: skip
    con.execute(LEAVE, values)
    if con.changes() != 1:
        raise AssertionError("the row that was read in this transaction is gone")
    if after.ended:
        finish(con, write.job_id, after, now_ms, write.error)
    return after


def finish(con: apsw.Connection, job_id: bytes, status: Status, now_ms: int, error: str | None = None) -> None:
    """Move a job that no actor holds to the history."""
    con.execute(FINISH, (job_id, str(status), now_ms, error))
    con.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
    if con.changes() != 1:
        raise AssertionError("the row that was just copied to the history is gone")
