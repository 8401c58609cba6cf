"""A library of schema version 1 becomes one of version 2: every row is as it was, and goes on as it would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import START_MS, Bench

from callboard.jobs.lifecycle import ENDED, Event, Status
from callboard.jobs.submission import OnDuplicate
from callboard.persistence.checksum import job_checksum
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.migrate import MIGRATIONS
from callboard.persistence.writes import End, Insert

LIVE_THEN = sorted(set(Status) - ENDED - {Status.WAITING, Status.AWAITING, Status.ENDING})


def live_row(number: int, status: Status) -> dict[str, Any]:
    intent = {"pausing": "pause", "paused": "pause", "cancelling": "cancel"}.get(status, "run")
    name, data = "work", b"data %d" % number
    return {
        "id": (START_MS << 80 | 7 << 76 | 2 << 62 | number).to_bytes(16, "big"), "name": name, "version": 1, "status": str(status), "intent": intent,
        "pausers": int(intent == "pause"), "priority": number, "key": b"key %d" % number, "grp": f"g{number}", "parent": None, "retry_of": b"r" * 16,
        "run_at": START_MS + 9 if status is Status.QUEUED else None, "resumable": 1, "retry": "{}", "tags": '["t"]', "requested_by": "who",
        "created_at": 1, "queued_at": 2, "started_at": 3, "claim": int(status.claimed), "attempt": 1, "crashes": 0, "alone": 0, "excused": 0,
        "running_ms": 5, "waiting_ms": 6, "warnings": 7, "unresponsive": None, "error": f"error {number}", "progress": b"\x05", "data": data,
        "checksum": job_checksum(name, 1, data),
    }  # fmt: skip


def ended_row(number: int, status: Status) -> dict[str, Any]:
    row = live_row(number, status)
    for name in ("intent", "pausers", "run_at", "queued_at", "alone", "excused", "unresponsive"):
        del row[name]
    return {**row, "ended_at": 9, "traceback": "trace", "metrics": "{}", "result": b"\x01"}


def put(folder: LibraryFolder, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" * len(row))
    folder.writer.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def test_a_library_of_version_1_with_rows_in_every_status_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    old = LibraryFolder.open(tmp_path / "library", migrations=MIGRATIONS[:1])
    live = [live_row(number, status) for number, status in enumerate(LIVE_THEN)]
    ended = [ended_row(number + 50, status) for number, status in enumerate(sorted(ENDED))]
    for row in live:
        put(old, "jobs", row)
    for row in ended:
        put(old, "job_history", row)
    put(old, "job_tags", {"tag": "t", "job_id": live[0]["id"]})
    put(old, "job_warnings", {"job_id": live[0]["id"], "n": 1, "item": None, "message": "w"})
    old.close()
    new = LibraryFolder.open(tmp_path / "library")
    assert new.writer.pragma("user_version") == 2
    new_of_jobs = {**dict.fromkeys(("after_id", "after_batch", "superseded_by", "limited")), "kept_back": 0}
    for table, rows, added in (("jobs", live, new_of_jobs), ("job_history", ended, {"superseded_by": None})):
        cursor = new.writer.execute(f"SELECT * FROM {table} ORDER BY id")
        names = [column[0] for column in cursor.get_description()]
        assert [dict(zip(names, row, strict=True)) for row in cursor] == [{**row, **added} for row in rows]
    assert new.writer.execute("SELECT * FROM job_tags").fetchall() == [("t", live[0]["id"])]
    assert new.writer.execute("PRAGMA integrity_check").get == "ok"
    new.abandon()
    with Bench(tmp_path) as bench:
        for row in live:
            after = bench.status(row["id"])
            expected = {"running": "queued", "pausing": "paused", "cancelling": "cancelled"}.get(row["status"], row["status"])
            assert after == expected
        paused = next(row for row in live if row["status"] == "paused")
        answer = bench.do(Insert("work", 1, b"", key=paused["key"], on_duplicate=OnDuplicate.REQUEUE))
        assert answer.met.older == paused["id"] and answer.met.waiting
        running = next(row for row in live if row["status"] == "running")
        [claimed] = bench.claim(only=(running["id"],))
        assert (claimed.data, claimed.claim) == (running["data"], 2)
        bench.do(End(claimed.job_id, claimed.claim, Event.RETURN))
        assert bench.status(claimed.job_id) == "completed"
        assert (tmp_path / "library" / "before-schema-2").is_dir()
