"""The library actor: takes commands, sends them to the store as writes, and once they are on disk tells, answers, claims and deals.

It holds no truth: what it knows of jobs (who runs what) can be lost with the process. It decides nothing about a job's life: `jobs/lifecycle.py`
does, and the store carries it out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, cast

import pykka

from callboard.actors import messages
from callboard.actors.actor import Actor, ActorFailed, send
from callboard.actors.admission import PUBLIC, admit, is_ref
from callboard.actors.alarm import Alarm
from callboard.actors.crew import AGAIN_SECONDS, UNRESPONSIVE_SECONDS, Crew, LibraryParts
from callboard.actors.ports import Ports
from callboard.actors.store import SuspectsCounted, TellBack, give
from callboard.actors.told import LookedUp, Told
from callboard.jobs import events
from callboard.jobs.errors import CallboardError, LibraryClosed, NotAccepted, StoreUnavailable, UnknownMessage
from callboard.jobs.lifecycle import PAUSER_BITS, RESUMED_BY_USER, Event, Pauser, Status
from callboard.jobs.submission import Submitted
from callboard.persistence import writes

log = logging.getLogger("callboard.library")

WRITES_AT_ONCE = 512
"""Commands gathered from the inbox before they are sent to the store together."""

GROUPS_AHEAD = 2
"""Commits of ours with the store, at most: one being synced, the next one waiting. What comes meanwhile is gathered here."""

Reply = messages.Replies | None

_NOBODY: tuple[Reply, object] = (None, None)


class LibraryActor(Actor):
    """One an open library."""

    def __init__(self, ports: Ports, parent: messages.Ref | None, parts: LibraryParts) -> None:
        super().__init__(ports, parent)
        self._parts = parts
        self._writes: list[writes.Write] = []
        self._replies: list[Reply] = []
        """For each of these who is answered by the store itself."""
        self._requests: list[tuple[Reply, object]] = []
        """… and who is answered here, and the message he sent, where that is needed."""
        self._later: dict[int, list[tuple[Reply, object]]] = {}
        """The same, of what is with the store, by ticket."""
        self._tickets = 1
        self._in_flight: dict[int, None] = {}
        """Tickets of the Commits that the store has not answered."""
        self._told = Told(ports, self.actor_ref, parts.reader, parts.hub, parts.stream, parts.epoch)
        self._crew = Crew(ports, self.actor_ref, parts, self._write)
        self._alarm = Alarm(ports, self.actor_ref)
        self._closing: Reply = None
        self._closed = False
        self._degraded = False
        """Its store or its reader is dead."""

    def started(self) -> None:
        parts = self._parts
        send(parts.hub, messages.OpenStream(parts.stream, parts.epoch))
        self._crew.ask_slots()
        self._alarm.set(parts.next_due_ms)

    def stopped(self) -> None:
        self._in_flight.clear()  # whatever the store is at: it takes what we send before it stops
        self._flush()
        self._crew.dismiss()
        send(self._parts.dispatcher, messages.ReturnSlots(self.actor_ref, 0, forget=True))
        send(self._parts.hub, messages.CloseStream(self._parts.stream))
        self._give_up(LibraryClosed("the library was closed before this was answered; it may still be carried out"))

    def _give_up(self, error: CallboardError) -> None:
        """Nobody who waits will hear more than this."""
        for replies in (self._requests, *self._later.values()):
            for reply, _ in replies:
                give(reply, error)
        self._told.give_up(error)

    # --- receiving --------------------------------------------------------------------------------------------------

    def receive(self, message: object, reply: pykka.Future[object] | None) -> None:
        refusal: CallboardError | None = None
        try:
            self._receive(message, reply)
        except CallboardError as error:
            refusal = error
        if self.inbox.idle() or len(self._writes) >= WRITES_AT_ONCE:  # after a refusal as well: others wait for what was gathered
            self._flush()
        if refusal is not None:
            follower = getattr(message, "reply_to", None)
            if reply is not None or follower is None or not is_ref(follower):
                raise refusal
            send(follower, messages.Answered(message, None, refusal))

    def _receive(self, message: object, reply: pykka.Future[object] | None) -> None:
        if type(message) in PUBLIC:
            admit(cast(messages.Command, message))
        match message:
            case messages.Submit():
                self._submit(message, reply)
            case messages.Committed():
                self._committed(message)
            case messages.HandDone():
                self._crew.hand_done(message)
            case messages.PauseJob():
                self._set_intent(message, reply, Event.PAUSE, PAUSER_BITS[Pauser.USER])
            case messages.ResumeJob():
                self._set_intent(message, reply, Event.RESUME, RESUMED_BY_USER)
            case messages.CancelJob():
                self._set_intent(message, reply, Event.CANCEL, 0)
            case messages.RetryJob():
                self._open()
                self._write(writes.InsertAgain(message.job_id, message.ledger), self._back(message, reply), message)
            case messages.QueryJobs() | messages.QueryJob() | messages.QueryWarnings() | messages.QueryStatistics():
                if not self._told.look(message, self._back(message, reply)):
                    raise LibraryClosed("the library has been closed")
            case messages.Subscribe() | messages.Unsubscribe() | messages.FactsSince():
                self._told.publish()
                send(self._parts.hub, messages.HubRequest(self._parts.stream, message, self._back(message, reply)))
            case messages.Ping():
                give(self._back(message, reply), True)
            case _:
                self._receive_own(message, reply)

    def _receive_own(self, message: object, reply: pykka.Future[object] | None) -> None:
        match message:
            case messages.WatchEnd():
                self._told.watch_end(message, self._crew.cast.holder(message.job_id) is not None)
            case messages.WatchStop():
                if self._crew.cast.holder(message.job_id) is None:
                    give(message.future, None)
                else:
                    self._told.watch_stop(message.job_id, message.future)
            case LookedUp():
                self._told.looked_up(message)
            case messages.SlotsGranted():
                self._crew.slots_granted(message)
            case messages.RecallSlots():
                self._crew.recall()
            case messages.ReviewHands():
                self._crew.review_hands()
            case messages.LookAround():
                self._crew.look_around()
            case messages.TimeHasCome():
                self._alarm.rang()
                self._write(writes.MakeDue())
            case messages.TypesChanged():
                self._crew.wake()
            case messages.SuspectCleared():
                self._crew.suspect_cleared(message.job_id)
            case SuspectsCounted():
                self._crew.suspects = message.count
            case messages.Again():
                self._write(message.write)
            case messages.BeginClose():
                self._begin_close(message)
            case messages.ExcuseRunning():
                held_ids = tuple(job.job_id for _, job in self._crew.cast.held())
                self._write(writes.Excuse(held_ids), None, _Counted(message.future, len(held_ids)))
            case ActorFailed():
                self._actor_failed(message)
            case _:
                raise UnknownMessage(f"a library has no answer to {type(message).__name__}; see callboard.actors.messages")

    def _back(self, message: Any, reply: pykka.Future[object] | None) -> Reply:
        """Whom to answer: who asked, else the message's `reply_to`."""
        if reply is not None:
            return reply
        return None if message.reply_to is None else TellBack(message.reply_to, message)

    def _open(self) -> None:
        if self._closing is not None or self._closed:
            raise LibraryClosed("the library is closing and takes no more jobs")

    # --- commands ---------------------------------------------------------------------------------------------------

    def _submit(self, message: messages.Submit, reply: pykka.Future[object] | None) -> None:
        self._open()
        self._write(message.insert, self._back(message, reply), message if message.reply_to is not None else None)
        self._crew.wake()  # a claim goes into the same commit, which applies it behind the new job

    def _set_intent(self, message: Any, reply: pykka.Future[object] | None, event: Event, pauser: int) -> None:
        self._write(writes.SetIntent(message.job_id, event, pauser), self._back(message, reply), message)

    def _write(self, write: writes.Write, reply: Reply = None, request: object = None) -> None:
        """Queue a write for the store. Submissions are answered by the store itself, all else here, by what it means."""
        direct = type(write) is writes.Insert and not isinstance(reply, TellBack)
        self._writes.append(write)
        self._replies.append(reply if direct else None)
        self._requests.append(_NOBODY if direct and request is None else (None if direct else reply, request))

    def _flush(self) -> None:
        """Send what was gathered, and a claim with it if jobs and actors wait for each other."""
        self._told.publish()
        if self._closing is None and not self._closed:
            self._crew.claim()
        if not self._writes or (len(self._in_flight) >= GROUPS_AHEAD and len(self._writes) < WRITES_AT_ONCE and not self._degraded):
            return
        direct = tuple(self._replies)
        commit = messages.Commit(tuple(self._writes), self.actor_ref, self._tickets, direct)
        self._later[self._tickets] = self._requests
        self._writes, self._replies, self._requests = [], [], []
        self._in_flight[self._tickets] = None
        self._tickets += 1
        if not send(self._parts.store, commit):
            gone = StoreUnavailable("the library's store has stopped; open the library again")
            tickets = tuple((commit.ticket, index) for index in range(len(commit.writes)))
            self._committed(messages.Committed(commit.writes, (gone,) * len(commit.writes), tickets))
            for reply in direct:
                give(reply, gone)

    # --- after a commit ---------------------------------------------------------------------------------------------

    def _committed(self, message: messages.Committed) -> None:
        for write, stored, (ticket, index) in zip(message.writes, message.answers, message.tickets, strict=True):
            reply, request = self._later[ticket][index] if ticket else _NOBODY
            if isinstance(write, writes.End):  # these two are nearly all
                self._ended(write, stored)
            elif isinstance(write, writes.Insert):
                self._inserted(write, stored, reply, request)
            else:
                self._committed_one(write, stored, reply, request)
        for ticket in dict.fromkeys(ticket for ticket, _ in message.tickets):
            self._later.pop(ticket, None)
            self._in_flight.pop(ticket, None)
        self._told.publish()

    def _committed_one(self, write: writes.Write, stored: writes.Answer, reply: Reply, request: object) -> None:
        match write:
            case writes.InsertAgain():
                self._inserted(write, stored, reply, request)
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
                self._after(AGAIN_SECONDS, messages.TimeHasCome())
            case writes.SetUnresponsive() if stored is True:
                name = self._crew.name_of(write.job_id)
                if write.since_ms is None:
                    self._told.fact(events.JobResponsive, write.job_id, name)
                else:
                    self._told.fact(events.JobUnresponsive, write.job_id, name, UNRESPONSIVE_SECONDS)
            case writes.Excuse() if isinstance(request, _Counted):
                give(request.future, request.count)

    def _inserted(self, write: writes.Insert | writes.InsertAgain, stored: writes.Answer, reply: Reply, request: object) -> None:
        if reply is not None:
            give(reply, stored)
        if not isinstance(stored, Submitted):
            return
        follower = None if request is None else getattr(request, "reply_to", None)
        if follower is not None:
            self._told.publish()
            send(self._parts.hub, messages.HubRequest(self._parts.stream, messages.Subscribe(follower, job_id=stored.job_id), None))
        if isinstance(write, writes.Insert):
            self._crew.is_own(stored.job_id, standing=stored.duplicate)
        if stored.duplicate:
            return
        self._told.fact(events.JobQueued, stored.job_id, stored.name)
        if stored.run_at_ms is not None:
            self._alarm.set(stored.run_at_ms)
        elif isinstance(write, writes.InsertAgain):
            self._crew.wake()

    def _claimed(self, write: writes.Claim, stored: writes.Answer) -> None:
        if self._closing is not None or self._closed:
            self._crew.give_back(write, stored)
            self._finish_close_if_empty()
            return
        for job in self._crew.claimed(write, stored):
            self._told.fact(events.JobStarted, job.job_id, job.name, job.attempt, job.started_before)

    def _ended(self, write: writes.End, stored: writes.Answer) -> None:
        if isinstance(stored, Exception):
            self._try_again(write, stored)
            return
        name, _ = self._no_longer_held(write.job_id)
        if not isinstance(stored, Status):
            log.error("a job ended that another actor holds: %s", write.job_id.hex())
        elif stored is Status.FAILED:
            self._told.fact(events.JobFailed, write.job_id, name, write.error or "", write.traceback or "")
        else:
            self._told.fact(events.JobCompleted, write.job_id, name, write.result, write.warned)

    def _left(self, write: writes.Leave, stored: writes.Answer) -> None:
        if isinstance(stored, Exception):
            self._try_again(write, stored)
            return
        name, job = self._no_longer_held(write.job_id)
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
                self._told.fact(events.JobCancelled, write.job_id, name)
            case Status.QUARANTINED:
                self._told.fact(events.JobQuarantined, write.job_id, name, write.error or "")
            case writes.Fenced():
                log.error("a job was left that another actor holds: %s", write.job_id.hex())

    def _try_again(self, write: writes.End | writes.Leave, error: Exception) -> None:
        """An end that is not stored stays true: it is written again as long as the store takes writes at all."""
        if isinstance(error, NotAccepted):
            self._after(AGAIN_SECONDS, messages.Again(write))
            return
        log.error("how a job ended could not be stored: %s", error)
        self._no_longer_held(write.job_id)

    def _no_longer_held(self, job_id: bytes) -> tuple[str, writes.Claimed | None]:
        name_and_job = self._crew.gone(job_id)
        self._told.has_stopped(job_id)
        if self._closing is not None:
            self._finish_close_if_empty()
        return name_and_job

    def _intent_set(self, write: writes.SetIntent, stored: writes.Answer, reply: Reply) -> None:
        if not isinstance(stored, writes.IntentSet):
            give(reply, stored)
            return
        before, after, job_id, name = stored.before, stored.after, write.job_id, stored.name
        if before is not after:
            match after:
                case Status.PAUSED:
                    self._told.fact(events.JobPaused, job_id, name)
                case Status.PAUSING:
                    self._told.fact(events.JobPausing, job_id, name)
                    self._crew.interrupt(job_id, "pause")
                case Status.CANCELLING:
                    self._told.fact(events.JobCancelling, job_id, name)
                    self._crew.interrupt(job_id, "cancel")
                case Status.CANCELLED:
                    self._told.fact(events.JobCancelled, job_id, name)
                case Status.RUNNING | Status.QUEUED:
                    self._told.fact(events.JobResumed, job_id, name)
                    self._resumed(job_id, after)
        give(reply, after)

    def _resumed(self, job_id: bytes, after: Status) -> None:
        if after is Status.RUNNING:
            self._crew.proceed(job_id)
        else:
            self._crew.wake()
            self._crew.recount()

    # --- time -------------------------------------------------------------------------------------------------------

    def _after(self, seconds: float, message: object) -> Any:
        me = self.actor_ref
        return self.ports.call_later(seconds, lambda: send(me, message))

    # --- closing, and actors that die -------------------------------------------------------------------------------

    def _begin_close(self, message: messages.BeginClose) -> None:
        if self._closing is not None or self._closed:
            give(message.future, 0)
            return
        self._closing = message.future
        self._crew.interrupt_all()
        self._finish_close_if_empty()

    def _finish_close_if_empty(self) -> None:
        if self._closing is None or (not self._degraded and (len(self._crew.cast) or self._crew.claiming)):
            return
        closing, self._closing, self._closed = self._closing, None, True
        give(closing, 0)

    def _actor_failed(self, message: ActorFailed) -> None:
        if not self._crew.actor_failed(message):
            send(self._parts.hub, messages.CloseStream(self._parts.stream, f"an actor of the library died: {message.error}"))
            gone = StoreUnavailable(f"an actor of the library died: {message.error}; open the library again")
            self._give_up(gone)
            self._degraded = True
            self._finish_close_if_empty()
            raise gone


@dataclass(frozen=True, slots=True)
class _Counted:
    future: Reply
    count: int
