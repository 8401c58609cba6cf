"""What is wrong with a library: its files, its structure, its rows, and what they say of one another. Not a byte of it is changed.

SQLite reads no WAL database without making files beside it, nor while another process owns it: so a copy is read, made while nothing was
written.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Generator, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from callboard.jobs.errors import DataError, LibraryBusy, NotALibrary, NotDecodable, StoreUnavailable
from callboard.persistence import birthmark, migrate, place
from callboard.persistence.checksum import is_jobs_checksum, part_checksum
from callboard.persistence.codec import CHECKPOINT, decode_map, decode_value
from callboard.persistence.connection import HARDENED, connect, set_up
from callboard.persistence.lock import read_holder
from callboard.persistence.place import DATABASE, WAL

TRIES = 5
MOST = 100
"""Findings told one by one, a table."""
PROBES = 2_000
"""Looks behind damaged pages, a table."""
EMPTY_MOST = 4
"""So often a span of keys without a row is halved: whole pages stand between damaged ones."""
_LAST = (1 << 128) - 1

Row = dict[str, Any]


class Finding(NamedTuple):
    """What is not as it should be; `where`: a file, a table, or "schema". Not `damage`: only worth knowing."""

    where: str
    text: str
    damage: bool = True


class Gap(NamedTuple):
    """Rows of these first keys cannot be read, both included."""

    low: bytes
    high: bytes
    why: str


def examine(folder: Path) -> Generator[Finding, None, None]:
    """Look at the library in `folder`, also beside its owner; finish or close the iterator.

    Raises LibraryBusy (it is written to without a pause), NotALibrary (there is none), UnsafeLibrary, StoreUnavailable (it cannot be read).
    """
    try:
        yield from _files(folder)
        if not place.has_database(folder):
            raise NotALibrary(f"the folder {str(folder)!r} holds no library")
    except DataError as error:
        if isinstance(error.__cause__, OSError) or not os.path.lexists(folder / DATABASE):
            raise
        yield Finding(DATABASE, str(error))
        return
    with tempfile.TemporaryDirectory(prefix="callboard-") as scratch, snapshot(folder, Path(scratch)) as con:
        try:
            yield from _whose(con)
            yield from _database(con)
        except (apsw.Error, DataError, UnicodeDecodeError) as error:
            yield Finding(DATABASE, str(error).replace(scratch, str(folder)))


@contextlib.contextmanager
def snapshot(folder: Path, scratch: Path) -> Iterator[apsw.Connection]:
    """A connection to a copy, made in the folder `scratch`. Raises as `examine`."""
    for _ in range(TRIES):
        before = _stamps(folder)
        try:
            for name in (DATABASE, WAL):
                (scratch / name).unlink(missing_ok=True)
                if before[name]:
                    shutil.copyfile(folder / name, scratch / name, follow_symlinks=False)
        except OSError as error:
            raise StoreUnavailable(f"{str(folder)!r} could not be copied: {error}") from error
        if _stamps(folder) == before:
            break
    else:
        raise LibraryBusy(f"{str(folder)!r} is written to without a pause: close it, or look at a backup of it")
    con = connect(scratch / DATABASE)
    try:
        set_up(con, HARDENED)
        yield con
    finally:
        con.close(True)


def _stamps(folder: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name in (DATABASE, WAL):
        with contextlib.suppress(OSError):
            status = os.lstat(folder / name)
            found[name] = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return {DATABASE: (), WAL: ()} | found


def _files(folder: Path) -> Iterator[Finding]:
    holder = read_holder(folder)
    if holder.pid is not None:
        yield Finding("library.lock", f"process {holder.pid} has the library open", False)
    for path in (folder, *sorted(folder.iterdir())):
        mode = os.lstat(path).st_mode
        if not stat.S_ISLNK(mode) and mode & 0o022:
            yield Finding(path.name, f"others may change it (mode {stat.S_IMODE(mode):04o})", False)
        if path.name.startswith((migrate.NEW, place.JOURNAL, place.SHM)):
            yield Finding(path.name, "was left over", False)


def _whose(con: apsw.Connection) -> Iterator[Finding]:
    if birthmark.differ(birthmark.of_database(Path(con.filename)), birthmark.of_library(con)):
        yield Finding(WAL, "belongs to another library: what follows is of a mixture of both. Move it away, and look again")


def _database(con: apsw.Connection) -> Iterator[Finding]:
    foreign = migrate.differences(con)
    for what, kind, name in foreign:
        yield Finding("schema", f"has {what}: {kind} {name!r}")
    if foreign:  # what a stranger added is not computed
        return
    version = migrate.version_of(con)
    if version < migrate.newest():
        yield Finding("schema", f"has version {version}; the next opening makes it {migrate.newest()}", False)
    yield from _structure(con)
    for table in tables():
        yield from _rows(con, table)
    if version == migrate.newest():
        yield from _relations(con)


def _structure(con: apsw.Connection) -> Iterator[Finding]:
    try:
        for (text,) in con.execute(f"PRAGMA integrity_check({MOST})"):
            for line in str(text).splitlines():
                if line != "ok" and not line.startswith("***"):
                    yield Finding(DATABASE, line, not line.endswith("never used"))
    except apsw.Error as error:
        yield Finding(DATABASE, f"could not be checked to the end: {error}")


def _rows(con: apsw.Connection, table: str) -> Iterator[Finding]:
    faults = 0
    for row in walk(con, table):
        fault = f"from {row.low.hex()} to {row.high.hex()} cannot be read: {row.why}" if isinstance(row, Gap) else fault_of(table, row)
        if fault is not None:
            faults += 1
            if faults <= MOST:
                yield Finding(table, fault)
    if faults > MOST:
        yield Finding(table, f"{faults - MOST} more")


_RELATIONS = """
jobs|is live, and has ended|SELECT id FROM jobs WHERE id IN (SELECT id FROM job_history)
jobs|is running, and was never claimed|SELECT id FROM jobs WHERE status IN ('running', 'pausing', 'cancelling') AND claim < 1
jobs|is paused by nobody|SELECT id FROM jobs WHERE status = 'paused' AND pausers = 0
jobs|is to stop otherwise than is wanted|SELECT id FROM jobs WHERE (status = 'pausing' AND intent <> 'pause') \
OR (status = 'cancelling' AND intent <> 'cancel')
jobs|waits behind a job that is not there|SELECT id FROM jobs WHERE status = 'waiting' AND after_id NOT IN (SELECT id FROM jobs)
jobs|waits for a batch that is not there|SELECT id FROM jobs WHERE status = 'awaiting_children' AND after_batch NOT IN (SELECT id FROM batches)
jobs|is at its end, which is not stored|SELECT id FROM jobs WHERE status = 'ending' AND id NOT IN (SELECT job_id FROM held_ends)
held_ends|is of no job that is at its end|SELECT job_id FROM held_ends WHERE job_id NOT IN (SELECT id FROM jobs WHERE status = 'ending')
cascades|is of no job|SELECT parent FROM cascades WHERE parent NOT IN (SELECT id FROM jobs UNION ALL SELECT id FROM job_history)
batch_chunks|is of no batch|SELECT batch_id FROM batch_chunks WHERE batch_id NOT IN (SELECT id FROM batches)
batches|counts its open jobs wrongly|SELECT id FROM batches WHERE open <> (SELECT count(*) FROM batch_chunks AS c CROSS JOIN jobs AS j ON \
j.id BETWEEN c.first_id AND c.last_id WHERE c.batch_id = batches.id)
"""
OWNED = ("job_checkpoints", "job_warnings", "job_tags")
NO_OWNER = "job_id NOT IN (SELECT id FROM jobs) AND job_id NOT IN (SELECT id FROM job_history)"


def _relations(con: apsw.Connection) -> Iterator[Finding]:
    asked = [line.split("|") for line in _RELATIONS.strip().splitlines()]
    asked += [[table, "is of no job", f"SELECT DISTINCT job_id FROM {table} WHERE {NO_OWNER}"] for table in OWNED]
    for table, text, sql in asked:
        try:
            for (key,) in con.execute(f"{sql} LIMIT {MOST}"):
                yield Finding(table, f"{_shown(key)} {text}")
        except apsw.Error as error:
            yield Finding(table, f"who {text}? {error}")


@lru_cache(maxsize=1)
def tables() -> dict[str, dict[str, str]]:
    """Table → column → type, of the newest schema."""
    con = apsw.Connection(":memory:")
    try:
        migrate.create(con)
        names: list[Any] = con.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid").fetchall()
        return {name: {column[1]: column[2] for column in con.execute(f"PRAGMA table_info({name})")} for (name,) in names}
    finally:
        con.close()


def walk(con: apsw.Connection, table: str) -> Iterator[Row | Gap]:
    """Every row that can be reached, from both sides of what is damaged and from within; then what cannot. Text as bytes."""
    found = {column[1] for column in con.execute(f"PRAGMA table_info({table})")}
    columns = [column for column in tables()[table] if column in found]
    if not columns:
        yield Gap(_key(0), _key(_LAST), "there is no such table")
        return
    read = ", ".join(f"iif(typeof({column}) = 'text', CAST({column} AS BLOB), {column})" for column in columns)
    spans = [(-1, _LAST + 1, 0)]
    gaps: list[Gap] = []
    for probes, (low, high, empty) in enumerate(spans):  # it grows meanwhile
        ends, why = [low, high], ""
        for side, order in enumerate(("ASC", "DESC")):
            every = probes == side == 0  # also what has no key of ours
            where = "?1 < ?2" if every else f"{columns[0]} BETWEEN ?1 AND ?2"
            sql = f"SELECT {read} FROM {table} WHERE {where} ORDER BY {columns[0]} {order}"
            try:
                for values in con.execute(sql, (_key(ends[0] + 1), _key(ends[1] - 1))):
                    ends[side] = _number(values[0])
                    yield dict(zip(columns, values, strict=True))
                break
            except apsw.Error as error:
                why = str(error)
        else:
            empty = empty + 1 if ends == [low, high] else 0
            middle = sum(ends) // 2
            if empty < EMPTY_MOST and probes < PROBES and ends[1] - ends[0] > 4:
                spans += (ends[0], middle, empty), (middle, ends[1], empty)
            else:
                gaps.append(Gap(_key(ends[0]), _key(ends[1]), why))
    yield from _merged(gaps)


def _merged(gaps: list[Gap]) -> Iterator[Gap]:
    gaps.sort()
    while gaps:
        low, high, why = gaps.pop(0)
        while gaps and gaps[0].low <= high:
            high = max(high, gaps.pop(0).high)
        yield Gap(low, high, why)


def fault_of(table: str, row: Row) -> str | None:
    """Why the row is not whole, if it is not. Its text becomes str."""
    key = next(iter(row.values()))
    try:
        for column, kind in tables()[table].items():
            if kind == "TEXT" and isinstance(row.get(column), bytes):
                row[column] = row[column].decode()
        if table in ("jobs", "job_history"):
            if not is_jobs_checksum(row["checksum"], row["id"], row["name"], row["version"], row["data"]):
                return f"{_shown(key)} is damaged: its checksum differs"
            decode_map(row["data"], CHECKPOINT)
        if row.get("result") is not None:
            decode_value(row["result"], CHECKPOINT)
        if table == "job_checkpoints" and row["checksum"] != part_checksum(*(row[part] for part in _PART)):
            return f"{_shown(key)}: part {row['kind']}:{row['name']!r:.60}:{row['page']} is damaged: its checksum differs"
    except (NotDecodable, UnicodeDecodeError) as error:
        return f"{_shown(key)} is damaged: {error}"
    except (TypeError, AttributeError):
        return f"{_shown(key)} is damaged: a value has another type"
    return None


_PART = ("job_id", "kind", "name", "page", "sequence", "value")


def _shown(key: object) -> str:
    return key.hex() if isinstance(key, bytes) else repr(key)[:60]


def _number(key: object) -> int:
    return int.from_bytes(key[:16].ljust(16, b"\0")) if isinstance(key, bytes) else 0


def _key(number: int) -> bytes:
    return min(max(number, 0), _LAST).to_bytes(16)
