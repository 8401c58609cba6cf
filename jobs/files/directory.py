"""Copy one folder in two steps: made empty before what is in it, given its mode and times after."""

from __future__ import annotations

import os
import stat

from callboard.jobs.files.ending import CopyEnd, CopyRefused, failed
from callboard.jobs.files.folder import Tree
from callboard.jobs.files.metadata import copy_xattrs, set_mode, set_times
from callboard.jobs.files.names import shown
from callboard.jobs.files.options import CopyOptions
from callboard.jobs.files.walk import Entry


def make_dir(target: Tree, entry: Entry) -> CopyEnd:
    """Make the folder `entry` in `target`, for its owner only until `finish_dir`. `already` if there is one; a link to one is none.

    Its name is on disk once `sync_folder` has returned for the folder that it is in.
    """
    try:
        return _make(target, entry)
    except (CopyRefused, OSError, ValueError) as error:
        return failed(error, f"making the folder {_label(target, entry)}")


def finish_dir(source: Tree, target: Tree, entry: Entry, options: CopyOptions) -> CopyEnd:
    """Give the folder `entry` of `target` the mode, times and attributes of the source. After everything in it is copied and synced."""
    try:
        return _finish(source, target, entry, options)
    except (OSError, ValueError) as error:
        return failed(error, f"finishing the folder {_label(target, entry)}")


def _label(target: Tree, entry: Entry) -> str:
    return shown(entry.path or os.path.basename(target.root))


def _make(target: Tree, entry: Entry) -> CopyEnd:
    place = target.place(entry.path)
    try:
        os.mkdir(place.name, 0o700, dir_fd=place.folder.fd)
    except FileExistsError:
        found = place.look()
        if found is None or not stat.S_ISDIR(found.st_mode):
            text = f"{shown(place.name)} is a folder at the source and none at the target; move it away"
            raise CopyRefused("in_the_way", text) from None
        return CopyEnd("already", name=place.name)
    return CopyEnd("copied", name=place.name)


def _finish(source: Tree, target: Tree, entry: Entry, options: CopyOptions) -> CopyEnd:
    fd = target.folder(entry.path).readable()
    try:
        status, warnings = _source_folder(source, entry, fd, options)
        if status is None:
            warnings.append("its mode and times were not kept: it has vanished from the source")
        else:
            warnings += set_mode(fd, status.st_mode, setid=options.preserve_setid)
            warnings += set_times(fd, status.st_atime_ns, status.st_mtime_ns)
        if options.fsync:
            os.fsync(fd)
    finally:
        os.close(fd)
    return CopyEnd("copied", name=os.path.basename(entry.path), warnings=tuple(warnings))


def _source_folder(source: Tree, entry: Entry, fd: int, options: CopyOptions) -> tuple[os.stat_result | None, list[str]]:
    """The stat of the source folder, and what of its attributes could not be kept in `fd`."""
    try:
        folder = source.folder(entry.path)
        status = os.fstat(folder.fd)
    except OSError:
        return None, []
    if not options.xattrs:
        return status, []
    return status, copy_xattrs(f"/proc/self/fd/{folder.fd}", fd, setid=options.preserve_setid)
