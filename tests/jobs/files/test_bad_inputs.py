"""The catalogue of bad inputs to a copy, by number: what each is, and that it ends as the catalogue says."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callboard.jobs import live_files
from callboard.jobs.errors import Interrupted
from callboard.jobs.files import plan
from callboard.jobs.files.conflict import already_done
from callboard.jobs.files.copying import copy_file
from callboard.jobs.files.directory import finish_dir, make_dir
from callboard.jobs.files.ending import CopyEnd
from callboard.jobs.files.folder import Tree
from callboard.jobs.files.link import copy_link
from callboard.jobs.files.names import shown, temp_name
from callboard.jobs.files.options import CopyEvents, CopyOptions
from callboard.jobs.files.plan import check_plan
from callboard.jobs.files.walk import Entry, walk

SMALL = CopyOptions(piece_bytes=4096, sync_bytes=16384)
NOBODY = 65534


def copy_entry(source: Tree, target: Tree, entry: Entry, options: CopyOptions, number: int = 0, **events: Any) -> CopyEnd | None:
    """What a job does with one entry; None for what is only reported."""
    match entry.kind:
        case "file":
            return copy_file(source, target, entry, options, temp_name(b"job", number), events=CopyEvents(**events))
        case "link":
            return copy_link(source, target, entry, options, temp_name(b"job", number))
        case "dir":
            return make_dir(target, entry)
        case "dir-end":
            return finish_dir(source, target, entry, options)
        case _:
            return None


class Copy:
    """A whole copy of one tree, one entry after the other: (entry, end) of each, and the entries that were only reported."""

    def __init__(self, source: Path | bytes, target: Path | bytes, options: CopyOptions = SMALL, **events: Any) -> None:
        trees = Tree(os.fsencode(source)), Tree(os.fsencode(target))
        self.ends: dict[bytes, CopyEnd] = {}
        self.reported: dict[bytes, Entry] = {}
        for number, entry in enumerate(walk([trees[0].root])):
            end = copy_entry(*trees, entry, options, number, **events)
            if end is None or entry.problem:
                self.reported[entry.path] = entry
            elif entry.kind != "dir-end" or end.status == "failed":
                self.ends[entry.path] = end

    def code(self, path: str = "") -> str:
        return self.ends[os.fsencode(path)].code

    def status(self, path: str = "") -> str:
        return self.ends[os.fsencode(path)].status

    def kinds(self) -> dict[bytes, str]:
        return {path: entry.kind for path, entry in self.reported.items()}


def no_temps(folder: Path) -> bool:
    return not [name for _, _, names in os.walk(folder) for name in names if name.startswith(".cb-")]


def problems_of(sources: list[Path], target: Path) -> list[str]:
    return [problem.text for problem in check_plan([os.fsencode(source) for source in sources], os.fsencode(target))]


def source_of(top: Path, **files: bytes) -> Path:
    (top / "source").mkdir()
    for name, content in files.items():
        (top / "source" / name).write_bytes(content)
    return top / "source"


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder of its own, worked in without the power to read everything."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)


SCRIPT = """
import os, sys
from callboard.jobs.files.copying import copy_file
from callboard.jobs.files.folder import Tree
from callboard.jobs.files.options import CopyOptions
from callboard.jobs.files.plan import check_plan
from callboard.jobs.files.walk import walk
source, target = (os.fsencode(path) for path in sys.argv[1:3])
print([problem.text for problem in check_plan([source + b"/f"], target)])
for entry in walk([source]):
    if entry.kind == "file":
        end = copy_file(Tree(source), Tree(target), entry, CopyOptions(piece_bytes=4096), b".cb-temp")
        print(end.status, end.code, end.reason, list(end.warnings), sorted(os.listdir(target)))
"""


def copy_on_mount(source: Path, target: Path, mount: str) -> str:
    """What SCRIPT prints in a mount namespace of its own, with `mount` done on `target`; skips where that is not allowed."""
    target.mkdir(exist_ok=True)
    space = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    shell = f'{mount} || exit 77; exec "$0" -c "$1" "$2" "$3"'
    done = subprocess.run(
        [*space, "sh", "-c", shell, sys.executable, SCRIPT, source, target], capture_output=True, text=True, check=False
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- what is no file ----------------------------------------------------------------------------------------------------


def row_65_a_fifo_is_reported_and_does_not_hang(top: Path) -> None:
    source = source_of(top, f=b"x")
    os.mkfifo(source / "pipe")
    copy = Copy(source, top / "target")
    assert copy.kinds() == {b"pipe": "special"} and copy.status("f") == "copied"
    listed = next(entry for entry in walk([os.fsencode(source)]) if entry.path == b"f")
    (source / "f").unlink()
    os.mkfifo(source / "f")  # between the listing and the copy
    end = copy_entry(Tree(os.fsencode(source)), Tree(os.fsencode(top / "target")), listed, SMALL)
    assert end is not None and (end.status, end.code) == ("failed", "special")


def row_66_sockets_and_devices_are_reported_and_memory_is_a_failure(top: Path) -> None:
    source = source_of(top)
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(source, os.O_PATH)  # the name of a socket may not be long
        listening.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        assert Copy(source, top / "target").kinds() == {b"socket": "special"}
    assert [entry.kind for entry in walk([b"/dev/zero", b"/dev/null"])] == ["special", "special"]
    memory = Copy(b"/proc/self/mem", top / "mem")
    assert memory.code() == "io" and "Input/output error" in memory.ends[b""].reason
    assert not (top / "mem").exists() and no_temps(top)


def row_67_files_of_proc_are_read_to_their_end(top: Path) -> None:
    for name in ("/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled", "/proc/filesystems"):
        if not os.path.exists(name):
            continue
        target = top / os.path.basename(name)
        copy = Copy(os.fsencode(name), target)
        assert copy.status() == "copied" and copy.ends[b""].size == len(target.read_bytes()) > 0
        assert "to its end" in copy.ends[b""].notes[0]
    assert (top / "filesystems").read_bytes() == Path("/proc/filesystems").read_bytes()


def row_68_a_sparse_file_stays_sparse(top: Path) -> None:
    source = source_of(top)
    with open(source / "f", "wb") as file:
        file.truncate(1 << 30)
        for at in (0, 500 << 20, (1 << 30) - 4096):
            file.seek(at)
            file.write(b"%d" % at * 400)
    assert Copy(source, top / "target", CopyOptions(verify=True)).status("f") == "copied"
    there, here = os.stat(top / "target" / "f"), os.stat(source / "f")
    assert there.st_size == 1 << 30 and there.st_blocks <= 1.1 * here.st_blocks
    with open(source / "f", "rb") as one, open(top / "target" / "f", "rb") as other:
        for at in (0, 250 << 20, 500 << 20, (1 << 30) - 4096):
            one.seek(at)
            other.seek(at)
            assert one.read(8192) == other.read(8192)


# --- links --------------------------------------------------------------------------------------------------------------


def row_69_links_are_copied_as_links_wherever_they_point(top: Path) -> None:
    source = source_of(top)
    for name, text in (("dangling", "no/where"), ("absolute", "/etc/passwd"), ("folder", "/etc")):
        (source / name).symlink_to(text)
    Copy(source, top / "target")
    assert {name: os.readlink(top / "target" / name) for name in os.listdir(top / "target")} == {
        "dangling": "no/where",
        "absolute": "/etc/passwd",
        "folder": "/etc",
    }


def row_70_a_loop_of_links_is_copied_as_links(top: Path) -> None:
    source = source_of(top)
    (source / "self").symlink_to("self")
    (source / "up").symlink_to("..")
    copy = Copy(source, top / "target")
    assert len(copy.ends) == 3 and {end.status for end in copy.ends.values()} == {"copied"}


def row_71_a_link_at_the_target_is_replaced_and_never_written_through(top: Path) -> None:
    source = source_of(top, f=b"new", g=b"new")
    (top / "victim").write_bytes(b"untouched")
    (top / "target").mkdir()
    (top / "target" / "f").symlink_to(top / "victim")
    (top / "target" / "g").symlink_to("no/where")
    Copy(source, top / "target")
    assert (top / "victim").read_bytes() == b"untouched"
    assert not any((top / "target" / name).is_symlink() for name in "fg")
    assert (top / "target" / "f").read_bytes() == b"new"


# --- source and target in each other's way ------------------------------------------------------------------------------


def row_72_a_file_is_not_copied_onto_itself(top: Path) -> None:
    source = source_of(top, f=b"content")
    target = top / "target"
    target.mkdir()
    os.link(source / "f", target / "f")
    (top / "way").symlink_to(source)
    for place in (target, top / "way", source):
        for policy in ("replace", "rename"):
            copy = copy_file_named(source, place, replace(SMALL, on_conflict=policy))  # type: ignore[arg-type]
            assert (copy.status, copy.code) == ("failed", "same_file"), place
    (target / "f").unlink()
    (target / "f").symlink_to(source / "f")
    assert copy_file_named(source, target, SMALL).code == "same_file"
    assert (source / "f").read_bytes() == b"content" and sorted(os.listdir(source)) == ["f"]
    (target / "f").unlink()
    os.rename(source / "f", target / "f")
    (source / "f").symlink_to(target / "f")  # a link that would replace what it points to
    assert Copy(source, target).code("f") == "same_file" and (target / "f").read_bytes() == b"content"
    (top / "alias").symlink_to(target / "f")
    for one, other in ((source / "f", source), (source / "f", top / "way"), (target / "f", top / "alias"), (top / "alias", target / "f")):
        assert "same file" in problems_of([one], other)[0], (one, other)
    bound = copy_on_mount(target, top / "bound", f"mount --bind '{target}' '{top / 'bound'}'")
    assert "are the same file" in bound and "failed same_file" in bound
    assert (target / "f").read_bytes() == b"content"


def copy_file_named(source: Path, target: Path, options: CopyOptions, **events: Any) -> CopyEnd:
    entry = next(entry for entry in walk([os.fsencode(source)]) if entry.path == b"f")
    # the target's own folder may be a link that the user typed, as a plan resolves it
    end = copy_entry(Tree(os.fsencode(source)), Tree(os.path.realpath(os.fsencode(target))), entry, options, **events)
    assert end is not None
    return end


def row_73_a_target_inside_of_its_source_is_refused(top: Path) -> None:
    source = source_of(top, f=b"x")
    (source / "inside").mkdir()
    (top / "way").symlink_to(source / "inside")
    for target in (source / "inside", source / "inside" / "new", source, top / "way"):
        assert "into itself" in problems_of([source], target)[0], target
    assert sorted(os.listdir(source)) == ["f", "inside"] and os.listdir(source / "inside") == []
    status = os.stat(source / "inside")  # a bind mount hides it from the plan; the walk knows it by its inode
    met = [entry.problem for entry in walk([os.fsencode(source)], avoid={(status.st_dev, status.st_ino)}) if entry.path == b"inside"]
    assert "copied into" in met[0]


def row_74_a_source_inside_of_what_it_would_replace_is_refused(top: Path) -> None:
    (top / "x" / "x").mkdir(parents=True)
    (top / "x" / "x" / "f").write_bytes(b"kept")
    assert "is inside of" in problems_of([top / "x" / "x"], top)[0]
    (top / "f" / "a").mkdir(parents=True)
    (top / "f" / "a" / "f").write_bytes(b"kept")
    assert "is inside of" in problems_of([top / "f" / "a" / "f"], top)[0]
    assert (top / "f" / "a" / "f").read_bytes() == b"kept"


def row_75_two_sources_of_one_name_are_refused_and_both_listed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/n", "b/n", "c/N", "d/e\u0301", "e/\u00e9", "target/x"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_bytes(b"x")
    text = problems_of([top / "a/n", top / "b/n"], top / "target")
    assert len(text) == 1 and str(top / "a/n") in text[0] and str(top / "b/n") in text[0]
    assert len(problems_of([top / "a/n", top / "a/n"], top / "target")) == 1
    assert problems_of([top / "a/n", top / "c/N", top / "d/e\u0301", top / "e/\u00e9"], top / "target") == []
    monkeypatch.setattr(plan, "_file_system", lambda _: "vfat")  # no folding file system can be counted on here
    assert len(problems_of([top / "a/n", top / "c/N", top / "d/e\u0301", top / "e/\u00e9"], top / "target")) == 2


def row_76_hard_links_become_files_of_their_own_and_are_reported(top: Path) -> None:
    source = source_of(top, f=b"x")
    os.link(source / "f", source / "g")
    copy = Copy(source, top / "target")
    assert os.stat(top / "target" / "f").st_ino != os.stat(top / "target" / "g").st_ino
    assert "one of 2 hard links" in copy.ends[b"f"].notes[0] and "one of 2 hard links" in copy.ends[b"g"].notes[0]


# --- what changes or cannot be read --------------------------------------------------------------------------------------


def row_77_what_may_not_be_read_is_a_failure_and_the_rest_goes_on(_: Path) -> None:
    with unprivileged() as top:
        source = source_of(top, f=b"x", secret=b"y", g=b"z")
        (source / "locked").mkdir()
        (source / "locked" / "inside").write_bytes(b"")
        os.chmod(source / "secret", 0)
        os.chmod(source / "locked", 0)
        copy = Copy(source, top / "target")
        assert (copy.status("f"), copy.status("g"), copy.code("secret")) == ("copied", "copied", "denied")
        assert copy.kinds() == {b"locked": "dir-end"} and "Permission denied" in copy.reported[b"locked"].problem
        assert no_temps(top / "target") and sorted(os.listdir(top / "target")) == ["f", "g", "locked"]
        os.chmod(source / "locked", 0o700)
        os.chmod(top / "target" / "locked", 0o700)


def row_78_a_file_that_vanishes_or_cannot_be_read_leaves_nothing(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(top, f=bytes(20_000))
    (top / "target").mkdir()
    trees = Tree(os.fsencode(source)), Tree(os.fsencode(top / "target"))
    listed = next(entry for entry in walk([os.fsencode(source)]) if entry.path == b"f")
    (source / "f").rename(source / "moved")
    end = copy_entry(*trees, listed, SMALL)
    assert end is not None and (end.status, end.code) == ("failed", "vanished")
    (source / "moved").rename(source / "f")
    for number in (errno.EIO, errno.ESTALE):

        def failing(_source: int, _temp: int, count: int, at: int, _to: int, number: int = number) -> int:
            if at >= 8192:  # in the middle; only a broken disk or server does this by itself
                raise OSError(number, os.strerror(number))
            os.pwrite(_temp, b"x" * count, at)
            return count

        monkeypatch.setattr(os, "copy_file_range", failing)
        end = copy_entry(*trees, listed, SMALL)
        assert end is not None and (end.status, end.code) == ("failed", "io")
        assert os.listdir(top / "target") == []


def row_79_a_file_that_changes_is_copied_again_once(top: Path) -> None:
    for changes, status in ((1, "copied"), (2, "failed")):
        for how in ("grow", "shrink", "rewrite"):
            here = top / f"{how}{changes}"
            here.mkdir()
            source = source_of(here, f=b"a" * 20_000)
            left = [changes]

            def change(at: int, source: Path = source, left: list[int] = left, how: str = how) -> None:
                if at == 8192 and left[0]:
                    left[0] -= 1
                    size = {"grow": 20_000 + 9000 * (2 - left[0]), "shrink": 19_000 - 100 * (2 - left[0]), "rewrite": 20_000}[how]
                    (source / "f").write_bytes(b"%d" % left[0] * size)
                    os.utime(source / "f", ns=(0, left[0] * 10**9))

            copy = Copy(source, here / "target", between=change)
            assert copy.status("f") == status
            if status == "copied":
                assert (here / "target" / "f").read_bytes() == (source / "f").read_bytes()
            else:
                assert copy.code("f") == "changed" and os.listdir(here / "target") == []


def row_80_a_file_replaced_by_a_link_is_not_followed(top: Path) -> None:
    source = source_of(top, f=b"x")
    (top / "target").mkdir()
    listed = next(entry for entry in walk([os.fsencode(source)]) if entry.path == b"f")
    (source / "f").unlink()
    (source / "f").symlink_to("/etc/passwd")
    end = copy_entry(Tree(os.fsencode(source)), Tree(os.fsencode(top / "target")), listed, SMALL)
    assert end is not None and (end.status, end.code) == ("failed", "replaced")
    assert os.listdir(top / "target") == []


def row_81_a_folder_swapped_for_a_link_is_not_followed(top: Path) -> None:
    source = source_of(top)
    for name in (source / "d", top / "secret", top / "target"):
        name.mkdir()
        (name / "f").write_bytes(b"secret" if name.name == "secret" else b"x")
    walking = walk([os.fsencode(source)])
    listed = next(entry for entry in walking if entry.path == b"d/f")
    (source / "d").rename(source / "moved")
    (source / "d").symlink_to(top / "secret")
    trees = Tree(os.fsencode(source)), Tree(os.fsencode(top / "target"))
    (top / "target" / "d").mkdir()
    end = copy_entry(*trees, listed, SMALL)
    assert end is not None and (end.status, end.code) == ("failed", "replaced")
    (top / "target" / "d").rmdir()
    (top / "target" / "d").symlink_to(top / "secret")  # and the same at the target
    (source / "d").unlink()
    (source / "moved").rename(source / "d")
    trees = Tree(os.fsencode(source)), Tree(os.fsencode(top / "target"))
    end = copy_entry(*trees, listed, SMALL)
    assert end is not None and (end.status, end.code) == ("failed", "in_the_way")
    made = make_dir(trees[1], next(entry for entry in walk([os.fsencode(source)]) if entry.path == b"d"))
    assert (made.status, made.code) == ("failed", "in_the_way")
    assert (top / "secret" / "f").read_bytes() == b"secret" and os.listdir(top / "secret") == ["f"]


# --- names, depth, number -------------------------------------------------------------------------------------------------


def row_82_names_of_255_bytes_are_copied(top: Path) -> None:
    name = "n" * 255
    source = source_of(top, **{name: b"x"})
    (source / ("l" * 255)).symlink_to(name)
    (source / ("d" * 255)).mkdir()
    Copy(source, top / "target")
    assert sorted(os.listdir(top / "target")) == sorted(os.listdir(source))
    copy = Copy(source, top / "target", replace(SMALL, on_conflict="rename"))
    assert copy.ends[name.encode()].name == b"n" * 251 + b" (1)"


def row_83_1500_levels_and_paths_longer_than_any_call_takes(top: Path) -> None:
    levels, name = 1_500, b"level" * 4
    source = source_of(top)
    at = os.open(source, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open(b"f", os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=at))
    os.close(at)
    try:
        target = top / "target"
        copy = Copy(source, target, replace(SMALL, fsync=False))
        assert len(copy.ends) == levels + 2 and {end.status for end in copy.ends.values()} == {"copied"}
        deepest = b"/".join([name] * levels + [b"f"])
        assert len(deepest) > 4096 * 7
        found = Tree(os.fsencode(target)).place(deepest).look()
        assert found is not None and stat.S_IMODE(found.st_mode) == 0o640
        middle = next(entry for entry in walk([os.fsencode(source)]) if entry.path == b"/".join([name] * 700))
        assert len(list(walk([os.fsencode(source)], middle))) == (levels - 700) + 1 + levels + 1
    finally:
        subprocess.run(["rm", "-rf", source, top / "target"], check=True)  # pytest's own removal recurses


def row_84_any_bytes_are_a_name(top: Path) -> None:
    names = [b"\xff\xfe", b"new\nline", b"esc\x1b[2J", "\u202ertl".encode(), b"\\x00", b"-rf", b"dot.", b"space ", b" ", b"...", b"~"]
    source = source_of(top)
    for name in names:
        (source / os.fsdecode(name)).write_bytes(name)
    Copy(source, top / "target")
    assert sorted(os.listdir(os.fsencode(top / "target"))) == sorted(names)
    assert all((top / "target" / os.fsdecode(name)).read_bytes() == name for name in names)
    assert all(shown(name).isprintable() for name in names)
    (source / "\udcff\udcfe").unlink()
    (source / "\udcff\udcfe").mkdir()
    assert "\\xff\\xfe" in Copy(source, top / "target").ends[b"\xff\xfe"].reason


def row_85_100_000_files_in_one_folder(top: Path) -> None:
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else top) as name:
        folder = os.open(name, os.O_RDONLY)
        for number in range(100_000):
            os.mknod(b"%d" % number, 0o600, dir_fd=folder)
        os.close(folder)
        source = os.fsencode(name)
        walking = walk([source])
        tracemalloc.start()
        seen = [next(walking), next(walking)]  # the folder, and after all of its names were listed the first in it
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 160 * 100_000  # bytes: each name twice while they are listed; an entry has some 400
        for entry in walking:
            assert entry.kind == "dir-end" or seen[-1].path < entry.path
            seen.append(entry)
        assert len(seen) == 100_002
        for entry in seen[1:-1:10_000]:
            end = copy_entry(Tree(source), Tree(os.fsencode(top)), entry, SMALL)
            assert end is not None and end.status == "copied" and os.stat(top / os.fsdecode(entry.path)).st_size == 0
    source = top / "source"
    (source / "empty").mkdir(parents=True)
    Copy(source, top / "target")
    assert os.listdir(top / "target") == ["empty"] and os.listdir(top / "target" / "empty") == []


# --- the target -----------------------------------------------------------------------------------------------------------


def row_86_a_full_disk_leaves_nothing_and_is_told_apart(top: Path) -> None:
    source = source_of(top, f=bytes(3 << 20))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # EFBIG
    try:
        copy = Copy(source, top / "target")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert copy.code("f") == "disk_full" and os.listdir(top / "target") == []
    assert Copy(source, top / "target").status("f") == "copied"
    printed = copy_on_mount(source, top / "small", f"mount -t tmpfs -o size=1m none '{top / 'small'}'")
    assert "failed disk_full" in printed and "No space left" in printed and printed.rstrip().endswith("[]")


def row_87_a_target_that_cannot_be_written_is_told_before_the_first_byte(top: Path) -> None:
    source = source_of(top, f=b"x")
    printed = copy_on_mount(source, top / "target", f"mount -t tmpfs -o ro none '{top / 'target'}'")
    assert "is on a read-only file system" in printed and "failed read_only" in printed
    with unprivileged() as here:
        (here / "locked").mkdir()
        os.chmod(here / "locked", 0o500)
        (here / "f").write_bytes(b"")
        assert "may not be written to" in problems_of([here / "f"], here / "locked")[0]
        assert copy_file_named(here, here / "locked", SMALL).code == "denied"


def row_89_a_target_folder_that_is_removed_is_not_made_again(top: Path) -> None:
    source = source_of(top, f=b"x", g=b"y")
    target = top / "target"
    target.mkdir()
    trees = Tree(os.fsencode(source)), Tree(os.fsencode(target))
    listed = [entry for entry in walk([os.fsencode(source)]) if entry.kind == "file"]
    first = copy_entry(*trees, listed[0], SMALL)
    shutil.rmtree(target)
    second = copy_entry(*trees, listed[1], SMALL)
    third = copy_entry(trees[0], Tree(os.fsencode(target)), listed[1], SMALL)
    assert first is not None and second is not None and third is not None
    assert (first.status, second.code, third.code) == ("copied", "no_folder", "no_folder")
    assert not target.exists()


def row_90_each_policy_does_what_it_says(top: Path) -> None:
    """Each of them killed at each step is in test_copy_file.py."""
    source = source_of(top, f=b"new")
    (top / "target").mkdir()
    for policy, status, names, content in (
        ("skip", "skipped", ["f"], b"old"),
        ("error", "failed", ["f"], b"old"),
        ("rename", "copied", ["f", "f (1)"], b"old"),
        ("replace", "copied", ["f", "f (1)"], b"new"),
    ):
        if policy == "skip":
            (top / "target" / "f").write_bytes(b"old")
        copy = Copy(source, top / "target", replace(SMALL, on_conflict=policy))  # type: ignore[arg-type]
        assert copy.status("f") == status and sorted(os.listdir(top / "target")) == names
        assert (top / "target" / "f").read_bytes() == content


def row_91_setuid_and_setgid_are_dropped_unless_asked_for(top: Path) -> None:
    source = source_of(top, f=b"x")
    for path, mode in ((source / "f", 0o6755), (source, 0o2775)):
        os.chmod(path, mode)
    for keep, modes in ((False, (0o755, 0o775)), (True, (0o6755, 0o2775))):
        Copy(source, top / "target", replace(SMALL, preserve_setid=keep))
        assert tuple(stat.S_IMODE(os.stat(path).st_mode) for path in (top / "target" / "f", top / "target")) == modes


def row_92_attributes_that_the_target_cannot_keep_are_warnings(top: Path) -> None:
    source = source_of(top, f=b"x")
    try:
        os.setxattr(source / "f", "user.colour", b"green")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    printed = copy_on_mount(source, top / "target", f"mount -t ramfs none '{top / 'target'}'")
    assert "copied" in printed and "'user.colour' was not kept: Operation not supported" in printed


def row_93_times_of_any_year_are_kept_or_reported(top: Path) -> None:
    for number, mtime in enumerate((-1, -5_000_000_000_000_000_001, 4_102_444_800_123_456_789, 10**19, 9 * 10**18 + 1)):
        here = top / str(number)
        here.mkdir()
        source = source_of(here, f=b"x")
        os.utime(source / "f", ns=(0, mtime))
        there = os.stat(source / "f").st_mtime_ns  # what this file system made of it
        copy = Copy(source, here / "target")
        assert os.stat(here / "target" / "f").st_mtime_ns == there and copy.ends[b"f"].warnings == ()
    real = os.utime
    with pytest.MonkeyPatch.context() as patch:
        # a target that knows no year before 1970
        patch.setattr(os, "utime", lambda fd, ns, **more: real(fd, ns=(0, max(ns[1], 0)), **more))
        source = source_of(top, f=b"x")
        real(source / "f", ns=(0, -1))
        assert "-1 ns was not kept: the target keeps 0" in Copy(source, top / "target").ends[b"f"].warnings[0]


# --- libraries, repeats -------------------------------------------------------------------------------------------------


def row_94_a_live_library_is_refused_by_inode_and_keeps_its_locks(top: Path) -> None:
    source = source_of(top, f=b"database", other=b"x")
    listed = next(entry for entry in walk([os.fsencode(source)]) if entry.path == b"f")
    os.link(source / "f", source / "hard")
    lock = os.open(source / "f", os.O_RDWR)
    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    live_files.hold([source / "f"])
    try:
        copy = Copy(source, top / "target")
        assert (copy.code("f"), copy.code("hard"), copy.status("other")) == ("live", "live", "copied")
        end = copy_entry(Tree(os.fsencode(source)), Tree(os.fsencode(top / "target")), listed, SMALL)  # listed before it was opened
        assert end is not None and (end.status, end.code) == ("failed", "live")
        assert not lockable(source / "f")
    finally:
        live_files.drop([source / "f"])
        os.close(lock)
    assert lockable(source / "f")


def lockable(path: Path) -> bool:
    """Whether another process can lock the file as SQLite would."""
    script = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    return subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=False).returncode == 0


def row_95_a_library_inside_of_a_tree_is_left_out_and_at_the_target_not_replaced(top: Path) -> None:
    source = source_of(top, f=b"x")
    library = source / "photos.library"
    library.mkdir()
    for name in ("jobs.db", "jobs.db-wal", "library.lock", "cover.jpg"):
        (library / name).write_bytes(b"x")
    held = [library / name for name in ("jobs.db", "jobs.db-wal", "library.lock")]
    live_files.hold(held)
    try:
        copy = Copy(source, top / "target")
        assert [path for path, end in copy.ends.items() if end.code == "live"] == [b"photos.library/%b" % path.name.encode() for path in held]
        assert os.listdir(top / "target" / "photos.library") == ["cover.jpg"] and copy.status("f") == "copied"
        (top / "jobs.db").write_bytes(b"another")
        end = Copy(top / "jobs.db", library / "jobs.db")
        assert end.code() == "live" and (library / "jobs.db").stat().st_size == 1
    finally:
        live_files.drop(held)


def row_96_a_resume_copies_again_what_is_not_certainly_its_own(top: Path) -> None:
    source = source_of(top, f=b"n" * 20_000)
    target = top / "target"
    target.mkdir()
    trees = Tree(os.fsencode(source)), Tree(os.fsencode(target))
    listed = next(entry for entry in walk([os.fsencode(source)]) if entry.path == b"f")
    assert copy_entry(*trees, listed, SMALL) is not None and already_done(trees[1], listed, b"f")
    (target / "f").write_bytes(b"changed since")
    assert not already_done(trees[1], listed, b"f")
    ours, others = (os.fsdecode(temp_name(job, 0)) for job in (b"job", b"other"))
    (target / ours).write_bytes(b"left behind" * 9999)
    (target / others).write_bytes(b"of another job")
    end = copy_entry(*trees, listed, SMALL)
    assert end is not None and end.status == "copied" and (target / "f").read_bytes() == b"n" * 20_000
    assert sorted(os.listdir(target)) == sorted(["f", others])

    def leave(_: int) -> None:
        raise Interrupted("pause")

    with pytest.raises(Interrupted):
        copy_entry(*trees, listed, SMALL, between=leave)
    assert sorted(os.listdir(target)) == sorted(["f", ours, others])


ROWS: dict[int, Callable[..., None] | str] = {
    65: row_65_a_fifo_is_reported_and_does_not_hang,
    66: row_66_sockets_and_devices_are_reported_and_memory_is_a_failure,
    67: row_67_files_of_proc_are_read_to_their_end,
    68: row_68_a_sparse_file_stays_sparse,
    69: row_69_links_are_copied_as_links_wherever_they_point,
    70: row_70_a_loop_of_links_is_copied_as_links,
    71: row_71_a_link_at_the_target_is_replaced_and_never_written_through,
    72: row_72_a_file_is_not_copied_onto_itself,
    73: row_73_a_target_inside_of_its_source_is_refused,
    74: row_74_a_source_inside_of_what_it_would_replace_is_refused,
    75: row_75_two_sources_of_one_name_are_refused_and_both_listed,
    76: row_76_hard_links_become_files_of_their_own_and_are_reported,
    77: row_77_what_may_not_be_read_is_a_failure_and_the_rest_goes_on,
    78: row_78_a_file_that_vanishes_or_cannot_be_read_leaves_nothing,
    79: row_79_a_file_that_changes_is_copied_again_once,
    80: row_80_a_file_replaced_by_a_link_is_not_followed,
    81: row_81_a_folder_swapped_for_a_link_is_not_followed,
    82: row_82_names_of_255_bytes_are_copied,
    83: row_83_1500_levels_and_paths_longer_than_any_call_takes,
    84: row_84_any_bytes_are_a_name,
    85: row_85_100_000_files_in_one_folder,
    86: row_86_a_full_disk_leaves_nothing_and_is_told_apart,
    87: row_87_a_target_that_cannot_be_written_is_told_before_the_first_byte,
    88: "moving between devices comes with the move operation",
    89: row_89_a_target_folder_that_is_removed_is_not_made_again,
    90: row_90_each_policy_does_what_it_says,
    91: row_91_setuid_and_setgid_are_dropped_unless_asked_for,
    92: row_92_attributes_that_the_target_cannot_keep_are_warnings,
    93: row_93_times_of_any_year_are_kept_or_reported,
    94: row_94_a_live_library_is_refused_by_inode_and_keeps_its_locks,
    95: row_95_a_library_inside_of_a_tree_is_left_out_and_at_the_target_not_replaced,
    96: row_96_a_resume_copies_again_what_is_not_certainly_its_own,
}


@pytest.mark.parametrize("row", [pytest.param(row, id=f"row_{number}" if isinstance(row, str) else row.__name__) for number, row in ROWS.items()])
def test_a_bad_input_ends_as_the_catalogue_says(row: Callable[..., None] | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(row, str):
        pytest.skip(row)
    if row.__code__.co_argcount == 2:
        row(tmp_path, monkeypatch)
    else:
        row(tmp_path)


def test_the_catalogue_is_complete() -> None:
    assert sorted(ROWS) == list(range(65, 97))
