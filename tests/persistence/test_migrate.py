"""An older schema becomes the newest in one transaction or stays as it was; a newer one is refused."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import apsw
import pytest

from callboard.jobs.errors import NewerSchema, NotALibrary
from callboard.persistence import migrate
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.migrate import MIGRATIONS, Migration, check_schema, create, newest, schema_of, version_of

META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID"
FIRST = (Migration(1, META + "; CREATE TABLE jobs (id BLOB PRIMARY KEY) STRICT"),)
SECOND = (*FIRST, Migration(2, "ALTER TABLE jobs ADD COLUMN colour TEXT; CREATE INDEX /* as asked for */ jobs_colour ON jobs (colour)"))


def paint(connection: apsw.Connection) -> None:
    connection.execute("UPDATE jobs SET colour = 'red'")


THIRD = (*SECOND, Migration(3, paint))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A library of schema version 1 with one job."""
    folder = LibraryFolder.open(tmp_path / "library", migrations=FIRST)
    folder.writer.execute("INSERT INTO jobs VALUES (x'01')")
    folder.close()
    return folder.path


def test_todays_schema_is_made_and_recognised() -> None:
    connection = apsw.Connection(":memory:")
    create(connection)
    assert version_of(connection) == newest() == MIGRATIONS[-1].version
    assert {"meta", "jobs", "job_history", "job_checkpoints"} <= {name for _, name, _, _ in schema_of(connection)}
    check_schema(connection)
    assert [migration.version for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    connection.close()


def test_an_older_library_is_migrated_and_kept_as_it_was_beside(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "callboard"):
        folder = LibraryFolder.open(old, migrations=THIRD)
    assert "becomes version 3, from 1" in caplog.text
    assert folder.writer.execute("SELECT id, colour FROM jobs").fetchall() == [(b"\1", "red")]
    assert (folder.epoch, version_of(folder.writer, THIRD)) == (2, 3)
    folder.close()
    kept = LibraryFolder.open(old / "before-schema-3", create=False, migrations=FIRST)
    assert kept.writer.execute("SELECT * FROM jobs").fetchall() == [(b"\1",)]
    kept.close()
    LibraryFolder.open(old, migrations=THIRD).close()
    with pytest.raises(NewerSchema, match="version 3, this callboard knows up to 1"):
        LibraryFolder.open(old, migrations=FIRST)


def test_a_library_made_new_and_one_migrated_have_the_same_schema(old: Path, tmp_path: Path) -> None:
    migrated = LibraryFolder.open(old, migrations=SECOND)
    made = LibraryFolder.open(tmp_path / "new", migrations=SECOND)
    assert schema_of(migrated.writer) == schema_of(made.writer)
    migrated.close()
    made.close()


def fail(connection: apsw.Connection) -> None:
    connection.execute("DELETE FROM jobs")
    raise RuntimeError("half-way")


def end_early(connection: apsw.Connection) -> None:
    connection.execute("COMMIT")


@pytest.mark.parametrize("broken", ["CREATE TABLE more (x); CREATE TABLE meta (y)", fail], ids=["SQL", "function"])
def test_a_migration_that_fails_leaves_the_old_library_whole(old: Path, broken: str) -> None:
    for _ in range(2):  # the second time it finds the copy that the first one made
        with pytest.raises((apsw.SQLError, RuntimeError)):
            LibraryFolder.open(old, migrations=(*SECOND, Migration(3, broken)))
        folder = LibraryFolder.open(old, migrations=FIRST)
        assert folder.writer.execute("SELECT * FROM jobs").fetchall() == [(b"\1",)]
        folder.close()


def test_a_migration_that_ends_the_transaction_is_a_mistake_of_ours() -> None:
    connection = apsw.Connection(":memory:")
    with pytest.raises(AssertionError, match="version 2 ended the transaction"):
        create(connection, (*FIRST, Migration(2, end_early)))
    connection.close()


def test_killed_within_a_migration_the_library_is_old_or_new(old: Path) -> None:
    def die(connection: apsw.Connection) -> None:
        paint(connection)
        os._exit(9)

    pid = os.fork()
    if pid == 0:
        try:
            LibraryFolder.open(old, migrations=(*SECOND, Migration(3, die)))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    folder = LibraryFolder.open(old, migrations=FIRST)
    assert folder.writer.execute("SELECT * FROM jobs").fetchall() == [(b"\1",)]
    folder.close()


def test_what_was_added_to_an_old_schema_is_found_before_migrating(old: Path) -> None:
    folder = LibraryFolder.open(old, migrations=FIRST)
    folder.writer.execute("CREATE TABLE mine (x)")
    folder.close()
    with pytest.raises(NotALibrary, match="additions .table 'mine'. against version 1"):
        LibraryFolder.open(old, migrations=SECOND)
    assert not (old / "before-schema-2").exists()


def test_comments_and_layout_do_not_make_another_schema_but_words_do() -> None:
    same = ("CREATE TABLE t (a  TEXT, -- one\n b /* two */ INT)", "CREATE TABLE t(\n\ta TEXT,b INT)")
    assert len({migrate._plain(sql) for sql in same}) == 1
    others = (
        "CREATE TABLE t (a TEXT, b INT DEFAULT '--')",
        "CREATE TABLE t (a TEXT, b INT DEFAULT '-- ')",
        "CREATE TABLE t (a\N{NO-BREAK SPACE}TEXT, b INT)",
    )
    assert len({migrate._plain(sql) for sql in (*same, *others)}) == 4
