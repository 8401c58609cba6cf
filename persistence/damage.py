"""A damaged row among the live jobs is set aside: quarantined with what can be read of it, so that the others go on.

SQLite refuses any change to a row that has a value of the wrong type, and with it the whole statement: one flipped bit would keep a
thousand jobs from being claimed. Damage to the file's structure is something else; that stops the library.
"""

from __future__ import annotations

import apsw

WHY = "its row was damaged; what could be read of it was kept"

_TYPES = {
    "name": "text", "version": "integer", "status": "text", "intent": "text", "pausers": "integer", "priority": "integer", "key": "blob null",
    "grp": "text null", "parent": "blob null", "retry_of": "blob null", "run_at": "integer null", "resumable": "integer",
    "retry": "text null", "tags": "text null", "requested_by": "text null", "created_at": "integer", "queued_at": "integer",
    "started_at": "integer null", "claim": "integer", "attempt": "integer", "crashes": "integer", "alone": "integer", "excused": "integer",
    "running_ms": "integer", "waiting_ms": "integer", "warnings": "integer", "unresponsive": "integer null", "error": "text null",
    "after_id": "blob null", "after_batch": "blob null", "superseded_by": "blob null",
    "progress": "blob null", "data": "blob", "checksum": "blob",
}  # fmt: skip
"""Of each column of `jobs` but the id."""

_EMPTY = {"integer": "0", "text": "''", "blob": "x''"}

_SET = {
    "status": "'quarantined'", "intent": "'run'", "pausers": "0", "key": "NULL", "run_at": "NULL", "alone": "0", "excused": "0",
    "unresponsive": "NULL", "after_id": "NULL", "after_batch": "NULL", "progress": "NULL", "error": f"'{WHY}'",
}  # fmt: skip
"""What a damaged row is given in any case: it holds no key that another may need, and waits for a person."""

_WITHIN = {"version": "max(1, {})", "priority": "min(max(0, {}), 255)", "resumable": "({}) <> 0"}


def _mended(column: str, types: str) -> str:
    kind, _, null = types.partition(" ")
    value = f"CAST({column} AS {kind.upper()})"
    value = value if null else f"ifnull({value}, {_EMPTY[kind]})"
    return _SET.get(column) or _WITHIN.get(column, "{}").format(value)


_SOUND = " AND ".join(f"typeof({column}) IN ('{types.replace(' ', chr(39) + ', ' + chr(39))}')" for column, types in _TYPES.items())

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
