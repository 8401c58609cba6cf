"""Taking the next jobs: by priority, then order of arrival, of the types that this process knows. Truth is the row, not memory."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

import apsw

from callboard.persistence.rows import bound
from callboard.persistence.writes import Claimed

JobKind = tuple[str, int]
"""(name, version)"""

BYTES_AT_ONCE = 8 * 2**20
"""Payloads are read in one piece up to this size, one by one beyond: SQLite's own limit for a value is 64 MiB here."""

_COLUMNS = (
    "hex(id)", "name", "version", "claim + 1", "attempt", "crashes", "started_at IS NOT NULL", "claim > 0 OR retry_of IS NOT NULL",
    "running_ms", "waiting_ms", "warnings", "requested_by", "retry", "created_at", "hex(progress)", "hex(checksum)", "length(data)",
)  # fmt: skip


@functools.lru_cache(maxsize=64)
def next_sql(kinds: int) -> str:
    """The ids that are next, of this many kinds: the head of each kind's line in the index, then the best of these."""
    head = (
        "SELECT * FROM (SELECT id, priority FROM jobs WHERE status = 'queued' AND run_at IS NULL AND alone = ? AND name = ? AND version = ?"
        " ORDER BY priority, id LIMIT ?)"
    )
    return f"{' UNION ALL '.join([head] * kinds)} ORDER BY priority, id LIMIT ?"


@functools.lru_cache(maxsize=64)
def named_sql(kinds: int) -> str:
    """The same among named ids: each is looked up, whatever else waits."""
    return (
        "SELECT id, priority FROM jobs WHERE id IN (SELECT value FROM carray(?)) AND status = 'queued' AND run_at IS NULL AND alone = ?"
        f" AND (name, version) IN (VALUES {', '.join(['(?, ?)'] * kinds)}) ORDER BY priority, id LIMIT ?"
    )


@functools.lru_cache(maxsize=64)
def _meta_sql(kinds: int, named: bool) -> str:
    next_ones = named_sql(kinds) if named else next_sql(kinds)
    return f"SELECT json_group_array(json_array({', '.join(_COLUMNS)})) FROM jobs JOIN ({next_ones}) AS next USING (id)"


CLAIM = (
    "UPDATE jobs SET status = 'running', claim = claim + 1, excused = 0, started_at = coalesce(started_at, ?1),"
    " waiting_ms = waiting_ms + max(0, ?1 - queued_at) WHERE id IN (SELECT value FROM carray(?2)) AND status = 'queued'"
)
PAYLOADS = "SELECT CAST(group_concat(data, x'') AS BLOB), CAST(group_concat(id, x'') AS BLOB) FROM jobs WHERE id IN (SELECT value FROM carray(?))"
PAYLOAD = "SELECT data FROM jobs WHERE id = ?"

KINDS_AT_ONCE = 100
"""More kinds than this are asked for in turn; SQLite allows 500 terms in a compound SELECT."""


def claim(
    con: apsw.Connection, kinds: Sequence[JobKind], most: int, alone: bool, now_ms: int, only: Sequence[bytes] | None = None
) -> tuple[Claimed, ...]:
    """Take up to `most`. The statements are three, whatever `most` is: each step of one can cost a switch interval beside a busy thread."""
    rows: list[list[object]] = []
    for start in range(0, len(kinds), KINDS_AT_ONCE):
        some = kinds[start : start + KINDS_AT_ONCE]
        values: list[object]
        if only is None:
            values = [value for kind in some for value in (int(alone), *kind, most)]
        else:
            values = [bound(only), int(alone), *(part for kind in some for part in kind)]
        rows += json.loads(con.execute(_meta_sql(len(some), only is not None), (*values, most)).get)
    if not rows:
        return ()
    if len(kinds) > KINDS_AT_ONCE:
        rows = _best(con, rows, most)
    ids = [bytes.fromhex(str(row[0])) for row in rows]
    con.execute(CLAIM, (now_ms, bound(ids)))
    if con.changes() != len(ids):
        raise AssertionError(f"claimed {con.changes()} of {len(ids)} jobs that were queued in this very transaction")
    payloads = _payloads(con, ids, [int(str(row[-1])) for row in rows])
    claimed = [_claimed(job_id, row, payloads[job_id], alone) for job_id, row in zip(ids, rows, strict=True)]
    return tuple(claimed)


def _best(con: apsw.Connection, rows: list[list[object]], most: int) -> list[list[object]]:
    order = {
        job_id.hex().upper(): place
        for place, (job_id,) in enumerate(
            con.execute(
                "SELECT id FROM jobs WHERE id IN (SELECT value FROM carray(?)) ORDER BY priority, id LIMIT ?",
                (bound(bytes.fromhex(str(row[0])) for row in rows), most),
            )
        )
    }
    return sorted((row for row in rows if row[0] in order), key=lambda row: order[str(row[0])])


def _payloads(con: apsw.Connection, ids: Sequence[bytes], lengths: Sequence[int]) -> dict[bytes, bytes]:
    if sum(lengths) > BYTES_AT_ONCE:
        return {job_id: con.execute(PAYLOAD, (job_id,)).get for job_id in ids}
    joined, order = con.execute(PAYLOADS, (bound(ids),)).get
    length_of = dict(zip(ids, lengths, strict=True))
    payloads, place = {}, 0
    for index in range(0, len(order), 16):
        job_id = order[index : index + 16]
        payloads[job_id] = joined[place : place + length_of[job_id]]
        place += length_of[job_id]
    return payloads


def _claimed(job_id: bytes, row: list[object], data: bytes, alone: bool) -> Claimed:
    (_, name, version, number, attempt, crashes, started, checkpoint, running, waiting, warnings, who, retry, created, progress, check, _) = row
    return Claimed(
        job_id, name, version, number, attempt, crashes, bool(started), bool(checkpoint), running, waiting, warnings, who, retry, created,  # type: ignore[arg-type]
        bytes.fromhex(str(progress)) or None, data, bytes.fromhex(str(check)), alone,
    )  # fmt: skip


KINDS_WAITING = """
WITH RECURSIVE kind (name, version) AS (
  SELECT * FROM (SELECT name, version FROM jobs WHERE status = 'queued' AND run_at IS NULL AND alone = ?1 ORDER BY name, version LIMIT 1)
  UNION ALL
  SELECT (SELECT name FROM jobs WHERE status = 'queued' AND run_at IS NULL AND alone = ?1 AND (name, version) > (kind.name, kind.version)
          ORDER BY name, version LIMIT 1),
         (SELECT version FROM jobs WHERE status = 'queued' AND run_at IS NULL AND alone = ?1 AND (name, version) > (kind.name, kind.version)
          ORDER BY name, version LIMIT 1)
  FROM kind WHERE kind.name IS NOT NULL
) SELECT name, version FROM kind WHERE name IS NOT NULL"""
"""The kinds that wait, by jumping from one to the next in the index: as many steps as kinds, not as rows."""


def kinds_waiting(con: apsw.Connection, alone: bool) -> list[JobKind]:
    return con.execute(KINDS_WAITING, (int(alone),)).fetchall()
