"""From a submission to its result, on real threads: waiting, awaiting, watching, order, limits, times, retries."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard import (
    BadArgument,
    BadSubmission,
    ConfigError,
    CriticalError,
    Job,
    JobCancelled,
    JobContext,
    JobFailed,
    JobHandle,
    Library,
    LibraryBusy,
    LibraryClosed,
    NoAnswer,
    NoSuchJob,
    NotAllowed,
    NotEncodable,
    Progress,
    RetryLater,
    RetryPolicy,
    Runtime,
    Status,
    Submission,
    UnknownJobType,
)
from callboard.actors.dispatcher import DispatcherActor
from callboard.actors.messages import Ping, ReturnSlots, Submit
from callboard.actors.ports import ThreadPorts
from callboard.actors.testing import FrozenClock
from callboard.persistence.applying import GroupWriter
from callboard.persistence.store import Store
from callboard.persistence.writes import Answer, Claim, Write

PATIENCE = 100.0


@dataclass
class Play(Job, name="test_job_runs.play"):
    """Does what the host's services have under the name of its part."""

    part: str = "nothing"
    number: int = 0

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Quick(Job, name="test_job_runs.quick"):
    """As Play, but learnt to be quick apart from it."""

    part: str = "nothing"
    number: int = 0

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Quick, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


def nothing(job: Play, ctx: JobContext) -> object:
    return None


@contextmanager
def stage(
    folder: Path, *, running_jobs: int = 4, ports: ThreadPorts | None = None, **parts: Callable[[Any, JobContext], object]
) -> Iterator[Library]:
    with Runtime(workers=2, ports=ports) as runtime:
        yield runtime.open_library(folder / "library", services={"nothing": nothing, **parts}, running_jobs=running_jobs)


class Gate:
    """A job waits here; the test sees that it has come, and lets it go."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Semaphore(0), threading.Event()

    def __call__(self, job: Any, ctx: JobContext) -> object:
        self._reached.release()
        assert self._open.wait(PATIENCE)
        return job.number

    def reached(self, jobs: int = 1) -> None:
        for _ in range(jobs):
            assert self._reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.set()


def until(handle: JobHandle, *wanted: Status) -> Status:
    for update in handle.updates(timeout=PATIENCE):
        if update in wanted:
            assert isinstance(update, Status)
            return update
    raise AssertionError(f"it ended as {handle.status}, and was never {wanted}")


# --- one job ------------------------------------------------------------------------------------------------------------


def test_what_run_returns_is_what_wait_returns_and_what_the_record_keeps(tmp_path: Path) -> None:
    with stage(tmp_path, answer=lambda job, ctx: {"n": job.number, "path": Path("/a")}) as library:
        handle = library.submit(Play("answer", 7))
        assert handle.wait(PATIENCE) == {"n": 7, "path": Path("/a")}
        assert handle.wait(PATIENCE) == {"n": 7, "path": Path("/a")}
        record = handle.record()
        assert record.status is Status.COMPLETED
        assert library.result_of(record) == {"n": 7, "path": Path("/a")}
        assert record.ended_at is not None and record.started_at is not None and record.created_at <= record.started_at <= record.ended_at
        assert record.attempt == 1 and record.crashes == 0 and record.memory_mb is not None
        assert library.jobs().records == () and [each.id for each in library.history().records] == [handle.id]


def test_the_outcome_is_the_same_for_who_asks_after_the_library_was_opened_again(tmp_path: Path) -> None:
    def fail(job: Play, ctx: JobContext) -> object:
        raise ValueError("no such file")

    with stage(tmp_path, fail=fail) as library:
        done, failed = library.submit(Play(number=1)), library.submit(Play("fail"))
        assert done.wait(PATIENCE) is None
        with pytest.raises(JobFailed, match="ValueError: no such file") as told:
            failed.wait(PATIENCE)
        assert told.value.job_id == failed.id and "in fail" in told.value.traceback_text
    with stage(tmp_path) as library:
        assert library.job(done.id).wait(PATIENCE) is None
        with pytest.raises(JobFailed, match="ValueError: no such file") as read:
            library.job(failed.id).wait(PATIENCE)
        assert read.value.traceback_text == told.value.traceback_text


def test_waiting_for_a_cancelled_job_raises_and_waiting_too_short_says_so(tmp_path: Path) -> None:
    with stage(tmp_path, sleep=lambda job, ctx: ctx.sleep(PATIENCE)) as library:
        handle = library.submit(Play("sleep"))
        with pytest.raises(NoAnswer):
            handle.wait(0)
        handle.cancel()
        with pytest.raises(JobCancelled) as cancelled:
            handle.wait(PATIENCE)
        assert cancelled.value.job_id == handle.id


def test_many_who_wait_all_get_it_also_from_other_handles(tmp_path: Path) -> None:
    gate = Gate()
    with stage(tmp_path, gate=gate) as library:
        handle = library.submit(Play("gate", 3))
        results: list[object] = []
        waiters = [threading.Thread(target=lambda: results.append(library.job(handle.id).wait(PATIENCE))) for _ in range(8)]
        for waiter in waiters:
            waiter.start()
        gate.reached()
        gate.open()
        for waiter in waiters:
            waiter.join(PATIENCE)
        assert results == [3] * 8


def test_a_wait_ends_with_the_library(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        handle = library.submit(Submission(Play(), delay=3600))
        caught: list[BaseException] = []
        waiting = threading.Event()

        def wait() -> None:
            waiting.set()
            try:
                handle.wait(PATIENCE)
            except LibraryClosed as error:
                caught.append(error)

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert waiting.wait(PATIENCE)
        library.close()
        waiter.join(PATIENCE)
        assert len(caught) == 1
        for call in (lambda: handle.wait(1), handle.pause, handle.record, lambda: library.submit(Play())):
            with pytest.raises(LibraryClosed):
                call()


def test_awaiting_does_not_stop_the_event_loop(tmp_path: Path) -> None:
    gate = Gate()

    def fail(job: Play, ctx: JobContext) -> object:
        raise ValueError("no")

    async def host(library: Library) -> tuple[int, list[object]]:
        ticks = 0
        first, second, third = library.submit(Play("gate", 5)), library.submit(Play("fail")), library.submit(Submission(Play(), delay=3600))

        async def tick() -> None:
            nonlocal ticks
            while ticks < 50:
                ticks += 1
                await asyncio.sleep(0)
            gate.open()

        async def wait(handle: JobHandle) -> object:
            return await handle

        third.cancel()
        _, *results = await asyncio.gather(tick(), wait(first), wait(first), wait(second), wait(third), return_exceptions=True)
        return ticks, results

    with stage(tmp_path, gate=gate, fail=fail) as library:
        ticks, results = asyncio.run(asyncio.wait_for(host(library), PATIENCE))
    assert ticks == 50
    assert results[:2] == [5, 5] and isinstance(results[2], JobFailed) and isinstance(results[3], JobCancelled)


def test_an_awaiting_coroutine_can_be_cancelled_and_its_loop_be_gone(tmp_path: Path) -> None:
    gate = Gate()

    async def host(handle: JobHandle) -> None:
        async def wait() -> object:
            return await handle

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.01)

    with stage(tmp_path, gate=gate) as library:
        handle = library.submit(Play("gate", 1))
        asyncio.run(host(handle))
        gate.open()
        assert handle.wait(PATIENCE) == 1


def test_updates_tell_each_status_and_the_progress_and_end_with_the_end(tmp_path: Path) -> None:
    gate = Gate()

    def work(job: Play, ctx: JobContext) -> object:
        ctx.report_count(1, 2)
        gate(job, ctx)
        ctx.report_count(2, 2)
        return None

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        seen: list[Status | Progress] = []
        for update in handle.updates(timeout=PATIENCE):
            seen.append(update)
            if update is Status.RUNNING:
                gate.reached()
                gate.open()
        statuses = [each for each in seen if isinstance(each, Status)]
        assert statuses in ([Status.QUEUED, Status.RUNNING, Status.COMPLETED], [Status.RUNNING, Status.COMPLETED])
        assert [each.done for each in seen if isinstance(each, Progress)][-1] == 2
        last = list(handle.updates(timeout=PATIENCE))
        assert last[0] is Status.COMPLETED and isinstance(last[1], Progress) and last[1].done == 2 and len(last) == 2


def test_updates_say_when_nothing_changes_for_too_long(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        handle = library.submit(Submission(Play(), delay=3600))
        updates = handle.updates(timeout=0.02)
        assert next(updates) is Status.QUEUED
        with pytest.raises(NoAnswer, match="queued"):
            next(updates)


# --- submitting ---------------------------------------------------------------------------------------------------------


def test_a_job_by_name_is_the_same_job(tmp_path: Path) -> None:
    with stage(tmp_path, answer=lambda job, ctx: job.number) as library:
        handle = library.submit_by_name("test_job_runs.play", {"part": "answer", "number": 9}, priority=3, tags=("a",))
        assert handle.wait(PATIENCE) == 9
        record = handle.record()
        assert record.name == "test_job_runs.play" and record.priority == 3 and record.tags == ("a",)
        with pytest.raises(UnknownJobType, match="did you mean 'test_job_runs.play'"):
            library.submit_by_name("test_job_runs.plai", {})
        with pytest.raises(NotEncodable, match="number"):
            library.submit_by_name("test_job_runs.play", {"number": "many"})
        with pytest.raises(NotEncodable, match="colour"):
            library.submit_by_name("test_job_runs.play", {"colour": "red"})


def test_a_submission_that_cannot_be_stored_is_refused_where_it_is_made(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        with pytest.raises(NotEncodable, match=r"\$\.number"):
            library.submit(Play("nothing", object()))  # type: ignore[arg-type]
        with pytest.raises(BadSubmission, match="priority=256"):
            Submission(Play(), priority=256)
        with pytest.raises(BadSubmission):
            library.submit("play")  # type: ignore[arg-type]
        assert library.jobs().records == ()


def test_a_key_has_one_live_job_and_can_be_used_again_after_its_end(tmp_path: Path) -> None:
    gate = Gate()
    with stage(tmp_path, gate=gate) as library:
        first = library.submit(Submission(Play("gate", 1), key="a"))
        same = library.submit(Submission(Play("gate", 2), key="a"))
        other = library.submit(Submission(Quick("gate", 4), key="a"))
        assert not first.duplicate and same.duplicate and same.id == first.id and not other.duplicate
        gate.reached(2)
        gate.open()
        assert (same.wait(PATIENCE), other.wait(PATIENCE)) == (1, 4)
        again = library.submit(Submission(Play("gate", 3), key="a"))
        assert not again.duplicate and again.wait(PATIENCE) == 3


def test_sixteen_who_submit_one_key_at_once_get_one_job(tmp_path: Path) -> None:
    gate = Gate()
    ran: list[int] = []
    with stage(tmp_path, gate=lambda job, ctx: (ran.append(job.number), gate(job, ctx))[1]) as library:
        handles: list[JobHandle] = []
        start = threading.Barrier(16)

        def submit(number: int) -> None:
            start.wait(PATIENCE)
            handles.append(library.submit(Submission(Play("gate", number), key=b"\xff")))

        threads = [threading.Thread(target=submit, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        gate.open()
        assert {handle.wait(PATIENCE) for handle in handles} == set(ran) and len(ran) == 1
        assert sum(not handle.duplicate for handle in handles) == 1 and len({handle.id for handle in handles}) == 1


def test_jobs_are_found_by_what_they_were_submitted_with(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        one = library.submit(Submission(Play(), delay=3600, tags=("x", "y"), group="disk", requested_by="ann", key="k"))
        two = library.submit(Submission(Quick(), delay=3600, tags=("y",)))
        for wanted, which in (
            ({"tag": "y"}, [one.id, two.id]),
            ({"tag": "x"}, [one.id]),
            ({"group": "disk"}, [one.id]),
            ({"requested_by": "ann"}, [one.id]),
            ({"key": "k"}, [one.id]),
            ({"name": "test_job_runs.quick"}, [two.id]),
            ({"status": Status.QUEUED}, [one.id, two.id]),
            ({"status": Status.PAUSED}, []),
            ({"after": one.id}, [two.id]),
            ({"limit": 1}, [one.id]),
        ):
            assert [record.id for record in library.jobs(**wanted).records] == which, wanted
        two.cancel()
        assert [record.id for record in library.history(tag="y").records] == [two.id]
        counts = library.statistics()
        assert counts.live == {"queued": 1} and counts.ended == {"cancelled": 1} and counts.next_run_at is not None


def test_there_is_no_handle_for_a_job_that_never_was(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        with pytest.raises(NoSuchJob):
            library.job(bytes(16))
        for call in (library.pause, library.resume, library.cancel, library.retry):
            with pytest.raises(NoSuchJob):
                call(bytes(16))
            with pytest.raises(BadArgument, match="job_id=b'abc'"):
                call(b"abc")
        with pytest.raises(NoSuchJob):
            JobHandle(library, bytes(16)).wait(PATIENCE)


def test_the_runtime_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean workers"):
        Runtime(worker=3)
    for option in ({"workers": 0}, {"running_jobs": "many"}, {"lanes": {"net": 0}}):
        with pytest.raises(ConfigError):
            Runtime(**option)  # type: ignore[arg-type]
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library")
        with pytest.raises(LibraryBusy, match="open in this runtime"):
            runtime.open_library(tmp_path / "library")
        library.close()
        runtime.open_library(tmp_path / "library").close()
    with pytest.raises(LibraryClosed):
        runtime.open_library(tmp_path / "library")


# --- order and limits ---------------------------------------------------------------------------------------------------


def test_the_more_urgent_runs_first_and_among_equals_the_earlier(tmp_path: Path) -> None:
    gate = Gate()
    order: list[int] = []
    with stage(tmp_path, running_jobs=1, gate=gate, mark=lambda job, ctx: order.append(job.number)) as library:
        library.submit(Play("gate"))
        gate.reached()
        handles = [
            library.submit(Submission(Play("mark", number), priority=priority))
            for number, priority in ((1, 128), (2, 255), (3, 0), (4, 128), (5, 0), (6, 64))
        ]
        gate.open()
        for handle in handles:
            handle.wait(PATIENCE)
    assert order == [3, 5, 6, 1, 4, 2]


class Most:
    """How many were inside at once, at most; each waits for one more than may be, in vain, or for the test's word."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1


def test_a_job_whose_time_comes_before_that_of_all_who_wait_is_not_kept_waiting(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        later = library.submit(Submission(Play("nothing"), delay=1e6))
        assert until(later, Status.QUEUED) is Status.QUEUED
        library.submit(Submission(Play("nothing"), delay=0.01)).wait(PATIENCE)
        assert later.record().status is Status.QUEUED


def test_no_more_jobs_run_at_once_than_the_library_may_and_as_many_as_it_may(tmp_path: Path) -> None:
    most, full = Most(), threading.Barrier(3)

    def work(job: Play, ctx: JobContext) -> object:
        with most:
            full.wait(PATIENCE)  # only three at once get past
        return None

    with stage(tmp_path, running_jobs=3, work=work) as library:
        for handle in [library.submit(Play("work")) for _ in range(12)]:
            handle.wait(PATIENCE)
    assert most.most == 3


def test_a_job_that_comes_while_a_claim_is_under_way_is_claimed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That one comes back with fewer jobs than it may: it was asked for before the job was there, and does not end the search."""
    claiming, free, commit = threading.Event(), threading.Event(), Store.commit

    def hold(self: Store, group: Sequence[Write]) -> list[Answer]:
        if any(isinstance(write, Claim) for write in group) and not claiming.is_set():
            claiming.set()
            assert free.wait(PATIENCE)
        return commit(self, group)

    monkeypatch.setattr(Store, "commit", hold)
    with stage(tmp_path, work=nothing) as library:
        try:
            assert claiming.wait(PATIENCE)
            submitted = library.ref.ask(Submit(Play("work")), block=False)
            library.ask(Ping())  # it has gone on to the store, behind the claim
        finally:
            free.set()
        assert library.job(submitted.get(timeout=PATIENCE).job_id).wait(PATIENCE) is None


def test_two_libraries_share_the_one_slot_of_their_runtime_and_both_get_on(tmp_path: Path) -> None:
    most = Most()
    order: list[str] = []

    def work(job: Play, ctx: JobContext) -> object:
        with most:
            order.append(ctx.services["name"])
        return None

    with Runtime(workers=1, running_jobs=1) as runtime:
        libraries = [runtime.open_library(tmp_path / name, services={"name": name, "work": work}) for name in "ab"]
        gate = Gate()
        third = runtime.open_library(tmp_path / "c", services={"gate": gate})
        blocker = third.submit(Play("gate"))
        gate.reached()
        handles = [library.submit(Play("work")) for library in libraries for _ in range(10)]
        gate.open()
        blocker.wait(PATIENCE)
        for handle in handles:
            handle.wait(PATIENCE)
    assert most.most == 1 and len(order) == 20
    assert {"a", "b"} == set(order[:4]), "one of them waited until the other had no work left"


def test_a_library_that_has_no_slot_to_give_is_called_upon_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[object] = []
    take_slots = DispatcherActor._take_slots

    def counted(self: DispatcherActor, message: ReturnSlots) -> None:
        returned.append(message)
        take_slots(self, message)

    monkeypatch.setattr(DispatcherActor, "_take_slots", counted)
    gate = Gate()
    with Runtime(workers=1, running_jobs=1) as runtime:
        idle, busy, waiting = (runtime.open_library(tmp_path / name, services={"gate": gate, "nothing": nothing}) for name in "abc")
        for library in (idle, waiting, busy):
            library.submit(Play()).wait(PATIENCE)
        busy.submit(Play("gate"))
        gate.reached()
        waits = waiting.submit(Play())
        returned.clear()
        for _ in range(200):
            for library in (idle, busy, waiting):
                library.ask(Ping(), timeout=PATIENCE)
        assert len(returned) < 20, "they hand slots to and fro that nobody uses"
        gate.open()
        waits.wait(PATIENCE)
        for library in (idle, busy, waiting):
            library.submit(Play()).wait(PATIENCE)
        returned.clear()
        for _ in range(200):
            for library in (idle, busy, waiting):
                library.ask(Ping(), timeout=PATIENCE)
        assert len(returned) < 20, "they hand slots to and fro though none has work"


class HeldClock(ThreadPorts):
    """A clock that only the test moves: every job takes no time, until it does."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.monotonic = lambda: self.now


@contextmanager
def practised(folder: Path, *, running_jobs: int, **parts: Callable[[Any, JobContext], object]) -> Iterator[tuple[Library, HeldClock]]:
    """A library that has learnt that Quick is quick."""
    clock = HeldClock()
    with stage(folder, running_jobs=running_jobs, ports=clock, **parts) as library:
        for _ in range(10):
            library.submit(Quick()).wait(PATIENCE)
        yield library, clock


def test_quick_jobs_travel_in_hands_and_a_slow_one_holds_up_nobody(tmp_path: Path) -> None:
    gate, stuck = Gate(), Gate()
    with practised(tmp_path, running_jobs=2, gate=gate, stuck=stuck, answer=lambda job, ctx: job.number) as (library, clock):
        blockers = [library.submit(Play("gate")) for _ in range(2)]
        gate.reached(2)
        front = [library.submit(Quick("answer", number)) for number in range(3)]
        slow = library.submit(Quick("stuck"))
        rest = [library.submit(Quick()) for _ in range(20)]
        gate.open()
        stuck.reached()
        assert {handle.status for handle in (*front, *rest)} == {Status.RUNNING}, "they were not dealt together"
        clock.now += 1
        assert [handle.wait(PATIENCE) for handle in front] == [0, 1, 2], "what ended before the slow one is told"
        for handle in (*rest, *blockers):  # and what was behind it runs elsewhere
            handle.wait(PATIENCE)
        assert slow.status is Status.RUNNING
        stuck.open()
        slow.wait(PATIENCE)


@pytest.mark.parametrize("event", ["pause", "cancel"])
def test_a_job_that_was_dealt_and_has_not_begun_leaves_at_once(tmp_path: Path, event: str) -> None:
    gate, stuck = Gate(), Gate()
    ran: list[int] = []
    with practised(tmp_path, running_jobs=1, gate=gate, stuck=stuck, mark=lambda job, ctx: ran.append(job.number)) as (library, _):
        library.submit(Play("gate"))
        gate.reached()
        front, handle, behind = library.submit(Quick("stuck")), library.submit(Quick("mark", 1)), library.submit(Quick("mark", 2))
        gate.open()
        stuck.reached()
        assert handle.status is Status.RUNNING and ran == [], "it was dealt, and has not begun"
        if event == "pause":
            assert handle.pause(wait=True, timeout=PATIENCE) is Status.PAUSED
        else:
            assert handle.cancel(wait=True, timeout=PATIENCE) is Status.CANCELLED
        stuck.open()
        front.wait(PATIENCE)
        behind.wait(PATIENCE)
        assert ran == [2]
        if event == "pause":
            handle.resume()
            handle.wait(PATIENCE)
            assert ran == [2, 1]


# --- times and retries --------------------------------------------------------------------------------------------------


def test_a_delayed_job_waits_for_its_time_and_others_do_not_wait_for_it(tmp_path: Path) -> None:
    order: list[int] = []
    clock = FrozenClock()
    with stage(tmp_path, running_jobs=1, ports=clock, mark=lambda job, ctx: order.append(job.number)) as library:
        late = library.submit(Submission(Play("mark", 1), delay=5, priority=0))
        later = library.submit(Submission(Play("mark", 2), run_at=clock.wall() + 10))
        past = library.submit(Submission(Play("mark", 3), run_at=1.0))
        assert late.record().run_at is not None and past.record().run_at is None
        for handle in (past, late, later):
            handle.wait(PATIENCE)
            clock.advance(5)
    assert order == [3, 1, 2]


def test_a_time_is_a_row_and_is_kept_over_a_restart(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        handle = library.submit(Submission(Play(), delay=0.2))
        far = library.submit(Submission(Play(), delay=3600))
        run_at = far.record().run_at
    with stage(tmp_path) as library:
        library.job(handle.id).wait(PATIENCE)
        assert library.job(far.id).record().run_at == run_at


def failing(times: int, error: Callable[[], Exception]) -> tuple[list[tuple[int, bool]], Callable[[Play, JobContext], object]]:
    seen: list[tuple[int, bool]] = []

    def run(job: Play, ctx: JobContext) -> object:
        seen.append((ctx.attempt, ctx.resumed))
        if len(seen) <= times:
            raise error()
        return len(seen)

    return seen, run


def test_a_job_that_raises_is_tried_again_as_its_policy_says(tmp_path: Path) -> None:
    seen, run = failing(2, lambda: OSError("away"))
    with stage(tmp_path, run=run) as library:
        policy = RetryPolicy(max_attempts=3, first=0.01, factor=1.0)
        handle = library.submit(Submission(Play("run"), retry=policy))
        assert handle.wait(PATIENCE) == 3
        record = handle.record()
        assert seen == [(1, False), (2, True), (3, True)]
        assert record.attempt == 3 and record.status is Status.COMPLETED and record.crashes == 0


def test_between_two_attempts_the_job_is_queued_with_its_time_and_its_error(tmp_path: Path) -> None:
    go_on = threading.Event()

    def run(job: Play, ctx: JobContext) -> object:
        assert go_on.wait(PATIENCE)
        raise OSError("away")

    with stage(tmp_path, run=run) as library:
        handle = library.submit(Submission(Play("run"), retry=RetryPolicy(max_attempts=2, first=3600, jitter=0.0)))
        updates = handle.updates(timeout=PATIENCE)
        assert Status.RUNNING in updates
        go_on.set()  # only now: who is slow to look is told the status as it is, not each that it was
        assert Status.QUEUED in updates
        record = handle.record()
        assert record.run_at is not None and record.run_at > time.time() + 3500
        assert record.error == "OSError: away" and record.attempt == 2
        assert handle.pause() is Status.PAUSED and handle.resume() is Status.QUEUED
        assert handle.record().run_at == record.run_at


def test_when_no_attempt_is_left_it_has_failed(tmp_path: Path) -> None:
    seen, run = failing(9, lambda: OSError("away"))
    with stage(tmp_path, run=run) as library:
        handle = library.submit(Submission(Play("run"), retry=RetryPolicy(max_attempts=2, first=0.0)))
        with pytest.raises(JobFailed, match="OSError: away"):
            handle.wait(PATIENCE)
        assert len(seen) == 2 and handle.record().attempt == 2


def test_a_critical_error_is_final_and_retry_later_is_never_the_last(tmp_path: Path) -> None:
    critical, fail = failing(9, lambda: CriticalError("a wrong key"))
    later, wait = failing(3, lambda: RetryLater("busy", after=0.01))
    with stage(tmp_path, fail=fail, wait=wait) as library:
        first = library.submit(Submission(Play("fail"), retry=RetryPolicy(max_attempts=5, first=0.0)))
        with pytest.raises(JobFailed, match="a wrong key"):
            first.wait(PATIENCE)
        assert len(critical) == 1
        assert library.submit(Play("wait")).wait(PATIENCE) == 4
        assert [attempt for attempt, _ in later] == [1, 2, 3, 4]


def test_an_ended_job_is_run_again_as_a_new_one_and_history_stays(tmp_path: Path) -> None:
    seen, run = failing(1, lambda: OSError("away"))
    with stage(tmp_path, run=run) as library:
        handle = library.submit(Submission(Play("run"), key="k", tags=("t",), priority=9))
        with pytest.raises(JobFailed):
            handle.wait(PATIENCE)
        again = handle.retry()
        assert again.wait(PATIENCE) == 2 and again.id != handle.id
        new, old = again.record(), handle.record()
        assert new.retry_of == handle.id and (new.key, new.tags, new.priority) == (b"k", ("t",), 9) and new.attempt == 1
        assert old.status is Status.FAILED and old.error == "OSError: away"
        live = library.submit(Submission(Play(), delay=3600))
        with pytest.raises(NotAllowed, match="retry is for ended jobs"):
            live.retry()


# --- a disk that is full for a while ------------------------------------------------------------------------------------


def test_a_claim_that_cannot_be_written_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.crew.AGAIN_SECONDS", 0.01)
    claim, refusals = GroupWriter._claim, iter(range(3))

    def unwilling(self: GroupWriter, write: Any, now: int) -> Any:
        if next(refusals, None) is not None:
            raise AssertionError("the disk is full")
        return claim(self, write, now)

    monkeypatch.setattr(GroupWriter, "_claim", unwilling)
    with stage(tmp_path) as library:
        library.submit(Play()).wait(PATIENCE)


def test_a_time_that_cannot_be_noticed_on_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.results.AGAIN_SECONDS", 0.01)
    make_due, refusals = GroupWriter._make_due, iter(range(2))

    def unwilling(self: GroupWriter, now: int) -> Any:
        if next(refusals, None) is not None:
            raise AssertionError("the disk is full")
        return make_due(self, now)

    monkeypatch.setattr(GroupWriter, "_make_due", unwilling)
    with stage(tmp_path) as library:
        library.submit(Submission(Play(), delay=0.01)).wait(PATIENCE)


def test_an_end_that_cannot_be_written_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.results.AGAIN_SECONDS", 0.01)
    from callboard.persistence import ending

    end, refusals = ending.end, iter(range(2))

    def unwilling(*args: Any) -> Any:
        if next(refusals, None) is not None:
            raise AssertionError("the disk is full")
        return end(*args)

    monkeypatch.setattr(ending, "end", unwilling)
    with stage(tmp_path, answer=lambda job, ctx: 5) as library:
        assert library.submit(Play("answer")).wait(PATIENCE) == 5
