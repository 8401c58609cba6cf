"""G15: every row that is whole is saved, what is not is told, nothing in the new library waits for what is lost, and the old one is only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from damaged import PAGE, Jobs, again, change, make, unchanged

from callboard.jobs.errors import ConfigError, NotALibrary, StoreUnavailable
from callboard.jobs.lifecycle import Status
from callboard.persistence import birthmark
from callboard.persistence.examination import Finding, examine, tables
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import DATABASE
from callboard.persistence.recovery import recover
from callboard.persistence.salvage import LOST, Salvaged, salvage

NOW = 1_900_000_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Jobs]:
    return make(tmp_path_factory.mktemp("made"), extra=40)


@pytest.fixture
def library(made: tuple[Path, Jobs], tmp_path: Path) -> Iterator[Path]:
    yield again(made[0], tmp_path / "library")


def saved(library: Path, left_out: int = 0) -> tuple[Path, Salvaged]:
    """The new library, which is whole and can be opened."""
    target = library.parent / "saved"
    with unchanged(library):
        done = salvage(library, target, NOW)
    assert len(done.left_out) == left_out, done.left_out
    assert list(examine(target)) == []
    assert {path.name for path in library.parent.iterdir()} == {"library", "saved"}
    LibraryFolder.open(target, create=False, recover=lambda con, _, clean: recover(con, NOW, clean) and None).close()
    assert list(examine(target)) == []
    return target, done


def rows(library: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(library / DATABASE)) as connection:
        return connection.execute(sql, values).fetchall()


def job(library: Path, job_id: bytes, columns: str = "status, error") -> Any:
    [row] = rows(library, f"SELECT {columns} FROM jobs WHERE id = ?", job_id)
    return row


def test_G15_of_a_whole_library_nothing_is_lost(library: Path, tmp_path: Path) -> None:
    target = tmp_path / "saved"
    done = salvage(library, target, NOW)
    assert done.left_out == []
    for table in tables():
        columns = ", ".join(tables()[table])
        mine, theirs = ([rows(place, f"SELECT {columns} FROM {table} ORDER BY 1, 2")] for place in (library, target))
        if table == "meta":
            old, new = dict(mine[0]), dict(theirs[0])
            assert birthmark.differ(old.pop("library"), new.pop("library")) and new == {"clean": 1, "epoch": old["epoch"] + 1}
        else:
            assert mine == theirs and (len(mine[0]) == done.kept.get(table, len(mine[0])))


def test_G15_a_row_that_is_damaged_is_left_out_and_the_others_are_there(library: Path, made: tuple[Path, Jobs]) -> None:
    change(library, "UPDATE jobs SET data = x'81a16e07' WHERE id = ?", bindings=(made[1].queued,))
    target, done = saved(library, left_out=1)
    assert done.left_out == [Finding("jobs", f"{made[1].queued.hex()} is damaged: its checksum differs")]
    assert rows(target, "SELECT count(*) FROM jobs WHERE id = ?", made[1].queued) == [(0,)]
    assert rows(target, "SELECT count(*) FROM jobs") == [(rows(library, "SELECT count(*) FROM jobs")[0][0] - 1,)]
    # Its batch has no open job any more, and nobody waits for it.
    assert rows(target, "SELECT open, completed_at FROM batches") == [(0, NOW)]
    assert rows(target, "SELECT count(*) FROM job_tags WHERE job_id = ?", made[1].queued) == [(0,)]


@pytest.mark.parametrize("damage", ["value = x'00'", "sequence = 77", "name = 'm'"])
def test_G15_a_job_whose_checkpoint_has_lost_a_part_waits_for_a_person(library: Path, made: tuple[Path, Jobs], damage: str) -> None:
    change(library, f"UPDATE job_checkpoints SET {damage} WHERE kind = 'field' AND job_id = ?", bindings=(made[1].running,))
    target, _ = saved(library, left_out=1)
    assert job(target, made[1].running) == (Status.QUARANTINED, LOST)
    assert rows(target, "SELECT count(*) FROM job_checkpoints WHERE job_id = ?", made[1].running) == [(0,)]


def test_G15_a_successor_whose_front_is_lost_comes_into_line(library: Path, made: tuple[Path, Jobs]) -> None:
    change(library, "UPDATE jobs SET data = x'c1' WHERE id = ?", bindings=(made[1].paused,))
    target, _ = saved(library, left_out=1)
    assert job(target, made[1].successor, "status, after_id") == ("queued", None)


@pytest.mark.parametrize(
    ("change_to", "status", "left_out"),
    [
        ("status = 'ending'", Status.QUARANTINED, 0),
        ("status = 'awaiting_children', after_batch = zeroblob(16)", Status.QUEUED, 0),
        ("parent = zeroblob(16)", Status.QUEUED, 0),
        ("status = 'banana'", None, 1),
    ],
)
def test_G15_nothing_waits_for_what_is_lost(library: Path, made: tuple[Path, Jobs], change_to: str, status: Status | None, left_out: int) -> None:
    change(library, f"UPDATE jobs SET {change_to} WHERE id = ?", bindings=(made[1].queued,))
    target, _ = saved(library, left_out)
    if status is not None:
        assert job(target, made[1].queued, "status, parent") == (status, None)


def test_G15_what_seems_to_live_and_to_have_ended_has_ended(library: Path, made: tuple[Path, Jobs]) -> None:
    change(
        library,
        "INSERT INTO jobs (id, name, version, status, intent, pausers, priority, resumable, created_at, queued_at, claim, attempt, crashes, alone,"
        " excused, running_ms, waiting_ms, warnings, data, checksum) SELECT id, name, version, 'queued', 'run', 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0,"
        " 0, data, checksum FROM job_history WHERE id = ?",
        bindings=(made[1].completed,),
    )
    target, done = saved(library, left_out=1)
    assert "has ended" in done.left_out[0].text and rows(target, "SELECT 1 FROM jobs WHERE id = ?", made[1].completed) == []


HOSTILE = {
    "a trigger": ["CREATE TRIGGER bang AFTER INSERT ON jobs BEGIN DELETE FROM jobs; END"],
    "a view": ["CREATE VIEW seen AS SELECT hex(zeroblob(500000000))"],
    "an expression index": ["CREATE INDEX slow ON meta (length(value))"],
    "an index less": ["DROP INDEX jobs_ready", "DROP INDEX jobs_key"],
    "an index that makes no sense": ["UPDATE sqlite_schema SET sql = 'CREATE INDEX (' WHERE name = 'jobs_due'"],
    "an index on no page": ["UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'jobs_due'"],
    "a virtual table": ["CREATE VIRTUAL TABLE words USING fts5(x)"],
    "no meta": ["DROP TABLE meta"],
    "another application": ["PRAGMA application_id = 7", "PRAGMA user_version = 99"],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_G15_what_a_stranger_added_to_the_schema_is_not_run_and_costs_no_row(library: Path, made: tuple[Path, Jobs], what: str) -> None:
    change(library, *HOSTILE[what])
    _, done = saved(library)
    assert done.kept["jobs"] == rows(made[0], "SELECT count(*) FROM jobs")[0][0]


REPLACED = {
    "a view": "DROP TABLE jobs; CREATE VIEW jobs AS SELECT zeroblob(500000000) AS id",
    "a generated column": "ALTER TABLE jobs ADD COLUMN mine TEXT AS (hex(zeroblob(100000000)))",
    "another table": "DROP TABLE jobs; CREATE TABLE jobs (id, name, data)",
}


@pytest.mark.parametrize("what", REPLACED)
def test_G15_a_table_that_is_not_ours_is_left_out_whole(library: Path, what: str) -> None:
    change(library, *REPLACED[what].split("; "))
    target, done = saved(library, left_out=1)
    assert done.left_out == [Finding("jobs", "is no table of ours: left out")]
    assert rows(target, "SELECT count(*) FROM job_history") != [(0,)] and rows(target, "SELECT count(*) FROM jobs") == [(0,)]


def test_G15_of_damaged_pages_only_what_was_on_them_is_lost(tmp_path: Path) -> None:
    library, _ = make(tmp_path / "big", extra=200)
    raw = bytearray((library / DATABASE).read_bytes())
    leaves = [at for at in range(PAGE, len(raw), PAGE) if raw[at] == 10 and b"workqueuedrun" in raw[at : at + PAGE]]
    for at in leaves[2], leaves[len(leaves) // 2], leaves[-2]:
        raw[at : at + PAGE] = b"\xff" * PAGE
    (library / DATABASE).write_bytes(raw)
    with unchanged(library):
        done = salvage(library, tmp_path / "saved", NOW)
    assert {each.where for each in done.left_out} == {"jobs"} and 1 <= len(done.left_out) <= 3
    assert all("cannot be read" in each.text for each in done.left_out)
    assert done.kept["jobs"] >= 103 - 3 * 8 and done.kept["job_history"] == 102
    assert list(examine(tmp_path / "saved")) == []


def test_G15_checkpoints_on_a_damaged_page_are_known_to_be_incomplete(tmp_path: Path) -> None:
    library, jobs = make(tmp_path / "big", extra=0)
    [(root,)] = rows(library, "SELECT rootpage FROM sqlite_schema WHERE name = 'job_checkpoints'")
    raw = bytearray((library / DATABASE).read_bytes())
    raw[(root - 1) * PAGE : root * PAGE] = bytes(PAGE)
    (library / DATABASE).write_bytes(raw)
    salvage(library, tmp_path / "saved", NOW)
    assert job(tmp_path / "saved", jobs.running) == (Status.QUARANTINED, LOST)
    assert job(tmp_path / "saved", jobs.queued) == (Status.QUEUED, None)


# --- the target ---------------------------------------------------------------------------------------------------------


def test_a_target_that_exists_is_refused(library: Path, tmp_path: Path) -> None:
    for target in (library, tmp_path / "no" / "folder"):
        with pytest.raises(ConfigError):
            salvage(library, target, NOW)


@pytest.mark.parametrize("content", [b"", b"no database" * 999, b"SQLite format 3\0" + bytes(8_000)], ids=["empty", "text", "zeros"])
def test_where_nothing_can_be_read_no_library_is_made(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / DATABASE).write_bytes(content)
    with pytest.raises((NotALibrary, StoreUnavailable)):
        salvage(tmp_path / "library", tmp_path / "saved", NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["library"]


def test_what_an_interrupted_salvage_left_is_used_up(library: Path) -> None:
    left = library.parent / ".saved.partial" / "damaged"
    left.mkdir(parents=True)
    (left / DATABASE).write_bytes(b"x")
    (left.parent / DATABASE).write_bytes(b"x")
    saved(library)
