"""When the name is taken: what may be replaced, what never is, and how a finished copy takes its name."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from callboard.jobs.files.ending import CopyEnd, CopyRefused
from callboard.jobs.files.folder import Place, Tree
from callboard.jobs.files.names import shown
from callboard.jobs.files.options import CopyOptions
from callboard.jobs.files.target import free_names, take_free_name, take_name
from callboard.jobs.files.walk import Entry
from callboard.jobs.live_files import is_live


def decided(place: Place, found: os.stat_result | None, options: CopyOptions) -> CopyEnd | None:
    """The end of the copy if what was `found` at its target decides it; None: go on. Raises CopyRefused."""
    if found is None or options.on_conflict == "rename":
        return None
    name = shown(place.name)
    if options.on_conflict == "skip":
        return CopyEnd("skipped", name=place.name, reason=f"{name} exists at the target")
    if options.on_conflict == "error":
        raise CopyRefused("exists", f"{name} exists at the target; choose replace, skip or rename")
    if stat.S_ISDIR(found.st_mode):
        raise CopyRefused("is_folder", f"{name} is a folder at the target and no folder at the source; move it away")
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        raise CopyRefused("special", f"{name} is a FIFO, a socket or a device at the target; it is not replaced")
    if is_live(found):
        raise CopyRefused("live", f"{name} at the target belongs to a library that is open in this process; it is not replaced")
    return None


def refuse_same(place: Place, found: os.stat_result, origin: Place, source: os.stat_result) -> None:
    """Raises CopyRefused if target and source are one file: hard links, the same by another way, or one a link to the other."""
    inodes = {(found.st_dev, found.st_ino)} | _behind(place, found)
    if (source.st_dev, source.st_ino) in inodes or _behind(origin, source) & {(found.st_dev, found.st_ino)}:
        raise CopyRefused("same_file", f"{shown(place.name)} at the target is the source itself; nothing was copied")


def _behind(place: Place, found: os.stat_result) -> set[tuple[int, int]]:
    """The inode that a link leads to."""
    if not stat.S_ISLNK(found.st_mode):
        return set()
    try:
        there = os.stat(place.name, dir_fd=place.folder.fd)
    except OSError:
        return set()
    return {(there.st_dev, there.st_ino)}


def publish(place: Place, temp: bytes, options: CopyOptions, chosen: Callable[[bytes], None]) -> CopyEnd:
    """The finished copy `temp` takes the name of `place`, under `rename` another if need be. Raises CopyRefused and OSError."""
    if options.on_conflict == "rename":
        for name in free_names(place.folder, place.name):
            chosen(name)
            try:
                take_free_name(place.folder, temp, name)
            except FileExistsError:
                continue  # somebody was faster; it is not replaced
            return CopyEnd("copied", name=name)
        raise CopyRefused("exists", f"{shown(place.name)} and all its numbered names are taken at the target")
    chosen(place.name)
    if options.on_conflict == "replace":
        take_name(place.folder, temp, place.name)
        return CopyEnd("copied", name=place.name)
    try:
        take_free_name(place.folder, temp, place.name)
    except FileExistsError:
        end = decided(place, place.look() or os.fstat(place.folder.fd), options)
        assert end is not None  # skip ends, error raises
        return end
    return CopyEnd("copied", name=place.name)


def already_done(target: Tree, entry: Entry, name: bytes) -> bool:
    """True if `name`, in the target folder of `entry`, is the copy of it by kind, size and modification time to the nanosecond.

    Only good for an item whose `chosen` name was recorded and not its end: for others it may be an older file of equal size and time.
    """
    try:
        found = Place(target.place(entry.path).folder, name).look()
    except (OSError, ValueError):
        return False
    if found is None or (found.st_size, found.st_mtime_ns) != (entry.size, entry.mtime_ns):
        return False
    return stat.S_ISLNK(found.st_mode) if entry.kind == "link" else stat.S_ISREG(found.st_mode)
