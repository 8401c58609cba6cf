"""How a connection to jobs.db is set up: one function per setting, its reason beside it, each read back from SQLite.

A library's file may come from anywhere. All that could make SQLite run something the file brought along is off before the first byte
of it is read; the settings that touch the file come last.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import quote

import apsw

from callboard.jobs.errors import SqliteTooOld, StoreUnavailable

OLDEST_SQLITE = (3, 51, 3)
"""The first version without the WAL-reset race, which could corrupt a database that two connections use."""

LONGEST_VALUE = 64 * 1024 * 1024
"""Longest text, blob or row, in bytes."""

STATEMENTS = 512
"""Prepared statements kept per connection. They stand in a ring: one that has not been used for so many others is prepared anew."""

VFS = "unix-excl"
"""SQLite's own lock is exclusive and kept until the last connection of the process is closed; the WAL index is in memory, not in a file."""

Setting = Callable[[apsw.Connection], None]


def check_version(version: str | None = None) -> None:
    """Refuse an SQLite that can corrupt the library. `version`: as `apsw.sqlite_lib_version()` says it, which is the default.

    Raises SqliteTooOld.
    """
    found = apsw.sqlite_lib_version() if version is None else version
    if tuple(int(part) for part in found.split(".")[:3]) < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise SqliteTooOld(f"SQLite {found} can corrupt a database in WAL mode; callboard needs {oldest} or newer: pip install -U apsw")


def _took(setting: str, wanted: object, got: object) -> None:
    if got != wanted:
        raise StoreUnavailable(f"SQLite did not take the setting {setting}={wanted!r}: it says {got!r}. The library was not opened")


def _flag(connection: apsw.Connection, name: str, value: int) -> None:
    option = getattr(apsw, f"SQLITE_DBCONFIG_{name}")
    connection.config(option, value)
    _took(name, value, connection.config(option, -1))


# --- what the file may not do -------------------------------------------------------------------------------------------


def defensive(connection: apsw.Connection) -> None:
    """SQL cannot damage the file on purpose (writable_schema, shadow tables, journal_mode=off)."""
    _flag(connection, "DEFENSIVE", 1)


def no_triggers(connection: apsw.Connection) -> None:
    """The schema has none; one that was added would run with our rights."""
    _flag(connection, "ENABLE_TRIGGER", 0)


def no_views(connection: apsw.Connection) -> None:
    """The schema has none; a view in place of a table could compute for ever."""
    _flag(connection, "ENABLE_VIEW", 0)


def untrusted_schema(connection: apsw.Connection) -> None:
    """No CHECK, index or default of the file may call a function that has effects."""
    _flag(connection, "TRUSTED_SCHEMA", 0)


def strict_quotes(connection: apsw.Connection) -> None:
    """A misspelt "column" is an error, not the text of its name."""
    _flag(connection, "DQS_DML", 0)
    _flag(connection, "DQS_DDL", 0)


def no_extensions(connection: apsw.Connection) -> None:
    """No SQL may load a shared library."""
    connection.enable_load_extension(False)
    _flag(connection, "ENABLE_LOAD_EXTENSION", 0)


def no_attaching(connection: apsw.Connection) -> None:
    """A library is one file."""
    _limit(connection, "ATTACHED", 0)


def bounded_values(connection: apsw.Connection) -> None:
    """A damaged length must not make SQLite ask for a gigabyte."""
    _limit(connection, "LENGTH", LONGEST_VALUE)


def _limit(connection: apsw.Connection, name: str, value: int) -> None:
    which = getattr(apsw, f"SQLITE_LIMIT_{name}")
    connection.limit(which, value)
    _took(f"LIMIT_{name}", value, connection.limit(which))


def checked_cells(connection: apsw.Connection) -> None:
    """Look at each page's structure when it is read: damage is found where it is, not by the crash it causes."""
    _pragma(connection, "cell_size_check", 1)


def no_mmap(connection: apsw.Connection) -> None:
    """An I/O error of a mapped page is a SIGBUS that kills the host; of a read it is an error code."""
    _pragma(connection, "mmap_size", 0)


# --- how it is used -----------------------------------------------------------------------------------------------------


def no_checkpoint_on_close(connection: apsw.Connection) -> None:
    """A forked child that exits closes its copy of the connection, and that would delete the WAL under its parent.

    So no close does it, and `LibraryFolder.close` checkpoints by itself.
    """
    _flag(connection, "NO_CKPT_ON_CLOSE", 1)


def no_waiting(connection: apsw.Connection) -> None:
    """Nobody else can hold the lock for a moment only: who is busy is busy for good, and a wait would stall the actor."""
    connection.set_busy_timeout(0)
    _took("busy_timeout", 0, connection.pragma("busy_timeout"))


def no_foreign_keys(connection: apsw.Connection) -> None:
    """The schema declares none, and a cascade would be work that no statement shows. SQLite's default, said and checked."""
    _flag(connection, "ENABLE_FKEY", 0)


def kept_statements(connection: apsw.Connection) -> None:
    """Every hot statement stays prepared."""
    _took("statement cache", STATEMENTS, connection.cache_stats()["size"])


def lasting_plans(connection: apsw.Connection) -> None:
    """A prepared statement stays so. SQLite would else prepare one that has a partial index to choose anew at each binding."""
    _flag(connection, "ENABLE_QPSG", 1)


def no_autocheckpoint(connection: apsw.Connection) -> None:
    """A checkpoint inside a commit makes that commit slow, and widens the gap between committed and acknowledged: the store checkpoints
    after it has answered."""
    connection.wal_autocheckpoint(0)
    _took("wal_autocheckpoint", 0, connection.pragma("wal_autocheckpoint"))


def full_sync(connection: apsw.Connection) -> None:
    """What was acknowledged survives power loss. With NORMAL it does not: the WAL is then synced only at a checkpoint."""
    connection.pragma("synchronous", "full")
    _took("synchronous", 2, connection.pragma("synchronous"))


def wal(connection: apsw.Connection) -> None:
    """Readers see the last commit and never wait for a write; one sync a commit. Reads the file, and so takes SQLite's lock."""
    connection.pragma("journal_mode", "wal")
    _took("journal_mode", "wal", connection.pragma("journal_mode"))


def memory_for_temporaries(connection: apsw.Connection) -> None:
    """What a group's rows have in common stands in temporary tables while it is written; they never touch the disk."""
    _pragma(connection, "temp_store", 2)


def is_wal(connection: apsw.Connection) -> None:
    """The writer set it. Another mode would make this reader wait for writes, and them for it."""
    _took("journal_mode", "wal", connection.pragma("journal_mode"))


def query_only(connection: apsw.Connection) -> None:
    """Only the store writes; the connection is opened read-only besides."""
    _pragma(connection, "query_only", 1)


def _pragma(connection: apsw.Connection, name: str, value: int) -> None:
    connection.pragma(name, value)
    _took(name, value, connection.pragma(name))


HARDENED: tuple[Setting, ...] = (
    defensive,
    no_triggers,
    no_views,
    untrusted_schema,
    strict_quotes,
    no_extensions,
    no_attaching,
    bounded_values,
    no_checkpoint_on_close,
    no_waiting,
    no_foreign_keys,
    kept_statements,
    lasting_plans,
    checked_cells,
    no_mmap,
)
"""For any file that claims to be a library. No file content is needed to set them."""

WRITER: tuple[Setting, ...] = (*HARDENED, no_autocheckpoint, full_sync, memory_for_temporaries, wal)
READER: tuple[Setting, ...] = (*HARDENED, no_autocheckpoint, query_only, is_wal)


def connect(path: str | os.PathLike[str], *, readonly: bool = False) -> apsw.Connection:
    """A connection to an existing file at an absolute path without symlinks, with no setting made yet and nothing of the file read.

    Raises SqliteTooOld, apsw.CantOpenError.
    """
    check_version()
    flags = apsw.SQLITE_OPEN_NOFOLLOW | (apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE)
    return apsw.Connection(os.fspath(path), flags=flags, vfs=VFS, statementcachesize=STATEMENTS)


def set_up(connection: apsw.Connection, settings: tuple[Setting, ...]) -> None:
    """Make `settings` in order; the first that does not take is an error."""
    for setting in settings:
        setting(connection)


def open_writer(path: str | os.PathLike[str]) -> apsw.Connection:
    """The connection that writes to an existing database at an absolute path without symlinks.

    Raises SqliteTooOld, StoreUnavailable, and apsw's errors: BusyError if another process uses the file.
    """
    return _ready(connect(path), WRITER)


def open_reader(path: str | os.PathLike[str]) -> apsw.Connection:
    """A read-only connection beside the writer of this process: it sees the last commit and waits for nobody. Raises as `open_writer`."""
    return _ready(connect(path, readonly=True), READER)


def open_without_wal(path: str | os.PathLike[str]) -> apsw.Connection:
    """A read-only connection to the database as it would be without its WAL. Nobody may be writing to it. Raises as `open_writer`."""
    uri = f"file:{quote(os.fspath(path))}?immutable=1"
    flags = apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW
    return _ready(apsw.Connection(uri, flags=flags, vfs=VFS, statementcachesize=STATEMENTS), HARDENED)


def open_private(path: str | os.PathLike[str]) -> apsw.Connection:
    """A connection to an existing file that nobody else knows yet, such as one that is still being made: no journal, no syncs.

    Who opens it syncs the file when it is whole, and only then gives it its name.
    """
    connection = _ready(connect(path), HARDENED)
    connection.pragma("journal_mode", "memory")
    connection.pragma("synchronous", "off")
    return connection


def _ready(connection: apsw.Connection, settings: tuple[Setting, ...]) -> apsw.Connection:
    try:
        set_up(connection, settings)
    except BaseException:
        connection.close()
        raise
    return connection
