"""Duplicates through a library: what the handle of the older one gets, and that the older one has stopped before the newer one starts."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard import (
    Job,
    JobCancelled,
    JobContext,
    Library,
    NotAllowed,
    OnDuplicate,
    Runtime,
    Status,
    Submission,
    Superseded,
)
from callboard.actors.postbox import Postbox
from callboard.jobs import events

PATIENCE = 100.0


@dataclass
class Play(Job, name="test_superseding.play"):
    n: int = 0
    part: str = "nothing"

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] | None = (ctx.services or {}).get(self.part)
        return self.n if part is None else part(self, ctx)


class Stage:
    """Jobs of the part `stay` say when they begin, and stay until they are let go or interrupted; each keeps its interval."""

    def __init__(self) -> None:
        self.began: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.free = threading.Event()
        self.on_the_way_out = threading.Event()
        self.on_the_way_out.set()
        self._lock = threading.Lock()
        self._inside: list[int] = []
        self.together = False

    def stay(self, job: Play, ctx: JobContext) -> object:
        with self._lock:
            self.together = self.together or bool(self._inside)
            self._inside.append(job.n)
        self.began.put(job.n)
        try:
            while not self.free.is_set():
                ctx.sleep(0.005)
            return job.n
        finally:
            assert self.on_the_way_out.wait(PATIENCE)
            with self._lock:
                self._inside.remove(job.n)


@contextmanager
def opened(path: Path, stage: Stage | None = None, **options: Any) -> Iterator[Library]:
    services = {"stay": stage.stay} if stage is not None else None
    with Runtime(workers=1) as runtime:
        yield runtime.open_library(path, services=services, **options)


def one(n: int, on_duplicate: OnDuplicate | None = None, part: str = "stay", **how: Any) -> Submission:
    return Submission(Play(n, part), key="k", on_duplicate=on_duplicate, **how)


def facts_of(library: Library) -> Callable[[type], list[Any]]:
    """Subscribes; answers what comes up to the first fact of a type."""
    box = Postbox(library.ports)
    library.subscribe(box, progress=False)  # type: ignore[arg-type]

    def until(kind: type) -> list[Any]:
        got = [box.take(PATIENCE)]
        while not isinstance(got[-1], kind):
            assert got[-1] is not None
            got.append(box.take(PATIENCE))
        return got

    return until


@pytest.mark.parametrize("in_a_batch", [True, False])
def test_a_running_job_that_is_superseded_has_stopped_before_the_new_one_starts(tmp_path: Path, in_a_batch: bool) -> None:
    stage = Stage()
    with opened(tmp_path, stage) as library:
        old = library.submit(one(1))
        assert stage.began.get(timeout=PATIENCE) == 1
        until = facts_of(library)
        stage.on_the_way_out.clear()  # it takes its time to stop
        if in_a_batch:
            outcome = library.submit_batch([one(2)], on_duplicate=OnDuplicate.SUPERSEDE)
            assert outcome.counts == {"superseded": 1} and outcome.superseded[0].replaced == old.id
            new = library.job(outcome.superseded[0].job_id)
        else:
            new = library.submit(one(2, OnDuplicate.SUPERSEDE))
        assert new.id != old.id and new.status is Status.WAITING and old.status is Status.CANCELLING
        told = until(events.JobCancelling)
        assert told[-1].job_id == old.id
        stage.on_the_way_out.set()
        with pytest.raises(Superseded) as raised:
            old.wait(PATIENCE)
        assert raised.value.by == new.id and isinstance(raised.value, JobCancelled)
        assert stage.began.get(timeout=PATIENCE) == 2
        facts = until(events.JobStarted)
        kinds = [(type(fact), fact.job_id) for fact in facts]
        assert kinds.index((events.JobCancelled, old.id)) < kinds.index((events.JobRequeued, new.id)) < kinds.index((events.JobStarted, new.id))
        assert next(fact for fact in facts if isinstance(fact, events.JobCancelled)).superseded_by == new.id
        stage.free.set()
        assert new.wait(PATIENCE) == 2
        assert not stage.together
        with pytest.raises(Superseded):
            library.job(old.id).wait(PATIENCE)


def test_the_record_of_a_superseded_job_says_by_whom_after_the_library_was_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        old = library.submit(one(1, delay=1e6))
        new = library.submit(one(2, OnDuplicate.SUPERSEDE, delay=1e6))
    with opened(tmp_path) as library:
        with pytest.raises(Superseded) as raised:
            library.job(old.id).wait(PATIENCE)
        assert raised.value.by == new.id
        assert library.job(new.id).status is Status.QUEUED


def test_a_job_that_completes_before_it_could_be_stopped_gives_its_result(tmp_path: Path) -> None:
    leave, began = threading.Event(), threading.Event()

    def deaf(job: Play, ctx: JobContext) -> int:
        began.set()
        assert leave.wait(PATIENCE)
        return job.n

    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path, services={"deaf": deaf})
        old = library.submit(one(1, part="deaf"))
        assert began.wait(PATIENCE)
        new = library.submit(one(2, OnDuplicate.SUPERSEDE, part="nothing"))
        leave.set()
        assert old.wait(PATIENCE) == 1 and new.wait(PATIENCE) == 2


def test_requeued_ones_collapse_to_the_newest_which_runs_after_the_running_one(tmp_path: Path) -> None:
    stage = Stage()
    with opened(tmp_path, stage) as library:
        running = library.submit(one(1))
        assert stage.began.get(timeout=PATIENCE) == 1
        handles = [library.submit(one(n, OnDuplicate.REQUEUE)) for n in (2, 3, 4)]
        for handle, newer in zip(handles, handles[1:], strict=False):
            with pytest.raises(Superseded) as raised:
                handle.wait(PATIENCE)
            assert raised.value.by == newer.id
        assert handles[-1].status is Status.WAITING
        stage.free.set()
        assert running.wait(PATIENCE) == 1 and handles[-1].wait(PATIENCE) == 4
        assert not stage.together


def test_a_rejected_one_is_an_error_of_the_submission_or_of_the_item(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        old = library.submit(one(1, delay=1e6))
        with pytest.raises(NotAllowed, match="REJECT"):
            library.submit(one(2, OnDuplicate.REJECT))
        outcome = library.submit_batch([Play(5), one(2, OnDuplicate.REJECT)])
        assert outcome.counts == {"submitted": 1, "rejected": 1} and outcome.rejected[0].job_id == old.id


def test_a_more_urgent_duplicate_hands_its_priority_on(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        old = library.submit(one(1, delay=1e6, priority=200))
        assert library.submit(one(2, priority=5)).duplicate and old.record().priority == 5
        outcome = library.submit_batch([one(3, priority=1)])
        assert outcome.deduplicated[0].raised and old.record().priority == 1


def test_a_successor_of_a_job_that_is_paused_by_a_user_is_paused_when_its_turn_comes(tmp_path: Path) -> None:
    stage = Stage()
    with opened(tmp_path, stage) as library:
        running = library.submit(one(1))
        assert stage.began.get(timeout=PATIENCE) == 1
        successor = library.submit(one(2, OnDuplicate.REQUEUE))
        assert successor.pause() is Status.WAITING
        until = facts_of(library)
        stage.free.set()
        assert running.wait(PATIENCE) == 1
        assert until(events.JobPaused)[-1].job_id == successor.id and successor.status is Status.PAUSED
        successor.resume()
        assert successor.wait(PATIENCE) == 2


def test_a_second_diff_supersedes_the_first_while_it_runs(tmp_path: Path) -> None:
    """A batch of one key each; the same keys again: what runs is stopped, what waits is replaced, and only the second set completes."""
    stage = Stage()
    with opened(tmp_path, stage, running_jobs=2) as library:
        first = library.submit_batch(Submission(Play(n, "stay"), key=f"k{n}") for n in range(40))
        running = {stage.began.get(timeout=PATIENCE) for _ in range(2)}
        second = library.submit_batch((Submission(Play(100 + n), key=f"k{n}") for n in range(40)), on_duplicate=OnDuplicate.SUPERSEDE)
        assert second.counts == {"superseded": 40}
        assert library.batch(first.batch_id).wait(PATIENCE).states == {"cancelled": 40}
        assert library.batch(second.batch_id).wait(PATIENCE).states == {"completed": 40}
        assert [library.job(item.job_id).wait(PATIENCE) for item in second.superseded] == list(range(100, 140))
        assert {library.job(item.replaced).record().superseded_by for item in second.superseded} == {item.job_id for item in second.superseded}
        assert running <= set(range(40))


def test_many_submitters_of_one_key_never_have_two_running(tmp_path: Path) -> None:
    stage = Stage()
    ways = (OnDuplicate.SUPERSEDE, OnDuplicate.REQUEUE, OnDuplicate.SKIP)
    with opened(tmp_path, stage) as library:
        stage.free.set()

        def send(seed: int) -> None:
            for n in range(30):
                if n % 5:
                    library.submit(one(n, ways[(n + seed) % 3]))
                else:
                    library.submit_batch([one(n), one(n + 1)], on_duplicate=ways[(n + seed) % 3])

        threads = [threading.Thread(target=send, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        last = library.submit(one(99, OnDuplicate.REQUEUE))
        library.job(last.id).wait(PATIENCE)
        assert not library.jobs().records
        assert not stage.together
