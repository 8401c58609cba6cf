"""The write-ahead log of the connection that writes: moved into the database when it has grown, and long enough before anything is in it.

Both happen outside the way to any acknowledgement. A commit that makes the file longer has the file system record the new length and the new
block with it: on ext4 each of the two commits of a lone job took 0.45 ms without room in the file, 0.24 ms with it. SQLite reads a WAL up to
the first frame whose checksum and salt do not fit; zeros never do.
"""

from __future__ import annotations

import logging

import apsw

PAGES_BEFORE_CHECKPOINT = 4_000
"""16 MiB of WAL: reading it back at the next opening takes under 0.1 s, and a checkpoint's syncs are spread over many commits."""

ROOM_PAGES = 256
"""Room is made for so many pages, about 1 MiB."""
SMALL_COMMIT_PAGES = 8
"""After a commit of no more pages, the WAL is moved before it outgrows its room: single writes change the same few pages again and again."""

FRAME_BYTES = 24 + 4096
"""A page and its header."""
PIECE = bytes(4096)
"""Written at a time: what is written in one go the page cache may keep as one, and then writes back whole for each page that changes in it."""

log = logging.getLogger("callboard.store")


class Wal:
    """Takes the connection's WAL hook. To be used between transactions."""

    def __init__(self, con: apsw.Connection) -> None:
        self._con = con
        self._pages = 0
        self._moved = 0
        """So many of them are in the database already."""
        self._last_commit = 0
        self._has_room = False
        con.set_wal_hook(self._committed)

    def _committed(self, _con: apsw.Connection, _database: str, pages: int) -> int:
        if pages <= self._pages:  # it has begun anew
            self._pages = self._moved = 0
        self._last_commit = pages - self._pages
        self._pages = pages
        return apsw.SQLITE_OK

    @property
    def begins(self) -> bool:
        """The next commit is the first of a WAL, unless a reader keeps the one before it."""
        return self._pages == self._moved

    def tidy(self) -> apsw.Error | None:
        """After a commit, when it has been told of. What it met while it moved the WAL is answered; it costs time later, and no more than that
        if the connection is not used any further: a sync that failed is never to be asked for again through the same handle.
        """
        try:
            small = 0 < self._last_commit <= SMALL_COMMIT_PAGES
            if small:
                self._make_room()
        except apsw.Error as error:
            log.warning("the WAL could not be lengthened, and grows with each commit: %s", error)
        try:
            if self._pages - self._moved >= (ROOM_PAGES - SMALL_COMMIT_PAGES if small else PAGES_BEFORE_CHECKPOINT):
                self._con.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                self._moved = self._pages  # it begins anew with the next commit, or grows on while a reader is at it
        except apsw.Error as error:
            log.warning("the WAL could not be checkpointed, and grows on: %s", error)
            return error
        return None

    def write_again(self) -> None:
        """After a sync that failed: write all there is once more, as it is, and sync that. Raises apsw.Error.

        What could not be written the system shows as if it had been, and takes the next sync of it for nothing to do. To checkpoint such a WAL
        is to have the new pages in the database while the WAL on disk ends before them: after a power cut the two are mixed.
        """
        wal = self._open()
        try:
            size = wal.xFileSize()
            for place in range(0, size, len(PIECE)):
                wal.xWrite(wal.xRead(min(len(PIECE), size - place), place), place)
            wal.xSync(apsw.SQLITE_SYNC_NORMAL)
        finally:
            wal.xClose()

    def _open(self) -> apsw.VFSFile:
        # By SQLite's own means: that a file of the database is opened and closed so drops none of its locks.
        return apsw.VFSFile(self._con.open_vfs, self._con.filename_wal, [apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_WAL, 0])

    def _make_room(self) -> None:
        if self._has_room:
            return
        self._has_room = True  # also if the disk has none: it is not tried again
        wal = self._open()
        try:
            end = wal.xFileSize()
            if end < ROOM_PAGES * FRAME_BYTES:
                for place in range(end + -end % len(PIECE), ROOM_PAGES * FRAME_BYTES, len(PIECE)):
                    wal.xWrite(PIECE, place)
                wal.xSync(apsw.SQLITE_SYNC_NORMAL)  # here, and not in the next commit
        finally:
            wal.xClose()
