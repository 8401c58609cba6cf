"""What lies in the folder may be anything: it is refused by name and left as it was, or does not run."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import Bench

from callboard.jobs.errors import NewerSchema, NotALibrary, UnsafeLibrary
from callboard.persistence import wal
from callboard.persistence.examination import examine
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import APPLICATION_ID, DATABASE, JOURNAL, WAL

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 8


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "library.lock" and path.is_file()}


def refused_untouched(folder: Path, error: type[Exception], match: str) -> None:
    before = everything_in(folder)
    for _ in range(2):
        with pytest.raises(error, match=match):
            LibraryFolder.open(folder)
    assert everything_in(folder) == before


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library that was closed cleanly."""
    LibraryFolder.open(tmp_path / "library").close()
    return tmp_path / "library"


def change(library: Path, *statements: str) -> None:
    """Change the closed library as somebody with SQLite's shell could."""
    connection = sqlite3.connect(library / DATABASE, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


# --- no library ---------------------------------------------------------------------------------------------------------


NO_DATABASES = {"text": b"dear diary\n" * 100, "png": PNG, "short": b"x", "old": b"SQLite format 2\0" + bytes(5_000)}


@pytest.mark.parametrize("content", NO_DATABASES.values(), ids=NO_DATABASES)
def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DATABASE).write_bytes(content)
    refused_untouched(tmp_path, NotALibrary, "is no SQLite database")


@pytest.mark.parametrize("application_id", [0, 0x0F055112, APPLICATION_ID + 1])
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_another_applications_database_is_left_as_it_is(tmp_path: Path, application_id: int, mode: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    connection = sqlite3.connect(elsewhere / DATABASE)
    connection.executescript(f"PRAGMA journal_mode = {mode}; PRAGMA application_id = {application_id}; CREATE TABLE meta (key, value)")
    if mode == "wal":
        connection.execute("PRAGMA wal_checkpoint")
        connection.execute("INSERT INTO meta VALUES ('in the', 'wal')")
        connection.commit()
    shutil.copytree(elsewhere, tmp_path / "library")  # while it is open: with its -wal
    connection.close()
    (tmp_path / "library" / "jobs.db-shm").unlink(missing_ok=True)
    assert (tmp_path / "library" / WAL).exists() == (mode == "wal")
    refused_untouched(tmp_path / "library", NotALibrary, "another application")


def test_an_empty_file_becomes_a_library_only_with_create(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()
    with pytest.raises(NotALibrary, match="is empty"):
        LibraryFolder.open(tmp_path, create=False)
    assert (tmp_path / DATABASE).stat().st_size == 0
    folder = LibraryFolder.open(tmp_path)
    assert folder.epoch == 1
    folder.close()


def lay_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path ends at 107 bytes
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def lay_device(path: Path) -> None:
    os.mknod(path, 0o020600, os.makedev(1, 3))


@pytest.mark.parametrize("name", [DATABASE, WAL])
@pytest.mark.parametrize("lay", [Path.mkdir, os.mkfifo, lay_socket, lay_device])
def test_what_is_no_regular_file_is_refused_without_opening_it(library: Path, name: str, lay: Callable[[Path], object]) -> None:
    (library / name).unlink(missing_ok=True)
    try:
        lay(library / name)
    except PermissionError:
        pytest.skip("needs root")
    refused_untouched(library, NotALibrary, "is no regular file")


@pytest.mark.parametrize("name", [DATABASE, WAL])
def test_links_to_the_files_are_refused(library: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes((library / DATABASE).read_bytes())
    (library / name).unlink(missing_ok=True)
    (library / name).symlink_to(victim)
    refused_untouched(library, UnsafeLibrary, "symbolic link")
    (library / name).unlink()
    (library / name).hardlink_to(victim)
    refused_untouched(library, UnsafeLibrary, "2 names")
    victim.unlink()
    if name == DATABASE:
        LibraryFolder.open(library).close()


def test_a_strangers_rollback_journal_is_not_played_back(library: Path) -> None:
    (library / JOURNAL).write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
    refused_untouched(library, NotALibrary, "rollback journal")
    (library / JOURNAL).write_bytes(b"")  # one that is over
    LibraryFolder.open(library).close()


def test_a_wal_without_its_database_is_kept(library: Path) -> None:
    folder = LibraryFolder.open(library)
    folder.writer.execute("INSERT INTO meta VALUES ('x', 1)")
    folder.abandon()
    (library / DATABASE).unlink()
    refused_untouched(library, NotALibrary, "has a jobs.db-wal, with the last writes, but no jobs.db")


def test_a_wal_that_was_lost_is_warned_about(library: Path, caplog: pytest.LogCaptureFixture) -> None:
    LibraryFolder.open(library).abandon()
    (library / WAL).unlink()
    with caplog.at_level(logging.WARNING, "callboard"):
        folder = LibraryFolder.open(library)
    assert not folder.was_clean
    assert "the last writes may be lost" in caplog.text
    folder.close()
    caplog.clear()
    LibraryFolder.open(library).close()
    assert caplog.text == ""


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
@pytest.mark.parametrize("generation", [1, 3])
def test_row_12_a_wal_of_another_library_is_refused_and_nothing_is_changed(
    tmp_path: Path, generation: int, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that has begun anew since its library was opened."""
    monkeypatch.setattr(wal, "ROOM_PAGES", 1)
    monkeypatch.setattr(wal, "PAGES_BEFORE_CHECKPOINT", 1)
    with Bench(tmp_path / "own") as own, Bench(tmp_path / "other") as other:
        own.add()
        for _ in range(generation):
            other.store.tidy()
            other.add()
        mixed = tmp_path / "mixed"
        mixed.mkdir(0o700)
        if not killed and own.folder is not None:
            own.folder.close()
        subprocess.run(["cp", own.path / DATABASE, other.path / WAL, mixed], check=True)
    before = {name: (mixed / name).read_bytes() for name in (DATABASE, WAL)}
    with pytest.raises(NotALibrary, match="jobs.db-wal' belongs to another library than jobs.db; nothing was changed"):
        LibraryFolder.open(mixed)
    assert {name: (mixed / name).read_bytes() for name in (DATABASE, WAL)} == before
    assert any("belongs to another library" in finding.text and finding.damage for finding in examine(mixed))


def test_a_wal_that_came_back_to_a_library_that_was_closed_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    folder.writer.execute("UPDATE meta SET value = 1 WHERE key = 'clean'")
    folder.abandon()
    with caplog.at_level(logging.WARNING, "callboard"):
        LibraryFolder.open(tmp_path / "library").close()
    assert "another library's" in caplog.text


# --- a library, but not as we made it -----------------------------------------------------------------------------------

ADDITIONS = {
    "a trigger": "CREATE TRIGGER bang AFTER UPDATE ON meta BEGIN DELETE FROM jobs; END",
    "a view": "CREATE VIEW seen AS SELECT * FROM jobs",
    "a table": "CREATE TABLE mine (x)",
    "an index": "CREATE INDEX slow ON meta (value)",
    "an expression index": "CREATE INDEX slow ON meta (length(zeroblob(500000000)))",
    "a virtual table": "CREATE VIRTUAL TABLE words USING fts5(x)",
    "a column": "ALTER TABLE jobs ADD COLUMN mine TEXT",
    "a generated column": "ALTER TABLE jobs ADD COLUMN mine TEXT AS (hex(zeroblob(1000000)))",
    "a table less": "DROP TABLE job_tags",
    "an index less": "DROP INDEX jobs_due",
    "a table renamed": "ALTER TABLE job_tags RENAME TO tags",
}


@pytest.mark.parametrize("what", ADDITIONS)
def test_a_schema_with_additions_changes_or_gaps_is_refused(library: Path, what: str) -> None:
    change(library, ADDITIONS[what])
    refused_untouched(library, NotALibrary, "has (additions|changes|gaps)")


def test_the_error_names_what_differs(library: Path) -> None:
    change(library, ADDITIONS["a trigger"])
    refused_untouched(library, NotALibrary, "has additions .trigger 'bang'.")
    change(library, "DROP TRIGGER bang", "DROP INDEX jobs_due")
    refused_untouched(library, NotALibrary, "has gaps .index 'jobs_due'.")
    change(library, "CREATE INDEX jobs_due ON jobs (run_at)")
    refused_untouched(library, NotALibrary, "has changes .index 'jobs_due'.")
    change(library, "DROP INDEX jobs_due", "CREATE   INDEX jobs_due /* the\nsame */ ON jobs(run_at) -- as ever\nWHERE run_at IS NOT NULL")
    LibraryFolder.open(library).close()


VIEW = "CREATE VIEW meta AS SELECT 1 AS key, zeroblob(500000000) AS value"
TRIGGER = "CREATE TRIGGER bang AFTER UPDATE ON meta BEGIN SELECT 1; END"
FORGED = {
    "a check": "SET sql = replace(sql, 'value ANY', 'value ANY CHECK (length(hex(zeroblob(400000000))) > 0)') WHERE name = 'meta'",
    "a view for a table": f"SET type = 'view', rootpage = 0, sql = '{VIEW}' WHERE name = 'meta'",
    "a trigger for an index": f"SET type = 'trigger', rootpage = 0, tbl_name = 'meta', sql = '{TRIGGER}' WHERE name = 'jobs_due'",
    "no SQL": "SET sql = 'CREATE TABLE meta (' WHERE name = 'meta'",
    "no such page": "SET rootpage = 99999 WHERE name = 'meta'",
    "null": "SET sql = NULL WHERE name = 'meta'",
    "other types": "SET type = x'00', name = x'ff', tbl_name = 7",
}


@pytest.mark.parametrize("what", FORGED)
def test_a_schema_forged_by_hand_is_refused(library: Path, what: str) -> None:
    change(library, "PRAGMA writable_schema = 1", "UPDATE sqlite_schema " + FORGED[what])
    refused_untouched(library, NotALibrary, "is damaged|has (additions|changes|gaps)")


def test_what_analyze_leaves_is_no_addition(library: Path) -> None:
    change(library, "INSERT INTO job_tags VALUES ('x', x'00')", "ANALYZE")
    LibraryFolder.open(library).close()


def test_a_newer_schema_is_refused(library: Path) -> None:
    change(library, "PRAGMA user_version = 99")
    refused_untouched(library, NewerSchema, "version 99.*upgrade callboard")


@pytest.mark.parametrize("version", [0, -1])
def test_a_schema_version_that_never_was_is_refused(library: Path, version: int) -> None:
    change(library, f"PRAGMA user_version = {version}")
    refused_untouched(library, NotALibrary, f"schema version {version}")


@pytest.mark.parametrize("value", ["'banana'", "-1", "1.5", "x'00'", "9223372036854775807", "NULL"])
def test_a_damaged_epoch_is_refused(library: Path, value: str) -> None:
    change(library, f"UPDATE meta SET value = {value} WHERE key = 'epoch'")
    refused_untouched(library, NotALibrary, "meta is damaged")


def test_a_damaged_page_is_found_after_a_crash(library: Path) -> None:
    connection = sqlite3.connect(library / DATABASE, isolation_level=None)
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO job_tags VALUES (?, ?)", ((f"{number:080}", b"x" * 16) for number in range(2_000)))
    connection.execute("COMMIT")
    connection.execute("UPDATE meta SET value = 0 WHERE key = 'clean'")
    connection.close()
    data = bytearray((library / DATABASE).read_bytes())
    leaf = data.index(f"{1_000:080}".encode()) // 4096 * 4096
    data[leaf : leaf + 100] = b"\xff" * 100
    (library / DATABASE).write_bytes(data)
    refused_untouched(library, NotALibrary, "is damaged")


def test_a_truncated_database_is_refused(library: Path) -> None:
    data = (library / DATABASE).read_bytes()
    for length in (100, 512, 4096, len(data) - 4096):
        (library / DATABASE).write_bytes(data[:length])
        with pytest.raises(NotALibrary):
            LibraryFolder.open(library)
        assert (library / DATABASE).read_bytes() == data[:length]


def test_a_damaged_row_does_not_close_the_library(library: Path, caplog: pytest.LogCaptureFixture) -> None:
    declared, lax = "message TEXT    NOT NULL", "message TEXT"
    forge = "UPDATE sqlite_schema SET sql = replace(sql, '{}', '{}') WHERE name = 'job_warnings'"
    change(library, "PRAGMA writable_schema = 1", forge.format(declared, lax))
    change(library, "INSERT INTO job_warnings VALUES (x'00', 1, NULL, NULL)")
    change(library, "PRAGMA writable_schema = 1", forge.format(lax, declared))
    change(library, "UPDATE meta SET value = 0 WHERE key = 'clean'")
    with caplog.at_level(logging.WARNING, "callboard"):
        folder = LibraryFolder.open(library)
    assert "NULL value in job_warnings.message" in caplog.text
    assert folder.writer.pragma("ignore_check_constraints") == 0
    folder.close()
