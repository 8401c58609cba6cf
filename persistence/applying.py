"""What the writes of one group do to the rows, inside the store's transaction.

Order within a group: all writes of a group were on their way at the same moment, so any order of them is a true one. What ends comes before
what is new, which finds its key free, and claims come last; everything of one kind is applied together, in order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from callboard.jobs.lifecycle import Status
from callboard.jobs.submission import OnDuplicate
from callboard.persistence import checkpoints, ending, intents
from callboard.persistence.aftermath import nothing_besides
from callboard.persistence.batchintents import set_batch_intent
from callboard.persistence.fence import held
from callboard.persistence.line import Line
from callboard.persistence.rows import bound
from callboard.persistence.tree import go_down
from callboard.persistence.writes import (
    Answer,
    BatchIntentSet,
    Cascade,
    Cascaded,
    ChunkStored,
    Claim,
    Due,
    End,
    Excuse,
    Fenced,
    Insert,
    InsertAgain,
    InsertChunk,
    IntentSet,
    Leave,
    MakeDue,
    ParentProgress,
    ParentWaits,
    SaveCheckpoint,
    SetBatchIntent,
    SetIntent,
    SetUnresponsive,
    SpawnAgain,
    SpawnChildren,
    Write,
    WriteProgress,
)  # fmt: skip

DUE = "UPDATE jobs SET run_at = NULL, queued_at = max(queued_at, run_at) WHERE run_at <= ?"
PROGRESS = "UPDATE jobs SET progress = ? WHERE id = ? AND claim = ? AND status IN ('running', 'pausing', 'cancelling')"
OF_CHILDREN = "UPDATE jobs SET progress = ? WHERE id = ? AND status IN ('awaiting_children', 'ending')"
UNRESPONSIVE = "UPDATE jobs SET unresponsive = ? WHERE id = ? AND claim = ? AND status IN ('running', 'pausing', 'cancelling')"
WAITS = "UPDATE jobs SET excused = ?3 WHERE id = ?1 AND claim = ?2 AND status IN ('running', 'pausing', 'cancelling')"
EXCUSE = "UPDATE jobs SET excused = 1 WHERE id IN (SELECT value FROM carray(?)) AND status IN ('running', 'pausing', 'cancelling')"

APPLIED = (
    SaveCheckpoint, WriteProgress, ParentProgress, SetUnresponsive, ParentWaits, SetIntent, SetBatchIntent, Leave, End, Excuse, Insert, InsertChunk,
    SpawnChildren, SpawnAgain, InsertAgain, Cascade, MakeDue, Claim,
)  # fmt: skip
"""The order in which the writes of one group are applied, whatever the order of their arrival."""

_LET_NOBODY_WAIT = frozenset((SaveCheckpoint, WriteProgress, ParentProgress, SetUnresponsive, ParentWaits, End, Excuse, Insert, Claim))
"""No job comes into line by any of these, save the new ones."""

_RANK = {kind: rank for rank, kind in enumerate(APPLIED)}


def applied_rank(write: Write) -> int:
    """Where a write stands in that order: what is told of a group must be told in it."""
    return _RANK.get(type(write), 0)


class GroupWriter(Line):
    """Applies the writes of a group to the rows."""

    def apply(self, writes: Sequence[Write], now: int) -> list[Answer]:
        """Inside a transaction; answers in the order of `writes`. Raises what SQLite raises, and for values that fit no row."""
        self._now, self._chance, self.aftermath = now, b"", nothing_besides()
        if self._behind is None:
            self._remember()
        self._ended.clear()
        self.claimed_again.clear()
        if len(writes) == 1:
            answers = [*self._apply_kind(type(writes[0]), list(writes), now)]
        else:
            answers = self._apply_all(writes, now)
        self._keep_limits()
        if self._batches.shrunk:
            self.aftermath.shrunk.extend(dict.fromkeys(self._batches.shrunk))
            self._batches.shrunk.clear()
        if self._families.cascading:
            self.aftermath.cascades.append(True)
        return answers

    def _apply_all(self, writes: Sequence[Write], now: int) -> list[Answer]:
        answers: list[Answer] = [None] * len(writes)
        kinds: dict[type, list[int]] = {}
        for index, write in enumerate(writes):
            kinds.setdefault(type(write), []).append(index)

        takes_all = self._claim_takes_all_new(kinds, writes)
        for kind in sorted(kinds, key=lambda kind: _RANK.get(kind, 0)):
            some: list[Any] = [writes[index] for index in kinds[kind]]
            applied: Sequence[Answer]
            if kind is Insert and takes_all is not None:
                applied, answers[takes_all] = self._insert_claimed(some)
            elif kind is Claim and takes_all is not None:
                continue
            else:
                applied = self._apply_kind(kind, some, now)
            for index, answer in zip(kinds[kind], applied, strict=True):
                answers[index] = answer
        return answers

    def _claim_takes_all_new(self, kinds: Mapping[type, list[int]], writes: Sequence[Write]) -> int | None:
        """The place of the group's claim, if it would take the group's new jobs and nothing else: then they can be written as claimed."""
        if not self._nobody_waits or self._behind or Insert not in kinds or len(kinds.get(Claim, ())) != 1 or not _LET_NOBODY_WAIT.issuperset(kinds):
            return None
        place, new = kinds[Claim][0], [cast(Insert, writes[index]) for index in kinds[Insert]]
        claim = cast(Claim, writes[place])
        if claim.alone or claim.only is not None or len(new) > claim.most:
            return None
        if End in kinds and (self._behind or self._batches.open or self._families.children):  # an end may bring others into line
            return None
        if self._quota.why_not([write.group for write in new]) is not None:
            return None
        at_once = all(
            not write.has_time and write.on_duplicate is OnDuplicate.SKIP and self._knows(write.name, write.version) for write in new
        )  # fmt: skip
        return place if at_once else None

    def _apply_kind(self, kind: type, writes: list[Any], now: int) -> Sequence[Answer]:
        """Apply writes of one kind: together where they come in numbers, else one by one."""
        if kind is Insert:
            return self._insert_allowed(writes)
        if kind is SaveCheckpoint:
            return checkpoints.save_checkpoints(self._con, writes)
        if kind is End:
            return self._leave_or_end(ending.end, writes, now)
        if kind is Leave:
            self._some_may_wait()
            answers = self._leave_or_end(ending.leave, writes, now)
            self.aftermath.advanced.extend(self._families.park(writes, answers, now))
            return answers
        return [self._apply_one(write, now) for write in writes]

    def _apply_one(self, write: Write, now: int) -> Answer:
        match write:
            case InsertChunk():
                return self._insert_chunk(write)
            case SpawnChildren() | SpawnAgain():
                return self._spawn(write)
            case ParentWaits():
                self._con.execute(WAITS, (write.job_id, write.claim, int(write.waits)))
            case Cascade():
                return self._cascade(write)
            case InsertAgain():
                return self._insert_again(write)
            case Claim():
                return self._claim(write, now)
            case SetIntent():
                self._some_may_wait()
                self._fresh.pop(write.job_id, None)
                return self._set_intent(write)
            case SetBatchIntent():
                return self._set_batch_intent(write)
            case WriteProgress():
                self._con.execute(PROGRESS, (write.progress, write.job_id, write.claim))
            case ParentProgress():
                self._con.execute(OF_CHILDREN, (write.progress, write.job_id))
            case SetUnresponsive():
                self._con.execute(UNRESPONSIVE, (write.since_ms, write.job_id, write.claim))
                return bool(self._con.changes())
            case Excuse():
                if write.job_ids:
                    self._con.execute(EXCUSE, (bound(write.job_ids),))
            case MakeDue():
                return self._make_due(now)
            case _:
                raise TypeError(f"{type(write).__name__} is not something that can be written")
        return None

    def _spawn(self, write: SpawnChildren | SpawnAgain) -> Answer:
        """The children and the checkpoint that names them."""
        if not held(self._con, [write]):
            return Fenced()
        answer = self._insert_chunk(write.chunk) if isinstance(write, SpawnChildren) else self._spawn_again(write)
        if isinstance(answer, Exception):
            return answer
        if write.save is not None:
            checkpoints.save_checkpoints(self._con, [write.save])
        if isinstance(answer, ChunkStored) and not answer.again:  # work that a crash does not undo, as a checkpoint is
            checkpoints.FORGET_CRASHES.execute(self._con, [write.job_id])
        wanted = intents.wanted_of(self._con, write.job_id)
        if wanted is not None:  # it is asked to leave, and so are they
            self._families.tell_children([write.job_id], wanted)
        return answer

    def _cascade(self, write: Cascade) -> Cascaded:
        self._some_may_wait()
        answer, ended = go_down(self._con, self._families, write, self._now)
        for job_id, _, before, after in answer.changed:
            self._fresh.pop(job_id, None)
            if before is Status.WAITING and after is not before:
                self._behind = (self._behind or 0) - 1
        self._ended += ended
        self._look_after()
        return answer

    def _leave_or_end(self, apply: Callable[..., Sequence[Answer]], writes: Sequence[Any], now: int) -> Sequence[Answer]:
        """Those that end while their children live are held."""
        later = self._families.hold(writes)
        if not later:
            return self._after_ends(writes, apply(self._con, writes, now))
        others = [write for write in writes if write.job_id not in later]
        answers = iter(self._after_ends(others, apply(self._con, others, now)) if others else ())
        return [later.get(write.job_id) or next(answers) for write in writes]

    def _after_ends(self, writes: Sequence[End | Leave], answers: Sequence[Answer]) -> Sequence[Answer]:
        if self._behind or self._batches.open or self._families.holds or self._quota.counts:
            self._ended += (write.job_id for write, now in zip(writes, answers, strict=True) if isinstance(now, Status) and now.ended)
            self._look_after()
        return answers

    def _set_intent(self, write: SetIntent) -> Answer:
        answer = intents.set_intent(self._con, write, self._now, self._families)
        if isinstance(answer, IntentSet) and answer.before is Status.WAITING and answer.after is Status.ENDING:
            self._behind = (self._behind or 0) - 1
        if isinstance(answer, IntentSet) and answer.after.ended:
            self._behind = (self._behind or 0) - (answer.before is Status.WAITING)
            self._ended.append(write.job_id)
            self._look_after()
        return answer

    def _set_batch_intent(self, write: SetBatchIntent) -> Answer:
        self._some_may_wait()
        answer = set_batch_intent(self._con, write, self._now, self._families)
        if isinstance(answer, BatchIntentSet):
            for job_id, _, before, after, _ in answer.changed:
                self._fresh.pop(job_id, None)
                if after.ended:
                    self._ended.append(job_id)
                if before is Status.WAITING and after is not before:
                    self._behind = (self._behind or 0) - 1
            self._look_after()
        return answer

    def _make_due(self, now: int) -> Due:
        self._some_may_wait()
        self._con.execute(DUE, (now,))
        return Due(self._con.changes(), self.next_due_ms(), self.suspects())
