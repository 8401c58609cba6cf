"""Databases that outlive their histories: emptied instead of made anew, their connections lent again and again, with all statements prepared.

To open a database and to prepare a hundred statements takes longer than all that most histories do with it. What a connection's end means
is kept: an open transaction is undone, what was committed is there, and whoever still holds it gets an error.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import apsw
from replaced import replaced

from callboard.jobs import live_files
from callboard.persistence import birthmark as birthmark_module
from callboard.persistence import connection as connection_module
from callboard.persistence import folder as folder_module
from callboard.persistence import lock as lock_module
from callboard.persistence import migrate as migrate_module
from callboard.persistence import place as place_module
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import DATABASE, SHM, WAL
from callboard.persistence.wal import Wal

_STAY = frozenset((DATABASE, WAL, SHM))
_LENT = ("execute", "pragma", "changes", "total_changes", "wal_checkpoint", "config", "set_wal_hook", "set_busy_timeout", "wal_autocheckpoint")


class LentConnection:
    """A connection until it is closed; it then goes back, and is of no more use to who had it."""

    def __init__(self, kept: Any, back: list[Any], closed: Any) -> None:
        """`back`: where it goes when it is closed; `closed`: a closed connection, which answers from then on."""
        self._kept, self._back, self._closed = kept, back, closed
        for name in _LENT:  # most calls by far are of these
            setattr(self, name, getattr(kept, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_kept"], name)

    @property
    def in_transaction(self) -> bool:
        return bool(self._kept.in_transaction)

    def __enter__(self) -> Any:
        return self._kept.__enter__()

    def __exit__(self, *what: Any) -> Any:
        return self._kept.__exit__(*what)

    def close(self, force: bool = False) -> None:
        """Undo what is open, and give it back. Harmless twice."""
        kept, self._kept = self._kept, self._closed
        if kept is self._closed:
            return
        for name in _LENT:
            delattr(self, name)
        kept.set_wal_hook(None)
        if kept.in_transaction:
            kept.execute("ROLLBACK")
        self._back.append(kept)


class KeptLibrary:
    """A library's folder, used by one history after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        LibraryFolder.open(path).close()
        self._idle: dict[bool, list[Any]] = {False: [], True: []}
        self._lent: list[LentConnection] = []
        self._closed = self._new(True)
        self._closed.close()
        self._con = self._new(False)
        self._idle[False].append(self._con)
        self._tables = [name for (name,) in self._con.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")]
        self._which_are_filled = "SELECT " + ", ".join(f"EXISTS (SELECT 1 FROM {table})" for table in self._tables)
        self._meta = self._con.execute("SELECT * FROM meta").fetchall()

    def _new(self, readonly: bool) -> Any:
        # One thread uses it: SQLite would take its lock for every column of every row.
        flags = apsw.SQLITE_OPEN_NOMUTEX | (apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE)
        made = apsw.Connection(str(self.path / DATABASE), flags=flags, vfs=connection_module.VFS, statementcachesize=connection_module.STATEMENTS)
        connection_module.set_up(made, connection_module.READER if readonly else connection_module.WRITER)
        _CHECK_SCHEMA(made)
        if not readonly:
            made.pragma("synchronous", "off")  # a process dies here, and no machine
        return made

    def lend(self, readonly: bool) -> LentConnection:
        """A connection as if it were new."""
        idle = self._idle[readonly]
        lent = LentConnection(idle.pop() if idle else self._new(readonly), idle, self._closed)
        self._lent.append(lent)
        return lent

    def empty(self) -> None:
        """As a new library is."""
        for lent in self._lent:
            lent.close()
        self._lent.clear()
        con = self._con
        con.execute("BEGIN IMMEDIATE")
        for table, filled in zip(self._tables, con.execute(self._which_are_filled).get, strict=True):
            if filled:  # a whole table at once would have all of its indexes written, most of which were empty as well
                con.execute(f"DELETE FROM {table} WHERE true")
        con.executemany("INSERT INTO meta VALUES (?, ?)", self._meta)
        con.execute("COMMIT")
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for entry in os.scandir(self.path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.name not in _STAY:
                os.unlink(entry.path)


_REAL = connection_module.connect
_CHECK_FOLDER = place_module.check_folder
_CHECK_SCHEMA = migrate_module.check_schema
_RESOLVE = place_module.resolve
_HAS_DATABASE = place_module.has_database
_MARK_OF = birthmark_module.of_database
_STARTED = functools.cache(lock_module._started)
_KEPT: dict[Path, KeptLibrary] = {}
_OF_DATABASE: dict[str, KeptLibrary] = {}


@functools.cache
def _folder(root: Path, pid: int) -> Path:
    path = Path(os.path.realpath(tempfile.mkdtemp(prefix="callboard-histories-", dir=root)))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def is_kept(folder: Path) -> bool:
    """Whether a library's folder is one of those: nobody but this process knows it, and nothing in it is ever moved."""
    return folder in _KEPT


def empty_library(root: Path, name: str) -> Path:
    """The folder of a library with nothing in it, which this process has used before, and nobody else has."""
    path = _folder(root, os.getpid()) / name
    if path not in _KEPT:
        path.mkdir(0o700)
        _KEPT[path] = _OF_DATABASE[str(path / DATABASE)] = KeptLibrary(path)
    _KEPT[path].empty()
    return path


# What callboard has instead while histories run: functions of this module, not of each history, so that the interpreter knows them again.


def _connect(path: Any, *, readonly: bool = False) -> Any:
    kept = _OF_DATABASE.get(os.fspath(path))
    return _REAL(path, readonly=readonly) if kept is None else kept.lend(readonly)


def _check_folder(folder: Path, **how: Any) -> None:
    if folder not in _KEPT:
        _CHECK_FOLDER(folder, **how)


def _set_up(connection: Any, settings: Any) -> None:
    if type(connection) is not LentConnection:
        for setting in settings:
            setting(connection)


def _check_schema(connection: Any, *given: Any) -> None:
    if type(connection) is not LentConnection:
        _CHECK_SCHEMA(connection, *given)


def _resolve(path: Any, *, create: bool) -> Path:
    return path if path in _KEPT else _RESOLVE(path, create=create)


def _has_database(folder: Path) -> bool:
    return folder in _KEPT or _HAS_DATABASE(folder)


def _mark_of(database: Path) -> object:
    return None if database.parent in _KEPT else _MARK_OF(database)


def _nothing(*given: Any, **how: Any) -> None:
    pass


_INSTEAD = (
    (connection_module, "connect", _connect),
    (folder_module, "connect", _connect),
    (connection_module, "set_up", _set_up),
    (folder_module, "set_up", _set_up),
    (migrate_module, "check_schema", _check_schema),
    (Wal, "_make_room", _nothing),  # the WAL's length means nothing to a history
    # Neither the file system of a folder nor the start of this process changes; to read them in /proc takes as long as many commits.
    (place_module, "check_folder", _check_folder),
    (place_module, "resolve", _resolve),
    (place_module, "has_database", _has_database),
    (live_files, "hold", _nothing),  # nobody else in this process opens them
    (live_files, "drop", _nothing),
    (lock_module, "_started", _STARTED),
    (birthmark_module, "of_database", _mark_of),  # to see that the -wal is its own, it opens one more connection at each opening
)


def connections_kept() -> contextlib.AbstractContextManager[None]:
    """Let callboard have the connections that are kept, where there are some. These are hardened once, not for each that they are lent to, and
    their schema is looked at once.
    """
    return replaced(*_INSTEAD)
