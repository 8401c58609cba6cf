"""Questions about batches, each one snapshot."""

from __future__ import annotations

import json
from typing import Any

import apsw

from callboard.jobs.errors import NoSuchBatch
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import LIVE, Status
from callboard.jobs.record import BatchRecord, StoredChunk
from callboard.persistence.batches import FIND_PARTS, ended_counts, merged
from callboard.persistence.rows import bound

_COLUMNS = "id, created_at, CAST(requested_by AS BLOB), sealed, count, members, open, completed_at, completed_by, CAST(counts AS BLOB)"
ONE = f"SELECT {_COLUMNS} FROM batches WHERE id = ?"
NEWEST = f"SELECT {_COLUMNS} FROM batches ORDER BY created_at DESC, id DESC LIMIT ?"
BEFORE = f"""
SELECT {_COLUMNS} FROM batches
WHERE (created_at, id) < (SELECT b.created_at, b.id FROM batches AS b WHERE b.id = ?) ORDER BY created_at DESC, id DESC LIMIT ?"""
CHUNKS = "SELECT start, count, first_id, rows FROM batch_chunks WHERE batch_id = ? ORDER BY start"
HOW_LIVE = """
SELECT count(*) FROM carray(?2) AS e CROSS JOIN jobs AS j
WHERE j.status = ?1 AND j.status <> 'queued' AND j.id >= substr(e.value, 1, 16) AND j.id <= substr(e.value, 17, 16)"""
"""Of a status that few jobs have, as its index has it."""


def batch(con: apsw.Connection, batch_id: bytes) -> BatchRecord:
    """One batch, with how many of its jobs are in which status. Raises `NoSuchBatch`."""
    with con:  # one snapshot
        for row in con.execute(ONE, (batch_id,)).fetchall():
            return _record(row, _states(con, row))
    raise NoSuchBatch(f"no batch {id_text(batch_id)} in this library")


def batches(con: apsw.Connection, limit: int, after: bytes | None) -> list[BatchRecord]:
    """The newest first, without the statuses of their jobs. `after`: the last id of the page before."""
    found: list[Any] = con.execute(NEWEST, (limit,)).fetchall() if after is None else con.execute(BEFORE, (after, limit)).fetchall()
    return [_record(row, None) for row in found]


def chunks(con: apsw.Connection, batch_id: bytes) -> list[StoredChunk]:
    """What is stored of a batch, in order; empty if there is no such batch."""
    found: list[Any] = con.execute(CHUNKS, (batch_id,)).fetchall()
    return [StoredChunk(*row) for row in found]


def _states(con: apsw.Connection, row: tuple[Any, ...]) -> dict[str, int]:
    batch_id, members, still_open = row[0], row[5], row[6]
    parts: list[Any] = con.execute(FIND_PARTS, (batch_id,)).fetchall()
    ranges = [(low, high) for _, low, high in parts]
    if not ranges:
        return {}
    packed = bound(low + high for low, high in merged(ranges))
    live = {str(status): con.execute(HOW_LIVE, (str(status), packed)).get for status in sorted(LIVE - {Status.QUEUED})}
    live["queued"] = still_open - sum(live.values())
    return {status: count for status, count in (*live.items(), *ended_counts(con, ranges, members - still_open).items()) if count}


def _record(row: tuple[Any, ...], states: dict[str, int] | None) -> BatchRecord:
    batch_id, created, who, sealed, count, members, still_open, completed, completed_by, counts = row
    return BatchRecord(
        id=batch_id, created_at=created / 1000, requested_by=None if who is None else who.decode("utf-8", "backslashreplace"), count=count,
        sealed=bool(sealed), jobs=members, open=still_open, counts=_counts(counts), completed_at=None if completed is None else completed / 1000,
        completed_by=completed_by, states=states,
    )  # fmt: skip


def _counts(raw: bytes) -> dict[str, int]:
    try:
        found = json.loads(raw)
    except ValueError:  # a tally is never worth an error
        return {}
    return dict(found) if isinstance(found, dict) else {}
