"""What would become of a batch if it were submitted now: the same look at who has the keys, the same table, and nothing written."""

from __future__ import annotations

from dataclasses import replace

import apsw

from callboard.jobs.batch_items import ChunkOutcome
from callboard.persistence.batches import new_rows, outcome_of
from callboard.persistence.newrows import ID, NAME, NOBODY, PRIORITY, NewRows
from callboard.persistence.parentage import parentage
from callboard.persistence.rows import bound
from callboard.persistence.standing import NO_KEY, Met, look, settle
from callboard.persistence.writes import Chunk


def plan_chunk(con: apsw.Connection, chunk: Chunk, now_ms: int) -> ChunkOutcome:
    """As `InsertChunk` would answer, without ids. Of another chunk of the same batch nothing is known: plan a batch as one chunk.

    `con` may be read-only. A statement for each (job name, priority) that occurs.
    """
    if not chunk.rows:
        return outcome_of(chunk, None, None)
    new = new_rows(chunk, NOBODY, now_ms)._replace(ids=bytes(ID * len(chunk.rows)))
    met = _look(con, new)
    if met.codes.count(NO_KEY) == len(chunk.rows):
        return outcome_of(chunk, None, None)
    settled = settle(new, met)
    if chunk.parents:
        failing = parentage(con, chunk, new, settled).failed
        chunk = replace(chunk, others={**chunk.others, **failing})
    return outcome_of(chunk, None, settled)


def _look(con: apsw.Connection, new: NewRows) -> Met:
    alike: dict[tuple[str, int], list[int]] = {}
    for place in range(len(new.rows)):
        shape = new.shape(place)
        alike.setdefault((shape[NAME], shape[PRIORITY]), []).append(place)
    count = len(new.rows)
    olders, codes, priorities, fronts = bytearray(ID * count), bytearray(count), bytearray(count), bytearray(ID * count)
    raised = 0
    for places in alike.values():
        rows = [new.rows[place] for place in places]
        met = look(con, bound(rows), NewRows(rows, bytes(ID * len(rows)), (new.shape(places[0]),)), behind=True)
        raised += met.raised
        for at, place in enumerate(places):
            olders[ID * place : ID * place + ID] = met.olders[ID * at : ID * at + ID]
            fronts[ID * place : ID * place + ID] = met.front(at)
            codes[place], priorities[place] = met.codes[at], met.priorities[at]
    return Met(bytes(olders), bytes(codes), bytes(priorities), bytes(fronts), raised)
