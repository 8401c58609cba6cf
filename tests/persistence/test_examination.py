"""G15: what is wrong with a library is named, and nothing of it is changed by looking."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from damaged import PAGE, Jobs, again, change, make, unchanged

from callboard.jobs.errors import LibraryBusy, NotALibrary, StoreUnavailable, UnsafeLibrary
from callboard.persistence import examination
from callboard.persistence.examination import Gap, examine, fault_of, walk
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import DATABASE, JOURNAL, WAL


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Jobs]:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def library(made: tuple[Path, Jobs], tmp_path: Path) -> Iterator[Path]:
    """A copy, which looking must leave as it is: a test that changes it does so before it looks."""
    yield again(made[0], tmp_path / "library")


def found(library: Path) -> list[str]:
    with unchanged(library):
        return [f"{finding.where}: {finding.text}" for finding in examine(library) if finding.damage]


def test_G15_a_whole_library_is_whole_and_left_as_it_is(library: Path) -> None:
    with unchanged(library):
        assert list(examine(library)) == []


DAMAGE = {
    "UPDATE jobs SET data = x'81a16e07' WHERE status = 'queued'": "jobs: .* its checksum differs",
    "UPDATE jobs SET name = 'other' WHERE status = 'queued'": "jobs: .* its checksum differs",
    "UPDATE job_history SET data = x'c1'": "job_history: .* its checksum differs",
    "UPDATE job_history SET result = x'c1' WHERE result IS NOT NULL": "job_history: .* is damaged: ",
    "UPDATE job_history SET error = CAST(x'ff' AS TEXT)": "job_history: .* is damaged: .*utf-8",
    "UPDATE job_checkpoints SET value = x'00' WHERE kind = 'field'": "job_checkpoints: .*: part field:'n':0 is damaged",
    "UPDATE jobs SET status = 'banana' WHERE status = 'queued'": "jobs.db: CHECK constraint failed in jobs",
    "UPDATE jobs SET pausers = 0": "jobs: .* is paused by nobody",
    "UPDATE jobs SET status = 'pausing' WHERE status = 'running'": "jobs: .* is to stop otherwise than is wanted",
    "UPDATE jobs SET claim = 0": "jobs: .* is running, and was never claimed",
    "UPDATE jobs SET after_id = zeroblob(16) WHERE status = 'waiting'": "jobs: .* waits behind a job that is not there",
    "UPDATE jobs SET status = 'ending' WHERE status = 'queued'": "jobs: .* is at its end, which is not stored",
    "UPDATE jobs SET status = 'awaiting_children', after_batch = x'00' WHERE status = 'queued'": "waits for a batch that is not there",
    "INSERT INTO held_ends (job_id, status) VALUES (x'00', 'failed')": "held_ends: 00 is of no job that is at its end",
    "INSERT INTO cascades VALUES (x'00', 'pause', NULL)": "cascades: 00 is of no job",
    "DELETE FROM batches": "batch_chunks: 6262.* is of no batch",
    "UPDATE batches SET open = 5": "batches: 6262.* counts its open jobs wrongly",
    "DELETE FROM jobs WHERE status = 'running'": "job_checkpoints: .* is of no job",
    "INSERT INTO job_tags VALUES ('t', x'00')": "job_tags: 00 is of no job",
    "INSERT INTO job_warnings VALUES (x'00', 1, NULL, 'm')": "job_warnings: 00 is of no job",
    "INSERT INTO job_history SELECT id, name, version, 'failed', priority, key, grp, parent, retry_of, resumable, retry, tags, requested_by,"
    " created_at, started_at, 1, claim, attempt, crashes, running_ms, waiting_ms, warnings, error, NULL, NULL, progress, NULL, data, checksum,"
    " NULL FROM jobs WHERE status = 'queued'": "jobs: .* is live, and has ended",
    "CREATE TRIGGER bang AFTER UPDATE ON meta BEGIN DELETE FROM jobs; END": "schema: has additions: trigger 'bang'",
    "DROP INDEX jobs_due": "schema: has gaps: index 'jobs_due'",
    "PRAGMA application_id = 7": "jobs.db: .* another application",
    "PRAGMA user_version = 99": "jobs.db: .* schema version 99",
}  # fmt: skip


@pytest.mark.parametrize("statement", DAMAGE)
def test_G15_damage_is_named(library: Path, statement: str) -> None:
    change(library, statement)
    named = found(library)
    assert any(re.search(DAMAGE[statement], line) for line in named), named


def test_G15_several_additions_are_named_one_by_one_and_none_is_computed(library: Path) -> None:
    change(library, "CREATE VIEW seen AS SELECT hex(zeroblob(500000000))", "CREATE TABLE mine (x)", "DROP INDEX jobs_due")
    assert found(library) == ["schema: has gaps: index 'jobs_due'", "schema: has additions: table 'mine'", "schema: has additions: view 'seen'"]


def test_G15_what_is_no_database_is_named(library: Path) -> None:
    (library / DATABASE).write_bytes(b"dear diary\n" * 100)
    assert "is no SQLite database" in found(library)[0]


def test_where_there_is_nothing_nothing_can_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(NotALibrary):
        list(examine(tmp_path))


def test_files_that_were_left_over_or_that_others_may_change_are_told_and_no_damage(library: Path) -> None:
    (library / (JOURNAL + "x")).touch()
    (library / "jobs.db.new").touch()
    (library / DATABASE).chmod(0o666)
    told = [finding for finding in examine(library)]
    assert [finding.where for finding in told] == ["jobs.db", "jobs.db-journalx", "jobs.db.new"] and not any(each.damage for each in told)


def test_G15_damaged_pages_are_named_by_their_keys_and_rows_between_them_are_read(tmp_path: Path) -> None:
    library, _ = make(tmp_path, extra=300)
    whole = set(rows_of(library, tmp_path / "a"))
    raw = bytearray((library / DATABASE).read_bytes())
    pages = leaves_of_jobs(raw)
    for page in pages[5], pages[10], pages[11], pages[len(pages) // 2]:
        raw[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    (library / DATABASE).write_bytes(raw)
    left = list(rows_of(library, tmp_path / "b"))
    assert len(left) == len(set(left)) and set(left) < whole and len(left) >= len(whole) - 4 * 10
    assert 2 <= sum(line.startswith("jobs: from ") for line in found(library)) <= 4


def leaves_of_jobs(raw: bytearray) -> list[int]:
    """Leaves of a tree by key (10) on which a row of a queued job begins."""
    return [at // PAGE for at in range(PAGE, len(raw), PAGE) if raw[at] == 10 and b"workqueuedrun" in raw[at : at + PAGE]]


def rows_of(library: Path, scratch: Path) -> Iterator[bytes]:
    scratch.mkdir()
    with examination.snapshot(library, scratch) as con:
        for row in walk(con, "jobs"):
            if not isinstance(row, Gap):
                assert fault_of("jobs", row) is None
                yield row["id"]


# --- beside an owner ----------------------------------------------------------------------------------------------------

OWNER = """
import sys
from callboard.persistence.folder import LibraryFolder
folder = LibraryFolder.open(sys.argv[1])
folder.writer.execute("INSERT INTO job_tags VALUES ('from the owner', x'00')")
print("open", flush=True)
sys.stdin.read()
"""


def test_G15_a_library_is_looked_at_beside_its_owner_with_what_is_in_its_wal(library: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(library)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == b"open\n"
        with unchanged(library):
            told = list(examine(library))
        assert [(each.where, each.damage) for each in told] == [("library.lock", False), ("job_tags", True)]
        assert f"process {owner.pid} has the library open" in told[0].text
    LibraryFolder.open(library).close()  # the owner had its lock until now, and nobody took it away


def test_G15_the_process_that_has_it_open_is_refused_since_its_locks_would_go(library: Path) -> None:
    folder = LibraryFolder.open(library)
    with pytest.raises((UnsafeLibrary, StoreUnavailable), match="open in this process"):
        list(examine(library))
    folder.close()


def test_what_is_written_to_without_a_pause_is_not_looked_at(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = 0

    def busy(source: Path, target: Path, **how: bool) -> None:
        nonlocal copies
        copies += 1
        Path(target).write_bytes(Path(source).read_bytes())
        os.utime(source, ns=(copies, copies))

    monkeypatch.setattr(shutil, "copyfile", busy)
    with pytest.raises(LibraryBusy, match="without a pause.*backup"):
        list(examine(library))
    assert copies == examination.TRIES


def test_a_library_that_was_left_by_a_crash_is_whole(library: Path) -> None:
    LibraryFolder.open(library).abandon()
    assert (library / WAL).exists()
    assert found(library) == []


def test_nothing_is_left_of_looking(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    list(examine(library))
    looking = examine(library)
    change(library, "UPDATE jobs SET data = x'c1'")
    next(looking)
    looking.close()
    assert list(scratch.iterdir()) == []
