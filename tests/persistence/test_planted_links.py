"""What somebody has laid where callboard is about to write leads nowhere: not to another folder, nor to a file with a second name."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from callboard.jobs.errors import UnsafeLibrary
from callboard.persistence import reserve
from callboard.persistence.backup import backup
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import DATABASE
from callboard.persistence.salvage import salvage


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Another library of the same user, closed."""
    LibraryFolder.open(tmp_path / "victim").close()
    return tmp_path / "victim"


def by_backup(library: Path, target: Path) -> None:
    folder = LibraryFolder.open(library)
    try:
        backup(folder.reader(), target, replace=True)
    finally:
        folder.close()


def by_salvage(library: Path, target: Path) -> None:
    salvage(library, target, 0)


@pytest.mark.parametrize("way", [by_backup, by_salvage])
def test_a_link_in_the_place_of_the_unfinished_copy_empties_no_other_library(tmp_path: Path, victim: Path, way: Callable[[Path, Path], None]) -> None:
    LibraryFolder.open(tmp_path / "library").close()
    before = (victim / DATABASE).read_bytes()
    (tmp_path / ".copy.partial").symlink_to(victim)
    with pytest.raises(UnsafeLibrary, match=r"\.copy\.partial' is a symbolic link: remove it"):
        way(tmp_path / "library", tmp_path / "copy")
    assert (victim / DATABASE).read_bytes() == before and not (tmp_path / "copy").exists()
    (tmp_path / ".copy.partial").unlink()
    way(tmp_path / "library", tmp_path / "copy")


def test_a_link_in_the_place_of_the_replaced_backup_empties_no_other_library(tmp_path: Path, victim: Path) -> None:
    LibraryFolder.open(tmp_path / "library").close()
    by_backup(tmp_path / "library", tmp_path / "copy")
    before = (victim / DATABASE).read_bytes()
    (tmp_path / ".copy.replaced").symlink_to(victim)
    with pytest.raises(UnsafeLibrary, match=r"\.copy\.replaced' is a symbolic link: remove it"):
        by_backup(tmp_path / "library", tmp_path / "copy")
    assert (victim / DATABASE).read_bytes() == before
    LibraryFolder.open(tmp_path / "copy").close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder away")
@pytest.mark.parametrize("way", [by_backup, by_salvage])
def test_a_folder_of_another_user_is_not_copied_into(tmp_path: Path, way: Callable[[Path, Path], None]) -> None:
    LibraryFolder.open(tmp_path / "library").close()
    (tmp_path / ".copy.partial").mkdir(mode=0o777)
    os.chown(tmp_path / ".copy.partial", 65534, 65534)
    with pytest.raises(UnsafeLibrary, match="belongs to user 65534"):
        way(tmp_path / "library", tmp_path / "copy")


@pytest.mark.parametrize("lay", [os.symlink, os.link])
def test_the_reserve_is_no_other_file(tmp_path: Path, lay: Callable[[Path, Path], None]) -> None:
    (tmp_path / "library").mkdir()
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    lay(mine, tmp_path / "library" / reserve.RESERVE)
    assert reserve.make(tmp_path / "library")
    assert mine.read_bytes() == b"mine"
    status = os.lstat(tmp_path / "library" / reserve.RESERVE)
    assert stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size == reserve.BYTES


def test_a_new_database_takes_no_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    for name in ("jobs.db.new", "jobs.db.new-wal", "jobs.db.new-journal"):
        (tmp_path / "library" / name).symlink_to(mine)
    LibraryFolder.open(tmp_path / "library").close()
    assert mine.read_bytes() == b"mine"
