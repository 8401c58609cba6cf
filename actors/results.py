"""What a commit has made true, for the library: each answer told, acted on, and given to whoever asked. Nothing here comes before its commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from callboard.actors.actor import send
from callboard.actors.alarm import Alarm
from callboard.actors.crew import AGAIN_SECONDS, UNRESPONSIVE_SECONDS, Crew
from callboard.actors.family_news import FamilyNews
from callboard.actors.intake import Intake
from callboard.actors.messages import Again, Committed, HubRequest, Ref, Replies, Subscribe, TimeHasCome
from callboard.actors.parents import HELD, Parents
from callboard.actors.ports import Ports
from callboard.actors.stage import LibraryParts
from callboard.actors.store import give
from callboard.actors.told import Told
from callboard.jobs import events
from callboard.jobs.errors import NotAccepted
from callboard.jobs.identity import nth
from callboard.jobs.lifecycle import Status
from callboard.jobs.submission import Submitted
from callboard.persistence import writes
from callboard.persistence.aftermath import Aftermath, EndedLater

log = logging.getLogger("callboard.library")

Reply = Replies | None
Later = Mapping[int, list[tuple[Reply, object]]]

NOBODY: tuple[Reply, object] = (None, None)

MAKE_ROOM = (writes.End, writes.Leave, writes.SetIntent, writes.SetBatchIntent)
"""With these, jobs may have ended."""


@dataclass(slots=True, eq=False)
class Steering:
    """A pause, resume or cancel of a batch, carried out part by part."""

    reply: Reply
    count: int = 0
    """Jobs that have another status now."""


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """An `Excuse`, and of how many."""

    future: Reply
    count: int


class Results:
    """Belongs to one library actor."""

    def __init__(
        self, ports: Ports, me: Ref, parts: LibraryParts, told: Told, crew: Crew, alarm: Alarm,
        write_bulk: Callable[[writes.Write, object], None],
    ) -> None:  # fmt: skip
        """`write_bulk` sends a write of many rows to the store; the second argument comes back with its answer."""
        self._ports, self._me, self._parts, self._write_bulk = ports, me, parts, write_bulk
        self._told, self._crew, self._alarm = told, crew, alarm
        self._intake = Intake(lambda write: write_bulk(write, None), self.tell_batch)
        self.parents = Parents(write_bulk, self._steered, self._ended_later)
        self.news = FamilyNews(ports, me, parts, lambda write: write_bulk(write, None))
        self._superseded: dict[bytes, bytes] = {}
        """Jobs that are cancelled because another takes their place, and that one, until they have stopped."""
        self._room: list[Reply] = []

    @property
    def intake(self) -> Intake:
        return self._intake

    def await_room(self, reply: Reply) -> None:
        """It waits for a job to end, since the queue was full."""
        self._room.append(reply)

    def committed(self, message: Committed, later: Later, *, closing: bool) -> None:
        """`later`: who is to be answered, by ticket. `closing`: nothing is claimed any more."""
        aftermath = message.aftermath
        for write, stored, (ticket, index) in zip(message.writes, message.answers, message.tickets, strict=True):
            if aftermath is not None and isinstance(write, writes.Claim):  # applied last: what has come into line may be among what it took
                self._brought_about(aftermath)
                aftermath = None
            reply, request = later[ticket][index] if ticket else NOBODY
            if isinstance(write, writes.Claim) and closing:
                self._crew.give_back(write, stored)
            elif isinstance(write, writes.End):  # these two are nearly all
                self._ended(write, stored)
            elif isinstance(write, writes.Insert):
                self._inserted(write, stored, reply, request)
            else:
                self._committed_one(write, stored, reply, request)
        if aftermath is not None:
            self._brought_about(aftermath)
        self._told.publish()
        if self._room and (message.aftermath is not None or any(isinstance(write, MAKE_ROOM) for write in message.writes)):
            self.make_room()

    def _committed_one(self, write: writes.Write, stored: writes.Answer, reply: Reply, request: object) -> None:
        match write:
            case writes.InsertAgain():
                self._inserted(write, stored, reply, request)
            case writes.InsertChunk():
                self._part_stored(write, stored)
            case writes.SpawnChildren():
                self._are_there(write.chunk.chunk, stored)
                self._children_stored(write.chunk.chunk.batch_id, stored, request)
            case writes.SpawnAgain():
                if isinstance(stored, writes.ChunkStored):
                    self._crew.are_own(stored.outcome)
                    self._crew.wake()
                self._children_stored(write.batch_id, stored, request)
            case writes.WriteProgress() | writes.ParentProgress():
                self.news.advanced(write.job_id)
            case writes.Cascade():
                self.parents.cascaded(stored)
            case writes.SetBatchIntent() if isinstance(request, Steering):
                self._batch_steered(write, stored, request)
            case writes.Claim():
                self._claimed(write, stored)
            case writes.Leave():
                self._left(write, stored)
            case writes.SetIntent():
                self._intent_set(write, stored, reply)
            case writes.MakeDue() if isinstance(stored, writes.Due):
                if stored.count:
                    self._crew.wake()
                    self._crew.recount()
                self._alarm.set(stored.next_ms)
            case writes.MakeDue() if isinstance(stored, NotAccepted):  # nothing else would ever wake those who wait for their time
                self._after(AGAIN_SECONDS, TimeHasCome())
            case writes.SetUnresponsive() if stored is True:
                name = self._crew.name_of(write.job_id)
                if write.since_ms is None:
                    self._told.fact(events.JobResponsive, write.job_id, name)
                else:
                    self._told.fact(events.JobUnresponsive, write.job_id, name, UNRESPONSIVE_SECONDS)
            case writes.Excuse() if isinstance(request, Counted):
                give(request.future, request.count)

    def _inserted(self, write: writes.Insert | writes.InsertAgain, stored: writes.Answer, reply: Reply, request: object) -> None:
        if reply is not None:
            give(reply, stored)
        if not isinstance(stored, Submitted):
            return
        follower = None if request is None else getattr(request, "reply_to", None)
        if follower is not None:
            self._told.publish()
            send(self._parts.hub, HubRequest(self._parts.stream, Subscribe(follower, job_id=stored.job_id), None))
        if isinstance(write, writes.Insert):
            self._crew.is_own(stored.job_id, standing=stored.duplicate)
        if stored.duplicate:
            return
        self._told.fact(events.JobQueued, stored.job_id, stored.name)
        if stored.run_at_ms is not None:
            self._alarm.set(stored.run_at_ms)
        elif isinstance(write, writes.InsertAgain) or write.has_time:  # its time had passed
            self._crew.wake()

    def _part_stored(self, write: writes.InsertChunk, stored: writes.Answer) -> None:
        self._are_there(write.chunk, stored)
        self._intake.stored(write, stored)

    def _children_stored(self, batch_id: bytes, stored: writes.Answer, request: object) -> None:
        if isinstance(stored, writes.ChunkStored) and not stored.again:
            outcome = stored.outcome
            first = outcome.first_id
            last = b"" if first is None else nth(first, outcome.count - 1)
            counts = {kind.name.lower(): count for kind, count in outcome.tally().items()}
            self.tell_batch(batch_id, outcome.count, first or b"", last, counts)
        self.parents.spawned(request, stored)

    def _are_there(self, chunk: writes.Chunk, stored: writes.Answer) -> bool:
        """Whether jobs have come by this part of a batch; they are to be run."""
        if not isinstance(stored, writes.ChunkStored) or stored.again:
            return False
        for shape in chunk.shapes:
            self._alarm.set(shape.run_at_ms if shape.delay_ms is None else round(self._ports.wall() * 1000) + shape.delay_ms)
        self._crew.are_own(stored.outcome)
        self._crew.wake()
        return True

    def tell_batch(self, batch_id: bytes, count: int, first_id: bytes, last_id: bytes, counts: dict[str, int]) -> None:
        self._told.fact(events.BatchSubmitted, first_id, "", batch_id, count, first_id, last_id, counts)

    def _brought_about(self, aftermath: Aftermath) -> None:
        """What a group has done beside what it was asked for."""
        # One that has come into line may have been replaced in the same group; one that was replaced comes into none.
        for job_id, name, status in aftermath.advanced:
            self.news.gone(job_id)
            if status is Status.PAUSED:
                self._told.fact(events.JobPaused, job_id, name)
            else:
                self._told.fact(events.JobRequeued, job_id, name)
                self._crew.wake()
        for job_id, name, by, ended in aftermath.replaced:
            if ended:
                self._told.fact(events.JobCancelled, job_id, name, by)
                continue
            if job_id not in self._superseded:
                self._told.fact(events.JobCancelling, job_id, name)
            self._superseded[job_id] = by
            self._crew.interrupt(job_id, "cancel")
        for batch_id, counts, on_complete in aftermath.over:
            if on_complete is not None:
                self._inserted_alone(on_complete)
            self._told.batch_over(batch_id, counts)
        self.news.shrunk(aftermath.shrunk)
        if aftermath.admitted:
            self._crew.wake()
        self.parents.brought_about(aftermath)

    def _ended_later(self, later: EndedLater) -> None:
        """A parent that was held at its end has ended."""
        self._superseded.pop(later.job_id, None)
        self.news.gone(later.job_id)
        match later.status:
            case Status.FAILED:
                self._told.fact(events.JobFailed, later.job_id, later.name, later.error or "", later.traceback or "")
            case Status.CANCELLED:
                self._told.fact(events.JobCancelled, later.job_id, later.name, *((later.superseded_by,) if later.superseded_by else ()))
            case _:
                self._told.fact(events.JobCompleted, later.job_id, later.name, later.result, later.warned)

    def _inserted_alone(self, stored: Submitted) -> None:
        """A job that was queued at the end of a batch."""
        self._crew.is_own(stored.job_id, standing=stored.duplicate)
        self._crew.wake()
        if not stored.duplicate:
            self._told.fact(events.JobQueued, stored.job_id, stored.name)
            self._alarm.set(stored.run_at_ms)

    def make_room(self) -> None:
        room, self._room = self._room, []
        for reply in room:
            give(reply, None)

    def _claimed(self, write: writes.Claim, stored: writes.Answer) -> None:
        for job in self._crew.claimed(write, stored):
            self._told.fact(events.JobStarted, job.job_id, job.name, job.attempt, job.started_before)

    def _ended(self, write: writes.End, stored: writes.Answer) -> None:
        if isinstance(stored, Exception):
            self._try_again(write, stored)
            return
        if isinstance(stored, writes.Fenced) and self._crew.cast.holds_newer(write.job_id, write.claim):
            return
        name, job = self._no_longer_held(write.job_id)
        if stored in HELD:
            self.news.held(write.job_id)
            return
        self._superseded.pop(write.job_id, None)
        if not isinstance(stored, Status):
            _fenced("ended", write, held=bool(name) or job is not None)
        elif stored is Status.FAILED:
            self._told.fact(events.JobFailed, write.job_id, name, write.error or "", write.traceback or "")
        else:
            self._told.fact(events.JobCompleted, write.job_id, name, write.result, write.warned)

    def _left(self, write: writes.Leave, stored: writes.Answer) -> None:
        if isinstance(stored, Exception):
            self._try_again(write, stored)
            return
        if isinstance(stored, writes.Fenced) and self._crew.cast.holds_newer(write.job_id, write.claim):
            return
        name, job = self._no_longer_held(write.job_id)
        if stored in HELD:
            self.news.held(write.job_id)
            return
        by = self._superseded.pop(write.job_id, None) if self._superseded else None
        match stored:
            case Status.QUEUED:
                run_at = None if write.run_at_ms is None else write.run_at_ms / 1000
                self._told.fact(events.JobRequeued, write.job_id, name, run_at, write.error)
                if write.run_at_ms is not None:
                    self._alarm.set(write.run_at_ms)
                else:
                    self._crew.wake()
                    if job is not None and job.alone:
                        self._crew.recount()
            case Status.PAUSED:
                self._told.fact(events.JobPaused, write.job_id, name, write.error or "")
                self._alarm.set(write.run_at_ms)  # an attempt that failed while it was asked to pause: resumed, it still waits for its time
            case Status.CANCELLED:
                self._told.fact(events.JobCancelled, write.job_id, name, *((by,) if by is not None else ()))
            case Status.QUARANTINED:
                self._told.fact(events.JobQuarantined, write.job_id, name, write.error or "")
            case writes.Fenced():
                _fenced("was left", write, held=bool(name) or job is not None)

    def _try_again(self, write: writes.End | writes.Leave, error: Exception) -> None:
        """An end that is not stored stays true: it is written again as long as the store takes writes at all."""
        if isinstance(error, NotAccepted):
            self._after(AGAIN_SECONDS, Again(write))
            return
        log.error("how a job ended could not be stored: %s", error)
        self._no_longer_held(write.job_id)

    def _no_longer_held(self, job_id: bytes) -> tuple[str, writes.Claimed | None]:
        name_and_job = self._crew.gone(job_id)
        self.parents.forget(job_id)
        self._told.has_stopped(job_id)
        return name_and_job

    def _intent_set(self, write: writes.SetIntent, stored: writes.Answer, reply: Reply) -> None:
        if not isinstance(stored, writes.IntentSet):
            give(reply, stored)
            return
        if stored.before is not stored.after:
            self._status_changed(write.job_id, stored.name, stored.after)
        give(reply, stored.after)

    def _steered(self, steered: writes.Steered) -> None:
        if steered.before is not steered.after:
            self._status_changed(steered.job_id, steered.name, steered.after)

    def _status_changed(self, job_id: bytes, name: str, after: Status) -> None:
        """Somebody has asked for it."""
        match after:
            case Status.PAUSED:
                self._told.fact(events.JobPaused, job_id, name)
            case Status.PAUSING:
                self._told.fact(events.JobPausing, job_id, name)
                self._crew.interrupt(job_id, "pause")
            case Status.CANCELLING | Status.ENDING:  # with children, it ends after them
                self._told.fact(events.JobCancelling, job_id, name)
                self._crew.interrupt(job_id, "cancel")
            case Status.CANCELLED:
                self._told.fact(events.JobCancelled, job_id, name)
            case Status.RUNNING | Status.QUEUED:
                self._told.fact(events.JobResumed, job_id, name)
                self._resumed(job_id, after)

    def _batch_steered(self, write: writes.SetBatchIntent, stored: writes.Answer, steering: Steering) -> None:
        if not isinstance(stored, writes.BatchIntentSet):
            give(steering.reply, stored)
            return
        for job_id, name, before, after, _ in stored.changed:
            if before is not after:
                self._status_changed(job_id, name, after)
        steering.count += len(stored.changed)
        if stored.go_on_after is None:
            give(steering.reply, steering.count)
        else:
            self._write_bulk(replace(write, after_id=stored.go_on_after), steering)

    def _resumed(self, job_id: bytes, after: Status) -> None:
        if after is Status.RUNNING:
            self._crew.proceed(job_id)
        else:
            self._crew.wake()
            self._crew.recount()

    def _after(self, seconds: float, message: object) -> Any:
        me = self._me
        return self._ports.call_later(seconds, lambda: send(me, message))


def _fenced(what: str, write: writes.End | writes.Leave, *, held: bool) -> None:
    """Of an actor that died, what it had sent is on its way when the library gives its jobs back: of the two the first counts, and it is no error."""
    log.log(logging.ERROR if held else logging.DEBUG, "a job %s that another actor holds: %s", what, write.job_id.hex())
