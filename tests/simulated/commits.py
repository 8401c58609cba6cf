"""Every commit of a store, looked at right behind it: what is on disk then must not contradict itself, whatever the process was about to do.

Here stands what only the database can be asked, at a moment that nobody outside sees. What it finds goes to the log as `Torn`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from disk import Look, Looks, Row, Rows
from observed import Observed, Torn
from replaced import replaced

from callboard.actors import runtime as runtime_module
from callboard.jobs.batch_items import DeduplicatedItem, RejectedItem, RequeuedItem
from callboard.jobs.lifecycle import Status
from callboard.persistence.codec import CHECKPOINT, decode_value
from callboard.persistence.store import Store
from callboard.persistence.writes import Answer, ChunkStored, Claim, Excuse, InsertChunk, SaveCheckpoint, SetUnresponsive, Write, WriteProgress

_QUIET = frozenset((Claim, SaveCheckpoint, WriteProgress, SetUnresponsive, Excuse))
"""Writes that make no job, end none and move none from one line to another."""

SETS = """
SELECT k.job_id, k.name, k.value FROM job_checkpoints AS k JOIN jobs AS p ON p.id = k.job_id WHERE k.kind = 'children' AND p.retry_of IS NULL"""
# Of a further attempt, those of the one before may live: its set takes them over.
ORPHANS = """
SELECT 'children of a set that no checkpoint names: ' || hex(c.parent) FROM jobs AS c JOIN jobs AS p ON p.id = c.parent
WHERE p.status <> 'ending' AND p.attempt = 1 AND p.retry_of IS NULL GROUP BY c.parent
HAVING count(DISTINCT (SELECT b.batch_id FROM batch_chunks AS b JOIN batches AS s ON s.id = b.batch_id AND s.parent IS NOT NULL
  WHERE b.first_id <= c.id AND b.last_id >= c.id))
  > (SELECT count(*) FROM job_checkpoints AS k WHERE k.job_id = c.parent AND k.kind = 'children')"""

EARLIER = "SELECT first_id, last_id FROM batch_chunks WHERE batch_id = ? AND start < ? AND first_id IS NOT NULL"
UNCLAIMED = "SELECT 1 FROM jobs AS j WHERE id = ? AND claim = 0 AND NOT EXISTS (SELECT 1 FROM jobs WHERE parent = j.id)"


def contradictions(con: Any, look: Look) -> list[str]:
    """What is wrong in the committed state that this connection sees, and that was just looked at; usually nothing."""
    rows, batches = look.stored
    live = [row for row in rows.values() if row.ended_at is None]
    found = [f"a job is live and ended: {job_id.hex()}" for job_id in look.live_and_ended]
    found += of_keys(rows, live)
    children = [row for row in live if row.parent is not None]
    found += [f"a child lives, and its parent does not: {row.id.hex()}" for row in children if _has_lost(rows.get(row.parent or b""))]
    if batches:
        found += of_batches(look)
        if children:
            found += [text for (text,) in con.execute(ORPHANS)]
        named: list[Any] = con.execute(SETS).fetchall()
        for job_id, name, value in named:
            if decode_value(value, CHECKPOINT)[0] not in batches:
                found.append(f"the checkpoint of {job_id.hex()} names children {name!r} that are not there")
    return found


def of_keys(rows: Rows, live: list[Row]) -> Iterator[str]:
    """A key has one live job and one successor at most, and who waits waits for a live one of its key."""
    places: set[tuple[str, bytes, bool]] = set()
    for row in live:
        if row.key is None and row.after_id is None:
            continue
        waits = row.status is Status.WAITING
        if row.key is not None and (row.name, row.key, waits) in places:
            yield f"two successors of one key wait: {row.id.hex()}" if waits else f"two jobs of one key are live: {row.id.hex()}"
        if row.key is not None:
            places.add((row.name, row.key, waits))
        front = None if row.after_id is None else rows.get(row.after_id)
        good = front is not None and _lives(front) and front.status is not Status.WAITING and (front.name, front.key) == (row.name, row.key)
        if row.after_id is not None and not good:
            yield f"a successor waits for nobody of its key: {row.id.hex()}"


def of_batches(look: Look) -> Iterator[str]:
    """A chunk has as many jobs as were made for it, and a batch is the sum of its chunks; it is over when none of its jobs lives."""
    rows, batches = look.stored
    ids = list(rows)  # in order
    made = {(batch_id, start): jobs for batch_id, start, jobs in look.chunk_rows}
    for batch in batches.values():
        alive = members = items = 0
        for start, count, first, last in batch.chunks:
            there = [] if first is None or last is None else ids[bisect_left(ids, first) : bisect_right(ids, last)]
            if made[batch.id, start] != len(there):
                yield f"a chunk of {made[batch.id, start]} jobs has {len(there)}: {batch.id.hex()} from {start}"
            alive += sum(_lives(rows[job_id]) for job_id in there)
            members, items = members + made[batch.id, start], items + count
        end = max((start + count for start, count, _, _ in batch.chunks), default=0)
        over = batch.completed_at is not None, batch.completed_by is not None
        due = batch.sealed and batch.open == 0
        if (items, end, members, alive) != (batch.items, batch.items, batch.members, batch.open) or over != (due, due and batch.has_last):
            yield f"a batch does not add up: {batch}"
        if batch.completed_by is not None and batch.completed_by not in rows:
            yield f"the job for the end of a batch is not there: {batch.id.hex()}"


def _lives(row: Row | None) -> bool:
    return row is not None and row.ended_at is None


def _has_lost(parent: Row | None) -> bool:
    """A successor that was replaced before its turn has ended at once; what it had of children is told next."""
    return not _lives(parent) and (parent is None or parent.superseded_by is None)


def stayed_in_the_way(con: Any, batch_id: bytes, stored: ChunkStored) -> Iterator[int]:
    """Items of a chunk that met one of an earlier chunk of their batch which nobody had claimed, and did not take its place."""
    outcome = stored.outcome
    parts: list[Any] = con.execute(EARLIER, (batch_id, outcome.start)).fetchall()
    for index in range(outcome.start, outcome.start + outcome.count):
        item = outcome.item(index)
        older = item.after if isinstance(item, RequeuedItem) else item.job_id if isinstance(item, (DeduplicatedItem, RejectedItem)) else None
        if older is not None and any(first <= older <= last for first, last in parts) and con.execute(UNCLAIMED, (older,)).get is not None:
            yield index


@contextmanager
def watched_commits(logs: Mapping[Path, Observed]) -> Iterator[None]:
    """Look behind every commit of the stores that a runtime makes. `logs`: folder of a library → where to write it down."""
    _LOGS.append(logs)
    try:
        with replaced((runtime_module, "Store", WatchedStore)):
            yield
    finally:
        _LOGS.pop()


_LOGS: list[Mapping[Path, Observed]] = []
"""Those of now, the last ones."""


class WatchedStore(Store):
    def __init__(self, place: Any, **given: Any) -> None:
        super().__init__(place, **given)
        self._log = _LOGS[-1][place.path]
        self._looks: Looks = place.looks
        self._note("an opening")

    def commit(self, writes: Sequence[Write]) -> list[Answer]:
        answers = super().commit(writes)
        if self.failure is None and not all(type(write) in _QUIET for write in writes):
            self._note("a commit")
            for write, answer in zip(writes, answers, strict=True):
                if isinstance(write, InsertChunk) and isinstance(answer, ChunkStored) and not answer.again:
                    for index in stayed_in_the_way(self._con, write.chunk.batch_id, answer):
                        self._log.add(Torn(f"item {index} of batch {write.chunk.batch_id.hex()} did not replace an earlier one, not claimed"))
        return answers

    def _note(self, what: str) -> None:
        for text in contradictions(self._con, self._looks.look(self._con, self._con)):
            self._log.add(Torn(f"behind {what}: {text}"))
