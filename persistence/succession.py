"""Whose turn it is when a job has ended: the successor that waits for it comes into line in the same commit."""

from __future__ import annotations

import json
from collections.abc import Sequence

import apsw

from callboard.jobs.lifecycle import Event, Status, transition
from callboard.persistence.aftermath import Advanced
from callboard.persistence.rows import bound

BEHIND = """
SELECT CAST(json_group_array(json_array(hex(id), name, pausers)) AS BLOB) FROM jobs
WHERE after_id IN (SELECT value FROM carray(?))"""

ADVANCE = """
UPDATE jobs SET status = iif(pausers, 'paused', 'queued'), queued_at = ?1, after_id = NULL
WHERE id IN (SELECT value FROM carray(?2)) AND status = 'waiting'"""

SUCCESSORS = "SELECT count(*) FROM jobs WHERE status = 'waiting' AND status <> 'queued'"
"""`status <> 'queued'` says nothing new, except to SQLite: these are rows of the index jobs_status."""

FREE = transition(Status.WAITING, Event.ADVANCE)
HELD = transition(FREE, Event.PAUSE)
"""With a pauser noted while it waited."""


def advance(con: apsw.Connection, ended: Sequence[bytes], now_ms: int) -> list[Advanced]:
    """Let the successors of these jobs take their turn. Two statements, however many there are; in order of arrival."""
    if not ended:
        return []
    raw: bytes = con.execute(BEHIND, (bound(ended),)).get
    found = [(bytes.fromhex(job_id), name, bits) for job_id, name, bits in json.loads(raw.decode("utf-8", "replace"))]
    if not found:
        return []
    con.execute(ADVANCE, (now_ms, bound(job_id for job_id, _, _ in found)))
    if con.changes() != len(found):
        raise AssertionError(f"{len(found)} successors were found and {con.changes()} have come into line")
    return sorted(Advanced(job_id, name, HELD if bits else FREE) for job_id, name, bits in found)


def successors(con: apsw.Connection) -> int:
    """How many jobs wait behind another."""
    count: int = con.execute(SUCCESSORS).get
    return count
