"""A full queue or a full inbox is said at once, or waited for; whoever steers is always let in."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykka
import pytest

from callboard import Busy, ConfigError, InboxFull, Job, JobContext, Library, Runtime, Status, Submission
from callboard.actors import admission
from callboard.actors.messages import Answered, CancelJob, PauseJob, Ping, Submit, Subscribe, Unsubscribe
from callboard.actors.postbox import Postbox
from callboard.persistence.store import Store

PATIENCE = 100.0


@dataclass
class Play(Job, name="test_back_pressure.play"):
    n: int = 0
    part: str = "nothing"

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] | None = (ctx.services or {}).get(self.part)
        return self.n if part is None else part(self, ctx)


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Library]:
    with Runtime(workers=1) as runtime:
        yield runtime.open_library(path, **options)


def idle(n: int, **how: Any) -> Submission:
    return Submission(Play(n), delay=1e6, **how)


# --- the queue --------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_a_submission_and_says_how_full_it_is(tmp_path: Path) -> None:
    with opened(tmp_path, max_queued=3) as library:
        handles = [library.submit(idle(n)) for n in range(3)]
        with pytest.raises(Busy, match="3"):
            library.submit(idle(4))
        with pytest.raises(Busy):
            library.submit_batch([idle(5)])
        handles[0].cancel()
        library.submit(idle(6))
        assert library.statistics().live["queued"] == 3


def test_a_group_has_its_own_limit(tmp_path: Path) -> None:
    with opened(tmp_path, group_max_queued=2) as library:
        for n in range(2):
            library.submit(idle(n, group="disk"))
        with pytest.raises(Busy, match="disk"):
            library.submit(idle(3, group="disk"))
        library.submit(idle(4, group="net"))
        library.submit(idle(5))


def test_what_is_stored_counts_after_the_library_was_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        library.submit_batch(idle(n, group="g") for n in range(5))
    with opened(tmp_path, max_queued=5) as library:
        with pytest.raises(Busy):
            library.submit(idle(9))
    with opened(tmp_path, group_max_queued=5) as library:
        with pytest.raises(Busy):
            library.submit(idle(9, group="g"))
        library.submit(idle(9))


def test_a_batch_that_does_not_fit_says_how_many_were_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 10)
    with opened(tmp_path, max_queued=35, batch_rows=10) as library:
        outcome = library.submit_batch(idle(n) for n in range(60))
        assert outcome.counts["submitted"] == 30 and isinstance(outcome.error, Busy)
        assert list(outcome.not_stored)[0] == 30


def refusals_of(library: Library) -> threading.Semaphore:
    """Can be acquired once for each `Busy` that a method meets from now on."""
    refusals, ask = threading.Semaphore(0), library.ask

    def look(message: object, timeout: float = PATIENCE) -> Any:
        try:
            return ask(message, timeout)
        except Busy:
            refusals.release()
            raise

    library.ask = look  # type: ignore[method-assign]
    return refusals


def test_a_submission_waits_for_room(tmp_path: Path) -> None:
    free = threading.Event()

    def stay(job: Play, ctx: JobContext) -> int:
        assert free.wait(PATIENCE)
        return job.n

    with opened(tmp_path, max_queued=2, services={"stay": stay}) as library:
        for n in range(2):
            library.submit(Play(n, "stay"))
        with pytest.raises(Busy):
            library.submit(Play(3), block=0.02)
        refusals = refusals_of(library)
        entered: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threads = [threading.Thread(target=lambda n=n: entered.put(library.submit(Play(n), block=PATIENCE).wait(PATIENCE))) for n in (10, 11, 12)]
        for thread in threads:
            thread.start()
        for _ in range(2 * len(threads)):  # the second time, each waits already to be told of room
            assert refusals.acquire(timeout=PATIENCE)
        free.set()
        assert sorted(entered.get(timeout=PATIENCE) for _ in threads) == [10, 11, 12]


def test_a_batch_far_longer_than_the_queue_goes_through_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 10)
    most = 0
    with opened(tmp_path, max_queued=25, batch_rows=10) as library:

        def items() -> Iterator[Job]:
            nonlocal most
            for n in range(300):
                most = max(most, sum(library.statistics().live.values()))
                yield Play(n)

        outcome = library.submit_batch(items(), block=PATIENCE)
        assert outcome.counts == {"submitted": 300} and most <= 25
        assert library.batch(outcome.batch_id).wait(PATIENCE).states == {"completed": 300}


def test_a_batch_that_waits_in_vain_says_so_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 10)
    with opened(tmp_path, max_queued=25, batch_rows=10) as library:
        outcome = library.submit_batch((idle(n) for n in range(60)), block=0.05)
        assert outcome.counts["submitted"] == 20 and isinstance(outcome.error, Busy)
        with pytest.raises(Busy):
            library.submit_batch((idle(n) for n in range(9)), block=0.02)


def test_closing_wakes_whoever_waits_for_room(tmp_path: Path) -> None:
    raised: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    with opened(tmp_path, max_queued=1) as library:
        library.submit(idle(1))
        refusals = refusals_of(library)

        def wait() -> None:
            try:
                library.submit(idle(2), block=600)
            except BaseException as error:  # noqa: BLE001 - it is looked at below
                raised.put(error)

        thread = threading.Thread(target=wait)
        thread.start()
        assert refusals.acquire(timeout=PATIENCE) and refusals.acquire(timeout=PATIENCE)
    assert type(raised.get(timeout=PATIENCE)).__name__ == "LibraryClosed"
    thread.join(PATIENCE)


@pytest.mark.parametrize("option", ["max_queued", "group_max_queued", "batch_rows"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "x"])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, option: str, value: Any) -> None:
    with Runtime(workers=1) as runtime, pytest.raises(ConfigError, match=option):
        runtime.open_library(tmp_path / "l", **{option: value})
    assert not (tmp_path / "l").exists()


# --- the inbox --------------------------------------------------------------------------------------------------------


@contextmanager
def held_up(library: Library, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The library's own thread is held in the middle of a message until the event is set."""
    from callboard.actors.library import LibraryActor

    free, inside = threading.Event(), threading.Event()
    receive = LibraryActor._receive

    def wait(self: LibraryActor, message: object, reply: Any) -> None:
        if isinstance(message, Unsubscribe) and not inside.is_set():
            inside.set()
            assert free.wait(PATIENCE)
        receive(self, message, reply)

    monkeypatch.setattr(LibraryActor, "_receive", wait)
    library.tell(Unsubscribe(library.ref))
    assert inside.wait(PATIENCE)
    try:
        yield free
    finally:
        free.set()


def filled_with(library: Library) -> list[pykka.Future[Any]]:
    """Asks until the inbox is full; those that were let in."""
    waiting: list[pykka.Future[Any]] = []
    while True:
        asked = library.ref.ask(Submit(idle(len(waiting))), block=False)
        try:
            asked.get(timeout=0)
        except InboxFull:
            return waiting
        except pykka.Timeout:
            waiting.append(asked)


def test_a_full_inbox_turns_away_what_would_only_wait_and_lets_in_whoever_steers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "INBOX_MOST", 5)
    monkeypatch.setattr("callboard.actors.library.INBOX_MOST", 5)
    with opened(tmp_path) as library:
        job = library.submit(idle(1))
        box = Postbox(library.ports)
        with held_up(library, monkeypatch) as free:
            waiting = filled_with(library)
            assert 1 <= len(waiting) <= 5
            with pytest.raises(InboxFull):
                library.submit(idle(9))
            with pytest.raises(InboxFull):
                library.ref.tell(Submit(idle(9)))
            message = Submit(idle(9), reply_to=box)  # type: ignore[arg-type]
            library.ref.tell(message)
            answered: Any = box.take(PATIENCE)
            assert isinstance(answered, Answered) and answered.request is message and isinstance(answered.error, Busy)
            paused = library.ref.ask(PauseJob(job.id), block=False)
            library.ref.tell(Subscribe(box))  # type: ignore[arg-type]
            cancelled = library.ref.ask(CancelJob(job.id), block=False)
            free.set()
            assert not any(each.get(timeout=PATIENCE).duplicate for each in waiting)
            assert paused.get(timeout=PATIENCE) is Status.PAUSED and cancelled.get(timeout=PATIENCE) is Status.CANCELLED
        library.ask(Ping())
        assert library.statistics().live["queued"] == len(waiting)


def test_a_submission_waits_for_a_full_inbox_to_drain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "INBOX_MOST", 2)
    monkeypatch.setattr("callboard.actors.library.INBOX_MOST", 2)
    turned_away = threading.Event()
    away = admission.turn_away

    def look(envelope: Any) -> None:
        turned_away.set()
        away(envelope)

    monkeypatch.setattr("callboard.actors.library.turn_away", look)
    with opened(tmp_path) as library:
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with held_up(library, monkeypatch) as free:
            filled_with(library)
            turned_away.clear()
            thread = threading.Thread(target=lambda: done.put(library.submit(Play(7), block=PATIENCE).wait(PATIENCE)))
            thread.start()
            assert turned_away.wait(PATIENCE)
            free.set()
            assert done.get(timeout=PATIENCE) == 7
        thread.join(PATIENCE)


def test_a_host_that_stops_a_full_library_is_not_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "INBOX_MOST", 1)
    monkeypatch.setattr("callboard.actors.library.INBOX_MOST", 1)
    with opened(tmp_path) as library:
        with held_up(library, monkeypatch) as free:
            filled_with(library)
            stopped = library.ref.stop(block=False)
            free.set()
        assert stopped is None or stopped.get(timeout=PATIENCE) in (True, None)
    with pytest.raises(pykka.ActorDeadError):
        library.ref.tell(Submit(idle(1)))


@contextmanager
def stalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The disk stands still until the event is set: no commit comes back."""
    free = threading.Event()
    commit = Store.commit

    def wait(self: Store, writes: Any) -> Any:
        assert free.wait(PATIENCE)
        return commit(self, writes)

    monkeypatch.setattr(Store, "commit", wait)
    try:
        yield free
    finally:
        free.set()


def test_G14_while_the_disk_stands_still_no_more_is_taken_than_an_inbox_holds_and_questions_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "INBOX_MOST", 500)
    monkeypatch.setattr("callboard.actors.library.INBOX_MOST", 500)
    monkeypatch.setattr("callboard.actors.library.INBOX_LOW", 250)
    turned_away = threading.Semaphore(0)
    away = admission.turn_away
    monkeypatch.setattr("callboard.actors.library.turn_away", lambda envelope: turned_away.release() or away(envelope))
    with opened(tmp_path) as library:
        library.submit(idle(0))
        with stalled(monkeypatch) as free:
            refused = 0
            for n in range(20_000):
                try:
                    library.ref.tell(Submit(idle(n)))
                except InboxFull:
                    refused += 1
                    assert turned_away.acquire(blocking=False)
            library.ask(Ping())  # all that was let in has gone on to the store
            assert library.statistics().live["queued"] == 1, "reading waits behind no write"
            late: queue.SimpleQueue[Any] = queue.SimpleQueue()
            thread = threading.Thread(target=lambda: late.put(library.submit(idle(-1), block=PATIENCE).id))
            thread.start()
            for _ in range(2):  # before and behind its asking for room
                assert turned_away.acquire(timeout=PATIENCE)
            library.ask(Ping())
            assert not turned_away.acquire(blocking=False), "it tries again before there is room"
            free.set()
            assert late.get(timeout=PATIENCE)
            thread.join(PATIENCE)
        taken = library.statistics().live["queued"] - 2
        assert taken == 20_000 - refused and 450 <= taken < 2_000
