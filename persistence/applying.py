"""What the writes of one group do to the rows, inside the store's transaction.

Order within a group: all writes of a group were on their way at the same moment, so any order of them is a true one. What ends comes before
what is new, which finds its key free, and claims come last; everything of one kind is applied together, in order of arrival.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import apsw

from callboard.jobs.identity import IdSource
from callboard.jobs.lifecycle import Status
from callboard.jobs.submission import OnDuplicate, Submitted
from callboard.persistence import checkpoints, claiming, ending, inserting, intents
from callboard.persistence.batches import Batches
from callboard.persistence.batchintents import set_batch_intent
from callboard.persistence.children import Families
from callboard.persistence.fence import held
from callboard.persistence.quota import Quota
from callboard.persistence.rows import bound
from callboard.persistence.standing import Settled
from callboard.persistence.succession import advance, successors
from callboard.persistence.tree import go_down
from callboard.persistence.writes import (
    Answer,
    BatchIntentSet,
    BatchOver,
    Cascade,
    Cascaded,
    ChunkStored,
    Claim,
    Claimed,
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
    ParentWaits,
    SaveCheckpoint,
    SetBatchIntent,
    SetIntent,
    SetUnresponsive,
    Shape,
    SpawnChildren,
    Write,
    WriteProgress,
    nothing_besides,
)  # fmt: skip

FRESH_MOST, FRESH_BYTES = 16_384, 1_024
"""New jobs kept in memory until they are claimed: so many, and none larger: at most some 30 MiB."""

DUE = "UPDATE jobs SET run_at = NULL, queued_at = max(queued_at, run_at) WHERE run_at <= ?"
NEXT_DUE = "SELECT min(run_at) FROM jobs WHERE run_at IS NOT NULL"
PROGRESS = "UPDATE jobs SET progress = ? WHERE id = ? AND claim = ? AND status IN ('running', 'pausing', 'cancelling')"
UNRESPONSIVE = "UPDATE jobs SET unresponsive = ? WHERE id = ? AND claim = ? AND status IN ('running', 'pausing', 'cancelling')"
WAITS = "UPDATE jobs SET excused = ?3 WHERE id = ?1 AND claim = ?2 AND status IN ('running', 'pausing', 'cancelling')"
EXCUSE = "UPDATE jobs SET excused = 1 WHERE id IN (SELECT value FROM carray(?)) AND status IN ('running', 'pausing', 'cancelling')"
SUSPECTS = "SELECT count(*) FROM jobs WHERE status = 'queued' AND run_at IS NULL AND alone = 1"

APPLIED = (
    SaveCheckpoint, WriteProgress, SetUnresponsive, ParentWaits, SetIntent, SetBatchIntent, Leave, End, Excuse, Insert, InsertChunk,
    SpawnChildren, InsertAgain, Cascade, MakeDue, Claim,
)  # fmt: skip
"""The order in which the writes of one group are applied, whatever the order of their arrival."""

_LET_NOBODY_WAIT = frozenset((SaveCheckpoint, WriteProgress, SetUnresponsive, ParentWaits, End, Excuse, Insert, Claim))
"""No job comes into line by any of these, save the new ones."""

_RANK = {kind: rank for rank, kind in enumerate(APPLIED)}


def applied_rank(write: Write) -> int:
    """Where a write stands in that order: what is told of a group must be told in it."""
    return _RANK.get(type(write), 0)


class Line:
    """The rows of a library as one connection writes them, and what is remembered of the jobs in line, so that it need not be read."""

    def __init__(
        self,
        con: apsw.Connection,
        ids: IdSource,
        random_bytes: Callable[[int], bytes],
        knows: Callable[[str, int], bool],
        max_queued: int | None = None,
        max_queued_per_group: int | None = None,
    ) -> None:
        self._con, self._ids, self._random_bytes, self._knows = con, ids, random_bytes, knows
        self._kinds: dict[claiming.JobKind, None] = {}
        """Every kind that may be in line, if `_kinds_known`."""
        self._kinds_known = False
        self._nobody_waits = False
        """Nothing is in line that this process could claim, alone or not."""
        self._fresh: dict[bytes, claiming.Fresh] = {}
        """New jobs that have not been claimed yet: a claim need not read them back."""
        self._behind: int | None = None
        """How many successors wait; None: to be counted."""
        self._batches = Batches(con)
        self._quota = Quota(con, max_queued, max_queued_per_group)
        self._families = Families(con)
        self._now = 0
        self._chance = b""
        self._ended: list[bytes] = []
        """Jobs that have ended since that was last looked at."""
        self.aftermath = nothing_besides()
        inserting.prepare(con)
        ending.prepare(con)
        self._remember()

    def forget(self) -> None:
        """A group was not stored: what is remembered may not be true."""
        self._some_may_wait()
        self._fresh.clear()
        self._behind = None
        self._batches.forget()
        self._quota.forget()

    def _remember(self) -> None:
        self._behind = successors(self._con)
        self._batches.load()
        self._families.load()

    def apply(self, writes: Sequence[Write], now: int) -> list[Answer]:
        """Inside a transaction; answers in the order of `writes`. Raises what SQLite raises, and for values that fit no row."""
        self._now, self._chance, self.aftermath = now, b"", nothing_besides()
        if self._behind is None:
            self._remember()
        self._ended.clear()
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
        if self._batches.shrunk:
            self.aftermath.shrunk.extend(dict.fromkeys(self._batches.shrunk))
            self._batches.shrunk.clear()
        if self._families.cascading:
            self.aftermath.cascades.append(True)
        return answers

    def _next_id(self) -> bytes:
        self._chance = self._chance or self._random_bytes(8)  # once a group: asking lets go of the GIL
        return self._ids.next(self._now, self._chance)

    def _claim_takes_all_new(self, kinds: Mapping[type, list[int]], writes: Sequence[Write]) -> int | None:
        """The place of the group's claim, if it would take the group's new jobs and nothing else: then they can be written as claimed."""
        if not self._nobody_waits or Insert not in kinds or len(kinds.get(Claim, ())) != 1 or not _LET_NOBODY_WAIT.issuperset(kinds):
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
            write.run_at_ms is None and write.delay_ms is None and write.on_duplicate is OnDuplicate.SKIP
            and self._knows(write.name, write.version) for write in new
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
            case SpawnChildren():
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

    def _insert_allowed(self, writes: list[Insert]) -> Sequence[Answer]:
        """Those for which there is room."""
        if self._quota.why_not([write.group for write in writes]) is None:
            return self._insert(writes)
        answers: list[Answer] = []
        allowed: list[Insert] = []
        beside: Counter[str | None] = Counter()
        for write in writes:
            busy = self._quota.why_not([write.group], beside)
            answers.append(busy)
            if busy is None:
                allowed.append(write)
                beside[write.group] += 1
        stored = iter(self._insert(allowed) if allowed else ())
        return [next(stored) if answer is None else answer for answer in answers]

    def _insert_again(self, write: InsertAgain) -> Answer:
        self._some_may_wait()
        self._families.children = True  # it may be a child
        answer = self._quota.why_not([None]) or inserting.insert_again(self._con, write, self._now, self._next_id)
        if isinstance(answer, Submitted) and not answer.duplicate:
            self._quota.forget()  # its group is the old one's
        return answer

    def _insert(self, writes: list[Insert]) -> list[Submitted]:
        self._kinds.update(dict.fromkeys((write.name, write.version) for write in writes))
        self._nobody_waits = False
        self._families.children = self._families.children or any(write.parent is not None for write in writes)
        answers, settled = inserting.insert(self._con, writes, self._now, self._next_id, behind=bool(self._behind))
        if len(self._fresh) < FRESH_MOST:
            for write, answer in zip(writes, answers, strict=True):
                if not answer.duplicate and answer.run_at_ms is None and len(write.data) <= FRESH_BYTES:
                    self._fresh[answer.job_id] = write.name, write.version, write.data, write.requested_by, write.retry, self._now
        self._count_made(writes, settled)
        if settled is not None:
            self._after_settling(settled)
        return answers

    def _count_made(self, made: Sequence[Insert | Shape], settled: Settled | None) -> None:
        """So many jobs have become live: those of a group that were written, and have not ended in it."""
        if self._quota.counts:
            live = made if settled is None else [each for place, each in enumerate(made) if settled.made(place) and place not in settled.born_ended]
            self._quota.made(each.group for each in live)

    def _insert_claimed(self, writes: list[Insert]) -> tuple[list[Submitted], tuple[Claimed, ...]]:
        self._kinds.update(dict.fromkeys((write.name, write.version) for write in writes))
        answers, settled = inserting.insert(self._con, writes, self._now, self._next_id, claimed=True, behind=bool(self._behind))
        self._count_made(writes, settled)
        urgent: dict[bytes, int] = {}
        for write, answer in zip(writes, answers, strict=True):  # a duplicate may be more urgent than the one that it met
            urgent[answer.job_id] = min(write.priority, urgent.get(answer.job_id, write.priority))
        if settled is not None:
            self._after_settling(settled)
        new = sorted(
            (urgent[answer.job_id], answer.job_id, write) for write, answer in zip(writes, answers, strict=True)
            if not answer.duplicate and (answer.met is None or not answer.met.waiting)
        )  # fmt: skip
        return answers, tuple(
            claiming.first_claim(job_id, (write.name, write.version, write.data, write.requested_by, write.retry, self._now), self._now)
            for _, job_id, write in new
        )

    def _insert_chunk(self, write: InsertChunk) -> Answer:
        self._chance = self._chance or self._random_bytes(8)
        shapes = write.chunk.shapes
        of_rows = [shapes[int(row[:6])] for row in write.chunk.rows] if self._quota.counts else []
        busy = self._quota.why_not([shape.group for shape in of_rows])
        answer, settled = self._batches.insert(write, self._now, self._ids, self._chance, behind=bool(self._behind), busy=busy)
        if isinstance(answer, ChunkStored) and not answer.again:
            self._count_made(of_rows, settled)
        if settled is not None:
            self._after_settling(settled)
        if not isinstance(answer, Exception):
            self._families.children = self._families.children or bool(write.chunk.parents) or any(shape.parent for shape in write.chunk.shapes)
            self._kinds.update(dict.fromkeys((shape.name, shape.version) for shape in write.chunk.shapes))
            self._nobody_waits = False
            self._look_after()
        return answer

    def _spawn(self, write: SpawnChildren) -> Answer:
        """The children and the checkpoint that names them."""
        if not held(self._con, [write]):
            return Fenced()
        answer = self._insert_chunk(write.chunk)
        if isinstance(answer, Exception):
            return answer
        if write.save is not None:
            checkpoints.save_checkpoints(self._con, [write.save])
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

    def _after_settling(self, settled: Settled) -> None:
        """Keys were taken: what is remembered of the line is not true of those who gave way, and of those who wait behind another."""
        self._behind = (self._behind or 0) + len(settled.waiting) - settled.waiting_ended
        for job_id in (*settled.ended, *settled.unready):
            self._fresh.pop(job_id, None)
        self.aftermath.replaced.extend(settled.replaced)
        self._ended += settled.ended
        if settled.parents or settled.orphans:
            self._families.held_unclaimed(len(settled.parents))
        self._look_after()

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

    def follow(self, ended: Sequence[bytes], now: int) -> None:
        """Inside a transaction: these jobs have ended in it, and not by `apply`. Carries out what follows."""
        self._now, self._chance = now, b""
        self._ended = list(ended)
        self._look_after()

    def _look_after(self) -> None:
        """What follows from the ends of jobs, in the same commit: successors take their turn, batches are over."""
        while True:
            ended, self._ended = self._ended, []
            self._quota.ended(ended)
            if ended and self._behind:
                advanced = advance(self._con, ended, self._now)
                if advanced:
                    self._behind -= len(advanced)
                    self.aftermath.advanced.extend(advanced)
                    self._some_may_wait()
            if ended and self._families.holds:
                later = self._families.end_held(ended, self._now)
                self.aftermath.ended.extend(later)
                self._ended += (each.job_id for each in later)
            over = self._batches.count_ended(ended, self._now) if self._batches.open else []
            awake = self._families.wake([batch_id for batch_id, _, _ in over], self._now)
            if awake:
                self.aftermath.advanced.extend(awake)
                self._some_may_wait()
            for batch_id, counts, on_complete in over:
                made = None if on_complete is None else self._insert([on_complete])[0]
                if made is not None:
                    self._batches.completed_by(batch_id, made.job_id)
                self.aftermath.over.append(BatchOver(batch_id, counts, made))
            if not self._ended:
                return

    def _some_may_wait(self) -> None:
        """Jobs may have come into line by other ways than as new ones."""
        self._kinds_known = self._nobody_waits = False

    def _make_due(self, now: int) -> Due:
        self._some_may_wait()
        self._con.execute(DUE, (now,))
        return Due(self._con.changes(), self.next_due_ms(), self.suspects())

    def _claim(self, write: Claim, now: int) -> Answer:
        if write.alone:
            kinds = claiming.kinds_waiting(self._con, True)
        else:
            if not self._kinds_known:
                self._kinds.update(dict.fromkeys(claiming.kinds_waiting(self._con, False)))
                self._kinds_known = True
            kinds = list(self._kinds)
        known = [kind for kind in kinds if self._knows(*kind)]
        claimed = claiming.claim(self._con, known, 1 if write.alone else write.most, write.alone, now, write.only, self._fresh)
        self._nobody_waits = not write.alone and write.only is None and len(claimed) < write.most and len(known) == len(kinds)
        return claimed

    def next_due_ms(self) -> int | None:
        """When the next job that waits for its time is due, in ms since the epoch."""
        due: int | None = self._con.execute(NEXT_DUE).get
        return due

    def suspects(self) -> int:
        """How many jobs wait to run alone."""
        count: int = self._con.execute(SUSPECTS).get
        return count
