"""A consistent copy of a library that goes on working meanwhile: another library folder, whole under its name or not there at all.

A file copy of jobs.db would miss what is in the WAL, and in the owner's process it would drop SQLite's locks. SQLite's backup API reads
through a connection instead. It reads from one snapshot: without one it would start again at every commit of the writer, for ever.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from callboard.jobs.errors import ConfigError, NotALibrary, StoreUnavailable
from callboard.persistence import birthmark, place
from callboard.persistence.connection import open_private
from callboard.persistence.lock import LOCK_FILE, LibraryLock, acquire
from callboard.persistence.place import DATABASE, SHM, WAL

PAGES = 1_024
"""Pages copied in one step: 4 MiB."""


def backup(
    connection: apsw.Connection,
    target: str | os.PathLike[str],
    *,
    replace: bool = False,
    pages: int = PAGES,
    between: Callable[[], None] | None = None,
) -> None:
    """Copy the library that `connection` reads to a new library folder `target`, as it is at this moment; synced when this returns.

    Give it a reader of its own: others write meanwhile, and the WAL grows until it is done. `between()` is called after each step of
    `pages` pages; what it raises ends the backup. Until the last moment the copy is in `.NAME.partial` beside the target; what an
    interrupted one left there is used up by the next. `replace`: put it in the place of an older backup that nobody has open; if the
    machine dies between the two renames, the old one is `.NAME.replaced`. The copy counts as closed cleanly; a job that was running is in
    it as running.

    Raises ConfigError (the target exists, or is no backup), LibraryBusy (the target is in use), NotALibrary (no folder to put it in),
    UnsafeLibrary, StoreUnavailable (no room); the target is then as it was.
    """
    place_of = Path(os.path.abspath(target))
    final = Path(os.path.realpath(place_of.parent)) / place_of.name
    if not final.parent.is_dir():
        raise NotALibrary(f"there is no folder {str(final.parent)!r} to put the backup in")
    partial = final.with_name(f".{final.name}.partial")
    with _explained(final):
        with _replacing(final, replace) as old:
            place.make_private_folder(partial)
            lock = acquire(partial, stays=False)
            try:
                _clear(partial)
                _copy(connection, partial, pages, between)
                _put(partial, final, old)
            except BaseException:
                with contextlib.suppress(OSError):
                    _clear(partial)
                    (partial / LOCK_FILE).unlink()
                    partial.rmdir()
                raise
            finally:
                lock.release()


def _copy(connection: apsw.Connection, folder: Path, pages: int, between: Callable[[], None] | None) -> None:
    database = folder / DATABASE
    place.make_private_file(database)
    copy = open_private(database)
    try:
        with _snapshot(connection), copy.backup("main", connection, "main") as steps:
            while not steps.done:
                steps.step(pages)
                if between is not None:
                    between()
        copy.execute("INSERT INTO meta VALUES ('clean', 1) ON CONFLICT (key) DO UPDATE SET value = 1")
        birthmark.put(copy)
        copy.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        copy.close()
    (folder / WAL).unlink(missing_ok=True)
    place.sync_file(database)
    place.sync_folder(folder)


@contextlib.contextmanager
def _snapshot(connection: apsw.Connection) -> Iterator[None]:
    """What the connection reads does not change meanwhile."""
    connection.execute("BEGIN")
    try:
        connection.execute("SELECT 1 FROM sqlite_schema").fetchall()  # BEGIN alone takes no snapshot yet
        yield
    finally:
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def _replacing(final: Path, replace: bool) -> Iterator[LibraryLock | None]:
    """Holds the lock of the backup that is to be replaced, if there is one; nobody can open it meanwhile."""
    if not os.path.lexists(final):
        yield None
        return
    if not replace:
        raise ConfigError(f"the backup's target {str(final)!r} exists: choose another name, or say replace=True")
    if final.is_symlink() or not final.is_dir() or not set(os.listdir(final)) <= {DATABASE, WAL, SHM, LOCK_FILE}:
        raise ConfigError(f"{str(final)!r} is not replaced: it is no backup, or holds more. Choose another name, or remove it yourself")
    lock = acquire(final, stays=False)
    try:
        if not place.has_database(final) and (final / DATABASE).exists():
            raise ConfigError(f"{str(final / DATABASE)!r} is empty: it is no backup. Remove it yourself")
        yield lock
    finally:
        lock.release()


def _put(partial: Path, final: Path, old: LibraryLock | None) -> None:
    if old is None:
        os.rename(partial, final)  # fails if someone made a folder with something in it meanwhile
        place.sync_folder(final.parent)
        return
    replaced = final.with_name(f".{final.name}.replaced")
    _remove(replaced)
    os.rename(final, replaced)
    os.rename(partial, final)
    place.sync_folder(final.parent)
    _remove(replaced)


def _remove(folder: Path) -> None:
    if os.path.lexists(folder):
        place.make_private_folder(folder)
        _clear(folder)
        (folder / LOCK_FILE).unlink(missing_ok=True)
        folder.rmdir()


def _clear(folder: Path) -> None:
    """Remove the files that a backup consists of; not the lock file, and nothing else."""
    for name in (DATABASE, WAL, SHM, place.JOURNAL):
        (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(final: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"the backup {str(final)!r} could not be made: {error.strerror}") from error
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
        raise StoreUnavailable(f"the backup {str(final)!r} could not be made: {error}") from error
