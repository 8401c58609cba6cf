"""Random groups of writes against a model of a page: the same answers and the same rows, whatever meets in one transaction."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest
from batchwork import Work
from bench import NOBODY, START_MS, Bench, save
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from model import DISK, Model, ModelBatch

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.children import children_batch_id
from callboard.jobs.lifecycle import PAUSER_BITS, RESUMED_BY_USER, Event, Pauser
from callboard.jobs.submission import OnDuplicate, Submission, Submitted
from callboard.persistence import migrate
from callboard.persistence.aftermath import BatchOver
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.connection import STATEMENTS, lasting_plans
from callboard.persistence.recovery import recover
from callboard.persistence.store import Store
from callboard.persistence.writes import (
    Cascade,
    Claim,
    Claimed,
    End,
    Insert,
    InsertAgain,
    InsertChunk,
    Leave,
    SetBatchIntent,
    SetIntent,
    SpawnChildren,
    Write,
)  # fmt: skip

HEAD = ("head", "", 0, encode_head(None, 0))
JOB = PAUSER_BITS[Pauser.JOB]
EXAMPLES = int(os.environ.get("CALLBOARD_MODEL_EXAMPLES", "2000"))
COLUMNS = "id, status, claim, pausers, crashes, alone, priority, after_id, superseded_by, key, parent, after_batch, intent = 'cancel'"
KEYS = (None, b"a", b"b", b"c")
BATCHES = (b"batch 1 " * 2, b"batch 2 " * 2, b"batch 3 " * 2)


def brood(parent: bytes, chance: Random) -> bytes:
    """The batch of one of two sets of children."""
    return children_batch_id(parent, chance.choice("ab"))


class Life:
    """One library, its model, and what has been said to it."""

    def __init__(self, chance: Random, commit: Callable[[list[Write]], list[Any]], library: Any) -> None:
        self.chance, self.commit, self.library = chance, commit, library
        self.model = Model()
        self.claims: list[Claimed] = []
        self.sequences: dict[bytes, int] = {}
        self.sent: list[InsertChunk] = []

    def step(self) -> None:
        some = [self.some_write() for _ in range(self.chance.randrange(1, 9))]
        left = {(type(write), write.job_id): place for place, write in enumerate(some) if isinstance(write, End | Leave)}
        # No actor leaves a job twice at once; if one did, the group would be stored in parts, each with what follows from it.
        writes = [write for place, write in enumerate(some) if not isinstance(write, End | Leave) or left[type(write), write.job_id] == place]
        answers = self.commit(writes)
        self.model.apply_group(writes, answers, self.library.store.take_aftermath())
        for write, answer in zip(writes, answers, strict=True):
            if isinstance(write, Claim):
                self.claims += answer
            elif isinstance(write, InsertChunk | SpawnChildren):
                self.sent.append(write if isinstance(write, InsertChunk) else write.chunk)

    def some_write(self) -> Write:
        chance = self.chance
        nobody = Claimed(NOBODY, "", 1, 1, 1, 0, False, False, 0, 0, 0, None, None, 0, None, b"", b"", False)
        claimed = chance.choice(self.claims[-12:] or [nobody])
        job_id, claim = claimed.job_id, claimed.claim
        any_id = chance.choice([*self.model.jobs, NOBODY])
        match chance.randrange(17):
            case 0 | 1 | 2:
                return Insert("work", 1, b"", key=chance.choice(KEYS), priority=chance.randrange(3), on_duplicate=self.strategy())
            case 3 | 4:
                return Claim(chance.randrange(1, 4), alone=chance.random() < 0.3)
            case 5 | 6:
                event = chance.choice([Event.RETURN, Event.RETURN_WITH_ERRORS, Event.FAIL])
                return End(job_id, claim, event, drop_checkpoint=chance.random() < 0.5)
            case 7:
                event = chance.choice([Event.STOP, Event.YIELD, Event.RELEASE, Event.POISON, Event.AWAIT, Event.AWAIT])
                awaits = brood(job_id, chance) if event is Event.AWAIT else None
                return Leave(job_id, claim, event, pauser=JOB if event is Event.YIELD else 0, awaits=awaits)
            case 8:
                self.sequences[job_id] = self.sequences.get(job_id, 0) + 1
                sequence = self.sequences[job_id]
                return save(claimed, sequence, HEAD, ("field", "x", 0, b"%d" % sequence), charged=chance.random() < 0.5)
            case 9:
                return InsertAgain(any_id, "none")
            case 10 | 11:
                return self.some_chunk(chance.choice(BATCHES))
            case 12 | 13:
                return SpawnChildren(job_id, claim, self.some_chunk(brood(job_id, chance), parent=job_id), None)
            case 14:
                return Cascade(chance.randrange(1, 4))
            case 15:
                batch_id, after = chance.choice([*BATCHES, brood(job_id, chance)]), chance.choice([b"", *self.model.jobs])
                event = chance.choice([Event.PAUSE, Event.RESUME, Event.CANCEL])
                bits = RESUMED_BY_USER if event is Event.RESUME else chance.choice([1, DISK])
                return SetBatchIntent(batch_id, event, bits, after, chance.randrange(1, 5))
            case _:
                event = chance.choice([Event.PAUSE, Event.RESUME, Event.CANCEL, Event.RESUME])
                by_disk = chance.random() < 0.3
                return SetIntent(any_id, event, DISK if by_disk else RESUMED_BY_USER if event is Event.RESUME else 1)

    def strategy(self) -> OnDuplicate:
        return self.chance.choice(list(OnDuplicate))

    def some_chunk(self, batch_id: bytes, parent: bytes | None = None) -> InsertChunk:
        """The next of a batch, or one again, or something that does not fit."""
        chance = self.chance
        sent = [each for each in self.sent if each.chunk.batch_id == batch_id or parent is None and each.chunk.batch_id in BATCHES]
        if sent and chance.random() < 0.3:
            return chance.choice(sent)
        batch = self.model.batches.get(batch_id, ModelBatch())
        start = batch.count if chance.random() < 0.9 else chance.choice([0, batch.count + 1])
        items: list[Any] = [self.some_item() for _ in range(chance.randrange(5))]
        encoder = BatchEncoder(BatchSubmission(items, on_duplicate=self.strategy()), batch_id, start=start, parent=parent)
        given = iter([*items, Work(0)] if chance.random() < 0.5 else items)
        chunk = encoder.chunk(given, len(items) if items else None)
        assert chunk is not None
        then = Insert("work", 1, b"", key=chance.choice(KEYS), on_duplicate=self.strategy())
        on_complete = then if parent is None and chance.random() < 0.5 else None
        return InsertChunk(chunk, on_complete=on_complete)

    def some_item(self) -> Any:
        chance = self.chance
        job = Work(chance.randrange(10))
        match chance.randrange(8):
            case 0:
                return job
            case 1:
                return Work("not a number")  # type: ignore[arg-type]
            case _:
                strategy = self.strategy() if chance.random() < 0.3 else None
                return Submission(job, key=chance.choice(KEYS), priority=chance.randrange(3), on_duplicate=strategy)

    def crash(self) -> None:
        self.library.reopen()
        self.model.crash(self._completed_by)

    def _completed_by(self, batch_id: bytes) -> BatchOver:
        """What recovery made of a batch is in its rows."""
        [(job_id,)] = self.rows("SELECT completed_by FROM batches WHERE id = ? AND completed_at IS NOT NULL", batch_id)
        if job_id is None:
            return BatchOver(batch_id, {}, None)
        return BatchOver(batch_id, {}, AfterCrash(job_id, job_id in self.model.jobs))

    def rows(self, sql: str, *values: Any) -> list[Any]:
        return self.library.con.execute(sql, values).fetchall()  # type: ignore[no-any-return]

    def check(self) -> None:
        model = self.model
        found = self.rows(f"SELECT {COLUMNS} FROM jobs ORDER BY id")
        assert found == [
            (job_id, job.status, job.claim, job.pausers, job.crashes, job.alone, job.priority, job.after, job.superseded_by, job.key, job.parent,
             job.awaits, job.unwanted)
            for job_id, job in sorted(model.live().items())
        ]  # fmt: skip
        held = [(job_id, job.held) for job_id, job in sorted(model.live().items()) if job.held is not None]
        assert self.rows("SELECT job_id, status FROM held_ends ORDER BY job_id") == held
        noted = [(parent, event, after or None) for parent, (event, after) in sorted(model.cascades.items())]
        assert self.rows("SELECT parent, event, after FROM cascades ORDER BY parent") == noted
        ended = self.rows("SELECT id, status, superseded_by FROM job_history ORDER BY id")
        assert ended == [(job_id, job.status, job.superseded_by) for job_id, job in sorted(model.jobs.items()) if job.status.ended]
        for job_id, value in self.rows("SELECT job_id, value FROM job_checkpoints WHERE kind = 'field'"):
            assert value == b"%d" % model.jobs[job_id].sequence
        batches = self.rows("SELECT id, count, sealed, members, open, completed_at IS NOT NULL FROM batches ORDER BY id")
        assert batches == [
            (batch_id, batch.count, batch.sealed, len(batch.members), sum(not model.jobs[each].status.ended for each in batch.members), batch.over)
            for batch_id, batch in sorted(model.batches.items())
        ]


class AfterCrash(Submitted):
    """Nobody was told of it: what it has met follows from the model alone."""

    def __init__(self, job_id: bytes, duplicate: bool) -> None:
        super().__init__(job_id, duplicate)


@pytest.mark.parametrize("seed", range(30))
def test_random_groups_do_what_the_model_does(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    with Bench(tmp_path) as bench:
        life = Life(chance, lambda writes: bench.commit(*writes), bench)
        for _ in range(60):
            if chance.random() < 0.05:
                life.crash()
            bench.now += chance.randrange(-2, 5)
            life.step()
            life.check()


# --- in memory, many ----------------------------------------------------------------------------------------------------


def refused(_: Any, error: Exception) -> None:
    """No group is refused here: stored in halves it might come out right all the same."""
    raise error


def _made() -> apsw.Connection:
    made = apsw.Connection(":memory:", statementcachesize=STATEMENTS)
    lasting_plans(made)
    migrate.create(made)
    return made


class InMemory:
    """A library without files: what a crash leaves is what was committed. One database for all of them, which is emptied: its statements
    are prepared once."""

    _kept: apsw.Connection | None = None

    def __init__(self) -> None:
        self.con = InMemory._kept = InMemory._kept or _made()
        if self.con.in_transaction:  # an example has failed in it
            self.con.execute("ROLLBACK")
        with self.con:
            for (table,) in self.con.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'meta'").fetchall():
                self.con.execute(f"DELETE FROM {table}")
        self.now = START_MS
        self.store = self._open()

    @property
    def writer(self) -> apsw.Connection:
        return self.con

    def _open(self) -> Store:
        store = Store(self, now_ms=lambda: self.now, random_bytes=os.urandom, knows=lambda *_: True)
        setattr(store, "_refuse", refused)  # noqa: B010
        return store

    def in_place(self) -> bool:
        return True

    def rescue(self) -> None: ...

    def free_reserve(self) -> None: ...

    def find_room(self) -> bool:
        return True

    def reopen(self) -> None:
        with self.con:
            recover(self.con, self.now, False)
        self.store = self._open()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(st.integers(0, 2**64 - 1), st.integers(2, 14))
@example(99900468, 7)  # made more urgent and superseded in one group: the history had the old priority
def test_two_thousand_short_lives_do_what_the_model_does(seed: int, steps: int) -> None:
    chance = Random(seed)
    library = InMemory()
    life = Life(chance, library.store.commit, library)
    for _ in range(steps):
        if chance.random() < 0.1:
            life.crash()
            life.commit = library.store.commit
        library.now += chance.randrange(-2, 5)
        life.step()
        life.check()
