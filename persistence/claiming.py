"""Taking the next jobs: by priority, then order of arrival, of the types that this process knows. Truth is the row, not memory.

Text that is no UTF-8 is read with replacement characters: the checksum says so when the job is restored. A row that has a value of the
wrong type fails the whole claim; then the store sets it aside, and claims again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import apsw

from callboard.jobs.identity import id_text
from callboard.persistence.rows import bound
from callboard.persistence.writes import Claimed

JobKind = tuple[str, int]
"""(name, version)"""

BYTES_AT_ONCE = 8 * 2**20
"""Payloads are read together as long as they come to no more than this; one by one those that are larger than their share of it.
SQLite's own limit for a value is 64 MiB here."""

KINDS_AT_ONCE = 100
"""More kinds than this are asked for in turn; SQLite allows 500 terms in a compound SELECT."""

READY = "status = 'queued' AND run_at IS NULL AND alone = ?"
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
    "j.priority", "hex(j.id)", "iif(octet_length(j.data) + ifnull(octet_length(j.progress), 0) <= ?1, hex(j.data), NULL)",
    "iif(octet_length(j.progress) <= ?1, hex(j.progress), '')", "hex(j.checksum)", "j.name", "j.version", "j.claim + 1", "j.attempt",
    "j.crashes", "j.started_at IS NOT NULL", "j.claim > 0 OR j.retry_of IS NOT NULL", "j.running_ms", "j.waiting_ms + max(0, ?2 - j.queued_at)",
    "j.warnings", "j.created_at", "j.requested_by", "j.retry",
)  # fmt: skip
NULLABLE = 2
"""The last so many."""


@functools.lru_cache(maxsize=64)
def _read_sql(kinds: int, named: bool) -> str:
    next_ones = named_sql(kinds) if named else next_sql(kinds)
    row = f"json_array({', '.join(_COLUMNS)})"
    return f"SELECT CAST(json_group_array({row}) AS BLOB) FROM ({next_ones}) AS next CROSS JOIN jobs AS j ON j.id = next.id"


CLAIM = """
UPDATE jobs SET status = 'running', claim = claim + 1, started_at = coalesce(started_at, ?1),
  waiting_ms = waiting_ms + max(0, ?1 - queued_at)
WHERE id IN (SELECT value FROM carray(?2)) AND status = 'queued'"""
PAYLOAD = "SELECT CAST(data AS BLOB), CAST(progress AS BLOB) FROM jobs WHERE id = ?"


def claim(
    con: apsw.Connection, kinds: Sequence[JobKind], most: int, alone: bool, now_ms: int, only: Sequence[bytes] | None = None
) -> tuple[Claimed, ...]:
    """Take up to `most`. The statements are two, whatever `most` is: each step of one can cost a switch interval beside a busy thread."""
    rows: list[list[Any]] = []
    if only is not None and not only:  # SQLite takes no array of nothing
        return ()
    for start in range(0, len(kinds), KINDS_AT_ONCE):
        some = kinds[start : start + KINDS_AT_ONCE]
        values: list[object] = [BYTES_AT_ONCE // max(1, most), now_ms]
        if only is None:
            values += [value for kind in some for value in (int(alone), *kind)]
        else:
            values += [bound(only), int(alone), *(value for kind in some for value in kind)]
        bindings: Any = (*values, most)
        found: bytes = con.execute(_read_sql(len(some), only is not None), bindings).get
        rows += json.loads(found.decode("utf-8", "replace"))
    if not rows:
        return ()
    rows.sort(key=itemgetter(0, 1))
    del rows[most:]
    ids = [bytes.fromhex(row[1]) for row in rows]
    con.execute(CLAIM, (now_ms, bound(ids)))
    if con.changes() != len(ids):
        raise AssertionError(f"claimed {con.changes()} of {len(ids)} jobs that were queued in this very transaction")
    return tuple(_claimed(con, job_id, row, alone) for job_id, row in zip(ids, rows, strict=True))


def _claimed(con: apsw.Connection, job_id: bytes, row: list[Any], alone: bool) -> Claimed:
    (_, _, hex_data, hex_progress, check, name, version, number, attempt, crashes, started, checkpoint, running, waiting, warnings, created,
     who, retry) = row  # fmt: skip
    if None in row[4:-NULLABLE]:
        raise ValueError(f"the row of job {id_text(job_id)} has no value where it must have one")
    if hex_data is None:
        data, progress = con.execute(PAYLOAD, (job_id,)).get
    else:
        data, progress = bytes.fromhex(hex_data), bytes.fromhex(hex_progress)
    return Claimed(
        job_id, name, version, number, attempt, crashes, bool(started), bool(checkpoint), running, waiting, warnings, who, retry, created,
        progress or None, data or b"", bytes.fromhex(check), alone,
    )  # fmt: skip


_WAITING = "FROM jobs WHERE status = 'queued' AND run_at IS NULL AND alone = ?1"

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
