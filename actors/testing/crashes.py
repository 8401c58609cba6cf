"""`crash_everywhere`: an author's own job, killed once at each place where it matters, must come to what it comes to when nobody kills it.

The places: before and after each commit of the library, and after each end of a task that nobody has been told of yet. Between two of them
nothing becomes durable, so a kill there is the kill at the later one, but for what the job does outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callboard.actors.testing.crash_words import contents, differences, reached_lines, task_text, unsafe_text, writes_text
from callboard.actors.testing.rehearsal import JobMaker, Rehearsal, Rehearsed
from callboard.jobs.lifecycle import Status

POINTS_MOST = 1_000


@dataclass(frozen=True)
class CrashPoint:
    """A place at which a job can be killed."""

    number: int
    """From 1, in the order of an uninterrupted run."""
    what: str
    """In words, such as `before checkpoint 3 was on disk`."""
    lines: tuple[str, ...]
    """Which lines had been reached in `run`, as `file:number: text`; of the job first, then of its children."""


@dataclass(frozen=True)
class CrashReport:
    """What was tried, when all of it was harmless."""

    points: int
    """Places at which the job can be killed."""
    tried: int
    """At so many it was; fewer than `points` if those were more than `most`."""
    uninterrupted: Rehearsed
    """How the job went when nobody killed it."""


class UnsafeToRepeat(AssertionError):
    """A job that was killed and went on did not come to the same as one that nobody killed. The text says where, and what is different."""

    def __init__(self, text: str, point: CrashPoint, expected: Rehearsed, found: Rehearsed) -> None:
        super().__init__(text)
        self.point = point
        """The first place at which it matters."""
        self.expected = expected
        """The uninterrupted run."""
        self.found = found
        """The one that was killed there, and went on."""


def crash_everywhere(
    job: JobMaker, *, check: Callable[[Any], object] | None = None, services: Callable[[Path], Any] | None = None, same_result: bool = True,
    seed: int = 0, workers: int = 4, running_jobs: int = 4, most: int = POINTS_MOST, folder: Path | None = None,
) -> CrashReport:  # fmt: skip
    """Run `job` once, then once for each place where it can be killed: killed there, resumed by a new process, compared with the first run.

    `job`: a job, or a function that makes one out of what `services` gave. `services(folder)`: what stands for the world outside, made anew for
    each run and found by the job in `ctx.services`; it outlives the kill. Without it that is an empty folder, a `Path`. `check(services)` is
    asked after each run for what has become of it: a list, a dict, a text, a number, anything that can be compared; sort what has no order.
    Without it, the files in the folder are compared. `same_result`: the result of `run` has to be the same as well. `most`: where there are more
    places than this, so many of them are tried, evenly spread. `folder`: see `simulate`.

    The job runs in this process, under the simulator: all that is random in it should come from its fields. A minute of `ctx.sleep` takes some
    20 ms. Raises `UnsafeToRepeat` for the first place that is not harmless, AssertionError if the job does not complete when nobody kills it,
    ImportError without the extra `testing`.
    """
    look = check if check is not None else contents

    def rehearsal(passed: Callable[[Rehearsal, str, object], None]) -> Rehearsal:
        return Rehearsal(job, seed, services, look, workers, running_jobs, folder, passed)

    points = 0

    def count(_run: Rehearsal, _name: str, _about: object) -> None:
        nonlocal points
        points += 1

    with rehearsal(count) as run:
        uninterrupted = run.run()
    if uninterrupted.status not in (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS):
        raise AssertionError(f"the job {uninterrupted.status} when nobody killed it: {uninterrupted.error}")
    chosen = _spread(points, most)
    for number in chosen:
        killed = _Kill(number)
        with rehearsal(killed) as run:
            found = run.run()
        if killed.point is not None:
            _compare(killed.point, uninterrupted, found, same_result)
    return CrashReport(points, len(chosen), uninterrupted)


class _Kill:
    """Kills a rehearsal at the milestone of a number. `point` then says where that was."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._number = number
        self.point: CrashPoint | None = None

    def __call__(self, run: Rehearsal, name: str, about: object) -> None:
        self._left -= 1
        if self._left:
            return
        if name == "task ended":
            what = f"after {task_text(about)} had ended, and before the job was told"
        else:
            writes: Any = about
            what = f"before {writes_text(writes)} was on disk" if name == "before commit" else f"when {writes_text(writes)} was on disk"
        self.point = CrashPoint(self._number, what, reached_lines(run.simulation))
        run.crash()


def _compare(point: CrashPoint, expected: Rehearsed, found: Rehearsed, same_result: bool) -> None:
    different = []
    if expected.status is not found.status:
        different.append(f"it ended {found.status}{f' ({found.error})' if found.error else ''}, and {expected.status} when nobody killed it")
    elif same_result:
        different += differences(expected.result, found.result, "the result")
    different += differences(expected.outside, found.outside, "outside")
    if different:
        raise UnsafeToRepeat(unsafe_text(point.number, point.what, point.lines, different), point, expected, found)


def _spread(points: int, most: int) -> Sequence[int]:
    """Numbers from 1 to `points`, at most `most` of them, the first and the last included."""
    if points <= most:
        return range(1, points + 1)
    if most < 2:
        return (points,) * max(0, most)
    return sorted({1 + index * (points - 1) // (most - 1) for index in range(most)})
