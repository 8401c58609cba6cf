"""The library actor: takes commands, sends them to the store as writes, and once they are on disk tells, answers, claims and deals.

It holds no truth: what it knows of jobs (who runs what) can be lost with the process. It decides nothing about a job's life: `jobs/lifecycle.py`
does, and the store carries it out.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import pykka

from callboard.actors import messages
from callboard.actors.actor import Actor, ActorFailed, send
from callboard.actors.admission import BOUNDED, INBOX_LOW, INBOX_MOST, PUBLIC, WRITING, admit, is_ref, turn_away
from callboard.actors.alarm import Alarm
from callboard.actors.crew import Crew
from callboard.actors.intake import new_id
from callboard.actors.mailbox import Inbox
from callboard.actors.ports import Ports
from callboard.actors.results import NOBODY, Counted, Reply, Results, Steering
from callboard.actors.stage import LibraryParts
from callboard.actors.store import SuspectsCounted, TellBack, give
from callboard.actors.told import LookedUp, Told
from callboard.jobs.errors import CallboardError, LibraryClosed, StoreUnavailable, UnknownMessage
from callboard.jobs.lifecycle import PAUSER_BITS, RESUMED_BY_USER, Event, Pauser
from callboard.persistence import writes

log = logging.getLogger("callboard.library")

WRITES_AT_ONCE = 512
"""Commands gathered from the inbox before they are sent to the store together."""

GROUPS_AHEAD = 2
"""Commits of ours with the store, at most: one being synced, the next one waiting. What comes meanwhile is gathered here."""


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
        self._with_store = 0
        """How many writes that is: on a disk that stands still they are what piles up, not the inbox."""
        self._told = Told(ports, self.actor_ref, parts.reader, parts.hub, parts.stream, parts.epoch)
        self._crew = Crew(ports, self.actor_ref, parts, self._write)
        self._alarm = Alarm(ports, self.actor_ref)
        self._results = Results(ports, self.actor_ref, parts, self._told, self._crew, self._alarm, self._write_bulk)
        self._intake = self._results.intake
        self._parents = self._results.parents
        self._closing: Reply = None
        self._closed = False
        self._degraded = False
        """Its store or its reader is dead."""

    def _create_actor_inbox(self) -> Inbox:  # type: ignore[override]  # as the base does
        inbox = super()._create_actor_inbox()
        inbox.bound(BOUNDED, INBOX_MOST, turn_away, lambda kind: self._with_store if kind in WRITING and not self._degraded else 0)
        return inbox

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
        self._intake.give_up(error)
        self._told.give_up(error)
        self._results.make_room()

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
            case messages.SpawnPart():
                self._parents.spawn(message)
            case messages.PauseJob():
                self._set_intent(message, reply, Event.PAUSE, PAUSER_BITS[Pauser.USER])
            case messages.ResumeJob():
                self._set_intent(message, reply, Event.RESUME, RESUMED_BY_USER)
            case messages.CancelJob():
                self._set_intent(message, reply, Event.CANCEL, 0)
            case messages.SubmitBatch():
                self._submit_batch(message, reply)
            case messages.AddChunk():
                try:
                    self._open()
                except LibraryClosed as closed:
                    give(message.future, closed)
                else:
                    self._intake.add(writes.InsertChunk(message.chunk, message.requested_by, message.on_complete), message.future)
            case messages.PauseBatch():
                self._steer_batch(message, reply, Event.PAUSE, PAUSER_BITS[Pauser.USER])
            case messages.ResumeBatch():
                self._steer_batch(message, reply, Event.RESUME, RESUMED_BY_USER)
            case messages.CancelBatch():
                self._steer_batch(message, reply, Event.CANCEL, 0)
            case messages.RetryJob():
                self._open()
                self._write(writes.InsertAgain(message.job_id, message.ledger), self._back(message, reply), message)
            case _ if isinstance(message, READ):
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
            case messages.Reading():
                send(self._parts.hub, message)
            case messages.WatchEnd():
                self._told.watch_end(message, self._crew.cast.holder(message.job_id) is not None)
            case messages.WatchBatch():
                self._told.watch_batch(message)
            case messages.StopBatch():
                self._intake.stop(message.batch_id)
            case messages.AwaitRoom():
                self._results.await_room(message.future)
                if (message.in_inbox and self._with_store <= INBOX_LOW) or self._closing is not None or self._closed or self._degraded:
                    self._results.make_room()
            case messages.WatchStop():
                if self._crew.cast.holder(message.job_id) is None:
                    give(message.future, None)
                else:
                    self._told.watch_stop(message.job_id, message.future)
            case LookedUp():
                self._told.looked_up(message)
            case messages.StepAside():
                self._crew.step_aside(message)
            case messages.ComeBack():
                self._crew.come_back(message)
            case messages.WatchChildren():
                self._parents.watch(message)
                self._crew.are_children(message.ids)
            case messages.LookAtFamilies():
                self._results.news.look()
            case messages.FamiliesLoaded():
                self._results.news.loaded(message)
            case messages.StopChildren():
                for child in message.ids:
                    self._write(writes.SetIntent(child, Event.CANCEL, 0))
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
            case messages.StoreFailed():
                self._degrade(StoreUnavailable(message.error))
            case messages.DiskState():
                self._disk(message)
            case SuspectsCounted():
                self._crew.suspects = message.count
            case messages.Again():
                self._write(message.write)
            case messages.BeginClose():
                self._begin_close(message)
            case messages.ExcuseRunning():
                held_ids = tuple(job.job_id for _, job in self._crew.cast.held())
                self._write(writes.Excuse(held_ids), None, Counted(message.future, len(held_ids)))
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
        if not message.insert.has_time:
            self._crew.wake()  # a claim goes into the same commit, which applies it behind the new job

    def _set_intent(self, message: Any, reply: pykka.Future[object] | None, event: Event, pauser: int) -> None:
        self._write(writes.SetIntent(message.job_id, event, pauser), self._back(message, reply), message)

    def _disk(self, state: messages.DiskState) -> None:
        """Full: whatever runs pauses, and is resumed when there is room again."""
        if state.full:
            for _, job in self._crew.cast.held():
                self._crew.interrupt(job.job_id, "disk")
            return
        for job_id in state.paused:
            self._write(writes.SetIntent(job_id, Event.RESUME, PAUSER_BITS[Pauser.DISK]))
        self._crew.wake()

    def _steer_batch(self, message: Any, reply: pykka.Future[object] | None, event: Event, pauser: int) -> None:
        self._write_bulk(writes.SetBatchIntent(message.batch_id, event, pauser), Steering(self._back(message, reply)))

    def _submit_batch(self, message: messages.SubmitBatch, reply: pykka.Future[object] | None) -> None:
        self._open()
        batch_id = message.batch_id or new_id(self.ports)
        sender = message.reply_to if reply is None else reply  # who asks waits for the answer before he goes on
        self._intake.add_all(batch_id, message.chunks, message.on_complete, message.requested_by, self._back(message, reply), sender)

    def _write(self, write: writes.Write, reply: Reply = None, request: object = None) -> None:
        """Queue a write for the store. Submissions are answered by the store itself, all else here, by what it means."""
        direct = type(write) is writes.Insert and not isinstance(reply, TellBack)
        self._writes.append(write)
        self._replies.append(reply if direct else None)
        self._requests.append(NOBODY if direct and request is None else (None if direct else reply, request))

    def _write_bulk(self, write: writes.Write, request: object = None) -> None:
        """Send at once, alone, a write of many rows, behind all that was gathered before it: the store has a lane for these."""
        self._flush(all_of_it=True)
        self._send((write,), (), [(None, request)])

    def _flush(self, *, all_of_it: bool = False) -> None:
        """Send what was gathered, and a claim with it if jobs and actors wait for each other."""
        self._told.publish()
        if self._closing is None and not self._closed:
            self._crew.claim()
        full = len(self._in_flight) >= GROUPS_AHEAD and len(self._writes) < WRITES_AT_ONCE and not self._degraded
        if not self._writes or (full and not all_of_it):
            return
        self._in_flight[self._tickets] = None
        gathered = tuple(self._writes), tuple(self._replies), self._requests
        self._writes, self._replies, self._requests = [], [], []
        self._send(*gathered)

    def _send(self, what: tuple[writes.Write, ...], direct: tuple[Reply, ...], requests: list[tuple[Reply, object]]) -> None:
        commit = messages.Commit(what, self.actor_ref, self._tickets, direct)
        self._later[self._tickets] = requests
        self._with_store += len(requests)
        self._tickets += 1
        if not send(self._parts.store, commit):
            gone = StoreUnavailable("the library's store has stopped; open the library again")
            tickets = tuple((commit.ticket, index) for index in range(len(commit.writes)))
            self._committed(messages.Committed(commit.writes, (gone,) * len(commit.writes), tickets))
            for reply in direct:
                give(reply, gone)

    # --- after a commit ---------------------------------------------------------------------------------------------

    def _committed(self, message: messages.Committed) -> None:
        self._results.committed(message, self._later, closing=self._closing is not None or self._closed)
        before = self._with_store
        for ticket in dict.fromkeys(ticket for ticket, _ in message.tickets):
            self._with_store -= len(self._later.pop(ticket, ()))
            self._in_flight.pop(ticket, None)
        if before > INBOX_LOW >= self._with_store:
            self._results.make_room()
        self._finish_close_if_empty()

    # --- closing, and actors that die -------------------------------------------------------------------------------

    def _begin_close(self, message: messages.BeginClose) -> None:
        if self._closing is not None or self._closed:
            give(message.future, 0)
            return
        self._closing = message.future
        self._crew.interrupt_all()
        self._intake.refuse_waiting(LibraryClosed("the library was closed before all of the batch was stored"))
        self._results.make_room()
        self._finish_close_if_empty()

    def _finish_close_if_empty(self) -> None:
        if self._closing is None or (not self._degraded and (len(self._crew.cast) or self._crew.claiming or len(self._intake))):
            return
        closing, self._closing, self._closed = self._closing, None, True
        give(closing, 0)

    def _actor_failed(self, message: ActorFailed) -> None:
        if not self._crew.actor_failed(message):
            gone = StoreUnavailable(f"an actor of the library died: {message.error}; open the library again")
            self._degrade(gone)
            raise gone

    def _degrade(self, why: StoreUnavailable) -> None:
        """It takes no more writes; those who listen or wait hear of it."""
        send(self._parts.hub, messages.CloseStream(self._parts.stream, str(why)))
        self._give_up(why)
        self._degraded = True
        self._finish_close_if_empty()


READ = (
    messages.QueryJobs, messages.QueryJob, messages.QueryWarnings, messages.QueryStatistics, messages.QueryBatch, messages.QueryBatches,
    messages.QueryChunks, messages.QueryChildren, messages.PlanBatch, messages.PlanChunk,
)  # fmt: skip
"""Questions that the reader answers."""
