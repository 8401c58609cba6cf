"""One process owns a library at a time: an exclusive flock on `library.lock`, held for as long as the library is open.

The kernel frees it when the owner dies, however it dies: there is nothing stale to judge, no lease to run out. What the file says
(pid, and whether the owner stays or passes) is for people and for waiting; nobody is refused or let in because of it.

A forked child shares its parent's lock (flock belongs to the open file description), so the child closes its copy at once, without
unlocking: the parent keeps the lock, and it still goes when the parent dies. Nor may the child ever open that library itself: the SQLite
in its memory believes that it still holds its parent's lock and WAL index, and would write without a lock, by a stale index. Only a fork
without Python's knowledge, from C, keeps a copy of the lock; `check_owner` refuses that child as well.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from callboard.jobs.errors import LibraryBusy, LibraryClosed, StoreUnavailable, UnsafeLibrary

LOCK_FILE = "library.lock"
PATIENCE = 10.0
"""Seconds for which a holder that passes is waited for."""
STEP = 0.02
"""Seconds between two looks at a lock that is waited for."""
WIDTH = 64
"""Bytes of the lock file. Always the same, so that a reader sees the old line or the new one."""
_OF_THE_DISK = frozenset((errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM))


class Holder(NamedTuple):
    """Who holds a library, as far as it can be known."""

    pid: int | None
    stays: bool | None
    """True: an application that keeps it open. False: a command that is about to end."""


class LibraryLock:
    """A lock that is held. Made by `acquire`."""

    def __init__(self, folder: Path, fd: int, *, stays: bool) -> None:
        self.folder = folder
        self.stays = stays
        self._fd = fd
        self._pid = os.getpid()
        self._identity = _identity(os.fstat(fd))

    def check_owner(self) -> None:
        """Raises LibraryClosed in a forked child, and after `release`."""
        if self._pid != os.getpid():
            raise _refused_in_child(self.folder)
        if self._fd < 0:
            raise LibraryClosed(f"the library {str(self.folder)!r} has been closed; open it again")

    @property
    def held(self) -> bool:
        """True in the process that took it, until it is released."""
        return self._fd >= 0 and self._pid == os.getpid()

    def in_place(self) -> bool:
        """True while the lock file is where the next opener will look for it."""
        return _identity_at(self.folder / LOCK_FILE) == self._identity

    def release(self) -> None:
        """Let the next one in. Close the database first. Harmless twice, and in a forked child."""
        if not self.held:
            return
        _held.discard(self)
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
        # Not only close: a child that is being forked right now may hold a copy.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)

    def _let_go_in_child(self) -> None:
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            os.close(fd)


_held: set[LibraryLock] = set()
_inherited: set[tuple[int, int]] = set()
"""Lock files of the libraries that were open when this process was forked from its parent, or that one from its own."""


def _after_fork_in_child() -> None:
    for lock in _held.copy():
        _inherited.add(lock._identity)
        lock._let_go_in_child()
    _held.clear()


def _refused_in_child(folder: Path) -> LibraryClosed:
    return LibraryClosed(
        f"the library {str(folder)!r} was open in the process that this one is a forked child of: it cannot be used here. Start the process"
        " by spawn or exec, or fork before the library is opened"
    )


os.register_at_fork(after_in_child=_after_fork_in_child)


def forked(lock: LibraryLock) -> bool:
    """True in a child that was forked while its parent held `lock`. Nothing of the library may be used there, not even closed."""
    return lock._pid != os.getpid()


def acquire(
    folder: Path,
    *,
    stays: bool,
    wait: Callable[[float], None] | None = None,
    now: Callable[[], float] | None = None,
    patience: float = PATIENCE,
) -> LibraryLock:
    """Take the lock of the library in `folder` (an existing folder, symlinks resolved).

    A holder that passes, or that has not yet said what it is, is waited for up to `patience` seconds, by `wait(seconds)`; without `wait`,
    and for one that stays, LibraryBusy is raised at once. `now()` is a monotonic clock in seconds; without it the waits are summed.
    Raises LibraryBusy, LibraryClosed (in a child that was forked while its parent had the library open), UnsafeLibrary (the lock file
    may not be made, or is not a plain file of this user), StoreUnavailable (the disk does not let it be made).
    """
    began = now() if now else 0.0
    waited = 0.0
    while True:
        lock = _try(folder, stays)
        if lock is not None:
            return lock
        holder = read_holder(folder)
        spent = now() - began if now else waited
        if wait is None or holder.stays or holder.pid == os.getpid() or spent >= patience:
            raise _busy(folder, holder, spent)
        wait(STEP)
        waited += STEP


def _try(folder: Path, stays: bool) -> LibraryLock | None:
    path = folder / LOCK_FILE
    while True:
        fd = _open(path)
        if _identity(os.fstat(fd)) in _inherited:
            os.close(fd)
            raise _refused_in_child(folder)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise UnsafeLibrary(f"{str(path)!r} cannot be locked ({error.strerror}): keep the library on a local disk") from error
        if _identity_at(path) == _identity(os.fstat(fd)):
            break
        os.close(fd)  # the file was removed or replaced between the two calls: this lock would keep nobody out
    lock = LibraryLock(folder, fd, stays=stays)
    _held.add(lock)
    line = f"callboard {lock._pid} {'stays' if stays else 'passes'} {_started(lock._pid)}".ljust(WIDTH - 1) + "\n"
    with contextlib.suppress(OSError):  # a full disk: the lock is held all the same
        os.pwrite(fd, line.encode(), 0)
    return lock


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.EROFS or (error.errno == errno.EACCES and not os.access(path.parent, os.W_OK, effective_ids=True)):
            raise UnsafeLibrary(f"the folder {str(path.parent)!r} is read-only: a library needs one that can be written to") from error
        if error.errno in _OF_THE_DISK:
            raise StoreUnavailable(f"the lock file {str(path)!r} cannot be opened: {error.strerror}; mend that and open it again") from error
        raise UnsafeLibrary(f"the lock file {str(path)!r} cannot be opened: {error.strerror}") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_uid != os.geteuid():
        os.close(fd)
        raise UnsafeLibrary(f"the lock file {str(path)!r} is not a plain file of this user with one name: remove it")
    return fd


def _busy(folder: Path, holder: Holder, waited: float) -> LibraryBusy:
    if holder.pid == os.getpid():
        who = f"this process ({holder.pid}) has it open already; use that handle"
    elif holder.pid is not None:
        who = f"process {holder.pid}{name_of(holder.pid)} has it open"
    else:
        who = "another process has it open"
    after = f" (waited {waited:.1f} s)" if waited >= STEP else ""
    return LibraryBusy(f"the library {str(folder)!r} is in use: {who}{after}", pid=holder.pid)


# --- who it is ----------------------------------------------------------------------------------------------------------


def read_holder(folder: Path) -> Holder:
    """What the lock file says, where its writer still lives; else the pid that the kernel names, if any. Takes no lock, never raises."""
    path = folder / LOCK_FILE
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return Holder(None, None)
    try:
        words = os.read(fd, WIDTH).decode("ascii", "replace").split()
    except OSError:
        words = []
    finally:
        os.close(fd)
    if len(words) == 4 and words[0] == "callboard" and words[1].isdecimal() and words[2] in ("stays", "passes"):
        pid = int(words[1])
        if words[3] == _started(pid) != "":
            return Holder(pid, words[2] == "stays")
    return Holder(next(iter(lock_holders(path, "FLOCK")), None), None)


def lock_holders(path: Path, kind: str) -> list[int]:
    """Pids with a lock on the file, by the kernel's table. `kind`: FLOCK, or POSIX as SQLite uses it. Empty where it cannot be read."""
    try:
        status = os.stat(path)
        table = Path("/proc/locks").read_text()
    except OSError:
        return []
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    exact: list[int] = []
    likely: list[int] = []
    for line in table.splitlines():
        # "12: POSIX  ADVISORY  READ 4711 fe:00:1234 128 128"; a line with "->" waits and holds nothing
        words = line.split()
        if len(words) < 6 or words[1] != kind or not words[4].isdecimal() or int(words[4]) <= 0:
            continue
        where, _, inode = words[5].rpartition(":")
        if inode == str(status.st_ino):
            # a file system of several devices (btrfs, overlay) is listed under another one than stat names
            (exact if where == device else likely).append(int(words[4]))
    return exact or likely


def foreign_user(database: Path) -> LibraryBusy:
    """The error for a database that SQLite has locked in a process without `library.lock`: its pid where it can be known."""
    pids = lock_holders(database, "POSIX") or _having_open(database)
    pid = next((pid for pid in pids if pid != os.getpid()), None)
    who = "a foreign process" if pid is None else f"process {pid}{name_of(pid)}"
    return LibraryBusy(
        f"{who} reads or writes {str(database)!r} with SQLite, past the library's lock. Close it there: while a library is open"
        " `callboard jobs` shows what is in it, and `library.backup(path)` makes a copy for other tools",
        pid=pid,
    )


def _having_open(path: Path) -> list[int]:
    """Other processes with a descriptor of this file, among those that this user may look into."""
    found = []
    with contextlib.suppress(OSError):
        status = os.stat(path)
        for pid in os.listdir("/proc"):
            if pid.isdecimal() and int(pid) != os.getpid() and _has_open(pid, status):
                found.append(int(pid))
    return found


def _has_open(pid: str, status: os.stat_result) -> bool:
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed in between
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), status):
                    return True
    return False


def name_of(pid: int) -> str:
    """` (name)` of a process, or nothing."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""
    return f" ({name})" if name.isprintable() else ""


def _started(pid: int) -> str:
    """When the process began, in kernel ticks since boot: with the pid it names one process for good. Empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _identity_at(path: Path) -> tuple[int, int] | None:
    try:
        return _identity(os.lstat(path))
    except OSError:
        return None
