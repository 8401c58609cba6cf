"""The jobs in line, as one connection writes and claims them, with what is remembered of them so that it need not be read.

Also what follows from the ends of jobs in the same commit: successors take their turn, batches are over, parents go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import apsw

from callboard.jobs.identity import IdSource
from callboard.jobs.lifecycle import Event
from callboard.jobs.submission import YEAR_10000, Submitted
from callboard.persistence import claiming, ending, inserting, respawning
from callboard.persistence.aftermath import BatchOver, nothing_besides
from callboard.persistence.batches import Batches
from callboard.persistence.children import Families
from callboard.persistence.limits import Limits
from callboard.persistence.quota import Quota
from callboard.persistence.standing import Settled
from callboard.persistence.succession import advance, successors
from callboard.persistence.writes import (
    Answer,
    Chunk,
    ChunkStored,
    Claim,
    Claimed,
    Insert,
    InsertAgain,
    InsertChunk,
    Shape,
    SpawnAgain,
)  # fmt: skip

FRESH_MOST, FRESH_BYTES = 16_384, 1_024
"""New jobs kept in memory until they are claimed: so many, and none larger: at most some 30 MiB."""

NEXT_DUE = "SELECT CAST(run_at AS INTEGER) FROM jobs WHERE run_at IS NOT NULL AND run_at < '' ORDER BY run_at LIMIT 1"
"""Less than any text: a damaged row may hold anything."""
LATEST_MS = int(1000 * YEAR_10000)
SUSPECTS = "SELECT count(*) FROM jobs WHERE status = 'queued' AND run_at IS NULL AND kept_back = 0 AND alone = 1"


class Line:
    """One a connection; every method inside a transaction."""

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
        self._limits = Limits(con)
        self._now = 0
        self._chance = b""
        self._ended: list[bytes] = []
        """Jobs that have ended since that was last looked at."""
        self.aftermath = nothing_besides()
        self.claimed_again: list[bytes] = []
        """By this group, of jobs that may have a checkpoint."""
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
        self._limits.load()

    def _next_id(self) -> bytes:
        self._chance = self._chance or self._random_bytes(8)  # once a group: asking lets go of the GIL
        return self._ids.next(self._now, self._chance)

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
        busy = self._quota.why_not([inserting.group_of(self._con, write.job_id)]) if self._quota.counts else None
        answer = busy or inserting.insert_again(self._con, write, self._now, self._next_id)
        if isinstance(answer, Submitted) and not answer.duplicate:
            self._quota.forget()  # its group is the old one's
            self._families.tell_children(inserting.paused_parent(self._con, answer.job_id), Event.PAUSE)
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

    def _shapes(self, chunk: Chunk, rows: Sequence[bytes]) -> list[Shape]:
        """For each row its shape, where groups are counted."""
        return [chunk.shapes[int(row[:6])] for row in rows] if self._quota.counts else []

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
        busy = self._quota.why_not([shape.group for shape in self._shapes(write.chunk, write.chunk.rows)])
        answer, settled = self._batches.insert(write, self._now, self._ids, self._chance, behind=bool(self._behind), busy=busy)
        if isinstance(answer, ChunkStored) and not answer.again:
            self._count_made(self._shapes(write.chunk, self._batches.rows), settled)
            self._limits.stored(write.chunk.batch_id, write.max_running, answer.outcome)
        if settled is not None:
            self._after_settling(settled)
        if not isinstance(answer, Exception):
            self._families.children = self._families.children or bool(write.chunk.parents) or any(shape.parent for shape in write.chunk.shapes)
            self._families.tell_children(self._batches.pausing, Event.PAUSE)
            self._batches.pausing.clear()
            self._kinds.update(dict.fromkeys((shape.name, shape.version) for shape in write.chunk.shapes))
            self._nobody_waits = False
            self._look_after()
        return answer

    def _spawn_again(self, write: SpawnAgain) -> Answer:
        self._chance = self._chance or self._random_bytes(8)
        part = respawning.part_of(self._con, write)
        if isinstance(part, Exception):
            return part
        answer = self._quota.why_not(list(part.renewed.values())) or self._batches.insert_again(write, part, self._now, self._ids, self._chance)
        if isinstance(answer, Exception):
            return answer
        self._quota.forget()  # their groups are those of the old ones
        self._families.children = True
        self._some_may_wait()
        self._limits.stored(write.batch_id, part.max_running, answer)
        self._look_after()
        return ChunkStored(answer, False)

    def _after_settling(self, settled: Settled) -> None:
        """Keys were taken: what is remembered of the line is not true of those who gave way, and of those who wait behind another."""
        self._behind = (self._behind or 0) + len(settled.waiting) - settled.waiting_ended
        for job_id in (*settled.ended, *settled.unready):
            self._fresh.pop(job_id, None)
        self.aftermath.replaced.extend(settled.replaced)
        self._ended += settled.ended
        if settled.parents:
            self._families.held_unclaimed(len(settled.parents))
            later = self._families.end_childless(settled.parents, self._now)
            self.aftermath.ended.extend(later)
            self._ended += (each.job_id for each in later)
        self._look_after()

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
            self._limits.ended(self._batches.shrunk, over)
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
        self._limits.look_at_all()

    def _keep_limits(self) -> None:
        """Of batches that have a limit: whoever may run now comes into line. Before any claim."""
        if self._limits.changed and self._limits.keep():
            self._kinds_known = self._nobody_waits = False
            self.aftermath.admitted.append(True)

    def _claim(self, write: Claim, now: int) -> Answer:
        self._keep_limits()
        if write.alone:
            kinds = claiming.kinds_waiting(self._con, True)
        else:
            if not self._kinds_known:
                self._kinds.update(dict.fromkeys(claiming.kinds_waiting(self._con, False)))
                self._kinds_known = True
            kinds = list(self._kinds)
        known = [kind for kind in kinds if self._knows(*kind)]
        claimed = claiming.claim(self._con, known, 1 if write.alone else write.most, write.alone, now, write.only, self._fresh)
        self.claimed_again += [each.job_id for each in claimed if each.has_checkpoint]
        self._nobody_waits = not write.alone and write.only is None and len(claimed) < write.most and len(known) == len(kinds)
        return claimed

    def next_due_ms(self) -> int | None:
        """When the next job that waits for its time is due, in ms since the epoch."""
        due: int | None = self._con.execute(NEXT_DUE).get
        return None if due is None else min(max(0, due), LATEST_MS)

    def suspects(self) -> int:
        """How many jobs wait to run alone."""
        count: int = self._con.execute(SUSPECTS).get
        return count
