"""A write that the disk has no room for is told from all other errors of a disk: it says clearly that nothing was written."""

from __future__ import annotations

import errno

import apsw


def told(error: Exception, connection: apsw.Connection) -> Exception:
    """`error`, which this connection has just raised; an apsw.FullError where a quota was used up, which SQLite calls an I/O error."""
    of_write = isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_WRITE
    if of_write and connection.system_errno == errno.EDQUOT:
        return apsw.FullError(f"the disk quota is used up ({error})")
    return error
