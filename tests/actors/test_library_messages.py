"""The library as an actor among the host's own: commands by message, answers after the commit, facts in one's own mailbox, in order."""

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

from callboard import (
    BadArgument,
    BadSubmission,
    Job,
    JobContext,
    JobFilter,
    JobRecord,
    Library,
    LibraryClosed,
    NoSuchJob,
    NotAllowed,
    Runtime,
    Status,
    StoreUnavailable,
    Submission,
    UnknownMessage,
)
from callboard.actors import hub
from callboard.actors.messages import (
    Answered,
    CancelJob,
    Commit,
    FactsSince,
    PauseJob,
    Ping,
    QueryChildren,
    QueryJob,
    QueryJobs,
    QueryStatistics,
    QueryWarnings,
    ResumeJob,
    RetryJob,
    Submit,
    Subscribe,
    Unsubscribe,
)
from callboard.actors.ports import ThreadPorts
from callboard.actors.reader import ReaderActor
from callboard.actors.store import StoreActor
from callboard.actors.testing import FrozenClock
from callboard.jobs.events import (
    Fact,
    FactsLost,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobPaused,
    JobPausing,
    JobQueued,
    JobResumed,
    JobStarted,
    LibraryDegraded,
    ProgressMade,
)
from callboard.jobs.factlog import FactLog
from callboard.jobs.lifecycle import Event
from callboard.jobs.record import JobPage, Statistics
from callboard.jobs.submission import Submitted
from callboard.persistence.writes import Leave

PATIENCE = 100.0


@dataclass
class Play(Job, name="test_library_messages.play"):
    part: str = "nothing"

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Any, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Other(Play, name="test_library_messages.other"): ...


class Host(pykka.ThreadingActor):
    """An actor of the host's: keeps what it gets, and can be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.got: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.free = threading.Event()
        self.free.set()
        self.held = threading.Event()

    def on_receive(self, message: Any) -> Any:
        if not self.free.is_set():
            self.held.set()
        assert self.free.wait(PATIENCE)
        self.got.put(message)


class Seat:
    """A host actor, and what it got."""

    def __init__(self) -> None:
        self.ref = Host.start()
        self._host: Any = self.ref._actor_weakref()  # the test looks over its shoulder

    def next(self) -> Any:
        return self._host.got.get(timeout=PATIENCE)

    def until(self, kind: type) -> list[Any]:
        got = [self.next()]
        while not isinstance(got[-1], kind):
            got.append(self.next())
        return got

    def nothing_more(self) -> bool:
        """Everything sent to it so far has been taken."""
        marker = object()
        self.ref.tell(marker)
        return self.next() is marker

    def hold(self) -> None:
        self._host.free.clear()
        self.ref.tell("held")
        assert self._host.held.wait(PATIENCE)

    def release(self) -> None:
        self._host.free.set()


@pytest.fixture
def seats() -> Iterator[Callable[[], Seat]]:
    made: list[Seat] = []

    def make() -> Seat:
        made.append(Seat())
        return made[-1]

    yield make
    for seat in made:
        seat.release()
        seat.ref.stop(timeout=PATIENCE) if seat.ref.is_alive() else None


class Gate:
    def __init__(self) -> None:
        self._reached, self._open = threading.Semaphore(0), threading.Event()

    def __call__(self, job: Any, ctx: Any) -> object:
        self._reached.release()
        assert self._open.wait(PATIENCE)
        ctx.check_interrupt()
        return "through"

    def reached(self) -> None:
        assert self._reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.set()


@contextmanager
def stage(folder: Path, *, ports: ThreadPorts | None = None, **parts: Callable[[Any, JobContext], object]) -> Iterator[Library]:
    with Runtime(workers=1, ports=ports) as runtime:
        yield runtime.open_library(folder / "library", services={"nothing": lambda job, ctx: None, **parts})


Seats = Callable[[], Seat]


# --- commands -------------------------------------------------------------------------------------------------------------


def test_who_submits_by_message_gets_the_answer_then_the_facts_of_that_job_in_order(tmp_path: Path, seats: Seats) -> None:
    seat = seats()

    def work(job: Play, ctx: JobContext) -> object:
        ctx.report_count(1, 1)
        return 5

    with stage(tmp_path, work=work) as library:
        library.submit(Play()).wait(PATIENCE)
        message = Submit(Play("work"), reply_to=seat.ref)
        library.ref.tell(message)
        answered, *facts = seat.until(JobCompleted)
        assert isinstance(answered, Answered) and answered.request is message and answered.error is None
        submitted = answered.value
        assert isinstance(submitted, Submitted) and not submitted.duplicate
        assert [type(fact) for fact in facts] == [JobQueued, JobStarted, ProgressMade, JobCompleted]
        assert {fact.job_id for fact in facts} == {submitted.job_id}
        numbers = [fact.n for fact in facts if isinstance(fact, Fact)]
        assert numbers == list(range(numbers[0], numbers[0] + 3)) and numbers[0] == 4
        library.submit(Play()).wait(PATIENCE)
        assert seat.nothing_more(), "facts of other jobs are not its business"


def test_an_ask_is_answered_when_it_is_on_disk(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        submitted = library.ref.ask(Submit(Submission(Play(), delay=3600)), timeout=PATIENCE)
        assert isinstance(submitted, Submitted)
        record = library.ref.ask(QueryJob(submitted.job_id), timeout=PATIENCE)
        assert isinstance(record, JobRecord) and record.id == submitted.job_id
        assert library.ref.ask(PauseJob(submitted.job_id), timeout=PATIENCE) is Status.PAUSED
        assert library.ref.ask(ResumeJob(submitted.job_id), timeout=PATIENCE) is Status.QUEUED
        assert library.ref.ask(CancelJob(submitted.job_id), timeout=PATIENCE) is Status.CANCELLED
        again = library.ref.ask(RetryJob(submitted.job_id), timeout=PATIENCE)
        assert isinstance(again, Submitted)
        page = library.ref.ask(QueryJobs(JobFilter(limit=5), ended=True), timeout=PATIENCE)
        assert isinstance(page, JobPage) and submitted.job_id in {record.id for record in page.records} and page.epoch == 1 and page.n > 0
        assert isinstance(library.ref.ask(QueryStatistics(), timeout=PATIENCE), Statistics)
        assert library.ref.ask(QueryWarnings(submitted.job_id), timeout=PATIENCE) == ()
        assert library.ref.ask(Ping(), timeout=PATIENCE) is True
        with pytest.raises(NotAllowed):
            library.ref.ask(CancelJob(submitted.job_id), timeout=PATIENCE)
        with pytest.raises(NoSuchJob):
            library.ref.ask(PauseJob(bytes(16)), timeout=PATIENCE)


def test_every_command_that_is_told_is_answered_in_the_mailbox_with_its_value_or_its_error(tmp_path: Path, seats: Seats) -> None:
    seat = seats()
    with stage(tmp_path) as library:
        job_id = library.submit(Submission(Play(), delay=3600)).id
        me: Any = seat.ref
        commands: list[tuple[Any, Any]] = [
            (PauseJob(job_id, me), Status.PAUSED),
            (ResumeJob(job_id, me), Status.QUEUED),
            (QueryJob(job_id, me), JobRecord),
            (QueryJobs(reply_to=me), JobPage),
            (QueryStatistics(me), Statistics),
            (QueryChildren(job_id, me), (0, 0)),
            (QueryWarnings(job_id, reply_to=me), ()),
            (Subscribe(me, job_id=job_id, reply_to=me), tuple),
            (FactsSince(1, 0, reply_to=me), tuple),
            (Unsubscribe(me, me), 1),
            (Ping(me), True),
            (RetryJob(job_id, reply_to=me), NotAllowed),
            (CancelJob(job_id, me), Status.CANCELLED),
            (CancelJob(job_id, me), NotAllowed),
            (PauseJob(bytes(16), me), NoSuchJob),
            (QueryJob(bytes(16), me), NoSuchJob),
            (PauseJob(b"short", me), BadArgument),
            (Subscribe("nobody", reply_to=me), BadArgument),  # type: ignore[arg-type]
        ]
        for message, expected in commands:
            library.ref.tell(message)
            answered = seat.next()
            assert isinstance(answered, Answered) and answered.request is message
            if isinstance(expected, type) and issubclass(expected, Exception):
                assert isinstance(answered.error, expected) and answered.value is None
            elif isinstance(expected, type):
                assert isinstance(answered.value, expected) and answered.error is None
            else:
                assert answered.value == expected and answered.error is None


def test_a_bad_message_gets_a_reply_and_no_actor_dies_of_it(tmp_path: Path, seats: Seats, caplog: pytest.LogCaptureFixture) -> None:
    job_id = bytes(16)
    me: Any = seats().ref
    of_a_job: tuple[Any, ...] = (PauseJob, ResumeJob, CancelJob, QueryJob, RetryJob, QueryWarnings, QueryChildren)
    bad: list[Any] = [
        "garbage",
        None,
        {"command": "pause"},
        object(),
        StoreUnavailable("an error as a message"),
        Commit((), me),
        *(kind(value) for kind in of_a_job for value in ("x", None, 5, b"", b"x" * 17)),
        *(kind(job_id, reply_to="nobody") for kind in of_a_job),
        RetryJob(job_id, "all"),  # type: ignore[arg-type]
        QueryJobs("all"),  # type: ignore[arg-type]
        QueryWarnings(job_id, after=-1),
        QueryWarnings(job_id, limit="many"),  # type: ignore[arg-type]
        Subscribe("nobody"),  # type: ignore[arg-type]
        Subscribe(me, job_id="x"),  # type: ignore[arg-type]
        Subscribe(me, name=[]),  # type: ignore[arg-type]
        Subscribe(me, lag=0),
        Subscribe(me, lag=None),  # type: ignore[arg-type]
        Unsubscribe(None),  # type: ignore[arg-type]
        FactsSince("now", 0),  # type: ignore[arg-type]
        FactsSince(1, None),  # type: ignore[arg-type]
        FactsSince(1, 0, limit=-5),
        Submit(Play(), reply_to="nobody"),  # type: ignore[arg-type]
    ]
    with stage(tmp_path) as library:
        for message in bad:
            with pytest.raises((UnknownMessage, BadArgument)):
                library.ref.ask(message, timeout=PATIENCE)
            library.ref.tell(message)
        with pytest.raises(BadSubmission):
            Submit("play")  # type: ignore[arg-type]
        assert library.ask(Ping()) is True
        library.submit(Play()).wait(PATIENCE)
        assert library.history().records[0].status is Status.COMPLETED
        assert library.facts_since(1, 0) != ()
        assert len(library.history().records) == 1, "nothing of it was carried out"
    assert "was refused" in caplog.text


def test_what_came_before_a_bad_message_is_still_carried_out(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        futures = []
        for _ in range(50):
            futures.append(library.ref.ask(Submit(Submission(Play(), delay=3600)), block=False))
            library.ref.tell("garbage")
        assert len({future.get(timeout=PATIENCE).job_id for future in futures}) == 50


def test_a_closed_library_refuses_messages(tmp_path: Path) -> None:
    with stage(tmp_path) as library:
        library.close()
        with pytest.raises(pykka.ActorDeadError):
            library.ref.tell(Ping())
        with pytest.raises(LibraryClosed):
            library.tell(Ping())
        with pytest.raises(LibraryClosed):
            library.ask(Ping())


def test_a_pause_and_a_cancel_by_message_are_followed_in_the_mailbox(tmp_path: Path, seats: Seats) -> None:
    seat, gate = seats(), Gate()
    with stage(tmp_path, gate=gate) as library:
        library.ref.tell(Submit(Play("gate"), reply_to=seat.ref))
        job_id = seat.until(JobStarted)[0].value.job_id
        gate.reached()
        library.ref.tell(PauseJob(job_id))
        assert [type(each) for each in seat.until(JobPausing)] == [JobPausing]
        gate.open()
        assert [type(each) for each in seat.until(JobPaused)] == [JobPaused]
        library.ref.tell(CancelJob(job_id))
        assert [type(each) for each in seat.until(JobCancelled)] == [JobCancelled]


# --- who hears what ---------------------------------------------------------------------------------------------------------


def test_a_subscriber_hears_of_one_job_of_one_type_or_of_all(tmp_path: Path, seats: Seats) -> None:
    of_one, of_type, of_all, quiet = seats(), seats(), seats(), seats()

    def work(job: Play, ctx: JobContext) -> object:
        ctx.report_percentage(0.5)
        return None

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Submission(Play("work"), delay=3600))
        assert library.subscribe(of_all.ref) == (1, 1)
        library.subscribe(of_one.ref, job_id=handle.id)
        library.subscribe(of_type.ref, name="test_library_messages.other")
        library.subscribe(quiet.ref, progress=False)
        other = library.submit(Other("work"))
        other.wait(PATIENCE)
        handle.cancel()
        assert [type(each) for each in of_one.until(JobCancelled)] == [JobCancelled]
        expected = [JobQueued, JobStarted, ProgressMade, JobCompleted]
        assert [type(each) for each in of_type.until(JobCompleted)] == expected
        assert [type(each) for each in of_all.until(JobCancelled)] == [*expected, JobCancelled]
        assert [type(each) for each in quiet.until(JobCancelled)] == [JobQueued, JobStarted, JobCompleted, JobCancelled]
        assert of_one.nothing_more() and of_type.nothing_more()


def test_each_fact_is_told_once_however_often_one_subscribes(tmp_path: Path, seats: Seats) -> None:
    seat = seats()
    with stage(tmp_path) as library:
        library.subscribe(seat.ref)
        library.subscribe(seat.ref)
        library.subscribe(seat.ref, name=Play.job_name)
        library.ref.tell(Submit(Play(), reply_to=seat.ref))
        got = seat.until(JobCompleted)
        assert [type(each) for each in got if isinstance(each, Fact)] == [JobQueued, JobStarted, JobCompleted]
        assert library.unsubscribe(seat.ref) == 2, "the one for the job has ended with it"
        assert library.unsubscribe(seat.ref) == 0
        library.submit(Play()).wait(PATIENCE)
        assert seat.nothing_more()


def test_a_subscriber_that_has_died_is_dropped_and_hurts_nobody(tmp_path: Path, seats: Seats) -> None:
    dead, alive = seats(), seats()
    with stage(tmp_path) as library:
        for seat in (dead, alive):
            library.subscribe(seat.ref)
        dead.ref.stop(timeout=PATIENCE)
        library.submit(Play()).wait(PATIENCE)
        assert [type(each) for each in alive.until(JobCompleted)] == [JobQueued, JobStarted, JobCompleted]
        assert library.unsubscribe(dead.ref) == 0


def test_a_watch_that_is_over_leaves_no_subscription_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[hub.Stream] = []
    made = hub.Stream

    def noted(*args: Any) -> hub.Stream:
        streams.append(made(*args))
        return streams[-1]

    monkeypatch.setattr(hub, "Stream", noted)
    with stage(tmp_path) as library:
        waiting, ended = library.submit(Submission(Play(), delay=3600)), library.submit(Play())
        ended.wait(PATIENCE)
        assert list(ended.updates(timeout=PATIENCE)) == [Status.COMPLETED]
        updates = waiting.updates(timeout=PATIENCE)
        assert next(updates) is Status.QUEUED
        updates.close()  # type: ignore[attr-defined]
        library.facts_since(1, 0)
        assert streams[0].all() == []


def test_one_who_falls_behind_is_told_what_he_missed_and_can_ask_for_it(tmp_path: Path, seats: Seats) -> None:
    slow, quick = seats(), seats()
    with stage(tmp_path) as library:
        library.subscribe(slow.ref, lag=5)
        library.subscribe(quick.ref)
        slow.hold()
        handles = [library.submit(Play()) for _ in range(20)]
        for handle in handles:
            handle.wait(PATIENCE)
        library.submit(Submission(Play(), delay=3600)).cancel()
        seen = quick.until(JobCancelled)
        assert [fact.n for fact in seen] == list(range(1, 63)), "nobody else is held up"
        slow.release()
        # No further fact ever comes. What he missed he is told of all the same.
        *early, lost = slow.until(FactsLost)
        assert early[0] == "held" and [fact.n for fact in early[1:]] == list(range(1, 1 + len(early[1:])))
        assert (lost.epoch, lost.first, lost.last) == (1, len(early), 62)
        missed = library.facts_since(lost.epoch, lost.first - 1)
        assert [*early[1:], *missed] == seen
        handles[0].retry().wait(PATIENCE)
        assert [fact.n for fact in slow.until(JobCompleted)] == [63, 64, 65], "he has caught up"


def test_the_loss_comes_in_the_place_of_what_was_lost(tmp_path: Path, seats: Seats) -> None:
    slow = seats()
    with stage(tmp_path) as library:
        library.subscribe(slow.ref, lag=3)
        slow.hold()
        library.submit(Play()).wait(PATIENCE)
        library.submit(Play()).wait(PATIENCE)
        library.ask(Ping())
        slow.release()
        numbers: list[int] = []
        while not numbers or numbers[-1] < 9:
            library.submit(Play()).wait(PATIENCE)
            while not slow._host.got.empty():
                message = slow.next()
                numbers += range(message.first, message.last + 1) if isinstance(message, FactsLost) else [message.n] if message != "held" else []
        assert numbers == list(range(1, len(numbers) + 1))


def test_facts_have_numbers_without_gaps_whatever_happens_at_once(tmp_path: Path, seats: Seats) -> None:
    seat, gate = seats(), Gate()

    def fail(job: Play, ctx: JobContext) -> object:
        raise ValueError

    with stage(tmp_path, gate=gate, fail=fail) as library:
        library.subscribe(seat.ref, progress=False)

        def storm(number: int) -> None:
            for turn in range(15):
                handle = library.submit(Submission(Play(("nothing", "fail")[turn % 2]), key=f"{number}-{turn % 4}", delay=(0.0, 0.01)[turn % 2]))
                for command in (handle.pause, handle.resume, handle.cancel)[turn % 3 :]:
                    try:
                        command()
                    except NotAllowed:
                        break

        threads = [threading.Thread(target=storm, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        for record in library.jobs(limit=10_000).records:
            if record.status is Status.PAUSED:
                library.resume(record.id)
            try:
                library.job(record.id).wait(PATIENCE)
            except Exception:
                continue
        last = library.facts_since(1, 0, limit=100_000)
        got = [seat.next() for _ in last]
        assert [fact.n for fact in got] == list(range(1, len(last) + 1))
        assert tuple(got) == last
        lives: dict[bytes, list[type]] = {}
        for fact in got:
            lives.setdefault(fact.job_id, []).append(type(fact))
        for life in lives.values():
            assert life[0] is JobQueued and life[-1] in (JobCompleted, JobFailed, JobCancelled)
            assert sum(kind in (JobCompleted, JobFailed, JobCancelled) for kind in life) == 1


def test_each_opening_has_an_epoch_of_its_own_and_says_what_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "FactLog", lambda epoch: FactLog(epoch, kept=4))
    with stage(tmp_path) as library:
        for _ in range(3):
            library.submit(Play()).wait(PATIENCE)
        lost, *kept = library.facts_since(1, 2)
        assert lost == FactsLost(1, 3, 5) and [fact.n for fact in kept if isinstance(fact, Fact)] == [6, 7, 8, 9]
        assert [fact.n for fact in library.facts_since(1, 7, limit=1) if isinstance(fact, Fact)] == [8]
        assert library.facts_since(1, 9) == ()
    with stage(tmp_path) as library:
        library.submit(Play()).wait(PATIENCE)
        first, *facts = library.facts_since(1, 9)
        assert isinstance(first, FactsLost) and first.epoch == 2
        assert [(fact.epoch, fact.n) for fact in facts if isinstance(fact, Fact)] == [(2, 1), (2, 2), (2, 3)]


def test_who_finds_a_job_of_his_key_standing_hears_of_its_end_too(tmp_path: Path, seats: Seats) -> None:
    """Jobs end and begin in the very commits in which others of their key arrive."""
    with stage(tmp_path) as library:
        listeners = [seats() for _ in range(4)]

        def press(seat: Seat) -> None:
            for _ in range(60):
                library.ref.tell(Submit(Submission(Play(), key="k"), reply_to=seat.ref))
                got = seat.until(Answered)
                job_id = got[-1].value.job_id
                while not (isinstance(got[-1], JobCompleted) and got[-1].job_id == job_id):
                    got.append(seat.next())

        threads = [threading.Thread(target=press, args=(seat,)) for seat in listeners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * PATIENCE)
        assert not any(thread.is_alive() for thread in threads)


def test_resumed_is_told_before_the_next_start(tmp_path: Path, seats: Seats) -> None:
    seat, clock = seats(), FrozenClock()
    with stage(tmp_path, ports=clock) as library:
        handle = library.submit(Submission(Play(), run_at=1.0, delay=None, priority=255))
        handle.wait(PATIENCE)
        library.subscribe(seat.ref)
        paused = library.submit(Submission(Play(), delay=10))
        paused.pause()
        clock.advance(10)
        paused.resume()
        kinds = [type(each) for each in seat.until(JobCompleted)]
        assert kinds.index(JobPaused) < kinds.index(JobResumed) < kinds.index(JobStarted)


# --- when one of ours dies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [StoreActor, ReaderActor])
def test_when_an_actor_of_the_library_dies_those_who_wait_hear_of_it_and_it_can_be_opened_again(
    tmp_path: Path, seats: Seats, monkeypatch: pytest.MonkeyPatch, victim: type[StoreActor] | type[ReaderActor]
) -> None:
    seat, gate = seats(), Gate()
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library", services={"gate": gate, "nothing": lambda job, ctx: None})
        library.subscribe(seat.ref)
        running = library.submit(Play("gate"))
        gate.reached()
        waiter = threading.Thread(target=lambda: caught.append(outcome_of(lambda: running.wait(PATIENCE))))
        caught: list[BaseException | None] = []
        waiter.start()

        def broken(self: Any, *args: Any) -> Any:
            raise ZeroDivisionError("a defect of ours")

        with monkeypatch.context() as patch:
            patch.setattr(victim, "_commit" if victim is StoreActor else "_look", broken)
            message = PauseJob(running.id, seat.ref) if victim is StoreActor else QueryJob(running.id, seat.ref)
            library.ref.tell(message)
            told = seat.until(LibraryDegraded)[-1]
            assert "ZeroDivisionError" in told.error
        waiter.join(PATIENCE)
        assert isinstance(caught[0], (StoreUnavailable, LibraryClosed))
        gate.open()
        assert library.close(PATIENCE) is True
        library = runtime.open_library(tmp_path / "library", services={"gate": gate, "nothing": lambda job, ctx: None})
        assert library.job(running.id).wait(PATIENCE) == "through"


def test_what_an_actor_that_died_had_sent_does_not_take_its_job_from_who_holds_it_since(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A job that was given back is given back again when its actor dies over it; by then it may have been claimed by another one."""
    gate = Gate()
    with stage(tmp_path, gate=gate) as library:
        running = library.submit(Play("gate"))
        gate.reached()
        [store] = pykka.ActorRegistry.get_by_class(StoreActor)
        store.tell(Commit((Leave(running.id, 0, Event.RELEASE),), library.ref))
        assert running.pause(timeout=PATIENCE) is Status.PAUSING
        gate.open()
        assert running.pause(wait=True, timeout=PATIENCE) is Status.PAUSED
    assert not caplog.records


def outcome_of(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:  # noqa: BLE001
        return error
    return None
