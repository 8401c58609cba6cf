"""Copy a file of a walk: afterwards its target is what it was before, or the complete copy, and nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from callboard.jobs.errors import Interrupted
from callboard.jobs.files.conflict import decided, publish, refuse_same
from callboard.jobs.files.ending import CopyEnd, CopyRefused, failed
from callboard.jobs.files.file_system import sync_failures
from callboard.jobs.files.folder import Tree
from callboard.jobs.files.kernel_copy import copied, is_sparse, same_content
from callboard.jobs.files.metadata import apply_to_file
from callboard.jobs.files.names import shown
from callboard.jobs.files.options import NO_EVENTS, CopyEvents, CopyOptions
from callboard.jobs.files.source import open_source
from callboard.jobs.files.target import open_temp, remove_temp
from callboard.jobs.files.walk import Entry

EARLY_BYTES = 256 << 10
"""Of files that are synced together, the larger ones go to the disk as soon as each is written; of the small ones it makes fewer, larger writes if
it has them all (6,000 of 4 KiB took half as long again or more when each was begun at once, on ext4)."""


def copy_file(
    source: Tree,
    target: Tree,
    entry: Entry,
    options: CopyOptions,
    temp_name: bytes,
    *,
    resume_offset: int = 0,
    events: CopyEvents = NO_EVENTS,
) -> CopyEnd:
    """Copy the file `entry` of `source` to the same path of `target`; its folder must be there. The source is never changed.

    `temp_name`: at most 20 bytes, of this item only and the same at every repeat. `resume_offset`: what `events.synced` was last told of
    this item. When it returns the copy is on disk, and its name is once `sync_folder` has returned. Raises only what `events` raise; an
    Interrupted keeps the temporary file for the next call, or for `remove_temp`.
    """
    copy = FileCopy(source, target, entry, options, temp_name, resume_offset, events)
    try:
        return copy.alone()
    except Interrupted:
        copy.suspend()
        raise
    except BaseException:
        copy.discard()
        raise
    finally:
        copy.close()


class FileCopy:
    """One copy, as `copy_file` describes it: under way, two descriptors, and how much of the temporary file counts.

    The steps are `fill`, `sync`, `name`; each ends the copy by answering an end. `together.py` takes them for many files at once.
    """

    def __init__(
        self,
        source: Tree,
        target: Tree,
        entry: Entry,
        options: CopyOptions,
        temp_name: bytes,
        resume_offset: int = 0,
        events: CopyEvents = NO_EVENTS,
    ) -> None:
        self.source, self.target, self.entry, self.options, self.events = source, target, entry, options, events
        self.temp_name = temp_name
        self.label = shown(entry.path or os.path.basename(source.root))
        self.doing, self.at_source = "", False
        self.source_fd = self.temp_fd = -1
        self.at = 0
        self.recorded = resume_offset
        self.failures = 0
        """Of shared syncs, as many as there were when the temporary file was opened."""
        self.doubted = False
        self.temp_there = False
        self.as_listed = False
        """The source is still what the walk saw. Offsets are told, and believed, of that version only."""
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def alone(self) -> CopyEnd:
        """All steps, one after another."""
        end: CopyEnd | None = None
        for step in (FileCopy.fill, FileCopy.sync, FileCopy.name):
            end = end or self.attempt(step)
        assert end is not None  # the last step ends the copy
        return end

    def attempt(self, step: Callable[[FileCopy], CopyEnd | None]) -> CopyEnd | None:
        """One step; the end of the copy if the step ended it."""
        try:
            return step(self)
        except _InDoubt:
            if not self.doubted:
                self.doubted = True
                self.close()
                return self.alone()  # from `recorded` on
            return self._failed(OSError(errno.EIO, os.strerror(errno.EIO)))
        except (CopyRefused, OSError, ValueError) as error:
            return self._failed(error)

    def _failed(self, error: CopyRefused | OSError | ValueError) -> CopyEnd:
        self.discard()
        return failed(error, f"{self.doing} {self.label}", at_source=self.at_source)

    def fill(self) -> CopyEnd | None:
        """The whole source into the temporary file, with all that belongs to it."""
        self._now("looking at the target of")
        self.warnings, self.notes = [], []
        self.place = self.target.place(self.entry.path)
        found = self.place.look()
        end = decided(self.place, found, self.options)
        if end is not None:
            return end
        self._now("opening", at_source=True)
        origin = self.source.place(self.entry.path)
        self.source_fd, self.found = open_source(origin, self.label)
        if found is not None:
            refuse_same(self.place, found, origin, self.found)
        self._copy_content(self.recorded)
        if self._changed():
            self.found = os.fstat(self.source_fd)
            self._copy_content(0)
            if self._changed():
                raise CopyRefused("changed", f"{self.label} was written to while it was copied, twice; copy it when it is at rest")
        self._copy_metadata()
        self._close_source()  # of many, only the copies stay open
        return None

    def filled(self) -> None:
        """It is synced with others: its descriptor is not needed for that."""
        if self.at > EARLY_BYTES:
            self.start_sync()
        self._close_temp()

    def start_sync(self) -> None:
        """Let the disk begin, so that the syncs of many files wait for one another's writes together."""
        _start_writing(self.temp_fd, 0, 0)

    def sync(self) -> CopyEnd | None:
        """Everything onto the disk, and if wanted back from there."""
        self._now("syncing the copy of")
        if self.options.fsync or self.options.verify:
            self._synced(os.fsync)
        if self.options.verify:
            self._verify()
        return None

    def name(self) -> CopyEnd | None:
        """The temporary file takes its name."""
        self._now("naming the copy of")
        end = publish(self.place, self.temp_name, self.options, self.events.chosen)
        if end.status != "copied":
            self.discard()
            return end
        self.temp_there = False
        return CopyEnd("copied", self.at, end.name, warnings=tuple(self.warnings), notes=tuple(self.notes))

    def _copy_content(self, offset: int) -> None:
        """All bytes of the source into the temporary file, from `offset` on if what is there up to it can be believed."""
        self._now("making the temporary copy of")
        size, options, events = self.found.st_size, self.options, self.events
        self.as_listed = (size, self.found.st_mtime_ns) == (self.entry.size, self.entry.mtime_ns)
        self._close_temp()
        self.failures = sync_failures(self.place.folder.device)
        self.temp_fd, self.at = open_temp(self.place.folder, self.temp_name, offset if self.as_listed and offset <= size else 0)
        self.temp_there = True
        if self.recorded > self.at:
            events.synced(0)  # before a byte is written: a crash must not find the old offset beside new, unsynced bytes
        self.recorded = self.at
        self._now("copying")
        for at in copied(self.source_fd, self.temp_fd, self.found, self.place.folder.device, self.at, options.piece_bytes):
            begun, self.at = self.at, at
            if options.fsync and size > options.piece_bytes:
                _start_writing(self.temp_fd, begun, at)
            if at == size:
                break
            if size > options.sync_bytes and at - self.recorded >= options.sync_bytes:
                self._record()
            events.between(at)

    def _record(self) -> None:
        if self.as_listed:
            self._synced(os.fdatasync)
            self.recorded = self.at
            self.events.synced(self.at)

    def _synced(self, sync: Callable[[int], None]) -> None:
        sync(self.temp_fd)
        if sync_failures(self.place.folder.device) != self.failures:
            raise _InDoubt

    def _changed(self) -> bool:
        now = os.fstat(self.source_fd)
        return (now.st_size, now.st_mtime_ns) != (self.found.st_size, self.found.st_mtime_ns)

    def _copy_metadata(self) -> None:
        options, found = self.options, self.found
        self._now("finishing the copy of")
        self.warnings = apply_to_file(self.temp_fd, self.source_fd, found, setid=options.preserve_setid, xattrs=options.xattrs)
        if self.at != found.st_size:
            self.notes.append(f"its size says {found.st_size} bytes, and {self.at} were read to its end")
        if found.st_nlink > 1:
            self.notes.append(f"one of {found.st_nlink} hard links to the same file; copied as a file of its own")

    def _verify(self) -> None:
        self._now("opening", at_source=True)
        self.source_fd, now = open_source(self.source.place(self.entry.path), self.label)
        if (now.st_dev, now.st_ino) != (self.found.st_dev, self.found.st_ino):
            raise CopyRefused("changed", f"{self.label} was replaced while it was copied; copy it when it is at rest")
        self._now("reading back the copy of")
        sparse, pause = is_sparse(self.found), lambda: self.events.between(self.at)
        same = same_content(self.source_fd, self.temp_fd, self.at, sparse=sparse, pause=pause)
        if self._changed():
            raise CopyRefused("changed", f"{self.label} was written to while its copy was verified; copy it when it is at rest")
        if not same:
            raise CopyRefused("not_equal", f"what was read back of the copy of {self.label} is not what was written; check the target's disk")
        self._close_source()

    def _now(self, doing: str, *, at_source: bool = False) -> None:
        self.doing, self.at_source = doing, at_source

    def suspend(self) -> None:
        """What is copied so far counts at the resume, once it is on disk."""
        if self.temp_fd < 0 or self.at <= self.recorded:
            return
        try:
            self._record()
        except _InDoubt:
            pass  # what was recorded before still counts
        except OSError:
            self.discard()  # the disk says no; the resume starts over

    def discard(self) -> None:
        """The temporary file goes. Whatever goes wrong here, the error that led here is what is told."""
        if self.temp_there:
            self.temp_there = False
            try:
                remove_temp(self.place.folder, self.temp_name)
            except OSError:
                pass

    def close(self) -> None:
        self._close_source()
        self._close_temp()

    def _close_source(self) -> None:
        if self.source_fd >= 0:
            os.close(self.source_fd)
            self.source_fd = -1

    def _close_temp(self) -> None:
        if self.temp_fd >= 0:
            os.close(self.temp_fd)
            self.temp_fd = -1


class _InDoubt(Exception):
    """A sync of the whole file system has failed: what was written before it and is not recorded must be written once more."""


def _start_writing(fd: int, begin: int, end: int) -> None:
    """Let the disk begin with these bytes (`end` 0: with all), so that a later sync finds little left to wait for. On Linux this advice does that
    first, and waits for nothing."""
    os.posix_fadvise(fd, begin, max(0, end - begin), os.POSIX_FADV_DONTNEED)
