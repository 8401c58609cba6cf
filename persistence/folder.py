"""A library's folder, opened: its lock, its database checked and made new, the writer's connection, and how all of it is closed again.

The order is the point. The lock comes before any look into the file, the look before SQLite, SQLite's own exclusive lock before any
trust, the schema before any write; at the end the connections are closed before the lock is released.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from callboard.jobs import live_files
from callboard.jobs.errors import LibraryClosed, NotALibrary, StoreUnavailable
from callboard.persistence import birthmark, migrate, place, reserve
from callboard.persistence.backup import backup
from callboard.persistence.connection import WRITER, check_version, connect, open_reader, set_up
from callboard.persistence.lock import LOCK_FILE, LibraryLock, acquire, foreign_user
from callboard.persistence.migrate import MIGRATIONS, Migration
from callboard.persistence.named_file import NamedFile, inode_of
from callboard.persistence.place import DATABASE, JOURNAL, SHM, WAL

CHECKED_PAGES = 262_144
"""A database of more pages (1 GiB) is not read through after a crash: its pages are checked as they are used."""

Recover = Callable[[apsw.Connection, int, bool], object]
"""Called with (writer, epoch, closed cleanly) in the transaction that opens the library: what it writes is there with the epoch or not."""

log = logging.getLogger("callboard")


class LibraryFolder:
    """An open library. Made by `open`; not thread-safe, save `reader` and `still_there`."""

    path: Path
    """Absolute, without symlinks."""
    epoch: int
    """How often the library has been opened, this time included."""
    was_clean: bool
    """The last owner closed it; False: it died, or could not write at the end. True for a new library."""

    def __init__(self, path: Path, lock: LibraryLock) -> None:
        self.path = path
        self.lock = lock
        self._writer: apsw.Connection | None = None
        self._readers: list[apsw.Connection] = []
        self._inode: tuple[int, int] | None = None
        self._wal: NamedFile | None = None
        self._had_wal: int | None = 0
        self._reserved = False
        self._files = [os.path.join(path, name) for name in (DATABASE, WAL, SHM, JOURNAL)]
        self._database, self._lock_file = self._files[0], os.path.join(path, LOCK_FILE)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        stays: bool = True,
        allow_network_fs: bool = False,
        wait: Callable[[float], None] | None = None,
        now: Callable[[], float] | None = None,
        recover: Recover | None = None,
        migrations: tuple[Migration, ...] = MIGRATIONS,
    ) -> LibraryFolder:
        """Open the library in the folder `path`; with `create`, make it if there is none.

        `stays`: the owner keeps it open; False for a command that ends soon, which others wait for. `wait(seconds)` and `now()` as in
        `lock.acquire`. Raises LibraryBusy, LibraryClosed (in a forked child), NotALibrary, NewerSchema, UnsafeLibrary, SqliteTooOld,
        StoreUnavailable; nothing is open then.
        """
        check_version()
        real = place.resolve(path, create=create)
        place.check_folder(real, allow_network_fs=allow_network_fs)
        folder = cls(real, acquire(real, stays=stays, wait=wait, now=now))
        try:
            with _explained(real / DATABASE):
                folder._open(create, recover, migrations)
        except BaseException:
            folder._leave_as_found()
            folder.abandon()
            raise
        return folder

    def _open(self, create: bool, recover: Recover | None, migrations: tuple[Migration, ...]) -> None:
        database = self.path / DATABASE
        if not place.has_database(self.path):
            if not create:
                raise NotALibrary(f"{str(database)!r} is empty: no library was ever made here")
            migrate.make_database(self.path, migrations)
        self._had_wal = _size(self.path / WAL)
        mark = birthmark.of_database(database) if self._had_wal else None
        self._connect()
        migrate.check_schema(self.writer, migrations)
        if birthmark.differ(mark, birthmark.of_library(self.writer)):
            raise NotALibrary(
                f"{self.writer.filename_wal!r} belongs to another library than {DATABASE}; nothing was changed. Put the right one in its place,"
                " or move it away if there is none: what was written last is lost then"
            )
        old = migrate.version_of(self.writer, migrations)
        if old < migrate.newest(migrations):
            backup(self.writer, self.path / f"before-schema-{migrate.newest(migrations)}", replace=True)
            log.warning("library %r: its schema becomes version %d, from %d", str(self.path), migrate.newest(migrations), old)
            migrate.migrate(self.writer, migrations)
            migrate.check_schema(self.writer, migrations)
        self._begin(recover)
        # The `-wal` exists from the first commit on, at one inode until the library is closed.
        self._wal = NamedFile(self._files[1])
        self._hold()
        try:
            place.sync_folder(self.path)  # the name of the `-wal`: SQLite syncs it once, and does not look whether that failed
        except OSError as error:
            raise StoreUnavailable(f"the folder {str(self.path)!r} cannot be synced: {error.strerror}; mend the disk and open it again") from error
        # A library that was left behind says so in the database itself from now on, whatever becomes of its `-wal`.
        try:
            self.writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.IOError as error:  # what failed may have been a sync, which is never asked for again through the same handle
            log.warning("library %r: its WAL could not be checkpointed (%s); it is opened anew", str(self.path), error)
            self.reopen()
        except apsw.Error:
            pass

    def _leave_as_found(self) -> None:
        """A refused library loses the empty `-wal` that reading it made. As long as SQLite's lock is ours, nobody else can use it."""
        wal = self.path / WAL
        if self._writer is not None and self._had_wal is None and _size(wal) == 0:
            with contextlib.suppress(OSError):
                wal.unlink()

    def _connect(self) -> None:
        database = self.path / DATABASE
        self._inode = inode_of(database)
        self._hold()
        self._writer = connect(database)
        try:
            set_up(self._writer, WRITER)
        except apsw.BusyError:
            self._disconnect()
            raise foreign_user(database) from None
        if inode_of(database) != self._inode:
            raise StoreUnavailable(f"{str(database)!r} was replaced while it was opened; open it again")

    def _hold(self) -> None:
        live_files.hold(self._files)
        live_files.hold([self._lock_file], guarded=False)

    def _begin(self, recover: Recover | None) -> None:
        """The transaction that opens the library: a new epoch, not clean until closed, and whatever `recover` does."""
        writer = self.writer
        writer.execute("BEGIN IMMEDIATE")
        found: dict[object, object] = {key: value for key, value in writer.execute("SELECT key, value FROM meta")}
        epoch, clean = found.get("epoch", 0), found.get("clean", 1)
        if type(epoch) is not int or not 0 <= epoch < 2**62 or clean not in (0, 1):
            raise NotALibrary(f"{writer.filename!r}: its table meta is damaged (epoch={epoch!r}, clean={clean!r}); restore a backup")
        self.epoch, self.was_clean = epoch + 1, clean == 1
        if not self.was_clean and self._had_wal is None:
            log.warning("library %r: it was not closed, and its %s is gone: the last writes may be lost", str(self.path), WAL)
        if self.was_clean and self._had_wal:
            log.warning("library %r: it was closed, and had a %s all the same: is that another library's?", str(self.path), WAL)
        if not self.was_clean or self._had_wal:
            self._read_through()
        opened = "INSERT INTO meta VALUES ('epoch', ?), ('clean', 0) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        writer.execute(opened, (self.epoch,))
        if birthmark.KEY not in found:
            birthmark.put(writer)
        if recover is not None:
            recover(writer, self.epoch, self.was_clean)
        writer.execute("COMMIT")

    def _read_through(self) -> None:
        """Not closed as it should be: is the file's structure whole? Damaged rows do not matter: they are set aside when they are met."""
        writer = self.writer
        if writer.pragma("page_count") > CHECKED_PAGES:
            return
        writer.pragma("ignore_check_constraints", 1)  # two thirds of the time, and only about rows
        findings = [str(finding) for (finding,) in writer.execute("PRAGMA quick_check(100)")]
        writer.pragma("ignore_check_constraints", 0)
        for finding in findings:
            if finding == "ok":
                continue
            if not _about_one_row(finding):
                raise NotALibrary(f"{writer.filename!r} is damaged: {finding}. It was not changed; restore a backup")
            log.warning("library %r: %s", str(self.path), finding)

    def explained(self) -> contextlib.AbstractContextManager[None]:
        """What SQLite says of the library while it is being opened, as errors of ours."""
        return _explained(self.path / DATABASE)

    # --- a full disk ----------------------------------------------------------------------------------------------------

    def keep_reserve(self) -> None:
        """Hold room on the disk from now on: see `persistence/reserve.py`."""
        self._reserved = True
        reserve.make(self.path)

    def find_room(self) -> bool:
        """Whether the disk has room for work to begin; the reserve is then whole again."""
        return reserve.make(self.path, tried=True) if self._reserved else reserve.has_room(self.path)

    def free_reserve(self) -> None:
        """The disk is full."""
        reserve.free(self.path)

    # --- while it is open -----------------------------------------------------------------------------------------------

    @property
    def writer(self) -> apsw.Connection:
        """The one connection that writes; another one after `reopen`. Raises LibraryClosed after closing."""
        if self._writer is None:
            raise LibraryClosed(f"the library {str(self.path)!r} has been closed; open it again")
        return self._writer

    def check_owner(self) -> None:
        """Raises LibraryClosed in a forked child and after closing. Ask before every use of a connection."""
        self.lock.check_owner()

    def still_there(self) -> bool:
        """True if jobs.db and the lock file are still the files that were opened. If not, the next opener of the folder sees others."""
        return self.in_place() and self.lock.in_place()

    def in_place(self) -> bool:
        """True if jobs.db and its `-wal` are still the files that were opened; costs an `lstat` and a `readlink`."""
        return inode_of(self._database) == self._inode and (self._wal is None or self._wal.in_place())

    def _check_identity(self) -> None:
        if inode_of(self._database) != self._inode:
            raise StoreUnavailable(f"{self._database!r} is not the file that was opened; open the library again")

    def rescue(self) -> None:
        """If only the `-wal` has lost its name: move what it holds to jobs.db while it can still be read."""
        if inode_of(self._database) == self._inode:
            try:
                self.writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.Error as error:
                log.warning("library %r: its WAL is gone, and could not be saved: %s", str(self.path), error)

    def reader(self) -> apsw.Connection:
        """A new read-only connection; it is closed with the library, or by `release_reader`. Raises LibraryClosed, StoreUnavailable."""
        self.check_owner()
        self._check_identity()
        with _explained(self.path / DATABASE):
            connection = open_reader(self.path / DATABASE)
        try:
            self._check_identity()
        except StoreUnavailable:
            connection.close()
            raise
        self._readers.append(connection)
        return connection

    def release_reader(self, connection: apsw.Connection) -> None:
        """Close a connection that `reader` gave."""
        self.check_owner()
        self._readers.remove(connection)
        connection.close()

    def reopen(self) -> None:
        """After an I/O error: close every connection without writing anything, and connect again. The lock and the epoch stay.

        `writer` is another connection then, and the readers are closed. Raises as `open`; the folder can then only be abandoned.
        """
        self.check_owner()
        self._disconnect()
        with _explained(self.path / DATABASE):
            if not self.lock.in_place() or not place.has_database(self.path) or not self.in_place():
                raise StoreUnavailable(f"{str(self.path / DATABASE)!r}, or its {WAL}, is not the file that was opened; open the library again")
            self._connect()
            self.writer.execute("SELECT 1 FROM meta").fetchall()
            self._hold()

    # --- the end --------------------------------------------------------------------------------------------------------

    def close(self, clean: bool = True) -> None:
        """Close the connections, then release the lock. No statement may be running. Harmless twice, and in a forked child.

        `clean`: a transaction that is open is undone, all is moved from the WAL to jobs.db, and the library says that it was closed. If the
        disk does not let it, the library is closed as after a crash, which loses nothing.
        """
        if clean and self.lock.held and self._writer is not None:
            for reader in self._readers:
                reader.close()
            self._close_cleanly(self._writer)
        self.abandon()

    def _close_cleanly(self, writer: apsw.Connection) -> None:
        try:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            writer.execute("INSERT INTO meta VALUES ('clean', 1) ON CONFLICT (key) DO UPDATE SET value = 1")
            writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)  # so that it removes its empty -wal
        except apsw.Error as error:
            log.warning("library %r could not be closed cleanly (%s); nothing is lost, the next opening is slower", str(self.path), error)

    def abandon(self) -> None:
        """Leave the library as a crash would: what was committed stays in the WAL, an open transaction does not. Harmless twice.

        In a forked child it does nothing: the connections are the parent's, and must not even be closed.
        """
        if self.lock.held:
            self._disconnect()
            if self._wal is not None:
                self._wal.close()
            self.lock.release()

    def _disconnect(self) -> None:
        for connection in self._readers:
            connection.close()
        self._readers.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        live_files.drop([*self._files, self._lock_file])


@contextlib.contextmanager
def _explained(database: Path) -> Iterator[None]:
    """What SQLite says of the file, as whose turn it is."""
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise NotALibrary(f"{str(database)!r} is damaged: {error}. It was not changed; restore a backup, or `callboard salvage` it") from error
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError) as error:
        raise StoreUnavailable(f"{str(database)!r} cannot be written to ({error}): a library needs a disk that is not read-only") from error
    except (apsw.FullError, apsw.IOError, apsw.NoMemError) as error:
        raise StoreUnavailable(f"{str(database)!r} could not be opened: {error}. Mend the disk or make room, and open it again") from error
    except apsw.BusyError as error:  # of its own process: foreign ones were kept out before
        raise StoreUnavailable(f"{str(database)!r} is just being opened anew: try again") from error
    except apsw.SQLError:  # a migration's: ours to mend
        raise
    except (apsw.Error, ValueError, TypeError) as error:  # a row, or the schema, that makes no sense: it may say anything
        raise NotALibrary(f"{str(database)!r} is damaged: {error}. It was not changed; `callboard doctor` says more") from error


def _about_one_row(finding: str) -> bool:
    """quick_check's words for a row whose values break the schema, or a page that is merely unused; not for a broken structure."""
    of_values = ("NULL value in ", "NUMERIC value in ", "TEXT value in ", "non-")
    return finding.startswith(of_values) or finding.endswith("never used")


def _size(path: Path) -> int | None:
    """In bytes; None if there is no such file."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return None
