"""`ctx.map` and its ledger: each item once, whatever interrupts the job; failed ones listed and done again; sources without positions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from callboard import (
    Done,
    Failed,
    Interrupted,
    Job,
    JobContext,
    JobFailed,
    Library,
    NotEncodable,
    RetryPolicy,
    Runtime,
    Status,
    Submission,
    Task,
    TaskContext,
    UsageError,
)
from callboard.actors import worker
from callboard.actors.mapping import SOURCE_ITEMS
from callboard.jobs.task import Cancelled
from callboard.persistence.store import Store
from callboard.persistence.writes import SaveCheckpoint

PATIENCE = 100.0


@dataclass
class Play(Job, name="test_job_map.play"):
    part: str
    total: int = 0
    seen: list[int] = field(default_factory=list)

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Piece(Task):
    item: Any
    part: str = "echo"

    def run(self, ctx: TaskContext) -> object:
        part: Callable[[Any, TaskContext], object] = ctx.services[self.part]
        return part(self.item, ctx)


@dataclass
class Entry:
    name: str
    size: int


class Gate:
    """User code waits here without looking; the test sees that it has come, and lets it go."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Semaphore(0), threading.Event()

    def __call__(self) -> None:
        self._reached.release()
        assert self._open.wait(PATIENCE)

    def reached(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.set()


Part = Callable[[Any, Any], object]


@contextmanager
def stage(folder: Path, *, workers: int = 2, **parts: Part) -> Iterator[Library]:
    with Runtime(workers=workers) as runtime:
        yield runtime.open_library(folder / "library", services={"echo": lambda item, ctx: item, **parts})


def played(folder: Path, work: Callable[[Play, JobContext], object], **how: Any) -> Any:
    """What a job that does `work` comes to."""
    with stage(folder, work=work, **how) as library:
        return library.submit(Play("work")).wait(PATIENCE)


def value(end: Done | Failed) -> Any:
    assert isinstance(end, Done), end
    return end.value


# --- without interruption -----------------------------------------------------------------------------------------------


def test_every_item_is_done_once_and_its_end_says_which_it_was(tmp_path: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        run = ctx.map(Piece, range(0, 3_000, 3))
        ends = list(run)
        assert all(isinstance(end, Done) and end.value == end.item == 3 * (end.position or 0) for end in ends)
        assert run.done == 1_000  # type: ignore[attr-defined]
        assert list(run) == []
        return sorted(end.position or 0 for end in ends)

    assert played(tmp_path, work) == list(range(1_000))


def test_ends_come_as_they_are_made_not_in_the_order_of_the_items(tmp_path: Path) -> None:
    gate = Gate()

    def waits(item: int, ctx: TaskContext) -> int:
        if item == 0:
            gate()
        return item

    def work(job: Play, ctx: JobContext) -> object:
        order = []
        for end in ctx.map(lambda item: Piece(item, "waits"), [0, 1]):
            order.append(value(end))
            gate.open()
        return order

    assert played(tmp_path, work, waits=waits) == [1, 0]


@pytest.mark.parametrize("parallel", [1, 3])
def test_at_most_so_many_items_run_at_once_as_the_map_may(tmp_path: Path, parallel: int) -> None:
    lock, full = threading.Lock(), threading.Barrier(parallel)
    inside = most = 0

    def counts(item: int, ctx: TaskContext) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        full.wait(PATIENCE)
        with lock:
            inside -= 1

    def work(job: Play, ctx: JobContext) -> object:
        return len(list(ctx.map(lambda item: Piece(item, "counts"), range(12), parallel=parallel)))

    assert played(tmp_path, work, workers=6, counts=counts) == 12
    assert most == parallel


def test_a_map_that_cannot_be_is_refused(tmp_path: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        ctx.map(Piece, [])
        with pytest.raises(UsageError, match="a map named 'Piece' already"):
            ctx.map(Piece, [])
        for parallel in (0, -1, True, 1.5):
            with pytest.raises(UsageError, match="parallel"):
                ctx.map(Piece, [], parallel=parallel, name="x")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="generator; give a sequence"):
            ctx.map(Piece, (item for item in [1]), name="y")  # type: ignore[arg-type]
        return "went on"

    assert played(tmp_path, work) == "went on"


def test_what_making_a_task_raises_is_raised_in_the_job_and_nothing_is_waited_for(tmp_path: Path) -> None:
    def make(item: int) -> Piece:
        if item == 3:
            raise ValueError("no task for 3")
        return Piece(item)

    def work(job: Play, ctx: JobContext) -> object:
        with pytest.raises(ValueError, match="no task for 3"):
            list(ctx.map(make, range(10)))
        return "went on"

    assert played(tmp_path, work) == "went on"


def test_no_items_are_no_work(tmp_path: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        return [*ctx.map(Piece, [], name="a"), *ctx.map(Piece, lambda after: [], name="b")]

    assert played(tmp_path, work) == []


# --- interrupted ---------------------------------------------------------------------------------------------------------


def collecting(items: Any) -> Callable[[Play, JobContext], object]:
    """A job whose fields say which items its loop was given; they must always fit the ledger."""

    def work(job: Play, ctx: JobContext) -> object:
        for end in ctx.map(lambda item: Piece(item, "piece"), items, name="m"):
            job.seen.append(value(end))
            job.total += 1
        return sorted(job.seen)

    return work


def pages(after: int | None) -> Iterable[int]:
    """A source without positions: goes on behind an item."""
    return iter(range(0 if after is None else after + 1, 600))


@pytest.mark.parametrize("items", [range(600), pages], ids=["sequence", "source"])
@pytest.mark.parametrize("interruption", ["pause", "close"])
def test_a_job_that_is_interrupted_again_and_again_does_each_item_once(tmp_path: Path, items: Any, interruption: str) -> None:
    ran: list[int] = []
    some = threading.Semaphore(0)

    def piece(item: int, ctx: TaskContext) -> int:
        ran.append(item)
        some.release()
        return item

    services = {"work": collecting(items), "piece": piece}
    with Runtime(workers=3) as runtime:
        library = runtime.open_library(tmp_path / "library", services=services)
        handle = library.submit(Play("work"))
        for _ in range(6):
            for _ in range(60):
                assert some.acquire(timeout=PATIENCE)
            if interruption == "pause":
                if handle.pause(wait=True, timeout=PATIENCE).ended:
                    break
                handle.resume()
            else:
                library.close(PATIENCE)
                library = runtime.open_library(tmp_path / "library", services=services)
                handle = library.job(handle.id)
        assert handle.wait(PATIENCE) == list(range(600))
        assert sorted(ran) == list(range(600)), "a result that was made was lost, and made again"
        assert handle.record().crashes == 0


def left_as_it_was(tmp_path: Path, stubborn: Gate, services: dict[str, Any], job: Play) -> bytes:
    """Run the job until it reaches the gate, then close the library over it: on disk it is what it was at its last save."""
    runtime = Runtime(workers=2)
    library = runtime.open_library(tmp_path / "library", services=services)
    handle = library.submit(job)
    stubborn.reached()
    assert runtime.close(deadline=0) is False
    stubborn.open()
    assert runtime.close(PATIENCE) is True
    return handle.id


@pytest.mark.parametrize("items", [range(600), pages], ids=["sequence", "source"])
def test_after_a_crash_the_fields_fit_the_ledger(tmp_path: Path, items: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.opened.LEAVE_SECONDS", 0.0)
    stubborn = Gate()

    def work(job: Play, ctx: JobContext) -> object:
        before = job.total
        job.seen, seen = [object()], job.seen  # type: ignore[list-item]
        with pytest.raises(NotEncodable):
            ctx.checkpoint()  # in vain, which must not keep the ledger from being saved
        job.seen = seen
        for end in ctx.map(lambda item: Piece(item, "piece"), items, name="m"):
            job.seen.append(value(end))
            job.total += 1
            if not ctx.resumed and job.total == 400:
                stubborn()
        return before, sorted(job.seen), job.total

    services = {"work": work, "piece": lambda item, ctx: item}
    job_id = left_as_it_was(tmp_path, stubborn, services, Play("work"))
    with Runtime(workers=2) as runtime:
        before, seen, total = runtime.open_library(tmp_path / "library", services=services).job(job_id).wait(PATIENCE)
        assert 0 < before < 400, "the ledger was saved on the way, and the item in the loop's body is not done"
        assert seen == list(range(600)) and total == 600


def test_G6_a_checkpoint_in_the_loop_takes_nothing_for_done_that_the_author_was_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the item in the loop's body, which he has not finished."""
    monkeypatch.setattr("callboard.actors.opened.LEAVE_SECONDS", 0.0)
    stubborn, ran = Gate(), threading.Semaphore(0)

    def work(job: Play, ctx: JobContext) -> object:
        for end in ctx.map(lambda item: Piece(item, "piece"), range(600), name="m"):
            if not ctx.resumed and job.total == 1:
                for _ in range(4):
                    assert ran.acquire(timeout=PATIENCE)
                ctx.sleep(0.001)  # takes in what has ended meanwhile
                ctx.checkpoint()
                stubborn()
            job.seen.append(value(end))
            job.total += 1
        return sorted(job.seen), job.total

    def piece(item: int, ctx: TaskContext) -> int:
        ran.release()
        return item

    services = {"work": work, "piece": piece}
    job_id = left_as_it_was(tmp_path, stubborn, services, Play("work"))
    with Runtime(workers=2) as runtime:
        library = runtime.open_library(tmp_path / "library", services=services)
        assert library.job(job_id).wait(PATIENCE) == (list(range(600)), 600)


def test_nothing_of_a_source_runs_before_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.mapping.SOURCE_ITEMS", 16)
    monkeypatch.setattr("callboard.actors.mapping.SOURCE_SECONDS", PATIENCE)
    commit, moved = Store.commit, threading.Condition()
    ran: list[int] = []
    early: list[bool] = []

    def watched(self: Store, writes: Any) -> Any:
        """Before a piece is stored it is looked at for a while whether any of it runs, as what was stored before it does."""
        for kind, _, first, recorded in [part for write in writes if isinstance(write, SaveCheckpoint) for part in write.parts]:
            if kind == "items" and recorded is not None:
                with moved:
                    early.append(moved.wait_for(lambda first=first: max(ran, default=-1) >= first, 0.1))  # type: ignore[misc]
        return commit(self, writes)

    def piece(item: int, ctx: TaskContext) -> int:
        with moved:
            ran.append(item)
            moved.notify_all()
        return item

    monkeypatch.setattr(Store, "commit", watched)

    def work(job: Play, ctx: JobContext) -> object:
        return sorted(value(end) for end in ctx.map(lambda item: Piece(item, "piece"), lambda after: iter(range(40)), name="m"))

    assert played(tmp_path, work, piece=piece) == list(range(40)) and early == [False] * 3


def test_an_item_that_a_stopping_worker_gives_back_is_done_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_task, given_back = worker.run_task, set()  # type: ignore[var-annotated]

    def gives_back(call: Any, ports: Any) -> Any:
        if call.item % 5 == 0 and call.item not in given_back:
            given_back.add(call.item)
            return Cancelled(call.position, call.item)
        return run_task(call, ports)

    monkeypatch.setattr(worker, "run_task", gives_back)

    def work(job: Play, ctx: JobContext) -> object:
        sequence = sorted(value(end) for end in ctx.map(Piece, range(20), name="sequence"))
        given_back.clear()
        return sequence, sorted(value(end) for end in ctx.map(Piece, lambda after: iter(range(20)), name="source"))

    assert played(tmp_path, work) == (list(range(20)), list(range(20)))


def test_what_a_task_records_is_kept_and_brings_no_half_changed_field_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.opened.LEAVE_SECONDS", 0.0)
    stubborn, recorded, in_body = Gate(), Gate(), threading.Event()
    recorded.open()
    seen: dict[int, object] = {}

    def piece(item: int, ctx: TaskContext) -> object:
        seen[item] = ctx.recorded
        if ctx.recorded is None and item == 1:
            assert in_body.wait(PATIENCE)
            ctx.record({"offset": 10})
            ctx.record({"offset": 20}, wait=True)
            recorded()
            ctx.services["hold"]()
        return item

    def work(job: Play, ctx: JobContext) -> object:
        before = job.total
        for _ in ctx.map(lambda item: Piece(item, "piece"), range(2), name="m"):
            job.total += 1  # half of what belongs to this item …
            if not ctx.resumed:
                in_body.set()
                while not recorded._reached.acquire(timeout=0.001):
                    assert not ctx.interrupted  # … while a look takes in what the other task records
                stubborn()
            job.total += 1
        return before, job.total

    services: dict[str, Any] = {"work": work, "piece": piece, "hold": stubborn._open.wait}
    job_id = left_as_it_was(tmp_path, stubborn, services, Play("work"))
    assert seen == {0: None, 1: None}
    with Runtime(workers=2) as runtime:
        before, total = runtime.open_library(tmp_path / "library", services=services).job(job_id).wait(PATIENCE)
        assert (before, total) == (0, 4)
        assert seen == {0: None, 1: {"offset": 20}}


def test_what_was_recorded_of_an_item_is_forgotten_when_it_is_done(tmp_path: Path) -> None:
    seen: list[object] = []

    def piece(item: int, ctx: TaskContext) -> object:
        seen.append(ctx.recorded)
        ctx.record(item, wait=item == 1)
        return item

    def work(job: Play, ctx: JobContext) -> object:
        job.total += 1
        list(ctx.map(lambda item: Piece(item, "piece"), range(3), name="m"))
        if job.total == 1:
            raise Interrupted("once more")
        return job.total

    with stage(tmp_path, work=work, piece=piece) as library:
        handle = library.submit(Play("work"))
        assert next(each for each in handle.updates(timeout=PATIENCE) if each is Status.PAUSED)
        handle.resume()
        assert handle.wait(PATIENCE) == 2 and seen == [None] * 3


def test_a_record_outside_of_a_map_is_answered_too(tmp_path: Path) -> None:
    def piece(item: int, ctx: TaskContext) -> object:
        with pytest.raises(NotEncodable):
            ctx.record(object())
        ctx.record(item, wait=True)
        return "kept"

    def work(job: Play, ctx: JobContext) -> object:
        return [handle.result() for handle in ctx.dispatcher.dispatch_many([Piece(item, "piece") for item in range(5)])]

    assert played(tmp_path, work, piece=piece) == ["kept"] * 5


def test_a_repeat_of_an_item_has_the_token_of_its_first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.opened.LEAVE_SECONDS", 0.0)
    stubborn = Gate()
    tokens: dict[int, list[str]] = {}

    def piece(item: int, ctx: TaskContext) -> object:
        tokens.setdefault(item, []).append(ctx.token)
        return item

    def work(job: Play, ctx: JobContext) -> object:
        for _ in ctx.map(lambda item: Piece(item, "piece"), range(4), name="m"):
            if not ctx.resumed:
                stubborn()
        return None

    services = {"work": work, "piece": piece}
    job_id = left_as_it_was(tmp_path, stubborn, services, Play("work"))
    with Runtime(workers=2) as runtime:
        runtime.open_library(tmp_path / "library", services=services).job(job_id).wait(PATIENCE)
    assert any(len(both) > 1 for both in tokens.values()), "nothing was repeated"
    assert all(len(set(both)) == 1 for both in tokens.values()) and len({both[0] for both in tokens.values()}) == 4


def test_a_map_that_is_left_half_way_does_the_rest_when_it_is_entered_again(tmp_path: Path) -> None:
    ran: list[int] = []

    def piece(item: int, ctx: TaskContext) -> int:
        ran.append(item)
        return item

    def work(job: Play, ctx: JobContext) -> object:
        for end in ctx.map(lambda item: Piece(item, "piece"), range(50), name="m", parallel=2):
            if ctx.attempt == 1 and job.total == 10:
                raise ValueError("half way")
            job.total += 1
            job.seen.append(value(end))
            ctx.checkpoint()
        return sorted(job.seen)

    with stage(tmp_path, work=work, piece=piece) as library:
        handle = library.submit(Submission(Play("work"), retry=RetryPolicy(max_attempts=2, first=0.0)))
        seen = handle.wait(PATIENCE)
        assert sorted(set(seen)) == list(range(50))
        assert 50 <= len(ran) <= 54, "only what was in flight, or in the loop's body, is done again"


def test_a_loop_that_is_broken_off_leaves_no_task_behind(tmp_path: Path) -> None:
    inside: list[int] = []

    def piece(item: int, ctx: TaskContext) -> int:
        inside.append(item)
        try:
            return item
        finally:
            inside.pop()

    def work(job: Play, ctx: JobContext) -> object:
        for _ in ctx.map(lambda item: Piece(item, "piece"), range(100_000)):
            break
        return "broken off"

    with stage(tmp_path, work=work, piece=piece) as library:
        assert library.submit(Play("work")).wait(PATIENCE) == "broken off"
        assert inside == []


# --- failed items ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [range(600), pages], ids=["sequence", "source"])
def test_failed_items_are_listed_and_only_they_are_done_again(tmp_path: Path, items: Any) -> None:
    bad, ran = {7, 300, 599}, []

    def piece(item: int, ctx: TaskContext) -> int:
        ran.append(item)
        if item in bad:
            raise ValueError(f"{item} is bad")
        return item

    def work(job: Play, ctx: JobContext) -> object:
        ends = list(ctx.map(lambda item: Piece(item, "piece"), items, name="m"))
        return sorted(end.position or 0 for end in ends if isinstance(end, Failed))

    with stage(tmp_path, work=work, piece=piece) as library:
        handle = library.submit(Play("work"))
        assert handle.wait(PATIENCE) == [7, 300, 599]
        assert handle.status is Status.COMPLETED_WITH_ERRORS
        warnings = library.warnings(handle.id)
        assert {(each.item, each.message) for each in warnings} == {(str(item), f"ValueError: {item} is bad") for item in bad}
        ran.clear()
        bad.discard(300)
        second = handle.retry(failed_only=True)
        assert second.wait(PATIENCE) == [7, 599] and sorted(ran) == [7, 300, 599]
        ran.clear()
        bad.clear()
        third = second.retry(failed_only=True)
        assert third.wait(PATIENCE) == [] and sorted(ran) == [7, 599]
        assert third.status is Status.COMPLETED and third.record().retry_of == second.id
        assert len(library.warnings(handle.id)) == 3, "history stays"


def test_the_rest_is_done_by_a_retry_that_keeps_what_is_done(tmp_path: Path) -> None:
    ran: list[int] = []
    fail = True

    def piece(item: int, ctx: TaskContext) -> int:
        ran.append(item)
        if item == 5 and fail:
            raise ValueError
        return item

    def work(job: Play, ctx: JobContext) -> object:
        done = []
        for end in ctx.map(lambda item: Piece(item, "piece"), range(40), name="m", parallel=1):
            done.append(end.position)
            if fail and len(done) == 20:
                raise ValueError("half way")
        return sorted(position or 0 for position in done)

    with stage(tmp_path, work=work, piece=piece) as library:
        handle = library.submit(Play("work"))
        with pytest.raises(JobFailed, match="half way"):
            handle.wait(PATIENCE)
        fail = False
        ran.clear()
        with pytest.raises(UsageError):
            handle.retry(keep_done=True, failed_only=True)
        rest = handle.retry(keep_done=True)
        assert rest.wait(PATIENCE) == sorted({5, *range(19, 40)}) == sorted(ran)
        ran.clear()
        assert handle.retry().wait(PATIENCE) == list(range(40)) == sorted(ran)


# --- sources without positions ---------------------------------------------------------------------------------------------


def test_a_source_is_asked_for_what_is_behind_its_last_recorded_item_and_never_for_the_same_again(tmp_path: Path) -> None:
    asked: list[int | None] = []
    given: list[int] = []
    paused = Gate()

    def source(after: int | None) -> Iterable[int]:
        asked.append(after)
        for number in range(0 if after is None else after + 1, 3 * SOURCE_ITEMS):
            given.append(number)
            if number == SOURCE_ITEMS + 10 and len(asked) == 1:
                paused()
            yield number

    def work(job: Play, ctx: JobContext) -> object:
        for end in ctx.map(Piece, source, name="m"):
            job.seen.append(value(end))
        return sorted(job.seen)

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        paused.reached()
        handle.pause()
        paused.open()
        assert handle.pause(wait=True, timeout=PATIENCE) is Status.PAUSED
        handle.resume()
        assert handle.wait(PATIENCE) == list(range(3 * SOURCE_ITEMS))
        assert len(asked) == 2 and asked[0] is None and asked[1] is not None
        assert given == list(range(3 * SOURCE_ITEMS))


def test_what_a_source_yields_is_the_same_value_in_the_first_run_and_in_a_resumed_one(tmp_path: Path) -> None:
    """A dataclass has no declared type here, so it comes back from disk as a dict: better now than only after a crash."""

    def source(after: Any) -> Iterable[Any]:
        return [Entry("a", 1), ("b", 2), Path("/c"), b"d"] if after is None else []

    def work(job: Play, ctx: JobContext) -> object:
        values = [value(end) for end in ctx.map(Piece, source, name="m", parallel=1)]
        assert values == [{"name": "a", "size": 1}, ("b", 2), Path("/c"), b"d"]
        return "the same"

    assert played(tmp_path, work) == "the same"


def test_what_a_source_raises_or_yields_wrongly_ends_the_job_with_its_text(tmp_path: Path) -> None:
    def raises(after: Any) -> Iterable[Any]:
        yield 1
        raise OSError("the disk is gone")

    def odd(after: Any) -> Iterable[Any]:
        yield object()

    with stage(
        tmp_path, raises=lambda job, ctx: list(ctx.map(Piece, raises)), odd=lambda job, ctx: list(ctx.map(Piece, odd))
    ) as library:
        with pytest.raises(JobFailed, match="OSError: the disk is gone"):
            library.submit(Play("raises")).wait(PATIENCE)
        with pytest.raises(JobFailed, match="NotEncodable"):
            library.submit(Play("odd")).wait(PATIENCE)


def test_two_maps_of_one_job_keep_ledgers_of_their_own(tmp_path: Path) -> None:
    ran: list[tuple[str, int]] = []

    def piece(item: tuple[str, int], ctx: TaskContext) -> object:
        ran.append(item)
        return item

    def work(job: Play, ctx: JobContext) -> object:
        for name in ("first", "second"):
            for _ in ctx.map(lambda item, name=name: Piece((name, item), "piece"), range(20), name=name):  # type: ignore[misc]
                job.total += 1
                if job.total == 30:
                    raise Interrupted("in the second")
        return job.total

    with stage(tmp_path, work=work, piece=piece) as library:
        handle = library.submit(Play("work"))
        assert next(each for each in handle.updates(timeout=PATIENCE) if each is Status.PAUSED)
        ran.clear()
        handle.resume()
        assert handle.wait(PATIENCE) > 30
        assert {name for name, _ in ran} == {"second"}
