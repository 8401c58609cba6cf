"""New jobs, in one statement however many they are. Uniqueness of keys stands on the partial unique index, never on a look before."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import apsw

from callboard.jobs.errors import NoSuchJob, NotAllowed
from callboard.jobs.identity import id_text
from callboard.jobs.submission import Submitted
from callboard.persistence.checksum import checksum
from callboard.persistence.rows import Layout, bound
from callboard.persistence.writes import Insert, InsertAgain

_ROW = Layout(
    id="blob", name="text", version="int", priority="int", key="blob", grp="text", parent="blob", run_at="int", resumable="int",
    retry="text", tags="text", requested_by="text", at="int", data="blob", checksum="blob",
)  # fmt: skip

INSERT = f"""
INSERT INTO jobs (id, name, version, status, intent, pausers, priority, key, grp, parent, retry_of, run_at, resumable, retry, tags,
  requested_by, created_at, queued_at, started_at, claim, attempt, crashes, alone, excused, running_ms, waiting_ms, warnings, data, checksum)
SELECT id, name, version, 'queued', 'run', 0, priority, key, grp, parent, NULL, run_at, resumable, retry, tags,
  requested_by, at, at, NULL, 0, 1, 0, 0, 0, 0, 0, 0, data, checksum
FROM (SELECT {_ROW.select()} FROM carray(?)) WHERE true
ON CONFLICT (name, key) WHERE key IS NOT NULL DO NOTHING"""

STANDING = "SELECT id FROM jobs WHERE name = ? AND key = ?"


def insert(con: apsw.Connection, writes: Sequence[Insert], now_ms: int, next_id: Callable[[], bytes]) -> list[Submitted]:
    """Write all of them. Of several with one key the first stays; a key that is taken answers with the job that has it."""
    rows: list[bytes] = []
    answers: list[Submitted] = []
    keyed = False
    for write in writes:
        job_id = next_id()
        run_at = write.run_at_ms if write.delay_ms is None else now_ms + write.delay_ms
        if run_at is not None and run_at <= now_ms:
            run_at = None
        keyed = keyed or write.key is not None
        tags = json.dumps(write.tags) if write.tags else None
        rows.append(
            _ROW.pack((
                job_id, write.name, write.version, write.priority, write.key, write.group, write.parent, run_at, int(write.resumable),
                write.retry, tags, write.requested_by, now_ms, write.data, checksum(job_id, write.name, write.version, write.data),
            ))  # fmt: skip
        )
        answers.append(Submitted(job_id, False, run_at, write.name))
    con.execute(INSERT, (bound(rows),))
    if keyed and con.changes() < len(rows):
        _answer_duplicates(con, writes, answers)
    tagged = [(tag, answer.job_id) for write, answer in zip(writes, answers, strict=True) if not answer.duplicate for tag in write.tags]
    if tagged:
        con.executemany("INSERT OR IGNORE INTO job_tags (tag, job_id) VALUES (?, ?)", tagged)
    return answers


def _answer_duplicates(con: apsw.Connection, writes: Sequence[Insert], answers: list[Submitted]) -> None:
    for index, write in enumerate(writes):
        if write.key is None:
            continue
        standing = con.execute(STANDING, (write.name, write.key)).get
        if standing != answers[index].job_id:
            answers[index] = Submitted(standing, True, None, write.name)


AGAIN = """
INSERT INTO jobs (id, name, version, status, intent, pausers, priority, key, grp, parent, retry_of, run_at, resumable, retry, tags,
  requested_by, created_at, queued_at, started_at, claim, attempt, crashes, alone, excused, running_ms, waiting_ms, warnings, data, checksum)
SELECT ?, name, version, 'queued', 'run', 0, priority, key, grp, parent, id, NULL, resumable, retry, tags,
  coalesce(?, requested_by), ?, ?, NULL, 0, 1, 0, 0, 0, 0, 0, 0, data, ?
FROM job_history WHERE id = ?
ON CONFLICT (name, key) WHERE key IS NOT NULL DO NOTHING"""


def insert_again(
    con: apsw.Connection, write: InsertAgain, now_ms: int, next_id: Callable[[], bytes]
) -> tuple[Submitted | Exception, tuple[str, int]]:
    """A new job from an ended one; the history row stays as it is. Also the (name, version) of it."""
    nothing = ("", 0)
    old = con.execute("SELECT name, version, data, checksum, key, tags FROM job_history WHERE id = ?", (write.job_id,)).get
    if old is None:
        live = con.execute("SELECT status FROM jobs WHERE id = ?", (write.job_id,)).get
        if live is None:
            return NoSuchJob(f"no job {id_text(write.job_id)} in this library"), nothing
        return NotAllowed(f"job {id_text(write.job_id)} is {live}, it has not ended; retry is for ended jobs"), nothing
    name, version, data, stored, key, tags = old
    if stored != checksum(write.job_id, name, version, data):
        return NotAllowed(f"job {id_text(write.job_id)} cannot be retried: what is stored of it is damaged"), nothing
    job_id = next_id()
    con.execute(AGAIN, (job_id, write.requested_by, now_ms, now_ms, checksum(job_id, name, version, data), write.job_id))
    if not con.changes():
        return Submitted(con.execute(STANDING, (name, key)).get, True, None, name), nothing
    if tags:
        con.executemany("INSERT OR IGNORE INTO job_tags (tag, job_id) VALUES (?, ?)", [(tag, job_id) for tag in json.loads(tags)])
    if write.ledger != "none":
        _hand_down_ledger(con, write, job_id)
    return Submitted(job_id, False, None, name), (name, version)


def _hand_down_ledger(con: apsw.Connection, write: InsertAgain, job_id: bytes) -> None:
    """Give the new job the old one's ledger, so that it skips what is to be skipped. Fields are not handed down: they start as submitted.

    `rest`: what is done and did not fail counts as done. `failed`: only the failed positions are to be done at all.
    """
    rows = con.execute(
        "SELECT kind, name, page, value FROM job_checkpoints WHERE job_id = ? AND kind IN ('done', 'failed', 'items', 'source')",
        (write.job_id,),
    ).fetchall()
    failed = {(name, page): value for kind, name, page, value in rows if kind == "failed"}
    maps = {name for kind, name, _, _ in rows if kind == "done"}
    parts: list[tuple[str, str, int, bytes]] = []
    for kind, name, page, value in rows:
        if kind in ("items", "source"):
            parts.append((kind, name, page, value))
        elif kind == "done" and write.ledger == "rest":
            without = failed.get((name, page), bytes(len(value)))
            parts.append((kind, name, page, bytes(bits & ~out for bits, out in zip(value, without, strict=True))))
        elif kind == "failed" and write.ledger == "failed":
            parts.append(("only", name, page, value))
    if write.ledger == "failed":
        with_some = {name for kind, name, _, _ in parts if kind == "only"}
        parts += [("only", name, 0, bytes(512)) for name in sorted(maps - with_some)]  # a map without failures has nothing to do
    con.executemany(
        "INSERT INTO job_checkpoints (job_id, kind, name, page, sequence, value, checksum) VALUES (?, ?, ?, ?, 0, ?, ?)",
        [(job_id, *part, checksum(job_id, part[0], part[1], part[2], 0, part[3])) for part in parts],
    )
