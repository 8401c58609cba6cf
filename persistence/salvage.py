"""Every row of a damaged library that is whole, in a new library; what is left out is told, and why. The damaged one is only read.

Nothing in the new one waits for what is lost. A job whose checkpoint has lost a part is quarantined: what is left would be a mix.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from callboard.jobs.errors import ConfigError, NotALibrary, StoreUnavailable
from callboard.persistence import migrate, place
from callboard.persistence.connection import open_private
from callboard.persistence.examination import NO_OWNER, OWNED, Finding, Gap, Row, fault_of, snapshot, walk
from callboard.persistence.lock import acquire
from callboard.persistence.place import DATABASE

ENDED_FIRST = ("job_history", "jobs", "job_checkpoints", "job_warnings", "held_ends", "cascades", "batches", "batch_chunks")
"""What is copied; tags and `meta` are made anew."""

LOST = "a part of its checkpoint was lost: resumed, it starts from the beginning"

_MEND = f"""
UPDATE jobs SET status = 'quarantined', intent = 'run', pausers = 0, after_batch = NULL, error = '{LOST}'
  WHERE id IN (SELECT id FROM spoiled) AND status NOT IN ('waiting', 'ending');
DELETE FROM job_checkpoints WHERE job_id IN (SELECT id FROM spoiled);
UPDATE jobs SET parent = NULL WHERE parent NOT IN (SELECT id FROM jobs) AND parent NOT IN (SELECT id FROM job_history);
UPDATE jobs SET after_id = (SELECT f.id FROM jobs AS f WHERE f.name = jobs.name AND f.key = jobs.key AND f.after_id IS NULL)
  WHERE status = 'waiting' AND after_id NOT IN (SELECT id FROM jobs)
  AND EXISTS (SELECT 1 FROM jobs AS f WHERE f.name = jobs.name AND f.key = jobs.key AND f.after_id IS NULL);
UPDATE jobs SET status = iif(pausers, 'paused', 'queued'), after_id = NULL
  WHERE status = 'waiting' AND after_id NOT IN (SELECT id FROM jobs);
UPDATE jobs SET status = 'quarantined', intent = 'run', pausers = 0, error = 'it was at its end, and how it ended was lost'
  WHERE status = 'ending' AND (id NOT IN (SELECT job_id FROM held_ends) OR id NOT IN (SELECT parent FROM jobs WHERE parent IS NOT NULL));
DELETE FROM held_ends WHERE job_id NOT IN (SELECT id FROM jobs WHERE status = 'ending');
DELETE FROM cascades WHERE parent NOT IN (SELECT id FROM jobs UNION ALL SELECT id FROM job_history);
DELETE FROM batch_chunks WHERE batch_id NOT IN (SELECT id FROM batches);
UPDATE batches SET open = (SELECT count(*) FROM batch_chunks AS c CROSS JOIN jobs AS j ON j.id BETWEEN c.first_id AND c.last_id
  WHERE c.batch_id = batches.id);
UPDATE batches SET completed_at = :now WHERE sealed AND open = 0 AND completed_at IS NULL;
UPDATE jobs SET status = iif(pausers, 'paused', 'queued'), after_batch = NULL
  WHERE status = 'awaiting_children' AND after_batch NOT IN (SELECT id FROM batches WHERE open);
UPDATE jobs SET kept_back = 0 WHERE kept_back AND ifnull(limited, x'') NOT IN (SELECT limited FROM jobs WHERE NOT kept_back AND limited NOTNULL);
UPDATE jobs SET limited = NULL WHERE limited NOT IN (SELECT id FROM batches);
INSERT OR IGNORE INTO job_tags (tag, job_id) SELECT t.value, j.id FROM (SELECT id, tags FROM jobs UNION ALL SELECT id, tags FROM job_history) AS j,
  json_each(iif(json_valid(j.tags), j.tags, '[]')) AS t WHERE t.type = 'text';
INSERT INTO meta VALUES ('clean', 1), ('epoch', :epoch) ON CONFLICT (key) DO UPDATE SET value = excluded.value;
"""

_SPOIL = """
INSERT OR IGNORE INTO spoiled SELECT id FROM jobs WHERE id BETWEEN ?1 AND ?2 AND (claim > 0 OR retry_of NOTNULL)
UNION ALL SELECT id FROM job_history WHERE id BETWEEN ?1 AND ?2"""


class Salvaged(NamedTuple):
    """What came of it; `kept`: rows of each table."""

    kept: dict[str, int]
    left_out: list[Finding]


def salvage(source: Path, target: str | os.PathLike[str], now_ms: int) -> Salvaged:
    """Save what is whole of the library in the folder `source` into a new one, `target`; `now_ms`: when batches that lost jobs are over.

    Until it is whole it is `.NAME.partial`. Raises ConfigError (the target exists), NotALibrary (nothing can be read), LibraryBusy,
    UnsafeLibrary, StoreUnavailable.
    """
    final = Path(os.path.realpath(Path(target).parent)) / Path(target).name
    if os.path.lexists(final) or not final.parent.is_dir():
        raise ConfigError(f"{str(final)!r} exists, or its folder does not: name a library to be made")
    partial = final.with_name(f".{final.name}.partial")
    scratch = partial / "damaged"
    try:
        place.make_private_folder(partial)
        lock = acquire(partial, stays=False)
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(0o700)
            (partial / DATABASE).unlink(missing_ok=True)
            migrate.make_database(partial)
            with snapshot(source, scratch) as con:
                done = _save(con, partial / DATABASE, now_ms)
            shutil.rmtree(scratch)
            place.sync_file(partial / DATABASE)
            os.rename(partial, final)
            place.sync_folder(final.parent)
            return done
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            lock.release()
    except (OSError, apsw.FullError, apsw.IOError) as error:
        raise StoreUnavailable(f"the library {str(final)!r} could not be made: {error}") from error
    except (apsw.NotADBError, apsw.CorruptError, apsw.CantOpenError) as error:
        raise NotALibrary(f"nothing can be read of {str(source / DATABASE)!r}: {error}") from error


def _save(old: apsw.Connection, database: Path, now_ms: int) -> Salvaged:
    _tolerant(old)
    new = open_private(database)
    kept: dict[str, int] = {}
    left_out: list[Finding] = []
    try:
        new.execute("CREATE TEMP TABLE spoiled (id PRIMARY KEY); BEGIN")
        strange = _strange(old)
        if len(strange) == len(ENDED_FIRST):
            raise NotALibrary("there is nothing to salvage: it has no table that a library has")
        for table in ENDED_FIRST:
            if table in strange:
                left_out.append(Finding(table, "is no table of ours: left out"))
            kept[table] = 0 if table in strange else sum(1 for _ in _copied(old, new, table, left_out))
        epoch = _epoch(old) + 1
        new.execute(_MEND, {"now": now_ms, "epoch": epoch})
        for table in OWNED:
            new.execute(f"DELETE FROM {table} WHERE {NO_OWNER}")
        new.execute("COMMIT")
        new.pragma("journal_mode", "wal")
    finally:
        new.close(True)
    return Salvaged(kept, left_out)


def _tolerant(old: apsw.Connection) -> None:
    """It is a copy; what makes no sense in its schema must not keep the tables from being read that do."""
    old.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    old.pragma("writable_schema", 1)
    old.execute("PRAGMA ignore_check_constraints = 1")


def _strange(old: apsw.Connection) -> set[str]:
    """Tables as no version of the schema has them: nothing that a stranger defined is computed."""
    known = {entry[1:] for step in migrate.MIGRATIONS for entry in migrate.expected(migrate.MIGRATIONS, step.version) if entry[0] == "table"}
    found = {entry[1]: entry[1:] in known for entry in migrate.schema_of(old) if entry[0] in ("table", "view")}
    return {table for table in ENDED_FIRST if not found.get(table, False)}


def _copied(old: apsw.Connection, new: apsw.Connection, table: str, left_out: list[Finding]) -> Iterator[None]:
    """A row that was copied, each time."""
    sql = ""
    for row in walk(old, table):
        if isinstance(row, Gap):
            left_out.append(Finding(table, f"from {row.low.hex()} to {row.high.hex()} cannot be read: {row.why}"))
            if table == "job_checkpoints":
                new.execute(_SPOIL, row[:2])
            continue
        fault = fault_of(table, row)
        sql = sql or f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
        if fault is None:
            fault = _put(new, sql, table, row)
        if fault is None:
            yield
            continue
        left_out.append(Finding(table, fault))
        if table == "job_checkpoints":
            new.execute("INSERT OR IGNORE INTO spoiled VALUES (?)", (row["job_id"],))


def _put(new: apsw.Connection, sql: str, table: str, row: Row) -> str | None:
    key = next(iter(row.values()))
    try:
        if table == "jobs" and new.execute("SELECT 1 FROM job_history WHERE id = ?", (key,)).get:
            return f"{key.hex()} has ended"
        values: Any = tuple(row.values())
        new.execute(sql, values)
    except (apsw.Error, ValueError, TypeError, OverflowError) as error:
        return f"{key.hex() if isinstance(key, bytes) else repr(key)[:60]} does not fit: {error}"
    return None


def _epoch(old: apsw.Connection) -> int:
    try:
        epoch = old.execute("SELECT value FROM meta WHERE key = 'epoch'").get
    except (apsw.Error, UnicodeDecodeError):
        return 0
    return epoch if type(epoch) is int and 0 <= epoch < 2**61 else 0
