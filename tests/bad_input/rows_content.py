"""Rows 57 to 64: databases that are ours by name, and hostile or damaged inside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from stand import PATIENCE, Play, at_work, change, closed, not_opened, proved_by, until

from callboard import Interrupted, JobContext, Status, Submission
from callboard.jobs.errors import NotALibrary
from callboard.persistence.examination import examine
from callboard.persistence.place import DATABASE
from callboard.persistence.salvage import salvage


def row_57_additions_to_the_schema(top: Path) -> None:
    additions = {
        "trigger 'bang'": "CREATE TRIGGER bang AFTER UPDATE ON meta BEGIN DELETE FROM jobs; END",
        "view 'seen'": "CREATE VIEW seen AS SELECT hex(zeroblob(500000000)) FROM jobs",
        "table 'mine'": "CREATE TABLE mine (x)",
    }
    for number, (what, statement) in enumerate(additions.items()):
        (top / str(number)).mkdir()
        library = closed(top / str(number))
        change(library, statement)
        not_opened(library, NotALibrary, rf"has additions \({what}\)")
    library = closed(top)
    change(library, "ALTER TABLE jobs ADD COLUMN mine TEXT AS (hex(zeroblob(1000000)))")
    not_opened(library, NotALibrary, r"has changes \(table 'jobs'\)")


def row_58_a_view_in_the_place_of_a_table(top: Path) -> None:
    library = closed(top)
    view = "CREATE VIEW meta AS SELECT 1 AS key, zeroblob(500000000) AS value"
    change(library, "PRAGMA writable_schema = 1", f"UPDATE sqlite_schema SET type = 'view', rootpage = 0, sql = '{view}' WHERE name = 'meta'")
    not_opened(library, NotALibrary, r"is damaged|has (additions|changes|gaps)")


def waiting_jobs(top: Path, count: int) -> list[bytes]:
    """Jobs in a library that was closed, none of which has run: a user has paused them."""
    with at_work(top) as library:
        handles = [library.submit(Submission(Play(), run_at=4e9, requested_by=f"row {number}")) for number in range(count)]
        for handle in handles:
            handle.pause()
    return [handle.id for handle in handles]


def damage(top: Path, sql: str, *values: object) -> None:
    """Change the rows of a closed library past its CHECKs; the schema is as it was afterwards."""
    with closing(sqlite3.connect(top / "library" / DATABASE, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute(sql, values)


def row_59_text_that_is_no_utf8(top: Path) -> None:
    bad, good = waiting_jobs(top, 2)
    damage(top, "UPDATE jobs SET requested_by = CAST(x'61ff' AS TEXT) WHERE id = ?", bad)
    with at_work(top) as library:
        assert [(record.id, record.requested_by) for record in library.jobs().records] == [(bad, "a\\xff"), (good, "row 1")]
        library.submit(Play()).wait(PATIENCE)


def row_60_values_that_no_row_of_ours_has(top: Path) -> None:
    for table, column, value in (("jobs", "status", "'banana'"), ("jobs", "id", "x'00'"), ("jobs", "attempt", "'x'"), ("job_history", "id", "NULL")):
        library = closed(top)
        with pytest.raises(sqlite3.IntegrityError):
            change(library, f"INSERT INTO {table} ({column}) VALUES ({value})")
    ids = waiting_jobs(top, 5)
    for job_id, (column, value) in zip(ids, {"status": "banana", "attempt": -7, "parent": ids[3], "error": "e" * 10_000_000}.items(), strict=False):
        damage(top, f"UPDATE jobs SET {column} = ? WHERE id = ?", value, job_id)
    damage(top, "UPDATE jobs SET parent = ? WHERE id = ?", ids[2], ids[3])  # a parent that is its own grandchild
    with at_work(top) as library:
        listed = {record.id: record for record in library.jobs().records}
        assert set(listed) == set(ids)
        assert listed[ids[0]].status is Status.QUARANTINED and "its row is damaged" in (listed[ids[0]].error or "")
        assert listed[ids[4]].status is Status.PAUSED
        library.submit(Play()).wait(PATIENCE)


def row_61_a_bit_of_a_payload_that_is_another(top: Path) -> None:
    """And row 59 and 60 in the line of a claim: `persistence/test_store_claim.py`, `persistence/test_store_recovery.py`."""
    proved_by("persistence/test_codec_checksum.py", "test_each_flipped_bit_is_seen")
    bad, good = waiting_jobs(top, 2)
    with closing(sqlite3.connect(top / "library" / DATABASE)) as connection:
        [(data,)] = connection.execute("SELECT data FROM jobs WHERE id = ?", (bad,)).fetchall()
    damage(top, "UPDATE jobs SET data = ? WHERE id = ?", bytes([*data[:-1], data[-1] ^ 1]), bad)
    damage(top, "UPDATE jobs SET run_at = NULL")
    ran: list[bytes] = []
    with at_work(top, nothing=lambda job, ctx: ran.append(ctx.job_id)) as library:
        for job_id in (bad, good):
            library.resume(job_id)
        library.job(good).wait(PATIENCE)
        until(library, bad, "quarantined")
        assert "what is stored of it is damaged (its checksum differs)" in (library.record(bad).error or "")
    assert ran == [good]


def row_62_an_index_that_does_not_fit_its_table(top: Path) -> None:
    """SQLite's quick_check, which follows a crash, does not compare them; `callboard doctor` does, and `callboard salvage` makes all indexes anew."""
    [one] = waiting_jobs(top, 1)
    entry = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = 'jobs_due'"
    with closing(sqlite3.connect(top / "library" / DATABASE, isolation_level=None)) as connection:
        kept = connection.execute(entry).fetchone()
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'jobs_due'")
        connection.execute("PRAGMA schema_version = 1001")
    damage(top, "UPDATE jobs SET run_at = 5e9")
    with closing(sqlite3.connect(top / "library" / DATABASE, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", kept)
        connection.execute("PRAGMA schema_version = 1002")
    found = [finding.text for finding in examine(top / "library")]
    assert any("jobs_due" in text for text in found), found
    assert salvage(top / "library", top / "saved", 0).kept["jobs"] == 1 and not list(examine(top / "saved"))
    with at_work(top) as library:
        assert library.record(one).status is Status.PAUSED


def row_63_a_database_that_was_cut_off(top: Path) -> None:
    """What is left of it is not changed; `callboard salvage` saves what can be read into a new library."""
    waiting_jobs(top, 50)
    library = top / "library"
    data = (library / DATABASE).read_bytes()
    for length in (50, 512, 4096, len(data) // 2 // 4096 * 4096, len(data) - 4096):
        (library / DATABASE).write_bytes(data[:length])
        not_opened(library, NotALibrary, "is damaged: .* It was not changed")
        assert [finding for finding in examine(library) if finding.damage]


def row_64_a_checkpoint_of_another_job(top: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        if ctx.attempt == 1 and not ctx.resumed:
            job.value = ctx.job_id
            ctx.checkpoint()
            raise Interrupted("stop here")
        return job.value

    with at_work(top, work=work) as library:
        one, other = (library.submit(Play("work")) for _ in range(2))
        for handle in (one, other):
            until(library, handle.id, "paused")
    part = "job_id = ? AND kind = 'field' AND name = 'value'"
    with closing(sqlite3.connect(top / "library" / DATABASE)) as connection:
        [stolen] = connection.execute(f"SELECT value, checksum FROM job_checkpoints WHERE {part}", (other.id,)).fetchall()
    damage(top, f"UPDATE job_checkpoints SET value = ?, checksum = ? WHERE {part}", *stolen, one.id)
    with at_work(top, work=work) as library:
        library.resume(one.id)
        library.resume(other.id)
        assert library.job(other.id).wait(PATIENCE) == other.id
        until(library, one.id, "quarantined")
        assert "part field:value:0" in (library.record(one.id).error or "")
