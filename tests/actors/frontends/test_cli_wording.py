"""What people and programs read: sizes, times, progress, facts, JSON; and how often a line is said."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from callboard.actors.frontends import json_view, wording
from callboard.actors.frontends.jobs_list import table
from callboard.actors.frontends.pace import Pace
from callboard.actors.frontends.screen import LineScreen
from callboard.jobs import events
from callboard.jobs.events import Fact, FactsLost, JobCompleted, LibraryDegraded, ProgressMade
from callboard.jobs.progress import Progress

ID = bytes(range(16))
NASTY = "a\x1b[2J\n\r\u202e\u2028\x9b\ud800"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (150 * 1024, "150 KiB"), (3 << 30, "3.0 GiB"), (1 << 62, "4096 PiB")],
)
def test_a_size_has_three_digits_and_a_unit(number: int, text: str) -> None:
    assert wording.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (59.7, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (3599, "59 min 59 s"),
        (7500, "2 h 5 min"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_a_time_that_no_calendar_has_is_still_said() -> None:
    assert wording.clock(None) == "-"
    assert wording.clock(1e30).endswith(" s")


@pytest.mark.parametrize(
    ("progress", "how", "text"),
    [
        (Progress(), (), ""),
        (Progress(done=1), (), "1 done"),
        (Progress(done=1, total=4, rate=2.5), (None, 90.0), "25 %, 1 of 4, 2.5/s, 1 min 30 s left"),
        (Progress(bytes_done=512, bytes_total=1024, rate=1024.0), (), "50 %, 512 B of 1.0 KiB, 1.0 KiB/s"),
        (Progress(done=1, total=2, bytes_done=1, bytes_total=10, rate=7.0), (2048.0, 3.0), "10 %, 1 of 2, 1 B of 10 B, 2.0 KiB/s, 3.0 s left"),
        (Progress(percentage=0.5, phase="ver\x1bify"), (), "ver\\x1bify: 50 %"),
    ],
)
def test_progress_says_what_is_known_and_no_more(progress: Progress, how: tuple[Any, ...], text: str) -> None:
    assert wording.progress_text(progress, *how) == text


def kinds() -> list[type[Fact]]:
    found = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Fact) and kind is not Fact]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_a_fact_is_one_line_of_words_whatever_is_in_it(kind: type[Fact]) -> None:
    plain = kind(1, 2, ID, "name")
    assert wording.fact_text(plain) != kind.__name__
    nasty = dataclasses.replace(plain, **{field.name: NASTY for field in fields(plain) if field.type in ("str", "str | None")})
    for text in (wording.fact_text(nasty), json_view.line(json_view.event_view(nasty))):
        assert text.isprintable(), repr(text)


def test_what_is_no_fact_has_words_as_well() -> None:
    assert wording.fact_text(FactsLost(1, 5, 7)) == "3 facts could not be delivered in time"
    assert wording.fact_text(LibraryDegraded(NASTY)).isprintable()


def test_json_holds_anything_in_plain_ascii() -> None:
    value = {
        "bytes": b"\xffx", "path": Path("a\udcff"), "surrogate": "\udcfe", "lone": "\ud800", "nan": float("nan"), "inf": [float("-inf")],
        "set": {1}, 7: None, "deep": ({"x": b""},), "odd": 2**70,
    }  # fmt: skip
    line = json_view.line(value)
    assert line.isascii() and line.isprintable()
    assert json.loads(line) == {
        "bytes": "\\xffx", "path": "a\\xff", "surrogate": "\\xfe", "lone": "\\ud800", "nan": "nan", "inf": ["-inf"], "set": [1], "7": None,
        "deep": [{"x": ""}], "odd": 2**70,
    }  # fmt: skip


def test_a_fact_in_json_has_its_name_its_numbers_and_the_jobs_id() -> None:
    view = json_view.event_view(JobCompleted(3, 9, ID, "copy", b"result", 2))
    assert view == {
        "event": "job_completed", "id": "00010203-0405-0607-0809-0a0b0c0d0e0f", "epoch": 3, "n": 9, "name": "copy", "errors": 2,
    }  # fmt: skip


def test_a_table_is_as_wide_as_what_is_in_it() -> None:
    lines = table([("id", "running", "5 %", "n" * 99, "then", ""), ("id", "paused", "", "m", "then", "by user")])
    assert lines[0].split() == ["ID", "STATUS", "PROGRESS", "NAME", "ARRIVED"]
    assert "n" * 23 + "…  then" in lines[1]
    assert lines[2].endswith("then     by user")


# --- how often ----------------------------------------------------------------------------------------------------------


class Clock:
    """Stands for the ports of a screen."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def said(capsys: pytest.CaptureFixture[str], readings: list[tuple[float, int]]) -> list[float]:
    """At which of (time, percent) readings a line is said."""
    clock = Clock()
    screen = LineScreen(clock, many=False)  # type: ignore[arg-type]
    times = []
    for clock.now, done in readings:
        screen.event(ProgressMade(ID, "n", Progress(done=done, total=100)))
        if capsys.readouterr().err:
            times.append(clock.now)
    return times


def test_the_first_reading_is_said_and_then_one_a_second_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, [(step / 16, 2 * step) for step in range(50)]) == [0.0, 1.0, 2.0, 3.0]


def test_a_slow_job_is_heard_of_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, [(float(second), 1) for second in range(35)]) == [0.0, 10.0, 20.0, 30.0]


def test_a_tenth_more_is_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, [(2.0 * number, 5 * number) for number in range(9)]) == [0.0, 4.0, 8.0, 12.0, 16.0]


def test_the_rate_is_in_bytes_of_what_was_watched_and_the_time_left_the_longer_one() -> None:
    pace = Pace()
    assert pace.take(Progress(done=50, total=100, bytes_done=5_000, bytes_total=10_000), 0.0) == (None, None)
    rate, eta = pace.take(Progress(done=60, total=100, bytes_done=6_000, bytes_total=10_000, eta=2.0), 1.0)
    assert (rate, eta) == (1_000.0, 4.0)
    assert pace.take(Progress(done=61, total=100, bytes_done=9_000, bytes_total=10_000, eta=39.0), 2.0)[1] == 39.0
    assert pace.take(Progress(done=7, eta=3.0), 3.0) == (None, 3.0)
