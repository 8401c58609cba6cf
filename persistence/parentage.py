"""Items of a batch whose parent is another item of it: whose children they are, when the parent's key was taken, or it has ended meanwhile.

The parent is the job that stands for the parent's item: its own, the one of the later item that overrode it, or the older one that has its key.
An item whose parent is none of these, or is ending, fails: nobody would wait for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import apsw

from callboard.jobs.batch_items import BatchItem, ChunkOutcome, FailedItem, ItemKind
from callboard.jobs.errors import BadArgument, BadSubmission
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import GOES_DOWN
from callboard.jobs.submission import OnDuplicate
from callboard.persistence.newrows import HEAD, NOBODY, NewRows
from callboard.persistence.rows import bound
from callboard.persistence.standing import Settled
from callboard.persistence.writes import Chunk

CHUNK_OF = """
SELECT start, count, first_id, others FROM batch_chunks WHERE batch_id = ? AND start <= ? ORDER BY start DESC LIMIT 1"""
WANTED = f"""
SELECT CAST(json_group_array(json_array(hex(j.id), j.status,
  iif(j.pausers & {GOES_DOWN}, 'pause', iif(j.intent = 'cancel', 'cancel', 'run')))) AS BLOB)
FROM carray(?) AS e CROSS JOIN jobs AS j ON j.id = e.value"""
"""A parent that paused itself does not hold its children."""

KEYS_ABOVE = """
WITH RECURSIVE above (id, parent, name, key) AS (
  SELECT id, parent, name, key FROM jobs WHERE id = ?
  UNION SELECT j.id, j.parent, j.name, j.key FROM above AS a JOIN jobs AS j ON j.id = a.parent)
SELECT id, name, key FROM above WHERE key IS NOT NULL"""
PARENT_OF = "SELECT parent FROM jobs WHERE id = ?"

AS_IT_WAS_SENT_FIRST = "its parent had no job that lived when it was sent first"


class Parentage(NamedTuple):
    """Of the items of a chunk that name a parent."""

    found: dict[int, bytes]
    """Item → its parent's id; b"" for one that is new in a plan."""
    failed: dict[int, FailedItem]
    paused: list[bytes]
    """Parents that are asked to pause, or are paused."""

    def without_failed(self, chunk: Chunk) -> Chunk:
        """The chunk without the rows of those that fail."""
        if not self.failed:
            return chunk
        kept = [(place, row) for place, row in zip(places_of(chunk), chunk.rows, strict=True) if place not in self.failed]
        others = {**chunk.others, **self.failed}
        return replace(chunk, places=tuple(place for place, _ in kept), rows=tuple(row for _, row in kept), others=others)

    def column(self, chunk: Chunk) -> bytes:
        """For each row the id of its parent, NOBODY for none."""
        return b"".join(self.found.get(place, NOBODY) for place in places_of(chunk))


def places_of(chunk: Chunk) -> Iterable[int]:
    """The index in the batch of each row."""
    return range(chunk.start, chunk.start + chunk.count) if chunk.places is None else chunk.places


def parentage(con: apsw.Connection, chunk: Chunk, new: NewRows, settled: Settled) -> Parentage:
    """`settled`: what will become of the rows. Changes nothing."""
    parents = set(chunk.parents.values())
    old = _earlier(con, chunk)
    """Item → the job that is there already and stands for it."""
    fresh: dict[int, bytes] = {}
    for row, place in enumerate(places_of(chunk)):
        if place in parents:
            kind = settled.kinds[row]
            if kind in _STOOD_FOR:
                old[place] = settled.older(row)
            elif kind != ItemKind.REJECTED:
                fresh[place] = new.id(row)
    for place, job_id in list(old.items()):  # one that gives way in this very chunk
        gives_way = settled.ended.get(job_id) or settled.cancelled.get(job_id) if job_id is not None else None
        if gives_way is not None:
            fresh[place] = gives_way[1]
    wanted = _wanted(con, [job_id for job_id in old.values() if job_id])
    result = Parentage({}, {}, [job_id for job_id, intent in wanted.items() if intent == "pause"])
    found, failed, _ = result
    takers = {settled.older(row): place for row, place in enumerate(places_of(chunk)) if settled.kinds[row] == ItemKind.SUPERSEDED}
    failed.update(_circular(con, chunk, settled, takers, old, fresh))
    while True:
        before = len(failed)
        for place in [place for place, job_id in old.items() if job_id is not None and takers.get(job_id) in failed]:
            fresh.pop(place, None)  # who would have taken the place of that job is not written: it stands
        for place, parent in chunk.parents.items():
            if place not in failed:
                job_id = None if parent in failed else fresh.get(parent, old.get(parent))
                if job_id is not None and (parent in fresh or wanted.get(job_id) in ("run", "pause")):
                    found[place] = job_id
                else:
                    found.pop(place, None)
                    failed[place] = FailedItem(place, BadSubmission(_why(parent, job_id)))
        if len(failed) == before:
            return result


def _circular(
    con: apsw.Connection, chunk: Chunk, settled: Settled, takers: dict[bytes, int], old: dict[int, bytes | None], fresh: dict[int, bytes]
) -> Iterator[tuple[int, FailedItem]]:
    """Items whose key an ancestor has: whoever takes his place, or waits for it, would wait for him, and he for his child.

    `takers`: job → the item that takes its place. Seen by places, as the rows of a plan have no ids.
    """
    if not takers and not settled.waiting:
        return
    stands: dict[int, int | bytes | None] = {place: place for place in fresh}
    stands.update({place: None if job_id is None else takers.get(job_id, job_id) for place, job_id in old.items()})
    taking = set(takers.values())
    for row, place in enumerate(places_of(chunk)):
        front = settled.waiting.get(row)
        if place not in chunk.parents or (front is None and place not in taking):
            continue
        above, seen = stands.get(chunk.parents[place]), set[int]()
        while isinstance(above, int) and above != place and above not in seen:
            seen.add(above)
            above = stands.get(chunk.parents[above]) if above in chunk.parents else None
        while isinstance(above, bytes) and above != front:
            above = con.execute(PARENT_OF, (above,)).get
        if above == place or (front is not None and above == front):
            yield place, FailedItem(place, BadSubmission("its key is that of its parent, or of a parent of it: they would wait for each other"))


def with_the_key_of_an_ancestor(con: apsw.Connection, chunk: Chunk) -> BadArgument | None:
    """Why these children of a job cannot be queued, if one has the key of that job, or of one above it: they would wait for each other."""
    parent = next((shape.parent for shape in chunk.shapes), None)
    above = [] if parent is None else con.execute(KEYS_ABOVE, (parent,)).fetchall()
    keys: dict[tuple[str, bytes], bytes] = {(name, key): job_id for job_id, name, key in above}  # type: ignore[misc]
    for row in chunk.rows if keys else ():
        shape = chunk.shapes[int(row[:6])]
        job_id = keys.get((shape.name, row[HEAD : HEAD + int(row[6:9])]))
        if job_id is not None and shape.on_duplicate is not OnDuplicate.REJECT:
            return BadArgument(
                f"spawn_children: a child of type {shape.name} has the key of job {id_text(job_id)}, whose child it is or descends from: they would"
                " wait for each other; give it another key"
            )
    return None


_STOOD_FOR = (ItemKind.DEDUPLICATED, ItemKind.RAISED)


def _why(parent: int, job_id: bytes | None) -> str:
    if job_id is None:
        return f"its parent, item {parent}, has no job: it failed, or was rejected"
    return f"its parent, item {parent} (job {id_text(job_id)}), has ended or is ending: queue it without one, or in the same part as its parent"


def _earlier(con: apsw.Connection, chunk: Chunk) -> dict[int, bytes | None]:
    """The jobs that stand for parents in earlier parts of the batch."""
    found: dict[int, bytes | None] = {}
    part: ChunkOutcome | None = None
    for parent in sorted({parent for parent in chunk.parents.values() if parent < chunk.start}):
        if part is None or parent >= part.start + part.count:
            row: Any = next(iter(con.execute(CHUNK_OF, (chunk.batch_id, parent))))
            part = stored_outcome(*row)
        [found[parent]] = part.job_ids([parent])
    return found


def _wanted(con: apsw.Connection, ids: list[bytes]) -> dict[bytes, str]:
    """What is wanted of these jobs, of those that live and are not ending."""
    if not ids:
        return {}
    raw: bytes = con.execute(WANTED, (bound(ids),)).get
    return {bytes.fromhex(job_id): intent for job_id, status, intent in json.loads(raw.decode("utf-8", "replace")) if status != "ending"}


def stored_outcome(start: int, count: int, first: bytes | None, others: bytes | None) -> ChunkOutcome:
    """What became of the items of a stored part, as far as jobs stand for them."""
    if others is None:
        return ChunkOutcome(start=start, count=count, first_id=first)
    kinds = others[:count]
    keys = (None,) * count
    return ChunkOutcome(start=start, count=count, first_id=first, kinds=kinds, ids=others[count:], keys=keys, others=failed_then(start, kinds, {}))


def failed_then(start: int, kinds: bytes, known: Any) -> dict[int, BatchItem]:
    """Items that failed when they were stored, `known` ones with their reasons."""
    failed = (start + at for at, kind in enumerate(kinds) if kind == ItemKind.FAILED) if ItemKind.FAILED in kinds else ()
    return {**{index: FailedItem(index, BadSubmission(AS_IT_WAS_SENT_FIRST)) for index in failed}, **known}
