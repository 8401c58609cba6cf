"""A library in the plainest words: dicts, one job after the other. What a store answers and holds is compared with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from model_families import Families, ModelBatch, ModelJob

from callboard.jobs.batch_items import DeduplicatedItem, RejectedItem, RequeuedItem, SubmittedItem, SupersededItem
from callboard.jobs.duplicates import Answer, Decision, NewRow, OldJob, Standing, decide, raises_priority
from callboard.jobs.errors import BatchMismatch, NoSuchBatch, NoSuchJob, NotAllowed
from callboard.jobs.lifecycle import PAUSER_BITS, Event, Pauser, Status, after_crash, transition
from callboard.jobs.submission import OnDuplicate, Submitted
from callboard.persistence.aftermath import Aftermath, nothing_besides
from callboard.persistence.applying import applied_rank
from callboard.persistence.writes import (
    Cascade,
    ChunkStored,
    Claim,
    Claimed,
    End,
    Fenced,
    Insert,
    InsertAgain,
    InsertChunk,
    IntentSet,
    Leave,
    SaveCheckpoint,
    SetBatchIntent,
    SetIntent,
    SpawnChildren,
    Write,
)  # fmt: skip

DISK = PAUSER_BITS[Pauser.DISK]
TOGETHER = (End, Leave, Insert)
"""Of these all in a group are carried out before what follows from them."""


class Model(Families):
    """What a library should do."""

    def apply_group(self, writes: Sequence[Write], answers: Sequence[Any], told: Aftermath) -> None:
        """Check every answer, and do what the writes ask."""
        self.told = told
        pairs = sorted(zip(writes, answers, strict=True), key=lambda pair: _rank(pair[0]))
        for kind, some in groupby(pairs, key=lambda pair: type(pair[0])):
            self.read()
            for write, answer in some:
                self.apply(write, answer)
                if kind not in TOGETHER:
                    self.follow()
            self.follow()
        assert told.cascades or not self.cascades
        assert told._replace(shrunk=[], cascades=[]) == nothing_besides()

    def apply(self, write: Write, answer: Any) -> None:
        match write:
            case Insert():
                self._insert(write, answer)
            case InsertChunk():
                self._insert_chunk(write, answer)
            case SpawnChildren():
                self._spawn(write, answer)
            case Cascade():
                self.cascade(write, answer)
            case InsertAgain():
                self._insert_again(write, answer)
            case Claim():
                self._claim(write, answer)
            case SetIntent():
                self._set_intent(write, answer)
            case SetBatchIntent():
                self._set_batch_intent(write, answer)
            case SaveCheckpoint() | End() | Leave():
                if self._holds(write, answer):
                    self._from_actor(self.jobs[write.job_id], write, answer)

    # --- new jobs -----------------------------------------------------------------------------------------------------

    def _older(self, key: bytes | None) -> bytes | None:
        """The job that a newcomer with this key meets: the successor, if there is one."""
        having = [job_id for job_id, job in self.live().items() if key is not None and job.key == key]
        assert len(having) <= 2
        return next((job_id for job_id in having if self.jobs[job_id].status is Status.WAITING), having[0] if having else None)

    def _meet(self, new: ModelJob, new_id: bytes | None, strategy: OnDuplicate) -> tuple[Decision | None, bytes | None, bool]:
        """Let a newcomer meet whoever has its key: the decision, the older one, whether that was raised. `new_id`: None if none was made."""
        older_id = self._older(new.key)
        if older_id is None:
            assert new_id is not None
            self._make(new, new_id)
            return None, None, False
        older = self.jobs[older_id]
        standing = self.standing(older_id)
        decision = decide(strategy, standing)
        raised = raises_priority(strategy, standing, older.priority, new.priority)
        if raised:
            older.priority = new.priority
        if decision.new is NewRow.NONE:
            return decision, older_id, raised
        assert new_id is not None
        if decision.new is not NewRow.QUEUED:
            new.status = Status.WAITING
            new.after = older_id if decision.new is NewRow.BEHIND else older.after
        if decision.old is not OldJob.STAYS:
            self._replace(older_id, new_id, decision.old is OldJob.ENDS, standing)
        self._make(new, new_id)
        return decision, older_id, False

    def _make(self, new: ModelJob, new_id: bytes) -> None:
        assert new_id > max(self.jobs, default=b"")
        self.jobs[new_id] = new

    def _replace(self, older_id: bytes, by: bytes, ends: bool, standing: Standing) -> None:
        older = self.jobs[older_id]
        older.superseded_by = by
        is_parent = older_id in self.parents
        if older.status.claimed:
            self.becomes(older_id, Status.CANCELLING)
            if standing is Standing.CHILDREN_RUNNING:
                self.tell_children(older_id, Event.CANCEL)
        elif ends and not is_parent:
            self.becomes(older_id, Status.CANCELLED)
        else:
            self.hold(older_id, Status.CANCELLED)
            self.gave_way.add(older_id)
        self._tell(self.told.replaced, (older_id, "work", by, ends and not is_parent))

    def _insert(self, write: Insert, answer: Submitted) -> None:
        made = None if answer.duplicate else answer.job_id
        decision, older_id, raised = self._meet(ModelJob(write.key, write.priority, strategy=write.on_duplicate), made, write.on_duplicate)
        if decision is None or older_id is None:
            assert answer.met is None and not answer.duplicate
            return
        if self.crashed is not None:
            return
        assert answer.met is not None and answer.met[:3] == (decision.outcome, older_id, raised)
        waits = decision.new in (NewRow.BEHIND, NewRow.IN_PLACE)
        assert waits >= answer.met.waiting  # it does not if another of the same group has taken its place
        assert answer.duplicate == (decision.new is NewRow.NONE)
        if answer.duplicate:
            assert answer.job_id == older_id

    def _insert_again(self, write: InsertAgain, answer: Any) -> None:
        old = self.jobs.get(write.job_id)
        if old is None or not old.status.ended:
            assert isinstance(answer, NotAllowed if old else NoSuchJob)
            return
        having = [job_id for job_id, job in self.live().items() if old.key is not None and job.key == old.key and job.status is not Status.WAITING]
        assert answer.duplicate == bool(having)
        if having:
            assert answer.job_id == having[0]
        else:
            self._make(ModelJob(old.key, old.priority, self.is_retried(old)), answer.job_id)

    def _spawn(self, write: SpawnChildren, answer: Any) -> None:
        if not self._holds(write, answer):
            return
        self._insert_chunk(write.chunk, answer)
        parent = self.jobs[write.job_id]
        if isinstance(answer, ChunkStored):
            if not answer.again:
                parent.crashes, parent.alone = 0, False
            if parent.status is not Status.RUNNING:
                self.tell_children(write.job_id, Event.PAUSE if parent.status is Status.PAUSING else Event.CANCEL)

    def _insert_chunk(self, write: InsertChunk, answer: Any) -> None:
        chunk = write.chunk
        batch = self.batches.get(chunk.batch_id) or ModelBatch(on_complete=write.on_complete)
        stored = batch.chunks.get(chunk.start)
        if stored is not None and (chunk.count or chunk.start < batch.count):
            before, first_answer = stored
            if before.chunk.digest != chunk.digest:
                assert isinstance(answer, BatchMismatch)
                return
            indices = range(chunk.start, chunk.start + chunk.count)
            told = [[repr(stored.outcome.item(index)) for index in indices] for stored in (first_answer, answer)]
            assert answer.again and told[0] == told[1]
            if chunk.last and chunk.start + chunk.count == batch.count:
                batch.sealed = True
            return
        if chunk.start != batch.count or (batch.sealed and chunk.count):
            assert isinstance(answer, BatchMismatch)
            return
        if batch.sealed:
            assert answer.again
            return
        if self.refused(chunk, answer):
            return
        assert not answer.again
        self.batches[chunk.batch_id] = batch
        mine = set(batch.members)
        self.read()
        for index in range(chunk.start, chunk.start + chunk.count):
            if index in chunk.others:
                assert answer.outcome.item(index) == chunk.others[index]
                continue
            self._item(batch, mine, chunk, index, answer.outcome.item(index))
        batch.count += chunk.count
        batch.sealed = chunk.last
        if chunk.count:
            batch.chunks[chunk.start] = write, answer

    def _item(self, batch: ModelBatch, mine: set[bytes], chunk: Any, index: int, item: Any) -> None:
        row = chunk.rows[index - chunk.start if chunk.places is None else chunk.places.index(index)]
        shape, key = chunk.shapes[int(row[:6])], chunk.keys[index - chunk.start]
        older_id = self._older(key)
        strategy = shape.on_duplicate
        if older_id in mine and not self.jobs[older_id].claim:  # type: ignore[index]
            strategy = OnDuplicate.SUPERSEDE
        made = item.job_id if isinstance(item, (SubmittedItem, SupersededItem, RequeuedItem)) else b""
        decision, met, raised = self._meet(ModelJob(key, shape.priority, shape.parent), made or None, strategy)
        older_id = met or b""
        if made:
            batch.members.add(made)
        match decision.outcome if decision else Answer.SUBMITTED:
            case Answer.SUBMITTED:
                assert item == SubmittedItem(index, made)
            case Answer.DEDUPLICATED:
                assert item == DeduplicatedItem(index, key, older_id, raised)
            case Answer.SUPERSEDED:
                assert item == SupersededItem(index, made, older_id)
            case Answer.REQUEUED:
                assert item == RequeuedItem(index, made, older_id)
            case Answer.REJECTED:
                assert item == RejectedItem(index, key, older_id)

    # --- what follows -------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Successors of what has ended take their turn, batches are over."""
        self.end_held(sorted(self.gave_way))
        self.gave_way.clear()
        while True:
            ended, self._ended = self._ended, []
            self._advance([job_id for job_id, job in self.jobs.items() if job.status is Status.WAITING and job.after in ended])
            over = sorted(batch_id for batch_id, batch in self.batches.items() if self._is_over(batch))
            self.end_held(self.jobs)
            for batch_id in over:
                self.batches[batch_id].over = True
            self._advance(self.wake())
            for batch_id in over:
                self._complete(batch_id)
            if not self._ended:
                return

    def _advance(self, job_ids: list[bytes]) -> None:
        for job_id in job_ids:
            job = self.jobs[job_id]
            job.after = None
            job.status = transition(job.status, Event.ADVANCE)
            if job.pausers:
                job.status = transition(job.status, Event.PAUSE)
            self._tell(self.told.advanced, (job_id, "work", job.status))

    def _is_over(self, batch: ModelBatch) -> bool:
        return batch.sealed and not batch.over and all(self.jobs[member].status.ended for member in batch.members)

    def _complete(self, batch_id: bytes) -> None:
        batch = self.batches[batch_id]
        told: Any
        [told] = [each for each in self.told.over if each.batch_id == batch_id] if self.crashed is None else [self.crashed(batch_id)]
        if self.crashed is None:
            self.told.over.remove(told)
            assert told.counts == Counter(str(self.jobs[member].status) for member in batch.members)
        assert (told.on_complete is None) == (batch.on_complete is None)
        if batch.on_complete is not None:
            self.read()
            self._insert(batch.on_complete, told.on_complete)
            self.follow()

    def _tell(self, told: list[Any], what: Any) -> None:
        if self.crashed is None:
            told.remove(what)

    # --- the rest -----------------------------------------------------------------------------------------------------

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
        if before is Status.ENDING and job.unwanted and write.event is not Event.CANCEL:
            assert answer == IntentSet("work", before, before)
            return
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
        self.becomes(write.job_id, after)
        self.told_to_children(write.job_id)
        assert answer == IntentSet("work", before, job.status, after is Status.QUEUED and job.alone)

    def _set_batch_intent(self, write: SetBatchIntent, answer: Any) -> None:
        batch = self.batches.get(write.batch_id)
        if batch is None:
            assert isinstance(answer, NoSuchBatch)
            return
        asked = sorted(member for member in batch.members if member > write.after_id and not self.jobs[member].status.ended)[: write.most]
        told = {changed.job_id: changed for changed in answer.changed}
        for job_id in asked:
            job = self.jobs[job_id]
            before, alone = job.status, job.alone
            one = SetIntent(job_id, write.event, write.pauser)
            changed = told.pop(job_id, None)
            after = before if changed is None else changed.after
            self._set_intent(one, IntentSet("work", before, after, after is Status.QUEUED and (job.alone or before is Status.QUARANTINED)))
            assert (changed is None) == (job.status is before)
            assert changed is None or changed == (job_id, "work", before, after, after is Status.QUEUED and (alone or job.alone))
        assert not told and answer.refused == 0
        assert answer.go_on_after == (asked[-1] if len(asked) == write.most else None)

    def _holds(self, write: SaveCheckpoint | End | Leave | SpawnChildren, answer: Any) -> bool:
        """Whether it comes from the job's own actor."""
        job = self.jobs.get(write.job_id)
        fenced = job is None or job.claim != write.claim or not job.status.claimed
        assert fenced == (answer == Fenced())
        return not fenced

    def _from_actor(self, job: ModelJob, write: SaveCheckpoint | End | Leave, answer: Any) -> None:
        if isinstance(write, SaveCheckpoint):
            assert answer is None
            job.sequence = write.sequence
            if write.charged:
                job.crashes, job.alone = 0, False
            return
        self.becomes(write.job_id, transition(job.status, write.event))
        assert answer is job.status
        if isinstance(write, Leave) and job.status is Status.PAUSED:
            job.pausers |= write.pauser
        if isinstance(write, Leave) and job.status is Status.AWAITING:
            job.awaits = write.awaits

    def crash(self, completed_by: Any) -> None:
        """`completed_by`: batch id → the answer to its `on_complete`, or None, wrapped as `BatchOver`."""
        self.crashed = completed_by
        try:
            for job_id, job in self.jobs.items():
                if job.status.claimed:
                    after = after_crash(job.status, job.crashes + 1, True)
                    if not after.ended:
                        job.crashes += 1
                        job.alone = job.crashes >= 2
                    self.becomes(job_id, after)
            self.follow()
            self.cascades = {parent: told for parent, told in self.cascades.items() if parent in self.live()}
        finally:
            self.crashed = None


def _rank(write: Write) -> tuple[int, bytes]:
    """Where it is applied; of ends, those of parents before those of their children."""
    return applied_rank(write), write.job_id if isinstance(write, End | Leave) else b""


def members(batches: Iterable[ModelBatch]) -> set[bytes]:
    return {member for batch in batches for member in batch.members}
