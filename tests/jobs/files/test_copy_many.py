"""Many small files copied together: each ends for itself, none has its name before all are on disk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callboard.jobs.errors import Interrupted
from callboard.jobs.files.copying import FileCopy, copy_files
from callboard.jobs.files.folder import Tree
from callboard.jobs.files.names import temp_name
from callboard.jobs.files.options import NO_EVENTS, CopyEvents, CopyOptions
from callboard.jobs.files.target import sync_folders
from callboard.jobs.files.walk import walk

OPTIONS = CopyOptions(on_conflict="error", piece_bytes=4096)


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


def test_each_ends_for_itself_and_in_its_place(cases: Cases) -> None:
    (cases.target / "000").write_bytes(b"there")
    (cases.source / "002").unlink()
    ends = copy_files(cases.copies())
    assert [(end.status, end.code) for end in ends] == [("failed", "exists"), ("copied", ""), ("failed", "vanished"), ("copied", "")]
    assert cases.names() == ["000", "001", "003"]
    assert (cases.target / "003").read_bytes() == b"3" * 10
    assert copy_files([]) == []


def test_none_has_its_name_before_all_are_synced(cases: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        order.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    named = CopyEvents(chosen=lambda name: order.append(f"name {os.fsdecode(name)}"))
    copy_files(cases.copies(events=dict.fromkeys(range(4), named)))
    temps = [f"sync {os.fsdecode(temp_name(b'job', number))}" for number in range(4)]
    assert order == [*temps, "name 000", "name 001", "name 002", "name 003"]
    order.clear()
    sync_folders(cases.trees[1].place(entry.path).folder for entry in cases.entries)
    assert order == ["sync target"]


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["between", "chosen"])
def test_what_a_callback_raises_ends_them_all_and_only_the_interrupted_one_stays(tmp_path: Path, error: Any, where: str) -> None:
    cases = Cases(tmp_path, size=9000)

    def leave(_: object) -> None:
        raise error

    offsets: list[int] = []
    events = {2: CopyEvents(**{where: leave}, synced=offsets.append)}
    with pytest.raises(error):
        copy_files(cases.copies(events=events))
    named = ["000", "001"] if where == "chosen" else []
    kept = [os.fsdecode(temp_name(b"job", 2))] if error is Interrupted else []
    assert cases.names() == sorted([*kept, *named])
    assert offsets == ([9000 if where == "chosen" else 4096] if kept else [])


@pytest.mark.parametrize("verify", [False, True])
def test_many_at_once_hold_one_descriptor_each(tmp_path: Path, verify: bool) -> None:
    cases = Cases(tmp_path, count=100)
    most: list[int] = []
    counting = CopyEvents(chosen=lambda _: most.append(len(os.listdir("/proc/self/fd"))))
    before = len(os.listdir("/proc/self/fd"))
    ends = copy_files(cases.copies(replace(OPTIONS, verify=verify), dict.fromkeys(range(100), counting)))
    assert {end.status for end in ends} == {"copied"} and len(most) == 100
    assert max(most) <= before + 100 + 4
    del cases
    assert len(os.listdir("/proc/self/fd")) == before


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
    ends = copy_files(cases.copies(replace(OPTIONS, verify=True)))
    assert [end.code for end in ends] == ["changed", "", "", ""] and how in ends[0].reason
    assert cases.names() == ["001", "002", "003"]
