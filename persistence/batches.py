"""Batches: their chunks, each whole or not at all and never twice, and how many of their jobs have not ended."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import apsw

from callboard.jobs.batch_items import ChunkOutcome, FailedItem, ItemKind
from callboard.jobs.errors import BatchMismatch
from callboard.jobs.identity import IdSource, id_text, nth, run_of_ids
from callboard.jobs.lifecycle import ENDED
from callboard.jobs.submission import OnDuplicate
from callboard.persistence.codec import decode_value, encode_value
from callboard.persistence.inserting import tag_jobs
from callboard.persistence.newrows import ID, NewRows
from callboard.persistence.parentage import failed_then, parentage, with_the_key_of_an_ancestor
from callboard.persistence.respawning import Part, renew
from callboard.persistence.rows import bound
from callboard.persistence.standing import Settled, look, put, settle
from callboard.persistence.writes import Chunk, ChunkStored, Insert, InsertChunk, Shape, SpawnAgain

OPEN = """
SELECT c.first_id, c.last_id, c.batch_id FROM batches AS b CROSS JOIN batch_chunks AS c ON c.batch_id = b.id
WHERE b.completed_at IS NULL AND c.first_id IS NOT NULL"""
FIND = "SELECT sealed, count, members, open, counts, on_complete FROM batches WHERE id = ?"
CREATE = """
INSERT INTO batches (id, created_at, requested_by, parent, sealed, count, members, open, max_running, on_complete, completed_at, completed_by, counts)
VALUES (?, ?, ?, ?, 0, 0, 0, 0, ?, ?, NULL, NULL, '{}')"""
NO_LONGER_COUNTED = "UPDATE batches SET parent = NULL WHERE id = ? AND parent = ?"
FIND_CHUNK = "SELECT count, first_id, digest, others FROM batch_chunks WHERE batch_id = ? AND start = ?"
FIND_PARTS = "SELECT start, first_id, last_id FROM batch_chunks WHERE batch_id = ? AND first_id IS NOT NULL ORDER BY start"
PUT_CHUNK = """
INSERT INTO batch_chunks (batch_id, start, count, first_id, last_id, rows, digest, others) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
GROW = "UPDATE batches SET count = count + ?2, members = members + ?3, open = open + ?4, counts = ?5, sealed = ?6 WHERE id = ?1 AND sealed = 0"
SEAL = "UPDATE batches SET sealed = 1 WHERE id = ? AND sealed = 0"
CLOSER = """
UPDATE batches SET open = open - CAST(substr(e.value, 17) AS INTEGER) FROM carray(?) AS e WHERE batches.id = substr(e.value, 1, 16)"""
FINISHED = """
SELECT CAST(group_concat(id, x'') AS BLOB) FROM batches
WHERE id IN (SELECT value FROM carray(?)) AND open = 0 AND sealed = 1 AND completed_at IS NULL"""
FINISH = "UPDATE batches SET completed_at = ? WHERE id = ? AND completed_at IS NULL"
COMPLETED_BY = "UPDATE batches SET completed_by = ? WHERE id = ?"

HOW_ENDED = """
SELECT count(*) FROM carray(?2) AS e CROSS JOIN job_history AS h
WHERE h.status = ?1 AND h.status <> 'completed' AND h.id >= substr(e.value, 1, 16) AND h.id <= substr(e.value, 17, 16)"""
"""Of a status that few jobs end with, as its index has it."""


class Finished(NamedTuple):
    """A batch whose last job has ended."""

    batch_id: bytes
    counts: dict[str, int]
    on_complete: Insert | None


class Batches:
    """The batches that have not ended, as one connection writes them, and the ids of their jobs."""

    def __init__(self, con: apsw.Connection) -> None:
        self._con = con
        self._firsts: list[bytes] = []
        self._lasts: list[bytes] = []
        self._owners: list[bytes] = []
        """Parts of batches, in order of their ids."""
        self._touched: dict[bytes, None] = {}
        """Batches that may have ended with what was written just now."""
        self.shrunk: list[bytes] = []
        """Batches some of whose jobs have ended, since somebody last took them from here."""
        self.rows: Sequence[bytes] = ()
        """Those of the last chunk, without the items that failed for their parents."""
        self.pausing: list[bytes] = []
        """Jobs that are asked to pause, of which the last chunk has children."""

    @property
    def open(self) -> bool:
        """Some batch has not ended: ends are to be counted."""
        return bool(self._owners or self._touched)

    def forget(self) -> None:
        """What is remembered may not be true; `load` follows."""
        self._touched.clear()

    def load(self) -> None:
        found: list[Any] = sorted(self._con.execute(OPEN).fetchall())
        self._firsts, self._lasts, self._owners = ([row[column] for row in found] for column in range(3))

    def insert(
        self, write: InsertChunk, now_ms: int, ids: IdSource, chance: bytes, *, behind: bool, busy: Exception | None = None
    ) -> tuple[ChunkStored | Exception, Settled | None]:
        """Store a chunk, or find it stored. `busy`: why there is no room for what is new."""
        chunk = write.chunk
        found: Any = next(iter(self._con.execute(FIND, (chunk.batch_id,))), None)
        sealed, count, *_ = found or (0, 0)
        if chunk.start != count or (sealed and not chunk.count):
            return self._again(chunk, sealed, count), None
        if sealed:
            return BatchMismatch(f"batch {id_text(chunk.batch_id)} has {count} items and is complete: there is no item {count}"), None
        busy = busy or with_the_key_of_an_ancestor(self._con, chunk)
        if busy is not None:
            return busy, None
        if found is None:
            on_complete = None if write.on_complete is None else pack_insert(write.on_complete)
            parent = next((shape.parent for shape in chunk.shapes), None)
            self._con.execute(CREATE, (chunk.batch_id, now_ms, write.requested_by, parent, write.max_running, on_complete))
        first = ids.take(chunk.count, now_ms, chance) if chunk.rows else None
        settled = None
        if first is not None:
            chunk, settled = self._put_rows(chunk, first, now_ms, behind)
        self.rows = chunk.rows
        outcome = outcome_of(chunk, first, settled)
        self._put_chunk(chunk, first, settled, outcome, json.loads(found[4]) if found else {})
        return ChunkStored(outcome, False), settled

    def _put_rows(self, chunk: Chunk, first: bytes, now_ms: int, behind: bool) -> tuple[Chunk, Settled | None]:
        """Also answers the chunk as it was stored: without the items that fail for their parents."""
        mine: list[Any] = self._con.execute(FIND_PARTS, (chunk.batch_id,)).fetchall() if chunk.start else []
        new = new_rows(chunk, first, now_ms)
        ranges = [(low, high) for _, low, high in mine]
        parents = b""
        if chunk.parents:
            met = look(self._con, bound(new.rows), new, behind=behind, mine=ranges)
            of_parents = parentage(self._con, chunk, new, settle(new, met, mine=ranges))
            chunk, self.pausing = of_parents.without_failed(chunk), of_parents.paused
            parents = of_parents.column(chunk)
            if not chunk.rows:
                return chunk, None
            new = new_rows(chunk, first, now_ms) if of_parents.failed else new
        settled = put(self._con, new, now_ms, behind=behind, mine=ranges, parents=parents, ask_first=True)
        tagged = [json.loads(shape[7]) if shape[7] else () for shape in new.shapes]
        if any(tagged):
            made = (place for place in range(len(new.rows)) if settled is None or settled.made(place))
            tag_jobs(self._con, ((tag, new.id(place)) for place in made for tag in tagged[int(new.rows[place][:6])]))
        return chunk, settled

    def _put_chunk(self, chunk: Chunk, first: bytes | None, settled: Settled | None, outcome: ChunkOutcome, counts: dict[str, int]) -> None:
        members = len(chunk.rows) if settled is None else settled.members
        failed_here = chunk.parents and any(place in chunk.parents for place in chunk.others)
        others = _pack_others(outcome) if settled is not None or failed_here else None
        self._grow(chunk.batch_id, outcome, members, others, chunk.digest, chunk.last, counts)

    def _grow(
        self, batch_id: bytes, outcome: ChunkOutcome, members: int, others: bytes | None, digest: bytes, last: bool, counts: dict[str, int]
    ) -> None:
        count, first_id = outcome.count, outcome.first_id
        last_id = None if first_id is None else nth(first_id, count - 1)
        if count:
            self._con.execute(PUT_CHUNK, (batch_id, outcome.start, count, first_id, last_id, members, digest, others))
        tally = Counter(counts)
        tally.update({kind.name.lower(): number for kind, number in outcome.tally().items()})
        self._con.execute(GROW, (batch_id, count, members, members, json.dumps(tally), int(last)))
        if self._con.changes() != 1:
            raise AssertionError("the batch that was read in this transaction is gone")
        self._touched[batch_id] = None
        if first_id is not None and last_id is not None:
            self._firsts.append(first_id)
            self._lasts.append(last_id)
            self._owners.append(batch_id)

    def insert_again(self, write: SpawnAgain, part: Part, now_ms: int, ids: IdSource, chance: bytes) -> ChunkOutcome | Exception:
        """Children of an earlier attempt as a part of a new batch."""
        found: Any = next(iter(self._con.execute(FIND, (write.batch_id,))), None)
        sealed, count, *_ = found or (0, 0)
        if sealed or write.start != count:
            return BatchMismatch(f"batch {id_text(write.batch_id)} has {count} items: there is no item {write.start} to come")
        if found is None:
            parent = None if write.detached else write.job_id
            self._con.execute(CREATE, (write.batch_id, now_ms, write.requested_by, parent, part.max_running, None))
            self._con.execute(NO_LONGER_COUNTED, (write.source, write.job_id))
        first = ids.take(len(part.ids), now_ms, chance) if part.renewed else None
        outcome = renew(self._con, write, part, first, now_ms)
        others = _pack_others(outcome)
        counts = json.loads(found[4]) if found else {}
        self._grow(write.batch_id, outcome, outcome.tally()[ItemKind.SUBMITTED], others, write.source, part.last, counts)
        return outcome

    def _again(self, chunk: Chunk, sealed: int, count: int) -> ChunkStored | Exception:
        """A chunk that should be stored already."""
        named = f"batch {id_text(chunk.batch_id)}"
        if not chunk.count and chunk.start == count:
            return ChunkStored(ChunkOutcome(start=count, count=0), True)
        stored: Any = next(iter(self._con.execute(FIND_CHUNK, (chunk.batch_id, chunk.start))), None)
        if stored is None:
            return BatchMismatch(f"{named} has {count} items so far, in parts none of which starts at item {chunk.start}: send it as it was cut then")
        size, first, digest, others = stored
        if size != chunk.count or digest != chunk.digest:
            return BatchMismatch(
                f"{named} is stored with other content from item {chunk.start} to {chunk.start + size - 1}: send what was sent then, or give the"
                " new batch an id of its own"
            )
        if chunk.last and not sealed and chunk.start + size == count:
            self._con.execute(SEAL, (chunk.batch_id,))
            self._touched[chunk.batch_id] = None
        return ChunkStored(_unpack_others(chunk, first, others), True)

    def count_ended(self, ended: Sequence[bytes], now_ms: int) -> list[Finished]:
        """These jobs have ended in this transaction. The batches whose last one is among them; they are over from now on."""
        owners = Counter(owner for owner in map(self._owner, ended) if owner is not None)
        if owners:
            self._con.execute(CLOSER, (bound(b"%b%d" % (owner, number) for owner, number in owners.items()),))
            if self._con.changes() != len(owners):
                raise AssertionError(f"jobs of {len(owners)} batches have ended, {self._con.changes()} were found")
        self.shrunk += owners
        asked = dict.fromkeys((*owners, *self._touched))
        self._touched.clear()
        if not asked:
            return []
        found: bytes = self._con.execute(FINISHED, (bound(asked),)).get or b""
        return [self._finish(found[at : at + ID], now_ms) for at in range(0, len(found), ID)]

    def completed_by(self, batch_id: bytes, job_id: bytes) -> None:
        """Which job was queued for its end."""
        self._con.execute(COMPLETED_BY, (job_id, batch_id))

    def _owner(self, job_id: bytes) -> bytes | None:
        place = bisect_right(self._firsts, job_id) - 1
        return self._owners[place] if place >= 0 and job_id <= self._lasts[place] else None

    def _finish(self, batch_id: bytes, now_ms: int) -> Finished:
        self._con.execute(FINISH, (now_ms, batch_id))
        _, _, members, _, _, on_complete = next(iter(self._con.execute(FIND, (batch_id,))))
        parts: list[Any] = self._con.execute(FIND_PARTS, (batch_id,)).fetchall()
        counts = ended_counts(self._con, [(low, high) for _, low, high in parts], members)
        keep = [place for place, owner in enumerate(self._owners) if owner != batch_id]
        self._firsts, self._lasts, self._owners = ([column[place] for place in keep] for column in (self._firsts, self._lasts, self._owners))
        return Finished(batch_id, counts, None if on_complete is None else unpack_insert(on_complete))


def ended_counts(con: apsw.Connection, parts: Sequence[tuple[bytes, bytes]], ended: int) -> dict[str, int]:
    """How many of the jobs with these ids ended with which status, if so many have ended. Statuses that none has are left out."""
    if not parts:
        return {}
    ranges = bound(low + high for low, high in merged(parts))
    counts: dict[str, int] = {}
    for status in sorted(map(str, ENDED - {"completed"})):
        counts[status] = con.execute(HOW_ENDED, (status, ranges)).get
    counts = {"completed": ended - sum(counts.values()), **counts}
    return {status: number for status, number in counts.items() if number}


def merged(parts: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The same ids in as few ranges as possible."""
    ranges: list[tuple[bytes, bytes]] = []
    for low, high in parts:
        if ranges and nth(ranges[-1][1], 1) == low:
            ranges[-1] = ranges[-1][0], high
        else:
            ranges.append((low, high))
    return ranges


def new_rows(chunk: Chunk, first: bytes, now_ms: int) -> NewRows:
    """The rows of a chunk as they would be written now."""
    ids = b"".join(run_of_ids(first, chunk.count))
    if chunk.places is not None:
        ids = b"".join(ids[ID * (place - chunk.start) : ID * (place - chunk.start) + ID] for place in chunk.places)
    return NewRows(chunk.rows, ids, tuple(_resolved(shape, now_ms) for shape in chunk.shapes))


def _resolved(shape: Shape, now_ms: int) -> tuple[Any, ...]:
    run_at = shape.run_at_ms if shape.delay_ms is None else now_ms + shape.delay_ms
    if run_at is not None and run_at <= now_ms:
        run_at = None
    tags = json.dumps(shape.tags) if shape.tags else None
    return (*shape[:7], tags, shape.requested_by, run_at, shape.on_duplicate)


def outcome_of(chunk: Chunk, first: bytes | None, settled: Settled | None) -> ChunkOutcome:
    """What became of each item of a chunk. `first`: None in a plan."""
    if settled is None:
        return ChunkOutcome(start=chunk.start, count=chunk.count, first_id=first, others=chunk.others)
    kinds, ids = bytes(settled.kinds), bytes(settled.olders)
    if chunk.places is not None:
        of_all, ids_of_all = bytearray(chunk.count), bytearray(ID * chunk.count)
        for row, place in enumerate(chunk.places):
            at = place - chunk.start
            of_all[at] = kinds[row]
            ids_of_all[ID * at : ID * at + ID] = ids[ID * row : ID * row + ID]
        kinds, ids = bytes(of_all), bytes(ids_of_all)
    return _outcome(chunk, first, kinds, ids)


def _outcome(chunk: Chunk, first: bytes | None, kinds: bytes, ids: bytes) -> ChunkOutcome:
    told: ItemKind | bytes = ItemKind(kinds[0]) if kinds.count(kinds[0]) == len(kinds) else kinds
    return ChunkOutcome(start=chunk.start, count=chunk.count, first_id=first, kinds=told, ids=ids, keys=chunk.keys, others=chunk.others)


def _pack_others(outcome: ChunkOutcome) -> bytes:
    kinds = bytearray(outcome.kinds if isinstance(outcome.kinds, bytes) else bytes([outcome.kinds]) * outcome.count)
    for index, item in outcome.others.items():
        if isinstance(item, FailedItem):
            kinds[index - outcome.start] = ItemKind.FAILED
    return bytes(kinds) + outcome.ids


def _unpack_others(chunk: Chunk, first: bytes | None, others: bytes | None) -> ChunkOutcome:
    if others is None:
        return ChunkOutcome(start=chunk.start, count=chunk.count, first_id=first, others=chunk.others)
    kinds = others[: chunk.count]
    return _outcome(replace(chunk, others=failed_then(chunk.start, kinds, chunk.others)), first, kinds, others[chunk.count :])


def pack_insert(job: Insert) -> bytes:
    """A new job that is to be queued later."""
    return encode_value(tuple(job._replace(on_duplicate=str(job.on_duplicate))))  # type: ignore[arg-type]


def unpack_insert(blob: bytes) -> Insert:
    """Raises `NotDecodable`, and TypeError or ValueError for damage."""
    job = Insert(*decode_value(blob))
    return job._replace(on_duplicate=OnDuplicate(job.on_duplicate))
