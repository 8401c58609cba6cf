"""Copy one symbolic link as a link, text and time; what it points to is never touched."""

from __future__ import annotations

import os
import stat

from callboard.jobs.files.conflict import decided, publish, refuse_same
from callboard.jobs.files.ending import CopyEnd, CopyRefused, failed
from callboard.jobs.files.folder import Place, Tree
from callboard.jobs.files.metadata import set_link_times
from callboard.jobs.files.names import shown
from callboard.jobs.files.options import NO_EVENTS, CopyEvents, CopyOptions
from callboard.jobs.files.target import remove_temp
from callboard.jobs.files.walk import Entry


def copy_link(
    source: Tree, target: Tree, entry: Entry, options: CopyOptions, temp_name: bytes, *, events: CopyEvents = NO_EVENTS
) -> CopyEnd:
    """Copy the link `entry` of `source` to the same path of `target`. As `copy_file`; only `events.chosen` is called."""
    label = shown(entry.path or os.path.basename(source.root))
    at_source, made = False, None
    try:
        place = target.place(entry.path)
        found = place.look()
        end = decided(place, found, options)
        if end is not None:
            return end
        at_source = True
        origin = source.place(entry.path)
        text, status = _read(origin, label)
        at_source = False
        if found is not None:
            refuse_same(place, found, origin, status)
        made = _make(place, text, temp_name)
        warnings = set_link_times(place.folder.fd, temp_name, status)
        end = publish(place, temp_name, options, events.chosen)
        if end.status != "copied":
            return end
        made = None
        return CopyEnd("copied", len(text), end.name, warnings=tuple(warnings))
    except (CopyRefused, OSError, ValueError) as error:
        return failed(error, f"copying the link {label}", at_source=at_source)
    finally:
        if made is not None:
            remove_temp(made.folder, made.name)


def _read(place: Place, label: str) -> tuple[bytes, os.stat_result]:
    status = os.stat(place.name, dir_fd=place.folder.fd, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        raise CopyRefused("replaced", f"{label} was a link when it was listed and is none now; copy it again")
    return os.readlink(place.name, dir_fd=place.folder.fd), status


def _make(place: Place, text: bytes, temp_name: bytes) -> Place:
    try:
        os.symlink(text, temp_name, dir_fd=place.folder.fd)
    except FileExistsError:
        remove_temp(place.folder, temp_name)
        os.symlink(text, temp_name, dir_fd=place.folder.fd)
    return Place(place.folder, temp_name)
