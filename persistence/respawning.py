"""Children of an earlier attempt once more: those that completed stand for themselves, the others are queued anew. As a batch of its own.

The new batch has as many items as the old one, in the same order; an item whose child stands is DEDUPLICATED by it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import apsw

from callboard.jobs.batch_items import ChunkOutcome, ItemKind
from callboard.jobs.errors import BatchMismatch
from callboard.jobs.identity import id_text, nth
from callboard.jobs.submission import Submitted
from callboard.persistence.inserting import insert_copy
from callboard.persistence.newrows import NOBODY
from callboard.persistence.parentage import CHUNK_OF, stored_outcome
from callboard.persistence.rows import bound
from callboard.persistence.writes import SpawnAgain

SOURCE = "SELECT count, max_running FROM batches WHERE id = ? AND sealed = 1"
NOT_COMPLETED = """
SELECT CAST(json_group_array(json_array(h.status IN ('failed', 'cancelled'), h.grp)) AS BLOB)
FROM carray(?) AS e LEFT JOIN job_history AS h ON h.id = e.value"""


class Part:
    """Some items of the old batch, and which of their children are to be queued anew."""

    def __init__(self, start: int, ids: Sequence[bytes], renewed: dict[int, str | None], last: bool, max_running: int | None) -> None:
        """`renewed`: place in `ids` → group."""
        self.start, self.ids, self.renewed, self.last, self.max_running = start, ids, renewed, last, max_running


def part_of(con: apsw.Connection, write: SpawnAgain) -> Part | Exception:
    """The items from `write.start` on."""
    found: Any = next(iter(con.execute(SOURCE, (write.source,))), None)
    chunk: Any = next(iter(con.execute(CHUNK_OF, (write.source, write.start))), None)
    if found is None or (chunk is None and found[0]):
        return BatchMismatch(f"children {id_text(write.source)} of the earlier attempt are not all stored: give the new ones another name")
    count, max_running = found
    if not count:
        return Part(0, (), {}, True, max_running)
    outcome = stored_outcome(*chunk)
    end = min(write.start + write.most, outcome.start + outcome.count)
    ids = [job_id or NOBODY for job_id in outcome.job_ids(range(write.start, end))]
    again: bytes = con.execute(NOT_COMPLETED, (bound(ids),)).get
    renewed = {place: group for place, (anew, group) in enumerate(json.loads(again.decode("utf-8", "replace"))) if anew}
    return Part(write.start, ids, renewed, end == count, max_running)


def renew(con: apsw.Connection, write: SpawnAgain, part: Part, first: bytes | None, now_ms: int) -> ChunkOutcome:
    """Queue those of the part that have not completed. `first`: the ids that are set aside begin here; None: nobody is to be queued.

    One whose key somebody else has by now is stood for by him; one whose row is damaged stays as it ended.
    """
    ids, kinds = list(part.ids), bytearray([ItemKind.DEDUPLICATED]) * len(part.ids)
    for place in part.renewed if first is not None else ():
        assert first is not None
        made = insert_copy(con, ids[place], nth(first, place), now_ms, None, parent=None if write.detached else write.job_id)
        if not isinstance(made, Submitted):
            continue
        ids[place] = made.job_id
        if not made.duplicate:
            kinds[place] = ItemKind.SUBMITTED
    if not ids:
        return ChunkOutcome(start=0, count=0)
    return ChunkOutcome(start=part.start, count=len(ids), first_id=first, kinds=bytes(kinds), ids=b"".join(ids), keys=(None,) * len(ids))
