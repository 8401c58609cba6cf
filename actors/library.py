"""The library actor: takes commands, sends them to the store as writes, and once they are on disk tells, answers, claims and deals.

It holds no truth: what it knows of jobs (who runs what) can be lost with the process. It decides nothing about a job's life: `jobs/lifecycle.py`
does, and the store carries it out.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pykka

from callboard.actors.actor import Actor, ActorFailed, RestartBudget, send
from callboard.actors.context import Stage
from callboard.actors.job import JobActor
from callboard.actors.messages import (
    AskSlots, BeginClose, CancelJob, CloseStream, Commit, Committed, ExcuseRunning, FactsSince, HandDone, HubRequest, Interrupt, Look,
    LookAround, OpenStream, PauseJob, Perform, Ping, Proceed, Publish, QueryJob, QueryJobs, QueryStatistics, QueryWarnings, RecallSlots, Ref,
    Replies, ResumeJob, RetryJob, ReturnSlots, ReviewHands, SlotsGranted, Submit, Subscribe, SuspectCleared, TimeHasCome, TypesChanged,
    Unsubscribe, WatchEnd, WatchStop,
)  # fmt: skip
from callboard.actors.ports import Ports
from callboard.actors.signal import Pulse
from callboard.actors.store import TellBack, give
from callboard.jobs.casting import Cast
from callboard.jobs.errors import LibraryClosed, NotAccepted, StoreUnavailable, UnknownMessage
from callboard.jobs.events import (
    ENDS, JobCancelled, JobCancelling, JobCompleted, JobFailed, JobPaused, JobPausing, JobQuarantined, JobQueued, JobRequeued, JobResponsive,
    JobResumed, JobStarted, JobUnresponsive,
)  # fmt: skip
from callboard.jobs.factlog import RawFact, build
from callboard.jobs.lifecycle import PAUSER_BITS, RESUMED_BY_USER, Event, Pauser, Status
from callboard.jobs.record import JobRecord
from callboard.jobs.submission import Submitted
from callboard.persistence.writes import (
    Answer, Claim, Claimed, Due, End, Excuse, Fenced, Insert, InsertAgain, IntentSet, Leave, MakeDue, SetIntent, SetUnresponsive, Write,
)  # fmt: skip

log = logging.getLogger("callboard.library")

WRITES_AT_ONCE = 512
"""Commands gathered from the inbox before they are sent to the store together."""

REVIEW_SECONDS = 0.05
"""A hand not done after so long gives back what has not begun."""

LOOK_AROUND_SECONDS = 1.0
UNRESPONSIVE_SECONDS = 5.0
"""A job that has not looked at its context for so long is reported."""

RECENT_ENDS = 4_096
"""Ends kept in memory, for those who ask right after."""

AGAIN_SECONDS = 1.0
"""An end that could not be written is tried again after so long."""

Reply = Replies | None


@dataclass(frozen=True, slots=True)
class LibraryParts:
    """What a library actor is given."""

    store: Ref
    reader: Ref
    hub: Ref
    dispatcher: Ref
    stream: bytes
    epoch: int
    services: Any
    log_folder: Path | None
    workers: int
    running_jobs: int
    next_due_ms: int | None
    suspects: int
    left: Callable[[Ref], None]
    """Told of each job actor on which no user code runs any more."""
    joined: Callable[[Ref], None]
    """Told of each job actor that is started."""
    own_only: bool = False
    """Run only what is submitted while the library is open, a job of the same key that stands already included."""


class LibraryActor(Actor):
    """One an open library."""

    def __init__(self, ports: Ports, parent: Ref | None, parts: LibraryParts) -> None:
        super().__init__(ports, parent)
        self._parts = parts
        self._cast: Cast[Ref, Claimed] = Cast()
        self._pulses: dict[Ref, Pulse] = {}
        self._writes: list[Write] = []
        self._replies: list[Reply] = []
        self._later: dict[int, list[tuple[Reply, object]]] = {}
        """Ticket → for each write that is not an Insert: who is to be answered."""
        self._tickets = 1
        self._n = 0
        """Number of the last fact."""
        self._facts: list[RawFact] = []
        self._own: dict[bytes, None] | None = {} if parts.own_only else None
        """The only jobs to run; None: all."""
        self._ready = True
        """There may be jobs to claim: claim until one comes back short."""
        self._claiming = False
        self._suspects = parts.suspects
        self._alone: Literal["no", "asked", "granted"] = "no"
        self._recalled = False
        self._asked_slots = False
        self._ends: OrderedDict[bytes, RawFact] = OrderedDict()
        self._end_watchers: dict[bytes, list[Reply]] = {}
        self._stop_watchers: dict[bytes, list[Reply]] = {}
        self._followers: dict[int, Ref] = {}
        self._unresponsive: dict[bytes, None] = {}
        self._reviewing = self._looking = False
        self._due_timer: Any = None
        self._due_ms: int | None = None
        self._closing: Reply = None
        self._closed = False
        self._restarts = RestartBudget(limit=8)

    def started(self) -> None:
        parts = self._parts
        self._stage = Stage(
            self.actor_ref, parts.store, parts.reader, parts.hub, parts.dispatcher, parts.stream, parts.services, parts.log_folder, parts.workers
        )
        send(parts.hub, OpenStream(parts.stream, parts.epoch))
        self._ask_slots()
        self._set_due(parts.next_due_ms)

    def stopped(self) -> None:
        self._flush()
        send(self._parts.dispatcher, ReturnSlots(self.actor_ref, 0, forget=True))
        send(self._parts.hub, CloseStream(self._parts.stream))
        gone = LibraryClosed("the library was closed before the job ended")
        for watchers in (*self._end_watchers.values(), *self._stop_watchers.values()):
            for reply in watchers:
                give(reply, gone)

    # --- receiving --------------------------------------------------------------------------------------------------

    def receive(self, message: object, reply: pykka.Future[object] | None) -> None:
        match message:
            case Submit():
                self._submit(message, reply)
            case Committed():
                self._committed(message)
            case HandDone():
                self._hand_done(message)
            case PauseJob():
                self._set_intent(message, reply, Event.PAUSE, PAUSER_BITS[Pauser.USER])
            case ResumeJob():
                self._set_intent(message, reply, Event.RESUME, RESUMED_BY_USER)
            case CancelJob():
                self._set_intent(message, reply, Event.CANCEL, 0)
            case RetryJob():
                self._open()
                self._write(InsertAgain(message.job_id, message.ledger), self._back(message, reply), message)
            case QueryJobs() | QueryJob() | QueryWarnings() | QueryStatistics():
                if not send(self._parts.reader, Look(message, self._parts.epoch, self._n, self._back(message, reply))):
                    raise LibraryClosed("the library has been closed")
            case Subscribe() | Unsubscribe() | FactsSince():
                self._publish()
                send(self._parts.hub, HubRequest(self._parts.stream, message, self._back(message, reply)))
            case Ping():
                give(self._back(message, reply), True)
            case _:
                self._receive_own(message, reply)
        if self.inbox.idle() or len(self._writes) >= WRITES_AT_ONCE:
            self._flush()

    def _receive_own(self, message: object, reply: pykka.Future[object] | None) -> None:
        match message:
            case WatchEnd():
                self._watch_end(message)
            case WatchStop():
                held = self._cast.holder(message.job_id)
                if held is None:
                    give(message.future, None)
                else:
                    self._stop_watchers.setdefault(message.job_id, []).append(message.future)
            case LookedUp():
                self._looked_up(message)
            case SlotsGranted():
                self._slots_granted(message)
            case RecallSlots():
                self._recalled = True
                self._return_free_slots()
            case ReviewHands():
                self._review_hands()
            case LookAround():
                self._look_around()
            case TimeHasCome():
                self._due_ms = None
                self._write(MakeDue())
            case TypesChanged():
                self._ready = True
            case SuspectCleared():
                if self._alone == "granted":
                    self._end_alone()
            case Again():
                self._write(message.write)
            case BeginClose():
                self._begin_close(message)
            case ExcuseRunning():
                held_ids = tuple(job.job_id for _, job in self._cast.held())
                self._write(Excuse(held_ids), None, _Counted(message.future, len(held_ids)))
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

    def _submit(self, message: Submit, reply: pykka.Future[object] | None) -> None:
        self._open()
        self._write(message.insert, self._back(message, reply), message if message.reply_to is not None else None)

    def _set_intent(self, message: PauseJob | ResumeJob | CancelJob, reply: pykka.Future[object] | None, event: Event, pauser: int) -> None:
        self._write(SetIntent(message.job_id, event, pauser), self._back(message, reply), message)

    def _write(self, write: Write, reply: Reply = None, request: object = None) -> None:
        """Queue a write for the store. Submissions are answered by the store itself, all else here, by what it means."""
        self._writes.append(write)
        self._replies.append(reply)
        self._later.setdefault(self._tickets, []).append((reply, request))

    def _flush(self) -> None:
        """Send what was gathered, and a claim with it if jobs and actors wait for each other."""
        self._publish()
        self._claim()
        if not self._writes:
            return
        direct = tuple(
            reply if isinstance(write, Insert) and not isinstance(reply, TellBack) else None
            for write, reply in zip(self._writes, self._replies, strict=True)
        )
        commit = Commit(tuple(self._writes), self.actor_ref, self._tickets, direct)
        self._writes, self._replies = [], []
        self._tickets += 1
        if not send(self._parts.store, commit):
            gone = StoreUnavailable("the library's store has stopped; open the library again")
            self.receive(Committed(commit.writes, (gone,) * len(commit.writes), commit.ticket), None)
            for reply in direct:
                give(reply, gone)

    # --- after a commit ---------------------------------------------------------------------------------------------

    def _committed(self, message: Committed) -> None:
        later = self._later.pop(message.ticket, None)
        for index, (write, stored) in enumerate(zip(message.writes, message.answers, strict=True)):
            reply, request = later[index] if later is not None and index < len(later) else (None, None)
            self._committed_one(write, stored, reply, request)
        self._publish()

    def _committed_one(self, write: Write, stored: Answer, reply: Reply, request: object) -> None:
        match write:
            case Insert() | InsertAgain():
                self._inserted(write, stored, reply, request)
            case Claim():
                self._claimed(write, stored)
            case End():
                self._ended(write, stored)
            case Leave():
                self._left(write, stored)
            case SetIntent():
                self._intent_set(write, stored, reply)
            case MakeDue() if isinstance(stored, Due):
                self._ready = self._ready or stored.count > 0
                self._set_due(stored.next_ms)
            case SetUnresponsive() if stored is True:
                held = self._cast.holder(write.job_id)
                name = held[1].name if held is not None else ""
                if write.since_ms is None:
                    self._fact(JobResponsive, write.job_id, name)
                else:
                    self._fact(JobUnresponsive, write.job_id, name, UNRESPONSIVE_SECONDS)
            case Excuse() if isinstance(request, _Counted):
                give(request.future, request.count)

    def _inserted(self, write: Insert | InsertAgain, stored: Answer, reply: Reply, request: object) -> None:
        if isinstance(write, InsertAgain) or isinstance(reply, TellBack):
            give(reply, stored)
        if not isinstance(stored, Submitted):
            return
        follower = getattr(request, "reply_to", None)
        if follower is not None:
            self._publish()
            send(self._parts.hub, HubRequest(self._parts.stream, Subscribe(follower, job_id=stored.job_id), None))
        if self._own is not None and isinstance(write, Insert):
            self._own[stored.job_id] = None
            if stored.duplicate:  # it may wait already, in line or as a suspect
                self._ready, self._suspects = True, self._suspects + 1
        if stored.duplicate:
            return
        self._fact(JobQueued, stored.job_id, stored.name)
        if stored.run_at_ms is None:
            self._ready = True
        else:
            self._set_due(stored.run_at_ms)

    def _claimed(self, write: Claim, stored: Answer) -> None:
        self._claiming = False
        if not isinstance(stored, tuple):
            stored = ()
        if self._closing is not None or self._closed:
            for claimed in stored:
                self._release(claimed)
            if self._closing is not None and not len(self._cast):
                self._finish_close()
            return
        if write.alone:
            if not stored:
                self._suspects = 0
                self._end_alone()
        elif len(stored) < write.most:
            self._ready = False
        hands, left = self._cast.deal(stored)
        for actor, hand in hands:
            if not send(actor, Perform(hand)):
                self._actor_failed(ActorFailed(actor, "it had stopped", False))
        for claimed in stored[: len(stored) - len(left)]:
            self._fact(JobStarted, claimed.job_id, claimed.name, claimed.attempt, claimed.started_before)
        for claimed in left:
            self._release(claimed)
        if self._cast.any_waiting() and not self._reviewing:
            self._reviewing = True
            self._after(REVIEW_SECONDS, ReviewHands())
        if stored and not self._looking:
            self._looking = True
            self._after(LOOK_AROUND_SECONDS, LookAround())

    def _ended(self, write: End, stored: Answer) -> None:
        if self._try_again(write, stored):
            return
        held = self._cast.holder(write.job_id)
        name = held[1].name if held is not None else ""
        self._no_longer_held(write.job_id)
        if not isinstance(stored, Status):
            log.error("a job ended that another actor holds: %s", write.job_id.hex())
        elif stored is Status.FAILED:
            self._fact(JobFailed, write.job_id, name, write.error or "", write.traceback or "")
        else:
            self._fact(JobCompleted, write.job_id, name, write.result, write.warned)

    def _left(self, write: Leave, stored: Answer) -> None:
        if self._try_again(write, stored):
            return
        held = self._cast.holder(write.job_id)
        name = held[1].name if held is not None else ""
        self._no_longer_held(write.job_id)
        match stored:
            case Status.QUEUED:
                run_at = None if write.run_at_ms is None else write.run_at_ms / 1000
                self._fact(JobRequeued, write.job_id, name, run_at, write.error)
                if write.run_at_ms is not None:
                    self._set_due(write.run_at_ms)
                else:
                    self._ready = True
                    if held is not None and held[1].alone:
                        self._suspects += 1
            case Status.PAUSED:
                self._fact(JobPaused, write.job_id, name, write.error or "")
            case Status.CANCELLED:
                self._fact(JobCancelled, write.job_id, name)
            case Status.QUARANTINED:
                self._fact(JobQuarantined, write.job_id, name, write.error or "")
            case Fenced():
                log.error("a job was left that another actor holds: %s", write.job_id.hex())

    def _try_again(self, write: End | Leave, stored: Answer) -> bool:
        """An end that is not stored stays true: it is written again as long as the store takes writes at all."""
        if not isinstance(stored, Exception):
            return False
        if isinstance(stored, NotAccepted):
            self._after(AGAIN_SECONDS, Again(write))
            return True
        log.error("how a job ended could not be stored: %s", stored)
        self._no_longer_held(write.job_id)
        return True

    def _no_longer_held(self, job_id: bytes) -> None:
        held = self._cast.holder(job_id)
        self._cast.released(job_id)
        self._unresponsive.pop(job_id, None)
        for reply in self._stop_watchers.pop(job_id, ()):
            give(reply, None)
        if held is not None and held[1].alone and self._alone == "granted":
            self._end_alone()
        if self._closing is not None and not len(self._cast):
            self._finish_close()

    def _intent_set(self, write: SetIntent, stored: Answer, reply: Reply) -> None:
        if not isinstance(stored, IntentSet):
            give(reply, stored)
            return
        before, after, job_id, name = stored.before, stored.after, write.job_id, stored.name
        if before is not after:
            match after:
                case Status.PAUSED:
                    self._fact(JobPaused, job_id, name)
                case Status.PAUSING:
                    self._fact(JobPausing, job_id, name)
                    self._interrupt(job_id, "pause")
                case Status.CANCELLING:
                    self._fact(JobCancelling, job_id, name)
                    self._interrupt(job_id, "cancel")
                case Status.CANCELLED:
                    self._fact(JobCancelled, job_id, name)
                case Status.RUNNING | Status.QUEUED:
                    self._fact(JobResumed, job_id, name)
                    self._resumed(job_id, after, stored.alone)
        give(reply, after)

    def _resumed(self, job_id: bytes, after: Status, alone: bool) -> None:
        if after is Status.RUNNING:
            held = self._cast.holder(job_id)
            if held is not None:
                send(held[0], Proceed(job_id))
        elif alone:
            self._suspects += 1
        else:
            self._ready = True

    def _interrupt(self, job_id: bytes, why: Literal["pause", "cancel", "close"]) -> None:
        """Tell the actor that runs the job; if it has not begun, there is nothing to be told: it leaves at once."""
        held = self._cast.holder(job_id)
        if held is None:
            return
        actor, claimed = held
        if self._cast.take_back(job_id) is not None:
            self._release(claimed)
        else:
            send(actor, Interrupt(job_id, why))

    def _release(self, claimed: Claimed) -> None:
        self._write(Leave(claimed.job_id, claimed.claim, Event.RELEASE))

    # --- claiming and dealing ---------------------------------------------------------------------------------------

    def _claim(self) -> None:
        """Ask for the next jobs if there may be any and someone is free for them. One claim at a time."""
        if self._claiming or self._closing is not None or self._closed:
            return
        if self._alone == "granted":
            return
        if self._suspects and self._alone == "no":
            self._alone = "asked"
            self._return_slots(self._cast.free_slots)
            send(self._parts.dispatcher, AskSlots(self.actor_ref, 0, alone=True))
        if self._alone == "asked" or not self._ready:
            return
        if self._recalled and not self._asked_slots:
            self._ask_slots()
        for _ in range(self._cast.lacking()):
            self._start_actor()
        room = self._cast.room()
        if room:
            self._claiming = True
            self._write(Claim(room, only=self._only()))

    def _only(self) -> tuple[bytes, ...] | None:
        return None if self._own is None else tuple(self._own)

    def _start_actor(self) -> None:
        pulse = Pulse()
        actor = JobActor.start(self.ports, self._stage, pulse, self._parts.left)
        self._parts.joined(actor)
        self._pulses[actor] = pulse
        self._cast.join(actor)

    def _hand_done(self, message: HandDone) -> None:
        self._cast.done(message.actor, message.ran)
        if self._recalled or self._alone == "asked":
            self._return_free_slots()

    def _review_hands(self) -> None:
        """What was dealt in a hand and still waits, waits behind one that runs long: give it back."""
        self._reviewing = False
        for claimed in self._cast.take_back_waiting():
            self._release(claimed)

    # --- slots ------------------------------------------------------------------------------------------------------

    def _ask_slots(self) -> None:
        self._asked_slots = True
        send(self._parts.dispatcher, AskSlots(self.actor_ref, self._parts.running_jobs))

    def _slots_granted(self, message: SlotsGranted) -> None:
        self._cast.slots += message.slots
        if message.alone:
            self._alone = "granted"
            for _ in range(self._cast.lacking()):
                self._start_actor()
            self._claiming = True
            self._suspects = max(0, self._suspects - 1)
            self._write(Claim(1, alone=True, only=self._only()))
        else:
            self._recalled = self._asked_slots = False

    def _end_alone(self) -> None:
        self._alone = "no"
        self._cast.slots -= 1
        self._ready = True
        send(self._parts.dispatcher, ReturnSlots(self.actor_ref, 1, end_alone=True))
        self._ask_slots()

    def _return_free_slots(self) -> None:
        """Called back: what is free goes; it is asked for again when there is work."""
        self._return_slots(self._cast.free_slots)
        if not self._ready and not self._asked_slots:
            return
        if self._alone == "no":
            self._ask_slots()

    def _return_slots(self, slots: int) -> None:
        self._cast.slots -= slots
        self._asked_slots = False
        send(self._parts.dispatcher, ReturnSlots(self.actor_ref, slots))

    # --- time -------------------------------------------------------------------------------------------------------

    def _after(self, seconds: float, message: object) -> Any:
        me = self.actor_ref
        return self.ports.call_later(seconds, lambda: send(me, message) and None)

    def _set_due(self, due_ms: int | None) -> None:
        """Wake when the earliest of the jobs that wait for their time is due."""
        if due_ms is None or (self._due_ms is not None and self._due_ms <= due_ms):
            return
        if self._due_timer is not None:
            self._due_timer.cancel()
        self._due_ms = due_ms
        self._due_timer = self._after(max(0.0, due_ms / 1000 - self.ports.wall()) + 0.001, TimeHasCome())

    def _look_around(self) -> None:
        """Report jobs that do not look, and those that look again; goes on as long as something runs."""
        self._looking = False
        now = self.ports.monotonic()
        for pulse in self._pulses.values():
            job_id = pulse.job_id
            held = self._cast.holder(job_id) if job_id is not None else None
            if job_id is None or held is None:
                continue
            silent = not pulse.waiting and now - pulse.looked_at >= UNRESPONSIVE_SECONDS
            if silent and job_id not in self._unresponsive:
                self._unresponsive[job_id] = None
                since = round((self.ports.wall() - (now - pulse.looked_at)) * 1000)
                self._write(SetUnresponsive(job_id, held[1].claim, since))
            elif not silent and job_id in self._unresponsive:
                del self._unresponsive[job_id]
                self._write(SetUnresponsive(job_id, held[1].claim, None))
        if len(self._cast):
            self._looking = True
            self._after(LOOK_AROUND_SECONDS, LookAround())

    # --- facts and those who wait -----------------------------------------------------------------------------------

    def _fact(self, kind: Any, job_id: bytes, name: str, *more: object) -> None:
        self._facts.append((kind, job_id, name, more))
        if kind in ENDS:
            if self._own is not None:
                self._own.pop(job_id, None)
            raw = self._facts[-1]
            self._ends[job_id] = raw
            if len(self._ends) > RECENT_ENDS:
                self._ends.popitem(last=False)

    def _publish(self) -> None:
        """Tell the facts gathered so far; then wake those who waited for an end among them."""
        if not self._facts:
            return
        facts, self._facts = tuple(self._facts), []
        first = self._n + 1
        self._n += len(facts)
        send(self._parts.hub, Publish(self._parts.stream, first, facts))
        for n, raw in enumerate(facts, first):
            if raw[0] in ENDS and raw[1] in self._end_watchers:
                fact = build(self._parts.epoch, n, raw)
                for reply in self._end_watchers.pop(raw[1]):
                    give(reply, fact)

    def _watch_end(self, message: WatchEnd) -> None:
        ended = self._ends.get(message.job_id)
        if ended is not None:
            give(message.future, build(self._parts.epoch, self._n, ended))
            return
        self._end_watchers.setdefault(message.job_id, []).append(message.future)
        if self._cast.holder(message.job_id) is None:
            # It may have ended long ago. The watcher stands, so an end that comes meanwhile is not missed.
            found = self.ports.future()
            me, job_id = self.actor_ref, message.job_id
            found.add_done_callback(lambda future: send(me, LookedUp(job_id, future)) and None)
            send(self._parts.reader, Look(QueryJob(message.job_id), self._parts.epoch, self._n, found))

    def _looked_up(self, message: LookedUp) -> None:
        try:
            record = message.found.get(timeout=0)
        except Exception as error:  # noqa: BLE001 - whatever the reader met is for those who wait
            record = error
        if isinstance(record, Exception) or (isinstance(record, JobRecord) and record.status.ended):
            for reply in self._end_watchers.pop(message.job_id, ()):
                give(reply, record)

    # --- closing, and actors that die -------------------------------------------------------------------------------

    def _begin_close(self, message: BeginClose) -> None:
        self._closing = message.future
        for claimed in self._cast.take_back_waiting():
            self._release(claimed)
        for actor, claimed in self._cast.held():
            send(actor, Interrupt(claimed.job_id, "close"))
        if not len(self._cast) and not self._claiming:
            self._finish_close()

    def _finish_close(self) -> None:
        closing, self._closing, self._closed = self._closing, None, True
        give(closing, 0)

    def _actor_failed(self, message: ActorFailed) -> None:
        if message.ref not in self._pulses:
            send(self._parts.hub, CloseStream(self._parts.stream, f"an actor of the library died: {message.error}"))
            raise StoreUnavailable(f"an actor of the library died: {message.error}; open the library again")
        log.error("a job actor died: %s", message.error)
        begun = self._pulses.pop(message.ref).job_id
        for claimed in self._cast.dead(message.ref):
            if claimed.job_id == begun:
                self._write(End(claimed.job_id, claimed.claim, Event.FAIL, error=f"its actor died: {message.error}"))
            else:
                self._release(claimed)


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What the reader found of a job that somebody waits for."""

    job_id: bytes
    found: Any


@dataclass(frozen=True, slots=True)
class Again:
    """A timer: this write is to be tried again."""

    write: Write


@dataclass(frozen=True, slots=True)
class _Counted:
    future: Reply
    count: int
