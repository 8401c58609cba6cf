"""A library's folder: how it is made, opened, left and closed, and what each leaves behind."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from callboard.jobs.errors import LibraryClosed, NotALibrary, StoreUnavailable, UnsafeLibrary
from callboard.persistence import migrate, place
from callboard.persistence.connection import open_reader
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.lock import LOCK_FILE, acquire
from callboard.persistence.migrate import NEW
from callboard.persistence.place import APPLICATION_ID, DATABASE, WAL


def meta(folder: LibraryFolder, key: str) -> object:
    found: dict[object, object] = {name: value for name, value in folder.writer.execute("SELECT key, value FROM meta")}
    return found.get(key)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


# --- making, closing, leaving -------------------------------------------------------------------------------------------


def test_a_new_library_is_private_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            folder = LibraryFolder.open(tmp_path / f"library {umask}")
        finally:
            os.umask(before)
        assert mode(folder.path) == 0o700
        assert {name: mode(folder.path / name) for name in os.listdir(folder.path)} == {DATABASE: 0o600, WAL: 0o600, LOCK_FILE: 0o600}
        folder.close()


def test_a_new_library_is_whole_and_ours_from_its_first_page_on(tmp_path: Path) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    assert (folder.epoch, folder.was_clean, folder.path) == (1, True, tmp_path / "library")
    folder.abandon()
    header = (folder.path / DATABASE).read_bytes()[:100]
    assert int.from_bytes(header[68:72]) == APPLICATION_ID
    assert header[18:20] == b"\2\2"  # WAL mode


def test_closing_cleanly_leaves_one_file_that_says_so(tmp_path: Path) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    assert meta(folder, "clean") == 0
    folder.writer.execute("INSERT INTO meta VALUES ('kept', 1); BEGIN; INSERT INTO meta VALUES ('lost', 1)")
    reader = folder.reader()
    folder.close()
    folder.close()
    assert sorted(os.listdir(folder.path)) == [DATABASE, LOCK_FILE]
    with pytest.raises(apsw.ConnectionClosedError):
        reader.execute("SELECT 1")
    for use in (lambda: folder.writer, folder.reader, folder.check_owner, folder.reopen):
        with pytest.raises(LibraryClosed):
            use()
    again = LibraryFolder.open(tmp_path / "library")
    assert (again.epoch, again.was_clean, meta(again, "kept"), meta(again, "lost")) == (2, True, 1, None)
    again.close()


def test_what_cannot_be_moved_out_of_the_wal_stays_in_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    reader = open_reader(folder.path / DATABASE)  # somebody in this process who does not let go
    reader.execute("BEGIN; SELECT * FROM meta").fetchall()
    folder.writer.execute("INSERT INTO meta VALUES ('kept', 1)")
    with caplog.at_level(logging.WARNING, "callboard"):
        folder.close()
    assert "could not be closed cleanly" in caplog.text
    reader.close()
    again = LibraryFolder.open(tmp_path / "library")
    assert (again.epoch, meta(again, "kept")) == (2, 1)
    again.close()


def test_abandoning_leaves_what_a_crash_leaves(tmp_path: Path) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    folder.writer.execute("INSERT INTO meta VALUES ('kept', 1); BEGIN; INSERT INTO meta VALUES ('lost', 1)")
    size = (folder.path / WAL).stat().st_size
    folder.abandon()
    folder.abandon()
    assert (folder.path / WAL).stat().st_size == size
    again = LibraryFolder.open(tmp_path / "library")
    assert (again.epoch, again.was_clean, meta(again, "kept"), meta(again, "lost")) == (2, False, 1, None)
    again.close(clean=False)
    last = LibraryFolder.open(tmp_path / "library")
    assert (last.epoch, last.was_clean) == (3, False)
    last.close()


def test_the_connections_are_closed_before_the_lock_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    connections = [folder.writer, folder.reader(), folder.reader()]
    released = folder.lock.release

    def release() -> None:
        for connection in connections:
            with pytest.raises(apsw.ConnectionClosedError):
                connection.pragma("journal_mode")
        released()
        connections.clear()

    monkeypatch.setattr(folder.lock, "release", release)
    folder.close()
    assert connections == []


def test_a_reader_can_be_given_back(tmp_path: Path) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    reader = folder.reader()
    assert reader.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchall() == [(1,)]
    folder.release_reader(reader)
    with pytest.raises(apsw.ConnectionClosedError):
        reader.execute("SELECT 1")
    folder.close()


def test_recovery_is_in_the_transaction_that_opens(tmp_path: Path) -> None:
    seen: list[tuple[int, bool]] = []

    def recover(writer: apsw.Connection, epoch: int, clean: bool) -> None:
        seen.append((epoch, clean))
        writer.execute("INSERT INTO meta VALUES (?, 1)", (f"recovered {epoch}",))
        if epoch == 2:
            raise RuntimeError("in the middle")

    LibraryFolder.open(tmp_path / "library", recover=recover).abandon()
    with pytest.raises(RuntimeError):
        LibraryFolder.open(tmp_path / "library", recover=recover)
    folder = LibraryFolder.open(tmp_path / "library")
    assert (seen, folder.epoch, meta(folder, "recovered 1"), meta(folder, "recovered 2")) == ([(1, True), (2, False)], 2, 1, None)
    folder.close()


def test_reopening_keeps_the_lock_and_the_epoch_and_undoes_what_was_not_committed(tmp_path: Path) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    reader = folder.reader()
    writer = folder.writer
    writer.execute("INSERT INTO meta VALUES ('kept', 1); BEGIN; INSERT INTO meta VALUES ('lost', 1)")
    folder.reopen()
    assert folder.writer is not writer
    assert (folder.epoch, meta(folder, "epoch"), meta(folder, "kept"), meta(folder, "lost")) == (1, 1, 1, None)
    assert folder.lock.held and folder.still_there()
    with pytest.raises(apsw.ConnectionClosedError):
        reader.execute("SELECT 1")
    assert folder.reader().execute("SELECT count(*) FROM meta").fetchall() == [(4,)]
    folder.close()


def test_a_database_that_is_gone_is_noticed_and_not_reopened(tmp_path: Path) -> None:
    harms: tuple[Callable[[Path], object], ...] = (
        Path.unlink,
        lambda path: path.rename(path.with_name("elsewhere")),
        lambda path: path.parent.rename(tmp_path / "away"),
    )
    for number, harm in enumerate(harms):
        folder = LibraryFolder.open(tmp_path / f"library {number}")
        assert folder.still_there()
        harm(folder.path / DATABASE)
        assert not folder.still_there()
        with pytest.raises((StoreUnavailable, NotALibrary)):
            folder.reopen()
        folder.abandon()


def test_everything_new_is_synced_file_first_then_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, os.rename

    def spy_fsync(fd: int) -> None:
        order.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
        fsync(fd)

    def spy_rename(old: Path, new: Path) -> None:
        order.append(f"rename {os.path.basename(old)}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    LibraryFolder.open(tmp_path / "library").close()
    assert order == [f"sync {tmp_path.name}", f"sync {NEW}", f"rename {NEW}", "sync library", "sync library"]  # the last: the `-wal`


def test_a_library_half_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    for owner, step in ((place, "make_private_file"), (migrate, "create"), (place, "sync_file"), (os, "rename"), (place, "sync_folder")):
        (tmp_path / step).mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, dies)
            with pytest.raises(KeyboardInterrupt):
                LibraryFolder.open(tmp_path / step)
        folder = LibraryFolder.open(tmp_path / step)
        assert folder.epoch == 1
        folder.close()
        assert sorted(os.listdir(folder.path)) == [DATABASE, LOCK_FILE]


# --- where it lies --------------------------------------------------------------------------------------------------------


def test_a_missing_parent_is_an_error_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotALibrary, match="nor the folder"):
        LibraryFolder.open(tmp_path / "no" / "library")
    assert os.listdir(tmp_path) == []


def test_without_create_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotALibrary, match="there is no library"):
        LibraryFolder.open(tmp_path / "library", create=False)
    with pytest.raises(NotALibrary, match="holds no jobs.db"):
        LibraryFolder.open(tmp_path, create=False)
    assert os.listdir(tmp_path) == []
    LibraryFolder.open(tmp_path / "library").close()
    LibraryFolder.open(tmp_path / "library", create=False).close()


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "file", tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(NotALibrary, match="is not a folder"):
            LibraryFolder.open(path)
    for path in (tmp_path / "loop", tmp_path / "file" / "library", tmp_path / ("x" * 300), tmp_path / ("y" * 250) / ("z" * 250)):
        with pytest.raises((UnsafeLibrary, NotALibrary)):
            LibraryFolder.open(path)
    with pytest.raises(UnsafeLibrary, match="not UTF-8"):
        LibraryFolder.open(tmp_path / os.fsdecode(b"\xff"))
    assert (tmp_path / "file").read_text() == "text"


def test_a_link_to_the_folder_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("library")
    folder = LibraryFolder.open(tmp_path / "link")
    assert folder.path == tmp_path / "library"
    (tmp_path / "link").unlink()
    assert folder.still_there()
    folder.close()


def test_a_network_file_system_is_refused_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("nfs4", "cifs", "fuse.sshfs", "9p", "fuse"):
        monkeypatch.setattr(place, "filesystem", lambda folder, kind=kind: kind)
        with pytest.raises(UnsafeLibrary, match=kind):
            LibraryFolder.open(tmp_path / "library")
        assert os.listdir(tmp_path / "library") == []
    folder = LibraryFolder.open(tmp_path / "library", allow_network_fs=True)
    folder.close()
    for kind in ("ext4", "tmpfs", "overlay", "btrfs", "xfs", "zfs", "fuseblk", ""):
        monkeypatch.setattr(place, "filesystem", lambda folder, kind=kind: kind)
        LibraryFolder.open(tmp_path / "library").close()


def test_the_file_system_is_known_by_name(tmp_path: Path) -> None:
    assert place.filesystem(Path("/proc/self")) == "proc"
    told = subprocess.run(["findmnt", "--noheadings", "--output", "FSTYPE", "--target", tmp_path], capture_output=True, text=True)
    if told.returncode == 0:
        assert place.filesystem(tmp_path) == told.stdout.split()[-1]  # one line for each mount on the same point
    assert place.filesystem(tmp_path / "missing") == ""


def test_a_folder_that_others_may_write_to_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library").chmod(0o777)
    with caplog.at_level(logging.WARNING, "callboard"):
        LibraryFolder.open(tmp_path / "library").close()
    assert "0777" in caplog.text
    caplog.clear()
    (tmp_path / "library").chmod(0o755)
    LibraryFolder.open(tmp_path / "library").close()
    assert caplog.text == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_another_owners_library_and_a_read_only_folder_are_refused() -> None:
    code = """
import os, sys
from callboard.jobs.errors import UnsafeLibrary
from callboard.persistence.folder import LibraryFolder
os.setegid(65534); os.seteuid(65534)
for name in ("roots", "mine/library", "mine", "readable"):
    try:
        LibraryFolder.open(os.path.join(sys.argv[1], name))
    except UnsafeLibrary as error:
        print(error)
"""
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        LibraryFolder.open(Path(base, "roots")).close()
        os.chmod(Path(base, "roots"), 0o755)
        for name in ("mine", "readable"):
            os.mkdir(Path(base, name))
            os.chown(Path(base, name), 65534, 65534)
            os.chmod(Path(base, name), 0o555)
        Path(base, "readable", DATABASE).touch()
        done = subprocess.run([sys.executable, "-c", code, base], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert len(said) == 4
    assert "belongs to user 0" in said[0]
    assert all("is read-only" in line for line in said[1:])


def test_a_full_lock_does_not_stop_another_library(tmp_path: Path) -> None:
    first, second = LibraryFolder.open(tmp_path / "a"), LibraryFolder.open(tmp_path / "b")
    first.close()
    second.writer.execute("INSERT INTO meta VALUES ('x', 1)")
    assert not (tmp_path / "a" / WAL).exists()
    second.close()


def test_a_refused_library_is_left_unlocked(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("a text")
    with pytest.raises(NotALibrary):
        LibraryFolder.open(tmp_path)
    acquire(tmp_path, stays=True).release()
