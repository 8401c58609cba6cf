"""Every commit of a store, looked at right behind it: what is on disk then must not contradict itself, whatever the process was about to do.

Here stands what only the database can be asked, at a moment that nobody outside sees. What it finds goes to the log as `Torn`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from observed import Observed, Torn

from callboard.actors import runtime as runtime_module
from callboard.jobs.batch_items import DeduplicatedItem, RejectedItem, RequeuedItem
from callboard.persistence.codec import CHECKPOINT, decode_value
from callboard.persistence.store import Store
from callboard.persistence.writes import Answer, ChunkStored, Claim, Excuse, InsertChunk, SaveCheckpoint, SetUnresponsive, Write, WriteProgress

_QUIET = frozenset((Claim, SaveCheckpoint, WriteProgress, SetUnresponsive, Excuse))
"""Writes that make no job, end none and move none from one line to another."""

JOBS = """
SELECT 'two jobs of one key are live: ' || group_concat(hex(id)) FROM jobs WHERE key IS NOT NULL AND status <> 'waiting'
GROUP BY name, key HAVING count(*) > 1
UNION ALL SELECT 'two successors of one key wait: ' || group_concat(hex(id)) FROM jobs WHERE key IS NOT NULL AND status = 'waiting'
GROUP BY name, key HAVING count(*) > 1
UNION ALL SELECT 'a job is live and ended: ' || hex(j.id) FROM jobs AS j JOIN job_history AS h ON h.id = j.id
UNION ALL SELECT 'a successor waits for nobody of its key: ' || hex(w.id) FROM jobs AS w LEFT JOIN jobs AS f ON f.id = w.after_id
WHERE w.after_id IS NOT NULL AND (f.id IS NULL OR f.status = 'waiting' OR f.name <> w.name OR f.key <> w.key)
UNION ALL SELECT 'a child lives, and its parent does not: ' || hex(c.id) FROM jobs AS c LEFT JOIN jobs AS p ON p.id = c.parent
WHERE c.parent IS NOT NULL AND p.id IS NULL"""

_LIVE_OF = "SELECT count(*) FROM jobs AS j WHERE j.id >= c.first_id AND j.id <= c.last_id"
_ENDED_OF = "SELECT count(*) FROM job_history AS h WHERE h.id >= c.first_id AND h.id <= c.last_id"
BATCHES = f"""
SELECT 'a chunk of ' || c.rows || ' jobs has ' || (({_LIVE_OF}) + ({_ENDED_OF})) || ': ' || hex(c.batch_id) || ' from ' || c.start
FROM batch_chunks AS c WHERE c.rows <> iif(c.first_id IS NULL, 0, ({_LIVE_OF}) + ({_ENDED_OF}))
UNION ALL SELECT 'a batch does not add up: ' || hex(b.id) || printf(', count %d, members %d, open %d, completed %s by %s',
  b.count, b.members, b.open, b.completed_at, hex(b.completed_by))
FROM batches AS b LEFT JOIN batch_chunks AS c ON c.batch_id = b.id GROUP BY b.id
HAVING b.count <> ifnull(sum(c.count), 0) OR b.count <> ifnull(max(c.start + c.count), 0) OR b.members <> ifnull(sum(c.rows), 0)
  OR b.open <> ifnull(sum(({_LIVE_OF})), 0) OR (b.completed_at IS NOT NULL) <> (b.sealed AND b.open = 0)
  OR (b.completed_by IS NOT NULL) <> (b.completed_at IS NOT NULL AND b.on_complete IS NOT NULL)
UNION ALL SELECT 'the job for the end of a batch is not there: ' || hex(b.id) FROM batches AS b WHERE b.completed_by IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = b.completed_by UNION ALL SELECT 1 FROM job_history WHERE id = b.completed_by)"""

SETS = """
SELECT k.job_id, k.name, k.value FROM job_checkpoints AS k JOIN jobs AS p ON p.id = k.job_id WHERE k.kind = 'children' AND p.retry_of IS NULL"""
# Of a further attempt, those of the one before may live: its set takes them over.
ORPHANS = """
SELECT 'children of a set that no checkpoint names: ' || hex(c.parent) FROM jobs AS c JOIN jobs AS p ON p.id = c.parent
WHERE p.status <> 'ending' AND p.attempt = 1 AND p.retry_of IS NULL GROUP BY c.parent
HAVING count(DISTINCT (SELECT b.batch_id FROM batch_chunks AS b WHERE b.first_id <= c.id AND b.last_id >= c.id))
  > (SELECT count(*) FROM job_checkpoints AS k WHERE k.job_id = c.parent AND k.kind = 'children')"""

ANY_BATCH = "SELECT 1 FROM batches LIMIT 1"
EARLIER = "SELECT first_id, last_id FROM batch_chunks WHERE batch_id = ? AND start < ? AND first_id IS NOT NULL"
UNCLAIMED = "SELECT 1 FROM jobs WHERE id = ? AND claim = 0"


def contradictions(con: Any) -> list[str]:
    """What is wrong in the committed state that this connection sees; usually nothing."""
    found: list[str] = [text for (text,) in con.execute(JOBS)]
    if con.execute(ANY_BATCH).get is not None:
        found += [text for (text,) in con.execute(BATCHES)]
        found += [text for (text,) in con.execute(ORPHANS)]
        named: list[Any] = con.execute(SETS).fetchall()
        for job_id, name, value in named:
            if con.execute("SELECT 1 FROM batches WHERE id = ?", (decode_value(value, CHECKPOINT)[0],)).get is None:
                found.append(f"the checkpoint of {job_id.hex()} names children {name!r} that are not there")
    return found


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

    class WatchedStore(Store):
        def __init__(self, place: Any, **given: Any) -> None:
            super().__init__(place, **given)
            self._log = logs[place.path]
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
            for text in contradictions(self._con):
                self._log.add(Torn(f"behind {what}: {text}"))

    with mock.patch.object(runtime_module, "Store", WatchedStore):
        yield
