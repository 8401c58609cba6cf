"""The rows of new jobs, packed, and the statements that write them. Uniqueness of keys stands on the partial unique indexes.

A row has the number of its shape (6 digits), the length of its key (3 digits), the checksum, the key and the data. What many rows share
stands once, in the shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from callboard.persistence.checksum import ID_END
from callboard.persistence.rows import Grouped, of_one_row

ID = 16
NOBODY = bytes(ID)
"""An id that no job has."""
KEY_BYTES_FIT = 999
HEAD = 17
"""Bytes before the key."""

NAME, PRIORITY, RUN_AT, STRATEGY = 0, 2, 9, 10
"""Places in a shape."""

_SHAPE: dict[str, Any] = dict(
    name="text", version="int", priority="int", grp="text", parent="blob", resumable="int", retry="text", tags="text",
    requested_by="text", run_at="int", on_duplicate="text",
)  # fmt: skip
_LENGTH = "CAST(substr(e.value, 7, 3) AS INTEGER)"
_KEY = f"nullif(substr(e.value, 18, {_LENGTH}), x'')"
_DATA = f"substr(e.value, 18 + {_LENGTH}), CAST(substr(e.value, 10, 8) || substr(?2, 16 * e.rowid - 7, 8) AS BLOB)"
"""And the checksum with the end of the id: as `is_jobs_checksum` wants it."""
_ROWS = "FROM carray(?1) AS e {shape}"
_NOBODY = f"x'{NOBODY.hex()}'"


def _cut(parameter: int) -> str:
    return f"substr(?{parameter}, 16 * e.rowid - 15, 16)"


def _insert(
    status: str, claim: str, started: str, parent: str, after: str, job_id: str = _cut(2), key: str = _KEY, data: str = _DATA, rows: str = _ROWS
) -> str:  # fmt: skip
    return f"""
INSERT INTO jobs (id, name, version, status, intent, pausers, priority, key, grp, parent, retry_of, run_at, resumable, retry, tags,
  requested_by, created_at, queued_at, started_at, claim, attempt, crashes, alone, excused, running_ms, waiting_ms, warnings, after_id, data,
  checksum)
SELECT {job_id}, s.name, s.version, {status}, 'run', 0, s.priority, {key}, s.grp, {parent}, NULL, s.run_at, s.resumable, s.retry, s.tags,
  s.requested_by, ?3, ?3, {started}, {claim}, 1, 0, 0, 0, 0, 0, 0, {after}, {data}
{rows}
WHERE true"""


_UNLESS_TAKEN = "\nON CONFLICT (name, key) WHERE key IS NOT NULL AND after_id IS NULL DO NOTHING"

_NEW = "iif(?4, 'running', 'queued')", "?4", "iif(?4, ?3, NULL)", "s.parent", "NULL"
INSERT = Grouped("new_jobs", _SHAPE, _insert(*_NEW) + _UNLESS_TAKEN, parameters=4)
"""Parameters: rows, their ids, now, whether they are claimed."""
INSERT_ONE = of_one_row(_insert(*_NEW, "?1", "?2", "?5, ?6", "") + _UNLESS_TAKEN, _SHAPE, 6)
"""A single row. Parameters: its id, key, now, whether it is claimed, data, checksum with the end of the id, and its shape up to the strategy."""

def _each() -> str:
    """Rows that may wait behind another, or be the children of another row."""
    parent = f"coalesce(nullif({_cut(5)}, {_NOBODY}), s.parent)"
    return _insert(f"iif({_cut(4)} = {_NOBODY}, 'queued', 'waiting')", "0", "NULL", parent, f"nullif({_cut(4)}, {_NOBODY})")


INSERT_EACH = Grouped("new_jobs", _SHAPE, _each(), parameters=5)
"""Of rows whose key is free, or whose place behind another is. Parameters: rows, their ids, now, for each the job that it waits behind, for each
its parent."""

BORN_ENDED = Grouped(
    "new_jobs",
    _SHAPE,
    f"""
INSERT INTO job_history (id, name, version, status, priority, key, grp, parent, retry_of, resumable, retry, tags, requested_by, created_at,
  started_at, ended_at, claim, attempt, crashes, running_ms, waiting_ms, warnings, error, data, checksum, superseded_by)
SELECT {_cut(2)}, s.name, s.version, 'cancelled', s.priority, {_KEY}, s.grp, s.parent, NULL, s.resumable, s.retry, s.tags, s.requested_by, ?3,
  NULL, ?3, 0, 1, 0, 0, 0, 0, ?5, {_DATA}, {_cut(4)}
FROM carray(?1) AS e {{shape}}
WHERE true""",
    parameters=5,
)
"""What was superseded before it was ever written. Parameters: rows, their ids, now, for each the newer one, the error's text."""

_MET = "LEFT JOIN jobs AS j ON j.name = s.name AND j.key = {key} AND j.key IS NOT NULL AND j.after_id IS NULL"
_CODE = """CASE WHEN {o}.id IS NULL THEN '-' WHEN {o}.id = {own} THEN '='
  WHEN {o}.status = 'ending' THEN iif({o}.intent = 'cancel', 'e', 'k') WHEN {o}.status = 'awaiting_children' THEN 'k'
  WHEN {o}.status NOT IN ('waiting', 'cancelling') AND EXISTS (SELECT 1 FROM jobs AS c WHERE c.parent = {o}.id) THEN 'k' ELSE
  iif({o}.claim = 0 AND {o}.id >= ?3,
    CASE {o}.status WHEN 'queued' THEN iif({o}.run_at IS NULL, 'Q', 'D') WHEN 'paused' THEN 'P' WHEN 'waiting' THEN 'W' ELSE 'N' END,
    CASE {o}.status WHEN 'queued' THEN iif({o}.run_at IS NULL, 'q', 'd') WHEN 'running' THEN 'r' WHEN 'paused' THEN 'p'
      WHEN 'waiting' THEN 'w' WHEN 'pausing' THEN 'g' WHEN 'cancelling' THEN 'c' ELSE 'n' END) END"""


def _standing(older: str, joins: str, front: str) -> str:
    code = _CODE.format(o=older, own=_cut(2))
    return f"""
SELECT CAST(group_concat(ifnull({older}.id, {_NOBODY}), x'') AS BLOB), CAST(group_concat({code}, '') AS BLOB),
  CAST(group_concat(substr(?4, ifnull({older}.priority, 0) + 1, 1), x'') AS BLOB), {front},
  count(CASE WHEN s.priority < {older}.priority THEN 1 END)
FROM carray(?1) AS e {{shape}}
{joins.format(key=_KEY)}"""


STANDING = Grouped("new_jobs", _SHAPE, _standing("j", _MET, "x''"), parameters=4)
"""Of each row who has its key: ids, codes (see `standing.py`), priorities as bytes, nothing; and how many rows are more urgent than that job.
Parameters: rows, their ids, the first id of the same batch, all bytes from 0 to 255."""

TAKEN = Grouped(
    "new_jobs", _SHAPE, f"SELECT EXISTS (SELECT 1 FROM carray(?1) AS e {{shape}}\n{_MET.format(key=_KEY)} WHERE j.id IS NOT NULL)", parameters=1
)
"""Whether somebody has the key of one of these rows. Parameters: rows."""

_SUCCESSOR = "\nLEFT JOIN jobs AS w ON w.name = s.name AND w.key = {key} AND w.after_id IS NOT NULL\nLEFT JOIN jobs AS o ON o.id = ifnull(w.id, j.id)"
STANDING_BEHIND = Grouped(
    "new_jobs", _SHAPE,
    _standing("o", _MET + _SUCCESSOR, f"CAST(group_concat(ifnull(w.after_id, {_NOBODY}), x'') AS BLOB)"), parameters=4,
)  # fmt: skip
"""The same where successors wait: it is the successor that counts, and the fourth value has the jobs in front of these."""

ALL_BYTES = bytes(range(256))


class NewRows(NamedTuple):
    """Packed rows, the ids that they get, one after another, and their shapes by number."""

    rows: Sequence[bytes]
    ids: bytes
    shapes: tuple[tuple[Any, ...], ...]

    def shape(self, place: int) -> tuple[Any, ...]:
        return self.shapes[int(self.rows[place][:6])]

    def key(self, place: int) -> bytes:
        row = self.rows[place]
        return row[HEAD : HEAD + int(row[6:9])]

    def one(self, now_ms: int, claimed: bool) -> tuple[Any, ...]:
        """What `INSERT_ONE` is given, if there is one row."""
        row, key = self.rows[0], self.key(0)
        data, checksum = row[HEAD + len(key) :], row[9:HEAD] + self.ids[ID_END:ID]
        return (self.ids[:ID], key or None, now_ms, int(claimed), data, checksum, *self.shape(0)[:STRATEGY])

    def id(self, place: int) -> bytes:
        return self.ids[ID * place : ID * place + ID]
