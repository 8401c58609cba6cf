"""Every statement of the room finds its rows by an index: a scripted life of a library is traced, and each statement explained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw
import apsw.ext
import pytest
from bench import NOBODY, START_MS, Bench, save

from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.record import JobFilter
from callboard.persistence import applying, checkpoints, claiming, damage, ending, fence, inserting, intents, queries, recovery, store
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.queries import Reader
from callboard.persistence.rows import Grouped
from callboard.persistence.writes import Claim, End, Excuse, Insert, InsertAgain, Leave, MakeDue, SetIntent, SetUnresponsive, WriteProgress

HEAD = ("head", "", 0, encode_head(None, 0))
PARTS = (HEAD, ("field", "a", 0, b"x"), ("done", "m", 0, bytes(512)), ("failed", "m", 0, bytes(512)), ("note", "m", 1, None))
WARNINGS = ((1, None, "w"), (2, "item", "w"))


def live_a_little(bench: Bench) -> None:
    """Every write there is, in every way that makes another statement."""
    bench.commit(*(Insert(f"kind {index % 3}", 1, bytes(300), key=b"%d" % index, tags=("t",)) for index in range(30)))
    bench.commit(Insert("kind 1", 1, b"", key=b"1"))
    bench.commit(Insert("kind 1", 1, b"", key=b"1"), Insert("late", 1, b"", delay_ms=5), MakeDue())
    bench.now += 10
    bench.commit(MakeDue())
    stale = bench.claim(1)[0]
    bench.commit(Leave(stale.job_id, stale.claim, Event.RELEASE))
    bench.knows = {f"kind {index}" for index in range(3)}
    one, two, three, four, five, *others = bench.claim(20)
    job_ids = [claimed.job_id for claimed in (one, two, three, four, five)]
    bench.change(one.job_id, crashes=1)
    bench.commit(
        save(one, 1, *PARTS, warnings=WARNINGS, charged=True), save(stale, 9, *PARTS), WriteProgress(two.job_id, two.claim, b"\x05"),
        SetUnresponsive(two.job_id, two.claim, 5), Excuse(tuple(job_ids)), SetIntent(three.job_id, Event.CANCEL), SetIntent(NOBODY, Event.PAUSE),
    )  # fmt: skip
    bench.commit(
        Leave(two.job_id, two.claim, Event.STOP, parts=PARTS, sequence=1), Leave(three.job_id, three.claim, Event.STOP),
        End(four.job_id, four.claim, Event.RETURN, drop_checkpoint=True), End(one.job_id, one.claim, Event.FAIL, parts=PARTS, sequence=2),
        End(stale.job_id, stale.claim, Event.RETURN),
    )  # fmt: skip
    bench.commit(InsertAgain(one.job_id, "failed"), InsertAgain(two.job_id, "none"), InsertAgain(NOBODY, "none"))
    bench.commit(SetIntent(two.job_id, Event.PAUSE), SetIntent(two.job_id, Event.RESUME), SetIntent(two.job_id, Event.CANCEL))
    bench.commit(SetIntent(two.job_id, Event.CANCEL), Claim(1, alone=True), Claim(2, only=(five.job_id, others[0].job_id)))
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(claiming, "BYTES_AT_ONCE", 10)
        bench.read_back()
        bench.claim(3)
    bench.store.next_due_ms()
    bench.store.suspects()
    bench.commit(SetIntent(others[1].job_id, Event.CANCEL), SetIntent(others[2].job_id, Event.PAUSE))
    bench.change(others[3].job_id, resumable=0)
    damage.set_aside(bench.con)
    recovery.recover(bench.con, bench.now, False)
    store.Store(bench.place, now_ms=lambda: START_MS, random_bytes=bytes, knows=lambda *_: True)


def ask_a_little(reader: Reader) -> None:
    """Every question, with what the application is likely to ask."""
    for wanted in (
        JobFilter(), JobFilter(after=NOBODY), JobFilter(name="kind 1", key="5"), JobFilter(tag="t"), JobFilter(tag="t", after=NOBODY),
        JobFilter(status=Status.FAILED), JobFilter(status=Status.PAUSED), JobFilter(status=(Status.RUNNING, Status.QUARANTINED)),
        JobFilter(status=(Status.FAILED, Status.CANCELLED)),
    ):  # fmt: skip
        reader.jobs(wanted)
        reader.history(wanted)
    with pytest.raises(LookupError):
        reader.job(NOBODY)
    reader.warnings(NOBODY)
    reader.checkpoint(NOBODY)
    reader.statistics()


OURS = "jobs|job_history|job_checkpoints|job_warnings|job_tags"
BAD = re.compile(rf"^SCAN ({OURS}|j|jobs AS .*)\b|USE TEMP B-TREE|AUTOMATIC")
ALLOWED = {
    r"SELECT .* FROM jobs WHERE true( AND id > \?)? ORDER BY id ASC LIMIT \?": "a page in the order of the primary key",
    r"SELECT .* FROM job_history WHERE true( AND id < \?)? ORDER BY id DESC LIMIT \?": "a page in the order of the primary key",
    r"SELECT .* FROM job_history WHERE true AND name = \? AND key = \? .*": "a key of ended jobs: an operator's question, and no index",
    r"SELECT .* WHERE true AND status IN \(\?, \?\) .*": "sorts the few that are in these two statuses",
    r".* FROM \(SELECT id, priority FROM jobs WHERE id IN \(SELECT value FROM carray\(\?\)\) .*": "sorts named jobs, which are few",
    r"SELECT DISTINCT status, resumable, .*": "sorts the few kinds of jobs that were claimed when the process died",
    r"SELECT CAST\(status AS BLOB\), count\(\*\) FROM job_history .*": "statistics(): counts all ended jobs",
    r"SELECT CAST\(status AS BLOB\), count\(\*\) FROM jobs .*": "statistics(): counts, in the indexes alone",
    r"UPDATE jobs SET name = .* WHERE NOT \(typeof\(name\) .*": "looks at every live job, once damage was met",
}
"""Statements that may read rows without an index, or sort, and why."""


def plan_of(con: apsw.Connection, sql: str) -> list[str]:
    def lines(plan: Any) -> Iterator[str]:
        yield plan.detail
        for inner in plan.sub or ():
            yield from lines(inner)

    return list(lines(apsw.ext.query_info(con, sql, explain_query_plan=True).query_plan))


def findings(statements: Iterable[str], con: apsw.Connection) -> dict[str, list[str]]:
    """Statement → the lines of its plan that look at rows without an index, or sort."""
    found: dict[str, list[str]] = {}
    for sql in dict.fromkeys(" ".join(sql.split()) for sql in statements):
        bad = [line for line in plan_of(con, sql) if BAD.search(line)]
        if bad and not any(re.fullmatch(allowed, sql) for allowed in ALLOWED):
            found[sql] = bad
    return found


def test_every_write_finds_its_rows_by_an_index(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        with bench.traced() as written:
            live_a_little(bench)
        assert findings((one.sql for one in written), bench.con) == {}


def test_every_question_finds_its_rows_by_an_index(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        asked = traced_questions(bench)
        assert findings(asked, bench.con) == {}


def traced_questions(bench: Bench) -> list[str]:
    assert bench.folder is not None
    con = bench.folder.reader()
    statements: list[str] = []
    con.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: statements.append(event["sql"]))
    ask_a_little(Reader(con, lambda name, version: None))
    con.trace_v2(0, None)
    return statements


def test_no_statement_of_the_room_escapes_the_two_tests_above(tmp_path: Path) -> None:
    modules = (applying, checkpoints, claiming, damage, ending, fence, inserting, intents, queries, recovery, store)
    values = [value for module in modules for value in vars(module).values()]
    texts = [value for value in values if isinstance(value, str)]
    texts += [text for value in values if isinstance(value, Grouped) for text in (value.sql_one, value.sql_many)]
    known = {" ".join(text.split()) for text in texts}
    statements = {text for text in known if re.match(r"(SELECT|INSERT|UPDATE|DELETE|WITH) ", text)}
    assert len(statements) > 30
    with Bench(tmp_path) as bench:
        with bench.traced() as written:
            live_a_little(bench)
        seen = {" ".join(sql.split()) for sql in (*(one.sql for one in written), *traced_questions(bench))}
    assert statements - seen == set()


WITHOUT_INDEX = (
    "SELECT 1 FROM jobs WHERE grp = ?",
    "SELECT 1 FROM jobs WHERE status = ?",
    "UPDATE jobs SET error = ? WHERE status IN ('running', 'pausing')",
    "DELETE FROM jobs WHERE name = 'x'",
    "SELECT 1 FROM job_history WHERE status = 'completed'",
    "SELECT 1 FROM job_checkpoints WHERE kind = ?",
    "SELECT 1 FROM job_tags WHERE job_id = ?",
    "SELECT 1 FROM jobs AS j WHERE j.parent = ?",
    "SELECT id FROM jobs WHERE status = 'queued' AND run_at IS NULL AND alone = 0 AND name = ? ORDER BY priority, id LIMIT 5",
    "UPDATE jobs SET error = e.value FROM carray(?) AS e WHERE jobs.grp = e.value",
)


def test_a_statement_without_an_index_is_found(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        assert len(findings(WITHOUT_INDEX, bench.con)) == len(WITHOUT_INDEX)
