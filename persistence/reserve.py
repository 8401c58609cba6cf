"""Room on the disk that is kept for the day it is full: given up then, so that what runs can still be paused and ended."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

RESERVE = "jobs.reserve"
BYTES = 4 * 2**20
"""Of the reserve, and of what must be free beside it before work goes on."""


def make(folder: Path, *, tried: bool = False) -> bool:
    """Whether the reserve is there, and room beside it. Changes nothing if there is not.

    `tried`: the room beside it is taken for a moment, since a quota, of which `statvfs` knows nothing, shows in no other way.
    """
    path = folder / RESERVE
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # it came with the folder, and would lead elsewhere
            os.unlink(path)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, 2 * BYTES if tried else BYTES)
            if tried:
                os.ftruncate(fd, BYTES)
        finally:
            os.close(fd)
        if has_room(folder):
            return True
    except OSError:
        pass
    free(folder)
    return False


def has_room(folder: Path) -> bool:
    """Whether so much is free, the reserve not counted."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize >= BYTES


def free(folder: Path) -> None:
    """Give it up."""
    with contextlib.suppress(OSError):
        os.unlink(folder / RESERVE)
