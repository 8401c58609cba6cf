"""Every statement of the room finds its rows by an index: a scripted life of a library is traced, and each statement explained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import apsw.ext
import pytest
from batchwork import Work, chunks
from bench import NOBODY, START_MS, Bench, save

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.children import children_batch_id
from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.progress import Progress
from callboard.jobs.record import NO_PARENT, JobFilter
from callboard.jobs.submission import OnDuplicate, Submission
from callboard.persistence import (
    applying,
    batches,
    batchintents,
    batchqueries,
    checkpoints,
    children,
    claiming,
    damage,
    ending,
    families,
    fence,
    inserting,
    intents,
    limits,
    line,
    newrows,
    parentage,
    queries,
    quota,
    recovery,
    respawning,
    standing,
    store,
    succession,
    tree,
)
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.families import progress_blob
from callboard.persistence.queries import Reader
from callboard.persistence.rows import ByIds, Grouped
from callboard.persistence.writes import (
    Cascade,
    Claim,
    End,
    Excuse,
    Insert,
    InsertAgain,
    InsertChunk,
    Leave,
    MakeDue,
    ParentProgress,
    ParentWaits,
    SetBatchIntent,
    SetIntent,
    SetUnresponsive,
    SpawnAgain,
    SpawnChildren,
    WriteProgress,
)

HEAD = ("head", "", 0, encode_head(None, 0))
OF_CHILDREN = progress_blob(Progress(done=1, total=2, percentage=0.5, of_children=True))
PARTS = (HEAD, ("field", "a", 0, b"x"), ("done", "m", 0, bytes(512)), ("failed", "m", 0, bytes(512)), ("note", "m", 1, None))
WARNINGS = ((1, None, "w"), (2, "item", "w"))


def live_with_children(bench: Bench) -> None:
    """The same of parents: their children are spawned, they wait, they are held, they give way."""
    bench.knows = None
    for event in (Event.RETURN, Event.FAIL):
        parent = bench.start()
        encoder = BatchEncoder(BatchSubmission(()), children_batch_id(parent.job_id, "c"), parent=parent.job_id)
        chunk = encoder.chunk(iter([Work(1), Work(2)]), 10)
        assert chunk is not None
        bench.commit(SpawnChildren(parent.job_id, parent.claim, InsertChunk(chunk, max_running=9), save(parent, 1, HEAD, ("children", "c", 0, b""))))
        bench.commit(ParentWaits(parent.job_id, parent.claim, True), SetIntent(parent.job_id, Event.PAUSE), Cascade(1))
        bench.commit(SetIntent(parent.job_id, Event.RESUME), Cascade(1))
        bench.commit(Cascade(1), Cascade(1), Cascade(1), Cascade(1))
        bench.do(Leave(parent.job_id, parent.claim, Event.AWAIT, awaits=chunk.batch_id))
        one, two = bench.rows("SELECT id FROM jobs WHERE parent = ?", parent.job_id)
        if event is Event.RETURN:
            bench.commit(*(End(each.job_id, each.claim, Event.RETURN) for each in bench.claim(only=(*one, *two))))
            again = bench.claim(only=(parent.job_id,))[0]
            bench.add("child", parent=parent.job_id)
            bench.commit(SpawnAgain(again.job_id, again.claim, chunk.batch_id, b"again".ljust(16), 0, 10, False, None, None))
            bench.do(End(again.job_id, again.claim, Event.RETURN, drop_checkpoint=True, progress=OF_CHILDREN))
            [child] = bench.claim(only=tuple(row for row, in bench.rows("SELECT id FROM jobs WHERE parent = ?", parent.job_id)))
            bench.do(End(child.job_id, child.claim, Event.RETURN))
        else:
            bench.do(SetIntent(parent.job_id, Event.CANCEL))
            bench.commit(Cascade(10), Cascade(10))
    limit(bench)
    parent = bench.start(name="gives way", key=b"k")
    bench.add("child", parent=parent.job_id)
    bench.do(Leave(parent.job_id, parent.claim, Event.RELEASE))
    bench.do(Insert("gives way", 1, b"", key=b"k", on_duplicate=OnDuplicate.SUPERSEDE))
    parent = bench.start()  # one waits until the questions are asked
    encoder = BatchEncoder(BatchSubmission(()), children_batch_id(parent.job_id, "d"), parent=parent.job_id)
    chunk = encoder.chunk(iter([Work(1)]), 10)
    assert chunk is not None
    bench.commit(SpawnChildren(parent.job_id, parent.claim, InsertChunk(chunk), save(parent, 1, HEAD, ("children", "d", 0, b""))))
    bench.do(Leave(parent.job_id, parent.claim, Event.AWAIT, awaits=chunk.batch_id))
    bench.do(ParentProgress(parent.job_id, OF_CHILDREN))


def limit(bench: Bench) -> None:
    """Of a batch one job runs at once; it is paused, and goes on beside the next."""
    [chunk] = chunks([Submission(Work(index)) for index in range(3)], batch_id=b"limited".ljust(16))
    made = list(bench.do(InsertChunk(chunk, max_running=1)).outcome.job_ids(range(3)))
    bench.read_back()
    [one] = [each for each in bench.claim() if each.job_id in made]
    bench.commit(SetIntent(one.job_id, Event.PAUSE), Leave(one.job_id, one.claim, Event.STOP))
    bench.claim()
    bench.commit(SetIntent(one.job_id, Event.RESUME))
    bench.commit(SetBatchIntent(chunk.batch_id, Event.CANCEL))


def live_a_little(bench: Bench) -> None:
    """Every write there is, in every way that makes another statement."""
    bench.commit(*(Insert(f"kind {index % 3}", 1, bytes(300), key=b"%d" % index, tags=("t",)) for index in range(30)))
    bench.commit(Insert("kind 1", 1, b"", key=b"1"))
    bench.commit(Insert("kind 1", 1, b"", key=b"1"), Insert("late", 1, b"", delay_ms=5), MakeDue())
    bench.now += 10
    bench.commit(MakeDue())
    bench.store.find_room()
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
    bench.commit(*(Leave(each.job_id, each.claim, Event.STOP) for each in others[6:8]))
    pair = others[4:6]
    bench.commit(*(save(each, 1, HEAD, charged=True) for each in pair))
    bench.commit(*(End(each.job_id, each.claim, Event.RETURN, drop_checkpoint=True) for each in pair))
    bench.change(others[3].job_id, resumable=0)
    damage.set_aside(bench.con)
    recovery.recover(bench.con, bench.now, False)
    store.Store(bench.place, now_ms=lambda: START_MS, random_bytes=bytes, knows=lambda *_: True)
    bench.knows = None
    bench.read_back()
    live_in_batches(bench)


def live_in_batches(bench: Bench) -> None:
    """Duplicates in every way, of one shape and of many; batches, whole, again, and to their end."""
    for name, grouped in (("one", None), ("many", "g")):
        older = [bench.start(name=name, key=b"%d" % index) for index in range(4)]
        bench.commit(*(Insert(name, 1, b"", key=b"%d" % index, priority=9, group=grouped, on_duplicate=OnDuplicate.REQUEUE) for index in range(3)))
        bench.commit(Insert(name, 1, b"", key=b"1", group=grouped), Insert(name, 1, b"", key=b"2", priority=3, group="other"))
        bench.commit(*(Insert(name, 1, b"", key=b"3", group=group, on_duplicate=OnDuplicate.SUPERSEDE) for group in (None, grouped, grouped)))
        bench.commit(*(Insert(name, 1, b"", key=b"2", on_duplicate=OnDuplicate.SUPERSEDE) for _ in range(2)))
        bench.commit(Insert(name, 1, b"", key=b"9"), Insert(name, 1, b"", key=b"9", on_duplicate=OnDuplicate.SUPERSEDE))
        bench.commit(*(End(each.job_id, each.claim, Event.FAIL) for each in older[:2]), Leave(older[3].job_id, older[3].claim, Event.STOP))
        bench.commit(End(older[2].job_id, older[2].claim, Event.RETURN), *(SetIntent(each.job_id, Event.CANCEL) for each in bench.claim()))
        items = [Submission(Work(index), key=f"{index}", group=grouped if index % 2 else None, tags=("t",)) for index in range(6)]
        family = [Submission(Work(7), local="a"), Submission(Work(8), parent="a", group=grouped)]
        parts = chunks([*items, *family, *items[:3]], 8, batch_id=(grouped or "none").encode().ljust(16))
        for chunk in (*parts, *parts):
            bench.commit(InsertChunk(chunk, on_complete=Insert("work", 1, b"")))
        alone = chunks([Submission(Work(7), local="a"), Submission(Work(8), parent="a")], batch_id=name.encode().ljust(16, b"!"))[0]
        bench.commit(InsertChunk(replace(alone, last=False)))
        first, last = chunks([Submission(Work(7), local="a"), Submission(Work(8), parent="a")], 1, batch_id=name.encode().ljust(16, b"?"))
        bench.commit(InsertChunk(first), InsertChunk(last))
        bench.commit(InsertChunk(alone))
        behind = [Submission(Work(7), key="b", local="a"), Submission(Work(8), local="b", parent="a")]
        behind.append(Submission(Work(9), key="b", parent="b", on_duplicate=OnDuplicate.REQUEUE))
        for chunk in chunks(behind, 2, batch_id=name.encode().ljust(16, b"=")):
            bench.commit(InsertChunk(chunk))
        bench.read_back()
        batch_id = parts[0].batch_id
        bench.commit(SetBatchIntent(batch_id, Event.PAUSE, most=2), SetBatchIntent(batch_id, Event.CANCEL, most=2))
        bench.commit(*(SetIntent(each.id, Event.CANCEL) for each in bench.reader().jobs(JobFilter(name="work"))))
    bench.store = store.Store(
        bench.place, now_ms=lambda: bench.now, random_bytes=bytes, knows=lambda *_: True, max_queued=10_000, max_queued_per_group=10_000
    )  # fmt: skip
    grouped_job = bench.add(group="g")
    bench.commit(SetIntent(grouped_job, Event.CANCEL))
    ended = bench.start(name="again", key=b"again")
    bench.commit(End(ended.job_id, ended.claim, Event.RETURN), Insert("again", 1, b"", key=b"again"))
    bench.commit(InsertAgain(ended.job_id, "none"))


def ask_a_little(reader: Reader) -> None:
    """Every question, with what the application is likely to ask."""
    reader.ended([NOBODY, *(record.id for record in reader.jobs(JobFilter(limit=1)))], [NOBODY])
    reader.children(NOBODY)
    reader.children_of(NOBODY)
    reader.family(NOBODY)
    reader.held_parents([record.id for record in reader.batches()], [NOBODY], [NOBODY])
    for wanted in (
        JobFilter(), JobFilter(after=NOBODY), JobFilter(parent=NOBODY), JobFilter(parent=NO_PARENT), JobFilter(parent=NOBODY, after=NOBODY),
        JobFilter(name="kind 1", key="5"), JobFilter(tag="t"), JobFilter(tag="t", after=NOBODY),
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
    for each in (JobFilter(batch=NOBODY), JobFilter(batch=NOBODY, after=NOBODY)):
        reader.jobs(each)
        reader.history(each)
    reader.batches(5)
    reader.batches(5, NOBODY)
    reader.batch_chunks(NOBODY)
    with pytest.raises(LookupError):
        reader.batch(NOBODY)
    for record in reader.batches():
        reader.batch(record.id)
    reader.plan(chunks([Submission(Work(1), key="1")])[0], START_MS)


OURS = "jobs|job_history|job_checkpoints|job_warnings|job_tags|batches|batch_chunks"
BAD = re.compile(rf"^SCAN ({OURS}|j|jobs AS .*)\b|USE TEMP B-TREE|AUTOMATIC")
ALLOWED = {
    r"SELECT .* FROM jobs WHERE true( AND id > \?)? ORDER BY id ASC LIMIT \?": "a page in the order of the primary key",
    r"SELECT .* FROM job_history WHERE true( AND id < \?)? ORDER BY id DESC LIMIT \?": "a page in the order of the primary key",
    r"SELECT .* FROM jobs WHERE true AND parent IS NULL ORDER BY id ASC LIMIT \?": "the same, without those that are children",
    r"SELECT .* FROM job_history WHERE true AND parent IS NULL ORDER BY id DESC LIMIT \?": "the same, without those that were children",
    r"SELECT .* FROM job_history WHERE true AND name = \? AND key = \? .*": "a key of ended jobs: an operator's question, and no index",
    r"SELECT .* WHERE true AND status IN \(\?, \?\) .*": "sorts the few that are in these two statuses",
    r".* FROM \(SELECT id, priority FROM jobs WHERE id IN \(SELECT value FROM carray\(\?\)\) .*": "sorts named jobs, which are few",
    r"SELECT DISTINCT status, resumable, .*": "sorts the few kinds of jobs that were claimed when the process died",
    r"SELECT CAST\(status AS BLOB\), count\(\*\) FROM job_history .*": "statistics(): counts all ended jobs",
    r"SELECT CAST\(status AS BLOB\), count\(\*\) FROM jobs .*": "statistics(): counts, in the indexes alone",
    r"SELECT CAST\(json_group_array\(json_array\(grp, n\)\).*": "once a connection, where groups have limits: no index pays for it",
    r"SELECT \(SELECT count\(\*\) FROM jobs WHERE status <> 'queued'\) .*": "once a connection, where there is a limit: in the indexes alone",
    r"SELECT id, max_running FROM batches WHERE max_running IS NOT NULL .*": "once a connection: all rows of an index of the few with a limit",
    r"SELECT .* FROM batches ORDER BY created_at DESC, id DESC LIMIT \?": "a page in the order of its index",
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
            live_with_children(bench)
        assert findings((one.sql for one in written), bench.con) == {}


def test_every_question_finds_its_rows_by_an_index(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        live_a_little(bench)
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
    modules = (
        applying, batches, batchintents, batchqueries, checkpoints, claiming, damage, ending, fence, inserting, intents, line, newrows, queries,
        quota, recovery, standing, store, succession, children, tree, limits, respawning, parentage, families,
    )  # fmt: skip
    values = [value for module in modules for value in vars(module).values()]
    texts = [value for value in values if isinstance(value, str)]
    texts += [text for value in values if isinstance(value, (ByIds, Grouped)) for text in (value.sql_one, value.sql_many)]
    known = {" ".join(text.split()) for text in texts}
    statements = {text for text in known if re.match(r"(SELECT|INSERT|UPDATE|DELETE|WITH) ", text)}
    assert len(statements) > 30
    with Bench(tmp_path) as bench:
        with bench.traced() as written:
            live_a_little(bench)
            live_with_children(bench)
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
    "SELECT 1 FROM jobs AS j WHERE j.retry_of = ?",
    "SELECT id FROM jobs WHERE status = 'queued' AND run_at IS NULL AND alone = 0 AND name = ? ORDER BY priority, id LIMIT 5",
    "UPDATE jobs SET error = e.value FROM carray(?) AS e WHERE jobs.grp = e.value",
)


def test_a_statement_without_an_index_is_found(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        assert len(findings(WITHOUT_INDEX, bench.con)) == len(WITHOUT_INDEX)
