"""A reading never falls within a phase, its rate counts this run only, and it is told and written no more often than it should."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.errors import BadArgument
from callboard.jobs.progress import RATE_WINDOW, TELL_EVERY, WRITE_EVERY, Progress, ProgressGauge

Report = tuple[str, int, float]
reports = st.lists(
    st.tuples(st.sampled_from(["count", "bytes", "percent", "phase a", "phase b"]), st.integers(0, 1000), st.floats(0.0, 40.0)), max_size=40
)
starts = st.none() | st.builds(
    Progress, done=st.none() | st.integers(0, 1000), bytes_done=st.none() | st.integers(0, 1000), phase=st.sampled_from([None, "a"]),
    percentage=st.none() | st.floats(0, 1), rate=st.just(1e9), eta=st.just(1e9),
)  # fmt: skip
quick = settings(max_examples=80, deadline=None, derandomize=True, database=None)


def report(gauge: ProgressGauge, kind: str, value: int, now: float) -> None:
    match kind:
        case "count":
            gauge.count(value, 1000, now)
        case "bytes":
            gauge.bytes(value, None, now)
        case "percent":
            gauge.percent(value / 1000, now)
        case _:
            gauge.phase(kind.removeprefix("phase "), {}, now)


@given(starts, reports)
@quick
def test_within_a_phase_no_part_of_a_reading_falls(start: Progress | None, steps: list[Report]) -> None:
    gauge, now = ProgressGauge(start), 0.0
    for kind, value, wait in steps:
        before, now = gauge.reading, now + wait
        report(gauge, kind, value, now)
        after = gauge.reading
        if after.phase == before.phase:
            for part in ("done", "bytes_done", "percentage"):
                was, is_now = getattr(before, part), getattr(after, part)
                assert was is None or (is_now is not None and is_now >= was), part


@given(starts, reports)
@quick
def test_neither_rate_nor_time_left_is_ever_negative(start: Progress | None, steps: list[Report]) -> None:
    gauge, now = ProgressGauge(start), 0.0
    for kind, value, wait in steps:
        now += wait
        report(gauge, kind, value, now)
        assert gauge.reading.rate is None or gauge.reading.rate >= 0
        assert gauge.reading.eta is None or gauge.reading.eta >= 0


@given(st.integers(0, 10**9), st.lists(st.tuples(st.integers(0, 50), st.floats(0.01, 5.0)), min_size=2, max_size=40))
@quick
def test_the_rate_does_not_count_what_was_done_before_this_run(before: int, steps: list[tuple[int, float]]) -> None:
    """A run that goes on at `before` has the rates of one that begins at 0."""
    resumed, fresh = ProgressGauge(Progress(done=before, total=2 * 10**9)), ProgressGauge()
    done, now = 0, 100.0
    for more, wait in steps:
        done, now = done + more, now + wait
        resumed.count(before + done, None, now)
        fresh.count(done, None, now)
        assert resumed.reading.rate == pytest.approx(fresh.reading.rate)


def test_a_resumed_job_starts_where_it_was_without_the_old_rate() -> None:
    gauge = ProgressGauge(Progress(done=50, total=100, phase="copy", rate=9.0, eta=5.0))
    assert gauge.reading == Progress(done=50, total=100, phase="copy")
    gauge.phase("copy", {"disk": "b"}, 0.0)
    assert (gauge.reading.done, gauge.reading.total, dict(gauge.reading.details)) == (50, 100, {"disk": "b"})


def test_a_job_that_went_back_to_its_checkpoint_shows_no_step_back() -> None:
    gauge = ProgressGauge(Progress(done=50))
    gauge.count(40, 100, 0.0)
    assert gauge.reading.done == 50
    gauge.count(51, 100, 1.0)
    assert (gauge.reading.done, gauge.reading.rate) == (51, 1.0)


def test_rate_and_time_left_come_from_the_items() -> None:
    gauge = ProgressGauge()
    for second in range(11):
        gauge.count(second * 3, 60, float(second))
    assert (gauge.reading.rate, gauge.reading.eta) == (3.0, 10.0)


def test_rate_and_time_left_come_from_the_bytes_where_there_are_no_items() -> None:
    gauge = ProgressGauge()
    gauge.bytes(0, 1000, 0.0)
    gauge.bytes(100, 1000, 2.0)
    assert (gauge.reading.rate, gauge.reading.eta) == (50.0, 18.0)


def test_bytes_reported_before_the_first_items_do_not_spoil_their_rate() -> None:
    gauge = ProgressGauge()
    for second in range(4):
        gauge.bytes(10**9 * (second + 1), None, float(second))
        gauge.count(second * 2, 100, float(second))
    assert gauge.reading.rate == 2.0


def test_a_job_that_stands_still_has_rate_zero_and_no_time_left() -> None:
    gauge = ProgressGauge()
    gauge.count(5, 10, 0.0)
    gauge.count(5, 10, 1.0)
    assert (gauge.reading.rate, gauge.reading.eta) == (0.0, None)


def test_only_the_window_counts_for_the_rate() -> None:
    gauge = ProgressGauge()
    for second in range(1001):
        gauge.count(second if second <= 500 else 500 + (second - 500) * 4, None, float(second))
    assert gauge.reading.rate == 4.0


def test_samples_stay_few_however_often_is_reported() -> None:
    gauge = ProgressGauge()
    for step in range(20_000):
        gauge.count(step, None, step * 0.005)
    assert len(gauge._samples) <= RATE_WINDOW / TELL_EVERY + 2


def test_a_new_phase_starts_all_counts_anew() -> None:
    gauge = ProgressGauge()
    gauge.phase("walk", {"root": "a"}, 0.0)
    gauge.count(7, 9, 0.0)
    gauge.bytes(7, 9, 1.0)
    gauge.percent(0.5, 1.0)
    gauge.phase("copy", {}, 2.0)
    assert gauge.reading == Progress(phase="copy")
    gauge.count(1, None, 3.0)
    assert gauge.reading.rate is None


@pytest.mark.parametrize(
    ("reading", "fraction"),
    [
        (Progress(), None),
        (Progress(done=5), None),
        (Progress(done=0, total=0), None),
        (Progress(done=1, total=4), 0.25),
        (Progress(done=9, total=4), 1.0),
        (Progress(done=1, total=4, bytes_done=1, bytes_total=2), 0.5),
        (Progress(done=1, total=4, bytes_done=1), 0.25),
        (Progress(done=1, total=4, percentage=0.0), 0.0),
    ],
)
def test_the_fraction_is_the_percentage_else_of_bytes_else_of_items(reading: Progress, fraction: float | None) -> None:
    assert reading.fraction == fraction


# --- when to tell, when to write ------------------------------------------------------------------------------------------


def test_the_first_reading_is_told_at_once_and_the_next_when_it_is_time() -> None:
    gauge = ProgressGauge()
    assert not gauge.due_to_tell(0.0), "there is nothing to tell yet"
    gauge.count(1, None, 10.0)
    assert gauge.due_to_tell(10.0)
    assert gauge.seconds_until_tell(10.0) == 0.0
    assert gauge.tell(10.0).done == 1
    gauge.count(2, None, 10.0 + TELL_EVERY / 4)
    assert not gauge.due_to_tell(10.0 + TELL_EVERY / 4)
    assert gauge.seconds_until_tell(10.0 + TELL_EVERY / 4) == pytest.approx(TELL_EVERY * 3 / 4)
    assert gauge.due_to_tell(10.0 + TELL_EVERY * 1.001)


def test_what_was_told_is_not_told_again() -> None:
    gauge = ProgressGauge()
    gauge.count(1, None, 0.0)
    gauge.tell(0.0)
    assert not gauge.untold
    assert not gauge.due_to_tell(1000.0)
    gauge.count(1, None, 1000.0)
    assert gauge.untold


def test_the_last_reading_stays_untold_until_it_is_told() -> None:
    gauge = ProgressGauge()
    gauge.count(1, None, 0.0)
    gauge.tell(0.0)
    gauge.count(2, None, 0.001)
    assert gauge.untold and not gauge.due_to_tell(0.001)
    assert gauge.tell(0.001).done == 2


@given(st.lists(st.floats(0.0, 0.5), max_size=80))
@quick
def test_readings_are_told_and_written_no_more_often_than_they_should(waits: list[float]) -> None:
    gauge, now = ProgressGauge(), 0.0
    told: list[float] = []
    written: list[float] = []
    for count, wait in enumerate(waits):
        now += wait
        gauge.count(count, None, now)
        if gauge.due_to_tell(now):
            gauge.tell(now)
            told.append(now)
        if gauge.due_to_write(now):
            assert gauge.unwritten
            gauge.written(now)
            written.append(now)
    assert all(second - first >= TELL_EVERY for first, second in zip(told, told[1:], strict=False))
    assert all(second - first >= WRITE_EVERY for first, second in zip(written, written[1:], strict=False))
    assert not waits or (told[0] == written[0] == waits[0])


# --- refusals ---------------------------------------------------------------------------------------------------------------

WHOLE = "is not a whole number from 0 on"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda gauge: gauge.count(-1, None, 0.0), f"progress: done=-1 {WHOLE}"),
        (lambda gauge: gauge.count(1.0, None, 0.0), f"progress: done=1.0 {WHOLE}"),
        (lambda gauge: gauge.count(1, -1, 0.0), f"progress: total=-1 {WHOLE}"),
        (lambda gauge: gauge.count(1, True, 0.0), f"progress: total=True {WHOLE}"),
        (lambda gauge: gauge.bytes(2**63, None, 0.0), f"progress: done={2**63} {WHOLE}"),
        (lambda gauge: gauge.bytes(0, "9", 0.0), f"progress: total='9' {WHOLE}"),
        (lambda gauge: gauge.percent(1.01, 0.0), "report_percentage(1.01): give a number from 0.0 to 1.0"),
        (lambda gauge: gauge.percent(float("nan"), 0.0), "report_percentage(nan): give a number from 0.0 to 1.0"),
        (lambda gauge: gauge.percent(50, 0.0), "report_percentage(50): give a number from 0.0 to 1.0"),
        (lambda gauge: gauge.percent(True, 0.0), "report_percentage(True): give a number from 0.0 to 1.0"),
    ],
)
def test_a_report_out_of_range_is_refused_and_changes_nothing(call: Any, text: str) -> None:
    gauge = ProgressGauge(Progress(done=3))
    with pytest.raises(BadArgument) as caught:
        call(gauge)
    assert str(caught.value) == text
    assert gauge.reading == Progress(done=3)
    assert not gauge.untold


def test_details_are_a_copy_that_nobody_changes() -> None:
    gauge, details = ProgressGauge(), {"disk": "a"}
    gauge.phase("copy", details, 0.0)
    details["disk"] = "b"
    assert dict(gauge.reading.details) == {"disk": "a"}


def test_of_children_is_the_weighted_sum_and_never_goes_back() -> None:
    gauge = ProgressGauge()
    gauge.of_children(1, 4, 0.5, 0.0)
    assert (gauge.reading.done, gauge.reading.total, gauge.reading.fraction) == (1, 4, 0.375)
    gauge.tell(0.0)
    gauge.of_children(1, 4, 0.0, 0.1)
    assert gauge.reading.fraction == 0.375 and not gauge.untold
    gauge.of_children(2, 40, 0.0, 0.2)
    assert (gauge.reading.done, gauge.reading.total, gauge.reading.fraction) == (2, 40, 0.375)


def test_what_an_author_reports_begins_without_what_his_children_have_done() -> None:
    gauge = ProgressGauge()
    gauge.of_children(3, 4, 0.0, 0.0)
    gauge.count(1, 10, 0.1)
    assert (gauge.reading.fraction, gauge.reading.of_children) == (0.1, False)
