"""Which files belong to libraries that are open in this process; nothing else in the process may open their databases.

POSIX drops every lock that a process has on a file when the process closes *any* descriptor of that file. One `open("jobs.db")`
in the host, a copy of the library's folder for instance, would so hand the database to whoever comes next while this process still
writes to it. A copy asks `is_live` before it opens a source; everyone else meets an audit hook.

Files are known by (device, inode), never by name alone: a symlink, a hard link, a bind mount or /proc/self/fd leads to the same file.
The inodes are looked up when a library is opened, not at every check: SQLite keeps `jobs.db` and, while a connection is open, `jobs.db-wal`
at the same inode, so the hook costs one `stat` of the opened path and looks nothing else up. `is_live`, which is asked only for files that
somebody wants to copy, looks again for files that were missing then, such as a `-wal` that was not there yet.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

Inode = tuple[int, int]
"""(device, inode) of a file."""


class _Held(NamedTuple):
    guarded: bool
    inodes: frozenset[Inode]


_paths: dict[str, _Held] = {}
_inodes: dict[Inode, str] = {}
_hooked = False


def hold(paths: Iterable[str | os.PathLike[str]], *, guarded: bool = True) -> None:
    """Call these files live; those that do not exist yet are live from their making. Calling it again looks their inodes up again.

    `guarded`: Python code of this process may not open them until `drop`. The lock file is live too, but may be read: its lock
    belongs to the open file description and does not go with another descriptor.
    """
    global _hooked
    if not _hooked:
        _hooked = True  # an audit hook can never be taken away again
        sys.addaudithook(_refuse)
    for path in paths:
        name = os.path.abspath(path)
        known = _paths.get(name)
        _paths[name] = _Held(guarded, known.inodes if known else frozenset())
        _look(name)


def drop(paths: Iterable[str | os.PathLike[str]]) -> None:
    """These files are not live any more. Call it after the last descriptor of the database was closed."""
    for path in paths:
        held = _paths.pop(os.path.abspath(path), None)
        for inode in held.inodes if held else ():
            _inodes.pop(inode, None)


def is_live(status: os.stat_result) -> bool:
    """True if this is a file of a library that is open in this process; its content must be had by `library.backup()`."""
    inode = (status.st_dev, status.st_ino)
    if inode in _inodes:
        return True
    return any(_look(path) == inode for path in tuple(_paths))


def _look(path: str) -> Inode | None:
    """The inode at `path` now, recorded if the path is held.

    What was recorded stays until `drop`: a database that was renamed is still open, and still loses its locks by an `open` elsewhere.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return None
    inode = (status.st_dev, status.st_ino)
    held = _paths.get(path)
    if held is not None and inode not in held.inodes:
        _paths[path] = held._replace(inodes=held.inodes | {inode})
        _inodes[inode] = path
    return inode


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    """The audit hook. It raises PermissionError or nothing: any other error would break an `open` that is none of our business."""
    if event != "open" and event != "sqlite3.connect":
        return
    if not _inodes:
        return
    try:
        path = arguments[0]
        if event == "open":
            flags = arguments[2]
            if isinstance(flags, int) and flags & os.O_PATH:
                return  # neither reads nor drops locks: this is how to look at a file before opening it
        else:
            path = _file_of(path)
        if isinstance(path, int):
            return
        status = os.stat(path)  # type: ignore[arg-type]
        live = _inodes.get((status.st_dev, status.st_ino))
        guarded = live is not None and _paths[live].guarded
    except Exception:
        return
    if guarded and live is not None:
        raise PermissionError(
            f"{path!r} belongs to the library {os.path.dirname(live)!r}, which is open in this process: opening and closing it here"
            " would drop SQLite's locks and let another process damage it. library.backup(path) makes a copy"
        )


def _file_of(database: object) -> object:
    """The path that `sqlite3.connect` will open: a `file:` URI may say it with an authority, escapes and a query."""
    name = os.fsdecode(database)  # type: ignore[arg-type]
    if not name.startswith("file:"):
        return name
    from urllib.parse import unquote

    name = name[5:].split("#")[0].split("?")[0]
    if name.startswith("//"):
        name = "/" + name[2:].partition("/")[2]
    return unquote(name)


def _forget_in_child() -> None:
    """A forked child holds no lock, so it has none to lose by reading the file."""
    _paths.clear()
    _inodes.clear()


os.register_at_fork(after_in_child=_forget_in_child)
