"""What a job says while it runs: progress, warnings, its log, and that it does not look."""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from callboard import Job, JobContext, JobFailed, JobHandle, Library, Progress, RetryPolicy, Runtime, Status, Submission, UsageError
from callboard.actors.joblog import LINE_CHARACTERS_MAX
from callboard.actors.mailbox import Inbox
from callboard.actors.messages import Commit
from callboard.actors.ports import ThreadPorts
from callboard.actors.postbox import Postbox
from callboard.actors.store import StoreActor
from callboard.jobs.events import ENDS, Fact, JobCompleted, JobResponsive, JobUnresponsive, ProgressMade
from callboard.jobs.identity import id_text
from callboard.persistence.writes import WriteProgress

PATIENCE = 100.0

F = TypeVar("F", bound=Fact)


@dataclass
class Play(Job, name="test_job_reports.play"):
    part: str
    done: int = 0

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


class HeldClock(ThreadPorts):
    """A monotonic clock that only the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.monotonic = lambda: self.now


class Gate:
    """A job waits here without looking; the test sees that it has come, and lets it go."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self) -> None:
        self._reached.release()
        assert self._open.acquire(timeout=PATIENCE)

    def reached(self) -> None:
        assert self._reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.release()


@contextmanager
def stage(folder: Path, ports: ThreadPorts | None = None, **parts: Callable[[Any, JobContext], object]) -> Iterator[Library]:
    with Runtime(workers=1, ports=ports) as runtime:
        yield runtime.open_library(folder / "library", services=parts, running_jobs=2)


def messages_of(box: Postbox, job_id: bytes) -> list[object]:
    seen: list[object] = []
    while not (seen and isinstance(seen[-1], ENDS)):
        message = box.take(PATIENCE)
        assert message is not None, f"nothing more came after {seen}"
        if getattr(message, "job_id", None) == job_id:
            seen.append(message)
    return seen


def readings(messages: list[object]) -> list[Progress]:
    return [message.progress for message in messages if isinstance(message, ProgressMade)]


def subscribed(library: Library) -> Postbox:
    box = Postbox(library.ports)
    library.subscribe(box)  # type: ignore[arg-type]
    return box


# --- progress -----------------------------------------------------------------------------------------------------------


def test_the_first_and_the_last_reading_are_told_and_those_between_are_gathered(tmp_path: Path) -> None:
    """On a clock that stands still no time passes between two reports, so only the first and the last may be told."""

    def work(job: Play, ctx: JobContext) -> object:
        for done in range(1, 10_001):
            ctx.report_count(done, 10_000)
        return None

    clock = HeldClock()
    clock.call_later = lambda seconds, call: ThreadPorts.call_later(clock, seconds + 3600 if seconds else 0, call)  # type: ignore[method-assign]
    with stage(tmp_path, clock, work=work) as library:
        box = subscribed(library)
        handle = library.submit(Play("work"))
        messages = messages_of(box, handle.id)
        assert [reading.done for reading in readings(messages)] == [1, 10_000]
        assert isinstance(messages[-1], JobCompleted), "the last reading comes before the end"
        progress = handle.progress()
        assert progress is not None and (progress.done, progress.total, progress.fraction) == (10_000, 10_000, 1.0)


def test_a_reading_that_was_held_back_is_told_when_its_time_has_come_though_the_job_says_no_more(tmp_path: Path) -> None:
    gate = Gate()

    def work(job: Play, ctx: JobContext) -> object:
        ctx.report_count(1)
        ctx.report_count(2)
        gate()
        return None

    with stage(tmp_path, work=work) as library:
        box = subscribed(library)
        handle = library.submit(Play("work"))
        gate.reached()
        seen: list[int | None] = []
        while seen[-1:] != [2]:
            message = box.take(PATIENCE)
            assert message is not None
            if isinstance(message, ProgressMade):
                seen.append(message.progress.done)
        assert seen == [1, 2]
        gate.open()
        handle.wait(PATIENCE)


def test_progress_never_goes_back_within_a_phase_and_starts_anew_with_the_next(tmp_path: Path) -> None:
    clock = HeldClock()

    def work(job: Play, ctx: JobContext) -> object:
        def later() -> None:
            clock.now += 0.2

        ctx.report_phase("scan", folder="a")
        later()
        ctx.report_count(5, 10)
        later()
        ctx.report_count(3, 10)
        later()
        ctx.report_bytes(50, 100)
        later()
        ctx.report_bytes(20, 100)
        later()
        ctx.report_phase("copy")
        later()
        ctx.report_percentage(0.5)
        later()
        ctx.report_percentage(0.25)
        return None

    with stage(tmp_path, clock, work=work) as library:
        box = subscribed(library)
        handle = library.submit(Play("work"))
        seen = [(each.phase, each.done, each.bytes_done, each.percentage) for each in readings(messages_of(box, handle.id))]
        assert seen[0] == ("scan", None, None, None)
        assert seen[-1] == ("copy", None, None, 0.5)
        assert [done for phase, done, _, _ in seen if phase == "scan" and done is not None] == [5] * 4
        assert {moved for phase, _, moved, _ in seen if phase == "scan"} == {None, 50}
        progress = handle.progress()
        assert progress is not None and progress.phase == "copy" and progress.fraction == 0.5


def test_a_reading_is_written_at_most_every_two_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []
    receive = StoreActor.receive
    clock = HeldClock()

    def watched(self: StoreActor, message: object, reply: Any) -> None:
        if isinstance(message, Commit):
            written.extend(clock.now for write in message.writes if isinstance(write, WriteProgress))
        receive(self, message, reply)

    def work(job: Play, ctx: JobContext) -> object:
        for done in range(200):
            ctx.report_count(done)
            clock.now += 0.05
        return None

    monkeypatch.setattr(StoreActor, "receive", watched)
    with stage(tmp_path, clock, work=work) as library:
        library.submit(Play("work")).wait(PATIENCE)
    assert len(written) == 5


def test_a_resumed_job_starts_where_its_progress_was_and_its_rate_does_not_count_what_was_done_before(tmp_path: Path) -> None:
    clock = HeldClock()
    first = Gate()

    def work(job: Play, ctx: JobContext) -> object:
        if not ctx.resumed:
            ctx.report_count(1_000, 2_000)
            first()
            ctx.check_interrupt()
        ctx.report_count(1_001, 2_000)
        clock.now += 10
        ctx.report_count(1_011, 2_000)
        return None

    with stage(tmp_path, clock, work=work) as library:
        handle = library.submit(Play("work"))
        first.reached()
        handle.pause()
        first.open()
        assert handle.pause(wait=True, timeout=PATIENCE) is Status.PAUSED
        paused = handle.progress()
        assert paused is not None and paused.done == 1_000
        box = subscribed(library)
        handle.resume()
        seen = readings(messages_of(box, handle.id))
        assert [each.done for each in seen] == [1_001, 1_011]
        assert seen[-1].rate == pytest.approx(1.0) and seen[-1].eta == pytest.approx(989)


def test_a_report_that_makes_no_sense_is_refused_where_it_is_made(tmp_path: Path) -> None:
    refused: list[str] = []

    def work(job: Play, ctx: JobContext) -> object:
        wrong: list[Callable[[], None]] = [
            lambda: ctx.report_count(-1),
            lambda: ctx.report_count(1.5),  # type: ignore[arg-type]
            lambda: ctx.report_percentage(1.1),
            lambda: ctx.report_phase(""),
            lambda: ctx.report_phase("scan", thing=object()),
            lambda: ctx.report_phase("\ud800"),
        ]
        for report in wrong:
            with pytest.raises((UsageError, UnicodeError)) as caught:
                report()
            refused.append(str(caught.value))
        ctx.checkpoint()
        return "fine"

    with stage(tmp_path, work=work) as library:
        assert library.submit(Play("work")).wait(PATIENCE) == "fine"
    assert len(refused) == 6


def test_metrics_are_of_all_runs(tmp_path: Path) -> None:
    clock = HeldClock()

    def work(job: Play, ctx: JobContext) -> object:
        clock.now += 5
        if not ctx.resumed:
            raise ValueError
        return ctx.metrics.elapsed_seconds, ctx.metrics.memory_mb > 1, ctx.metrics.waiting_seconds >= 0

    with stage(tmp_path, clock, work=work) as library:
        handle = library.submit(Submission(Play("work"), retry=RetryPolicy(max_attempts=2, first=0.0)))
        assert handle.wait(PATIENCE) == (10.0, True, True)
        assert handle.record().running_seconds == 10.0


# --- warnings -----------------------------------------------------------------------------------------------------------


def test_warnings_are_kept_in_order_with_their_items_and_end_the_job_with_errors(tmp_path: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        ctx.warn("unreadable", Path("/a"))
        ctx.warn("x" * 100_000)
        ctx.warn("odd \ud800 text", "\udcff")
        return "the rest is done"

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        assert handle.wait(PATIENCE) == "the rest is done"
        record = handle.record()
        assert record.status is Status.COMPLETED_WITH_ERRORS and record.warnings == 3
        first, second, third = library.warnings(handle.id)
        assert (first.n, first.item, first.message) == (1, "/a", "unreadable")
        assert second.item is None and len(second.message) == 8192
        assert third.message == "odd \\ud800 text" and third.item == "\\udcff"
        assert [each.n for each in library.warnings(handle.id, after=1, limit=1)] == [2]


def test_warnings_that_a_checkpoint_holds_are_kept_over_a_retry_and_the_others_come_again(tmp_path: Path) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        if job.done == 0:
            ctx.warn("before")
            job.done = 1
            ctx.checkpoint()
        ctx.warn(f"after, attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise ValueError
        return None

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Submission(Play("work"), retry=RetryPolicy(max_attempts=2, first=0.0)))
        handle.wait(PATIENCE)
        assert [each.message for each in library.warnings(handle.id)] == ["before", "after, attempt 2"]
        assert handle.record().warnings == 2


# --- the log ------------------------------------------------------------------------------------------------------------


def lines(library: Library, handle: JobHandle) -> list[str]:
    return (library.path / "logs" / f"{handle.id_text}.log").read_text().splitlines()


def test_a_log_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("as it was")

    def talks(job: Play, ctx: JobContext) -> object:
        logs = tmp_path / "library" / "logs"
        logs.mkdir()
        (logs / f"{id_text(ctx.job_id)}.log").symlink_to(victim)
        ctx.log.info("a line")
        return "done"

    with stage(tmp_path, talks=talks) as library:
        assert library.submit(Play("talks")).wait(PATIENCE) == "done"
    assert victim.read_text() == "as it was"


def test_a_job_that_writes_no_line_has_no_log_and_one_that_does_has_one_for_all_its_runs(tmp_path: Path) -> None:
    def silent(job: Play, ctx: JobContext) -> object:
        return None

    def talks(job: Play, ctx: JobContext) -> object:
        ctx.log.info("run %d of %s", ctx.attempt, "two")
        ctx.log.debug("not in the file")
        if ctx.attempt == 1:
            raise ValueError("once")
        return None

    with stage(tmp_path, silent=silent, talks=talks) as library:
        library.submit(Play("silent")).wait(PATIENCE)
        assert not (library.path / "logs").exists()
        handle = library.submit(Submission(Play("talks"), retry=RetryPolicy(max_attempts=2, first=0.0)))
        handle.wait(PATIENCE)
        written = lines(library, handle)
        assert len(written) == 3 and os.listdir(library.path / "logs") == [f"{handle.id_text}.log"]
        assert "INFO attempt=1 run 1 of two" in written[0]
        assert "ERROR attempt=1 ValueError: once" in written[1] and "in talks" in written[1]
        assert "INFO attempt=2 run 2 of two" in written[2]
        assert stat.S_IMODE(os.stat(library.path / "logs" / f"{handle.id_text}.log").st_mode) == 0o600


def test_no_text_can_forge_a_line_or_hide_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("callboard.job"), "propagate", False)  # a report with a lone surrogate cannot leave a test worker
    nasty = "a\n1.0 INFO attempt=9 forged\r\x1b[2J\u202e\u2028\ud800é"

    def work(job: Play, ctx: JobContext) -> object:
        ctx.log.warning("%s", nasty)
        ctx.log.warning("%d", "no number")
        ctx.log.warning("%(x)s is from a mapping", {"x": 1})
        ctx.log.warning("y" * 1_000_000)
        try:
            raise ValueError("caught")
        except ValueError:
            ctx.log.exception("went wrong")
        return None

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        handle.wait(PATIENCE)
        first, second, third, fourth, fifth = lines(library, handle)
        assert first.endswith("a\\n1.0 INFO attempt=9 forged\\r\\x1b[2J\\u202e\\u2028\\ud800é")
        assert "could not be formatted" in second
        assert third.endswith("1 is from a mapping")
        assert len(fourth) <= LINE_CHARACTERS_MAX
        assert "went wrong | ValueError: caught" in fifth


def test_a_line_that_cannot_be_formatted_reaches_the_hosts_handlers_as_one_that_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The handlers of these tests raise what a line of theirs raises, as a host's may."""
    with stage(tmp_path, work=lambda job, ctx: ctx.log.warning("%d of %s", "no number")) as library:
        library.submit(Play("work")).wait(PATIENCE)
    assert "could not be formatted" in caplog.text


def test_a_log_stops_growing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.joblog.LOG_BYTES_MAX", 4_000)

    def work(job: Play, ctx: JobContext) -> object:
        for number in range(200):
            ctx.log.info("line %d %s", number, "é" * 50)
        return None

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        handle.wait(PATIENCE)
        path = library.path / "logs" / f"{handle.id_text}.log"
        assert 3_900 < path.stat().st_size <= 4_001
        assert lines(library, handle)[-1].rstrip() == "(this log has reached its 4000 bytes and ends here)"


def test_a_log_that_cannot_be_written_does_not_end_the_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with stage(tmp_path, work=lambda job, ctx: ctx.log.info("hello")) as library:
        (library.path / "logs").write_text("a file where the folder should be")
        library.submit(Play("work")).wait(PATIENCE)
    assert "could not be written" in caplog.text


def test_records_of_the_hosts_logging_carry_job_and_attempt_and_the_authors_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "callboard.job")

    def work(job: Play, ctx: JobContext) -> object:
        ctx.log.info("hello", extra={"colour": "red"})
        return None

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        handle.wait(PATIENCE)
    record: Any = next(record for record in caplog.records if record.message == "hello")
    assert (record.job_id, record.job_name, record.attempt, record.colour) == (handle.id_text, Play.job_name, 1, "red")
    assert (record.filename, record.funcName) == ("test_job_reports.py", "work")


def test_an_error_of_any_size_is_cut_before_the_hosts_handlers_see_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def work(job: Play, ctx: JobContext) -> object:
        raise ValueError("z" * 10_000_000)

    with stage(tmp_path, work=work) as library:
        handle = library.submit(Play("work"))
        with pytest.raises(JobFailed):
            handle.wait(PATIENCE)
        error = handle.record().error
        assert error is not None and len(error) <= 8_192
    assert caplog.records and len(caplog.text) < 100_000


# --- jobs that do not look ----------------------------------------------------------------------------------------------


def test_a_job_that_does_not_look_is_reported_and_so_is_that_it_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.crew.LOOK_AROUND_SECONDS", 0.01)
    clock = HeldClock()
    computing, looked = Gate(), Gate()

    def work(job: Play, ctx: JobContext) -> object:
        computing()
        ctx.check_interrupt()
        looked()
        return None

    with stage(tmp_path, clock, work=work) as library:
        box = subscribed(library)
        handle = library.submit(Play("work"))
        computing.reached()
        assert handle.record().unresponsive_since is None
        clock.now += 5.0
        fact = first_of(box, JobUnresponsive)
        assert fact.job_id == handle.id and fact.name == Play.job_name and fact.seconds == 5.0
        assert handle.record().unresponsive_since is not None and handle.status is Status.RUNNING
        computing.open()
        looked.reached()
        assert first_of(box, JobResponsive).job_id == handle.id
        assert handle.record().unresponsive_since is None
        looked.open()
        handle.wait(PATIENCE)


def test_a_job_that_waits_in_its_context_looks_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.crew.LOOK_AROUND_SECONDS", 0.01)
    monkeypatch.setattr("callboard.actors.context.WAIT_SECONDS", 10 * PATIENCE)
    clock = HeldClock()
    computing, waiting, sleeper = Gate(), threading.Event(), list[threading.Thread]()
    take = Inbox.next

    def taken(inbox: Inbox, seconds: float | None) -> Any:
        if threading.current_thread() in sleeper:
            waiting.set()
        return take(inbox, seconds)

    monkeypatch.setattr(Inbox, "next", taken)

    def stuck(job: Play, ctx: JobContext) -> object:
        computing()
        return None

    def sleep(job: Play, ctx: JobContext) -> object:
        sleeper.append(threading.current_thread())
        ctx.sleep(3600)
        return None

    with stage(tmp_path, clock, stuck=stuck, sleep=sleep) as library:
        box = subscribed(library)
        asleep = library.submit(Play("sleep"))
        assert waiting.wait(PATIENCE)
        handle = library.submit(Play("stuck"))
        computing.reached()
        clock.now += 60
        assert first_of(box, JobUnresponsive).job_id == handle.id
        computing.open()
        handle.wait(PATIENCE)
        asleep.cancel(wait=True, timeout=PATIENCE)
        facts = [fact for fact in library.facts_since(library.epoch, 0) if isinstance(fact, JobUnresponsive)]
        assert {fact.job_id for fact in facts} == {handle.id}


def first_of(box: Postbox, kind: type[F]) -> F:
    while True:
        message = box.take(PATIENCE)
        assert message is not None, f"no {kind.__name__} came"
        if isinstance(message, kind):
            return message
