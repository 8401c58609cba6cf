"""The job actors of one library: leave to run (slots), claiming, dealing, taking back, and who does not look. Belongs to the library actor.

A claim is asked for when there may be something to run and someone is free for it; one at a time, as the next one is better aimed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Literal

from callboard.actors.actor import ActorFailed, send, tell_stop
from callboard.actors.job import JobActor
from callboard.actors.messages import (
    AskSlots,
    ComeBack,
    HandDone,
    Interrupt,
    LookAround,
    Perform,
    Proceed,
    Ref,
    ReturnSlots,
    ReviewHands,
    SlotForParent,
    SlotsGranted,
    StepAside,
    SteppedAside,
    TypesChanged,
)  # fmt: skip
from callboard.actors.ports import Ports
from callboard.actors.signal import Pulse
from callboard.actors.stage import LibraryParts, Stage
from callboard.actors.store import CountSuspects
from callboard.jobs.batch_items import ChunkOutcome
from callboard.jobs.casting import Cast
from callboard.jobs.errors import NotAccepted
from callboard.jobs.lifecycle import Event
from callboard.jobs.queue import Hand
from callboard.persistence.writes import Answer, Claim, Claimed, End, Leave, SetUnresponsive, Write

log = logging.getLogger("callboard.library")

REVIEW_SECONDS = 0.05
"""A hand not done after so long gives back what has not begun."""

AGAIN_SECONDS = 1.0
"""What could not be done for now is tried again after so long."""

KEPT_PARENTS = 8
"""So many jobs at most wait for their children on their actors, each of which is a thread; others leave `run` and are run again."""

LOOK_AROUND_SECONDS = 1.0
UNRESPONSIVE_SECONDS = 5.0
"""A job that has not looked at its context for so long is reported."""


class Crew:
    """Who runs what."""

    def __init__(self, ports: Ports, me: Ref, parts: LibraryParts, write: Callable[[Write], None]) -> None:
        """`write` queues a write for the store."""
        self._ports, self._me, self._parts, self._write = ports, me, parts, write
        self._stage = Stage(
            me, parts.store, parts.reader, parts.hub, parts.dispatcher, parts.stream, parts.services, parts.log_folder, parts.workers
        )
        self.cast: Cast[Ref, Claimed] = Cast()
        self._pulses: dict[Ref, Pulse] = {}
        self._dealt: dict[Ref, tuple[Hand[Claimed], float]] = {}
        """Hands of more than one job, and since when: not looked at yet."""
        self._lost: dict[bytes, str] = {}
        """Jobs whose actor died, or that were claimed for none → their names, until it is on disk what became of them."""
        self._own: dict[bytes, None] | None = {} if parts.own_only else None
        """The only jobs to run; None: all."""
        self._coming: dict[Ref, bytes] = {}
        """Actors that wait for a slot to go on, and with which job."""
        self._ready = True
        self._wakes = self._wakes_seen = 0
        """How often we were woken, in all and when the last claim was asked for."""
        self.claiming = False
        self.suspects = parts.suspects
        """How many jobs may wait to run alone."""
        self._alone: Literal["no", "asked", "granted"] = "no"
        self._alone_job: bytes | None = None
        """The suspect that runs with nobody else."""
        self._unresponsive: dict[bytes, None] = {}
        self._recalled = self._asked_slots = self._reviewing = self._looking = self._closing = False

    # --- claiming and dealing ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be jobs to claim: claim until one comes back short that was asked for after this."""
        self._ready = True
        self._wakes += 1

    def claim(self) -> None:
        """Ask for the next jobs, if there may be any and someone is free for them."""
        if self.claiming or self._closing or self._alone == "granted" or self._own == {}:
            return
        if self.suspects and self._alone == "no":
            self._alone = "asked"
            self._return_slots(self.cast.free_slots)
            send(self._parts.dispatcher, AskSlots(self._me, 0, alone=True))
        if self._alone == "asked" or not self._ready:
            return
        if self._recalled and not self._asked_slots:
            self.ask_slots()
        self._fill_up()
        room = self.cast.room()
        if room:
            self.claiming, self._wakes_seen = True, self._wakes
            self._write(Claim(room, only=self._only()))

    def _only(self) -> tuple[bytes, ...] | None:
        return None if self._own is None else tuple(self._own)

    def is_own(self, job_id: bytes, *, standing: bool) -> None:
        """This job was submitted here; `standing`: it was there already, and may wait in line or as a suspect."""
        if self._own is not None:
            self._own[job_id] = None
            self.wake()  # a claim that is on its way does not name this job
            if standing:
                self.recount()

    def are_own(self, stored: ChunkOutcome) -> None:
        """As `is_own`, for a part of a batch."""
        if self._own is not None:
            ids = stored.job_ids(range(stored.start, stored.start + stored.count))
            self._own.update(dict.fromkeys(job_id for job_id in ids if job_id is not None))
            self.wake()
            self.recount()

    def are_children(self, ids: Iterable[bytes]) -> None:
        """Children of a job that runs here: they are to run, whatever else does not."""
        if self._own is not None:
            self._own.update(dict.fromkeys(ids))
            self.wake()
            self.recount()

    def claimed(self, write: Claim, stored: Answer) -> tuple[Claimed, ...]:
        """Deal what a claim brought; answers the jobs that begin now. Those that found no place are given back."""
        self.claiming = False
        jobs = stored if isinstance(stored, tuple) else ()
        if isinstance(stored, NotAccepted):  # the jobs are still there, and nothing else may ever wake us
            self._after(AGAIN_SECONDS, TypesChanged())
        if write.alone:
            self._alone_job = jobs[0].job_id if jobs else None
            if not jobs:
                self.suspects = 0
                self._end_alone(slots=1)
        elif len(jobs) < write.most:
            self._ready = self._wakes != self._wakes_seen
        hands, left = self.cast.deal(jobs)
        now = self._ports.monotonic()
        for actor, hand in hands:
            if len(hand) > 1:
                self._dealt[actor] = (hand, now)
            if not send(actor, Perform(hand)):
                self.actor_failed(ActorFailed(actor, "it had stopped", False))
        for job in left:
            self.release(job)
        if self._recalled or self._alone == "asked":
            self._return_free_slots()
        self._review_later(REVIEW_SECONDS)
        if jobs and not self._looking:
            self._looking = True
            self._after(LOOK_AROUND_SECONDS, LookAround())
        return jobs[: len(jobs) - len(left)]

    def give_back(self, write: Claim, stored: Answer) -> None:
        """A claim that came back while the library closes."""
        self.claiming = False
        for job in stored if isinstance(stored, tuple) else ():
            self.release(job)

    def release(self, job: Claimed) -> None:
        """It has not begun and waits in line again; no crash, no attempt."""
        if self.cast.holder(job.job_id) is None:
            self._lost[job.job_id] = job.name
        self._write(Leave(job.job_id, job.claim, Event.RELEASE))

    def hand_done(self, message: HandDone) -> None:
        self.cast.done(message.actor, message.ran)
        self._dealt.pop(message.actor, None)
        self._coming.pop(message.actor, None)
        self._slots_came_free()

    def review_hands(self) -> None:
        """A hand that is not done after so long has one that runs long: what waits behind it is given back, what ended before it is told."""
        self._reviewing = False
        now = self._ports.monotonic()
        for actor, (hand, since) in list(self._dealt.items()):
            if now - since >= REVIEW_SECONDS:
                del self._dealt[actor]
                for job in hand.take_back():
                    self.release(job)
                for write in self._pulses[actor].take_ends():
                    self._write(write)
        if self._dealt:
            self._review_later(REVIEW_SECONDS - now + min(since for _, since in self._dealt.values()))

    def _review_later(self, seconds: float) -> None:
        if self._dealt and not self._reviewing:
            self._reviewing = True
            self._after(seconds, ReviewHands())

    def _fill_up(self) -> None:
        for _ in range(self.cast.lacking()):
            pulse = Pulse()
            try:
                actor = JobActor.start(self._ports, self._stage, pulse, self._parts.left)
            except RuntimeError as error:  # no thread to be had: go on with those there are, and try again
                log.error("a job actor could not be started: %s", error)
                self._after(AGAIN_SECONDS, TypesChanged())
                return
            self._parts.joined(actor)
            self._pulses[actor] = pulse
            self.cast.join(actor)

    # --- parents that wait ------------------------------------------------------------------------------------------

    def step_aside(self, message: StepAside) -> None:
        """A job is to wait for its children: its slot is free for others, if it may wait on its actor."""
        held = self.cast.holder(message.job_id)
        kept = message.must_stay or self.cast.aside < KEPT_PARENTS
        if kept and held is not None and held[0] == message.actor:
            for job in self.cast.step_aside(message.actor):
                self.release(job)
            self._dealt.pop(message.actor, None)
            for write in self._pulses[message.actor].take_ends():
                self._write(write)
            self._slots_came_free()
        send(message.actor, SteppedAside(message.job_id, kept))

    def come_back(self, message: ComeBack) -> None:
        """The children have ended, the job wants to go on."""
        self.cast.come_back(message.actor)
        self._coming[message.actor] = message.job_id
        self._admit()

    def _slots_came_free(self) -> None:
        """A parent may wait for just this slot, or another library, and nothing else may ever come free."""
        self._admit()
        if self._recalled or self._alone == "asked":
            self._return_free_slots()

    def _admit(self) -> None:
        """Parents go before jobs that have not begun."""
        if not self.cast.coming or self._alone == "granted":
            return
        for actor in self.cast.back():
            send(actor, SlotForParent(self._coming.pop(actor)))
        if self.cast.coming and not self._asked_slots and self._alone == "no":
            self.ask_slots()

    # --- jobs that are held -----------------------------------------------------------------------------------------

    def interrupt(self, job_id: bytes, why: Literal["pause", "cancel", "close", "disk"]) -> None:
        """Tell the actor that runs the job; if it has not begun, there is nothing to be told: it leaves at once."""
        held = self.cast.holder(job_id)
        if held is None:
            return
        actor, job = held
        if self.cast.take_back(job_id) is not None:
            self.release(job)
        else:
            send(actor, Interrupt(job_id, why))

    def proceed(self, job_id: bytes) -> None:
        """The pause is withdrawn."""
        held = self.cast.holder(job_id)
        if held is not None:
            send(held[0], Proceed(job_id))

    def interrupt_all(self) -> None:
        """The library closes: what has not begun is given back, what runs is asked to leave."""
        self._closing = True
        for job in self.cast.take_back_waiting():
            self.release(job)
        for actor, job in self.cast.held():
            send(actor, Interrupt(job.job_id, "close"))

    def dismiss(self) -> None:
        """The library actor stops: its job actors too, each when it has left the job it runs."""
        for actor in self.cast.actors():
            tell_stop(actor)

    def gone(self, job_id: bytes) -> tuple[str, Claimed | None]:
        """The job's claim has ended, on disk; answers its name ("": never known here), and the job, if it was held here."""
        job = self.cast.released(job_id)
        lost = self._lost.pop(job_id, "") if self._lost else ""
        self._unresponsive.pop(job_id, None)
        if job_id == self._alone_job:
            self._end_alone(slots=1)
        return (lost, None) if job is None else (job.name, job)

    def name_of(self, job_id: bytes) -> str:
        held = self.cast.holder(job_id)
        return self._lost.get(job_id, "") if held is None else held[1].name

    def actor_failed(self, message: ActorFailed) -> bool:
        """A job actor died: what it had not begun waits again, what it ran has failed. False if it is none of ours."""
        pulse = self._pulses.pop(message.ref, None)
        if pulse is None:
            return False
        log.error("a job actor died: %s", message.error)
        self._dealt.pop(message.ref, None)
        self._coming.pop(message.ref, None)
        ended = pulse.take_ends()
        for write in ended:
            self._write(write)
        known = {write.job_id for write in ended if isinstance(write, (End, Leave))}
        for job in self.cast.dead(message.ref):
            self._lost[job.job_id] = job.name
            if job.job_id in known:
                continue
            if job.job_id == pulse.job_id:
                self._write(End(job.job_id, job.claim, Event.FAIL, error=f"its actor died: {message.error}"))
            else:
                self.release(job)
        self._slots_came_free()
        return True

    def look_around(self) -> None:
        """Report jobs that do not look, and those that look again; goes on as long as something runs."""
        self._looking = False
        now = self._ports.monotonic()
        for pulse in self._pulses.values():
            job_id = pulse.job_id
            held = self.cast.holder(job_id) if job_id is not None else None
            if job_id is None or held is None:
                continue
            silent = not pulse.waiting and now - pulse.looked_at >= UNRESPONSIVE_SECONDS
            if silent and job_id not in self._unresponsive:
                self._unresponsive[job_id] = None
                since = round((self._ports.wall() - (now - pulse.looked_at)) * 1000)
                self._write(SetUnresponsive(job_id, held[1].claim, since))
            elif not silent and job_id in self._unresponsive:
                del self._unresponsive[job_id]
                self._write(SetUnresponsive(job_id, held[1].claim, None))
        if len(self.cast):
            self._looking = True
            self._after(LOOK_AROUND_SECONDS, LookAround())

    # --- slots ------------------------------------------------------------------------------------------------------

    def ask_slots(self) -> None:
        self._asked_slots = True
        send(self._parts.dispatcher, AskSlots(self._me, self._parts.running_jobs))

    def slots_granted(self, message: SlotsGranted) -> None:
        self.cast.slots += message.slots
        if message.alone:
            self._alone = "granted"
            self._fill_up()
            self.claiming = True
            self.suspects = max(0, self.suspects - 1)
            self._write(Claim(1, alone=True, only=self._only()))
        else:
            self._recalled = self._asked_slots = False
            self._admit()

    def recall(self) -> None:
        """Another library waits."""
        self._recalled = True
        self.claim()  # a slot that was just granted is used once: else two libraries with work could hand it to and fro, and run nothing
        self._return_free_slots()

    def suspect_cleared(self, job_id: bytes) -> None:
        """It has a checkpoint behind it and goes on as one among others: it keeps its slot."""
        if job_id == self._alone_job:
            self._end_alone(slots=0)

    def _end_alone(self, slots: int) -> None:
        self._alone, self._alone_job = "no", None
        self.cast.slots -= slots
        self.wake()
        send(self._parts.dispatcher, ReturnSlots(self._me, slots, end_alone=True))
        self.ask_slots()

    def recount(self) -> None:
        """Jobs have come into line that may be suspects: have them counted."""
        send(self._parts.store, CountSuspects(self._me))

    def _return_free_slots(self) -> None:
        """What is free goes, unless a claim is on its way that may use it; it is asked for again when there is work."""
        free = self.cast.free_slots
        if self.claiming or not free or self._alone == "granted":  # a suspect's own slot goes when it is known what became of the suspect
            return
        self._return_slots(free)
        if self._alone == "no" and (self._ready or self.cast.coming):
            self.ask_slots()

    def _return_slots(self, slots: int) -> None:
        self.cast.slots -= slots
        self._asked_slots = False
        send(self._parts.dispatcher, ReturnSlots(self._me, slots))

    def _after(self, seconds: float, message: object) -> None:
        self._ports.call_later(seconds, lambda: send(self._me, message))
