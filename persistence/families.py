"""How far parents are by their children: how many of these have ended, and how far those are that have not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from callboard.jobs.progress import Progress
from callboard.persistence.codec import decode_value, encode_value
from callboard.persistence.rows import bound

COUNTS = "SELECT ifnull(sum(count), 0), ifnull(sum(count - open), 0) FROM batches WHERE parent = ?"
LIVE_READINGS = """
SELECT progress FROM jobs WHERE status IN ('running', 'pausing', 'cancelling', 'awaiting_children', 'ending') AND status <> 'queued'
  AND +parent = ? AND progress IS NOT NULL LIMIT 1000"""
"""By the index of those that are not simply in line: few, however many children there are."""
PARENTS = """
SELECT parent FROM (
  SELECT b.parent FROM carray(?1) AS e CROSS JOIN batches AS b ON b.id = e.value
  UNION SELECT j.parent FROM carray(?2) AS e CROSS JOIN jobs AS j ON j.id = e.value
  UNION SELECT e.value FROM carray(?3) AS e)
WHERE parent IS NOT NULL LIMIT 1000"""
WITHOUT_ACTOR = "SELECT name, progress FROM jobs WHERE id = ? AND status IN ('awaiting_children', 'ending')"
ANY = "SELECT EXISTS (SELECT 1 FROM jobs WHERE status IN ('awaiting_children', 'ending') AND status <> 'queued')"
NOBODY = bytes(16)


class Family(NamedTuple):
    """A parent's children."""

    total: int
    ended: int
    fractions: float
    """The sum of what is done of those that have not ended."""


class HeldParent(NamedTuple):
    """A parent that has no actor."""

    job_id: bytes
    name: str
    progress: Progress | None
    family: Family


def family(con: apsw.Connection, parent: bytes) -> Family:
    """One job's children."""
    count, ended = next(iter(con.execute(COUNTS, (parent,))))
    found: list[Any] = con.execute(LIVE_READINGS, (parent,)).fetchall() if count > ended else []
    readings = (progress_from(blob) for (blob,) in found)
    return Family(count, ended, sum(reading.fraction or 0.0 for reading in readings if reading is not None))


def held_parents(
    con: apsw.Connection, batches: Sequence[bytes], jobs: Sequence[bytes], parents: Sequence[bytes]
) -> tuple[list[HeldParent], bool]:
    """The parents of the jobs of these batches, those of these jobs, and `parents`, as far as they have no actor; and whether anyone has none."""
    if not con.execute(ANY).get:
        return [], False
    found: list[HeldParent] = []
    these: list[Any] = con.execute(PARENTS, tuple(bound(each or (NOBODY,)) for each in (batches, jobs, parents))).fetchall()
    for (parent,) in these:
        row: Any = next(iter(con.execute(WITHOUT_ACTOR, (parent,))), None)
        if row is not None:
            found.append(HeldParent(parent, row[0], progress_from(row[1]), family(con, parent)))
    return found, True


def progress_from(blob: bytes | None) -> Progress | None:
    """A stored reading; None where there is none or it does not fit (a reading is never worth an error)."""
    if not blob:
        return None
    try:
        reading = Progress(**decode_value(blob))
    except Exception:  # noqa: BLE001
        return None
    numbers = (reading.done, reading.total, reading.bytes_done, reading.bytes_total, reading.percentage, reading.rate, reading.eta)
    fits = all(number is None or isinstance(number, (int, float)) for number in numbers)
    return reading if fits and isinstance(reading.phase, str | None) and hasattr(reading.details, "items") else None


def progress_blob(reading: Progress) -> bytes:
    """A reading as it is stored."""
    parts = {name: getattr(reading, name) for name in Progress.__dataclass_fields__}
    parts["details"] = dict(reading.details)
    return encode_value({name: value for name, value in parts.items() if value is not None and value is not False})
