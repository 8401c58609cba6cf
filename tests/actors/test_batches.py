"""Batches through a library: an outcome for each item whatever happens, one fact, one end; beside all else that runs."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pykka
import pytest

from callboard import (
    BadArgument,
    BadSubmission,
    BatchMismatch,
    BatchOutcome,
    BatchSubmission,
    Job,
    JobContext,
    Library,
    LibraryClosed,
    NoAnswer,
    NoSuchBatch,
    NotAccepted,
    OnDuplicate,
    OutcomeUnknown,
    Runtime,
    Submission,
    job_by_name,
)
from callboard.actors.intake import Intake
from callboard.actors.messages import (
    Answered,
    CancelBatch,
    Commit,
    PauseBatch,
    Ping,
    PlanBatch,
    QueryBatch,
    QueryBatches,
    ResumeBatch,
    Submit,
    SubmitBatch,
)
from callboard.actors.store import StoreActor
from callboard.jobs.batch_items import ChunkOutcome, FailedItem, SubmittedItem
from callboard.jobs.events import BatchEnded, BatchSubmitted, JobCompleted, JobPaused, JobQueued
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.writes import ChunkStored, Insert, InsertChunk

PATIENCE = 100.0


@dataclass
class Play(Job, name="test_batches.play"):
    n: int = 0
    part: str = "nothing"

    def run(self, ctx: JobContext) -> object:
        if self.part == "nothing":
            return self.n
        part: Callable[[Play, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


@dataclass
class Other(Job, name="test_batches.other"):
    text: str = ""

    def run(self, ctx: JobContext) -> object:
        return self.text


@dataclass
class Unheard(Job, name="test_batches.unheard"):
    value: object = None  # which takes what cannot be stored, too

    def run(self, ctx: JobContext) -> object:
        return None


class Host(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self.got: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def on_receive(self, message: Any) -> Any:
        self.got.put(message)


class Seat:
    """A host's actor, and what it got."""

    def __init__(self) -> None:
        self.ref = Host.start()
        self._host: Any = self.ref._actor_weakref()  # the test looks over its shoulder

    def until(self, kind: type) -> list[Any]:
        got = [self._host.got.get(timeout=PATIENCE)]
        while not isinstance(got[-1], kind):
            got.append(self._host.got.get(timeout=PATIENCE))
        return got


@contextmanager
def seat() -> Iterator[Seat]:
    made = Seat()
    try:
        yield made
    finally:
        made.ref.stop()


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Library]:
    with Runtime(workers=1) as runtime:
        yield runtime.open_library(path, **options)


def asked(library: Library, message: object) -> Any:
    """The answer to a message."""
    return library.ref.ask(message, timeout=PATIENCE)


def idle(count: int, **how: Any) -> Iterator[Submission]:
    """Jobs that do not run: their time is far away."""
    return (Submission(Play(n), key=f"k{n}", delay=1e6, **how) for n in range(count))


def chunks_committed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(start, items) of each chunk that goes to the store, from now on."""
    seen: list[tuple[int, int]] = []
    receive = StoreActor.receive

    def look(self: StoreActor, message: object, reply: Any) -> None:
        if isinstance(message, Commit):
            seen.extend((write.chunk.start, write.chunk.count) for write in message.writes if isinstance(write, InsertChunk))
        receive(self, message, reply)

    monkeypatch.setattr(StoreActor, "receive", look)
    return seen


# --- what becomes of each item ----------------------------------------------------------------------------------------


def test_jobs_of_several_types_run_and_each_index_has_its_own_id(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        by_name = job_by_name("test_batches.play", {"n": 4})
        outcome = library.submit_batch([Play(1), Submission(Other("two"), key="b"), Submission(Play(3), group="g"), by_name])
        assert isinstance(outcome, BatchOutcome) and outcome.counts == {"submitted": 4} and outcome.complete
        assert [library.job(job_id).wait(PATIENCE) for job_id in outcome.submitted] == [1, "two", 3, 4]
        assert list(outcome.submitted) == sorted(outcome.submitted) and outcome[1] == SubmittedItem(1, outcome.submitted[1])
        assert library.history(batch=outcome.batch_id).records


def test_one_bad_item_fails_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        outcome = library.submit_batch([Play(1), Unheard(object()), cast(Any, "no job"), Submission(Play(4), key="k")])
        assert outcome.counts == {"submitted": 2, "failed": 2} and outcome.complete
        assert [item.index for item in outcome.failed] == [1, 2] and isinstance(cast(FailedItem, outcome[2]).error, BadSubmission)
        assert library.job(outcome.ids[3] or b"").wait(PATIENCE) == 4


def test_the_last_of_equal_keys_wins_also_across_chunks(tmp_path: Path) -> None:
    with opened(tmp_path, batch_rows=10) as library:
        outcome = library.submit_batch(Submission(Play(n), key=f"k{n % 4}", delay=1e6) for n in range(25))
        live = library.jobs(limit=100).records
        assert sorted(record.key or b"" for record in live) == [b"k0", b"k1", b"k2", b"k3"]
        assert {record.id for record in live} <= {job_id for job_id in outcome.ids if job_id is not None}
        last = {outcome.ids[index] for index in (21, 22, 23, 24)}
        assert {record.id for record in live} == last
        assert set(outcome.counts) == {"submitted", "overridden", "superseded"} and sum(outcome.counts.values()) == 25


def test_a_default_applies_only_where_the_field_is_unset(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        items = [Submission(Play(0), delay=1e6), Submission(Play(1), priority=128, group="own", tags=("t",), delay=1e6)]
        library.submit_batch(items, default_priority=7, default_group="all", default_tags=("d",), requested_by="me")
        seen = [(record.priority, record.group, record.tags, record.requested_by) for record in library.jobs().records]
        assert seen == [(7, "all", ("d",), "me"), (128, "own", ("t",), "me")]


def test_options_belong_into_the_batch_that_is_given(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        with pytest.raises(BadArgument, match="default_group"):
            library.submit_batch(BatchSubmission([]), default_group="g")
        with pytest.raises(BadSubmission):
            library.submit_batch(cast(Any, 5))


def test_an_empty_batch_is_complete_and_has_ended(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        outcome = library.submit_batch([])
        assert len(outcome) == 0 and outcome.complete
        assert library.batch(outcome.batch_id).wait(PATIENCE).completed_at is not None


# --- transactions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_up_to_batch_rows_items_are_one_transaction_and_more_go_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    seen = chunks_committed(monkeypatch)
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 4)
    with opened(tmp_path, batch_rows=10) as library:
        for count, expected in ((10, [(0, 10)]), (11, [(0, 4), (4, 4), (8, 3)]), (12, [(0, 4), (4, 4), (8, 4)])):
            seen.clear()
            items = (Submission(Play(n), delay=1e6) for n in range(count))
            assert library.submit_batch(list(items) if known else items).counts == {"submitted": count}
            assert seen == expected
        seen.clear()
        library.submit_batch((Submission(Play(n), delay=1e6) for n in range(33)), whole=True)
        assert seen == [(0, 33)]


def test_a_generator_is_read_as_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No further than the parts in flight, the one being encoded, and what is read ahead in one go."""
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 10)
    given, most_ahead = 0, 0
    with opened(tmp_path, batch_rows=10) as library:

        def items() -> Iterator[Submission]:
            nonlocal given, most_ahead
            for n in range(500):
                given += 1
                if n % 50 == 49:
                    most_ahead = max(most_ahead, given - library.statistics().live.get("queued", 0))
                yield Submission(Play(n), delay=1e6)

        assert library.submit_batch(items()).counts == {"submitted": 500}
    assert most_ahead <= 10 * 4 + 1


def test_jobs_of_the_first_part_run_while_the_rest_is_still_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 10)
    ran = threading.Event()

    def play(job: Play, ctx: JobContext) -> None:
        ran.set()

    with opened(tmp_path, batch_rows=10, services={"play": play}) as library:

        def items() -> Iterator[Job]:
            for n in range(60):
                if n == 50:
                    assert ran.wait(PATIENCE)
                yield Play(n, "play")

        outcome = library.submit_batch(items())
        assert library.batch(outcome.batch_id).wait(PATIENCE).states == {"completed": 60}


# --- what stops it early ----------------------------------------------------------------------------------------------


def test_a_generator_that_raises_after_some_parts_leaves_these_and_says_which_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 10)

    def items() -> Iterator[Submission]:
        yield from idle(34)
        raise ZeroDivisionError("the diff is bad")

    with opened(tmp_path, batch_rows=10) as library, seat() as host:
        library.subscribe(host.ref)
        outcome = library.submit_batch(items())
        assert outcome.counts == {"submitted": 30, "not_stored": 4} and not outcome.complete
        assert list(outcome.not_stored) == [30, 31, 32, 33] and isinstance(outcome.error, ZeroDivisionError)
        assert library.statistics().live["queued"] == 30
        told = host.until(BatchSubmitted)[-1]
        assert (told.count, told.counts) == (30, {"submitted": 30})
        again = library.submit_batch(idle(40), batch_id=outcome.batch_id)
        assert again.counts == {"submitted": 40} and list(again.submitted)[:30] == list(outcome.submitted)
        assert library.statistics().live["queued"] == 40


def test_a_batch_that_was_never_sent_to_its_end_is_over_once_somebody_says_that_it_is_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 5)

    def broken() -> Iterator[Play]:
        yield from (Play(n) for n in range(12))
        raise ZeroDivisionError

    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library", batch_rows=5)
        outcome = library.submit_batch(BatchSubmission(broken(), on_complete=Play(99)))
        assert not outcome.complete
        batch = library.batch(outcome.batch_id)
        for job_id in outcome.submitted:
            library.job(job_id).wait(PATIENCE)
        with pytest.raises(NoAnswer):
            batch.wait(0)
        assert batch.record().completed_by is None
        record = batch.seal()
        assert record.sealed and record.completed_at is not None and record.completed_by is not None
        assert batch.seal() == batch.wait(PATIENCE)
        assert library.job(record.completed_by).wait(PATIENCE) == 99
        late = library.submit_batch(BatchSubmission(iter([Play(n) for n in range(20)]), batch_id=outcome.batch_id))
        assert isinstance(late.error, BatchMismatch) and late.counts == {"submitted": 10, "not_stored": 10}
        with pytest.raises(NoSuchBatch):
            library.batch(bytes(16)).seal()


@pytest.mark.parametrize("whole", [True, False])
def test_a_generator_that_raises_before_anything_is_stored_raises_at_the_caller(tmp_path: Path, whole: bool) -> None:
    def items() -> Iterator[Submission]:
        yield from idle(7)
        raise ZeroDivisionError("the diff is bad")

    with opened(tmp_path, batch_rows=5 if whole else 100) as library:
        with pytest.raises(ZeroDivisionError):
            library.submit_batch(items(), whole=whole)
        assert library.statistics().live.get("queued", 0) == 0


def failing(monkeypatch: pytest.MonkeyPatch, start: int, error: Exception) -> None:
    """The store refuses the chunk that starts there, once."""
    from callboard.persistence.store import Store

    commit = Store.commit
    left = [error]

    def refuse(self: Store, writes: Any) -> list[Any]:
        if left and any(isinstance(write, InsertChunk) and write.chunk.start == start for write in writes):
            return [left.pop() for _ in writes]
        return commit(self, writes)

    monkeypatch.setattr(Store, "commit", refuse)


def test_a_part_that_is_refused_stops_the_batch_and_nothing_behind_it_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 10)
    failing(monkeypatch, 20, NotAccepted("disk full"))
    with opened(tmp_path, batch_rows=10) as library:
        outcome = library.submit_batch(list(idle(55)))
        assert outcome.counts == {"submitted": 20, "not_stored": 35} and list(outcome.not_stored) == list(range(20, 55))
        assert isinstance(outcome.error, NotAccepted) and "disk full" in str(outcome.error)
        assert library.statistics().live["queued"] == 20


def test_a_batch_of_which_nothing_is_stored_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, 0, NotAccepted("disk full"))
    with opened(tmp_path) as library:
        with pytest.raises(NotAccepted, match="disk full"):
            library.submit_batch(idle(5))
        assert library.submit_batch(idle(5)).complete


def test_a_part_whose_fate_is_unknown_says_so_and_its_token_finds_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 10)
    failing(monkeypatch, 10, OutcomeUnknown("COMMIT failed"))
    with opened(tmp_path, batch_rows=10) as library:
        outcome = library.submit_batch(list(idle(35)))
        assert outcome.counts == {"submitted": 10, "unknown": 10, "not_stored": 15}
        assert [item.index for item in outcome.unknown] == list(range(10, 20))
        token = outcome.unknown[0].token
        assert library.resolve(token) is False
        again = library.submit_batch(list(idle(35)), batch_id=outcome.batch_id)
        assert again.complete and library.resolve(token) is True


def test_a_closed_library_takes_no_batch(tmp_path: Path) -> None:
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path)
        library.close()
        with pytest.raises(LibraryClosed):
            library.submit_batch([Play(1)])
        with pytest.raises(LibraryClosed):
            library.submit_batch(idle(3), batch_id=bytes(16))


def test_closing_in_the_middle_leaves_an_outcome_that_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 10)
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path, batch_rows=10)

        def items() -> Iterator[Submission]:
            for n, item in enumerate(idle(500)):
                if n == 250:
                    library.close()
                yield item

        outcome = library.submit_batch(items())
        assert isinstance(outcome.error, (LibraryClosed, OutcomeUnknown)) and not outcome.complete
        with opened(tmp_path) as later:
            stored = {record.id for record in later.jobs(limit=1000).records}
            assert set(outcome.submitted) <= stored
            assert len(stored) <= len(outcome.submitted) + len(outcome.unknown)


# --- sending it again -------------------------------------------------------------------------------------------------


def test_the_same_batch_again_gives_the_same_ids_and_stores_nothing_twice(tmp_path: Path) -> None:
    with opened(tmp_path) as library, seat() as host:
        first = library.submit_batch((Play(n) for n in range(40)), batch_id=bytes(range(16)))
        library.batch(first.batch_id).wait(PATIENCE)
        library.subscribe(host.ref)
        again = library.submit_batch([Play(n) for n in range(40)], batch_id=bytes(range(16)))
        assert list(again) == list(first) and again.batch_id == bytes(range(16))
        assert library.statistics().ended["completed"] == 40
        assert len(library.history(batch=UUID(bytes=first.batch_id)).records) == 40
        library.submit_batch([Play(1)])
        assert [fact.count for fact in host.until(BatchSubmitted) if isinstance(fact, BatchSubmitted)] == [1]
    with opened(tmp_path) as library:
        assert list(library.submit_batch((Play(n) for n in range(40)), batch_id=bytes(range(16)))) == list(first)


def test_another_content_under_the_same_id_is_a_mismatch(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        library.submit_batch(idle(10), batch_id=bytes(16))
        for other in (idle(9), idle(10, group="g")):
            with pytest.raises(BatchMismatch):
                library.submit_batch(other, batch_id=bytes(16))
        longer = library.submit_batch(idle(11), batch_id=bytes(16))
        assert longer.counts == {"submitted": 10, "not_stored": 1} and isinstance(longer.error, BatchMismatch)
        assert library.statistics().live["queued"] == 10


# --- as a message -----------------------------------------------------------------------------------------------------


def test_a_message_is_answered_after_its_last_commit_in_the_actors_own_mailbox(tmp_path: Path) -> None:
    with opened(tmp_path) as library, seat() as host:
        message = SubmitBatch((Play(1), Submission(Play(2), key="k")), reply_to=host.ref)
        library.ref.tell(message)
        answered = host.until(Answered)[-1]
        assert answered.request is message and answered.value.counts == {"submitted": 2}
        assert library.batch(answered.value.batch_id).wait(PATIENCE).states == {"completed": 2}


def test_a_message_of_many_items_goes_in_parts_and_an_ask_gets_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.messages.CHUNK_ROWS", 10)
    monkeypatch.setattr("callboard.actors.messages.BATCH_ROWS", 30)
    seen = chunks_committed(monkeypatch)
    with opened(tmp_path) as library:
        outcome = asked(library, SubmitBatch(BatchSubmission(list(idle(45)), default_group="g")))
        assert outcome.counts == {"submitted": 45} and [start for start, _ in seen] == [0, 10, 20, 30, 40]
        failing(monkeypatch, 20, NotAccepted("disk full"))
        stopped = asked(library, SubmitBatch(tuple(Submission(Play(n), delay=1e6) for n in range(45))))
        assert stopped.counts == {"submitted": 20, "not_stored": 25} and isinstance(stopped.error, NotAccepted)
        failing(monkeypatch, 0, NotAccepted("disk full"))
        with pytest.raises(NotAccepted):
            asked(library, SubmitBatch(tuple(idle(45))))


def test_a_message_takes_no_generator() -> None:
    with pytest.raises(BadSubmission, match="submit_batch"):
        SubmitBatch(cast(Any, idle(3)))


def test_an_item_of_a_message_is_encoded_when_it_is_made(tmp_path: Path) -> None:
    job = Play(1)
    message = SubmitBatch((job,))
    job.n = 2
    with opened(tmp_path) as library:
        outcome = asked(library, message)
        assert library.job(outcome.submitted[0]).wait(PATIENCE) == 1


# --- beside all else --------------------------------------------------------------------------------------------------


def test_whoever_submits_one_job_waits_for_one_part_of_a_batch_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is held at a part with more behind it: what comes meanwhile is committed before the next part."""
    held, free = threading.Event(), threading.Event()
    order: list[str] = []
    from callboard.persistence.store import Store

    commit = Store.commit

    def look(self: Store, writes: Any) -> list[Any]:
        kinds = {type(write).__name__ for write in writes}
        order.extend(sorted(kinds - {"Claim"}))
        if "InsertChunk" in kinds and not held.is_set():
            held.set()
            assert free.wait(PATIENCE)
        return commit(self, writes)

    monkeypatch.setattr(Store, "commit", look)
    monkeypatch.setattr("callboard.actors.messages.CHUNK_ROWS", 10)
    monkeypatch.setattr("callboard.actors.messages.BATCH_ROWS", 10)
    with opened(tmp_path) as library:
        batch = library.ref.ask(SubmitBatch(tuple(idle(100))), block=False)
        assert held.wait(PATIENCE)
        singles = [library.ref.ask(Submit(Submission(Play(n), delay=1e6)), block=False) for n in range(3)]
        asked(library, Ping())  # the singles are with the store now
        free.set()
        for single in singles:
            single.get(timeout=PATIENCE)
        assert batch.get(timeout=PATIENCE).counts == {"submitted": 100}
    assert order.index("Insert") == 1 and order.count("InsertChunk") == 10


def test_many_batches_and_single_jobs_at_once_all_come_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 20)
    outcomes: dict[int, BatchOutcome] = {}
    with opened(tmp_path, batch_rows=20) as library:

        def send(which: int) -> None:
            outcomes[which] = library.submit_batch(Play(n) for n in range(200))

        threads = [threading.Thread(target=send, args=(which,)) for which in range(4)]
        for thread in threads:
            thread.start()
        assert [library.submit(Play(n)).wait(PATIENCE) for n in range(30)] == list(range(30))
        for thread in threads:
            thread.join(PATIENCE)
        for outcome in outcomes.values():
            assert library.batch(outcome.batch_id).wait(PATIENCE).states == {"completed": 200}
        assert library.statistics().ended["completed"] == 830


@contextmanager
def store_held(monkeypatch: pytest.MonkeyPatch, at: type) -> Iterator[tuple[threading.Event, threading.Event]]:
    """The store stays at the first group with such a write: (it is there, let it go)."""
    from callboard.persistence.store import Store

    held, free = threading.Event(), threading.Event()
    commit = Store.commit

    def look(self: Store, writes: Any) -> list[Any]:
        if not held.is_set() and any(isinstance(write, at) for write in writes):
            held.set()
            assert free.wait(PATIENCE)
        return commit(self, writes)

    monkeypatch.setattr(Store, "commit", look)
    try:
        yield held, free
    finally:
        free.set()


def test_nothing_of_a_batch_overtakes_what_was_sent_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not what the library has gathered while the store is busy."""
    with opened(tmp_path) as library, store_held(monkeypatch, Insert) as (held, free):
        library.ref.tell(Submit(Submission(Play(0), delay=1e6)))
        assert held.wait(PATIENCE)
        for n in range(1, 50):
            library.ref.tell(Submit(Submission(Play(n), delay=1e6)))
            asked(library, Ping())
        batch = library.ref.ask(SubmitBatch(tuple(idle(3))), block=False)
        asked(library, Ping())
        free.set()
        first = batch.get(timeout=PATIENCE).submitted[0]
        assert [record.id for record in library.jobs(limit=100).records].index(first) == 50


def test_the_batches_of_one_sender_are_stored_one_after_another_so_that_the_newest_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second has but the last keys of the first: were their parts stored by turns, they would be there before the first's."""
    monkeypatch.setattr("callboard.actors.messages.CHUNK_ROWS", 10)
    monkeypatch.setattr("callboard.actors.messages.BATCH_ROWS", 10)
    with opened(tmp_path) as library, seat() as host:
        for keys in (range(100), range(60, 100)):
            items = tuple(Submission(Play(n), key=f"{n}", delay=1e6) for n in keys)
            library.ref.tell(SubmitBatch(BatchSubmission(items, on_duplicate=OnDuplicate.SUPERSEDE), reply_to=host.ref))
        first, second = (host.until(Answered)[-1].value for _ in range(2))
        assert (first.counts, second.counts) == ({"submitted": 100}, {"superseded": 40})
        assert list(second.superseded)[0].replaced == first.ids[60]


def test_a_batch_waits_only_while_parts_of_one_before_it_by_the_same_sender_are_not_with_the_store(tmp_path: Path) -> None:
    sent: list[InsertChunk] = []
    intake = Intake(sent.append, lambda *_: None)

    def submit(batch_id: int, items: int, sender: str) -> int:
        """How many parts are with the store then."""
        encoder, source = BatchEncoder(BatchSubmission(()), bytes(16)), iter(list(idle(items)))
        chunks = [chunk for _ in range(0, items, 10) if (chunk := encoder.chunk(source, 10)) is not None]
        intake.add_all(batch_id.to_bytes(16, "big"), chunks, None, None, None, sender)
        return len(intake)

    assert [submit(n, 3, "one") for n in range(5)] == [1, 2, 3, 4, 5]
    assert [submit(5, 40, "one"), submit(6, 3, "one"), submit(7, 3, "another")] == [7, 7, 8]
    for landed in range(5, 9):
        write = sent[landed] if landed < 7 else sent[landed + 1]  # the other's is between them
        intake.stored(write, NotAccepted("disk full") if landed == 8 else ChunkStored(ChunkOutcome(start=write.chunk.start, count=10), False))
    assert [int.from_bytes(write.chunk.batch_id, "big") for write in sent] == [0, 1, 2, 3, 4, 5, 5, 7, 5, 5, 6]


def test_a_part_that_is_with_the_store_is_answered_before_the_library_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from callboard.actors.library import LibraryActor

    closing = threading.Event()
    begin = LibraryActor._begin_close

    def look(self: LibraryActor, message: Any) -> None:
        begin(self, message)
        closing.set()

    monkeypatch.setattr(LibraryActor, "_begin_close", look)
    monkeypatch.setattr("callboard.actors.messages.CHUNK_ROWS", 10)
    monkeypatch.setattr("callboard.actors.messages.BATCH_ROWS", 10)
    with opened(tmp_path) as library, seat() as host, store_held(monkeypatch, InsertChunk) as (held, free):
        batch = library.ref.ask(SubmitBatch(tuple(idle(3))), block=False)
        assert held.wait(PATIENCE)
        for count in (30, 2):  # the last of three parts is not with the store yet, nor what waits for it
            library.ref.tell(SubmitBatch(tuple(idle(count)), reply_to=host.ref))
        asked(library, Ping())
        closer = threading.Thread(target=library.close)
        closer.start()
        assert closing.wait(PATIENCE)
        assert library.ref.is_alive() and not closer_has_stopped(library)
        free.set()
        assert batch.get(timeout=PATIENCE).counts == {"submitted": 3}
        refused, stored = (host.until(Answered)[-1] for _ in range(2))
        assert isinstance(refused.error, LibraryClosed)
        assert stored.value.counts == {"submitted": 17, "deduplicated": 3, "not_stored": 10}
        closer.join(PATIENCE)


def closer_has_stopped(library: Library) -> bool:
    """Whether the library's actor has been told to stop, after all that was sent to it before."""
    asked(library, Ping())
    stopping: bool = library.ref.actor_inbox.stopping  # type: ignore[attr-defined]
    return stopping


# --- what is told, and the batch as an object -------------------------------------------------------------------------


def test_a_batch_is_told_by_one_fact_and_its_end_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.batching.CHUNK_ROWS", 10)
    with opened(tmp_path, batch_rows=10) as library, seat() as host:
        library.submit(Submission(Play(0), key="k3", delay=1e6))
        library.subscribe(host.ref)
        outcome = library.submit_batch(Submission(Play(n), key=f"k{n}") for n in range(25))
        facts = host.until(BatchEnded)
        assert not any(isinstance(fact, JobQueued) for fact in facts)
        [told] = [fact for fact in facts if isinstance(fact, BatchSubmitted)]
        assert (told.batch_id, told.count, told.counts) == (outcome.batch_id, 25, {"submitted": 24, "deduplicated": 1})
        assert told.first_id == outcome.submitted[0] and told.last_id == outcome.submitted[-1] and told.name == ""
        assert facts[-1].batch_id == outcome.batch_id and facts[-1].counts == {"completed": 24}
        assert sum(isinstance(fact, JobCompleted) for fact in facts) == 24


def test_a_batch_can_be_waited_for_by_many_and_by_asyncio(tmp_path: Path) -> None:
    free = threading.Event()

    def play(job: Play, ctx: JobContext) -> None:
        assert free.wait(PATIENCE)

    with opened(tmp_path, services={"play": play}) as library:
        batch = library.batch(library.submit_batch([Play(n, "play") for n in range(5)]).batch_id)
        assert batch.progress() == 0.0 and batch.record().open == 5
        ended: list[Any] = []
        threads = [threading.Thread(target=lambda: ended.append(batch.wait(PATIENCE))) for _ in range(3)]
        for thread in threads:
            thread.start()
        free.set()

        async def wait() -> Any:
            return await batch

        record = asyncio.run(asyncio.wait_for(wait(), PATIENCE))
        for thread in threads:
            thread.join(PATIENCE)
        assert record.states == {"completed": 5} and [each.states for each in ended] == [{"completed": 5}] * 3
        assert batch.progress() == 1.0 and batch.wait(PATIENCE).completed_at is not None


def test_a_batch_is_paused_resumed_and_cancelled_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs stops, what waits does not begin; in more than one part."""
    began: queue.SimpleQueue[int] = queue.SimpleQueue()
    free = threading.Event()

    def play(job: Play, ctx: JobContext) -> int:
        began.put(job.n)
        while not free.is_set():
            ctx.sleep(0.005)
        return job.n

    from callboard.persistence.writes import SetBatchIntent

    parts: list[SetBatchIntent] = []
    made = SetBatchIntent.__init__

    def few(self: SetBatchIntent, *args: Any, **more: Any) -> None:
        made(self, *args, **{**more, "most": 7})
        parts.append(self)

    monkeypatch.setattr(SetBatchIntent, "__init__", few)
    with opened(tmp_path, services={"play": play}, running_jobs=3) as library, seat() as host:
        batch = library.batch(library.submit_batch(Play(n, "play") for n in range(20)).batch_id)
        other = library.submit_batch(idle(5))
        for _ in range(3):
            began.get(timeout=PATIENCE)
        library.subscribe(host.ref)
        assert batch.pause() == 20 and len(parts) >= 3
        paused: set[bytes] = set()
        while len(paused) < 20:
            paused.add(host.until(JobPaused)[-1].job_id)
        assert batch.states() == {"paused": 20} and batch.pause() == 0
        assert library.batch(other.batch_id).states() == {"queued": 5}
        assert batch.resume() == 20
        for _ in range(3):
            began.get(timeout=PATIENCE)
        assert batch.cancel() == 20
        assert batch.wait(PATIENCE).states == {"cancelled": 20} and batch.cancel() == 0
        assert not library.batch(other.batch_id).record().completed_at
        assert [record.status for record in batch.history(limit=2).records] == ["cancelled", "cancelled"] and not batch.jobs().records


def test_a_batch_is_steered_by_messages(tmp_path: Path) -> None:
    with opened(tmp_path) as library, seat() as host:
        outcome = library.submit_batch(idle(5))
        for message, states in (
            (PauseBatch(outcome.batch_id, host.ref), {"paused": 5}),
            (ResumeBatch(outcome.batch_id, host.ref), {"queued": 5}),
            (CancelBatch(outcome.batch_id, host.ref), {"cancelled": 5}),
        ):
            library.ref.tell(message)
            answered = host.until(Answered)[-1]
            assert answered.request is message and answered.value == 5 and library.batch(outcome.batch_id).states() == states
        with pytest.raises(NoSuchBatch):
            asked(library, CancelBatch(bytes(16)))
        with pytest.raises(BadArgument):
            asked(library, CancelBatch(b"short"))
        assert asked(library, QueryBatch(outcome.batch_id)).jobs == 5
        assert [each.id for each in asked(library, QueryBatches(limit=1))] == [outcome.batch_id]


def test_a_plan_is_what_the_batch_then_comes_to_and_stores_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        old = library.submit(Submission(Play(0), key="k3", delay=1e6))
        items = [*idle(5), Submission(Play(9), key="k1", delay=1e6), cast(Any, "no job")]
        plan = library.plan(iter(items), on_duplicate=OnDuplicate.SUPERSEDE)
        assert plan.planned and plan.counts == {"submitted": 4, "superseded": 1, "failed": 1, "overridden": 1}
        assert plan.superseded[0].replaced == old.id and "takes the place" in plan.why(3) and not any(plan.ids)
        assert asked(library, PlanBatch(tuple(items))).counts == {
            "submitted": 4, "deduplicated": 1, "failed": 1, "overridden": 1
        }  # fmt: skip
        assert library.statistics().live == {"queued": 1}
        assert library.submit_batch(items, on_duplicate=OnDuplicate.SUPERSEDE).counts == plan.counts
        assert library.plan([]).counts == {}


def test_a_batch_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        with pytest.raises(LookupError):
            library.batch(bytes(16))
        with pytest.raises(BadArgument):
            library.batch(cast(Any, "no id"))


def test_the_job_on_complete_is_queued_by_the_commit_that_ends_the_last_one(tmp_path: Path) -> None:
    with opened(tmp_path) as library, seat() as host:
        library.subscribe(host.ref)
        library.submit_batch([Play(n) for n in range(30)], on_complete=Submission(Other("all done"), key="end"))
        facts = host.until(BatchEnded)
        queued = [fact for fact in facts if isinstance(fact, JobQueued)]
        assert [fact.name for fact in queued] == ["test_batches.other"]
        assert library.job(queued[0].job_id).wait(PATIENCE) == "all done"


def test_a_library_that_runs_only_its_own_runs_what_a_batch_brings(tmp_path: Path) -> None:
    with opened(tmp_path, runs="own") as library:
        outcome = library.submit_batch([Play(n) for n in range(30)])
        assert library.batch(outcome.batch_id).wait(PATIENCE).states == {"completed": 30}


def test_a_batch_with_a_delay_runs_when_its_time_has_come(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        outcome = library.submit_batch([Submission(Play(1), delay=0.01), Submission(Play(2), delay=1e6)])
        assert library.job(outcome.submitted[0]).wait(PATIENCE) == 1

