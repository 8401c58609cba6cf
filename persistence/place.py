"""Whether a folder and the file in it are fit to be a library; asked before SQLite sees the file, and changing nothing in it.

SQLite would follow a link, wait at a FIFO, roll a stranger's journal back, or start a new database in an empty file. So what lies there is
looked at first, by its status and its first hundred bytes.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

from callboard.jobs.errors import NotALibrary, StoreUnavailable, UnsafeLibrary

DATABASE = "jobs.db"
WAL = "jobs.db-wal"
SHM = "jobs.db-shm"
JOURNAL = "jobs.db-journal"
APPLICATION_ID = int.from_bytes(b"CBRD")
"""What SQLite's header says about whose file it is."""
HEADER = 100
"""Bytes of SQLite's header."""
LONGEST_PATH = 500
"""Bytes of a database's path that SQLite can take, with what it appends."""

NETWORKED = frozenset(
    "9p afs ceph cifs coda fuse gfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs prl_fs pvfs2 smb3 smbfs vboxsf virtiofs"
    " vmhgfs".split()
)
"""Types of file systems whose locks or syncs reach another machine, or somebody's program, or nobody."""

log = logging.getLogger("callboard")


def resolve(path: str | os.PathLike[str], *, create: bool) -> Path:
    """The folder of the library, absolute and without symlinks: two names of one library lead to one lock. Makes it (0700) if asked.

    Raises NotALibrary (there is none, or something else lies there), UnsafeLibrary (its path cannot be used), StoreUnavailable.
    """
    given = Path(os.path.abspath(path))
    folder = Path(os.path.realpath(given))
    try:
        folder.as_posix().encode()
    except UnicodeEncodeError:
        raise UnsafeLibrary(f"the library's path {given!r} is not UTF-8, and SQLite takes no other: move it") from None
    if len(os.fsencode(folder / JOURNAL)) > LONGEST_PATH:
        raise UnsafeLibrary(f"the library's path {str(given)!r} is longer than the {LONGEST_PATH} bytes that SQLite can take: move it")
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise NotALibrary(f"{str(given)!r} is not a folder; a library is a folder with a {DATABASE} in it")
    except FileNotFoundError:
        if not folder.parent.is_dir():
            raise NotALibrary(f"there is no library {str(given)!r}, nor the folder {str(folder.parent)!r} to make it in") from None
        if not create:
            raise NotALibrary(f"there is no library {str(given)!r}") from None
        _make(folder)
    except OSError as error:
        raise UnsafeLibrary(f"the library {str(given)!r} cannot be looked at: {error.strerror}") from error
    if not create and not os.path.lexists(folder / DATABASE):
        raise NotALibrary(f"the folder {str(given)!r} holds no {DATABASE}: it is no library yet")
    return folder


def _make(folder: Path) -> None:
    try:
        os.mkdir(folder, 0o700)
        sync_folder(folder.parent)
    except FileExistsError:
        pass  # another opener was quicker; the lock decides between us
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise UnsafeLibrary(f"the library {str(folder)!r} cannot be made: {str(folder.parent)!r} is read-only") from error
        raise StoreUnavailable(f"the library {str(folder)!r} cannot be made: {error.strerror}") from error


def check_folder(folder: Path, *, allow_network_fs: bool) -> None:
    """Raises UnsafeLibrary for a network file system or another owner. Warns if others may write to the folder."""
    kind = filesystem(folder)
    if kind.partition(".")[0] in NETWORKED and not allow_network_fs:
        raise UnsafeLibrary(
            f"the library {str(folder)!r} is on a network or user-space file system ({kind}), whose locks and syncs SQLite cannot trust:"
            " move it to a local disk, or say allow_network_fs=True if you know that this one keeps both"
        )
    status = os.stat(folder)
    _check_owner(folder, status)
    if status.st_mode & 0o022:
        log.warning(
            "library %r: its folder has mode %04o, so that others may replace its files; chmod 700 it", str(folder), status.st_mode & 0o7777
        )


def filesystem(folder: Path) -> str:
    """The type of the file system, as mount(8) names it ("ext4", "nfs4", "fuse.sshfs"); empty where /proc does not tell."""
    try:
        fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        try:
            lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        finally:
            os.close(fd)
        mount = next(line.split()[1] for line in lines if line.startswith("mnt_id:"))
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            words = line.split()
            if words[0] == mount:
                return words[words.index("-", 6) + 1]
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    return ""


def has_database(folder: Path) -> bool:
    """True if the folder holds a database of ours; False if it holds none yet, or one without a byte. Call it with the lock held.

    Raises NotALibrary or UnsafeLibrary for anything else; no file is changed.
    """
    # Opening and closing the file drops this process's POSIX locks on it, if it had any. With library.lock in hand it has none.
    _check_plain(folder / WAL)
    if _size(folder / JOURNAL) > 0:
        raise NotALibrary(
            f"{str(folder / JOURNAL)!r} is a rollback journal, which no library has: SQLite would undo {DATABASE} with it. Another program"
            " was stopped while it changed the database. Move the journal away, or let that program finish"
        )
    if not _check_plain(folder / DATABASE) or _size(folder / DATABASE) == 0:
        if _size(folder / WAL) > 0:
            raise NotALibrary(f"{str(folder)!r} has a {WAL}, with the last writes, but no {DATABASE}: restore it, or move the {WAL} away")
        return False
    header = _header(folder / DATABASE)
    if not header.startswith(b"SQLite format 3\0"):
        raise NotALibrary(f"{str(folder / DATABASE)!r} is no SQLite database; it was not changed")
    if len(header) < HEADER:
        raise NotALibrary(f"{str(folder / DATABASE)!r} is damaged: it ends within its header. It was not changed; restore a backup")
    if int.from_bytes(header[68:72]) != APPLICATION_ID:
        raise NotALibrary(f"{str(folder / DATABASE)!r} is the database of another application; it was not changed")
    return True


def _check_plain(path: Path) -> bool:
    """False if nothing is there; raises if it is not a regular file of ours with one name."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(status.st_mode):
        raise UnsafeLibrary(f"{str(path)!r} is a symbolic link: another folder could have it under another lock. Link the folder instead")
    if not stat.S_ISREG(status.st_mode):
        raise NotALibrary(f"{str(path)!r} is no regular file")
    if status.st_nlink > 1:
        raise UnsafeLibrary(f"{str(path)!r} has {status.st_nlink} names (hard links), each with its own lock and WAL: copy it instead")
    _check_owner(path, status)
    return True


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise UnsafeLibrary(f"{str(path)!r} belongs to user {status.st_uid}, this process is user {os.geteuid()}: run as it, or chown")


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _header(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnsafeLibrary(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    try:
        return os.pread(fd, HEADER, 0)
    except OSError as error:
        raise StoreUnavailable(f"{str(path)!r} cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)


# --- giving a new file its name ---------------------------------------------------------------------------------------


def make_private_file(path: Path) -> None:
    """An empty file (0600) that did not exist. Raises OSError."""
    # The mode is said here and not by umask: that belongs to the whole process, whose other threads make files too.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def make_private_folder(path: Path) -> None:
    """A folder of ours (0700), or the one that an earlier try has left. Raises UnsafeLibrary for a link or somebody else's, OSError."""
    # Its parent may be one that others write to, such as /tmp: what they lay there under this name must not be emptied for them.
    path.mkdir(0o700, exist_ok=True)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeLibrary(f"{str(path)!r} is a symbolic link: remove it")
    _check_owner(path, status)


def sync_file(path: Path) -> None:
    """The file's content survives power loss when this returns. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """The folder's entries (files made, renamed, removed) survive power loss when this returns. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
