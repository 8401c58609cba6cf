"""What is in a tree, one entry at a time in an order that is the same at every run, so that a walk can go on behind any of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from callboard.jobs.files.folder import Folder, Tree

Kind = Literal["file", "dir", "dir-end", "link", "special", "problem"]
"""`dir` stands before what is in the folder, `dir-end` behind it. `special`: FIFO, socket, device. `problem`: could not be looked at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing found by a walk. What it says was true when it was looked at; a copy looks again."""

    root: int
    """Which of the walk's roots, 0 first."""
    path: bytes
    """Below that root, joined by `/`; empty: the root itself."""
    kind: Kind
    size: int = 0
    """Bytes, of a file or of a link's text."""
    mtime_ns: int = 0
    """Nanoseconds since 1970."""
    mode: int = 0
    """Permission bits, 0o7777 at most."""
    dev: int = 0
    ino: int = 0
    problem: str = ""
    """Of a `problem`: why. Of a `dir-end`: why not everything in the folder was found; its stat fields are 0 if it has vanished."""


def walk(
    roots: Sequence[bytes],
    after: Entry | None = None,
    *,
    avoid: Collection[tuple[int, int]] = (),
    folders_only: bool = False,
) -> Iterator[Entry]:
    """Everything below each of `roots` (absolute paths), parents before children, names in the order of their bytes.

    Never reads ahead of the folder it is in, follows no link, opens only folders and at most 64 of them, and never fails: what cannot
    be looked at is an entry. Goes on behind `after`, an entry of an earlier walk over the same roots, whether or not that still exists.
    `avoid`: (dev, ino) of folders not to be entered, such as the target. `folders_only`: leaves out all else without looking at it.
    """
    first = 0
    if after is not None:
        yield from _RootWalk(after.root, roots[after.root], avoid, folders_only).go_on(after)
        first = after.root + 1
    for index in range(first, len(roots)):
        yield from _RootWalk(index, roots[index], avoid, folders_only).start()


@dataclass(slots=True)
class _Level:
    """A folder that has been entered."""

    path: bytes
    stat: os.stat_result | None
    names: list[bytes]
    """Still to come, the next one last."""
    problem: str = ""


class _RootWalk:
    def __init__(self, index: int, root: bytes, avoid: Collection[tuple[int, int]], folders_only: bool) -> None:
        self._index = index
        self._tree = Tree(root)
        self._avoid = avoid
        self._folders_only = folders_only
        self._levels: list[_Level] = []

    def start(self) -> Iterator[Entry]:
        try:
            place = self._tree.place(b"")
        except OSError as error:
            yield Entry(self._index, b"", "problem", problem=_reason(error))
            return
        top = self._look(place.folder, place.name, b"")
        if top.kind == "dir" or not self._folders_only:
            yield top
        if top.kind == "dir":
            self._levels.append(self._enter(b"", (top.dev, top.ino)))
            yield from self._rest()

    def go_on(self, after: Entry) -> Iterator[Entry]:
        parts = after.path.split(b"/") if after.path else []
        if not parts and after.kind != "dir":
            return
        self._levels.append(self._enter(b""))
        for depth, name in enumerate(parts, 1):
            above = self._levels[-1]
            above.names = [other for other in above.names if other > name]
            if depth < len(parts) or after.kind == "dir":
                self._levels.append(self._enter(_join(above.path, name)))
        yield from self._rest()

    def _rest(self) -> Iterator[Entry]:
        while self._levels:
            level = self._levels[-1]
            if not level.names:
                yield self._leave(self._levels.pop())
                continue
            try:
                folder = self._tree.folder(level.path)
            except OSError as error:
                level.names, level.problem = [], _reason(error)
                continue
            name = level.names.pop()
            entry = self._look(folder, name, _join(level.path, name))
            yield entry
            if entry.kind == "dir":
                self._levels.append(self._enter(entry.path, (entry.dev, entry.ino)))

    def _look(self, folder: Folder, name: bytes, path: bytes) -> Entry:
        try:
            found = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        except OSError as error:
            return Entry(self._index, path, "problem", problem=_reason(error))
        kind = kind_of(found)
        if kind == "dir" and (found.st_dev, found.st_ino) in self._avoid:
            return Entry(self._index, path, "problem", problem="it is the folder that is copied into; it is left out")
        return _entry(self._index, path, kind, found)

    def _enter(self, path: bytes, expected: tuple[int, int] | None = None) -> _Level:
        level = _Level(path, None, [])
        try:
            folder = self._tree.folder(path)
            level.stat = os.fstat(folder.fd)
            if expected is not None and (level.stat.st_dev, level.stat.st_ino) != expected:
                level.problem = "the folder was replaced by another one while it was walked"
            else:
                level.names = self._list(folder)
        except OSError as error:
            level.problem = _reason(error)
        return level

    def _list(self, folder: Folder) -> list[bytes]:
        """Only the names are held, so that a folder of any size costs little; the last one first."""
        fd = folder.readable()
        try:
            if self._folders_only:
                with os.scandir(fd) as found:
                    names = [os.fsencode(item.name) for item in found if item.is_dir(follow_symlinks=False)]
            else:
                names = list(map(os.fsencode, os.listdir(fd)))
        finally:
            os.close(fd)
        names.sort(reverse=True)
        return names

    def _leave(self, level: _Level) -> Entry:
        if level.stat is None:
            return Entry(self._index, level.path, "dir-end", problem=level.problem)
        return _entry(self._index, level.path, "dir-end", level.stat, level.problem)


def _entry(index: int, path: bytes, kind: Kind, found: os.stat_result, problem: str = "") -> Entry:
    size = found.st_size if kind in ("file", "link") else 0
    return Entry(index, path, kind, size, found.st_mtime_ns, stat.S_IMODE(found.st_mode), found.st_dev, found.st_ino, problem)


def kind_of(found: os.stat_result) -> Kind:
    """What a stat result (of a link itself) is."""
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFREG:
        return "file"
    if kind == stat.S_IFDIR:
        return "dir"
    return "link" if kind == stat.S_IFLNK else "special"


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "vanished while it was walked"
    if isinstance(error, NotADirectoryError):
        return "is no folder any more; it was replaced while it was walked"
    return f"cannot be read: {error.strerror}"
