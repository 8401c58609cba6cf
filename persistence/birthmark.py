"""Which library a file belongs to: a mark that is drawn when its database is made, and is in every WAL of it. SQLite itself would take the WAL
of one library for that of another: nothing in it says whose it is.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import apsw

from callboard.persistence.connection import open_without_wal

KEY = "library"
"""Of its row in `meta`."""
DRAWN_BYTES = 12
CHECK_BYTES = 4
"""So that a torn page is not taken for another library's."""

PUT = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


def put(connection: apsw.Connection) -> None:
    """A database that is being made becomes a library of its own."""
    drawn = connection.execute("SELECT randomblob(?)", (DRAWN_BYTES,)).get
    connection.execute(PUT, (KEY, drawn + _check(drawn)))


def of_database(database: Path) -> object:
    """The mark in the database itself, whatever its WAL says; None if there is none, or none that is whole. Nobody may be writing to it."""
    try:
        connection = open_without_wal(database)
        try:
            return of_library(connection)
        finally:
            connection.close()
    except (apsw.Error, UnicodeDecodeError):  # a crash in the middle of a checkpoint, which the WAL mends; or damage, which is seen later
        return None


def of_library(connection: apsw.Connection) -> object:
    """The mark as this connection sees it. Raises apsw.Error, UnicodeDecodeError."""
    return connection.execute("SELECT value FROM meta WHERE key = ?", (KEY,)).get


def differ(one: object, other: object) -> bool:
    """Whether these are the marks of two libraries, without doubt."""
    return _is_mark(one) and _is_mark(other) and one != other


def _is_mark(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == DRAWN_BYTES + CHECK_BYTES and value[DRAWN_BYTES:] == _check(value[:DRAWN_BYTES])


def _check(drawn: bytes) -> bytes:
    return blake2b(drawn, digest_size=CHECK_BYTES, person=b"birthmark").digest()
