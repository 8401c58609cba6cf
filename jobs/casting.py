"""Which job actor runs what: who is idle, what each was dealt, and how much to claim. Plain data; the library actor acts on it.

A job actor is dealt more than one job only of types that have been averaging under 1 ms: a message and a commit for each of them would cost
more than the job. What it has not begun can be taken back at any time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, Protocol, TypeVar

from callboard.jobs.queue import Hand

QUICK_SECONDS = 0.001
"""A type that averages below may be dealt in hands of many."""

HAND_SECONDS = 0.010
"""Work in one hand, by the averages: long against the messages and the commit that it shares, short against what a person notices …"""

HAND_MOST = 512
"""… and jobs in it, at most."""

CLAIM_MOST = 1_024
"""Jobs claimed at once, at most."""

AVERAGE_WEIGHT = 0.2
"""How much the newest runs count in the average."""


class Dealt(Protocol):
    """What the cast has to know of a claimed job."""

    @property
    def job_id(self) -> bytes: ...
    @property
    def name(self) -> str: ...
    @property
    def claim(self) -> int: ...
    @property
    def crashes(self) -> int: ...


A = TypeVar("A", bound=Hashable)
J = TypeVar("J", bound=Dealt)


class Cast(Generic[A, J]):
    """The job actors of one library and what they were dealt."""

    def __init__(self) -> None:
        self.slots = 0
        """How many actors may be busy."""
        self._idle: list[A] = []
        self._hands: dict[A, Hand[J]] = {}
        self._held: dict[bytes, tuple[A, J]] = {}
        self._aside: dict[A, None] = {}
        """Actors whose job waits for its children, in order: they have a hand, and no slot."""
        self._coming: dict[A, None] = {}
        """Those of them that want to go on."""
        self._average: dict[str, float] = {}
        self._appetite = 1
        self._hand_size = 1
        """Jobs that fill a hand, of the quick type dealt last."""

    # --- actors -----------------------------------------------------------------------------------------------------

    def join(self, actor: A) -> None:
        """A new actor, idle."""
        self._idle.append(actor)

    def dead(self, actor: A) -> list[J]:
        """An actor died: what it held, begun or not."""
        if actor in self._idle:
            self._idle.remove(actor)
        self._hands.pop(actor, None)
        self.leave_aside(actor)
        lost = [job for holder, job in self._held.values() if holder == actor]
        for job in lost:
            del self._held[job.job_id]
        return lost

    def done(self, actor: A, ran: Iterable[tuple[str, int, float]]) -> None:
        """An actor has nothing left; `ran`: (type, how many, seconds in all)."""
        self.leave_aside(actor)
        if self._hands.pop(actor, None) is not None:
            self._idle.append(actor)
        for name, count, seconds in ran:
            mean = seconds / count
            self._average[name] = mean + (1 - AVERAGE_WEIGHT) * (self._average.get(name, mean) - mean)

    @property
    def busy(self) -> int:
        """How many actors have a hand, and a slot for it."""
        return len(self._hands) - len(self._aside)

    @property
    def free_slots(self) -> int:
        return max(0, self.slots - self.busy)

    def lacking(self) -> int:
        """How many actors more could be used at once."""
        return max(0, self.free_slots - len(self._idle))

    def actors(self) -> list[A]:
        return [*self._idle, *self._hands]

    # --- parents that wait ------------------------------------------------------------------------------------------

    @property
    def aside(self) -> int:
        """How many actors wait inside a job for its children."""
        return len(self._aside)

    @property
    def coming(self) -> bool:
        """Somebody waits for a slot to go on."""
        return bool(self._coming)

    def step_aside(self, actor: A) -> list[J]:
        """The actor's job waits for its children: its slot is free for others. Answers what it was dealt besides, the caller's again."""
        hand = self._hands.get(actor)
        if hand is None:
            return []
        self._aside[actor] = None
        return hand.take_back()

    def come_back(self, actor: A) -> None:
        """The children are done: the actor gets the next slot that is free; `back` says when."""
        if actor in self._aside:
            self._coming[actor] = None

    def back(self) -> list[A]:
        """Who goes on now, in the order in which they asked: there is a slot for each."""
        admitted = list(self._coming)[: self.free_slots]
        for actor in admitted:
            self.leave_aside(actor)
        return admitted

    def leave_aside(self, actor: A) -> None:
        """The actor is no longer one that waits; one that is asked to leave needs no slot for it."""
        self._aside.pop(actor, None)
        self._coming.pop(actor, None)

    # --- jobs -------------------------------------------------------------------------------------------------------

    def room(self) -> int:
        """How many jobs to claim now; 0: none."""
        return min(CLAIM_MOST, self.free_slots * min(self._appetite, self._hand_size))

    def deal(self, jobs: Iterable[J]) -> tuple[list[tuple[A, Hand[J]]], list[J]]:
        """Hands for idle actors, in order; and the jobs that found no place, to be given back. One charged with a crash goes alone."""
        hands: list[list[J]] = []
        left: list[J] = []
        seconds = 0.0
        places = min(self.free_slots, len(self._idle))
        for job in jobs:
            if left:  # nothing overtakes one that found no place
                left.append(job)
            elif hands and self._quick(job) and self._quick(hands[-1][0]) and len(hands[-1]) < HAND_MOST and seconds < HAND_SECONDS:
                hands[-1].append(job)
                seconds += self._average[job.name]
            elif len(hands) < places:
                hands.append([job])
                seconds = self._average.get(job.name, HAND_SECONDS)
            else:
                left.append(job)
        self._learn(hands, left)
        dealt = []
        for jobs_of_hand in hands:
            actor, hand = self._idle.pop(), Hand(jobs_of_hand)
            self._hands[actor] = hand
            for job in jobs_of_hand:
                self._held[job.job_id] = (actor, job)
            dealt.append((actor, hand))
        return dealt, left

    def _quick(self, job: J) -> bool:
        return not job.crashes and self._average.get(job.name, 1.0) < QUICK_SECONDS

    def _learn(self, hands: list[list[J]], left: list[J]) -> None:
        """Claim more at a time while everything finds a place in hands of many, less when something had to be given back."""
        if left:
            self._appetite = max(1, self._appetite // 4)
        elif hands and self._quick(hands[-1][-1]):
            self._appetite = min(HAND_MOST, self._appetite * 2)
        if hands and self._quick(hands[-1][-1]):
            average = max(self._average[hands[-1][-1].name], HAND_SECONDS / HAND_MOST)
            self._hand_size = max(1, int(HAND_SECONDS / average))

    def holder(self, job_id: bytes) -> tuple[A, J] | None:
        """Who holds the job, and the job as it was claimed."""
        return self._held.get(job_id)

    def holds_newer(self, job_id: bytes, claim: int) -> bool:
        """Whether the job has been claimed again here since: what an actor that died had sent, and was given back besides, comes late."""
        held = self._held.get(job_id)
        return held is not None and held[1].claim > claim

    def take_back(self, job_id: bytes) -> J | None:
        """The job, if its actor has not begun it: it is the caller's again."""
        held = self._held.get(job_id)
        if held is None:
            return None
        actor, job = held
        hand = self._hands.get(actor)
        if hand is None or not hand.take_back_if(lambda each: each.job_id == job_id):
            return None
        return job

    def take_back_waiting(self) -> list[J]:
        """Everything dealt and not begun."""
        return [job for hand in self._hands.values() for job in hand.take_back()]

    def any_waiting(self) -> bool:
        """True if something was dealt and has not begun."""
        return any(len(hand) for hand in self._hands.values())

    def released(self, job_id: bytes) -> J | None:
        """The job's claim has ended, on disk; answers the job, if it was held."""
        held = self._held.pop(job_id, None)
        return None if held is None else held[1]

    def held(self) -> list[tuple[A, J]]:
        return list(self._held.values())

    def __len__(self) -> int:
        return len(self._held)
