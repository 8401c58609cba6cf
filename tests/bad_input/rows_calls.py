"""Rows 25 to 56: calls with odd arguments, payloads that cannot be kept, batches, steering at odd moments, and user code that misbehaves."""

from __future__ import annotations

import json
import math
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
import pytest
from stand import PATIENCE, Gate, Play, at_work, proved_by, refused, until

from callboard import (
    CriticalError,
    Interrupted,
    Job,
    JobCancelled,
    JobContext,
    JobFailed,
    Library,
    NotEncodable,
    RetryPolicy,
    Status,
    Submission,
)
from callboard.actors.frontends.json_view import line
from callboard.jobs.batch_items import OverriddenItem, SubmittedItem
from callboard.jobs.errors import (
    TEXT_LIMIT,
    BadArgument,
    BadSubmission,
    ConfigError,
    NoSuchJob,
    NotAllowed,
    NotDecodable,
    UnknownJobType,
    WouldDeadlock,
)
from callboard.jobs.registry import REGISTRY
from callboard.persistence.codec import CHECKPOINT, decode, decode_value, encode, encode_value, plan_of
from callboard.persistence.store import Store
from callboard.persistence.writes import SaveCheckpoint, WriteProgress


@dataclass
class Paths(Job, name="bad_input.paths"):
    """Gives back the path that it was given."""

    path: Path

    def run(self, ctx: JobContext) -> object:
        return self.path


@contextmanager
def in_line(top: Path, version: int | None) -> Iterator[tuple[Library, bytes]]:
    """A library with a queued job of version 2 of a class that this process has in `version`, or not at all."""

    def made(of: int) -> type[Job]:
        @dataclass
        class Later(Job, name="bad_input.later", version=of):
            def run(self, ctx: JobContext) -> object:
                return "ran"

        return Later

    gate = Gate()
    try:
        with at_work(top, options={"running_jobs": 1}, gate=gate) as library:
            holds = library.submit(Play("gate"))
            gate.reached()
            job_id = library.submit(made(2)()).id
            REGISTRY.remove("bad_input.later")
            if version is not None:
                made(version)
            gate.open()
            holds.wait(PATIENCE)
            yield library, job_id
            made(2)
            assert library.job(job_id).wait(PATIENCE) == "ran"
    finally:
        gate.open()
        REGISTRY.remove("bad_input.later")


def row_25_a_type_that_is_not_registered(top: Path) -> None:
    with in_line(top, None) as (library, job_id):
        with refused(library, UnknownJobType, r"no job type 'bad_input.plya' is registered here: import .* did you mean 'bad_input.play'\?"):
            library.submit_by_name("bad_input.plya", {})
        library.submit(Play()).wait(PATIENCE)  # which came after it
        record = library.record(job_id)
        assert record.status is Status.QUEUED
        assert record.passed_over == "job type 'bad_input.later' is not registered in this process; import the module that defines it"


def row_26_a_version_newer_than_the_code(top: Path) -> None:
    with in_line(top, 1) as (library, job_id):
        library.submit(Play()).wait(PATIENCE)
        record = library.record(job_id)
        assert record.status is Status.QUEUED
        assert record.passed_over == "stored as version 2 of 'bad_input.later', this process has version 1; upgrade the code"


def row_27_a_value_that_cannot_be_stored(top: Path) -> None:
    with at_work(top) as library:
        for value, kind in ((object(), "object"), (print, "builtin_function_or_method"), (1j, "complex"), (Gate(), "Gate")):
            with refused(library, NotEncodable, rf"Play: \$\.value\['a'\]\[3\]: .*{kind} cannot be stored; allowed are None, bool, int"):
                library.submit(Play(value={"a": [0, 1, 2, value]}))
    assert decode(Play, encode(Play(value=[{1, 2}]))).value == [{1, 2}]  # a set is kept as one


def row_28_an_int_beyond_64_bits(top: Path) -> None:
    with at_work(top) as library:
        for value in (2**64, -(2**63) - 1, 10**5_000):
            with refused(library, NotEncodable, r"Play: \$\.more\[1\]: .*does not fit in 64 bits; store it as str"):
                library.submit(Play(more=[2**64 - 1, value]))


def row_29_maps_whose_keys_are_ints() -> None:
    for value in ({1: "a", -(2**63): "b", "1": "c"}, {True: 1}, {b"k": {2: 3}}):
        back = decode(Play, encode(Play(value=value))).value
        assert back == value and [*map(type, back)] == [*map(type, value)]
    with pytest.raises(NotEncodable, match=r"\$\.value: a dict key of type Path|\$\.value key|\$\.value.*cannot be stored"):
        encode(Play(value={(1, 2): 3}))


def row_30_tuples() -> None:
    back = decode(Play, encode(Play(value=(1, [2, (3,)])))).value
    assert back == (1, [2, (3,)]) and type(back) is tuple and type(back[1][1]) is tuple


def row_31_a_file_name_that_is_no_text(top: Path) -> None:
    name = "caf\udce9"
    with at_work(top) as library:
        with refused(library, NotEncodable, r"Play: \$\.value: str 'caf\\udce9' has a lone surrogate.*use Path or bytes for file names"):
            library.submit(Play(value=name))
        assert library.submit(Paths(Path(name))).wait(PATIENCE) == Path(name)


def row_32_nan_and_infinities() -> None:
    back = decode(Play, encode(Play(more=[math.nan, math.inf, -math.inf]))).more
    assert math.isnan(back[0]) and back[1:] == [math.inf, -math.inf]
    assert json.loads(line(back)) == ["nan", "inf", "-inf"]


def row_33_what_holds_itself_or_is_too_deep(top: Path) -> None:
    itself: list[Any] = []
    itself.append(itself)
    deep: list[Any] = []
    for _ in range(1_000):
        deep = [deep]
    with at_work(top) as library:
        for value in (itself, deep):
            with refused(library, NotEncodable, r"Play: \$\.value\[0\]\[0\].*: nested too deep, or it holds itself"):
                library.submit(Play(value=value))


def row_34_what_is_too_large(top: Path) -> None:
    with at_work(top) as library:
        with refused(library, NotEncodable, r"Play: \$\.value: larger than 1,048,576 bytes; keep big data in a file and store its Path"):
            library.submit(Play(value=bytes(2**20)))
    [field] = [each for each in plan_of(Play).fields if each.name == "value"]
    with pytest.raises(NotEncodable, match=r"larger than 16,777,216 bytes; keep big data in a file"):
        field.encode(bytes(CHECKPOINT.bytes))


def row_35_a_million_empty_maps() -> None:
    blob = b"\x81\xa5value\xdd" + (1_000_000).to_bytes(4) + b"\x80" * 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(NotDecodable, match=r"100,?000"):
            decode(Play, blob)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def row_36_a_map_with_one_key_twice() -> None:
    with pytest.raises(NotDecodable, match=r"Play: \$: damaged: the map key str 'part' occurs twice"):
        decode(Play, b"\x82\xa4part\xa1a\xa4part\xa1b")


def row_37_ext_types_that_are_not_ours() -> None:
    for ext in (msgpack.ExtType(77, b"x"), msgpack.Timestamp(10**15)):
        with pytest.raises(NotDecodable, match=r"Play: \$\.value: damaged: an ext type that callboard never writes"):
            decode(Play, bytes(msgpack.packb({"value": ext}) or b""))
    assert decode_value(encode_value(datetime.max.replace(tzinfo=UTC))) == datetime.max.replace(tzinfo=UTC)


def row_38_bytes_that_are_no_value() -> None:
    whole = encode(Play())
    bad = {"1 bytes follow the value": whole + b"x", "not one whole msgpack value": whole[:-1], r"starts no value \(0xc1\)": b"\xc1"}
    for words, blob in bad.items():
        with pytest.raises(NotDecodable, match=rf"Play: \$: damaged: .*{words}"):
            decode(Play, blob)


# --- batches and submissions --------------------------------------------------------------------------------------------


def row_39_a_batch_of_nothing(top: Path) -> None:
    """It stores no job; but it is stored itself, as one that has ended, so that its id can be asked for and its on_complete runs."""
    with at_work(top) as library:
        before = library.jobs().records, library.history().records, library.statistics()
        outcome = library.submit_batch([])
        assert (len(outcome), outcome.error, outcome.counts, outcome.complete) == (0, None, {}, True)
        assert (library.jobs().records, library.history().records, library.statistics()) == before
        assert library.batch_record(outcome.batch_id).completed_at is not None


def row_40_a_batch_of_a_million() -> None:
    proved_by("actors/test_batches.py", "test_a_generator_is_read_as_it_is_needed")
    proved_by("actors/test_batches.py", "test_up_to_batch_rows_items_are_one_transaction_and_more_go_in_parts")
    proved_by("actors/test_back_pressure.py", "test_a_batch_far_longer_than_the_queue_goes_through_it")


def row_41_a_generator_that_raises_in_the_middle(top: Path) -> None:
    def items() -> Iterator[Submission]:
        yield from (Submission(Play(value=number), delay=1_000.0) for number in range(25))
        raise ValueError("no more")

    with at_work(top, options={"batch_rows": 10}) as library:
        outcome = library.submit_batch(items())
        assert isinstance(outcome.error, ValueError) and str(outcome.error) == "no more"
        assert not outcome.complete and outcome.counts["submitted"] in (10, 20)
        assert len(library.jobs().records) == outcome.counts["submitted"]


def row_42_one_key_three_times_in_a_batch(top: Path) -> None:
    with at_work(top) as library:
        later = {"key": "k", "delay": 1_000.0}
        outcome = library.submit_batch([Submission(Play(value=number), **later) for number in range(3)])
        assert outcome[:2] == [OverriddenItem(0, 2), OverriddenItem(1, 2)]
        [record] = library.jobs().records
        assert outcome[2] == SubmittedItem(2, record.id)


def row_43_odd_keys(top: Path) -> None:
    with at_work(top) as library:
        for key, words in (("", r"key='', which has 0, is not"), ("k" * 10_000, r"key='kkk.*…, which has 10000, is not"), (7, "key=7 is not")):
            with refused(library, BadSubmission, words + " text or bytes of 1 to 512 bytes"):
                library.submit(Submission(Play(), key=key))  # type: ignore[arg-type]
        odd = ("k" * 512, "a\0b", "\u202egnp", "\u00e9", "e\u0301", b"\xff", " ", "K", "k")
        handles = [library.submit(Submission(Play(), key=key, delay=1_000.0)) for key in odd]
        assert not any(handle.duplicate for handle in handles)
        assert [handle.record().key for handle in handles] == [key if isinstance(key, bytes) else key.encode() for key in odd]


def row_44_odd_priorities_and_times(top: Path) -> None:
    year = 366 * 86_400.0 * 100
    with at_work(top) as library:
        for priority, shown in ((10**300, "1000"), ("high", "'high'"), (-1, "-1"), (256, "256"), (True, "True"), (1.0, "1.0")):
            with refused(library, BadSubmission, rf"priority={shown}.* is not an integer from 0 \(first\) to 255 \(last\)"):
                library.submit(Submission(Play(), priority=priority))  # type: ignore[arg-type]
        for seconds in (math.nan, math.inf, -1, -0.001, "5", year * 1e6):
            with refused(library, BadSubmission, r"delay=.* is not a number of seconds from 0 to \d+"):
                library.submit(Submission(Play(), delay=seconds))  # type: ignore[arg-type]
            with refused(library, BadSubmission, r"run_at=.* is not a number of seconds since the epoch.* from 0 to \d+"):
                library.submit(Submission(Play(), run_at=seconds))  # type: ignore[arg-type]
            with pytest.raises((ConfigError, BadSubmission, BadArgument), match="first"):
                RetryPolicy(max_attempts=2, first=seconds)  # type: ignore[arg-type]


# --- steering -----------------------------------------------------------------------------------------------------------


def row_45_steering_what_is_unknown_or_has_ended_and_twice(top: Path) -> None:
    with at_work(top) as library:
        ended = library.submit(Play())
        ended.wait(PATIENCE)
        for command in (library.pause, library.resume, library.cancel):
            with refused(library, NoSuchJob, r"no job 00000000-0000-0000-0000-000000000000 in this library"):
                command(bytes(16))
            with refused(library, NotAllowed, rf"{ended.id_text}.*completed"):
                command(ended.id)
            with refused(library, BadArgument, r"job_id=b'x' is not a job id \(16 bytes\)"):
                command(b"x")
        waits = library.submit(Submission(Play(), delay=1_000.0))
        assert [waits.pause(), waits.pause(), waits.resume(), waits.resume(), waits.cancel()] == ["paused", "paused", "queued", "queued", "cancelled"]


def row_46_a_cancel_while_the_job_finishes(top: Path) -> None:
    with at_work(top, work=lambda job, ctx: job.value) as library:
        for number in range(40):
            handle = library.submit(Play("work", number))
            try:
                answered: Status | None = handle.cancel()
            except NotAllowed as error:
                answered = None
                assert "completed" in str(error)
            try:
                assert handle.wait(PATIENCE) == number
                ended = Status.COMPLETED
            except JobCancelled:
                ended = Status.CANCELLED
            assert handle.status is ended
            assert (answered, ended) in {(None, Status.COMPLETED), (Status.CANCELLED, Status.CANCELLED)} or answered is Status.CANCELLING


def row_47_a_resume_while_the_job_is_pausing(top: Path) -> None:
    proved_by("actors/test_job_steering.py", "test_a_pause_withdrawn_when_the_job_had_left_already_lets_it_go_on")
    gate, runs = Gate(), []

    def work(job: Play, ctx: JobContext) -> object:
        runs.append(ctx.attempt)
        gate()
        ctx.check_interrupt()
        return "done"

    with at_work(top, work=work) as library:
        handle = library.submit(Play("work"))
        gate.reached()
        assert (handle.pause(), handle.resume()) == (Status.PAUSING, Status.RUNNING)
        gate.open()
        assert handle.wait(PATIENCE) == "done" and runs == [1]


def row_48_a_parent_of_ten_thousand_that_is_cancelled(top: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        ctx.spawn_children((Submission(Play(), delay=1_000.0) for _ in range(10_000)), name="many")
        ctx.wait_for_children()
        return None

    with at_work(top, work=work) as library:
        handle = library.submit(Play("work"))
        handle_ended = threading.Event()
        for _ in range(10_000):
            if library.children(handle.id) == (10_000, 0):
                break
            handle_ended.wait(0.01)
        handle.cancel(wait=True, timeout=PATIENCE)
        assert (handle.status, library.children(handle.id)) == (Status.CANCELLED, (0, 10_000))
        assert library.statistics().live == {}


# --- user code ----------------------------------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt("from str()")


def raises(error: BaseException) -> Any:
    def part(job: Play, ctx: JobContext) -> object:
        raise error

    return part


def row_49_whatever_a_job_raises(top: Path) -> None:
    proved_by("actors/test_job_hazards.py", "test_whatever_comes_out_of_run_fails_that_job_and_touches_nobody_else")
    errors = (SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError("deep"), MemoryError(), CriticalError("no"), StopIteration())
    with at_work(top, **{type(error).__name__: raises(error) for error in errors}) as library:
        for error in errors:
            with pytest.raises(JobFailed, match=rf"\(bad_input.play\) failed: {type(error).__name__}"):
                library.submit(Play(type(error).__name__)).wait(PATIENCE)
        library.submit(Play()).wait(PATIENCE)


def row_50_an_error_that_cannot_be_printed_or_is_endless(top: Path) -> None:
    with at_work(top, opaque=raises(Unprintable()), endless=raises(ValueError("x" * 100_000_000))) as library:
        for part, words in (("opaque", r"Unprintable: \(its str\(\) raised KeyboardInterrupt\)"), ("endless", "ValueError: xxx")):
            handle = library.submit(Play(part))
            with pytest.raises(JobFailed, match=words):
                handle.wait(PATIENCE)
            assert len(handle.record().error or "") <= TEXT_LIMIT


def row_51_a_result_that_cannot_be_stored(top: Path) -> None:
    with at_work(top, work=lambda job, ctx: [1, object()]) as library:
        handle = library.submit(Play("work"))
        with pytest.raises(JobFailed, match=r"its result cannot be stored: \$\[1\]: object cannot be stored; allowed are"):
            handle.wait(PATIENCE)
        assert handle.record().result is None


def row_52_a_job_that_takes_the_process_along() -> None:
    proved_by(
        "actors/test_job_hazards.py",
        "test_a_job_that_takes_the_process_along_is_charged_and_the_others_go_on",
        "test_a_job_that_dies_three_times_is_set_aside_and_the_innocent_beside_it_is_not",
    )


def row_53_a_job_that_leaves_threads_or_never_looks(top: Path) -> None:
    proved_by("actors/test_job_reports.py", "test_a_job_that_does_not_look_is_reported_and_so_is_that_it_looks_again")
    go_on, left = threading.Event(), []

    def work(job: Play, ctx: JobContext) -> object:
        left.append(threading.Thread(target=go_on.wait, args=(PATIENCE,)))
        left[0].start()
        return "left"

    with at_work(top, options={"running_jobs": 1}, work=work) as library:
        assert library.submit(Play("work")).wait(PATIENCE) == "left"
        library.submit(Play()).wait(PATIENCE)  # in the same slot
    assert left[0].is_alive()
    go_on.set()
    left[0].join(PATIENCE)


def row_54_a_job_that_waits_for_itself(top: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        return ctx.services["library"][0].job(ctx.job_id).wait(PATIENCE)

    found: Any = []
    with at_work(top, work=work, library=found) as library:
        found.append(library)
        with pytest.raises(JobFailed, match=r"WouldDeadlock: wait\(\) on job .* inside a job's run .*use ctx.wait_for_children"):
            library.submit(Play("work")).wait(PATIENCE)
    assert issubclass(WouldDeadlock, RuntimeError)


def row_55_a_checkpoint_after_a_cancel(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saves nothing itself; what the fields held when the job left is in the commit of its end, as at every leaving."""
    gate, told, saved = Gate(), [], written_to(monkeypatch, SaveCheckpoint)

    def work(job: Play, ctx: JobContext) -> object:
        ctx.checkpoint()
        gate()
        try:
            ctx.checkpoint()
        except Interrupted as error:
            told.append(error.reason)
            raise
        return None

    with at_work(top, work=work) as library:
        handle = library.submit(Play("work"))
        gate.reached()
        assert handle.cancel() is Status.CANCELLING
        gate.open()
        until(library, handle.id, "cancelled")
    assert len(told) == 1 and "cancel" in told[0] and len(saved) == 1


def row_56_a_flood_of_progress(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        for number in range(50_000):
            ctx.report_count(number, 50_000)
        return ctx.metrics.elapsed_seconds

    written = written_to(monkeypatch, WriteProgress)
    with at_work(top, work=work) as library:
        elapsed = library.submit(Play("work")).wait(PATIENCE)
        [record] = library.history().records
        assert record.progress is not None and record.progress.done == 49_999
    assert len(written) <= 2 + elapsed  # one in two seconds


def written_to(monkeypatch: pytest.MonkeyPatch, kind: type) -> list[object]:
    """What the stores are given of this kind, from now on."""
    found: list[object] = []
    commit = Store.commit

    def seen(store: Store, writes: Any) -> Any:
        found.extend(write for write in writes if isinstance(write, kind))
        return commit(store, writes)

    monkeypatch.setattr(Store, "commit", seen)
    return found
