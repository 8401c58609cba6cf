"""A damaged row among the live jobs is set aside: quarantined with what can be read of it, so that the others go on.

SQLite refuses any change to a row that has a value of the wrong type, and with it the whole statement: one flipped bit would keep a
thousand jobs from being claimed. Damage to the file's structure is something else; that stops the library.
"""

from __future__ import annotations

import apsw

from callboard.jobs.lifecycle import LIVE

WHY = "its row was damaged; what could be read of it was kept"

_TYPES = {
    "name": "text", "version": "integer", "status": "text", "intent": "text", "pausers": "integer", "priority": "integer", "key": "blob null",
    "grp": "text null", "parent": "blob null", "retry_of": "blob null", "run_at": "integer null", "resumable": "integer",
    "retry": "text null", "tags": "text null", "requested_by": "text null", "created_at": "integer", "queued_at": "integer",
    "started_at": "integer null", "claim": "integer", "attempt": "integer", "crashes": "integer", "alone": "integer", "excused": "integer",
    "running_ms": "integer", "waiting_ms": "integer", "warnings": "integer", "unresponsive": "integer null", "error": "text null",
    "after_id": "blob null", "after_batch": "blob null", "superseded_by": "blob null",
    "limited": "blob null", "kept_back": "integer", "progress": "blob null", "data": "blob", "checksum": "blob",
}  # fmt: skip
"""Of each column of `jobs` but the id."""

_EMPTY = {"integer": "0", "text": "''", "blob": "x''"}

_SET = {
    "status": "'quarantined'", "intent": "'run'", "pausers": "0", "key": "NULL", "run_at": "NULL", "alone": "0", "excused": "0",
    "unresponsive": "NULL", "after_id": "NULL", "after_batch": "NULL",
    "limited": "NULL", "kept_back": "0", "progress": "NULL", "error": f"'{WHY}'",
}  # fmt: skip
"""What a damaged row is given in any case: it holds no key that another may need, and waits for a person."""

_RANGE = {"version": (1, 2**53), "priority": (0, 255), "pausers": (0, 15), "resumable": (0, 1), "alone": (0, 1), "excused": (0, 1),
          "kept_back": (0, 1)}  # fmt: skip
_NUMBER = -(2**53), 2**53
"""What a statement may still add to, without an overflow that fails it."""

_OTHERWISE = f"""
  AND status IN ({', '.join(f"'{status}'" for status in sorted(LIVE))}) AND intent IN ('run', 'pause', 'cancel')
  AND ifnull(length(key) BETWEEN 1 AND 512, 1) AND ifnull(length(after_id), 0) = iif(status = 'waiting', 16, 0)"""
"""What else the table checks: one row that breaks it fails every statement that changes it."""


def _mended(column: str, types: str) -> str:
    kind, _, null = types.partition(" ")
    value = f"CAST({column} AS {kind.upper()})"
    value = value if null else f"ifnull({value}, {_EMPTY[kind]})"
    if kind == "integer":
        low, high = _RANGE.get(column, _NUMBER)
        value = f"min(max({low}, {value}), {high})"
    return _SET.get(column) or value


def _sound(column: str, types: str) -> str:
    of_type = f"typeof({column}) IN ('{types.replace(' ', chr(39) + ', ' + chr(39))}')"
    low, high = _RANGE.get(column, _NUMBER)
    return f"{of_type} AND ifnull({column} BETWEEN {low} AND {high}, 1)" if types.startswith("integer") else of_type


_SOUND = " AND ".join(_sound(column, types) for column, types in _TYPES.items()) + _OTHERWISE

SET_ASIDE = f"UPDATE jobs SET {', '.join(f'{column} = {_mended(column, types)}' for column, types in _TYPES.items())} WHERE NOT ({_SOUND})"


LET_PASS = """
UPDATE jobs SET status = iif(pausers, 'paused', 'queued'), after_id = NULL WHERE status = 'waiting' AND status <> 'queued' AND after_id IN (
  SELECT id FROM jobs WHERE status = 'quarantined' AND status <> 'queued' AND key IS NULL)"""
"""What was set aside holds no key: its successor must not come into line when the key is another's."""


def set_aside(con: apsw.Connection) -> int:
    """Look at every live job, and set the damaged ones aside. How many there were."""
    con.execute(SET_ASIDE)
    found = con.changes()
    con.execute(LET_PASS)
    return found
