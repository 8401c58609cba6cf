"""No Python code of the owner's process can drop SQLite's locks by opening the database: an audit hook refuses it."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callboard.jobs import live_files
from callboard.jobs.errors import StoreUnavailable
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import DATABASE, SHM, WAL

OTHER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0)
try:
    connection.execute("INSERT INTO meta VALUES ('intruder', 1)")
    connection.commit()
    print("wrote")
except sqlite3.OperationalError as error:
    print(error)
"""


def another_process_writes(database: Path) -> str:
    return subprocess.run([sys.executable, "-c", OTHER, str(database)], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def library(tmp_path: Path) -> Iterator[LibraryFolder]:
    folder = LibraryFolder.open(tmp_path / "library")
    yield folder
    folder.close()


def by_procfd(path: Path) -> None:
    fd = os.open(path, os.O_PATH)
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))
    finally:
        os.close(fd)


def by_symlink(path: Path) -> None:
    link = path.parent.parent / "link"
    link.symlink_to(path)
    link.read_bytes()


def by_hard_link(path: Path) -> None:
    link = path.parent.parent / "hard"
    link.hardlink_to(path)
    try:
        link.read_bytes()
    finally:
        link.unlink()


def by_working_folder(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        open(path.name).close()
    finally:
        os.chdir(here)


OPENINGS: dict[str, Callable[[Path], object]] = {
    "open": lambda path: open(path, "rb").close(),
    "open by bytes": lambda path: open(os.fsencode(path)).close(),
    "io.open for writing": lambda path: io.open(str(path), "r+b").close(),  # noqa: UP020
    "truncating": lambda path: open(path, "wb").close(),
    "os.open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "FileIO": lambda path: io.FileIO(path).close(),
    "open_code": lambda path: io.open_code(str(path)).close(),
    "read_bytes": lambda path: path.read_bytes(),
    "shutil.copy": lambda path: shutil.copy(path, path.parent.parent / "copy"),
    "sqlite3": lambda path: sqlite3.connect(path).close(),
    "sqlite3 by bytes": lambda path: sqlite3.connect(os.fsencode(path)).close(),
    "sqlite3 URI": lambda path: sqlite3.connect(f"file:{path.parent}/%6Aobs.db?mode=ro", uri=True).close(),
    "sqlite3 URI with authority": lambda path: sqlite3.connect(f"file://localhost{path}#x", uri=True).close(),
    "/proc/self/fd": by_procfd,
    "symlink": by_symlink,
    "hard link": by_hard_link,
    "relative": by_working_folder,
}


@pytest.mark.parametrize("how", OPENINGS)
def test_the_database_of_an_open_library_cannot_be_opened(library: LibraryFolder, how: str) -> None:
    size = (library.path / DATABASE).stat().st_size
    with pytest.raises(PermissionError, match=r"library.*library\.backup\(path\)"):
        OPENINGS[how](library.path / DATABASE)
    assert (library.path / DATABASE).stat().st_size == size


def test_after_every_refused_opening_sqlites_lock_still_stands(library: LibraryFolder) -> None:
    for opening in OPENINGS.values():
        with pytest.raises(PermissionError):
            opening(library.path / DATABASE)
    os.close(os.open(library.path / DATABASE, os.O_PATH))  # a look that needs no permission, and drops no lock
    assert another_process_writes(library.path / DATABASE) == "database is locked"


def test_without_the_hook_the_lock_would_be_gone(tmp_path: Path) -> None:
    """What all this is for: should it ever stop happening, the hook can go."""
    code = """
import sys
from callboard.jobs import live_files
from callboard.jobs.errors import StoreUnavailable
live_files.hold = lambda *args, **options: None
from callboard.persistence.folder import LibraryFolder
folder = LibraryFolder.open(sys.argv[1])
open(folder.path / "jobs.db", "rb").close()
print("opened", flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "library")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "opened\n"
        assert another_process_writes(tmp_path / "library" / DATABASE) == "wrote"
        process.kill()


def test_the_wal_is_guarded_and_the_lock_file_may_be_read(library: LibraryFolder) -> None:
    library.writer.execute("INSERT INTO meta VALUES ('x', 1)")
    with pytest.raises(PermissionError):
        (library.path / WAL).read_bytes()
    assert (library.path / "library.lock").read_bytes().startswith(b"callboard ")


def test_every_file_of_the_library_is_live_also_one_that_appears_later(library: LibraryFolder) -> None:
    for name in (DATABASE, WAL, "library.lock"):
        assert live_files.is_live(os.stat(library.path / name))
    (library.path / SHM).write_bytes(b"")  # as a foreign reader may leave one
    assert live_files.is_live(os.stat(library.path / SHM))
    with pytest.raises(PermissionError):
        (library.path / SHM).read_bytes()
    (library.path / "notes").write_bytes(b"")
    assert not live_files.is_live(os.stat(library.path / "notes"))


def test_a_database_that_was_moved_is_guarded_where_it_is_now(library: LibraryFolder) -> None:
    moved = library.path.with_name("moved")
    library.path.rename(moved)
    assert not library.still_there()
    assert not live_files.is_live(os.stat(moved))
    assert live_files.is_live(os.stat(moved / DATABASE))
    library.path.mkdir()
    (library.path / DATABASE).write_bytes(b"another")
    assert live_files.is_live(os.stat(library.path / DATABASE))  # it has the name, and the next opener would take it
    with pytest.raises(PermissionError):
        (moved / DATABASE).read_bytes()
    library.close()
    for path in (moved, library.path):
        assert not live_files.is_live(os.stat(path / DATABASE))
        (path / DATABASE).read_bytes()


def test_a_library_whose_wal_is_gone_is_not_opened_anew_without_it(library: LibraryFolder) -> None:
    (library.path / WAL).rename(library.path / "old wal")  # as if the disk had lost it
    with pytest.raises(StoreUnavailable, match="or its jobs.db-wal, is not the file that was opened"):
        library.reopen()
    assert (library.path / "old wal").read_bytes()  # no file of the library any more


def test_everything_else_opens_as_before(library: LibraryFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    with open(fd) as file:
        assert file.read() == "text"
    fd = os.open(tmp_path / "file", os.O_PATH)
    with open(f"/proc/self/fd/{fd}") as file:
        assert file.read() == "text"
    os.close(fd)
    sqlite3.connect(":memory:").close()
    sqlite3.connect("file::memory:", uri=True).close()
    sqlite3.connect(tmp_path / "mine.db").close()
    wrongs: list[Any] = ["no such file", "with \0 in it", 1.5, b"\xff" * 5_000]
    for wrong, error in zip(wrongs, (FileNotFoundError, ValueError, TypeError, OSError), strict=True):
        with pytest.raises(error):
            open(wrong)


def test_after_closing_the_files_open_again(tmp_path: Path) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    folder.close()
    status = os.stat(folder.path / DATABASE)
    assert not live_files.is_live(status)
    assert (folder.path / DATABASE).read_bytes()
    shutil.copytree(folder.path, tmp_path / "copy")
    LibraryFolder.open(tmp_path / "copy").close()


def test_a_refused_opening_leaves_nothing_guarded(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("a text")
    with pytest.raises(Exception, match="no SQLite database"):
        LibraryFolder.open(tmp_path)
    assert (tmp_path / DATABASE).read_text() == "a text"


def test_a_forked_child_is_not_guarded_against(library: LibraryFolder) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            (library.path / DATABASE).read_bytes()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert another_process_writes(library.path / DATABASE) == "database is locked"
