"""New jobs, in one statement however many they are. Uniqueness of keys stands on the partial unique index, never on a look before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import apsw

from callboard.jobs.batch_items import ItemKind
from callboard.jobs.duplicates import Answer
from callboard.jobs.errors import NoSuchJob, NotAllowed
from callboard.jobs.identity import id_text
from callboard.jobs.ledger import PAGE_BYTES
from callboard.jobs.lifecycle import GOES_DOWN
from callboard.jobs.submission import Met, Submitted
from callboard.persistence.checkpoints import StoredCheckpoint, hand_down, hand_down_children
from callboard.persistence.checksum import ID_END, is_jobs_checksum, job_checksum
from callboard.persistence.newrows import INSERT, KEY_BYTES_FIT, NOBODY, NewRows
from callboard.persistence.rows import Layout, bound
from callboard.persistence.standing import Settled, put
from callboard.persistence.writes import Insert, InsertAgain

_TAG = Layout(tag="text", job_id=16)

TAG = f"INSERT OR IGNORE INTO job_tags (tag, job_id) SELECT {_TAG.select()} FROM carray(?)"


def prepare(con: apsw.Connection) -> None:
    """Once a connection, outside any transaction."""
    INSERT.prepare(con)


class Inserted(NamedTuple):
    """What became of a group of new jobs."""

    answers: list[Submitted]
    settled: Settled | None
    """None: no key was taken."""


def insert(
    con: apsw.Connection, writes: Sequence[Insert], now_ms: int, next_id: Callable[[], bytes], *, claimed: bool = False, behind: bool = False
) -> Inserted:
    """Write all of them, in one statement. Of several with one key each meets the one before; a key that is taken is dealt with by the table.

    `claimed`: as running, by their first claim. `behind`: successors may be waiting in the library.
    """
    shapes: dict[tuple[Any, ...], int] = {}
    rows: list[bytes] = []
    answers: list[Submitted] = []
    for name, version, data, priority, key, group, run_at, delay, resumable, retry, tags, who, parent, strategy in writes:
        if delay is not None:
            run_at = now_ms + delay
        if run_at is not None and run_at <= now_ms:
            run_at = None
        labels = json.dumps(tags) if tags else None
        shape = name, version, priority, group, parent, resumable, retry, labels, who, run_at, strategy
        rows.append(_row(shapes.setdefault(shape, len(shapes)), name, version, key or b"", data))
        answers.append(Submitted(next_id(), False, run_at, name))
    new = NewRows(rows, b"".join(answer.job_id for answer in answers), tuple(shapes))
    settled = put(con, new, now_ms, claimed=claimed, behind=behind, chains=True)
    if settled is not None:
        for place, kind in enumerate(settled.kinds):
            if settled.older(place) != NOBODY:
                answers[place] = _met(answers[place], ItemKind(kind), settled.older(place), place in settled.waiting)
    tag_jobs(con, ((tag, answer.job_id) for write, answer in zip(writes, answers, strict=True) if not answer.duplicate for tag in write.tags))
    return Inserted(answers, settled)


def _met(new: Submitted, kind: ItemKind, older: bytes, waiting: bool) -> Submitted:
    answer = Answer.DEDUPLICATED if kind is ItemKind.RAISED else Answer[kind.name]
    met = Met(answer, older, kind is ItemKind.RAISED, waiting)
    if answer in (Answer.DEDUPLICATED, Answer.REJECTED):
        return Submitted(older, True, None, new.name, met)
    return Submitted(new.job_id, False, new.run_at_ms, new.name, met)


def _row(number: int, name: str, version: int, key: bytes, data: bytes) -> bytes:
    if len(key) > KEY_BYTES_FIT:
        raise ValueError(f"a key of {len(key)} bytes is too long")
    return b"%6d%3d%b%b%b" % (number, len(key), job_checksum(name, version, data), key, data)


def tag_jobs(con: apsw.Connection, pairs: Iterable[tuple[str, bytes]]) -> None:
    """Index labels: (tag, job id)."""
    packed = [_TAG.pack(pair) for pair in pairs]
    if packed:
        con.execute(TAG, (bound(packed),))


OLD = "SELECT CAST(name AS BLOB), version, data, checksum, key, CAST(tags AS BLOB) FROM job_history WHERE id = ?"
HOW_ENDED = "SELECT status FROM job_history WHERE id = ?"

FAILED_SOME = "SELECT 1 FROM job_checkpoints WHERE job_id = ? AND kind = 'failed' LIMIT 1"

LIVE = "SELECT status FROM jobs WHERE id = ?"

AGAIN = """
INSERT INTO jobs (id, name, version, status, intent, pausers, priority, key, grp, parent, retry_of, run_at, resumable, retry, tags,
  requested_by, created_at, queued_at, started_at, claim, attempt, crashes, alone, excused, running_ms, waiting_ms, warnings, data,
  checksum)
SELECT ?1, name, version, 'queued', 'run', 0, priority, key, grp,
  coalesce(?6, (SELECT p.id FROM jobs AS p WHERE p.id = job_history.parent AND p.intent <> 'cancel')), id, NULL, resumable, retry, tags,
  coalesce(?2, requested_by), ?3, ?3, NULL, 0, 1, 0, 0, 0, 0, 0, 0, data, ?4
FROM job_history WHERE id = ?5
ON CONFLICT (name, key) WHERE key IS NOT NULL AND after_id IS NULL DO NOTHING"""
PAUSED_PARENT = f"SELECT p.id FROM jobs AS j JOIN jobs AS p ON p.id = j.parent WHERE j.id = ? AND p.pausers & {GOES_DOWN}"
GROUP_OF = "SELECT grp FROM job_history WHERE id = ?"
WHO_HAS = "SELECT id FROM jobs WHERE name = ? AND key = ? AND after_id IS NULL"


def group_of(con: apsw.Connection, job_id: bytes) -> str | None:
    """The group of an ended job."""
    group: str | None = con.execute(GROUP_OF, (job_id,)).get
    return group


def paused_parent(con: apsw.Connection, job_id: bytes) -> list[bytes]:
    """The job's parent, if it is paused, or asked to: nobody has told the new child."""
    parent: bytes | None = con.execute(PAUSED_PARENT, (job_id,)).get
    return [] if parent is None else [parent]


def insert_again(con: apsw.Connection, write: InsertAgain, now_ms: int, next_id: Callable[[], bytes]) -> Submitted | Exception:
    """A new job from an ended one; the history row stays as it is."""
    status = con.execute(HOW_ENDED, (write.job_id,)).get
    if status is None:
        live = con.execute(LIVE, (write.job_id,)).get
        if live is None:
            return NoSuchJob(f"no job {id_text(write.job_id)} in this library")
        return NotAllowed(f"job {id_text(write.job_id)} is {live}, it has not ended; retry is for ended jobs")
    # Without a ledger to go by, the new job would do everything.
    if write.ledger == "rest" and status == "completed":
        return NotAllowed(f"job {id_text(write.job_id)} is completed: all of it is done; retry it without keep_done")
    if write.ledger == "failed" and con.execute(FAILED_SOME, (write.job_id,)).get is None:
        return NotAllowed(f"job {id_text(write.job_id)} is {status}, and no item of it has failed; retry it without failed_only")
    made = insert_copy(con, write.job_id, next_id(), now_ms, write.requested_by)
    if isinstance(made, Submitted) and not made.duplicate and write.ledger != "none":
        _hand_down_ledger(con, write, made.job_id)
    return made


def insert_copy(
    con: apsw.Connection, old_id: bytes, job_id: bytes, now_ms: int, requested_by: str | None, parent: bytes | None = None
) -> Submitted | Exception:
    """Queue an ended job anew, as it was submitted; it finds the old one's children.

    `parent`: None: the old one's, if that lives and is not being cancelled.
    """
    raw_name, version, data, stored, key, tags = next(iter(con.execute(OLD, (old_id,))))
    name = raw_name.decode("utf-8", "backslashreplace")
    if not is_jobs_checksum(stored, old_id, name, version, data):
        return NotAllowed(f"job {id_text(old_id)} cannot be retried: what is stored of it is damaged")
    con.execute(AGAIN, (job_id, requested_by, now_ms, job_checksum(name, version, data) + job_id[ID_END:], old_id, parent))
    if not con.changes():
        standing = con.execute(WHO_HAS, (name, key)).get
        return Submitted(standing, True, None, name, Met(Answer.DEDUPLICATED, standing))
    tag_jobs(con, ((tag, job_id) for tag in tags_from(tags)))
    hand_down_children(con, old_id, job_id)
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
