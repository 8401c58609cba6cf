"""The walk: its order, going on behind any entry, and what it does with what it cannot read."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.jobs.files import walk as walk_file
from callboard.jobs.files.folder import OPEN_FOLDERS_MAX
from callboard.jobs.files.walk import Entry, walk


def make(top: Path, *names: str) -> bytes:
    """Folders for names with a slash behind them, one-byte files for the others."""
    for name in names:
        path = top / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    return os.fsencode(top)


def seen(entries: Iterator[Entry]) -> list[tuple[bytes, str]]:
    return [(entry.path, entry.kind) for entry in entries]


def test_parents_come_before_children_and_names_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "b/z", "b/a/", "a.txt", "Z", "\u00e9", "b-")
    assert seen(walk([root])) == [
        (b"", "dir"),
        (b"Z", "file"),
        (b"a.txt", "file"),
        (b"b", "dir"),
        (b"b/a", "dir"),
        (b"b/a", "dir-end"),
        (b"b/z", "file"),
        (b"b", "dir-end"),
        (b"b-", "file"),
        ("\u00e9".encode(), "file"),
        (b"", "dir-end"),
    ]


def test_entries_say_what_lstat_says(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "f", "d/")
    (tmp_path / "r" / "f").write_bytes(b"12345")
    (tmp_path / "r" / "l").symlink_to("nowhere")
    os.chmod(tmp_path / "r" / "f", 0o640)
    os.utime(tmp_path / "r" / "f", ns=(1, 1_234_567_890_123_456_789))
    found = {entry.path: entry for entry in walk([root])}
    status = os.lstat(tmp_path / "r" / "f")
    assert found[b"f"] == Entry(0, b"f", "file", 5, 1_234_567_890_123_456_789, 0o640, status.st_dev, status.st_ino)
    assert (found[b"l"].kind, found[b"l"].size) == ("link", len("nowhere"))
    assert found[b"d"].size == 0


def test_a_root_may_be_a_file_or_a_link_or_missing(tmp_path: Path) -> None:
    make(tmp_path, "file")
    (tmp_path / "link").symlink_to("file")
    roots = [os.fsencode(tmp_path / name) for name in ("file", "link", "gone", "no/parent")]
    entries = list(walk(roots))
    assert [(entry.root, entry.path, entry.kind) for entry in entries] == [
        (0, b"", "file"),
        (1, b"", "link"),
        (2, b"", "problem"),
        (3, b"", "problem"),
    ]
    assert "vanished" in entries[2].problem


def random_tree(top: Path, seed: int) -> bytes:
    choose = random.Random(seed)
    folders = [top]
    top.mkdir()
    for _ in range(40):
        place = choose.choice(folders) / choose.choice(["a", "b", "a.b", "a b", "B", "ab", "c-", "\u00fc"])
        if place.exists():
            continue
        if choose.random() < 0.5:
            place.mkdir()
            folders.append(place)
        else:
            place.write_bytes(b"")
    return os.fsencode(top)


@pytest.mark.parametrize("seed", range(3))
def test_it_goes_on_behind_every_entry_as_if_it_had_never_stopped(tmp_path: Path, seed: int) -> None:
    roots = [random_tree(tmp_path / "one", seed), make(tmp_path, "file") + b"/file", random_tree(tmp_path / "two", seed + 100)]
    whole = list(walk(roots))
    for index, entry in enumerate(whole):
        assert list(walk(roots, entry)) == whole[index + 1 :], entry


@pytest.mark.parametrize("seed", range(3))
def test_it_goes_on_behind_an_entry_that_has_vanished(tmp_path: Path, seed: int) -> None:
    roots = [random_tree(tmp_path / "one", seed)]
    whole = [entry for entry in walk(roots) if entry.path]
    for entry in random.Random(seed).sample(whole, 12):
        kept = tmp_path / "kept"
        gone = Path(os.fsdecode(roots[0] + b"/" + entry.path))
        gone.rename(kept)
        try:
            inside = entry.path + b"/"
            names = {(e.path, e.kind) for e in whole[whole.index(entry) + 1 :] if not e.path.startswith(inside)}
            rest = [e for e in walk(roots, entry) if e.path]
            assert {(e.path, e.kind) for e in rest} == names
            assert all(bool(e.problem) == (e.path == entry.path) for e in rest)
        finally:
            kept.rename(gone)


def test_a_vanished_folder_is_left_with_a_problem_at_every_level(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "a/b/c/f", "a/b/c/g", "z")
    after = next(entry for entry in walk([root]) if entry.path == b"a/b/c/f")
    subprocess.run(["rm", "-r", tmp_path / "r" / "a"], check=True)
    rest = list(walk([root], after))
    assert [(e.path, e.kind, bool(e.problem), e.mtime_ns > 0) for e in rest] == [
        (b"a/b/c", "dir-end", True, False),
        (b"a/b", "dir-end", True, False),
        (b"a", "dir-end", True, False),
        (b"z", "file", False, True),
        (b"", "dir-end", False, True),
    ]


def test_a_file_that_became_a_folder_is_not_entered_behind_its_entry(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "a", "b")
    after = next(entry for entry in walk([root]) if entry.path == b"a")
    (tmp_path / "r" / "a").unlink()
    make(tmp_path / "r", "a/inside")
    assert seen(walk([root], after)) == [(b"b", "file"), (b"", "dir-end")]


def test_names_that_vanish_after_the_listing_are_problems_and_the_rest_goes_on(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "a", "b", "c")
    walking = walk([root])
    assert [next(walking).path for _ in range(2)] == [b"", b"a"]
    (tmp_path / "r" / "b").unlink()
    assert seen(walking) == [(b"b", "problem"), (b"c", "file"), (b"", "dir-end")]


def test_a_folder_swapped_for_a_link_while_it_is_walked_leads_nowhere(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "d/inside", "e")
    make(tmp_path / "secret", "key")
    walking = walk([root])
    while next(walking).path != b"d":
        pass
    (tmp_path / "r" / "d").rename(tmp_path / "moved")
    (tmp_path / "r" / "d").symlink_to(tmp_path / "secret")
    left = next(walking)
    assert (left.path, left.kind) == (b"d", "dir-end") and "replaced" in left.problem
    assert seen(walking) == [(b"e", "file"), (b"", "dir-end")]


def test_a_folder_swapped_for_another_folder_is_a_problem(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "d/inside")
    make(tmp_path / "other", "key")
    walking = walk([root])
    while next(walking).path != b"d":
        pass
    (tmp_path / "r" / "d").rename(tmp_path / "moved")
    (tmp_path / "other").rename(tmp_path / "r" / "d")
    left = next(walking)
    assert (left.path, left.kind) == (b"d", "dir-end") and "replaced" in left.problem


def test_the_folder_to_be_avoided_is_not_entered(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "target/x", "y")
    status = os.stat(tmp_path / "r" / "target")
    entries = list(walk([root], avoid={(status.st_dev, status.st_ino)}))
    assert [(e.path, e.kind) for e in entries] == [(b"", "dir"), (b"target", "problem"), (b"y", "file"), (b"", "dir-end")]


def test_folders_only_gives_the_same_folders_in_the_same_order(tmp_path: Path) -> None:
    roots = [random_tree(tmp_path / "one", 5), make(tmp_path, "file") + b"/file"]
    assert list(walk(roots, folders_only=True)) == [entry for entry in walk(roots) if entry.kind.startswith("dir")]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_few_folders_are_open_however_deep_the_tree_and_none_afterwards(tmp_path: Path) -> None:
    before = open_descriptors()
    root = make(tmp_path / "r", "/".join(["d"] * 300) + "/f")
    most = 0
    for _ in walk([root]):
        most = max(most, open_descriptors())
    assert OPEN_FOLDERS_MAX // 2 < most - before <= OPEN_FOLDERS_MAX + 4
    assert open_descriptors() == before


def test_it_starts_before_it_has_read_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "r", "a/f", "b/f", "c/f")
    listed: list[bytes] = []
    whole = walk_file._RootWalk._enter

    def counted(self: walk_file._RootWalk, path: bytes, expected: tuple[int, int] | None = None) -> walk_file._Level:
        listed.append(path)
        return whole(self, path, expected)

    monkeypatch.setattr(walk_file._RootWalk, "_enter", counted)
    walking = walk([root])
    assert [next(walking).path for _ in range(3)] == [b"", b"a", b"a/f"]
    assert listed == [b"", b"a"]
