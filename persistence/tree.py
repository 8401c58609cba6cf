"""What is wanted of a parent goes down to its children, level by level, at most so many jobs a commit: each step is durable, and a crash
in between leaves the rest noted in `cascades`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from callboard.jobs.lifecycle import PAUSER_BITS, Event, Pauser, Status, transition
from callboard.persistence.children import HELD_AT_END, Families, hold_unclaimed, with_live_children
from callboard.persistence.ending import finish
from callboard.persistence.rows import Layout, bound
from callboard.persistence.writes import Cascade, Cascaded, Steered

PARENT, USER = PAUSER_BITS[Pauser.PARENT], PAUSER_BITS[Pauser.USER]

_SET = Layout(id=16, before="text", after="text", bits="int", intent="text")

NEXT_EVENT = "SELECT min(event) FROM cascades"
"""In the order of the alphabet: cancel, pause, resume."""
CHILDREN = """
SELECT CAST(json_group_array(json_array(hex(id), hex(parent), name, status, pausers, resumable, intent)) AS BLOB) FROM (
  SELECT c.id, c.parent, c.name, c.status, c.pausers, c.resumable, c.intent FROM cascades AS k CROSS JOIN jobs AS c
  ON c.parent = k.parent AND c.parent IS NOT NULL AND c.id > ifnull(k.after, x'')
  WHERE k.event = ?1 ORDER BY k.parent, c.id LIMIT ?2)"""
DONE = "DELETE FROM cascades WHERE event = ?1 AND parent < ?2"
GO_ON = "UPDATE cascades SET after = ?2 WHERE parent = ?1"
BEHIND_ALL = b"\xff" * 17

SET = f"""
UPDATE jobs SET status = e.after, intent = e.intent, pausers = e.bits,
  queued_at = iif(e.after = 'queued' AND jobs.status <> 'queued', ?2, jobs.queued_at),
  waiting_ms = jobs.waiting_ms + iif(e.after <> 'queued' AND jobs.status = 'queued' AND jobs.run_at IS NULL, max(0, ?2 - jobs.queued_at), 0)
FROM (SELECT {_SET.select()} FROM carray(?1)) AS e WHERE jobs.id = e.id AND jobs.status = e.before"""
WITH_ITS_PARENT = "cancelled with its parent"


class Child(NamedTuple):
    id: bytes
    name: str
    status: Status
    bits: int
    resumable: bool
    cancelled: bool


def go_down(con: apsw.Connection, families: Families, write: Cascade, now_ms: int) -> tuple[Cascaded, list[bytes]]:
    """One step. Also answers the jobs that have ended with it."""
    event, children = _next(con, write.most)
    if event is None:
        families.cascading = False
        return Cascaded((), False), []
    fates = [fate for child in children if (fate := _decide(child, event)) is not None]
    ending = [child for child, after, _ in fates if after.ended]
    parents = with_live_children(con, (child.id for child, _, _ in fates))
    held = [child for child in ending if child.id in parents]
    _set(con, [fate for fate in fates if not fate[1].ended], now_ms)
    hold_unclaimed(con, (child.id for child in held), Status.CANCELLED, now_ms, WITH_ITS_PARENT)
    families.held_unclaimed(len(held))
    finished = [child for child in ending if child.id not in parents]
    if finished:
        finish(con, [child.id for child in finished], Status.CANCELLED, now_ms, WITH_ITS_PARENT)
    freed = [fate for fate in fates if event is not Event.RESUME or not fate[2] & USER]  # one that its user keeps paused keeps its own
    families.tell_children((child.id for child, after, _ in freed if child.id in parents and not after.ended), event)
    changed = tuple(
        Steered(child.id, child.name, child.status, HELD_AT_END if after.ended and child.id in parents else after) for child, after, _ in fates
    )
    return Cascaded(changed, True), [child.id for child in finished]


def _next(con: apsw.Connection, most: int) -> tuple[Event | None, list[Child]]:
    """Some children that are still to be told, and what; they count as told from now on."""
    event = con.execute(NEXT_EVENT).get
    if event is None:
        return None, []
    raw: bytes = con.execute(CHILDREN, (event, most)).get
    rows: list[Any] = json.loads(raw.decode("utf-8", "replace"))
    last = bytes.fromhex(rows[-1][1]) if len(rows) == most else BEHIND_ALL
    con.execute(DONE, (event, last))
    if len(rows) == most:
        con.execute(GO_ON, (last, bytes.fromhex(rows[-1][0])))
    return Event(event), [
        Child(bytes.fromhex(job_id), name, Status(status), bits, bool(resumable), intent == "cancel")
        for job_id, _, name, status, bits, resumable, intent in rows
    ]


def _decide(child: Child, event: Event) -> tuple[Child, Status, int] | None:
    """(child, the status after, who keeps it paused then); None: nothing changes."""
    status, bits = child.status, child.bits
    if status is Status.CANCELLING or (status is Status.ENDING and child.cancelled):  # and so are its own children
        return None
    if event is Event.CANCEL:
        return child, transition(status, event), bits
    if event is Event.PAUSE and status is Status.RUNNING and not child.resumable:
        return None
    bits = bits | PARENT if event is Event.PAUSE else bits & ~PARENT
    if bits == child.bits:
        return None
    after = status if status is Status.QUARANTINED else transition(status, event)
    if event is Event.RESUME and bits and status is not Status.QUARANTINED:
        after = transition(after, Event.PAUSE)
    return child, after, bits


def _set(con: apsw.Connection, fates: Sequence[tuple[Child, Status, int]], now_ms: int) -> None:
    if not fates:
        return
    rows = [
        _SET.pack((child.id, child.status, after, bits, "cancel" if after is Status.CANCELLING else "pause" if bits else "run"))
        for child, after, bits in fates
    ]
    con.execute(SET, (bound(rows), now_ms))
    if con.changes() != len(rows):
        raise AssertionError(f"{len(rows)} children were found and {con.changes()} were told")
