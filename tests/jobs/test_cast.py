"""Who was dealt what: each claimed job is with one actor until its claim has ended, in hands that keep nobody waiting."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from callboard.jobs.casting import HAND_MOST, HAND_SECONDS, QUICK_SECONDS, Cast
from callboard.jobs.queue import Hand

QUICK, SLOW = "quick", "slow"


@dataclass(frozen=True)
class Piece:
    job_id: bytes
    name: str = QUICK
    crashes: int = 0
    claim: int = 1


def pieces(names: list[str], start: int = 0, crashes: int = 0) -> list[Piece]:
    return [Piece(number.to_bytes(16, "big"), name, crashes) for number, name in enumerate(names, start)]


def cast_of(actors: int, *, slots: int | None = None) -> Cast[str, Piece]:
    """Idle actors, and it is known that the quick type is quick and the slow one is not."""
    cast: Cast[str, Piece] = Cast()
    cast.slots = actors if slots is None else slots
    for number in range(actors):
        cast.join(f"actor {number}")
    cast.done("nobody", [(QUICK, 10, 10 * HAND_SECONDS / HAND_MOST / 2), (SLOW, 10, 10 * QUICK_SECONDS * 2)])
    return cast


def dealt(hands: list[tuple[str, Hand[Piece]]]) -> list[list[Piece]]:
    return [hand.take_back() for _, hand in hands]


# --- dealing ------------------------------------------------------------------------------------------------------------


def test_quick_jobs_go_in_one_hand_and_slow_ones_to_an_actor_each() -> None:
    cast = cast_of(4)
    jobs = pieces([QUICK, QUICK, SLOW, SLOW, QUICK])
    hands, left = cast.deal(jobs)
    assert dealt(hands) == [jobs[:2], [jobs[2]], [jobs[3]], [jobs[4]]]
    assert left == []


def test_a_type_that_was_never_seen_counts_as_slow() -> None:
    hands, _ = cast_of(2).deal(pieces(["new", "new"]))
    assert [len(hand) for hand in dealt(hands)] == [1, 1]


def test_a_job_that_was_charged_with_a_crash_goes_alone() -> None:
    jobs = [*pieces([QUICK]), *pieces([QUICK], start=1, crashes=1), *pieces([QUICK, QUICK], start=2)]
    hands, _ = cast_of(4).deal(jobs)
    assert dealt(hands) == [[jobs[0]], [jobs[1]], jobs[2:]]


def test_a_hand_is_never_larger_than_the_most() -> None:
    hands, left = cast_of(2).deal(pieces([QUICK] * (2 * HAND_MOST + 1)))
    assert [len(hand) for hand in dealt(hands)] == [HAND_MOST, HAND_MOST]
    assert len(left) == 1


def test_a_hand_holds_no_more_work_than_its_share_of_time() -> None:
    cast = cast_of(2)
    cast.done("nobody", [("not so quick", 1, HAND_SECONDS / 15)])
    hands, left = cast.deal(pieces(["not so quick"] * 40))
    assert [len(hand) for hand in dealt(hands)] == [15, 15] and len(left) == 10
    cast.done(hands[0][0], [])
    assert cast.room() <= 15


def test_nothing_overtakes_a_job_that_found_no_place() -> None:
    jobs = pieces([QUICK, SLOW, QUICK, QUICK])
    hands, left = cast_of(1).deal(jobs)
    assert (dealt(hands), left) == ([jobs[:1]], jobs[1:])


def test_no_more_actors_are_busy_than_there_are_slots() -> None:
    cast = cast_of(3, slots=2)
    hands, left = cast.deal(pieces([SLOW] * 3))
    assert (len(hands), len(left)) == (2, 1)
    assert (cast.busy, cast.free_slots, cast.room()) == (2, 0, 0)


def test_a_slot_that_is_taken_away_from_a_busy_actor_shows_when_it_is_done() -> None:
    cast = cast_of(2)
    hands, _ = cast.deal(pieces([SLOW, SLOW]))
    cast.slots = 1
    assert (cast.free_slots, cast.room(), cast.lacking()) == (0, 0, 0)
    cast.done(hands[0][0], [(SLOW, 1, 1.0)])
    assert cast.free_slots == 0
    cast.done(hands[1][0], [(SLOW, 1, 1.0)])
    assert cast.free_slots == 1


def test_what_is_lacking_are_actors_for_the_free_slots() -> None:
    cast = cast_of(1, slots=4)
    assert cast.lacking() == 3
    cast.deal(pieces([SLOW]))
    assert cast.lacking() == 3
    cast.join("actor 9")
    assert cast.lacking() == 2


# --- how much to claim --------------------------------------------------------------------------------------------------


def test_more_is_claimed_while_quick_jobs_find_a_place_and_less_when_some_are_left() -> None:
    cast = cast_of(1)
    rooms = []
    for _ in range(8):
        rooms.append(cast.room())
        hands, _ = cast.deal(pieces([QUICK] * cast.room()))
        cast.done(hands[0][0], [])
    assert rooms == [1, 2, 4, 8, 16, 32, 64, 128]
    cast.deal(pieces([SLOW, SLOW]))
    cast.done("actor 0", [])
    assert cast.room() == 64


def test_slow_jobs_are_claimed_one_for_each_actor() -> None:
    cast = cast_of(3)
    for _ in range(5):
        assert cast.room() == 3
        hands, _ = cast.deal(pieces([SLOW] * 3))
        for actor, _ in hands:
            cast.done(actor, [(SLOW, 1, 0.5)])


def test_a_type_that_becomes_slow_is_dealt_singly_again() -> None:
    cast = cast_of(2)
    for _ in range(3):
        cast.done("nobody", [(QUICK, 1, 0.05)])
    hands, _ = cast.deal(pieces([QUICK, QUICK]))
    assert [len(hand) for hand in dealt(hands)] == [1, 1]


# --- taking back --------------------------------------------------------------------------------------------------------


def test_a_job_that_has_not_begun_can_be_taken_back_and_one_that_has_cannot() -> None:
    cast = cast_of(1)
    first, second, third = pieces([QUICK] * 3)
    ((_, hand),), _ = cast.deal([first, second, third])
    assert hand.take() is first
    assert cast.take_back(first.job_id) is None
    assert cast.take_back(second.job_id) is second
    assert cast.take_back(second.job_id) is None
    assert hand.take() is third
    assert cast.take_back(b"unknown") is None


def test_a_job_that_was_taken_back_is_held_until_its_claim_has_ended() -> None:
    cast = cast_of(1)
    (job,) = pieces([SLOW])
    cast.deal([job])
    cast.take_back(job.job_id)
    assert cast.holder(job.job_id) == ("actor 0", job)
    cast.released(job.job_id)
    assert cast.holder(job.job_id) is None


def test_an_actor_that_is_done_may_have_ends_on_their_way_to_the_disk() -> None:
    cast = cast_of(1)
    (job,) = pieces([SLOW])
    ((actor, hand),), _ = cast.deal([job])
    hand.take()
    cast.done(actor, [(SLOW, 1, 1.0)])
    assert (cast.busy, len(cast), cast.any_waiting()) == (0, 1, False)
    assert cast.take_back(job.job_id) is None


def test_an_actor_that_died_does_not_come_back_when_it_is_said_to_be_done() -> None:
    cast = cast_of(1)
    jobs = pieces([QUICK, QUICK])
    ((actor, _),), _ = cast.deal(jobs)
    assert cast.dead(actor) == jobs
    cast.done(actor, [(QUICK, 1, 0.1)])
    assert (cast.busy, cast.lacking(), len(cast), cast.deal(jobs)) == (0, 1, 0, ([], jobs))


def test_an_idle_actor_that_died_is_dealt_nothing() -> None:
    cast = cast_of(1)
    assert cast.dead("actor 0") == []
    (job,) = pieces([SLOW])
    assert cast.deal([job]) == ([], [job])


# --- in any order -------------------------------------------------------------------------------------------------------


class Plays(RuleBasedStateMachine):
    """A cast against a plain account of who has which job."""

    @initialize(actors=st.integers(0, 3), slots=st.integers(0, 4))
    def start(self, actors: int, slots: int) -> None:
        self.cast = cast_of(actors, slots=slots)
        self.alive = {f"actor {number}" for number in range(actors)}
        self.joined = actors
        self.hands: dict[str, Hand[Piece]] = {}
        self.held: dict[bytes, tuple[str, Piece]] = {}
        self.begun: set[bytes] = set()
        self.given_back: set[bytes] = set()
        self.numbers = 0

    @rule(names=st.lists(st.sampled_from([QUICK, QUICK, SLOW, "new"]), max_size=80), crashes=st.sampled_from([0, 0, 0, 1]))
    def deals(self, names: list[str], crashes: int) -> None:
        jobs = pieces(names, self.numbers, crashes)
        self.numbers += len(jobs)
        busy, free = self.cast.busy, self.cast.free_slots
        hands, left = self.cast.deal(jobs)
        waiting = {actor: [job for job in jobs if self.cast.holder(job.job_id) == (actor, job)] for actor, _ in hands}
        assert [job for actor, _ in hands for job in waiting[actor]] + left == jobs, "all of them, once, in order"
        assert len(hands) <= free and self.cast.busy == busy + len(hands)
        for actor, hand in hands:
            assert actor in self.alive and actor not in self.hands, "only an idle actor is dealt a hand"
            assert len(hand) == len(waiting[actor]) in range(1, HAND_MOST + 1)
            assert len(hand) == 1 or not any(job.crashes for job in waiting[actor])
            self.hands[actor] = hand
            self.held |= {job.job_id: (actor, job) for job in waiting[actor]}

    @rule()
    def an_actor_joins(self) -> None:
        self.cast.join(f"actor {self.joined}")
        self.alive.add(f"actor {self.joined}")
        self.joined += 1

    @rule(slots=st.integers(-2, 2))
    def slots_come_and_go(self, slots: int) -> None:
        self.cast.slots += max(slots, -self.cast.free_slots)

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), count=st.integers(1, 100))
    def an_actor_begins_jobs(self, data: st.DataObject, count: int) -> None:
        actor = data.draw(st.sampled_from(sorted(self.hands)))
        for _ in range(count):
            job = self.hands[actor].take()
            if job is None:
                break
            assert self.held[job.job_id] == (actor, job)
            assert job.job_id not in self.begun | self.given_back, "nobody begins a job that was begun or given back"
            self.begun.add(job.job_id)

    @precondition(lambda self: any(not len(hand) for hand in self.hands.values()))
    @rule(data=st.data())
    def an_actor_is_done(self, data: st.DataObject) -> None:
        actor = data.draw(st.sampled_from(sorted(actor for actor, hand in self.hands.items() if not len(hand))))
        self.cast.done(actor, [(QUICK, 3, 0.0001)])
        del self.hands[actor]

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def an_actor_dies(self, data: st.DataObject) -> None:
        actor = data.draw(st.sampled_from(sorted(self.alive)))
        lost = self.cast.dead(actor)
        assert lost == [job for holder, job in self.held.values() if holder == actor]
        self.alive.remove(actor)
        self.hands.pop(actor, None)
        self.held = {job_id: each for job_id, each in self.held.items() if each[0] != actor}

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def one_is_taken_back(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.held)))
        job = self.cast.take_back(job_id)
        assert (job is None) == (job_id in self.begun | self.given_back)
        assert job is None or job is self.held[job_id][1]
        self.given_back.add(job_id) if job is not None else None

    @rule()
    def all_that_wait_are_taken_back(self) -> None:
        waiting = set(self.held) - self.begun - self.given_back
        assert self.cast.any_waiting() == bool(waiting)
        assert {job.job_id for job in self.cast.take_back_waiting()} == waiting
        self.given_back |= waiting

    @precondition(lambda self: self.begun & set(self.held) or self.given_back & set(self.held))
    @rule(data=st.data())
    def a_claim_has_ended_on_disk(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted((self.begun | self.given_back) & set(self.held))))
        self.cast.released(job_id)
        del self.held[job_id]

    @invariant()
    def the_cast_knows_who_holds_what(self) -> None:
        assert len(self.cast) == len(self.held)
        assert sorted(job.job_id for _, job in self.cast.held()) == sorted(self.held)
        assert all(self.cast.holder(job_id) == each for job_id, each in self.held.items())

    @invariant()
    def the_cast_knows_who_is_busy(self) -> None:
        assert self.cast.busy == len(self.hands)
        assert self.cast.free_slots == max(0, self.cast.slots - len(self.hands))
        assert self.cast.lacking() == max(0, self.cast.free_slots - (len(self.alive) - len(self.hands)))
        assert self.cast.room() % max(1, self.cast.free_slots) == 0
        assert bool(self.cast.room()) == bool(self.cast.free_slots)


def test_whatever_happens_each_claimed_job_is_with_one_actor_until_its_claim_has_ended() -> None:
    run_state_machine_as_test(
        Plays, settings=settings(max_examples=40, stateful_step_count=25, deadline=None, derandomize=True, database=None)
    )


# --- parents that wait --------------------------------------------------------------------------------------------------


def test_a_parent_that_waits_gives_its_slot_away_and_keeps_its_actor() -> None:
    cast = cast_of(1)
    [(actor, hand)], _ = cast.deal(pieces([SLOW]))
    hand.take()
    assert (cast.busy, cast.free_slots, cast.lacking()) == (1, 0, 0)
    assert cast.step_aside(actor) == []
    assert (cast.busy, cast.free_slots, cast.lacking(), cast.aside) == (0, 1, 1, 1)
    assert cast.holder(pieces([SLOW])[0].job_id) is not None


def test_what_waits_behind_a_parent_in_its_hand_is_given_back() -> None:
    cast = cast_of(1)
    jobs = pieces([QUICK] * 3)
    [(actor, hand)], _ = cast.deal(jobs)
    assert hand.take() == jobs[0]
    assert cast.step_aside(actor) == jobs[1:]


def test_parents_come_back_in_order_each_when_there_is_a_slot() -> None:
    cast = cast_of(3)
    hands, _ = cast.deal(pieces([SLOW] * 3))
    actors = [actor for actor, _ in hands]
    for actor in actors:
        cast.step_aside(actor)
    for number in range(2):
        cast.join(f"further {number}")
    cast.deal(pieces([SLOW] * 2, start=10))
    for actor in actors[::-1]:
        cast.come_back(actor)
    assert cast.back() == [actors[2]] and cast.coming
    assert cast.back() == [] and cast.free_slots == 0
    cast.done("further 0", [])
    assert cast.back() == [actors[1]]
    cast.done(actors[2], [])
    assert cast.back() == [actors[0]] and not cast.coming
    assert (cast.busy, cast.aside) == (3, 0)


def test_a_parent_that_leaves_or_dies_while_it_waits_is_counted_no_more() -> None:
    cast = cast_of(2)
    (one, _), (two, _) = cast.deal(pieces([SLOW] * 2))[0]
    for actor in (one, two):
        cast.step_aside(actor)
        cast.come_back(actor)
    cast.done(one, [])
    cast.dead(two)
    assert (cast.aside, cast.busy, cast.coming, cast.back()) == (0, 0, False, [])
    cast.come_back("nobody")
    assert not cast.coming
