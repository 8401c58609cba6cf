"""Copy one file of a walk: afterwards its target is what it was before, or the complete copy, and nothing else."""

from __future__ import annotations

import os

from callboard.jobs.errors import Interrupted
from callboard.jobs.files.conflict import decided, publish, refuse_same
from callboard.jobs.files.ending import CopyEnd, CopyRefused, failed
from callboard.jobs.files.folder import Tree
from callboard.jobs.files.kernel_copy import copied, is_sparse, same_content
from callboard.jobs.files.metadata import apply_to_file
from callboard.jobs.files.names import shown
from callboard.jobs.files.options import NO_EVENTS, CopyEvents, CopyOptions
from callboard.jobs.files.source import open_source
from callboard.jobs.files.target import open_temp, remove_temp
from callboard.jobs.files.walk import Entry


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
    copy = _FileCopy(source, target, entry, options, temp_name, resume_offset, events)
    try:
        return copy.run()
    except (CopyRefused, OSError, ValueError) as error:
        copy.discard()
        return failed(error, copy.doing, at_source=copy.at_source)
    except Interrupted:
        copy.suspend()
        raise
    except BaseException:
        copy.discard()
        raise
    finally:
        copy.close()


class _FileCopy:
    """One copy under way: two descriptors, and how much of the temporary file counts."""

    def __init__(
        self, source: Tree, target: Tree, entry: Entry, options: CopyOptions, temp_name: bytes, resume_offset: int, events: CopyEvents
    ) -> None:
        self.source, self.target, self.entry, self.options, self.events = source, target, entry, options, events
        self.temp_name = temp_name
        self.label = shown(entry.path or os.path.basename(source.root))
        self.doing, self.at_source = "", False
        self.source_fd = self.temp_fd = -1
        self.at = 0
        self.recorded = resume_offset
        self.as_listed = False
        """The source is still what the walk saw. Offsets are told, and believed, of that version only."""

    def run(self) -> CopyEnd:
        self._now("looking at the target of")
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
        self._fill(self.recorded)
        if self._changed():
            self.found = os.fstat(self.source_fd)
            self._fill(0)
            if self._changed():
                raise CopyRefused("changed", f"{self.label} was written to while it was copied, twice; copy it when it is at rest")
        warnings, notes = self._finish()
        self._now("naming the copy of")
        end = publish(self.place, self.temp_name, self.options, self.events.chosen)
        if end.status != "copied":
            self.discard()
            return end
        return CopyEnd("copied", self.at, end.name, warnings=tuple(warnings), notes=tuple(notes))

    def _fill(self, offset: int) -> None:
        """All bytes of the source into the temporary file, from `offset` on if what is there up to it can be believed."""
        self._now("making the temporary copy of")
        size, options, events = self.found.st_size, self.options, self.events
        self.as_listed = (size, self.found.st_mtime_ns) == (self.entry.size, self.entry.mtime_ns)
        self._close_temp()
        self.temp_fd, self.at = open_temp(self.place.folder, self.temp_name, offset if self.as_listed and offset <= size else 0)
        if self.recorded > self.at:
            events.synced(0)  # before a byte is written: a crash must not find the old offset beside new, unsynced bytes
        self.recorded = self.at
        self._now("copying")
        for at in copied(self.source_fd, self.temp_fd, self.found, self.place.folder.device, self.at, options.piece_bytes):
            self.at = at
            if at == size:
                break
            if size > options.sync_bytes and at - self.recorded >= options.sync_bytes:
                self._record()
            events.between(at)

    def _record(self) -> None:
        if self.as_listed:
            os.fdatasync(self.temp_fd)
            self.recorded = self.at
            self.events.synced(self.at)

    def _changed(self) -> bool:
        now = os.fstat(self.source_fd)
        return (now.st_size, now.st_mtime_ns) != (self.found.st_size, self.found.st_mtime_ns)

    def _finish(self) -> tuple[list[str], list[str]]:
        """Metadata, then everything onto the disk: (warnings, notes)."""
        options, found, notes = self.options, self.found, []
        self._now("finishing the copy of")
        warnings = apply_to_file(self.temp_fd, self.source_fd, found, setid=options.preserve_setid, xattrs=options.xattrs)
        if options.fsync or options.verify:
            os.fsync(self.temp_fd)
        if options.verify:
            self._verify()
        if self.at != found.st_size:
            notes.append(f"its size says {found.st_size} bytes, and {self.at} were read to its end")
        if found.st_nlink > 1:
            notes.append(f"one of {found.st_nlink} hard links to the same file; copied as a file of its own")
        return warnings, notes

    def _verify(self) -> None:
        self._now("reading back the copy of")
        sparse, pause = is_sparse(self.found), lambda: self.events.between(self.at)
        if same_content(self.source_fd, self.temp_fd, self.at, sparse=sparse, pause=pause):
            return
        if self._changed():
            raise CopyRefused("changed", f"{self.label} was written to while its copy was verified; copy it when it is at rest")
        raise CopyRefused("not_equal", f"what was read back of the copy of {self.label} is not what was written; check the target's disk")

    def _now(self, doing: str, *, at_source: bool = False) -> None:
        self.doing, self.at_source = f"{doing} {self.label}", at_source

    def suspend(self) -> None:
        """What is copied so far counts at the resume, once it is on disk."""
        if self.temp_fd < 0 or self.at <= self.recorded:
            return
        try:
            self._record()
        except OSError:
            self.discard()  # the disk says no; the resume starts over

    def discard(self) -> None:
        """The temporary file goes. Whatever goes wrong here, the error that led here is what is told."""
        if self.temp_fd >= 0:
            try:
                remove_temp(self.place.folder, self.temp_name)
            except OSError:
                pass

    def close(self) -> None:
        if self.source_fd >= 0:
            os.close(self.source_fd)
        self._close_temp()

    def _close_temp(self) -> None:
        if self.temp_fd >= 0:
            os.close(self.temp_fd)
            self.temp_fd = -1
