"""Parents and their children: who is held at its end until its children have ended, and who waits for them to be run again.

Nothing is paid for it while no live job has a parent, nobody is held and nobody waits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import apsw

from callboard.jobs.lifecycle import Event, Status, transition
from callboard.persistence.aftermath import Advanced, EndedLater
from callboard.persistence.checkpoints import FORGET, put
from callboard.persistence.families import progress_blob, progress_from
from callboard.persistence.fence import held
from callboard.persistence.rows import Layout, bound
from callboard.persistence.succession import FREE, HELD
from callboard.persistence.writes import End, Leave

ID = 16

_END = Layout(
    id=16, claim="int", status="text", error="text", traceback="text", running="int", warned="int", metrics="text", progress="blob", result="blob"
)
_PARKED = Layout(id=16, batch=16)

COUNTS = """
SELECT (SELECT EXISTS (SELECT 1 FROM jobs WHERE parent IS NOT NULL)), (SELECT count(*) FROM held_ends),
  (SELECT count(*) FROM jobs WHERE after_batch IS NOT NULL), (SELECT EXISTS (SELECT 1 FROM cascades))"""
WITH_CHILDREN = """
SELECT CAST(group_concat(e.value, x'') AS BLOB) FROM carray(?) AS e WHERE EXISTS (SELECT 1 FROM jobs AS c WHERE c.parent = e.value)"""

HOLD_CLAIMED = f"""
UPDATE jobs SET status = 'ending', running_ms = jobs.running_ms + e.running, warnings = max(jobs.warnings, e.warned),
  progress = coalesce(e.progress, jobs.progress), unresponsive = NULL, excused = 0, crashes = 0, alone = 0
FROM (SELECT {_END.select()} FROM carray(?1)) AS e
WHERE jobs.id = e.id AND jobs.claim = e.claim AND jobs.status IN ('running', 'pausing', 'cancelling')"""
HOLD_UNCLAIMED = """
UPDATE jobs SET status = 'ending', intent = iif(?3, 'cancel', intent), after_id = NULL, after_batch = NULL, run_at = NULL,
  alone = 0, excused = 0, unresponsive = NULL, key = iif(status = 'waiting', NULL, key),
  waiting_ms = waiting_ms + iif(status = 'queued' AND run_at IS NULL, max(0, ?2 - queued_at), 0)
WHERE id IN (SELECT value FROM carray(?1))"""
HOLD = f"""
INSERT INTO held_ends (job_id, status, error, traceback, metrics, result, key)
SELECT e.id, e.status, e.error, e.traceback, e.metrics, e.result, iif(j.status = 'waiting', j.key, NULL)
FROM (SELECT {_END.select()} FROM carray(?)) AS e CROSS JOIN jobs AS j ON j.id = e.id WHERE true
ON CONFLICT (job_id) DO UPDATE SET status = excluded.status, error = excluded.error, traceback = NULL, result = NULL
WHERE held_ends.status IN ('completed', 'completed_with_errors')"""
GIVE_WAY = """
UPDATE jobs SET status = iif(status IN ('running', 'pausing', 'cancelling'), 'cancelling', 'ending'), intent = 'cancel',
  superseded_by = substr(e.value, 17, 16), after_id = NULL, after_batch = NULL, run_at = NULL, key = iif(status = 'waiting', NULL, key),
  alone = iif(status IN ('running', 'pausing', 'cancelling'), alone, 0),
  waiting_ms = waiting_ms + iif(status = 'queued' AND run_at IS NULL, max(0, ?2 - queued_at), 0)
FROM carray(?1) AS e WHERE jobs.id = substr(e.value, 1, 16)"""
ENDING = "SELECT CAST(group_concat(j.id, x'') AS BLOB) FROM carray(?) AS e CROSS JOIN jobs AS j ON j.id = e.value WHERE j.status = 'ending'"
WITHOUT_ACTOR = """
SELECT CAST(group_concat(j.id, x'') AS BLOB) FROM carray(?) AS e CROSS JOIN jobs AS j ON j.id = e.value
WHERE j.status NOT IN ('running', 'pausing', 'cancelling')"""
CASCADE = """
INSERT INTO cascades (parent, event, after) SELECT value, ?2, NULL FROM carray(?1) WHERE true
ON CONFLICT (parent) DO UPDATE SET event = excluded.event, after = NULL WHERE event <> 'cancel'"""

READY_TO_END = """
SELECT CAST(group_concat(parent, x'') AS BLOB) FROM (
  SELECT h.parent FROM carray(?) AS e CROSS JOIN job_history AS h ON h.id = e.value CROSS JOIN held_ends AS k ON k.job_id = h.parent
  CROSS JOIN jobs AS p ON p.id = h.parent AND p.status = 'ending'
  WHERE NOT EXISTS (SELECT 1 FROM jobs AS c WHERE c.parent = h.parent))"""
END_HELD = """
INSERT INTO job_history (id, name, version, status, priority, key, grp, parent, retry_of, resumable, retry, tags, requested_by,
  created_at, started_at, ended_at, claim, attempt, crashes, running_ms, waiting_ms, warnings, error, traceback, metrics, progress, result,
  data, checksum, superseded_by)
SELECT j.id, j.name, j.version, k.status, j.priority, coalesce(j.key, k.key), j.grp, j.parent, j.retry_of, j.resumable, j.retry,
  j.tags, j.requested_by, j.created_at, j.started_at, ?2, j.claim, j.attempt, j.crashes, j.running_ms, j.waiting_ms, j.warnings,
  coalesce(k.error, CASE WHEN k.status IN ('failed', 'cancelled') THEN j.error END), k.traceback, k.metrics, j.progress, k.result, j.data,
  j.checksum, CASE WHEN k.status = 'cancelled' THEN j.superseded_by END
FROM carray(?1) AS e CROSS JOIN jobs AS j ON j.id = e.value CROSS JOIN held_ends AS k ON k.job_id = j.id
WHERE j.status = 'ending'"""
"""A successor that waited has given its place away, and with it its key, which is noted with its end."""
LAST_READINGS = """
SELECT j.id, j.progress FROM carray(?) AS e CROSS JOIN held_ends AS k ON k.job_id = e.value CROSS JOIN jobs AS j ON j.id = e.value
WHERE k.status IN ('completed', 'completed_with_errors') AND j.progress IS NOT NULL"""
LAST_READING = "UPDATE jobs SET progress = ? WHERE id = ? AND status = 'ending'"
REMOVE = "DELETE FROM jobs WHERE id IN (SELECT value FROM carray(?)) AND status = 'ending'"
RELEASE = "DELETE FROM held_ends WHERE job_id IN (SELECT value FROM carray(?))"
FORGET_CASCADES = "DELETE FROM cascades WHERE parent IN (SELECT value FROM carray(?))"
TOLD = """
SELECT CAST(json_group_array(json_array(hex(h.id), h.name, h.status, hex(h.result), h.error, h.traceback, h.warnings, hex(h.superseded_by)))
  AS BLOB)
FROM carray(?) AS e CROSS JOIN job_history AS h ON h.id = e.value"""

PARK = f"""
UPDATE jobs SET after_batch = e.batch FROM (SELECT {_PARKED.select()} FROM carray(?)) AS e
WHERE jobs.id = e.id AND jobs.status = 'awaiting_children'"""
OVER = "SELECT CAST(group_concat(b.id, x'') AS BLOB) FROM carray(?) AS e CROSS JOIN batches AS b ON b.id = e.value WHERE b.completed_at IS NOT NULL"
PARKED = """
SELECT CAST(json_group_array(json_array(hex(id), name, pausers)) AS BLOB) FROM jobs
WHERE after_batch IN (SELECT value FROM carray(?)) AND after_batch IS NOT NULL AND status = 'awaiting_children'"""
WAKE = """
UPDATE jobs SET status = iif(pausers, 'paused', 'queued'), queued_at = ?1, after_batch = NULL
WHERE id IN (SELECT value FROM carray(?2)) AND status = 'awaiting_children'"""

HELD_AT_END = transition(Status.RUNNING, Event.HOLD)

STOPS_CHILDREN = frozenset({Status.FAILED, Status.CANCELLED})
"""A parent that ends so takes its children with it. One that completed waits for them."""


def with_live_children(con: apsw.Connection, ids: Iterable[bytes]) -> set[bytes]:
    """Those of these jobs that have a child that has not ended. One statement."""
    asked = tuple(ids)
    if not asked:
        return set()
    return set(_cut(con.execute(WITH_CHILDREN, (bound(asked),)).get))


def cascade(con: apsw.Connection, parents: Iterable[bytes], event: Event) -> None:
    """Note that the children of these jobs are to be paused, resumed or cancelled with them: `tree.py` does it. Cancel beats the others."""
    noted = tuple(parents)
    if noted:
        con.execute(CASCADE, (bound(noted), str(event)))


def hold_unclaimed(con: apsw.Connection, ids: Iterable[bytes], status: Status, now_ms: int, error: str | None = None) -> None:
    """These have children that live, and no actor: they end so when their children have ended, who are cancelled."""
    held_ids = tuple(ids)
    if not held_ids:
        return
    con.execute(HOLD, (bound(_END.pack((job_id, 0, status, error, None, 0, 0, None, None, None)) for job_id in held_ids),))
    con.execute(HOLD_UNCLAIMED, (bound(held_ids), now_ms, int(status is Status.CANCELLED)))
    if con.changes() != len(held_ids):
        raise AssertionError(f"{len(held_ids)} parents were found and {con.changes()} are held at their end")
    if status in STOPS_CHILDREN:
        cascade(con, held_ids, Event.CANCEL)


def give_way(con: apsw.Connection, parents: Mapping[bytes, bytes], now_ms: int) -> None:
    """These have children that live, and are to end for the sake of newer jobs: those that run are asked to, the others are held.

    A successor's place behind another is free at once.
    """
    if not parents:
        return
    ending = _cut(con.execute(WITHOUT_ACTOR, (bound(parents),)).get)
    if ending:
        con.execute(HOLD, (bound(_END.pack((each, 0, Status.CANCELLED, None, None, 0, 0, None, None, None)) for each in ending),))
    con.execute(GIVE_WAY, (bound(old + by for old, by in parents.items()), now_ms))
    if con.changes() != len(parents):
        raise AssertionError(f"{len(parents)} parents were found and {con.changes()} give way")
    cascade(con, parents, Event.CANCEL)


class Families:
    """What one connection remembers of parents, so that nothing need be asked where there are none."""

    def __init__(self, con: apsw.Connection) -> None:
        self._con = con
        self.children = False
        """Some live job may have a parent."""
        self._held = self._parked = 0
        """At most so many are held at their end; wait to be run again. (One that is held anew is counted twice.)"""
        self.cascading = False
        """The children of some job are still to be told what is wanted of it."""

    def load(self) -> None:
        children, self._held, self._parked, cascading = self._con.execute(COUNTS).get
        self.children, self.cascading = bool(children), bool(cascading)

    @property
    def holds(self) -> bool:
        """Somebody is held at its end: ends are to be looked at."""
        return self._held > 0

    # --- held at the end --------------------------------------------------------------------------------------------

    def hold(self, writes: Sequence[End | Leave]) -> dict[bytes, Status]:
        """Of these ends, those of jobs whose children live: they are noted, and carried out later. Answers the jobs.

        What is no end, what the fence keeps out and what has no children is left to the caller.
        """
        if not self.children:
            return {}
        parents = with_live_children(self._con, (write.job_id for write in writes))
        ours = [write for write in writes if write.job_id in parents]
        if not ours:
            return {}
        holds = held(self._con, ours)
        ends: list[tuple[End | Leave, Status]] = []
        for write in ours:
            before = holds.get((write.job_id, write.claim))
            if before is not None and (after := transition(before, write.event)).ended:
                ends.append((write, after))
        if not ends:
            return {}
        put(self._con, [write for write, _ in ends])
        packed = bound(_END.pack(_values(write, after)) for write, after in ends)
        self._con.execute(HOLD_CLAIMED, (packed,))
        if self._con.changes() != len(ends):
            raise AssertionError(f"{len(ends)} parents were held in this transaction and {self._con.changes()} wait at their end")
        self._con.execute(HOLD, (packed,))
        stopped = [write.job_id for write, after in ends if after in STOPS_CHILDREN]
        self.tell_children(stopped, Event.CANCEL)
        self._held += len(ends)
        return {write.job_id: HELD_AT_END for write, _ in ends}

    def held_unclaimed(self, count: int) -> None:
        """So many were held by `hold_unclaimed`."""
        self._held += count
        self.cascading = True

    def tell_children(self, parents: Iterable[bytes], event: Event) -> None:
        noted = tuple(parents)
        if noted:
            cascade(self._con, noted, event)
            self.cascading = True

    def end_held(self, ended: Sequence[bytes], now_ms: int) -> list[EndedLater]:
        """These jobs have ended in this transaction: their parents that are held and have no other child end too."""
        if not ended or not self._held:
            return []
        return self._end(sorted(set(_cut(self._con.execute(READY_TO_END, (bound(ended),)).get))), now_ms)

    def end_childless(self, held_now: Iterable[bytes], now_ms: int) -> list[EndedLater]:
        """Of these, which give way, those that no child holds: who waits for detached children has none that would end with it."""
        asked = tuple(held_now)
        ending = set(_cut(self._con.execute(ENDING, (bound(asked),)).get)) if asked else set[bytes]()
        return self._end(sorted(ending - with_live_children(self._con, ending)), now_ms)

    def _end(self, ready: list[bytes], now_ms: int) -> list[EndedLater]:
        if not ready:
            return []
        packed = bound(ready)
        self._complete_readings(packed)
        self._con.execute(END_HELD, (packed, now_ms))
        moved = self._con.changes()
        self._con.execute(REMOVE, (packed,))
        if not moved == self._con.changes() == len(ready):
            raise AssertionError(f"of {len(ready)} parents {moved} were written to the history and {self._con.changes()} removed")
        self._con.execute(RELEASE, (packed,))
        self._con.execute(FORGET_CASCADES, (packed,))
        self._held -= len(ready)
        told: bytes = self._con.execute(TOLD, (packed,)).get
        later = [_ended_later(*row) for row in json.loads(told.decode("utf-8", "replace"))]
        completed = [each.job_id for each in later if each.status is Status.COMPLETED]
        if completed:
            FORGET.execute(self._con, completed)
        return sorted(later)

    def _complete_readings(self, packed: Any) -> None:
        """All children of these have ended: what is told of them by their children says so."""
        found: list[Any] = self._con.execute(LAST_READINGS, (packed,)).fetchall()
        for job_id, blob in found:
            reading = progress_from(blob)
            if reading is not None and reading.of_children:
                whole = replace(reading, done=reading.total, percentage=1.0, eta=None)
                self._con.execute(LAST_READING, (progress_blob(whole), job_id))

    # --- to be run again --------------------------------------------------------------------------------------------

    def park(self, writes: Sequence[Leave], answers: Sequence[object], now_ms: int) -> list[Advanced]:
        """Those that left to wait for a batch wait for it. Answers those whose batch is over already: they are in line again."""
        parked = [
            (write.job_id, write.awaits) for write, after in zip(writes, answers, strict=True)
            if after is Status.AWAITING and write.event is Event.AWAIT and write.awaits is not None
        ]  # fmt: skip
        if not parked:
            return []
        self._con.execute(PARK, (bound(_PARKED.pack(each) for each in parked),))
        if self._con.changes() != len(parked):
            raise AssertionError(f"{len(parked)} jobs have left their actors in this transaction and {self._con.changes()} wait")
        self._parked += len(parked)
        over = _cut(self._con.execute(OVER, (bound(dict.fromkeys(batch_id for _, batch_id in parked)),)).get)
        return self.wake(over, now_ms)

    def wake(self, batches: Sequence[bytes], now_ms: int) -> list[Advanced]:
        """These batches are over: who waits for them comes into line. In order of arrival."""
        if not batches or not self._parked:
            return []
        raw: bytes = self._con.execute(PARKED, (bound(batches),)).get
        found = [(bytes.fromhex(job_id), name, bits) for job_id, name, bits in json.loads(raw.decode("utf-8", "replace"))]
        if not found:
            return []
        self._con.execute(WAKE, (now_ms, bound(job_id for job_id, _, _ in found)))
        if self._con.changes() != len(found):
            raise AssertionError(f"{len(found)} parents were found waiting and {self._con.changes()} have come into line")
        self._parked -= len(found)
        return sorted(Advanced(job_id, name, HELD if bits else FREE) for job_id, name, bits in found)


def _values(write: End | Leave, after: Status) -> tuple[Any, ...]:
    if isinstance(write, End):
        return (
            write.job_id, write.claim, after, write.error, write.traceback, write.running_ms, write.warned, write.metrics, write.progress,
            write.result,
        )  # fmt: skip
    return write.job_id, write.claim, after, write.error, None, write.running_ms, write.warned, None, write.progress, None


def _ended_later(
    job_id: str, name: str, status: str, result: str | None, error: str | None, traceback: str | None, warned: int, by: str | None
) -> EndedLater:
    return EndedLater(
        bytes.fromhex(job_id), name, Status(status), bytes.fromhex(result) if result else None, error, traceback, warned,
        bytes.fromhex(by) if by else None,
    )  # fmt: skip


def _cut(ids: bytes | None) -> list[bytes]:
    return [ids[at : at + ID] for at in range(0, len(ids), ID)] if ids else []
