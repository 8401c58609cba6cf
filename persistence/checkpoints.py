"""The parts of a job's checkpoint: written where they changed, each under its own checksum, all in one commit with the sequence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw

from callboard.jobs.errors import NotDecodable
from callboard.jobs.identity import id_text
from callboard.persistence.checksum import checksum
from callboard.persistence.codec import decode_value, encode_value
from callboard.persistence.writes import Fenced, Part, SaveCheckpoint, Warned


def encode_head(progress: bytes | None, warned: int) -> bytes:
    """What every checkpoint writes: the reading, and how many warnings there are."""
    return encode_value((progress, warned))


WARNINGS_KEPT = 10_000
"""Of one job; all are counted."""

HELD = "SELECT status IN ('running', 'pausing', 'cancelling') FROM jobs WHERE id = ? AND claim = ?"
FORGET_CRASHES = "UPDATE jobs SET crashes = 0, alone = 0 WHERE id = ?"
HEAD = """
INSERT INTO job_checkpoints (job_id, kind, name, page, sequence, value, checksum) VALUES (?, 'head', '', 0, ?, ?, ?)
ON CONFLICT (job_id, kind, name, page) DO UPDATE SET sequence = excluded.sequence, value = excluded.value, checksum = excluded.checksum
WHERE excluded.sequence > job_checkpoints.sequence"""
PUT = "INSERT OR REPLACE INTO job_checkpoints (job_id, kind, name, page, sequence, value, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"
DROP = "DELETE FROM job_checkpoints WHERE job_id = ? AND kind = ? AND name = ? AND page = ?"
PARTS = "SELECT kind, name, page, sequence, value, checksum FROM job_checkpoints WHERE job_id = ? ORDER BY kind, name, page"
WARN = "INSERT OR IGNORE INTO job_warnings (job_id, n, item, message) VALUES (?, ?, ?, ?)"
FORGET = "DELETE FROM job_checkpoints WHERE job_id IN (SELECT value FROM carray(?))"


def save_checkpoint(con: apsw.Connection, write: SaveCheckpoint) -> Fenced | None:
    """Write one checkpoint; nothing if the actor does not hold the job any more."""
    if not con.execute(HELD, (write.job_id, write.claim)).get:
        return Fenced()
    put_parts(con, write.job_id, write.sequence, write.parts)
    put_warnings(con, write.job_id, write.warnings)
    if write.charged:
        con.execute(FORGET_CRASHES, (write.job_id,))
    return None


def put_parts(con: apsw.Connection, job_id: bytes, sequence: int, parts: Iterable[Part]) -> None:
    """The head, and the parts that changed. Raises AssertionError if a newer checkpoint stands: a fence has failed."""
    head = b""
    for kind, name, page, value in parts:
        if kind == "head":
            head = value or b""
        elif value is None:
            con.execute(DROP, (job_id, kind, name, page))
        else:
            con.execute(PUT, (job_id, kind, name, page, sequence, value, checksum(job_id, kind, name, page, sequence, value)))
    con.execute(HEAD, (job_id, sequence, head, checksum(job_id, "head", "", 0, sequence, head)))
    if con.changes() != 1:
        raise AssertionError(f"checkpoint {sequence} of job {id_text(job_id)} is not newer than the one that stands")


def put_warnings(con: apsw.Connection, job_id: bytes, warnings: Sequence[Warned]) -> None:
    kept = [(job_id, *warned) for warned in warnings if warned[0] <= WARNINGS_KEPT]
    if kept:
        con.executemany(WARN, kept)


class StoredCheckpoint:
    """The parts of one job, read and verified. `sequence` is 0 if it has none."""

    def __init__(self, job_id: bytes, rows: Iterable[tuple[str, str, int, int, bytes, bytes]]) -> None:
        """Raises `NotDecodable` naming the part whose checksum does not fit."""
        self.sequence = 0
        self.parts: list[tuple[str, str, int, bytes]] = []
        for kind, name, page, sequence, value, stored in rows:
            if stored != checksum(job_id, kind, name, page, sequence, value):
                raise NotDecodable(f"checkpoint of job {id_text(job_id)}: part {kind}:{name}:{page} is damaged (its checksum differs)")
            self.sequence = max(self.sequence, sequence)
            self.parts.append((kind, name, page, value))

    @classmethod
    def read(cls, con: apsw.Connection, job_id: bytes) -> StoredCheckpoint:
        return cls(job_id, con.execute(PARTS, (job_id,)).fetchall())

    def head(self) -> tuple[bytes | None, int]:
        """(progress, warnings so far), as of the last checkpoint."""
        for kind, _, _, value in self.parts:
            if kind == "head":
                progress, warned = decode_value(value)  # type: ignore[misc]
                return progress, warned
        return None, 0

    def fields(self) -> dict[str, bytes]:
        """Field → its encoded value, of the fields that were ever saved."""
        return {name: value for kind, name, _, value in self.parts if kind == "field"}
