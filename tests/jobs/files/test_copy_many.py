"""Many small files copied together: each ends for itself, none has its name before all are on disk, none is told before its name is."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from callboard.jobs.errors import Interrupted
from callboard.jobs.files import file_system, together
from callboard.jobs.files.copying import FileCopy, copy_file
from callboard.jobs.files.file_system import SharedSync, shared_sync, sync_file_system
from callboard.jobs.files.folder import Tree
from callboard.jobs.files.names import temp_name
from callboard.jobs.files.options import NO_EVENTS, CopyEvents, CopyOptions
from callboard.jobs.files.together import End, copy_together
from callboard.jobs.files.walk import walk

OPTIONS = CopyOptions(on_conflict="error")


class Cases:
    """A source with the files a, b, c, …, and how to copy them together."""

    def __init__(self, top: Path, count: int = 4, size: int = 10) -> None:
        self.source, self.target = top / "source", top / "target"
        for folder in (self.source, self.target):
            folder.mkdir()
        for number in range(count):
            (self.source / f"{number:03}").write_bytes(b"%d" % (number % 10) * size)
        self.entries = [entry for entry in walk([os.fsencode(self.source)]) if entry.kind == "file"]
        self.trees = Tree(os.fsencode(self.source)), Tree(os.fsencode(self.target))

    def copies(self, options: CopyOptions = OPTIONS, events: dict[int, CopyEvents] | None = None) -> list[FileCopy]:
        return [
            FileCopy(*self.trees, entry, options, temp_name(b"job", number), 0, (events or {}).get(number, NO_EVENTS))
            for number, entry in enumerate(self.entries)
        ]

    def names(self) -> list[str]:
        return sorted(os.listdir(self.target))


@pytest.fixture
def cases(tmp_path: Path) -> Cases:
    return Cases(tmp_path)


@pytest.fixture(params=["shared", "each"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to sync, whatever the file system here: one sync for all, or one for each file and folder."""

    @contextmanager
    def chosen(target: Tree, entry: Any) -> Iterator[SharedSync | None]:
        shared = SharedSync(target.place(entry.path).folder) if request.param == "shared" else None
        yield shared
        if shared is not None:
            shared.close()

    monkeypatch.setattr(together, "shared_sync", chosen)
    return str(request.param)


def told(ends: list[End]) -> list[str]:
    return [str(end) if isinstance(end, Interrupted) else end.code or end.status for end in ends]


def test_each_ends_for_itself_and_in_its_place(cases: Cases, way: str) -> None:
    (cases.target / "000").write_bytes(b"there")
    (cases.source / "002").unlink()
    assert told(list(copy_together(cases.copies()))) == ["exists", "copied", "vanished", "copied"]
    assert cases.names() == ["000", "001", "003"]
    assert (cases.target / "003").read_bytes() == b"3" * 10
    assert list(copy_together([])) == []


def test_none_is_named_before_all_are_synced_nor_told_before_the_names_are(cases: Cases, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, sync, rename = os.fsync, SharedSync.sync, os.rename

    def synced(fd: int) -> None:
        order.append("sync folder" if os.readlink(f"/proc/self/fd/{fd}") == str(cases.target) else "sync")
        fsync(fd)

    def all_synced(shared: SharedSync) -> bool:
        answer = sync(shared)
        order[-1] = "sync all"  # its own fsync was seen too
        return answer

    def renamed(*names: Any, **folders: Any) -> None:
        order.append("name")
        rename(*names, **folders)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(SharedSync, "sync", all_synced)
    for _ in copy_together(cases.copies(CopyOptions())):
        order.append("told")
    first, last = (["sync all"], ["sync all"]) if way == "shared" else (["sync"] * 4, ["sync folder"])
    assert order == [*first, *["name"] * 4, *last, *["told"] * 4]


def test_a_file_system_that_cannot_be_synced_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def syncfs(_: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(file_system, "_syncfs", syncfs)
    with pytest.raises(OSError, match="Input/output error"):
        sync_file_system(os.fsencode(tmp_path))


@pytest.mark.parametrize("failing", ["syncfs", "fsync"])
def test_a_shared_sync_that_has_failed_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    asked: list[str] = []

    def fsync(_: int) -> None:
        asked.append("fsync")
        if failing == "fsync":
            raise OSError(errno.EIO, "planted")

    monkeypatch.setattr(file_system, "_syncfs", lambda _: asked.append("syncfs") or failing == "syncfs")
    monkeypatch.setattr(os, "fsync", fsync)
    shared = SharedSync(Tree(os.fsencode(tmp_path)).folder(b""))
    assert not shared.sync()
    before = list(asked)
    assert not shared.sync() and asked == before
    shared.close()


@pytest.mark.parametrize("failing", [(12_000,), (12_000, 28_000)])
def test_a_large_file_writes_again_what_was_not_on_disk_when_a_shared_sync_failed_and_only_once(
    cases: Cases, monkeypatch: pytest.MonkeyPatch, failing: tuple[int, ...]
) -> None:
    """Its own sync may find nothing left to do, and tell a success."""
    content, fails = os.urandom(40_000), list(failing)
    (cases.source / "000").write_bytes(content)
    entry = next(each for each in walk([os.fsencode(cases.source)]) if each.path == b"000")
    pieces: list[int] = []
    synced: list[int] = []

    def between(at: int) -> None:
        pieces.append(at)
        if fails and at == fails[0]:
            del fails[0]
            shared = SharedSync(Tree(os.fsencode(cases.target)).folder(b""))
            assert not shared.sync()
            shared.close()

    monkeypatch.setattr(file_system, "_syncfs", lambda _: -1)
    options = CopyOptions(piece_bytes=4_000, sync_bytes=8_000)
    end = copy_file(*cases.trees, entry, options, temp_name(b"job", 0), events=CopyEvents(between, synced.append))
    assert pieces[:6] == [4_000, 8_000, 12_000, 12_000, 16_000, 20_000]
    if len(failing) == 1:
        assert (end.status, (cases.target / "000").read_bytes(), synced) == ("copied", content, [8_000, 16_000, 24_000, 32_000])
    else:
        assert (end.code, cases.names(), synced) == ("io", [], [8_000, 16_000, 24_000])


def test_what_others_of_the_same_disk_have_written_is_in_doubt_too_when_a_shared_sync_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Tree(os.fsencode(tmp_path)).folder(b"")
    one, other = SharedSync(folder), SharedSync(folder)
    with monkeypatch.context() as failing:
        failing.setattr(file_system, "_syncfs", lambda _: -1)
        assert not one.sync()
    later = SharedSync(folder)
    assert not other.sync() and later.sync()
    for each in (one, other, later):
        each.close()


def test_an_error_of_the_shared_sync_is_told_of_the_one_whose_bytes_are_lost(cases: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared sync does not say of whom: each is written again and synced by itself."""
    lost, fsync = os.fsdecode(temp_name(b"job", 2)), os.fsync
    answers = iter((False, True))

    def each(fd: int) -> None:
        if os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) == lost:
            raise OSError(5, "Input/output error")
        fsync(fd)

    monkeypatch.setattr(together, "shared_sync", lambda target, entry: _Always(answers))
    monkeypatch.setattr(os, "fsync", each)
    assert told(list(copy_together(cases.copies()))) == ["copied", "copied", "io", "copied"]
    assert cases.names() == ["000", "001", "003"]
    assert [(cases.target / name).read_bytes() for name in cases.names()] == [b"0" * 10, b"1" * 10, b"3" * 10]


class _Always:
    """A shared sync that covers everything and answers as it is told."""

    def __init__(self, answers: Iterator[bool]) -> None:
        self.answers = answers

    def __enter__(self) -> _Always:
        return self

    def __exit__(self, *_: object) -> None: ...

    def covers(self, folder: object) -> bool:
        return True

    def sync(self) -> bool:
        return next(self.answers)


def test_a_folder_that_cannot_be_synced_fails_its_files_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = Cases(tmp_path)
    for folder in (cases.source, cases.target):
        (folder / "bad").mkdir()
    (cases.source / "bad" / "in it").write_bytes(b"x")
    cases.entries = [entry for entry in walk([os.fsencode(cases.source)]) if entry.kind == "file"]
    fsync = os.fsync

    def each(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}") == str(cases.target / "bad"):
            raise OSError(5, "Input/output error")
        fsync(fd)

    monkeypatch.setattr(together, "shared_sync", lambda target, entry: _Always(iter((True, False))))
    monkeypatch.setattr(os, "fsync", each)
    ends = dict(zip((entry.path for entry in cases.entries), told(list(copy_together(cases.copies()))), strict=True))
    assert ends.pop(b"bad/in it") == "io" and set(ends.values()) == {"copied"}


def test_one_that_is_interrupted_is_left_out_and_the_others_come_to_their_end(cases: Cases, way: str) -> None:
    def leave(_: object) -> None:
        raise Interrupted("asked")

    asked = CopyEvents(between=leave)
    assert told(list(copy_together(cases.copies(events={1: asked, 3: asked})))) == ["copied", "asked", "copied", "asked"]
    assert cases.names() == ["000", "002"]


@pytest.mark.parametrize("where", ["between", "chosen"])
def test_what_else_a_callback_raises_leaves_nothing_behind(cases: Cases, way: str, where: str) -> None:
    def leave(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(copy_together(cases.copies(events={2: CopyEvents(**{where: leave})})))
    assert cases.names() == (["000", "001"] if where == "chosen" else [])


def test_few_descriptors_are_open_at_once(tmp_path: Path, way: str) -> None:
    cases = Cases(tmp_path, count=100)
    gc.collect()  # what an earlier test raised may hold folders open
    most: list[int] = []
    counting = CopyEvents(chosen=lambda _: most.append(len(os.listdir("/proc/self/fd"))))
    before = len(os.listdir("/proc/self/fd"))
    assert set(told(list(copy_together(cases.copies(events=dict.fromkeys(range(100), counting)))))) == {"copied"}
    assert len(most) == 100 and max(most) <= before + (32 if way == "each" else 0) + 4
    del cases
    assert len(os.listdir("/proc/self/fd")) == before


def test_many_folders_are_copied_in_groups(tmp_path: Path, way: str) -> None:
    cases = Cases(tmp_path, count=0)
    for number in range(100):
        for folder in (cases.source, cases.target):
            (folder / f"{number:03}").mkdir()
        (cases.source / f"{number:03}" / "f").write_bytes(b"%d" % number)
    cases.entries = [entry for entry in walk([os.fsencode(cases.source)]) if entry.kind == "file"]
    assert told(list(copy_together(cases.copies()))) == ["copied"] * 100
    assert [(cases.target / f"{number:03}" / "f").read_bytes() for number in range(100)] == [b"%d" % number for number in range(100)]


def test_a_file_system_that_promises_less_is_not_synced_at_once(cases: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    from callboard.jobs.files import file_system

    trees, entry = cases.trees, cases.entries[0]
    for kind, kernel, expected in (("ext4", (5, 8), True), ("ext4", (5, 7), False), ("fuse", (6, 0), False), ("", (6, 0), False)):
        monkeypatch.setattr(file_system, "kind_of_device", lambda device, kind=kind: kind)
        monkeypatch.setattr(file_system, "_KERNEL", kernel)
        with shared_sync(trees[1], entry) as shared:
            assert (shared is not None) is expected


@pytest.mark.parametrize("how", ["replaced", "written to"])
def test_a_source_that_changes_between_copy_and_verify_is_told_apart_from_a_bad_disk(
    cases: Cases, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    real, path = os.fsync, cases.source / "000"
    status = os.stat(path)

    def fsync(fd: int) -> None:
        real(fd)
        if how == "replaced":
            (cases.source / "new").write_bytes(b"x" * 10)
            os.utime(cases.source / "new", ns=(0, status.st_mtime_ns))
            (cases.source / "new").rename(path)
        else:
            path.write_bytes(b"x" * 10)
            os.utime(path, ns=(0, status.st_mtime_ns + 1))

    monkeypatch.setattr(os, "fsync", fsync)
    end = copy_file(*cases.trees, cases.entries[0], CopyOptions(verify=True), temp_name(b"job", 0))
    assert end.code == "changed" and how in end.reason
    assert cases.names() == []
