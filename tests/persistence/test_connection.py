"""Each setting of a connection is really on, is noticed if it is not, and does what it is for."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from callboard.jobs.errors import SqliteTooOld, StoreUnavailable
from callboard.persistence import connection as settings
from callboard.persistence.connection import READER, STATEMENTS, VFS, WRITER, check_version, open_reader, open_writer


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database in WAL mode with all that a hostile one may bring along, made without any of our settings."""
    path = tmp_path / "jobs.db"
    connection = sqlite3.connect(path)
    connection.executescript("""
        PRAGMA journal_mode = wal;
        CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);
        CREATE TABLE victim (x);
        INSERT INTO victim VALUES (1);
        CREATE VIEW seen AS SELECT a FROM t;
        CREATE TRIGGER bang AFTER INSERT ON t BEGIN DELETE FROM victim; END;
    """)
    connection.close()
    return path


@pytest.fixture
def writer(database: Path) -> Iterator[apsw.Connection]:
    connection = open_writer(database)
    yield connection
    connection.close()


def test_the_writer_is_durable_and_checkpoints_only_when_asked(writer: apsw.Connection) -> None:
    pragmas = {name: writer.pragma(name) for name in ("journal_mode", "synchronous", "wal_autocheckpoint", "busy_timeout")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "wal_autocheckpoint": 0, "busy_timeout": 0}
    assert [writer.pragma(name) for name in ("cell_size_check", "mmap_size", "foreign_keys")] == [1, 0, 0]
    assert writer.cache_stats()["size"] == STATEMENTS
    assert writer.open_vfs == VFS


def test_what_a_file_brings_along_does_not_run(writer: apsw.Connection) -> None:
    writer.execute("INSERT INTO t VALUES (1, 'x')")
    assert writer.execute("SELECT count(*) FROM victim").fetchall() == [(1,)]
    for statement, reason in {
        "SELECT * FROM seen": "prohibited",
        'SELECT "no such column" FROM t': "no such column",
        "ATTACH ':memory:' AS other": "too many attached",
        "SELECT load_extension('x')": "not authorized|no such function",
        "SELECT zeroblob(67108865)": "too big",
    }.items():
        with pytest.raises(apsw.Error, match=reason):
            writer.execute(statement).fetchall()
    writer.pragma("writable_schema", 1)
    with pytest.raises(apsw.SQLError, match="may not be modified"):
        writer.execute("UPDATE sqlite_schema SET sql = ''")


def test_a_statement_is_prepared_once_whatever_is_bound_to_it(writer: apsw.Connection) -> None:
    writer.execute("CREATE INDEX some ON t (a) WHERE b = 'k'")
    prepared = [0]

    def asked(*what: object) -> int:
        prepared[0] += 1
        return apsw.SQLITE_OK

    writer.authorizer = asked
    writer.execute("SELECT a FROM t WHERE b = ?", ("a",)).fetchall()
    once = prepared[0]
    for value in ("k", "b", "k"):
        writer.execute("SELECT a FROM t WHERE b = ?", (value,)).fetchall()
    assert prepared[0] == once > 0


NOT_TAKEN: dict[settings.Setting, str] = {
    settings.defensive: "DEFENSIVE",
    settings.no_triggers: "ENABLE_TRIGGER",
    settings.no_views: "ENABLE_VIEW",
    settings.untrusted_schema: "TRUSTED_SCHEMA",
    settings.strict_quotes: "DQS_DML",
    settings.no_extensions: "ENABLE_LOAD_EXTENSION",
    settings.no_attaching: "LIMIT_ATTACHED",
    settings.bounded_values: "LIMIT_LENGTH",
    settings.checked_cells: "cell_size_check",
    settings.no_mmap: "mmap_size",
    settings.no_checkpoint_on_close: "NO_CKPT_ON_CLOSE",
    settings.no_waiting: "busy_timeout",
    settings.no_foreign_keys: "ENABLE_FKEY",
    settings.kept_statements: "statement cache",
    settings.lasting_plans: "ENABLE_QPSG",
    settings.no_autocheckpoint: "wal_autocheckpoint",
    settings.full_sync: "synchronous",
    settings.wal: "journal_mode",
    settings.query_only: "query_only",
    settings.is_wal: "journal_mode",
    settings.memory_for_temporaries: "temp_store",
}


class Stubborn:
    """A connection that takes no setting: what is asked of it answers -7."""

    def config(self, option: int, value: int) -> int:
        return -7

    def limit(self, which: int, value: int = -1) -> int:
        return -7

    def pragma(self, name: str, value: object = None) -> int:
        return -7

    def cache_stats(self) -> dict[str, int]:
        return {"size": -7}

    def enable_load_extension(self, enable: bool) -> None: ...

    def set_busy_timeout(self, milliseconds: int) -> None: ...

    def wal_autocheckpoint(self, pages: int) -> None: ...


@pytest.mark.parametrize("setting", list(dict.fromkeys(WRITER + READER)))
def test_a_setting_that_does_not_take_is_an_error(setting: settings.Setting) -> None:
    with pytest.raises(StoreUnavailable, match=NOT_TAKEN[setting]):
        setting(Stubborn())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert setting.__doc__


@pytest.mark.parametrize("opener", [open_writer, open_reader])
def test_no_connection_is_left_open_when_a_setting_fails(
    database: Path, opener: Callable[[Path], apsw.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    def took(setting: str, wanted: object, got: object) -> None:
        raise StoreUnavailable(setting)

    before = len(apsw.connections())
    monkeypatch.setattr(settings, "_took", took)
    with pytest.raises(StoreUnavailable) as caught:
        opener(database)
    caught.value.__traceback__ = None
    assert len(apsw.connections()) == before


def test_sqlite_with_the_wal_reset_race_is_refused() -> None:
    for version in ("3.51.3", "3.52.0", "4.0", "3.100.1"):
        check_version(version)
    for version in ("3.51.2", "3.50.99", "3.9.0", "2.99.99", "3.51"):
        with pytest.raises(SqliteTooOld, match=version):
            check_version(version)
    check_version()


def test_opening_asks_for_the_version_first(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    for opener in (open_writer, open_reader):
        with pytest.raises(SqliteTooOld):
            opener(database)


def test_readers_see_each_commit_never_wait_for_a_write_and_cannot_write(writer: apsw.Connection, database: Path) -> None:
    first, second = open_reader(database), open_reader(database)
    writer.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES (1, 'x')")
    assert first.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
    writer.execute("COMMIT")
    for reader in (first, second):
        assert reader.execute("SELECT count(*) FROM t").fetchall() == [(1,)]
        assert reader.readonly("main")
        with pytest.raises(apsw.ReadOnlyError):
            reader.execute("DELETE FROM t")
        with pytest.raises(apsw.Error, match="prohibited"):
            reader.execute("SELECT * FROM seen").fetchall()
        reader.close()


def test_another_process_gets_busy_at_once(writer: apsw.Connection, database: Path) -> None:
    code = """
import sys, apsw
from callboard.persistence.connection import open_writer, open_reader
for opener in (open_writer, open_reader):
    try:
        opener(sys.argv[1])
    except apsw.BusyError as error:
        print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code, str(database)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["BusyError", "BusyError"]


def test_a_missing_file_is_not_made_and_a_link_is_not_followed(database: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(database)
    for name in ("missing", "link"):
        with pytest.raises(apsw.CantOpenError):
            open_writer(tmp_path / name)
    assert not (tmp_path / "missing").exists()


def test_closing_moves_nothing_and_removes_nothing(database: Path) -> None:
    connection = open_writer(database)
    connection.execute("INSERT INTO t VALUES (1, 'x')")
    wal = database.with_name("jobs.db-wal")
    size = wal.stat().st_size
    connection.close()
    assert wal.stat().st_size == size > 0
