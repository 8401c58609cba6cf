"""Parents and children in the plainest words, for the model of a library: who is held at its end, what goes down a tree, who is run again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from callboard.jobs.duplicates import Standing, standing_of
from callboard.jobs.errors import BadArgument
from callboard.jobs.lifecycle import GOES_DOWN, PAUSER_BITS, Event, Pauser, Status, transition
from callboard.jobs.submission import OnDuplicate
from callboard.persistence.aftermath import Aftermath, nothing_besides
from callboard.persistence.writes import Cascade, Cascaded, Chunk, ChunkStored, Insert, InsertChunk

JOB, PARENT, USER = PAUSER_BITS[Pauser.JOB], PAUSER_BITS[Pauser.PARENT], PAUSER_BITS[Pauser.USER]
STOPS_CHILDREN = (Status.FAILED, Status.CANCELLED)


@dataclass
class ModelJob:
    key: bytes | None
    priority: int
    parent: bytes | None = None
    status: Status = Status.QUEUED
    claim: int = 0
    pausers: int = 0
    crashes: int = 0
    alone: bool = False
    unwanted: bool = False
    """Somebody has asked for its end."""
    held: Status | None = None
    """How it ends when its children have."""
    awaits: bytes | None = None
    """The batch of children that it is run again after."""
    sequence: int = 0
    after: bytes | None = None
    superseded_by: bytes | None = None
    strategy: OnDuplicate = OnDuplicate.SKIP


@dataclass
class ModelBatch:
    chunks: dict[int, tuple[InsertChunk, ChunkStored]] = field(default_factory=dict)
    members: set[bytes] = field(default_factory=set)
    count: int = 0
    sealed: bool = False
    over: bool = False
    on_complete: Insert | None = None


@dataclass
class Families:
    """Ids are taken from the store's own answers."""

    jobs: dict[bytes, ModelJob] = field(default_factory=dict)
    batches: dict[bytes, ModelBatch] = field(default_factory=dict)
    told: Aftermath = field(default_factory=nothing_besides)
    """What the store says has followed from a group, taken away as the model comes to it."""
    cascades: dict[bytes, tuple[Event, bytes]] = field(default_factory=dict)
    """Parent → what its children are to be told, and the child that was told last."""
    _ended: list[bytes] = field(default_factory=list)
    parents: set[bytes | None] = field(default_factory=set)
    """Who had children when it was read who has which key."""
    gave_way: set[bytes] = field(default_factory=set)
    """Who was held for the sake of a newer job just now."""
    crashed: Callable[[bytes], Any] | None = None
    """While recovery is followed, which tells nothing: finds what became of a batch that is over."""

    def live(self) -> dict[bytes, ModelJob]:
        return {job_id: job for job_id, job in self.jobs.items() if not job.status.ended}

    def children(self, parent: bytes) -> list[bytes]:
        """Those that live."""
        return sorted(job_id for job_id, job in self.jobs.items() if job.parent == parent and not job.status.ended)

    def read(self) -> None:
        """New jobs come in: it is read once for all of them who stands where."""
        self.parents = {job.parent for job in self.live().values()}

    def standing(self, job_id: bytes) -> Standing:
        job = self.jobs[job_id]
        if job.status is Status.ENDING and job.unwanted:
            return Standing.CANCELLING
        if job.status not in (Status.WAITING, Status.CANCELLING) and job_id in self.parents:
            return Standing.CHILDREN_RUNNING
        return standing_of(job.status, False, False)

    def refused(self, chunk: Chunk, answer: object) -> bool:
        """Children must not have the key of who is above them."""
        keys = set()
        above = next((shape.parent for shape in chunk.shapes), None)
        while above is not None and above in self.live():
            keys.add(self.jobs[above].key)
            above = self.jobs[above].parent
        places = range(chunk.start, chunk.start + chunk.count) if chunk.places is None else chunk.places
        strategies = [chunk.shapes[int(row[:6])].on_duplicate for row in chunk.rows]
        pairs = zip(strategies, (chunk.keys[place - chunk.start] for place in places), strict=True)
        bad = any(key is not None and key in keys and strategy is not OnDuplicate.REJECT for strategy, key in pairs)
        assert bad == isinstance(answer, BadArgument)
        return bad

    def becomes(self, job_id: bytes, status: Status) -> None:
        """Where that is an end and its children live, it is held."""
        job = self.jobs[job_id]
        job.unwanted = job.unwanted or status in (Status.CANCELLING, Status.CANCELLED)
        if status.ended and self.children(job_id):
            self.hold(job_id, status)
            return
        job.status = status
        if status.ended:
            job.after = job.awaits = None
            self._ended.append(job_id)
            if status is not Status.CANCELLED:
                job.superseded_by = None

    def hold(self, job_id: bytes, status: Status) -> None:
        job = self.jobs[job_id]
        if job.status.claimed and self.crashed is None:
            job.crashes = 0
        if job.status is Status.WAITING:
            job.key = None  # its place is free
        job.status, job.alone, job.after, job.awaits = Status.ENDING, False, None, None
        job.unwanted = job.unwanted or status is Status.CANCELLED
        job.held = job.held if job.held in STOPS_CHILDREN else status
        if status in STOPS_CHILDREN:
            self.tell_children(job_id, Event.CANCEL)

    def tell_children(self, job_id: bytes, event: Event) -> None:
        if self.cascades.get(job_id, (None,))[0] is not Event.CANCEL:
            self.cascades[job_id] = event, b""

    def told_to_children(self, job_id: bytes) -> None:
        """Whoever was steered and lives hands it on."""
        job = self.jobs[job_id]
        if self.children(job_id) and not (job.status is Status.ENDING and job.unwanted):
            cancelled = job.status is Status.CANCELLING
            self.tell_children(job_id, Event.CANCEL if cancelled else Event.PAUSE if job.pausers & ~JOB else Event.RESUME)

    def is_retried(self, old: ModelJob) -> bytes | None:
        """The parent of a retry, if it is still a child; it is paused with its family."""
        parent = self.live().get(old.parent or b"")
        if parent is None or parent.unwanted:
            return None
        if parent.pausers & GOES_DOWN:
            self.tell_children(old.parent or b"", Event.PAUSE)
        return old.parent

    # --- down the tree --------------------------------------------------------------------------------------------------

    def cascade(self, write: Cascade, answer: Cascaded) -> None:
        """One step of it."""
        assert answer.more == bool(self.cascades)
        if not self.cascades:
            return
        event = min(event for event, _ in self.cascades.values())
        noted = sorted((parent, after) for parent, (its, after) in self.cascades.items() if its is event)
        told = [(parent, child) for parent, after in noted for child in self.children(parent) if child > after][: write.most]
        for parent, _ in noted:
            if len(told) < write.most or parent < told[-1][0]:
                del self.cascades[parent]
        if len(told) == write.most:
            self.cascades[told[-1][0]] = event, told[-1][1]
        changed = [(child, "work", *statuses) for _, child in told if (statuses := self._tell_child(child, event)) is not None]
        assert sorted(answer.changed) == sorted(changed)

    def _tell_child(self, job_id: bytes, event: Event) -> tuple[Status, Status] | None:
        job = self.jobs[job_id]
        before = job.status
        if before is Status.CANCELLING or (before is Status.ENDING and job.unwanted):
            return None
        if event is Event.CANCEL:
            self.becomes(job_id, transition(before, event))
        else:
            bits = job.pausers | PARENT if event is Event.PAUSE else job.pausers & ~PARENT
            if bits == job.pausers:
                return None
            job.pausers = bits
            if before is not Status.QUARANTINED:
                after = transition(before, event)
                job.status = transition(after, Event.PAUSE) if event is Event.RESUME and bits else after
        ends = job.status is Status.ENDING and job.unwanted
        if self.children(job_id) and not ends and not (event is Event.RESUME and job.pausers & USER):
            self.tell_children(job_id, event)
        return before, job.status

    # --- what follows ---------------------------------------------------------------------------------------------------

    def end_held(self, among: Iterable[bytes]) -> None:
        """Whose last child has ended, ends."""
        for job_id in among:
            job = self.jobs[job_id]
            if job.status is Status.ENDING and not self.children(job_id):
                assert job.held is not None
                self.becomes(job_id, job.held)
                self.cascades.pop(job_id, None)
                if self.crashed is None:
                    [later] = [each for each in self.told.ended if each.job_id == job_id]
                    assert (later.status, later.superseded_by) == (job.status, job.superseded_by)
                    self.told.ended.remove(later)

    def wake(self) -> list[bytes]:
        """Those whose children have ended come into line."""
        awake = [job_id for job_id, job in self.jobs.items() if job.status is Status.AWAITING and self.is_over(job.awaits)]
        for job_id in awake:
            self.jobs[job_id].awaits = None
        return awake

    def is_over(self, batch_id: bytes | None) -> bool:
        return batch_id in self.batches and self.batches[batch_id].over
