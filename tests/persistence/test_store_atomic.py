"""Whatever a write is made of, others see all of it or nothing: G3 of a part of a batch, G6 of a checkpoint, and all that is committed with them.

Another connection looks at every statement that the store runs. What it sees is what a crash at that moment would leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import apsw
import pytest
from batchwork import Work, chunks
from bench import Bench, save

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.children import children_batch_id
from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.submission import OnDuplicate, Submission
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.writes import Claim, Claimed, End, Insert, InsertAgain, InsertChunk, Leave, SetBatchIntent, SetIntent, SpawnChildren, Write

HEAD = ("head", "", 0, encode_head(None, 0))
FIELDS = [("field", f"field {number}", 0, b"value") for number in range(5)]
PARTS = (*FIELDS, ("done", "map", 0, bytes(512)), ("note", "map", 7, b"note"))


def children_of(parent: Claimed, count: int) -> SpawnChildren:
    """So many, with the checkpoint that names them."""
    encoder = BatchEncoder(BatchSubmission(()), children_batch_id(parent.job_id, "folders"), parent=parent.job_id)
    chunk = encoder.chunk(iter([Work(number) for number in range(count)]), None)
    assert chunk is not None
    saved = save(parent, 1, HEAD, *FIELDS, ("children", "folders", 0, b"named"))
    return SpawnChildren(parent.job_id, parent.claim, InsertChunk(chunk), saved)


def a_checkpoint(bench: Bench) -> Iterable[Write]:
    claimed = bench.start()
    bench.do(save(claimed, 1, HEAD, *FIELDS, ("note", "map", 3, b"note")))
    warnings = (1, "item", "a warning"), (2, None, "another")
    return [save(claimed, 2, HEAD, *PARTS, ("note", "map", 3, None), warnings=warnings, charged=True)]


def checkpoints_of_many(bench: Bench) -> Iterable[Write]:
    return [save(bench.start(), 1, HEAD, *PARTS) for _ in range(3)]


def a_part_of_a_batch(bench: Bench) -> Iterable[Write]:
    bench.in_status(Status.RUNNING, name="work", key=b"running")
    bench.in_status(Status.PAUSED, name="work", key=b"paused")
    items = [Submission(Work(number), key=f"key {number}", tags=("tag",)) for number in range(5)]
    items += [Submission(Work(7), key=key, on_duplicate=OnDuplicate.SUPERSEDE) for key in ("running", "paused")]
    [chunk] = chunks(items)
    return [InsertChunk(chunk, "somebody", Insert("then", 1, b""))]


def the_last_end_of_a_batch(bench: Bench) -> Iterable[Write]:
    [chunk] = chunks([Work(1)])
    bench.do(InsertChunk(chunk, None, Insert("then", 1, b"")))
    [claimed] = bench.claim()
    bench.do(save(claimed, 1, HEAD, *PARTS))
    return [End(claimed.job_id, claimed.claim, Event.RETURN, drop_checkpoint=True)]


def a_command_to_a_batch(bench: Bench) -> Iterable[Write]:
    [chunk] = chunks([Work(number) for number in range(5)])
    bench.do(InsertChunk(chunk))
    bench.claim(2)
    return [SetBatchIntent(chunk.batch_id, Event.CANCEL, 0)]


def children_and_the_checkpoint_that_names_them(bench: Bench) -> Iterable[Write]:
    return [children_of(bench.start(), 3)]


def the_end_of_the_last_child(bench: Bench) -> Iterable[Write]:
    parent = bench.start(name="parent")
    bench.do(children_of(parent, 1))
    bench.do(End(parent.job_id, parent.claim, Event.RETURN))
    [child] = bench.claim()
    return [End(child.job_id, child.claim, Event.RETURN)]


def the_end_of_the_job_in_front(bench: Bench) -> Iterable[Write]:
    front = bench.start(key=b"key")
    bench.add(key=b"key", on_duplicate=OnDuplicate.REQUEUE)
    return [End(front.job_id, front.claim, Event.FAIL, error="went wrong", progress=b"reading")]


def a_departure_with_its_state(bench: Bench) -> Iterable[Write]:
    claimed = bench.in_status(Status.PAUSING)
    return [Leave(claimed.job_id, claimed.claim, Event.STOP, sequence=1, parts=(HEAD, *PARTS))]


def a_cancel_in_line(bench: Bench) -> Iterable[Write]:
    return [SetIntent(bench.add(tags=("tag",)), Event.CANCEL)]


def a_retry(bench: Bench) -> Iterable[Write]:
    claimed = bench.start(tags=("tag",))
    bench.do(save(claimed, 1, HEAD, *PARTS))
    bench.do(End(claimed.job_id, claimed.claim, Event.FAIL, error="went wrong"))
    return [InsertAgain(claimed.job_id, "rest")]


def all_sorts_in_one_group(bench: Bench) -> Iterable[Write]:
    ending, leaving, saving = bench.start(key=b"key"), bench.start(), bench.start()
    new = Insert("work", 1, b"", key=b"key", tags=("tag",))
    return [
        save(saving, 1, HEAD, *PARTS), Claim(5), new, End(ending.job_id, ending.claim, Event.RETURN), SetIntent(saving.job_id, Event.PAUSE),
        Leave(leaving.job_id, leaving.claim, Event.RETRY, "went wrong", run_at_ms=bench.now + 5),
    ]  # fmt: skip


MADE_OF_MUCH = (
    a_checkpoint, checkpoints_of_many, a_part_of_a_batch, the_last_end_of_a_batch, a_command_to_a_batch,
    children_and_the_checkpoint_that_names_them, the_end_of_the_last_child, the_end_of_the_job_in_front, a_departure_with_its_state,
    a_cancel_in_line, a_retry, all_sorts_in_one_group,
)  # fmt: skip


@pytest.mark.parametrize("make", MADE_OF_MUCH, ids=lambda make: make.__name__)
def test_G3_G6_at_every_statement_others_see_all_of_a_group_or_nothing(tmp_path: Path, make: Callable[[Bench], Iterable[Write]]) -> None:
    with Bench(tmp_path) as bench:
        writes = tuple(make(bench))
        assert bench.folder is not None
        reader = bench.folder.reader()
        before, seen = contents(reader), []

        def look(cursor: Any, sql: str, bindings: Any) -> bool:
            if contents(reader) != before:
                seen.append(sql)
            return True

        bench.con.exec_trace = look
        answers = bench.commit(*writes)
        bench.con.exec_trace = None
        assert not any(isinstance(answer, Exception) for answer in answers), answers
        assert seen == [], "part of the group was there when this statement began"
        assert contents(reader) != before


def contents(con: apsw.Connection) -> list[Any]:
    """Every row of the library, as a connection sees it."""
    tables = [name for (name,) in con.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY 1")]
    return [con.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables]
