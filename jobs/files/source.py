"""A source is looked at before it is opened: so no FIFO hangs, no device is read, and no live library loses its locks."""

from __future__ import annotations

import os

from callboard.jobs.files.ending import CopyRefused
from callboard.jobs.files.folder import Place
from callboard.jobs.files.walk import kind_of
from callboard.jobs.live_files import is_live

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK changes nothing for a file on a disk; it keeps one such as /proc/kmsg from waiting for content."""


def open_source(place: Place, label: str) -> tuple[int, os.stat_result]:
    """A descriptor to read the file at `place`, and its stat. Raises CopyRefused if it is none that may be read, and OSError."""
    looked = os.open(place.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.folder.fd)
    try:
        found = os.fstat(looked)
        kind = kind_of(found)
        if is_live(found):
            text = f"{label} belongs to a library that is open in this process: opening it would drop its locks; library.backup(path) copies it"
            raise CopyRefused("live", text)
        if kind == "special":
            raise CopyRefused("special", f"{label} is a FIFO, a socket or a device; these are not copied")
        if kind != "file":
            raise CopyRefused("replaced", f"{label} was a file when it was listed and is a {kind} now; copy it again")
        return os.open(f"/proc/self/fd/{looked}", _READ), found  # the very inode that was looked at, whatever has its name by now
    finally:
        os.close(looked)
