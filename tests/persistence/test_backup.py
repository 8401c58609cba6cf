"""A backup is one moment of a working library, as a library of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from callboard.jobs.errors import ConfigError, LibraryBusy, NotALibrary, StoreUnavailable
from callboard.persistence.backup import backup
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.lock import LOCK_FILE
from callboard.persistence.place import DATABASE

ROWS = 4_000


def fill(folder: LibraryFolder, rows: int = ROWS) -> None:
    """Rows that hold an invariant: as many of 'a' as of 'b', however many there are."""
    with folder.writer:
        for number in range(rows // 2):
            folder.writer.execute("INSERT INTO job_tags VALUES (?, zeroblob(50)), (?, zeroblob(50))", (f"a{number}", f"b{number}"))


def counts(folder: LibraryFolder) -> tuple[int, int]:
    ((a, b),) = folder.writer.execute("SELECT sum(tag < 'b'), sum(tag >= 'b') FROM job_tags").fetchall()
    return int(a or 0), int(b or 0)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[LibraryFolder]:
    folder = LibraryFolder.open(tmp_path / "library")
    fill(folder)
    yield folder
    folder.close()


def test_a_backup_is_a_library_of_its_own_that_opens_cleanly(library: LibraryFolder, tmp_path: Path) -> None:
    backup(library.reader(), tmp_path / "copy")
    assert sorted(os.listdir(tmp_path)) == ["copy", "library"]
    assert sorted(os.listdir(tmp_path / "copy")) == [DATABASE, LOCK_FILE]
    assert [(path.stat().st_mode & 0o777) for path in (tmp_path / "copy", tmp_path / "copy" / DATABASE)] == [0o700, 0o600]
    copy = LibraryFolder.open(tmp_path / "copy", create=False)
    assert (copy.epoch, copy.was_clean, counts(copy)) == (library.epoch + 1, True, (ROWS // 2, ROWS // 2))
    assert copy.writer.pragma("integrity_check") == "ok"
    assert copy.writer.pragma("journal_mode") == "wal"
    copy.close()


def test_it_is_one_moment_while_the_writer_goes_on(library: LibraryFolder, tmp_path: Path) -> None:
    steps = 0

    def between() -> None:
        nonlocal steps
        steps += 1
        assert steps < 1_000, "it starts again at every commit"
        with library.writer as writer:  # the same batch moves both, and rewrites what was copied already
            writer.execute("DELETE FROM job_tags WHERE tag IN (SELECT tag FROM job_tags WHERE tag < 'b' ORDER BY tag DESC LIMIT 20)")
            writer.execute("INSERT INTO job_tags VALUES (?, zeroblob(900))", (f"c{steps}",))

    backup(library.reader(), tmp_path / "copy", pages=2, between=between)
    assert steps > 20
    assert counts(library) == (ROWS // 2 - 20 * steps, ROWS // 2 + steps)
    copy = LibraryFolder.open(tmp_path / "copy")
    assert counts(copy) == (ROWS // 2, ROWS // 2)
    assert copy.writer.pragma("integrity_check") == "ok"
    copy.close()


def test_the_reader_is_as_before_and_the_wal_can_shrink_again(library: LibraryFolder, tmp_path: Path) -> None:
    reader = library.reader()
    backup(reader, tmp_path / "copy")
    assert not reader.in_transaction
    library.writer.execute("INSERT INTO job_tags VALUES ('z', x'')")
    assert reader.execute("SELECT count(*) FROM job_tags").fetchall() == [(ROWS + 1,)]
    library.writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    assert (library.path / "jobs.db-wal").stat().st_size == 0


def test_an_existing_target_is_refused_unless_it_is_a_backup_to_replace(library: LibraryFolder, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    backup(library.reader(), target)
    before = (target / DATABASE).read_bytes()
    with pytest.raises(ConfigError, match="exists.*replace=True"):
        backup(library.reader(), target)
    assert (target / DATABASE).read_bytes() == before
    library.writer.execute("DELETE FROM job_tags")
    backup(library.reader(), target, replace=True)
    assert sorted(os.listdir(tmp_path)) == ["copy", "library"]
    copy = LibraryFolder.open(target)
    assert counts(copy) == (0, 0)
    copy.abandon()  # with a -wal
    fill(library, 10)
    backup(library.reader(), target, replace=True)
    copy = LibraryFolder.open(target)
    assert (counts(copy), copy.was_clean) == ((5, 5), True)
    copy.close()


def test_nothing_but_a_backup_is_replaced(library: LibraryFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one").write_text("photo")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / DATABASE).write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / DATABASE).touch()
    (tmp_path / "link").symlink_to("photos")
    before = sorted(tmp_path.rglob("*"))
    for name in ("file", "photos", "other", "empty", "link"):
        with pytest.raises((ConfigError, NotALibrary)):
            backup(library.reader(), tmp_path / name, replace=True)
    locks = {tmp_path / "other" / LOCK_FILE, tmp_path / "empty" / LOCK_FILE}
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in locks] == before


def test_a_backup_that_somebody_has_open_is_not_replaced(library: LibraryFolder, tmp_path: Path) -> None:
    backup(library.reader(), tmp_path / "copy")
    copy = LibraryFolder.open(tmp_path / "copy")
    with pytest.raises(LibraryBusy):
        backup(library.reader(), tmp_path / "copy", replace=True)
    assert copy.still_there()
    copy.close()
    with pytest.raises((LibraryBusy, ConfigError)):
        backup(library.reader(), library.path, replace=True)
    assert library.still_there()


def test_an_interrupted_backup_leaves_nothing_under_the_targets_name(library: LibraryFolder, tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def between() -> None:
        raise Stop

    reader = library.reader()
    with pytest.raises(Stop):
        backup(reader, tmp_path / "copy", pages=4, between=between)
    assert os.listdir(tmp_path) == ["library"]
    assert not reader.in_transaction
    backup(reader, tmp_path / "copy")


def test_what_a_killed_backup_left_is_used_up_by_the_next(library: LibraryFolder, tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:  # its own library, since a child may not use ours
        other = LibraryFolder.open(tmp_path / "other")
        backup(other.reader(), tmp_path / "copy", pages=1, between=lambda: os._exit(9))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert (tmp_path / ".copy.partial" / DATABASE).exists()
    assert not (tmp_path / "copy").exists()
    backup(library.reader(), tmp_path / "copy")
    assert sorted(os.listdir(tmp_path)) == ["copy", "library", "other"]


def test_two_backups_to_one_target_do_not_mix(library: LibraryFolder, tmp_path: Path) -> None:
    second = library.reader()
    refused = 0

    def between() -> None:
        nonlocal refused
        with pytest.raises(LibraryBusy):
            backup(second, tmp_path / "copy")
        refused += 1

    backup(library.reader(), tmp_path / "copy", pages=64, between=between)
    assert refused > 1
    LibraryFolder.open(tmp_path / "copy").close()


def test_a_target_without_a_folder_is_an_error(library: LibraryFolder, tmp_path: Path) -> None:
    with pytest.raises(NotALibrary, match="no folder"):
        backup(library.reader(), tmp_path / "no" / "copy")


def test_the_backup_is_synced_before_it_has_its_name(library: LibraryFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, os.rename

    def spy_fsync(fd: int) -> None:
        order.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
        fsync(fd)

    def spy_rename(old: Path, new: Path) -> None:
        order.append(f"rename {os.path.basename(old)}")
        rename(old, new)

    reader = library.reader()
    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    backup(reader, tmp_path / "copy")
    assert order == ["sync jobs.db", "sync .copy.partial", "rename .copy.partial", f"sync {tmp_path.name}"]


def test_a_full_disk_leaves_the_library_and_the_target_as_they_were(library: LibraryFolder, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(StoreUnavailable, match="could not be made"):
            backup(library.reader(), small / "copy")
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert counts(library) == (ROWS // 2, ROWS // 2)
