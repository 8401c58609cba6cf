"""The parts of a job's checkpoint: written where they changed, each under its own checksum, all in one commit with the sequence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import apsw

from callboard.jobs.errors import NotDecodable
from callboard.jobs.identity import id_text
from callboard.persistence.checksum import checksum, part_checksum
from callboard.persistence.codec import CHECKPOINT, decode_value, encode_value
from callboard.persistence.fence import HOLDS, Claimant, held
from callboard.persistence.rows import ByIds, Layout, bound
from callboard.persistence.writes import End, Fenced, Leave, SaveCheckpoint

WARNINGS_KEPT = 10_000
"""Of one job; all are counted."""

Place = tuple[bytes, int, str, str, int]
"""Of a part: job id, claim, kind, name, page."""
Parts = dict[Place, tuple[int, bytes | None]]
"""Place → (sequence, value)."""

_PLACE = Layout(job_id=16, kind="text", name="text", page="int")
_WARNING = Layout(job_id=16, n="int", item="text", message="text")

_KIND, _NAME = "CAST(substr(value, 70, 2) AS INTEGER)", "CAST(substr(value, 72, 10) AS INTEGER)"
_PART = f"""
substr(value, 1, 16) AS job_id, substr(value, 17, 8) AS checksum, CAST(substr(value, 25, 10) AS INTEGER) AS claim,
CAST(substr(value, 35, 15) AS INTEGER) AS sequence, CAST(substr(value, 50, 20) AS INTEGER) AS page,
CAST(substr(value, 82, {_KIND}) AS TEXT) AS kind, CAST(substr(value, 82 + {_KIND}, {_NAME}) AS TEXT) AS name,
substr(value, 82 + {_KIND} + {_NAME}) AS value"""
"""A packed part: job id, checksum, claim, sequence, page, the lengths of kind and name, kind, name, value."""

PUT = f"""
INSERT INTO job_checkpoints (job_id, kind, name, page, sequence, value, checksum)
SELECT e.job_id, e.kind, e.name, e.page, e.sequence, e.value, e.checksum
FROM (SELECT {_PART} FROM carray(?)) AS e CROSS JOIN jobs AS j ON j.id = e.job_id WHERE {HOLDS}
ON CONFLICT (job_id, kind, name, page) DO UPDATE SET sequence = excluded.sequence, value = excluded.value, checksum = excluded.checksum
WHERE excluded.sequence > job_checkpoints.sequence"""
DROP = f"DELETE FROM job_checkpoints WHERE (job_id, kind, name, page) IN (SELECT {_PLACE.select()} FROM carray(?))"
HAND_DOWN = f"""
INSERT INTO job_checkpoints (job_id, kind, name, page, sequence, value, checksum)
SELECT job_id, kind, name, page, sequence, value, checksum FROM (SELECT {_PART} FROM carray(?))"""
WARN = f"INSERT OR IGNORE INTO job_warnings (job_id, n, item, message) SELECT {_WARNING.select()} FROM carray(?)"
FORGET_CRASHES = ByIds("UPDATE jobs SET crashes = 0, alone = 0 WHERE id {these} AND (crashes OR alone)")
FORGET = ByIds("DELETE FROM job_checkpoints WHERE job_id {these}")
PARTS = """
SELECT CAST(kind AS BLOB), CAST(name AS BLOB), page, sequence, value, checksum FROM job_checkpoints WHERE job_id = ?
ORDER BY kind, name, page"""

NAMED_CHILDREN = """
SELECT CAST(kind AS BLOB), CAST(name AS BLOB), page, sequence, value, checksum FROM job_checkpoints WHERE job_id = ? AND kind = 'children'"""


@lru_cache(maxsize=64)
def encode_head(progress: bytes | None, warned: int) -> bytes:
    """What every checkpoint writes: the reading, and how many warnings there are."""
    return encode_value((progress, warned), CHECKPOINT)


NO_HEAD = encode_head(None, 0)


def save_checkpoints(con: apsw.Connection, writes: Sequence[SaveCheckpoint]) -> list[Fenced | None]:
    """Write all of them, in as many statements as one would take; nothing of those whose actor does not hold the job any more."""
    stale = put(con, writes)
    charged = [write.job_id for write in writes if write.charged and (write.job_id, write.claim) not in stale]
    if charged:
        FORGET_CRASHES.execute(con, charged)
    return [Fenced() if (write.job_id, write.claim) in stale else None for write in writes]


def put(con: apsw.Connection, writes: Iterable[SaveCheckpoint | End | Leave]) -> set[Claimant]:
    """Heads, changed parts and warnings. Of several for one part the last stays. Answers whose checkpoints the fence kept out.

    Raises AssertionError if a checkpoint is not newer than the one that stands: a fence has failed.
    """
    saves = [write for write in writes if write.parts or write.warnings or isinstance(write, SaveCheckpoint)]
    parts = _newest(saves)
    kept: list[bytes] = []
    dropped: list[Place] = []
    for place, (sequence, value) in parts.items():
        job_id, claim, kind, name, page = place
        if value is None:
            dropped.append(place)
        else:
            kept.append(_packed(place, sequence, value))
    stale: set[Claimant] = set()
    if kept:
        con.execute(PUT, (bound(kept),))
        if con.changes() != len(kept):
            stale = _find_stale(con, saves, parts, con.changes())
    fresh = [_PLACE.pack((job_id, kind, name, page)) for job_id, claim, kind, name, page in dropped if (job_id, claim) not in stale]
    if fresh:
        con.execute(DROP, (bound(fresh),))
    _put_warnings(con, (write for write in saves if (write.job_id, write.claim) not in stale))
    return stale


def _packed(place: Place, sequence: int, value: bytes) -> bytes:
    """Raises ValueError for what does not fit."""
    job_id, claim, kind, name, page = place
    raw_kind, raw_name = kind.encode(), name.encode()
    head = b"%b%b%10d%15d%20d%2d%10d" % (
        job_id, part_checksum(job_id, kind, name, page, sequence, value), claim, sequence, page, len(raw_kind), len(raw_name)
    )  # fmt: skip
    if len(head) != _HEAD_BYTES:
        raise ValueError(f"part {kind} {name!r:.60} {page} of a checkpoint has a number that is too long")
    return b"%b%b%b%b" % (head, raw_kind, raw_name, value)


_HEAD_BYTES = 81


def _newest(writes: Iterable[SaveCheckpoint | End | Leave]) -> Parts:
    """The parts of all of them as they are in the end."""
    parts: Parts = {}
    for write in writes:
        job_id, claim, sequence = write.job_id, write.claim, write.sequence
        head = job_id, claim, "head", "", 0
        if write.parts or isinstance(write, SaveCheckpoint):
            if head in parts and parts[head][0] >= sequence:
                raise _not_newer([job_id])
            parts[head] = sequence, NO_HEAD
            for kind, name, page, value in write.parts:
                parts[job_id, claim, kind, name, page] = sequence, value
    return parts


def _find_stale(con: apsw.Connection, writes: Sequence[SaveCheckpoint | End | Leave], parts: Parts, written: int) -> set[Claimant]:
    holds = held(con, writes)
    if written != sum(place[:2] in holds and value is not None for place, (_, value) in parts.items()):
        raise _not_newer(sorted({job_id for job_id, _ in holds}))
    return {(write.job_id, write.claim) for write in writes} - holds.keys()


def _put_warnings(con: apsw.Connection, writes: Iterable[SaveCheckpoint | End | Leave]) -> None:
    kept = [_WARNING.pack((write.job_id, *warned)) for write in writes for warned in write.warnings if warned[0] <= WARNINGS_KEPT]
    if kept:
        con.execute(WARN, (bound(kept),))


def _not_newer(jobs: Sequence[bytes]) -> AssertionError:
    named = ", ".join(map(id_text, jobs[:3])) + (", …" if len(jobs) > 3 else "")
    return AssertionError(f"a checkpoint of job {named} is not newer than the one that stands")


def hand_down(con: apsw.Connection, job_id: bytes, parts: Mapping[tuple[str, str, int], bytes]) -> None:
    """Give a new job parts to begin with: (kind, name, page) → value."""
    rows = [_packed((job_id, 0, *place), 0, value) for place, value in parts.items()]
    if rows:
        con.execute(HAND_DOWN, (bound(rows),))


class StoredCheckpoint:
    """The parts of one job, read and verified. `sequence` is 0 if it has none."""

    def __init__(self, job_id: bytes, rows: Iterable[tuple[bytes, bytes, int, int, bytes, bytes]]) -> None:
        """Raises `NotDecodable` naming the part whose checksum does not fit."""
        self.sequence = 0
        self.parts: list[tuple[str, str, int, bytes]] = []
        for raw_kind, raw_name, page, sequence, value, stored in rows:
            kind, name = raw_kind.decode("utf-8", "backslashreplace"), raw_name.decode("utf-8", "backslashreplace")
            if not _fits(stored, job_id, kind, name, page, sequence, value):
                raise NotDecodable(f"checkpoint of job {id_text(job_id)}: part {kind}:{name}:{page} is damaged (its checksum differs)")
            self.sequence = max(self.sequence, sequence)
            self.parts.append((kind, name, page, value))

    @classmethod
    def read(cls, con: apsw.Connection, job_id: bytes) -> StoredCheckpoint:
        found: list[Any] = con.execute(PARTS, (job_id,)).fetchall()
        return cls(job_id, found)

    def head(self) -> tuple[bytes | None, int]:
        """(progress, warnings so far), as of the last checkpoint."""
        for kind, _, _, value in self.parts:
            if kind == "head":
                progress, warned = decode_value(value, CHECKPOINT)
                return progress, warned
        return None, 0

    def fields(self) -> dict[str, bytes]:
        """Field → its encoded value, of the fields that were ever saved."""
        return {name: value for kind, name, _, value in self.parts if kind == "field"}


def _fits(stored: bytes, *part: bytes | str | int) -> bool:
    try:
        return stored == checksum(*part)
    except TypeError:  # a column of a damaged page may hold anything
        return False


def hand_down_children(con: apsw.Connection, old: bytes, new: bytes) -> None:
    """Let the new job find the children of the one that it retries. Nothing, if what is stored of them is damaged."""
    rows: list[Any] = con.execute(NAMED_CHILDREN, (old,)).fetchall()
    try:
        hand_down(con, new, {(kind, name, page): value for kind, name, page, value in StoredCheckpoint(old, rows).parts})
    except NotDecodable:
        return
