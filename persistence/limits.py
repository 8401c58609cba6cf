"""Batches of which only so many jobs run at once: the others are kept back, and come into line as those before them stop.

One that is kept back is not in the index that a claim reads, so a claim passes over none, however many there are, and pays nothing where no
batch has a limit. Who runs is read from the rows whenever it may have changed, and never counted on: a crash leaves nothing to be put right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apsw

from callboard.jobs.batch_items import ChunkOutcome
from callboard.jobs.identity import nth
from callboard.persistence.batches import Finished

LIMITED = "SELECT id, max_running FROM batches WHERE max_running IS NOT NULL AND completed_at IS NULL"
KEEP_NEW = "UPDATE jobs SET limited = ?1, kept_back = 1 WHERE id >= ?2 AND id <= ?3"
TURNS = """
SELECT (SELECT count(*) FROM jobs WHERE limited = ?1 AND kept_back = 0 AND status IN ('running', 'pausing', 'cancelling', 'awaiting_children'))
  + (SELECT count(*) FROM jobs WHERE limited = ?1 AND kept_back = 0 AND status = 'queued' AND run_at IS NULL)"""
ADMIT = """
UPDATE jobs SET kept_back = 0 WHERE id IN (
  SELECT id FROM jobs WHERE limited = ?1 AND kept_back = 1 AND status = 'queued' AND run_at IS NULL ORDER BY priority, id LIMIT ?2)"""
KEEP_BACK = """
UPDATE jobs SET kept_back = 1 WHERE id IN (
  SELECT id FROM jobs WHERE limited = ?1 AND kept_back = 0 AND status = 'queued' AND run_at IS NULL AND alone = 0
  ORDER BY priority DESC, id DESC LIMIT ?2)"""
"""A suspect waits for its turn alone as it is."""


class Limits:
    """The batches with a limit that have not ended, as one connection writes them."""

    def __init__(self, con: apsw.Connection) -> None:
        self._con = con
        self._most: dict[bytes, int] = {}
        self.changed: dict[bytes, None] = {}
        """Batches of which one more may run now, or has come back beside those that do."""

    def load(self) -> None:
        found: list[Any] = self._con.execute(LIMITED).fetchall()
        self._most = dict(found)
        self.look_at_all()

    def look_at_all(self) -> None:
        """Jobs may have come into line, or out of it, in some way."""
        if self._most:
            self.changed = dict.fromkeys(self._most)

    def stored(self, batch_id: bytes, max_running: int | None, outcome: ChunkOutcome) -> None:
        """A new chunk: all of its jobs are kept back first."""
        if max_running is not None and outcome.start == 0:
            self._most[batch_id] = max_running
        if batch_id in self._most and outcome.first_id is not None and outcome.count:
            self._con.execute(KEEP_NEW, (batch_id, outcome.first_id, nth(outcome.first_id, outcome.count - 1)))
            self.changed[batch_id] = None

    def ended(self, shrunk: Iterable[bytes], over: Sequence[Finished]) -> None:
        """Jobs of these batches have ended, and of some the last one."""
        if self._most:
            for each in over:
                self._most.pop(each.batch_id, None)
                self.changed.pop(each.batch_id, None)
            self.changed.update((batch_id, None) for batch_id in shrunk if batch_id in self._most)

    def keep(self) -> bool:
        """See that as many may run as should, and no more. True if somebody has come into line."""
        admitted = 0
        for batch_id in self.changed:
            free = self._most[batch_id] - int(self._con.execute(TURNS, (batch_id,)).get)
            if free:
                self._con.execute(*((ADMIT, (batch_id, free)) if free > 0 else (KEEP_BACK, (batch_id, -free))))
                admitted += self._con.changes() if free > 0 else 0
        self.changed.clear()
        return admitted > 0
