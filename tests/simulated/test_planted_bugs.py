"""The histories and their invariants are strong enough: each of these classic defects, planted in the running code, is found in few seeds.

Nothing here looks for a particular defect: `breaches` are those of the ordinary invariants.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from deaths import Deaths
from histories import is_light, run_history
from variety import FAIR_UNTIL, Variety

from callboard.actors import runtime
from callboard.actors.actor import ActorFailed
from callboard.actors.crew import Crew
from callboard.actors.dispatcher import DispatcherActor
from callboard.actors.door import Library as DoorLibrary
from callboard.actors.messages import Commit
from callboard.actors.results import Results
from callboard.actors.store import StoreActor, give
from callboard.jobs.batch_items import OverriddenItem
from callboard.jobs.duplicates import DECISIONS, Standing
from callboard.jobs.errors import Busy
from callboard.jobs.identity import IdSource
from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.lifecycle import transition as right_transition
from callboard.jobs.submission import OnDuplicate
from callboard.persistence import batches, checkpoints, ending, limits, parentage
from callboard.persistence import standing as standing_module
from callboard.persistence.batches import Batches, outcome_of
from callboard.persistence.batchrows import _Filling
from callboard.persistence.line import Line
from callboard.persistence.rows import bound
from callboard.persistence.standing import put
from callboard.persistence.store import Store
from callboard.persistence.writes import Chunk, ChunkStored, Insert, InsertChunk, SaveCheckpoint, SpawnChildren, Write

SEEDS = 400
"""A defect that these do not find says that the histories have become too weak."""


def commit_with_words(*, acks_first: bool, facts_first: bool) -> Callable[[StoreActor], None]:
    """The store's commit, saying one of two things too early: the answer to who submitted, or the report that facts are made of."""

    def commit(self: StoreActor) -> None:
        group, self._group, self._rows = self._group, [], 0
        if not group:
            return
        writes: list[Write] = [write for part in group for write in part.writes]
        store: Any = self._store
        store._con.execute("BEGIN IMMEDIATE")
        answers = store._line.apply(writes, store._now_ms())

        def ack() -> None:
            of_all = iter(answers)
            for part in group:
                for asker, value in itertools.zip_longest(part.replies, itertools.islice(of_all, len(part.writes))):
                    give(asker, value)

        def report() -> None:
            self._report([part._replace(replies=()) for part in group], writes, answers, store._line.aftermath)

        if acks_first:
            ack()
        if facts_first:
            report()
        self.ports.yield_point("planted: said, and not committed")
        store._con.execute("COMMIT")
        if not facts_first:
            report()
        if not acks_first:
            ack()

    return commit


def ack_before_commit() -> Any:
    return mock.patch.object(StoreActor, "_commit", commit_with_words(acks_first=True, facts_first=False))


def event_before_commit() -> Any:
    return mock.patch.object(StoreActor, "_commit", commit_with_words(acks_first=False, facts_first=True))


def lost_wakeup_after_resume() -> Any:
    def resumed(self: Results, job_id: bytes, after: Status) -> None:
        if after is Status.RUNNING:
            self._crew.proceed(job_id)

    return mock.patch.object(Results, "_resumed", resumed)


def end_without_a_guard_on_the_state() -> Any:
    """Whoever leaves decides what becomes of his job, by what he was last asked; what the row says meanwhile is not looked at."""

    def blind(status: Status, event: Event) -> Status:
        return right_transition(Status.PAUSING if event is Event.STOP else Status.RUNNING, event)

    return mock.patch.object(ending, "transition", blind)


def restart_resumes_the_paused() -> Any:
    recover = vars(runtime)["recover"]

    def resuming(con: Any, *more: Any) -> object:
        recovered = recover(con, *more)
        con.execute("UPDATE jobs SET status = 'queued', intent = 'run', pausers = 0 WHERE status = 'paused'")
        return recovered

    return mock.patch.object(runtime, "recover", resuming)


def checkpoint_in_two_commits() -> Any:
    """One field is committed before the others and the head."""
    whole = StoreActor._commit

    def commit(self: StoreActor) -> None:
        self._group = [part._replace(writes=tuple(first_part_now(self, write) for write in part.writes)) for part in self._group]
        whole(self)

    def first_part_now(self: StoreActor, write: Write) -> Write:
        fields = [part for part in write.parts if part[0] == "field"] if isinstance(write, SaveCheckpoint) else []
        if not isinstance(write, SaveCheckpoint) or not fields:
            return write
        kind, name, page, value = fields[0]
        row = checkpoints._packed((write.job_id, write.claim, kind, name, page), write.sequence, value or b"")
        store: Any = self._store
        store._con.execute(checkpoints.PUT, (bound([row]),))
        self.ports.yield_point("planted: half a checkpoint")
        return write._replace(parts=tuple(part for part in write.parts if part is not fields[0]))

    return mock.patch.object(StoreActor, "_commit", commit)


def first_wins_inside_a_batch() -> Any:
    whole = _Filling.finish

    def override(self: Any, earlier: int, place: int) -> None:
        self._others[place] = OverriddenItem(place, earlier)

    def finish(self: Any, *, last: bool) -> Chunk:
        for place, item in self._others.items():
            if isinstance(item, OverriddenItem):
                self._rows[place - self._start] = None
        return whole(self, last=last)

    return mock.patch.multiple(_Filling, _override=override, finish=finish)


def second_chunk_forgets_the_firsts_keys() -> Any:
    return mock.patch.object(batches, "put", lambda *given, mine, **how: put(*given, **how))


def batch_event_before_commit() -> Any:
    whole = StoreActor._commit_all

    def commit_all(self: StoreActor, group: list[Commit], others: bool = False) -> None:
        if not isinstance(group[0].writes[0], InsertChunk):
            return whole(self, group, others)
        store: Any = self._store
        store._con.execute("BEGIN IMMEDIATE")
        answers = store._line.apply(group[0].writes, store._now_ms())
        self._report(group, list(group[0].writes), answers, store._line.aftermath)
        self.ports.yield_point("planted: said, and not committed")
        store._con.execute("COMMIT")

    return mock.patch.object(StoreActor, "_commit_all", commit_all)


@contextmanager
def supersede_starts_before_the_old_has_stopped() -> Iterator[None]:
    """Whoever runs is ended in the books at once, as one that waits is."""
    at_once = {cell: decision for cell, decision in DECISIONS.items() if cell == (OnDuplicate.SUPERSEDE, Standing.QUEUED)}
    now = {(OnDuplicate.SUPERSEDE, standing): decision for decision in at_once.values() for standing in (Standing.RUNNING, Standing.PAUSING)}
    with mock.patch.dict(DECISIONS, now), mock.patch.object(standing_module, "REMOVE_OLD", standing_module.REMOVE_OLD.split("AND status")[0]):
        yield


def resend_makes_a_second_job() -> Any:
    whole = Batches.insert

    def insert(self: Any, write: InsertChunk, now_ms: int, ids: IdSource, chance: bytes, **how: Any) -> Any:
        answer, settled = whole(self, write, now_ms, ids, chance, **how)
        chunk = write.chunk
        if not isinstance(answer, ChunkStored) or not answer.again or not chunk.rows:
            return answer, settled
        first = ids.take(chunk.count, now_ms, chance)
        chunk, settled = self._put_rows(chunk, first, now_ms, how["behind"])
        return ChunkStored(outcome_of(chunk, first, settled), False), settled

    return mock.patch.object(Batches, "insert", insert)


def children_committed_apart_from_the_checkpoint() -> Any:
    """The children first, and then, in a commit of its own, the checkpoint that names them."""
    whole = StoreActor._commit_all

    def commit_all(self: StoreActor, group: list[Commit], others: bool = False) -> None:
        write = group[0].writes[0]
        if isinstance(write, SpawnChildren) and write.save is not None:
            whole(self, [group[0]._replace(writes=(write._replace(save=None), *group[0].writes[1:]))], others)
            self.ports.yield_point("planted: children, and no checkpoint")
            store: Any = self._store
            Store.commit(store, [write.save])
        else:
            whole(self, group, others)

    return mock.patch.object(StoreActor, "_commit_all", commit_all)


def one_more_of_a_brood_than_may_runs() -> Any:
    return mock.patch.object(limits, "LIMITED", limits.LIMITED.replace("max_running FROM", "max_running + 1 FROM"))


def plan_that_writes() -> Any:
    """A plan is carried out, without the jobs that were running being told."""
    whole = DoorLibrary.plan

    def plan(self: DoorLibrary, batch: Any, **how: Any) -> Any:
        planned = whole(self, batch, **how)
        self.submit_batch(batch, **how)
        return planned

    return mock.patch.object(DoorLibrary, "plan", plan)


def busy_that_stores() -> Any:
    """A submission for which there is no room is refused, and stored."""
    whole = Line._insert_allowed

    def insert_allowed(self: Any, writes: list[Insert]) -> Any:
        answers = whole(self, writes)
        if any(isinstance(answer, Busy) for answer in answers):
            self._insert([write for write, answer in zip(writes, answers, strict=True) if isinstance(answer, Busy)])
        return answers

    return mock.patch.object(Line, "_insert_allowed", insert_allowed)


def dead_actor_whose_jobs_are_lost() -> Any:
    def actor_failed(self: Crew, message: ActorFailed) -> bool:
        return self._pulses.pop(message.ref, None) is not None

    return mock.patch.object(Crew, "actor_failed", actor_failed)


def dead_worker_whose_task_is_lost() -> Any:
    def lost(self: DispatcherActor, worker: Any, error: str = "") -> None:
        dealt = self._hands.pop(worker, None)
        if dealt is not None:
            self._queue.free(dealt[1])

    return mock.patch.object(DispatcherActor, "_lost", lost)


def child_of_the_one_it_supersedes() -> Any:
    """An item of a batch may take the place of its own parent."""
    return mock.patch.object(parentage, "_circular", lambda *given: iter(()))


def room_that_nobody_hears_of() -> Any:
    return mock.patch.object(Results, "make_room", lambda self: None)


ACCIDENTS = ("AttributeError", "TypeError", "has no attribute", "Unhandled exception")

PLANTED = (
    ack_before_commit, lost_wakeup_after_resume, end_without_a_guard_on_the_state, restart_resumes_the_paused, checkpoint_in_two_commits,
    event_before_commit, first_wins_inside_a_batch, second_chunk_forgets_the_firsts_keys, batch_event_before_commit,
    supersede_starts_before_the_old_has_stopped, resend_makes_a_second_job, children_committed_apart_from_the_checkpoint,
)  # fmt: skip

OF_VARIETY: tuple[tuple[Callable[[], Any], str], ...] = (
    (one_more_of_a_brood_than_may_runs, "brooding"), (plan_that_writes, "planning"), (busy_that_stores, "crowded"),
    (dead_actor_whose_jobs_are_lost, "deaths"), (dead_worker_whose_task_is_lost, "deaths"), (child_of_the_one_it_supersedes, "lineages"),
    (room_that_nobody_hears_of, "crowded"),
)  # fmt: skip
"""And what those histories have that can find them: others need not be run."""


def seeds_with(trait: str) -> Iterator[int]:
    seeds = itertools.count(FAIR_UNTIL)
    return (seed for seed in seeds if (Deaths(seed).wanted if trait == "deaths" else getattr(Variety(seed, light=is_light(seed)), trait)))


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_caught_by_the_ordinary_invariants(plant: Callable[[], Any]) -> None:
    caught(plant, range(SEEDS))


@pytest.mark.parametrize(("plant", "trait"), OF_VARIETY, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_bug_is_caught_by_histories_that_have_what_it_takes(plant: Callable[[], Any], trait: str) -> None:
    caught(plant, itertools.islice(seeds_with(trait), SEEDS))


def caught(plant: Callable[[], Any], seeds: Iterable[int]) -> None:
    with plant():
        for count, seed in enumerate(seeds, 1):
            outcome = run_history(seed)
            if outcome.breaches:
                print(f"{plant.__name__}: caught after {count} histories: {outcome.breaches[0]:.200}")
                # What dies of the planting itself shows nothing: the store has other names by now.
                assert not any(accident in breach for breach in outcome.breaches for accident in ACCIDENTS), outcome.breaches
                return
    pytest.fail(f"{plant.__name__} was not caught within {SEEDS} histories")
