"""Random groups of writes against a model of a page: the same answers and the same statuses, whatever meets in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bench import NOBODY, Bench, save

from callboard.jobs.errors import NoSuchJob, NotAllowed
from callboard.jobs.lifecycle import PAUSER_BITS, RESUMED_BY_USER, Event, Pauser, Status, after_crash, transition
from callboard.jobs.submission import Submitted
from callboard.persistence.applying import applied_rank
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.writes import Claim, Claimed, End, Fenced, Insert, InsertAgain, IntentSet, Leave, SaveCheckpoint, SetIntent, Write

HEAD = ("head", "", 0, encode_head(None, 0))
JOB, DISK = PAUSER_BITS[Pauser.JOB], PAUSER_BITS[Pauser.DISK]


@dataclass
class ModelJob:
    key: bytes | None
    priority: int
    status: Status = Status.QUEUED
    claim: int = 0
    pausers: int = 0
    crashes: int = 0
    alone: bool = False
    sequence: int = 0


@dataclass
class Model:
    """What a library should do, in the plainest words. Ids are taken from the store's own answers."""

    jobs: dict[bytes, ModelJob] = field(default_factory=dict)

    def live(self) -> dict[bytes, ModelJob]:
        return {job_id: job for job_id, job in self.jobs.items() if not job.status.ended}

    def apply(self, write: Write, answer: Any) -> None:
        """Check one answer, and do what the write asks."""
        match write:
            case Insert():
                self._new(write.key, write.priority, answer)
            case InsertAgain():
                old = self.jobs.get(write.job_id)
                if old is None or not old.status.ended:
                    assert isinstance(answer, NotAllowed if old else NoSuchJob)
                else:
                    self._new(old.key, old.priority, answer)
            case Claim():
                self._claim(write, answer)
            case SetIntent():
                self._set_intent(write, answer)
            case SaveCheckpoint() | End() | Leave():
                job = self.jobs.get(write.job_id)
                if job is None or job.claim != write.claim or not job.status.claimed:
                    assert answer == Fenced()
                else:
                    self._from_actor(job, write, answer)

    def _new(self, key: bytes | None, priority: int, answer: Submitted) -> None:
        standing = [job_id for job_id, job in self.live().items() if key is not None and job.key == key]
        assert answer.duplicate == bool(standing)
        if standing:
            assert answer.job_id == standing[0]
        else:
            assert answer.job_id > max(self.jobs, default=b"")
            self.jobs[answer.job_id] = ModelJob(key, priority)

    def _claim(self, write: Claim, answer: tuple[Claimed, ...]) -> None:
        ready = [(job.priority, job_id) for job_id, job in self.jobs.items() if job.status is Status.QUEUED and job.alone == write.alone]
        taken = [job_id for _, job_id in sorted(ready)][: 1 if write.alone else write.most]
        assert [claimed.job_id for claimed in answer] == taken
        for claimed in answer:
            job = self.jobs[claimed.job_id]
            job.status, job.claim = Status.RUNNING, job.claim + 1
            assert (claimed.claim, claimed.crashes, claimed.alone) == (job.claim, job.crashes, job.alone)

    def _set_intent(self, write: SetIntent, answer: Any) -> None:
        job = self.jobs.get(write.job_id)
        if job is None or job.status.ended:
            assert isinstance(answer, NotAllowed if job else NoSuchJob)
            return
        before, after = job.status, transition(job.status, write.event)
        if before is not Status.CANCELLING:
            job.pausers = job.pausers | write.pauser if write.event is Event.PAUSE else job.pausers
            if write.event is Event.RESUME:
                job.pausers &= ~write.pauser
                if before is Status.QUARANTINED and write.pauser == DISK:
                    after = before
                elif job.pausers:
                    after = transition(after, Event.PAUSE)
        if before is Status.QUARANTINED and after in (Status.QUEUED, Status.PAUSED):
            job.crashes, job.alone = 2, True
        job.status = after
        assert answer == IntentSet("work", before, after, after is Status.QUEUED and job.alone)

    def _from_actor(self, job: ModelJob, write: SaveCheckpoint | End | Leave, answer: Any) -> None:
        if isinstance(write, SaveCheckpoint):
            assert answer is None
            job.sequence = write.sequence
            if write.charged:
                job.crashes, job.alone = 0, False
            return
        job.status = transition(job.status, write.event)
        assert answer is job.status
        if isinstance(write, Leave) and job.status is Status.PAUSED:
            job.pausers |= write.pauser

    def crash(self) -> None:
        for job in self.jobs.values():
            if job.status.claimed:
                job.crashes += 1
                job.status = after_crash(job.status, job.crashes, True)
                job.alone = job.crashes >= 2


def some_write(chance: Random, model: Model, claims: list[Claimed], sequences: dict[bytes, int]) -> Write:
    nobody = Claimed(NOBODY, "", 1, 1, 1, 0, False, False, 0, 0, 0, None, None, 0, None, b"", b"", False)
    claimed = chance.choice(claims[-12:] or [nobody])
    job_id, claim = claimed.job_id, claimed.claim
    any_id = chance.choice([*model.jobs, NOBODY])
    match chance.randrange(10):
        case 0 | 1:
            return Insert("work", 1, b"", key=chance.choice([None, b"a", b"b"]), priority=chance.randrange(3))
        case 2 | 3:
            return Claim(chance.randrange(1, 4), alone=chance.random() < 0.3)
        case 4:
            return End(job_id, claim, chance.choice([Event.RETURN, Event.RETURN_WITH_ERRORS, Event.FAIL]), drop_checkpoint=chance.random() < 0.5)
        case 5:
            event = chance.choice([Event.STOP, Event.YIELD, Event.RELEASE, Event.POISON])
            return Leave(job_id, claim, event, pauser=JOB if event is Event.YIELD else 0)
        case 6:
            sequences[job_id] = sequences.get(job_id, 0) + 1
            return save(claimed, sequences[job_id], HEAD, ("field", "x", 0, b"%d" % sequences[job_id]), charged=chance.random() < 0.5)
        case 7:
            return InsertAgain(any_id, "none")
        case _:
            event = chance.choice([Event.PAUSE, Event.RESUME, Event.CANCEL, Event.RESUME])
            by_disk = chance.random() < 0.3
            return SetIntent(any_id, event, DISK if by_disk else RESUMED_BY_USER if event is Event.RESUME else 1)


@pytest.mark.parametrize("seed", range(30))
def test_random_groups_do_what_the_model_does(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    with Bench(tmp_path) as bench:
        model, claims, sequences = Model(), list[Claimed](), dict[bytes, int]()
        for _ in range(60):
            if chance.random() < 0.05:
                bench.reopen()
                model.crash()
            bench.now += chance.randrange(-2, 5)
            writes = [some_write(chance, model, claims, sequences) for _ in range(chance.randrange(1, 9))]
            answers = bench.commit(*writes)
            for write, answer in sorted(zip(writes, answers, strict=True), key=lambda pair: applied_rank(pair[0])):
                model.apply(write, answer)
                if isinstance(write, Claim):
                    claims += answer
            check(bench, model)


def check(bench: Bench, model: Model) -> None:
    found = bench.rows("SELECT id, status, claim, pausers, crashes, alone FROM jobs ORDER BY id")
    assert found == [(job_id, job.status, job.claim, job.pausers, job.crashes, job.alone) for job_id, job in sorted(model.live().items())]
    ended = bench.rows("SELECT id, status FROM job_history ORDER BY id")
    assert ended == [(job_id, job.status) for job_id, job in sorted(model.jobs.items()) if job.status.ended]
    for job_id, value in bench.rows("SELECT job_id, value FROM job_checkpoints WHERE kind = 'field'"):
        assert value == b"%d" % model.jobs[job_id].sequence
