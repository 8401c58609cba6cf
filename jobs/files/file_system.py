"""What is asked of a whole file system: what kind it is, and to have everything on disk."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from callboard.jobs.files.folder import Folder, Tree
from callboard.jobs.files.walk import Entry

_SYNCED_AT_ONCE = frozenset(("ext4", "xfs"))
"""Here syncfs promises what fsync of each file would. Elsewhere it may not ask the disk, or the server, to keep what it was sent."""

_REPORTING_SINCE = (5, 8)
"""The Linux version since when syncfs tells that something could not be written."""

_KERNEL = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))


_failures: dict[int, int] = {}
"""Device → how many shared syncs of it have failed in this process."""


def sync_failures(device: int) -> int:
    """What is written to a device while this number grows is in doubt: its own sync may find nothing left to do, and call that a success."""
    return _failures.get(device, 0)


class SharedSync:
    """One sync for everything that is written on one file system from now on, instead of one for each file and folder.

    Cheaper for many small files; it also waits for what other programs have written there. Make it before the first write: an error
    that it tells is one that happened since.
    """

    def __init__(self, folder: Folder) -> None:
        self._device = folder.device
        self._failures = sync_failures(self._device)
        self._fd = folder.readable()

    def covers(self, folder: Folder) -> bool:
        """Whether the folder, and so the files in it, are on this file system."""
        return folder.device == self._device

    def sync(self) -> bool:
        """True: everything is on disk that was written, made or renamed there. False: an error, which may be of any file or of a folder.

        After an error, also of another one for the same file system, it answers False for ever: the system tells each handle once, and what it
        could not write it may have forgotten.
        """
        if _syncfs is None or sync_failures(self._device) != self._failures:
            return False
        try:
            failed = _syncfs(self._fd) != 0
            if not failed:
                os.fsync(self._fd)  # ext4 without a journal asks the disk to keep what it has before it sends the last of it
        except OSError:
            failed = True
        if failed:
            _failures[self._device] = sync_failures(self._device) + 1
        return sync_failures(self._device) == self._failures

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def shared_sync(target: Tree, entry: Entry) -> Iterator[SharedSync | None]:
    """For the file system on which the copy of `entry` will be; None where it would promise less than a sync of each file and folder."""
    shared: SharedSync | None = None
    try:
        folder = target.place(entry.path).folder
        if _syncfs is not None and _KERNEL >= _REPORTING_SINCE and kind_of_device(folder.device) in _SYNCED_AT_ONCE:
            shared = SharedSync(folder)
    except (OSError, ValueError):
        pass  # whoever copies the entry meets it, and tells
    try:
        yield shared
    finally:
        if shared is not None:
            shared.close()


def sync_file_system(path: bytes) -> None:
    """Everything written so far on the file system of `path` is on disk when this returns. Raises OSError if something could not be written."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if _syncfs is None:
            os.sync()
        elif _syncfs(fd):
            number = ctypes.get_errno()
            if number != errno.ENOSYS:
                raise OSError(number, os.strerror(number))
            os.sync()
    finally:
        os.close(fd)


def kind_of_device(device: int) -> str:
    """The type that the mount table has for a device, such as `ext4`; empty if it has none (a subvolume of btrfs)."""
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            lines = table.read().splitlines()
    except OSError:
        return ""
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    for line in lines:
        left, _, right = line.partition(b" - ")
        if left.split(b" ", 3)[2] == wanted:
            return right.split(b" ", 1)[0].decode("ascii", "replace")
    return ""


def _load_syncfs() -> Callable[[int], int] | None:
    try:
        function: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    return function


_syncfs = _load_syncfs()
