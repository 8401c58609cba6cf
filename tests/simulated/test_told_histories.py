"""The hard cases that are known, told one by one: each in several orders of steps."""

from __future__ import annotations

from unittest import mock

import pytest
from deaths import PlantedDeath, deaths_expected
from history_jobs import Family, Fixed, Quick, Steps
from scenario import scenario
from sent_batches import SentBatch

from callboard.actors.job import JobActor
from callboard.jobs.submission import OnDuplicate, Submission

SEEDS = range(6)

pytestmark = pytest.mark.parametrize("seed", SEEDS)


def slow(steps: int = 5, **more: object) -> Steps:
    return Steps(steps, 1, 0.1, **more)  # type: ignore[arg-type]


def test_a_paused_job_stays_paused_over_a_crash_and_goes_on_when_it_is_resumed(seed: int) -> None:
    with scenario(seed) as s:
        job = s.submit(slow())
        s.run_until(job.saved)
        s.pause(job)
        s.run_until(job.paused)
        s.crash()
        s.boot()
        s.quiet()
        s.expect(job.paused)
        s.resume(job)
        s.quiet()
        s.expect(job.completed)


def test_a_pause_that_is_acknowledged_is_kept_though_the_job_had_no_time_to_stop(seed: int) -> None:
    with scenario(seed) as s:
        job = s.submit(slow(deaf=1.0))
        s.run_until(job.started)
        s.pause(job)
        s.crash()
        s.boot()
        s.quiet()
        s.expect(job.paused)


def test_a_crash_in_front_of_the_commit_leaves_nothing_of_a_submission(seed: int) -> None:
    with scenario(seed) as s:
        job = s.submit(Quick(), wait=False)
        s.crash(at="store: before commit")
        s.expect(s.rows() == {})
        s.boot()
        s.quiet()
        s.expect(not job.acknowledged() and s.rows() == {})


def test_a_crash_between_the_commit_and_the_answer_leaves_a_job_that_runs(seed: int) -> None:
    with scenario(seed) as s:
        job = s.submit(Quick(), wait=False)
        s.crash(at="store: after commit")
        s.expect(not job.acknowledged() and len(s.rows()) == 1)
        s.boot()
        s.quiet()
        [row] = s.rows().values()
        s.expect(row.status == "completed")


def test_a_superseding_job_waits_for_one_that_died_before_it_had_stopped(seed: int) -> None:
    with scenario(seed) as s:
        old = s.submit(Submission(slow(deaf=1.0), key="k"))
        s.run_until(old.started)
        new = s.submit(Submission(slow(2), key="k", on_duplicate=OnDuplicate.SUPERSEDE))
        s.expect(new.waiting)
        s.crash()
        s.expect(not new.started())
        s.boot()
        s.quiet()
        s.expect(old.cancelled)
        s.expect(new.completed)


@pytest.mark.parametrize("at", ["store: before commit", "store: after commit"])
def test_a_batch_that_is_sent_again_after_a_crash_is_completed_and_nothing_is_there_twice(seed: int, at: str) -> None:
    items = tuple(Quick(mark=mark) for mark in range(8))
    batch = SentBatch(b"sent again".ljust(16), items, OnDuplicate.SKIP, None, by_message=False, from_generator=seed % 2 == 1, whole=False)
    with scenario(seed) as s:
        s.send(batch, wait=False)
        s.crash(at)
        s.boot()
        found = s.send(batch)
        s.quiet()
        s.expect(len(found) == len(items) == len(s.rows()))
        s.expect(all(row.status == "completed" for row in s.rows().values()))


def test_a_parent_that_has_unwound_goes_on_after_a_crash_when_its_children_have_ended(seed: int) -> None:
    with scenario(seed, kept_parents=0) as s:
        parent = s.submit(Family(size=3, nap=0.2))
        s.run_until(parent.unwound)
        s.crash()
        s.boot()
        s.quiet()
        s.expect(parent.completed)
        s.expect(len(s.children(parent)) == 3 and all(child.completed() for child in s.children(parent)))


def test_a_cancel_beats_a_pause_and_a_resume(seed: int) -> None:
    with scenario(seed) as s:
        job = s.submit(slow(deaf=0.5))
        s.run_until(job.started)
        s.pause(job, wait=False)
        s.cancel(job)
        s.resume(job, wait=False)
        s.crash(at="store: after commit")
        s.boot()
        s.quiet()
        s.expect(job.cancelled)


def test_the_last_child_ends_in_the_commit_before_the_crash(seed: int) -> None:
    with scenario(seed, kept_parents=0) as s:
        parent = s.submit(Family(size=2, nap=0.2))
        s.run_until(lambda: parent.unwound() and s.children(parent)[1].saved())
        s.crash(at="store: after commit")  # its end, or its claim's answer
        s.boot()
        s.quiet()
        s.expect(parent.completed)


def test_a_delayed_job_comes_though_the_clock_is_set_back(seed: int) -> None:
    with scenario(seed) as s:
        job = s.submit(Submission(Quick(), delay=5.0))
        s.run(1.0)
        s.set_clock(-3600.0)
        s.run(30.0)
        s.expect(job.queued)  # its time is one of the wall clock
        s.run(4_000.0)
        s.expect(job.completed)


def test_a_host_that_stops_all_actors_amid_a_commit_loses_nothing(seed: int) -> None:
    with scenario(seed) as s:
        job = s.submit(slow())
        s.run_until(job.saved)
        s.stop_all()
        s.simulation.run(until=lambda: s.simulation.steps > 400)
        s.crash()
        s.boot()
        s.quiet()
        s.expect(job.completed)


def test_the_slot_of_an_actor_that_died_goes_to_a_parent_whose_children_have_ended(seed: int) -> None:
    performs = JobActor._perform

    def dies(self: JobActor, claimed: object, started: float) -> object:
        found = performs(self, claimed, started)  # type: ignore[arg-type]
        if getattr(claimed, "name") == "history.fixed":  # noqa: B009
            raise PlantedDeath
        return found

    with mock.patch.object(JobActor, "_perform", dies), scenario(seed, running_jobs=1) as s, deaths_expected():
        parent = s.submit(Family(size=2, nap=0.5))
        s.run_until(lambda: bool(s.children(parent)) and s.children(parent)[1].saved())
        other = s.submit(Submission(Fixed(2, 1, 0.0, 0.5), priority=0))
        s.quiet()
        s.expect(parent.completed)
        s.expect(other.failed)
