"""What users want of a whole batch: pause, resume, cancel, some jobs a commit, in a few statements however many they are."""

from __future__ import annotations

import json
from typing import Any

import apsw

from callboard.jobs.errors import NoSuchBatch
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import SUSPECT_CRASHES, Event, Status
from callboard.persistence.children import HELD_AT_END, Families, hold_unclaimed, with_live_children
from callboard.persistence.ending import finish
from callboard.persistence.intents import beaten_by_cancel, decide_intent, told_to_children
from callboard.persistence.rows import Layout, bound
from callboard.persistence.writes import BatchIntentSet, Changed, SetBatchIntent

EXISTS = "SELECT count FROM batches WHERE id = ?"

OF_BATCH = """id >= (SELECT first_id FROM batch_chunks WHERE batch_id = ?1 AND first_id IS NOT NULL ORDER BY start LIMIT 1)
  AND id <= (SELECT last_id FROM batch_chunks WHERE batch_id = ?1 AND first_id IS NOT NULL ORDER BY start DESC LIMIT 1)
  AND (SELECT c.batch_id = ?1 AND c.first_id <= {table}.id FROM batch_chunks AS c
    WHERE c.last_id >= {table}.id AND c.last_id IS NOT NULL ORDER BY c.last_id LIMIT 1)"""
"""Of a table of jobs: a walk over the ids of the batch, each asked for the chunk that it belongs to."""

MEMBERS = f"""
SELECT CAST(json_group_array(json_array(hex(id), name, status, pausers, resumable, alone, intent)) AS BLOB) FROM (
  SELECT id, name, status, pausers, resumable, alone, intent FROM jobs WHERE {OF_BATCH.format(table="jobs")} AND id > ?2 ORDER BY id LIMIT ?3)"""

_SET = Layout(id=16, before="text", after="text", intent="text", pausers="int", freed="int")
SET_MANY = f"""
UPDATE jobs SET status = e.after, intent = e.intent, pausers = e.pausers,
  queued_at = iif(e.after = 'queued' AND jobs.status <> 'queued', ?2, jobs.queued_at),
  waiting_ms = jobs.waiting_ms + iif(e.after <> 'queued' AND jobs.status = 'queued' AND jobs.run_at IS NULL, max(0, ?2 - jobs.queued_at), 0),
  crashes = iif(e.freed, ?3, jobs.crashes), alone = iif(e.freed, 1, jobs.alone), kept_back = iif(e.freed, 0, jobs.kept_back)
FROM (SELECT {_SET.select()} FROM carray(?1)) AS e WHERE jobs.id = e.id AND jobs.status = e.before"""


def set_batch_intent(con: apsw.Connection, write: SetBatchIntent, now_ms: int, families: Families) -> BatchIntentSet | Exception:
    """Carry out one command for the next jobs of the batch. Those that end are in the history."""
    if con.execute(EXISTS, (write.batch_id,)).get is None:
        return NoSuchBatch(f"no batch {id_text(write.batch_id)} in this library")
    raw: bytes = con.execute(MEMBERS, (write.batch_id, write.after_id, write.most)).get
    found: list[list[Any]] = json.loads(raw.decode("utf-8", "replace"))
    parents = with_live_children(con, (bytes.fromhex(row[0]) for row in found)) if families.children else set()
    held: list[bytes] = []
    told: dict[Event, list[bytes]] = {}
    changed: list[Changed] = []
    ended: list[bytes] = []
    rows: list[bytes] = []
    refused = 0
    for hex_id, name, status, bits, resumable, alone, wanted in found:
        job_id, before = bytes.fromhex(hex_id), Status(status)
        if write.event is Event.PAUSE and before is Status.RUNNING and not resumable:
            refused += 1
            continue
        if beaten_by_cancel(before, wanted, write.event):
            continue
        after, pausers = decide_intent(before, write.event, write.pauser, bits)
        freed = before is Status.QUARANTINED and after is not before
        if job_id in parents and not after.ended:
            told.setdefault(told_to_children(after, pausers), []).append(job_id)
        if job_id in parents and after.ended:
            held.append(job_id)
            after = HELD_AT_END
        elif after.ended:
            ended.append(job_id)
        elif (after, pausers) != (before, bits):
            intent = "cancel" if after is Status.CANCELLING else "pause" if pausers else "run"
            rows.append(_SET.pack((job_id, before, after, intent, pausers, int(freed))))
        if after is not before:
            changed.append(Changed(job_id, name, before, after, after is Status.QUEUED and bool(alone or freed)))
    if rows:
        con.execute(SET_MANY, (bound(rows), now_ms, SUSPECT_CRASHES))
        if con.changes() != len(rows):
            raise AssertionError(f"{len(rows)} jobs were read in this transaction and {con.changes()} were changed")
    if ended:
        finish(con, ended, Status.CANCELLED, now_ms)
    if held:
        hold_unclaimed(con, held, Status.CANCELLED, now_ms)
        families.held_unclaimed(len(held))
    for event, of_these in told.items():
        families.tell_children(of_these, event)
    go_on_after = bytes.fromhex(found[-1][0]) if len(found) == write.most else None
    return BatchIntentSet(tuple(changed), refused, go_on_after)
