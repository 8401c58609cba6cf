"""Copy small files together: they share their syncs, and each ends for itself as if it had been copied alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from callboard.jobs.errors import Interrupted
from callboard.jobs.files.copying import FileCopy
from callboard.jobs.files.ending import CopyEnd, failed
from callboard.jobs.files.file_system import SharedSync, shared_sync
from callboard.jobs.files.folder import Folder
from callboard.jobs.files.target import sync_folder

FOLDERS_MOST = 32
"""Target folders of one group: each is kept open."""

FILES_MOST_SYNCED_ALONE = 32
"""Files of one group where each must be synced by itself: their copies are kept open until then."""

End = CopyEnd | Interrupted
"""`Interrupted`: what `events.between` raised for this one before it was begun."""


def copy_together(copies: Sequence[FileCopy]) -> Iterator[End]:
    """`copy_file` for each of them and `sync_folder` for their folders: an end for each, in order, durable when it is given.

    For small files, not to be verified. `events.between(0)` is called for each before it is begun: an Interrupted ends that one, and
    those filled by then come to their end. What else `events` raise is raised when what has no end yet has left nothing behind.
    """
    start = 0
    while start < len(copies):
        with shared_sync(copies[start].target, copies[start].entry) as shared:
            group = _group(copies, start, len(copies) if shared is not None else start + FILES_MOST_SYNCED_ALONE)
            yield from _copy_group(group, shared)
        start += len(group)


def _group(copies: Sequence[FileCopy], start: int, stop: int) -> Sequence[FileCopy]:
    """From `start` on, as many as have few enough folders."""
    folders: set[tuple[int, bytes]] = set()
    for number in range(start, min(stop, len(copies))):
        copy = copies[number]
        folders.add((id(copy.target), copy.entry.path.rpartition(b"/")[0]))
        if len(folders) > FOLDERS_MOST:
            return copies[start:number]
    return copies[start:stop]


def _copy_group(copies: Sequence[FileCopy], shared: SharedSync | None) -> list[End]:
    ends: list[End | None] = [None] * len(copies)
    with _nothing_left(copies):
        for number, copy in enumerate(copies):
            ends[number] = _fill(copy, shared)
        _sync(copies, ends, shared)
        for number, copy in enumerate(copies):
            ends[number] = ends[number] or copy.attempt(FileCopy.name)
        _sync_folders(copies, ends, shared)
    return [end for end in ends if end is not None]


@contextmanager
def _nothing_left(copies: Sequence[FileCopy]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for copy in copies:
            copy.discard()
        raise
    finally:
        for copy in copies:
            copy.close()


def _fill(copy: FileCopy, shared: SharedSync | None) -> End | None:
    try:
        copy.events.between(0)
        end = copy.attempt(FileCopy.fill)
    except Interrupted as error:
        copy.discard()
        return error
    if end is None:
        if shared is not None and shared.covers(copy.place.folder):
            copy.filled()
        else:
            copy.start_sync()
    return end


def _sync(copies: Sequence[FileCopy], ends: list[End | None], shared: SharedSync | None) -> None:
    together: list[int] = []
    for number, copy in enumerate(copies):
        if ends[number] is None:
            if shared is not None and shared.covers(copy.place.folder):
                together.append(number)
            else:
                ends[number] = copy.attempt(FileCopy.sync)
    if together and shared is not None and not shared.sync():
        for number in together:  # whose bytes were lost only a sync of each can say, and what was written may have been dropped
            copies[number].discard()
            ends[number] = copies[number].alone()


def _sync_folders(copies: Sequence[FileCopy], ends: list[End | None], shared: SharedSync | None) -> None:
    """Names too are on disk when this returns; those of a folder that cannot be synced have failed."""
    named: dict[Folder, list[int]] = {}
    for number, end in enumerate(ends):
        if isinstance(end, CopyEnd) and end.status == "copied":
            named.setdefault(copies[number].place.folder, []).append(number)
    if shared is not None and any(map(shared.covers, named)) and shared.sync():
        named = {folder: numbers for folder, numbers in named.items() if not shared.covers(folder)}
    for folder, numbers in named.items():
        try:
            sync_folder(folder)
        except OSError as error:
            for number in numbers:
                ends[number] = failed(error, f"syncing the folder of {copies[number].label}")
