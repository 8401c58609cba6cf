"""New jobs, in one statement however many they are. Uniqueness of keys stands on the partial unique index, never on a look before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

import apsw

from callboard.jobs.errors import NoSuchJob, NotAllowed
from callboard.jobs.identity import id_text
from callboard.jobs.ledger import PAGE_BYTES
from callboard.jobs.submission import Submitted
from callboard.persistence.checkpoints import StoredCheckpoint, hand_down
from callboard.persistence.checksum import job_checksum
from callboard.persistence.rows import Grouped, Layout, bound
from callboard.persistence.writes import Insert, InsertAgain

_LENGTH = "CAST(substr(e.value, 7, 3) AS INTEGER)"
_KEY_BYTES_FIT = 999

_KEY = Layout(name="text", key="blob")
_TAG = Layout(tag="text", job_id=16)

INSERT = Grouped(
    "new_jobs",
    dict(
        name="text", version="int", priority="int", grp="text", parent="blob", resumable="int", retry="text", tags="text",
        requested_by="text", run_at="int",
    ),
    f"""
INSERT INTO jobs (id, name, version, status, intent, pausers, priority, key, grp, parent, retry_of, run_at, resumable, retry, tags,
  requested_by, created_at, queued_at, started_at, claim, attempt, crashes, alone, excused, running_ms, waiting_ms, warnings, data,
  checksum)
SELECT substr(?2, 16 * e.rowid - 15, 16), s.name, s.version, iif(?4, 'running', 'queued'), 'run', 0, s.priority,
  nullif(substr(e.value, 18, {_LENGTH}), x''), s.grp, s.parent, NULL, s.run_at, s.resumable, s.retry, s.tags, s.requested_by, ?3, ?3,
  iif(?4, ?3, NULL), ?4, 1, 0, 0, 0, 0, 0, 0, substr(e.value, 18 + {_LENGTH}), substr(e.value, 10, 8)
FROM carray(?1) AS e {{shape}}
WHERE true
ON CONFLICT (name, key) WHERE key IS NOT NULL DO NOTHING""",
    parameters=4,
)  # fmt: skip
"""A row has the number of its shape, the length of its key, checksum, key and data."""

STANDING = f"""
SELECT CAST(group_concat(j.id, x'') AS BLOB) FROM (SELECT {_KEY.select()} FROM carray(?)) AS e
CROSS JOIN jobs AS j ON j.name = e.name AND j.key = e.key"""

TAG = f"INSERT OR IGNORE INTO job_tags (tag, job_id) SELECT {_TAG.select()} FROM carray(?)"


def prepare(con: apsw.Connection) -> None:
    """Once a connection, outside any transaction."""
    INSERT.prepare(con)


def insert(
    con: apsw.Connection, writes: Sequence[Insert], now_ms: int, next_id: Callable[[], bytes], *, claimed: bool = False
) -> list[Submitted]:
    """Write all of them, in one statement. Of several with one key the first stays; a key that is taken answers with the job that has it.

    `claimed`: as running, by their first claim.
    """
    shapes: dict[tuple[object, ...], int] = {}
    rows: list[bytes] = []
    answers: list[Submitted] = []
    for write in writes:
        run_at = write.run_at_ms if write.delay_ms is None else now_ms + write.delay_ms
        if run_at is not None and run_at <= now_ms:
            run_at = None
        tags = json.dumps(write.tags) if write.tags else None
        shape = (
            write.name, write.version, write.priority, write.group, write.parent, write.resumable, write.retry, tags, write.requested_by, run_at
        )  # fmt: skip
        rows.append(_row(shapes.setdefault(shape, len(shapes)), write))
        answers.append(Submitted(next_id(), False, run_at, write.name))
    INSERT.execute(con, (bound(rows), b"".join(answer.job_id for answer in answers), now_ms, int(claimed)), tuple(shapes))
    inserted = con.changes()
    if inserted < len(writes):
        places = [index for index, write in enumerate(writes) if write.key is not None]
        refused = _name_standing(con, writes, places, answers)
        if inserted + refused != len(writes):
            raise AssertionError(f"{inserted} of {len(writes)} new jobs were written, and {refused} keys are taken")
    _tag(con, ((tag, answer.job_id) for write, answer in zip(writes, answers, strict=True) if not answer.duplicate for tag in write.tags))
    return answers


def _row(number: int, write: Insert) -> bytes:
    key = write.key or b""
    if len(key) > _KEY_BYTES_FIT:
        raise ValueError(f"a key of {len(key)} bytes is too long")
    return b"%6d%3d%b%b%b" % (number, len(key), job_checksum(write.name, write.version, write.data), key, write.data)


def _name_standing(con: apsw.Connection, writes: Sequence[Insert], keyed: Sequence[int], answers: list[Submitted]) -> int:
    """Answer each whose key was taken with the job that has it. How many they are."""
    keys = [(writes[index].name, writes[index].key) for index in keyed]
    found: bytes = con.execute(STANDING, (bound(map(_KEY.pack, keys)),)).get or b""
    if len(found) != 16 * len(keyed):
        raise AssertionError(f"{len(keyed)} keys were written and {len(found) // 16} are there")
    refused = 0
    for place, index in enumerate(keyed):
        standing = found[16 * place : 16 * place + 16]
        if standing != answers[index].job_id:
            answers[index] = Submitted(standing, True, None, writes[index].name)
            refused += 1
    return refused


def _tag(con: apsw.Connection, pairs: Iterable[tuple[str, bytes]]) -> None:
    packed = [_TAG.pack(pair) for pair in pairs]
    if packed:
        con.execute(TAG, (bound(packed),))


OLD = "SELECT CAST(name AS BLOB), version, data, checksum, key, CAST(tags AS BLOB), status FROM job_history WHERE id = ?"

FAILED_SOME = "SELECT 1 FROM job_checkpoints WHERE job_id = ? AND kind = 'failed' LIMIT 1"

LIVE = "SELECT status FROM jobs WHERE id = ?"

AGAIN = """
INSERT INTO jobs (id, name, version, status, intent, pausers, priority, key, grp, parent, retry_of, run_at, resumable, retry, tags,
  requested_by, created_at, queued_at, started_at, claim, attempt, crashes, alone, excused, running_ms, waiting_ms, warnings, data,
  checksum)
SELECT ?1, name, version, 'queued', 'run', 0, priority, key, grp, parent, id, NULL, resumable, retry, tags,
  coalesce(?2, requested_by), ?3, ?3, NULL, 0, 1, 0, 0, 0, 0, 0, 0, data, ?4
FROM job_history WHERE id = ?5
ON CONFLICT (name, key) WHERE key IS NOT NULL DO NOTHING"""


def insert_again(con: apsw.Connection, write: InsertAgain, now_ms: int, next_id: Callable[[], bytes]) -> Submitted | Exception:
    """A new job from an ended one; the history row stays as it is."""
    old = con.execute(OLD, (write.job_id,)).get
    if old is None:
        live = con.execute(LIVE, (write.job_id,)).get
        if live is None:
            return NoSuchJob(f"no job {id_text(write.job_id)} in this library")
        return NotAllowed(f"job {id_text(write.job_id)} is {live}, it has not ended; retry is for ended jobs")
    raw_name, version, data, stored, key, tags, status = old
    name = raw_name.decode("utf-8", "backslashreplace")
    if stored != job_checksum(name, version, data):
        return NotAllowed(f"job {id_text(write.job_id)} cannot be retried: what is stored of it is damaged")
    # Without a ledger to go by, the new job would do everything.
    if write.ledger == "rest" and status == "completed":
        return NotAllowed(f"job {id_text(write.job_id)} is completed: all of it is done; retry it without keep_done")
    if write.ledger == "failed" and con.execute(FAILED_SOME, (write.job_id,)).get is None:
        return NotAllowed(f"job {id_text(write.job_id)} is {status}, and no item of it has failed; retry it without failed_only")
    job_id = next_id()
    con.execute(AGAIN, (job_id, write.requested_by, now_ms, job_checksum(name, version, data), write.job_id))
    if not con.changes():
        standing = con.execute(STANDING, (bound((_KEY.pack((name, key)),)),)).get
        return Submitted(standing, True, None, name)
    _tag(con, ((tag, job_id) for tag in tags_from(tags)))
    if write.ledger != "none":
        _hand_down_ledger(con, write, job_id)
    return Submitted(job_id, False, None, name)


def tags_from(stored: bytes | None) -> tuple[str, ...]:
    """The labels of a job, from their JSON; none if it is damaged (a label is never worth an error)."""
    try:
        found = json.loads(stored) if stored else ()
    except ValueError:
        return ()
    return tuple(found) if isinstance(found, (list, tuple)) and all(isinstance(tag, str) for tag in found) else ()


def _hand_down_ledger(con: apsw.Connection, write: InsertAgain, job_id: bytes) -> None:
    """Give the new job the old one's ledger, so that it skips what is to be skipped. Fields are not handed down: they start as submitted.

    `rest`: what is done and did not fail counts as done. `failed`: only the failed positions are to be done at all. Raises `NotDecodable`.
    """
    stored = StoredCheckpoint.read(con, write.job_id).parts
    failed = {(name, page): value for kind, name, page, value in stored if kind == "failed"}
    parts: dict[tuple[str, str, int], bytes] = {}
    for kind, name, page, value in stored:
        if kind in ("items", "source"):
            parts[kind, name, page] = value
        elif kind == "only" and write.ledger == "rest":
            parts[kind, name, page] = value
        elif kind == "done" and write.ledger == "rest":
            without = failed.get((name, page), bytes(len(value)))
            parts[kind, name, page] = bytes(bits & ~out for bits, out in zip(value, without, strict=True))
        elif kind == "failed" and write.ledger == "failed":
            parts["only", name, page] = value
    if write.ledger == "failed":  # a map without failures has nothing to do, and an empty page says so
        for name in {name for kind, name, _, _ in stored if kind in ("done", "items", "source")}:
            parts.setdefault(("only", name, 0), bytes(PAGE_BYTES))
    hand_down(con, job_id, parts)
