"""Questions: filters, pages and order; one damaged row among many; and a snapshot that never waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench import NOBODY, START_MS, Bench, ids

from callboard.jobs.errors import NoSuchJob
from callboard.jobs.lifecycle import ENDED, LIVE, Event, Pauser, Status
from callboard.jobs.progress import Progress
from callboard.jobs.record import JobFilter, JobRecord, Statistics
from callboard.persistence.codec import encode_value
from callboard.persistence.queries import progress_from
from callboard.persistence.writes import End, SetIntent, SetUnresponsive, WriteProgress


def test_a_live_record_says_all_that_is_known(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.now += 1
        job_id = bench.add(
            name="näme\0", version=4, priority=9, key=b"\0k", group="g", tags=("a", "b\0"), requested_by="who", run_at_ms=START_MS + 500
        )
        record = bench.reader().job(job_id)
        assert record == JobRecord(
            id=job_id, name="näme\0", version=4, status=Status.QUEUED, priority=9, key=b"\0k", group="g", tags=("a", "b\0"), requested_by="who",
            retry_of=None, created_at=(START_MS + 1) / 1000, run_at=(START_MS + 500) / 1000, started_at=None, ended_at=None, attempt=1, crashes=0,
            running_seconds=0.0, waiting_seconds=0.0, warnings=0, error=None, progress=None,
        )  # fmt: skip
        assert isinstance(record.status, Status)


def test_a_running_record_says_how_it_goes(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        bench.commit(
            WriteProgress(claimed.job_id, claimed.claim, encode_value({"done": 5, "total": 9, "details": {"file": "x"}})),
            SetUnresponsive(claimed.job_id, claimed.claim, START_MS + 7), SetIntent(claimed.job_id, Event.PAUSE, 9),
        )  # fmt: skip
        bench.change(claimed.job_id, crashes=2, alone=1, error="before")
        record = bench.reader().job(claimed.job_id)
        assert (record.status, record.pausers, record.unresponsive_since) == (Status.PAUSING, {Pauser.USER, Pauser.DISK}, (START_MS + 7) / 1000)
        assert (record.crashes, record.suspect, record.error, record.started_at) == (2, True, "before", START_MS / 1000)
        assert record.progress == Progress(done=5, total=9, details={"file": "x"})
        assert bench.do(SetUnresponsive(claimed.job_id, claimed.claim, None)) is True
        assert bench.reader().job(claimed.job_id).unresponsive_since is None


def test_an_ended_record_says_how_it_ended(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        bench.now += 2_000
        bench.do(End(claimed.job_id, claimed.claim, Event.FAIL, b"r", "wrong", "trace", 1_500, 3, '{"memory_mb": 12.5}'))
        record = bench.reader().job(claimed.job_id)
        assert (record.status, record.error, record.traceback_text, record.result, record.memory_mb) == (Status.FAILED, "wrong", "trace", b"r", 12.5)
        assert (record.ended_at, record.running_seconds, record.warnings) == ((START_MS + 2_000) / 1000, 1.5, 3)


def test_an_unknown_id_is_an_error(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench, pytest.raises(NoSuchJob):
        bench.reader().job(NOBODY)


def test_a_queued_job_that_this_process_does_not_run_says_why(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        unknown, running = bench.add(name="unknown"), bench.start(name="unknown").job_id
        reader = bench.reader({"unknown": "not registered"})
        assert (reader.job(unknown).passed_over, reader.job(running).passed_over) == ("not registered", None)


# --- lists ------------------------------------------------------------------------------------------------------------


def populate(bench: Bench) -> dict[str, list[bytes]]:
    """Forty live jobs and forty ended ones, in order of arrival."""
    found: dict[str, list[bytes]] = {"live": [], "ended": []}
    live, ended = sorted(LIVE - {Status.WAITING}), sorted(ENDED)
    for index in range(40):
        more: dict[str, Any] = {"name": f"kind {index % 3}", "group": f"g{index % 2}" if index % 5 else None, "key": b"key %d" % index}
        more |= {"tags": ("all", f"t{index % 4}"), "requested_by": f"user {index % 2}"}
        found["live"].append(bench.in_status(live[index % len(live)], **more).job_id)
        more["key"] = b"ended %d" % index
        found["ended"].append(bench.in_status(ended[index % len(ended)], **more).job_id)
    return found


FILTERS: list[dict[str, Any]] = [
    {}, {"name": "kind 1"}, {"group": "g1"}, {"tag": "t2"}, {"tag": "all"}, {"tag": "nothing"}, {"requested_by": "user 0"}, {"key": "key 7"},
    {"key": b"ended 7"}, {"name": "kind 1", "key": "key 7"}, {"status": Status.QUEUED}, {"status": Status.PAUSED}, {"status": Status.FAILED},
    {"status": Status.COMPLETED}, {"status": (Status.RUNNING, Status.QUARANTINED, Status.CANCELLED)}, {"status": tuple(Status)}, {"status": ()},
    {"name": "kind 2", "group": "g1", "tag": "all", "requested_by": "user 1", "status": (Status.QUEUED, Status.FAILED, Status.PAUSED)},
]  # fmt: skip


def fits(record: JobRecord, wanted: dict[str, Any]) -> bool:
    key = wanted.get("key")
    statuses = wanted.get("status", tuple(Status))
    return (
        all(getattr(record, name) == wanted[name] for name in ("name", "group", "requested_by") if name in wanted)
        and wanted.get("tag", "all") in record.tags
        and key in (None, record.key, (record.key or b"").decode())
        and record.status in (statuses if isinstance(statuses, tuple) else (statuses,))
    )


def test_filters_and_pages_give_each_that_fits_once_and_in_order(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        populated = populate(bench)
        reader = bench.reader()
        for ask, everything in ((reader.jobs, populated["live"]), (reader.history, populated["ended"][::-1])):
            records = ask(JobFilter(limit=1_000))
            assert ids(records) == everything
            for wanted in FILTERS:
                fitting = [record for record in records if fits(record, wanted)]
                paged: list[JobRecord] = []
                while page := ask(JobFilter(**wanted, limit=7, after=paged[-1].id if paged else None)):
                    assert len(page) <= 7
                    paged += page
                assert paged == fitting, wanted


def test_statistics_count_every_status(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        reader = bench.reader()
        assert reader.statistics() == Statistics({}, {}, None)
        for index, status in enumerate(Status):
            for _ in range(index + 1):
                bench.in_status(status)
        bench.add(run_at_ms=START_MS + 7_000)
        suspect = bench.in_status(Status.QUARANTINED).job_id
        bench.do(SetIntent(suspect, Event.RESUME))
        counts = {str(status): index + 1 for index, status in enumerate(Status)}
        counts["queued"] += 2
        counts["paused"] += counts["waiting"]  # who is in front of them
        live, ended = ({str(status): counts[status] for status in sorted(statuses)} for statuses in (LIVE, ENDED))
        assert reader.statistics() == Statistics(live, ended, START_MS / 1000 + 7)


def test_a_reader_sees_the_last_commit_and_does_not_wait_for_a_write(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        reader = bench.reader()
        job_id = bench.add()
        bench.con.execute("BEGIN IMMEDIATE")
        bench.con.execute("UPDATE jobs SET error = 'not yet committed'")
        assert reader.job(job_id).error is None
        bench.con.execute("COMMIT")
        assert reader.job(job_id).error == "not yet committed"
        assert not reader.closed()
        bench.place.reopen()
        assert reader.closed()


# --- damage -----------------------------------------------------------------------------------------------------------

DAMAGE = [
    ("name", "CAST(x'61ff' AS TEXT)"), ("grp", "CAST(x'61ff' AS TEXT)"), ("requested_by", "CAST(x'61ff' AS TEXT)"),
    ("error", "CAST(x'61ff' AS TEXT)"), ("tags", "CAST(x'61ff' AS TEXT)"), ("tags", "'[\"a\"'"), ("tags", "'{}'"), ("tags", "'[1]'"),
    ("tags", "x'ff'"), ("progress", "x'c1'"), ("progress", "x'01'"), ("progress", "'text'"), ("status", "'asleep'"),
    ("status", "CAST(x'ff' AS TEXT)"), ("created_at", "NULL"), ("created_at", "'then'"), ("running_ms", "x'00'"), ("started_at", "'then'"),
    ("name", "NULL"), ("version", "'one'"), ("key", "'text'"),
]  # fmt: skip


@pytest.mark.parametrize("table", ["jobs", "job_history"])
def test_damaged_rows_are_listed_among_the_others(tmp_path: Path, table: str) -> None:
    with Bench(tmp_path) as bench:
        status = Status.PAUSED if table == "jobs" else Status.FAILED
        all_ids = [bench.in_status(status, tags=("t",), requested_by="who").job_id for _ in range(len(DAMAGE) + 2)]
        for job_id, (column, value) in zip(all_ids[1:-1], DAMAGE, strict=True):
            bench.damage(job_id, column, value, table)
        reader = bench.reader()
        records = reader.jobs(JobFilter()) if table == "jobs" else reader.history(JobFilter())[::-1]
        assert ids(records) == all_ids
        assert [record.status for record in (records[0], records[-1])] == [status, status]
        for damaged, (column, value) in zip(records[1:-1], DAMAGE, strict=True):
            assert reader.job(damaged.id) == damaged
            if "ff' AS TEXT" in value and column in ("name", "requested_by", "error"):
                assert (getattr(damaged, column), damaged.status) == ("a\\xff", status)
            if column in ("tags", "progress"):
                assert (damaged.tags if column == "tags" else damaged.progress) in ((), None)
                assert (damaged.status, damaged.requested_by) == (status, "who")
            if damaged.status is not status:
                assert damaged.status is Status.QUARANTINED
                assert damaged.error is not None and damaged.error.startswith("its row is damaged")


def test_damage_to_what_an_end_says_of_itself_costs_only_that(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        for change in ("metrics = '{'", "metrics = '5'", "metrics = CAST(x'ff' AS TEXT)", "traceback = CAST(x'ff' AS TEXT)"):
            job_id = bench.in_status(Status.FAILED).job_id
            bench.con.execute(f"UPDATE job_history SET {change} WHERE id = ?", (job_id,))
            record = bench.reader().job(job_id)
            assert (record.status, record.memory_mb, record.error) == (Status.FAILED, None, "went wrong")


def test_a_damaged_warning_is_shown_with_escapes(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.con.execute("INSERT INTO job_warnings VALUES (?, 1, CAST(x'ff' AS TEXT), CAST(x'61fe' AS TEXT))", (NOBODY,))
        [warned] = bench.reader().warnings(NOBODY)
        assert (warned.item, warned.message) == ("\\xff", "a\\xfe")


@pytest.mark.parametrize(
    "stored",
    [None, b"", b"\xc1", encode_value(5), encode_value([1]), encode_value({"done": "five"}), encode_value({"rate": [1]}), encode_value({"phase": 5}),
     encode_value({"details": 5}), encode_value({"what": 5}), encode_value({5: 5})],
)  # fmt: skip
def test_a_reading_that_does_not_fit_is_none(stored: bytes | None) -> None:
    assert progress_from(stored) is None
