"""Copying one file: what is kept, how it is interrupted and gone on with, and that a kill at any step leaves nothing half."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callboard.jobs.errors import Interrupted
from callboard.jobs.files import kernel_copy, target
from callboard.jobs.files.conflict import already_done
from callboard.jobs.files.copying import copy_file
from callboard.jobs.files.directory import finish_dir, make_dir
from callboard.jobs.files.ending import CopyEnd
from callboard.jobs.files.folder import Place, Tree
from callboard.jobs.files.link import copy_link
from callboard.jobs.files.names import checked, numbered, shown, temp_name
from callboard.jobs.files.options import CopyEvents, CopyOptions
from callboard.jobs.files.walk import Entry, walk

TEMP = temp_name(b"job", 7)
SMALL = CopyOptions(piece_bytes=4096, sync_bytes=16384)


def entry_of(root: Path, path: str = "f") -> Entry:
    return next(entry for entry in walk([os.fsencode(root)]) if entry.path == os.fsencode(path) and entry.kind != "dir-end")


class Case:
    """A source folder with one file `f`, and an empty target folder."""

    def __init__(self, top: Path, content: bytes = b"content") -> None:
        self.top = top
        self.source, self.target = top / "source", top / "target"
        self.source.mkdir()
        self.target.mkdir()
        self.write(content)

    def write(self, content: bytes) -> None:
        (self.source / "f").write_bytes(content)
        os.utime(self.source / "f", ns=(11, 1_700_000_000_123_456_789))
        self.entry = entry_of(self.source)

    def copy(self, options: CopyOptions = SMALL, **more: Any) -> CopyEnd:
        if not isinstance(more.get("events"), CopyEvents):
            more["events"] = CopyEvents(**more.pop("events", {}))
        trees = Tree(os.fsencode(self.source)), Tree(os.fsencode(self.target))
        return copy_file(*trees, more.pop("entry", self.entry), options, TEMP, **more)

    @property
    def copied(self) -> Path:
        return self.target / "f"

    def names(self) -> list[str]:
        return sorted(os.listdir(self.target))

    @property
    def temp(self) -> Path:
        return self.target / os.fsdecode(TEMP)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def random_bytes(count: int) -> bytes:
    return bytes(i * 7919 % 251 for i in range(count))


def stop_at(offset: int) -> Callable[[int], None]:
    def stop(at: int) -> None:
        if at >= offset:
            raise Interrupted("pause")

    return stop


# --- what is kept ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 40_000])
def test_content_mode_and_times_are_the_sources(case: Case, size: int) -> None:
    case.write(random_bytes(size))
    os.chmod(case.source / "f", 0o754)
    end = case.copy()
    assert (end.status, end.size, end.name, end.warnings, end.notes) == ("copied", size, b"f", (), ())
    assert case.copied.read_bytes() == random_bytes(size)
    status = os.stat(case.copied)
    assert stat.S_IMODE(status.st_mode) == 0o754
    assert status.st_mtime_ns == 1_700_000_000_123_456_789
    assert case.names() == ["f"]


def test_while_it_is_copied_only_its_owner_may_read_it(case: Case) -> None:
    case.write(random_bytes(9000))
    modes = []
    case.copy(events={"between": lambda at: modes.append(stat.S_IMODE(os.stat(case.temp).st_mode))})
    assert modes and set(modes) == {0o600}


def test_an_existing_target_stays_whole_until_the_copy_is(case: Case) -> None:
    case.write(random_bytes(9000))
    case.copied.write_bytes(b"old")
    before: list[bytes] = []

    def look(_: object) -> None:
        before.append(case.copied.read_bytes())

    case.copy(events={"between": look, "chosen": look})
    assert len(before) == 3 and set(before) == {b"old"}
    assert case.copied.read_bytes() == random_bytes(9000)


def test_extended_attributes_are_kept_unless_told_not_to(case: Case) -> None:
    try:
        os.setxattr(case.source / "f", "user.colour", b"green")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    case.copy(replace(SMALL, xattrs=False))
    assert os.listxattr(case.copied) == []
    case.copy()
    assert os.getxattr(case.copied, "user.colour") == b"green"


@pytest.mark.parametrize("way", ["range", "send", "memory"])
def test_every_way_of_moving_bytes_gives_the_same_copy(case: Case, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name, _ in kernel_copy._WAYS]
    monkeypatch.setattr(kernel_copy, "_WAYS", kernel_copy._WAYS[names.index(way) :])
    monkeypatch.setattr(kernel_copy, "_clone", lambda *_: False)
    case.write(random_bytes(30_001))
    pieces: list[int] = []
    case.copy(events={"between": pieces.append})
    assert pieces == list(range(4096, 30_001, 4096))
    assert case.copied.read_bytes() == random_bytes(30_001)


def test_a_way_that_gives_up_in_the_middle_is_followed_by_the_next(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.write(random_bytes(30_001))
    real = os.copy_file_range

    def some(source: int, temp: int, count: int, at: int, to: int) -> int:
        return real(source, temp, count, at, to) if at < 8192 else 0

    monkeypatch.setattr(os, "copy_file_range", some)
    monkeypatch.setattr(kernel_copy, "_clone", lambda *_: False)
    assert case.copy().size == 30_001
    assert case.copied.read_bytes() == random_bytes(30_001)


def test_a_clone_is_taken_where_the_file_system_has_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.write(random_bytes(30_001))
    monkeypatch.setattr(kernel_copy, "_useless", set())
    asked: list[int] = []

    def ioctl(temp: int, request: int, source: int) -> int:  # stands for btrfs and XFS
        asked.append(request)
        os.pwrite(temp, os.pread(source, 1 << 20, 0), 0)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(os, "copy_file_range", None)
    assert case.copy(replace(SMALL, verify=True)).size == 30_001
    assert asked == [kernel_copy.FICLONE]


def test_holes_stay_holes_at_the_start_in_the_middle_and_at_the_end(case: Case) -> None:
    with open(case.source / "f", "wb") as file:
        for at in (1 << 20, 5 << 20):
            file.seek(at)
            file.write(b"data" * 1000)
        file.truncate(9 << 20)
    case.entry = entry_of(case.source)
    assert case.copy(replace(SMALL, verify=True)).status == "copied"
    assert case.copied.read_bytes() == (case.source / "f").read_bytes()
    assert os.stat(case.copied).st_blocks <= os.stat(case.source / "f").st_blocks * 1.1


def test_a_folder_gets_its_mode_and_times_at_the_end(case: Case) -> None:
    (case.source / "d").mkdir(mode=0o551)
    os.chmod(case.source / "d", 0o2551)
    os.utime(case.source / "d", ns=(5, 1_600_000_000_000_000_001))
    entry = entry_of(case.source, "d")
    trees = Tree(os.fsencode(case.source)), Tree(os.fsencode(case.target))
    assert make_dir(trees[1], entry).status == "copied"
    assert stat.S_IMODE(os.stat(case.target / "d").st_mode) == 0o700
    assert make_dir(trees[1], entry).status == "already"
    (case.target / "d" / "later").write_bytes(b"")
    assert finish_dir(*trees, entry, SMALL) == CopyEnd("copied", name=b"d")
    status = os.stat(case.target / "d")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o551, 1_600_000_000_000_000_001)
    finish_dir(*trees, entry, replace(SMALL, preserve_setid=True))
    assert stat.S_IMODE(os.stat(case.target / "d").st_mode) == 0o2551


def test_a_link_is_copied_with_its_time_and_replaces_what_was_there(case: Case) -> None:
    (case.source / "l").symlink_to("../anywhere")
    os.utime(case.source / "l", ns=(5, 1_600_000_000_000_000_001), follow_symlinks=False)
    (case.target / "l").write_bytes(b"old")
    (case.target / os.fsdecode(TEMP)).write_bytes(b"left behind by an earlier attempt")
    chosen: list[bytes] = []
    trees = Tree(os.fsencode(case.source)), Tree(os.fsencode(case.target))
    end = copy_link(*trees, entry_of(case.source, "l"), SMALL, TEMP, events=CopyEvents(chosen=chosen.append))
    assert (end.status, end.name, chosen) == ("copied", b"l", [b"l"])
    assert os.readlink(case.target / "l") == "../anywhere"
    assert os.lstat(case.target / "l").st_mtime_ns == 1_600_000_000_000_000_001
    assert case.names() == ["l"]


# --- the name is taken ----------------------------------------------------------------------------------------------


def test_skip_leaves_what_is_there_and_error_fails(case: Case) -> None:
    case.copied.write_bytes(b"old")
    assert case.copy(replace(SMALL, on_conflict="skip")).status == "skipped"
    end = case.copy(replace(SMALL, on_conflict="error"))
    assert (end.status, end.code) == ("failed", "exists")
    assert case.copied.read_bytes() == b"old" and case.names() == ["f"]


@pytest.mark.parametrize("policy", ["skip", "error"])
def test_a_file_that_appears_while_it_is_copied_is_not_replaced(case: Case, policy: Any) -> None:
    end = case.copy(replace(SMALL, on_conflict=policy), events={"chosen": lambda _: case.copied.write_bytes(b"faster")})
    assert end.status == {"skip": "skipped", "error": "failed"}[policy]
    assert case.copied.read_bytes() == b"faster" and case.names() == ["f"]


def test_rename_takes_the_next_free_name_and_tells_it_first(case: Case) -> None:
    for name in ("f", "f (1)"):
        (case.target / name).write_bytes(b"old")
    told: list[tuple[bytes, list[str]]] = []

    def chosen(name: bytes) -> None:
        told.append((name, case.names()))
        if len(told) == 1:
            (case.target / os.fsdecode(name)).write_bytes(b"faster")

    end = case.copy(replace(SMALL, on_conflict="rename"), events={"chosen": chosen})
    assert (end.status, end.name) == ("copied", b"f (3)")
    assert [name for name, _ in told] == [b"f (2)", b"f (3)"]
    assert all(os.fsdecode(name) not in names for name, names in told)
    assert case.names() == ["f", "f (1)", "f (2)", "f (3)"]
    assert (case.target / "f (3)").read_bytes() == b"content"


@pytest.mark.parametrize("policy", ["skip", "error"])
def test_a_link_is_not_put_over_what_appears_either(case: Case, policy: Any) -> None:
    (case.source / "l").symlink_to("anywhere")
    trees = Tree(os.fsencode(case.source)), Tree(os.fsencode(case.target))

    def chosen(_: bytes) -> None:
        (case.target / "l").write_bytes(b"faster")

    options = replace(SMALL, on_conflict=policy)
    end = copy_link(*trees, entry_of(case.source, "l"), options, TEMP, events=CopyEvents(chosen=chosen))
    assert end.status == {"skip": "skipped", "error": "failed"}[policy]
    assert (case.target / "l").read_bytes() == b"faster" and case.names() == ["l"]


@pytest.mark.parametrize(("there", "code"), [("folder", "is_folder"), ("fifo", "special")])
def test_a_folder_or_a_device_in_the_way_stays_and_nothing_is_copied_before_that_is_known(case: Case, there: str, code: str) -> None:
    case.write(random_bytes(9000))
    (case.copied.mkdir if there == "folder" else lambda: os.mkfifo(case.copied))()
    pieces: list[int] = []
    end = case.copy(events={"between": pieces.append})
    assert (end.status, end.code, pieces, case.names()) == ("failed", code, [], ["f"])
    assert not case.copied.is_file()


@pytest.mark.parametrize("has_links", [True, False])
def test_without_renameat2_nothing_is_replaced_either(case: Case, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    monkeypatch.setattr(target, "_renameat2", None)
    if not has_links:
        monkeypatch.setattr(os, "link", refuse_link)
    options = replace(SMALL, on_conflict="error")
    assert case.copy(options).status == "copied"
    end = case.copy(options, events={"chosen": lambda _: None})
    assert end.code == "exists" and case.names() == ["f"]
    case.copied.unlink()
    end = case.copy(options, events={"chosen": lambda _: case.copied.write_bytes(b"faster")})
    assert end.code == "exists" and case.copied.read_bytes() == b"faster" and case.names() == ["f"]


def refuse_link(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")  # as FAT answers


def test_already_done_knows_the_copy_by_size_and_time_to_the_nanosecond(case: Case) -> None:
    tree = Tree(os.fsencode(case.target))
    assert not already_done(tree, case.entry, b"f")
    case.copy()
    assert already_done(tree, case.entry, b"f")
    os.utime(case.copied, ns=(0, case.entry.mtime_ns + 1))
    assert not already_done(tree, case.entry, b"f")
    case.copied.write_bytes(b"longer content")
    os.utime(case.copied, ns=(0, case.entry.mtime_ns))
    assert not already_done(tree, case.entry, b"f")
    case.copied.unlink()
    case.copied.mkdir()
    assert not already_done(tree, case.entry, b"f")


# --- leaving and going on ---------------------------------------------------------------------------------------------


def test_an_interrupt_keeps_what_is_synced_and_the_next_call_goes_on_there(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    content = random_bytes(50_000)
    case.write(content)
    offsets: list[int] = []
    monkeypatch.setattr(kernel_copy, "_clone", lambda *_: False)
    with pytest.raises(Interrupted):
        case.copy(events={"between": stop_at(20_000), "synced": offsets.append})
    assert offsets == [16_384, 20_480]
    assert case.names() == [TEMP.decode()]
    read: list[int] = []
    real = os.copy_file_range

    def watched(source: int, temp: int, count: int, at: int, to: int) -> int:
        read.append(at)
        return real(source, temp, count, at, to)

    monkeypatch.setattr(os, "copy_file_range", watched)
    offsets.clear()
    assert case.copy(resume_offset=20_480, events={"synced": offsets.append}).size == 50_000
    assert min(read) == 20_480 and 0 not in offsets
    assert case.copied.read_bytes() == content and case.names() == ["f"]
    source, copied = os.stat(case.source / "f"), os.stat(case.copied)
    assert (copied.st_mtime_ns, stat.S_IMODE(copied.st_mode)) == (source.st_mtime_ns, stat.S_IMODE(source.st_mode))


def test_what_is_synced_is_on_disk_before_it_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.write(random_bytes(50_000))
    order: list[str] = []
    real_sync, real_fsync, real_rename = os.fdatasync, os.fsync, os.rename
    monkeypatch.setattr(os, "fdatasync", lambda fd: (order.append("fdatasync"), real_sync(fd))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), real_fsync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda *a, **k: (order.append("rename"), real_rename(*a, **k))[1])
    told = {"synced": lambda at: order.append(f"synced {at}"), "chosen": lambda _: order.append("chosen")}
    case.copy(events=told)
    assert order == ["fdatasync", "synced 16384", "fdatasync", "synced 32768", "fdatasync", "synced 49152", "fsync", "chosen", "rename"]


@pytest.mark.parametrize("left", [None, b"short", b"x" * 40_000, b"x" * 60_000])
def test_a_temporary_file_is_believed_up_to_the_recorded_offset_only(case: Case, left: bytes | None) -> None:
    content = random_bytes(50_000)
    case.write(content)
    taken_back: list[int] = []
    if left is not None:
        case.temp.write_bytes(left)
        os.chmod(case.temp, 0o600)
        if len(left) > 20_000:
            with open(case.temp, "r+b") as file:
                file.write(content[:20_000])  # what is behind it was never synced
    end = case.copy(resume_offset=20_000, events={"synced": taken_back.append})
    assert end.status == "copied" and case.copied.read_bytes() == content
    assert (taken_back[0] == 0) == (left is None or len(left) < 20_000)


def test_an_offset_is_taken_back_before_anything_new_is_written(case: Case) -> None:
    case.write(random_bytes(50_000))
    sizes: list[tuple[int, int]] = []
    case.copy(resume_offset=40_000, events={"synced": lambda at: sizes.append((at, os.stat(case.temp).st_size))})
    assert sizes[0] == (0, 0)


def test_an_offset_of_an_older_version_of_the_source_is_not_believed(case: Case) -> None:
    case.write(random_bytes(50_000))
    listed = case.entry
    with pytest.raises(Interrupted):
        case.copy(events={"between": stop_at(20_000)})
    case.write(b"y" * 50_000)
    os.utime(case.source / "f", ns=(1, 1_700_000_000_123_456_790))
    offsets: list[int] = []
    assert case.copy(entry=listed, resume_offset=20_480, events={"synced": offsets.append}).status == "copied"
    assert case.copied.read_bytes() == b"y" * 50_000
    assert offsets == [0]  # and none told of a version that the walk did not see


def test_an_interrupt_before_the_rename_keeps_the_whole_copy(case: Case) -> None:
    case.write(random_bytes(50_000))
    offsets: list[int] = []

    def chosen(_: bytes) -> None:
        raise Interrupted("pause")

    with pytest.raises(Interrupted):
        case.copy(events={"chosen": chosen, "synced": offsets.append})
    assert offsets[-1] == 50_000 and case.names() == [TEMP.decode()]
    again: list[int] = []
    assert case.copy(resume_offset=50_000, events={"between": again.append}).status == "copied"
    assert again == [] and case.copied.read_bytes() == random_bytes(50_000)


@pytest.mark.parametrize("where", ["between", "synced", "chosen"])
def test_any_other_error_from_the_caller_removes_the_temporary_file(case: Case, where: str) -> None:
    case.write(random_bytes(50_000))

    def broken(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        case.copy(events={where: broken})
    assert case.names() == []


@pytest.mark.parametrize("planted", ["link", "folder of one", "fifo"])
def test_what_lies_under_the_temporary_name_is_not_written_through(case: Case, planted: str) -> None:
    case.write(random_bytes(50_000))
    victim = case.top / "victim"
    victim.write_bytes(b"z" * 60_000)
    if planted == "link":
        case.temp.symlink_to(victim)
    elif planted == "fifo":
        os.mkfifo(case.temp)
    else:
        os.link(victim, case.temp)
    assert case.copy(resume_offset=20_480).status == "copied"
    assert victim.read_bytes() == b"z" * 60_000
    assert case.copied.read_bytes() == random_bytes(50_000) and case.names() == ["f"]


def test_no_descriptor_is_left_however_it_ends(case: Case) -> None:
    case.write(random_bytes(50_000))

    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = opened()
    case.copy()
    case.copy(replace(SMALL, on_conflict="error"))
    case.copy(replace(SMALL, on_conflict="error"), entry=replace(case.entry, path=b"gone"))
    with pytest.raises(Interrupted):
        case.copy(events={"between": stop_at(0)})
    assert opened() == before


# --- verify -------------------------------------------------------------------------------------------------------------


def test_verify_finds_a_copy_that_differs_and_does_not_name_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.write(random_bytes(50_000))
    real = os.fsync

    def damaging(fd: int) -> None:
        real(fd)
        os.pwrite(fd, b"?", 33_333)

    monkeypatch.setattr(os, "fsync", damaging)
    assert case.copy(SMALL).status == "copied"
    case.copied.unlink()
    end = case.copy(replace(SMALL, verify=True))
    assert (end.status, end.code, case.names()) == ("failed", "not_equal", [])


def test_verify_finds_data_in_a_hole(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(case.source / "f", "wb") as file:
        file.write(b"data")
        file.truncate(8 << 20)
    case.entry = entry_of(case.source)
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (os.pwrite(fd, b"?", 4 << 20), real(fd))[1])
    assert case.copy(replace(SMALL, verify=True)).code == "not_equal"


# --- killed -----------------------------------------------------------------------------------------------------------

STEPS = ("open", "copy_file_range", "fchmod", "utime", "fsync", "fdatasync", "rename", "unlink", "ftruncate")


def run_killed_at(step: int, act: Callable[[], object]) -> bool:
    """Run `act` in a child that kills itself before its `step`-th call that touches the disk; True if it got so far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **more: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **more)

            return wrapped

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        target._rename_noreplace = counted(target._rename_noreplace)
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("policy", ["replace", "skip", "rename", "error"])
@pytest.mark.parametrize("existing", [False, True])
def test_killed_at_every_step_the_target_is_absent_old_or_new_and_a_repeat_mends_it(tmp_path: Path, policy: Any, existing: bool) -> None:
    content = random_bytes(20_000)
    options = replace(SMALL, on_conflict=policy)
    step, killed = 0, True
    while killed:
        top = tmp_path / str(step)
        top.mkdir()
        case = Case(top, content)
        if existing:
            case.copied.write_bytes(b"old")
        recorded = top / "chosen"
        killed = run_killed_at(step, lambda case=case, recorded=recorded: case.copy(options, events={"chosen": recorded.write_bytes}))  # type: ignore[misc]
        whole = {b"old", content} if existing else {content}
        assert {path.read_bytes() for path in case.target.iterdir() if path != case.temp} <= whole
        assert not existing or case.copied.exists()
        done = recorded.exists() and already_done(Tree(os.fsencode(case.target)), case.entry, recorded.read_bytes())
        if not done:
            case.copy(options)
        expected = ["f", "f (1)"] if existing and policy == "rename" else ["f"]
        assert case.names() == expected, f"killed at step {step}"
        kept = existing and policy != "replace"
        assert case.copied.read_bytes() == (b"old" if kept else content)
        assert (case.source / "f").read_bytes() == content
        step += 1
    assert step > 6 or (existing and policy in ("skip", "error"))


# --- names and folders ------------------------------------------------------------------------------------------------


def test_temporary_names_are_short_and_differ_by_job_and_position() -> None:
    names = {temp_name(job, position) for job in (b"a" * 16, b"b" * 16) for position in (0, 1, 2**40)}
    assert len(names) == 6 and all(len(name) <= 20 for name in names)
    assert temp_name(b"a" * 16, 1) == temp_name(b"a" * 16, 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a.txt", b"a (2).txt"),
        (b"a.tar.gz", b"a.tar (2).gz"),
        (b".profile", b".profile (2)"),
        (b"a", b"a (2)"),
        (b"a" * 255, b"a" * 251 + b" (2)"),
        (b"a" * 251 + b".txt", b"a" * 247 + b" (2).txt"),
        (b"a." + b"x" * 253, b"a." + b"x" * 249 + b" (2)"),
        ("\u00e9".encode() * 127, "\u00e9".encode() * 125 + b" (2)"),
    ],
)
def test_a_numbered_name_keeps_its_extension_and_fits(name: bytes, expected: bytes) -> None:
    assert numbered(name, 2) == expected and len(expected) <= 255


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b"])
def test_a_path_from_a_stored_job_cannot_leave_the_tree(case: Case, name: bytes) -> None:
    with pytest.raises(ValueError, match="no name"):
        checked(name)
    for path in (name, b"f/" + name, name + b"/f", b"../target/f", b"/etc/passwd"):
        if path not in (b"", b"a/b", b"a/b/f", b"f/a/b"):
            assert case.copy(entry=replace(case.entry, path=path)).status == "failed", path
    assert case.names() == []


def test_shown_escapes_what_does_not_print() -> None:
    assert shown(b"a b\xc3\xa9") == "a b\u00e9"
    assert shown(b"\xff\n\x1b[0m\xe2\x80\xae") == "\\xff\\x0a\\x1b[0m\\u202e"


def test_a_folder_in_use_stays_open_when_it_is_evicted(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).mkdir()
    tree = Tree(os.fsencode(tmp_path))
    first = tree.folder(b"0")
    inode = os.fstat(first.fd).st_ino
    for number in range(200):
        tree.folder(b"%d" % number)
    assert os.fstat(first.fd).st_ino == inode
    assert Place(first, b"x").look() is None
    descriptor = first.fd
    del first
    tree.folder(b"199")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_syncing_a_folder_syncs_that_folder(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    target.sync_folder(Tree(os.fsencode(case.target)).folder(b""))
    assert synced == [os.stat(case.target).st_ino]
