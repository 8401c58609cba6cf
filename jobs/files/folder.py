"""Folders held open: every file is reached relative to one, so that a folder swapped for a link leads nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from callboard.jobs.files.names import checked, shown

OPEN_FOLDERS_MAX = 64
"""Folders that one tree keeps open. Deeper or more: opened again from the nearest that is."""

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """An open folder. It is closed when its last user lets go, so one thread's eviction never closes what another uses."""

    __slots__ = ("_device", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        """Opened with O_PATH: good for `dir_fd=` and fstat only."""
        self._device: int | None = None

    @property
    def device(self) -> int:
        """The device that files in it are on."""
        if self._device is None:
            self._device = os.fstat(self.fd).st_dev
        return self._device

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)

    def readable(self) -> int:
        """A descriptor of its own for listing or syncing the folder. The caller closes it. Raises OSError."""
        return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)


class Place(NamedTuple):
    """A name in an open folder, whether or not anything is there."""

    folder: Folder
    name: bytes

    def look(self) -> os.stat_result | None:
        """What is there (a link itself, not what it points to), or None. Raises OSError."""
        try:
            return os.stat(self.name, dir_fd=self.folder.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None


def _relative(path: bytes) -> bytes:
    if path.startswith(b"/"):
        raise ValueError(f"{shown(path)!r} is no path below a folder")
    return path


class Tree:
    """Everything below `root`, an absolute path (a file, a link or a folder; links in the folders above it are followed).

    Paths below it are bytes joined by `/`, and b"" is the root itself; no link below is followed. May be shared by threads: each step
    on the cache is one dict operation, and the worst that two of them at once can do is to open a folder twice.
    """

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._open: dict[bytes, Folder] = {}
        self._top: Folder | None = None
        self._above: Folder | None = None

    def place(self, path: bytes) -> Place:
        """Where `path` is. Raises OSError if its folder cannot be opened, ValueError if `path` is none below the root."""
        if path:
            parent, _, name = _relative(path).rpartition(b"/")
            return Place(self.folder(parent), checked(name))
        above, _, name = self.root.rpartition(b"/")
        if self._above is None:
            self._above = Folder(os.open(above or b"/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return Place(self._above, checked(name) if name else b".")

    def folder(self, path: bytes) -> Folder:
        """The open folder `path`. Raises OSError, for a link or a file in its way too, and ValueError as `place`."""
        if not path:
            return self._top_folder()
        known = self._open.pop(path, None)
        if known is not None:
            self._open[path] = known
            return known
        missing: list[tuple[bytes, bytes]] = []
        path = _relative(path)
        while path and known is None:
            parent, _, name = path.rpartition(b"/")
            missing.append((path, name))
            path = parent
            known = self._open.get(path)
        folder = known if known is not None else self._top_folder()
        for at, name in reversed(missing):
            folder = Folder(os.open(checked(name), _FOLDER, dir_fd=folder.fd))
            self._keep(at, folder)
        return folder

    def _top_folder(self) -> Folder:
        if self._top is None:
            self._top = Folder(os.open(self.root, _FOLDER))
        return self._top

    def _keep(self, path: bytes, folder: Folder) -> None:
        self._open[path] = folder
        if len(self._open) > OPEN_FOLDERS_MAX:
            try:
                self._open.pop(next(iter(self._open)), None)
            except (StopIteration, RuntimeError):
                pass  # another thread changed the dict between the two steps, and evicts instead
