"""The main job: copy trees, in parallel, durably, going on after anything. The pattern of every file operation: a Job that walks and counts,
a Task that touches the disk, and a leaf (`copying.py`) that knows neither."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from callboard.jobs.context import JobContext, TaskHandle
from callboard.jobs.errors import CriticalError, Interrupted
from callboard.jobs.files.conflict import already_done
from callboard.jobs.files.copying import FileCopy, copy_file
from callboard.jobs.files.directory import finish_dir, make_dir
from callboard.jobs.files.ending import CopyEnd
from callboard.jobs.files.file_system import sync_file_system
from callboard.jobs.files.folder import Tree
from callboard.jobs.files.link import copy_link
from callboard.jobs.files.names import TEMP_PREFIX, shown
from callboard.jobs.files.options import CopyEvents, CopyOptions
from callboard.jobs.files.plan import Pair, check_plan, target_for
from callboard.jobs.files.target import remove_temp, sync_folder
from callboard.jobs.files.together import copy_together
from callboard.jobs.files.walk import Entry, walk
from callboard.jobs.job import Job
from callboard.jobs.submission import Priority
from callboard.jobs.task import Done, Failed, Outcome, Task, TaskContext

Conflict = Literal["replace", "skip", "rename", "error"]

Item = tuple[int, bytes, str, int, int, int, int, int, str]
"""An `Entry` as it is recorded: plain values, in the order of its fields."""

SMALL_BYTES, MIDDLING_BYTES = 256 << 10, 1 << 20
"""Files up to these sizes are copied together, many at once and some: a sync of each would cost more than its bytes."""

REPORT_EVERY = 16
"""Small files between two reports of the progress."""

LOOK_EVERY = 256
"""Entries between two looks of a walk that only counts."""


@dataclass
class CopyFiles(Job, name="copy_files", version=1):
    """Copy `sources` (files, links, folders) to `target`: into it if it is a folder, else under its name, as `cp -r` does.

    It walks while it copies. Each file is written under a temporary name in its target folder, synced, renamed, the folder synced; small
    files share their syncs. What the ledger calls done is not looked at again. A failure of one entry is a warning, the others go on.
    Result: a dict with `files`, `links`, `folders`, `size` (bytes), `skipped`, `notes`.
    """

    sources: tuple[Path, ...]
    target: Path
    on_conflict: Conflict = "replace"
    verify: bool = False
    preserve_setid: bool = False
    pairs: tuple[tuple[bytes, bytes], ...] = ()
    """(source, target), absolute: resolved at the first run and the same ever after, as the target may be a folder only since then."""
    files: int = 0
    links: int = 0
    folders: int = 0
    size: int = 0
    """Bytes copied."""
    skipped: int = 0
    notes: int = 0
    """What the target could not keep, and what else is worth a line in the log."""

    def run(self, ctx: JobContext) -> dict[str, int]:
        options = CopyOptions(on_conflict=self.on_conflict, verify=self.verify, preserve_setid=self.preserve_setid)
        if not self.pairs:
            self._plan()
            ctx.checkpoint()
        with open_trees(tuple(Pair(*pair) for pair in self.pairs)) as session:
            self._copy_entries(ctx, session, options)
            self._finish_folders(ctx, session, options)
        return {name: getattr(self, name) for name in ("files", "links", "folders", "size", "skipped", "notes")}

    def _plan(self) -> None:
        sources = [os.fsencode(source) for source in self.sources]
        target = os.fsencode(self.target)
        problems = check_plan(sources, target)
        if problems:
            raise CriticalError("; ".join(problem.text for problem in problems))
        self.pairs = tuple((pair.source, pair.target) for pair in target_for(sources, target))

    # --- everything but folders' modes and times --------------------------------------------------------------------

    def _copy_entries(self, ctx: JobContext, session: int, options: CopyOptions) -> None:
        measured = ctx.dispatcher.dispatch(MeasureTrees(tuple(source for source, _ in self.pairs)), step="measure")
        before, small = self.size, 0

        def make(item: Item) -> CopyFile:
            return self._kind_for(item)(item, self.pairs[item[0]], self.on_conflict, self.verify, self.preserve_setid, session, ctx.resumed)

        def entries(after: Item | None) -> Iterator[Item]:
            return self._walk(ctx, session, after)

        def report() -> None:
            total_files, total_bytes = _totals(measured)
            ctx.report_count(self.files + self.links, total_files)
            ctx.report_bytes(before + small + ctx.task_bytes, total_bytes)

        report()  # from here on a long file moves the bar while it is copied
        for number, end in enumerate(ctx.map(make, entries, name="entries", describe=describe)):
            size = self._count(ctx, end)
            if size <= options.piece_bytes:
                small += size  # larger ones have been told piece by piece
            self.size += size
            if size > SMALL_BYTES or number % REPORT_EVERY == 0:
                report()
        report()

    def _kind_for(self, item: Item) -> type[CopyFile]:
        """Some are copied with others. Only where doing an entry in flight once more gives the same: else each keeps its name first."""
        if item[2] != "file" or self.on_conflict != "replace" or self.verify or item[3] > MIDDLING_BYTES:
            return CopyFile
        return CopySmallFile if item[3] <= SMALL_BYTES else CopyMiddlingFile

    def _walk(self, ctx: JobContext, session: int, after: Item | None) -> Iterator[Item]:
        """What is to be copied, in the walk's order. Folders are made here, before anything in them can be dispatched."""
        trees = trees_of(session)
        for entry in walk([source for source, _ in self.pairs], None if after is None else Entry(*after)):  # type: ignore[arg-type]
            if entry.kind == "dir":
                end = make_dir(trees[entry.root][1], entry)
                self.folders += 1
                if end.status == "failed":
                    yield (*_item(entry)[:8], end.reason)
            elif entry.kind == "dir-end":
                if entry.problem:
                    yield _item(entry)
            else:
                yield _item(entry)

    def _count(self, ctx: JobContext, end: Done | Failed) -> int:
        """Keep what came of one entry; answers the bytes copied."""
        if isinstance(end, Failed):
            ctx.log.warning("%s: %s", describe(end.item), end.error)  # type: ignore[arg-type]
            return 0
        copied = end.value
        assert isinstance(copied, CopyEnd)
        if copied.code == "disk_full":
            raise Interrupted(copied.reason)  # the entry is not done: it is copied when the job is resumed
        for line in (*copied.warnings, *copied.notes):
            self.notes += 1
            ctx.log.info("%s: %s", describe(end.item), line)  # type: ignore[arg-type]
        if copied.status == "skipped":
            self.skipped += 1
            return 0
        if end.item[2] == "link":  # type: ignore[index]
            self.links += 1
        else:
            self.files += 1
        return copied.size

    # --- folders ----------------------------------------------------------------------------------------------------

    def _finish_folders(self, ctx: JobContext, session: int, options: CopyOptions) -> None:
        """Modes and times of folders, children before parents, once nothing is written in them any more; then one sync for all of them.

        Nothing of this is in the ledger: doing it again is quick and harmless.
        """
        trees = trees_of(session)
        plain = CopyOptions(preserve_setid=options.preserve_setid, xattrs=options.xattrs, fsync=False)
        for entry in walk([source for source, _ in self.pairs], folders_only=True):
            ctx.check_interrupt()
            if entry.kind == "dir" and ctx.resumed:
                make_dir(trees[entry.root][1], entry)  # an empty one that an earlier run made may be gone after a power cut
            if entry.kind == "dir-end" and not entry.problem:
                source, target = trees[entry.root]
                end = finish_dir(source, target, entry, plain)
                if end.status == "failed":
                    ctx.warn(end.reason, shown(entry.path))
                for line in end.warnings:
                    self.notes += 1
                    ctx.log.info("%s: %s", shown(entry.path), line)
        for _, place in self.pairs:
            try:
                sync_file_system(place)
            except OSError as error:
                text = f"syncing the file system at the end: {error.strerror}; what is on the disk is not certain. Look after it and copy again"
                ctx.warn(text, shown(place))


@dataclass
class CopyFile(Task):
    """Copy one entry of the walk: a file or a link. Everything else is a failure that says what it is."""

    item: Item
    pair: tuple[bytes, bytes]
    on_conflict: Conflict
    verify: bool
    preserve_setid: bool
    session: int
    """Which open trees to use; a process that does not have them opens its own."""
    again: bool
    """True if the job has run before: a folder that was made may be gone after a power cut."""

    def run(self, ctx: TaskContext) -> CopyEnd:
        entry = Entry(*self.item)  # type: ignore[arg-type]
        if entry.kind not in ("file", "link") or entry.problem:
            raise CopyFailed(entry.problem or WHY_NOT[entry.kind])
        source, target = trees_of(self.session, Pair(*self.pair), entry.root)[entry.root]
        recorded = ctx.recorded if isinstance(ctx.recorded, tuple) else (0, b"")
        offset, chosen = recorded
        if chosen and already_done(target, entry, chosen):
            sync_folder(target.place(entry.path).folder)
            return CopyEnd("already", entry.size, chosen)
        end = self._copy(ctx, source, target, entry, offset)
        if end.code == "no_folder" and self.again and _make_folders(target, entry):
            end = self._copy(ctx, source, target, entry, 0)
        if end.status == "failed" and end.code != "disk_full":
            raise CopyFailed(end.reason)
        return end

    def _copy(self, ctx: TaskContext, source: Tree, target: Tree, entry: Entry, offset: int) -> CopyEnd:
        options = CopyOptions(on_conflict=self.on_conflict, verify=self.verify, preserve_setid=self.preserve_setid)
        told = offset

        def between(at: int) -> None:
            nonlocal told
            ctx.check_interrupt()
            if entry.size > options.piece_bytes and at > told:  # it is not where an offset was refused and the copy began anew
                ctx.advance(at - told)
                told = at

        def synced(at: int) -> None:
            ctx.record((at, b""), wait=at == 0)

        def chosen(name: bytes) -> None:
            if self.on_conflict != "replace":  # there, copying an entry in flight once more gives the same
                ctx.record((0, name), wait=True)

        events = CopyEvents(between, synced, chosen)
        temp = self.temp_name(ctx)
        if entry.kind == "link":
            end = copy_link(source, target, entry, options, temp, events=events)
        else:
            try:
                end = copy_file(source, target, entry, options, temp, resume_offset=offset, events=events)
            except Interrupted:
                if ctx.cancelled:  # nobody will come back for it
                    remove_temp(target.place(entry.path).folder, temp)
                raise
            if entry.size > options.piece_bytes and end.status == "copied" and end.size > told:
                ctx.advance(end.size - told)
        if end.status == "copied":
            sync_folder(target.place(entry.path).folder)
        return end

    def temp_name(self, ctx: TaskContext) -> bytes:
        """Of this entry only, and the same at every repeat."""
        return TEMP_PREFIX + hashlib.blake2b(ctx.token.encode(), digest_size=7).hexdigest().encode()


@dataclass
class CopySmallFile(CopyFile, batch=512, priority=Priority.NORMAL + 1):
    """Copy a small file, together with others. Its priority is its own so that no other task stands between two of them."""

    @classmethod
    def run_many(cls, tasks: Sequence[Self], ctxs: Sequence[TaskContext]) -> Iterator[Outcome]:
        first = tasks[0]  # all are of one job, so of one choice
        options = CopyOptions(on_conflict=first.on_conflict, verify=first.verify, preserve_setid=first.preserve_setid)
        trees: dict[tuple[int, bytes], tuple[Tree, Tree]] = {}
        copies: list[FileCopy] = []
        for task, ctx in zip(tasks, ctxs, strict=True):
            entry = Entry(*task.item)  # type: ignore[arg-type]
            key = task.session, task.pair[1]
            if key not in trees:
                trees[key] = trees_of(task.session, Pair(*task.pair), entry.root)[entry.root]
            events = CopyEvents(between=lambda _, ctx=ctx: ctx.check_interrupt())  # type: ignore[misc]
            copies.append(FileCopy(*trees[key], entry, options, task.temp_name(ctx), events=events))
        for task, ctx, end in zip(tasks, ctxs, copy_together(copies), strict=True):
            yield task._outcome(ctx, end)

    def _outcome(self, ctx: TaskContext, end: CopyEnd | Interrupted) -> Outcome:
        if isinstance(end, Interrupted):
            return end
        if end.code == "no_folder" and self.again:  # made again by whoever copies it alone
            try:
                return Done(self.run(ctx))
            except (Exception, Interrupted) as error:  # noqa: BLE001 - as the task's own end
                return error
        if end.status == "failed" and end.code != "disk_full":
            return CopyFailed(end.reason)
        return Done(end)


@dataclass
class CopyMiddlingFile(CopySmallFile, batch=64, priority=Priority.NORMAL + 2):
    """Copy one that is not small and not large, with fewer others: what a kill makes it copy once more stays little."""


@dataclass
class MeasureTrees(Task, priority=255):
    """How many files and bytes there are, for the progress; runs beside the copy, when nothing more urgent waits."""

    roots: tuple[bytes, ...]

    def run(self, ctx: TaskContext) -> tuple[int, int]:
        files = size = 0
        for number, entry in enumerate(walk(self.roots)):
            if number % LOOK_EVERY == 0:
                ctx.check_interrupt()
            if entry.kind in ("file", "link"):
                files += 1
                size += entry.size
        return files, size


class CopyFailed(Exception):
    """One entry could not be copied; the text says what, where and what to do."""


WHY_NOT = {
    "special": "it is a FIFO, a socket or a device; those are not copied",
    "dir-end": "not everything in this folder could be listed",
    "problem": "it could not be looked at",
}


def describe(item: Item) -> str:
    """An entry's path, for people."""
    return shown(item[1]) or "."


def _item(entry: Entry) -> Item:
    return (entry.root, entry.path, entry.kind, entry.size, entry.mtime_ns, entry.mode, entry.dev, entry.ino, entry.problem)


def _totals(measured: TaskHandle) -> tuple[int | None, int | None]:
    """(files, bytes) in all, once they are known."""
    if not measured.done():
        return None, None
    try:
        found = measured.result()
    except (Exception, Interrupted):  # noqa: BLE001 - without totals the copy goes on (or leaves, at its own next look)
        return None, None
    assert isinstance(found, tuple)
    return found


def _make_folders(target: Tree, entry: Entry) -> bool:
    """The folders above `entry`, below the root of its tree; the root itself too, but never what it stands in."""
    parts = entry.path.split(b"/")[:-1]
    ends = [make_dir(target, Entry(entry.root, b"/".join(parts[:depth]), "dir")) for depth in range(len(parts) + 1)]
    return all(end.status != "failed" for end in ends)


# --- open trees, shared by the tasks of one run ---------------------------------------------------------------------

_sessions: dict[int, list[tuple[Tree, Tree]]] = {}
_numbers = itertools.count(1)


@contextmanager
def open_trees(pairs: Iterable[Pair]) -> Iterator[int]:
    """Keep the folders of a run open for all of its tasks in this process, under a number that tasks can carry."""
    number = next(_numbers)
    _sessions[number] = [(Tree(pair.source), Tree(pair.target)) for pair in pairs]
    try:
        yield number
    finally:
        del _sessions[number]


def trees_of(session: int, pair: Pair | None = None, root: int = 0) -> dict[int, tuple[Tree, Tree]]:
    """(source, target) by root; opened anew for `pair` if this process does not have the session."""
    trees = _sessions.get(session)
    if trees is not None:
        return dict(enumerate(trees))
    return {} if pair is None else {root: (Tree(pair.source), Tree(pair.target))}
