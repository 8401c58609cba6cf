"""What an opening makes of the jobs that a dead process held. Each is an orphan by construction: whoever opens holds the lock."""

from __future__ import annotations

from typing import Any, NamedTuple

import apsw

from callboard.jobs.identity import IdSource
from callboard.jobs.lifecycle import MAX_CRASHES, SUSPECT_CRASHES, Status, after_crash
from callboard.persistence.children import hold_unclaimed, with_live_children
from callboard.persistence.damage import set_aside
from callboard.persistence.ending import finish
from callboard.persistence.line import Line
from callboard.persistence.store import LAST_ID, LATEST_ID

GROUPS = """
SELECT DISTINCT status, resumable, excused, min(crashes, ?) FROM jobs
WHERE status IN ('running', 'pausing', 'cancelling') AND status <> 'queued' ORDER BY 1, 2, 3, 4"""
"""`status <> 'queued'` says nothing new, except to SQLite: these are the rows of the index jobs_status."""

_GROUP = "status = ? AND status <> 'queued' AND resumable = ? AND excused = ? AND min(crashes, ?) = ?"

MOVE_ON = f"""
UPDATE jobs SET status = ?, crashes = crashes + ?, alone = ?, excused = 0, unresponsive = NULL, queued_at = ?,
  error = coalesce(?, error)
WHERE {_GROUP}"""

FORGET_CASCADES = "DELETE FROM cascades WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE id = cascades.parent)"
"""What was wanted of parents that have ended."""

DIED = "the process died while the job ran"
ENDED = "the process ended while the job ran, and the job is not resumable"


class Recovered(NamedTuple):
    """How many jobs became what."""

    queued: int = 0
    paused: int = 0
    cancelled: int = 0
    failed: int = 0
    quarantined: int = 0


def recover(con: apsw.Connection, now_ms: int, was_clean: bool) -> Recovered:
    """Charge every job that was claimed with a crash, unless its process had said that it was ending, and set what it becomes.

    `was_clean`: the library was closed, or is a backup; a job found claimed then was running when the copy was made, which is no crash.

    Runs inside the caller's transaction; running it again changes nothing. A statement or two for each combination that occurs.
    """
    counts: dict[str, int] = {status: 0 for status in ("queued", "paused", "cancelled", "failed", "quarantined")}
    ended: list[bytes] = []
    try:
        _move_on(con, now_ms, was_clean, counts, ended)
    except apsw.ConstraintError:
        counts[Status.QUARANTINED] += set_aside(con)
        _move_on(con, now_ms, was_clean, counts, ended)
    if ended:
        # Ids need not be random, only new; and whether a type is known is asked when it is claimed.
        line = Line(con, IdSource(con.execute(LAST_ID, (LATEST_ID,)).get), bytes, lambda name, version: True)
        line.follow(ended, now_ms)
        for advanced in line.aftermath.advanced:
            counts[advanced.status] += 1
    con.execute(FORGET_CASCADES)
    return Recovered(**counts)


def _move_on(con: apsw.Connection, now_ms: int, was_clean: bool, counts: dict[str, int], ended: list[bytes]) -> None:
    found: list[Any] = con.execute(GROUPS, (MAX_CRASHES,)).fetchall()
    for status, resumable, excused, crashes in found:
        group = (status, resumable, excused, MAX_CRASHES, crashes)
        charged = 0 if excused or was_clean else 1
        after = after_crash(Status(status), crashes + 1 if charged else 0, bool(resumable))
        if after.ended:
            found_ids: list[Any] = con.execute(f"SELECT id FROM jobs WHERE {_GROUP}", group).fetchall()
            ids: list[bytes] = [job_id for (job_id,) in found_ids]
            why = None if after is Status.CANCELLED else DIED if charged else ENDED
            parents = with_live_children(con, ids)
            hold_unclaimed(con, sorted(parents), after, now_ms, why)
            at_once = [job_id for job_id in ids if job_id not in parents]
            if at_once:
                finish(con, at_once, after, now_ms, why)
            counts[after] += len(ids)
            ended += at_once
            continue
        why = f"{DIED} {crashes + charged} times" if after is Status.QUARANTINED else None
        con.execute(MOVE_ON, (str(after), charged, int(crashes + charged >= SUSPECT_CRASHES), now_ms, why, *group))
        counts[after] += con.changes()
