"""The histories and their invariants are strong enough: each of six classic defects, planted in the running code, is found in few seeds.

Nothing here looks for a particular defect: `breaches` are those of the ordinary invariants.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from callboard.actors import runtime
from callboard.actors.results import Results
from callboard.actors.store import StoreActor, give
from callboard.actors.testing.histories import run_history
from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.lifecycle import transition as right_transition
from callboard.persistence import checkpoints, ending
from callboard.persistence.rows import bound
from callboard.persistence.writes import SaveCheckpoint, Write

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
            self._report([replace(part, replies=()) for part in group], writes, answers, store._line.aftermath)

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
    recover = runtime.recover

    def resuming(con: Any, *more: Any) -> object:
        recovered = recover(con, *more)
        con.execute("UPDATE jobs SET status = 'queued', intent = 'run', pausers = 0 WHERE status = 'paused'")
        return recovered

    return mock.patch.object(runtime, "recover", resuming)


def checkpoint_in_two_commits() -> Any:
    """One field is committed before the others and the head."""
    whole = StoreActor._commit

    def commit(self: StoreActor) -> None:
        self._group = [replace(part, writes=tuple(first_part_now(self, write) for write in part.writes)) for part in self._group]
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
        return replace(write, parts=tuple(part for part in write.parts if part is not fields[0]))

    return mock.patch.object(StoreActor, "_commit", commit)


PLANTED = (
    ack_before_commit, lost_wakeup_after_resume, end_without_a_guard_on_the_state, restart_resumes_the_paused, checkpoint_in_two_commits,
    event_before_commit,
)  # fmt: skip


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_caught_by_the_ordinary_invariants(plant: Callable[[], Any]) -> None:
    with plant():
        for seed in range(SEEDS):
            outcome = run_history(seed)
            if outcome.breaches:
                print(f"{plant.__name__}: caught after {seed + 1} histories: {outcome.breaches[0]:.200}")
                return
    pytest.fail(f"{plant.__name__} was not caught within {SEEDS} histories")
