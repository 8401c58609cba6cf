"""The database's schema: how it is made, that it is exactly ours, and how an older one becomes the newest in one transaction."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from callboard.jobs.errors import NewerSchema, NotALibrary, StoreUnavailable
from callboard.persistence import birthmark, place
from callboard.persistence.connection import open_private
from callboard.persistence.place import APPLICATION_ID, DATABASE, WAL

NEW = "jobs.db.new"
"""A database that is being made; it becomes jobs.db when it is whole."""


class Migration(NamedTuple):
    """How the schema of the version before becomes that of `version`: SQL text, or a function of the connection."""

    version: int
    step: str | Callable[[apsw.Connection], None]


def _script(file: str) -> Callable[[apsw.Connection], None]:
    def run(connection: apsw.Connection) -> None:
        from importlib.resources import files

        connection.execute(files("callboard.persistence").joinpath(file).read_text("utf-8"))

    return run


MIGRATIONS: tuple[Migration, ...] = (Migration(1, _script("schema.sql")), Migration(2, _script("schema_2.sql")))
"""Every step from an empty file to today's schema. A released step never changes: a library is compared with what the steps make."""


def newest(migrations: tuple[Migration, ...] = MIGRATIONS) -> int:
    """The schema version that this callboard writes."""
    return migrations[-1].version


def version_of(connection: apsw.Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> int:
    """The schema version of a library's database. Raises NotALibrary, NewerSchema."""
    if connection.pragma("application_id") != APPLICATION_ID:
        raise NotALibrary(f"{connection.filename!r} is the database of another application; it was not changed")
    version = int(connection.pragma("user_version"))
    if version > newest(migrations):
        raise NewerSchema(
            f"{connection.filename!r} has schema version {version}, this callboard knows up to {newest(migrations)}; upgrade callboard"
        )
    if version < 1:
        raise NotALibrary(f"{connection.filename!r} says schema version {version}: it is damaged or was never finished; restore a backup")
    return version


def create(connection: apsw.Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Make an empty database a library's, in one transaction."""
    _run(connection, migrations, after=0)


def make_database(folder: Path, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """A whole new jobs.db under another name, then renamed: no crash leaves half of one, and its first page always says whose it is.

    Raises StoreUnavailable, and apsw's errors.
    """
    new = folder / NEW
    try:
        for left in (new, folder / (NEW + "-wal"), folder / (NEW + "-journal"), folder / WAL):
            left.unlink(missing_ok=True)
        place.make_private_file(new)
        connection = open_private(new)
        try:
            create(connection, migrations)
            birthmark.put(connection)
            connection.pragma("journal_mode", "wal")
        finally:
            connection.close()
        place.sync_file(new)
        os.rename(new, folder / DATABASE)
        place.sync_folder(folder)
    except OSError as error:
        raise StoreUnavailable(f"the library {str(folder)!r} could not be made: {error.strerror}") from error


def migrate(connection: apsw.Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> int:
    """Bring an older schema to the newest in one transaction: an error or a crash leaves the old one whole. The version it had.

    Check `version_of` and `check_schema` first. Raises what the steps raise.
    """
    version = version_of(connection, migrations)
    if version < newest(migrations):
        _run(connection, migrations, after=version)
    return version


def _run(connection: apsw.Connection, migrations: tuple[Migration, ...], after: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for version, step in migrations:
            if version > after:
                if isinstance(step, str):
                    connection.execute(step)
                else:
                    step(connection)
                if not connection.in_transaction:
                    raise AssertionError(f"the migration to schema version {version} ended the transaction it runs in")
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", newest(migrations))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


# --- that it is exactly ours --------------------------------------------------------------------------------------------

Schema = frozenset[tuple[str, str, str, str]]
"""(type, name, table, SQL without comments and layout) of every entry."""

STATISTICS = ("CREATE TABLE sqlite_stat1(tbl,idx,stat)", "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)")
"""What ANALYZE adds, by whoever ran it: figures for the query planner. Worst case a slow plan."""

TOKEN = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|\[[^]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)|\w+|[ \t\n\r\f]+|.""", re.DOTALL | re.ASCII)


def check_schema(connection: apsw.Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """The database has the tables and indexes of its version, and nothing else; only then is anything done with it.

    Raises NotALibrary, which names one that is added, changed or missing; NewerSchema.
    """
    found = differences(connection, migrations)
    if not found:
        return
    what, kind, name = found[0]
    raise NotALibrary(
        f"the schema of {connection.filename!r} has {what} ({kind} {name!r}) against version {version_of(connection, migrations)}: callboard did"
        " not make it so and does not use it; it was not changed. Restore a backup, or undo the change with SQLite's shell"
    )


def differences(connection: apsw.Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> list[tuple[str, str, str]]:
    """("additions", "changes" or "gaps"; type; name) of all that is not as its version has it. Raises NotALibrary, NewerSchema."""
    found, ours = schema_of(connection), expected(migrations, version_of(connection, migrations))
    names = [{entry[:2] for entry in entries} for entries in (ours, found)]
    of_names = sorted({entry[:2] for entry in found ^ ours})
    return [("changes" if one in names[0] & names[1] else "additions" if one in names[1] else "gaps", *one) for one in of_names]


def schema_of(connection: apsw.Connection) -> Schema:
    """Every table, index, view and trigger of the database, for comparison."""
    columns = ", ".join(f"CAST({column} AS BLOB)" for column in ("type", "name", "tbl_name", "sql"))
    rows: list[Any] = connection.execute(f"SELECT {columns} FROM sqlite_schema").fetchall()
    texts = ([None if raw is None else raw.decode("utf-8", "backslashreplace") for raw in row] for row in rows)  # damaged, it is not UTF-8
    entries = ((str(kind), str(name), str(table), _plain(sql)) for kind, name, table, sql in texts)
    statistics = [_plain(sql) for sql in STATISTICS]
    return frozenset(entry for entry in entries if entry[3] not in statistics)


@lru_cache(maxsize=8)
def expected(migrations: tuple[Migration, ...], version: int) -> Schema:
    """What the steps up to `version` make."""
    connection = apsw.Connection(":memory:")
    try:
        _run(connection, tuple(step for step in migrations if step.version <= version), after=0)
        return schema_of(connection)
    finally:
        connection.close()


@lru_cache(maxsize=256)
def _plain(sql: str | None) -> str:
    """SQL without comments and layout, so that a reworded comment in schema.sql does not make every library a stranger's."""
    if sql is None:
        return ""  # the index that SQLite makes for a PRIMARY KEY or UNIQUE
    return " ".join(token for token in TOKEN.findall(sql) if token[0] not in " \t\n\r\f" and not token.startswith(("--", "/*")))
