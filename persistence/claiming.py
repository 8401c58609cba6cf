"""Taking the next jobs: by priority, then order of arrival, of the types that this process knows. Truth is the row, not memory.

Text that is no UTF-8 is read with replacement characters: the checksum says so when the job is restored. A row that has a value of the
wrong type fails the whole claim; then the store sets it aside, and claims again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Container, MutableMapping, Sequence
from typing import Any

import apsw

from callboard.jobs.identity import ID_BYTES, id_text
from callboard.persistence.rows import ByIds, bound
from callboard.persistence.writes import Claimed

JobKind = tuple[str, int]
"""(name, version)"""

Fresh = tuple[str, int, bytes, str | None, str | None, int]
"""Of a new job as it was written: name, version, data, requested_by, retry, created_ms. A tuple of plain values: see `jobs/factlog.py`."""

_PLACE_BYTES = 3 + ID_BYTES

BYTES_AT_ONCE = 8 * 2**20
"""Payloads are read together as long as they come to no more than this; one by one those that are larger than their share of it.
SQLite's own limit for a value is 64 MiB here."""

KINDS_AT_ONCE = 100
"""More kinds than this are asked for in turn; SQLite allows 500 terms in a compound SELECT."""

READY = "status = 'queued' AND run_at IS NULL AND kept_back = 0 AND alone = ?"
"""As the index jobs_ready has it."""


@functools.lru_cache(maxsize=64)
def next_sql(kinds: int) -> str:
    """The ids that are next, of this many kinds.

    SQLite merges the lines of the kinds, each in the order of the index, and stops when it has enough: as many steps as rows and
    kinds, however deep the lines are.
    """
    line = f"SELECT id, priority FROM jobs WHERE {READY} AND name = ? AND version = ?"
    return f"{' UNION ALL '.join([line] * kinds)} ORDER BY priority, id LIMIT ?"


@functools.lru_cache(maxsize=64)
def named_sql(kinds: int) -> str:
    """The same among named ids: each is looked up, whatever else waits."""
    pairs = ", ".join(["(?, ?)"] * kinds)
    return (
        f"SELECT id, priority FROM jobs WHERE id IN (SELECT value FROM carray(?)) AND {READY}"
        f" AND (name, version) IN (VALUES {pairs}) ORDER BY priority, id LIMIT ?"
    )


_COLUMNS = (
    "hex(j.id)", "iif(octet_length(j.data) + ifnull(octet_length(j.progress), 0) <= ?2, hex(j.data), NULL)",
    "iif(octet_length(j.progress) <= ?2, hex(j.progress), '')", "hex(j.checksum)", "j.name", "j.version", "j.claim", "j.attempt",
    "j.crashes", "j.claim > 1", "j.claim > 1 OR j.retry_of IS NOT NULL", "j.running_ms", "j.waiting_ms",
    "j.warnings", "j.created_at", "j.requested_by", "j.retry",
)  # fmt: skip
NULLABLE = 2
"""The last so many."""

READ = f"""
SELECT CAST(json_group_array(json_array({', '.join(_COLUMNS)})) AS BLOB)
FROM carray(?1) AS e CROSS JOIN jobs AS j ON j.id = e.value"""


@functools.lru_cache(maxsize=64)
def _next_ids_sql(kinds: int, named: bool) -> str:
    """One row: of each that is next three digits of priority and the id, in order."""
    next_ones = named_sql(kinds) if named else next_sql(kinds)
    return f"SELECT CAST(group_concat(CAST(printf('%3d', priority) AS BLOB) || id, x'') AS BLOB) FROM ({next_ones})"


WITH_CHECKPOINT = """
SELECT CAST(group_concat(hex(e.value), '') AS BLOB) FROM carray(?) AS e
WHERE EXISTS (SELECT 1 FROM job_checkpoints AS c WHERE c.job_id = e.value)"""

CLAIM = ByIds("""
UPDATE jobs SET status = 'running', claim = claim + 1, started_at = coalesce(started_at, ?2),
  waiting_ms = waiting_ms + max(0, ?2 - queued_at)
WHERE id {these} AND status = 'queued'""")
PAYLOAD = "SELECT CAST(data AS BLOB), CAST(progress AS BLOB) FROM jobs WHERE id = ?"


def claim(
    con: apsw.Connection,
    kinds: Sequence[JobKind],
    most: int,
    alone: bool,
    now_ms: int,
    only: Sequence[bytes] | None = None,
    fresh: MutableMapping[bytes, Fresh] | None = None,
) -> tuple[Claimed, ...]:
    """Take up to `most`. The statements are two or three, whatever `most` is: each step of one can cost a switch interval beside a busy
    thread. `fresh`: jobs that need not be read, as they were written by this process and never claimed; what is claimed is taken out."""
    if only is not None and not only:  # SQLite takes no array of nothing
        return ()
    ids = _next_ids(con, kinds, most, alone, only)
    if not ids:
        return ()
    CLAIM.execute(con, ids, now_ms)
    if con.changes() != len(ids):
        raise AssertionError(f"claimed {con.changes()} of {len(ids)} jobs that were queued in this very transaction")
    known = {job_id: first_claim(job_id, fresh.pop(job_id), now_ms) for job_id in ids if job_id in fresh} if fresh else {}
    if len(known) < len(ids):
        unread = [job_id for job_id in ids if job_id not in known]
        found: bytes = con.execute(READ, (bound(unread), BYTES_AT_ONCE // max(1, most))).get
        for job_id, row in zip(unread, json.loads(found.decode("utf-8", "replace")), strict=True):
            known[job_id] = _claimed(con, job_id, row, alone)
    return tuple(map(known.__getitem__, ids))


def _next_ids(con: apsw.Connection, kinds: Sequence[JobKind], most: int, alone: bool, only: Sequence[bytes] | None) -> list[bytes]:
    found: list[bytes] = []
    for start in range(0, len(kinds), KINDS_AT_ONCE):
        some = [value for kind in kinds[start : start + KINDS_AT_ONCE] for value in kind]
        count = len(some) // 2
        values: list[object] = [bound(only), int(alone), *some] if only is not None else []
        if only is None:
            for at in range(0, len(some), 2):
                values += [int(alone), some[at], some[at + 1]]
        bindings: Any = (*values, most)
        line: bytes = con.execute(_next_ids_sql(count, only is not None), bindings).get or b""
        found += [line[at : at + _PLACE_BYTES] for at in range(0, len(line), _PLACE_BYTES)]
    if len(kinds) > KINDS_AT_ONCE:
        found.sort()
    return [place[_PLACE_BYTES - ID_BYTES :] for place in found[:most]]


def first_claim(job_id: bytes, new: Fresh, now_ms: int) -> Claimed:
    """What a claim answers of a job that need not be read."""
    name, version, data, who, retry, created = new
    return Claimed(
        job_id, name, version, 1, 1, 0, False, False, 0, max(0, now_ms - created), 0, who, retry, created, None, data, None, False
    )


def _claimed(con: apsw.Connection, job_id: bytes, row: list[Any], alone: bool) -> Claimed:
    (_, hex_data, hex_progress, check, name, version, number, attempt, crashes, started, checkpoint, running, waiting, warnings, created,
     who, retry) = row  # fmt: skip
    if None in row[3:-NULLABLE]:
        raise ValueError(f"the row of job {id_text(job_id)} has no value where it must have one")
    if hex_data is None:
        data, progress = con.execute(PAYLOAD, (job_id,)).get
    else:
        data, progress = bytes.fromhex(hex_data), bytes.fromhex(hex_progress)
    return Claimed(
        job_id, name, version, number, attempt, crashes, bool(started), bool(checkpoint), running, waiting, warnings, who, retry, created,
        progress or None, data or b"", bytes.fromhex(check), alone,
    )  # fmt: skip


def with_checkpoint(con: apsw.Connection, ids: Sequence[bytes]) -> Container[bytes]:
    """Those of these jobs of which a checkpoint is stored; all where that cannot be read: then whose it is fails as it is loaded, and no other.

    Outside a transaction: inside one SQLite lets the connection write nothing more once it has met a damaged page.
    """
    try:
        found = bytes.fromhex((con.execute(WITH_CHECKPOINT, (bound(ids),)).get or b"").decode())
    except apsw.Error:
        return ids
    return {found[at : at + ID_BYTES] for at in range(0, len(found), ID_BYTES)}


_WAITING = "FROM jobs WHERE status = 'queued' AND run_at IS NULL AND kept_back = 0 AND alone = ?1"

KINDS_WAITING = f"""
WITH RECURSIVE
names (name) AS (
  SELECT (SELECT name {_WAITING} ORDER BY name LIMIT 1)
  UNION ALL
  SELECT (SELECT name {_WAITING} AND name > names.name ORDER BY name LIMIT 1) FROM names WHERE names.name IS NOT NULL
),
kinds (name, version) AS (
  SELECT name, (SELECT version {_WAITING} AND name = names.name ORDER BY version LIMIT 1) FROM names WHERE name IS NOT NULL
  UNION ALL
  SELECT name, (SELECT version {_WAITING} AND name = kinds.name AND version > kinds.version ORDER BY version LIMIT 1)
  FROM kinds WHERE version IS NOT NULL
)
SELECT CAST(json_group_array(json_array(name, version)) AS BLOB) FROM kinds WHERE version IS NOT NULL"""
"""The kinds that wait, by jumping from one to the next in the index: as many steps as kinds, not as rows."""


def kinds_waiting(con: apsw.Connection, alone: bool) -> list[JobKind]:
    found: bytes = con.execute(KINDS_WAITING, (int(alone),)).get
    return [(name, version) for name, version in json.loads(found.decode("utf-8", "replace"))]
