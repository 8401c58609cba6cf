"""Runs the cases of a scenario: an unmeasured run of each contender, then rounds in which each has its turn (ABAB), then the judgement.

A contender that cannot, or that fails, has its reason in its row, and the others go on.
"""

from __future__ import annotations

import gc
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from callboard.benchmarks.child import in_new_process
from callboard.benchmarks.ground import scratch
from callboard.benchmarks.judging import ENOUGH, Judged, median, ratios, verdict
from callboard.benchmarks.peers.peer import Peer
from callboard.benchmarks.results import CaseResult, Row, distributed
from callboard.benchmarks.rivals import PATIENCE, QUICK_PATIENCE, in_a_line, rivals
from callboard.benchmarks.scenario import Cannot, Case, Contender, Goal, Place, Reading, Scenario, reading_of

TOO_LATE = "the time was up"
CASE_SECONDS = 40.0
"""A case that has taken longer begins no round beyond the ENOUGH that decide."""
Say = Callable[[str], None]
Turn = tuple[Contender, int, Row]
"""A contender, a size, and where its readings go."""


@dataclass
class Harness:
    """Where and how cases are run."""

    directory: Path
    quick: bool = False
    repeats: int = 5
    peers: Sequence[Peer] = ()
    say: Say = lambda text: None
    """Told what is being run."""
    limit: float = float("inf")
    """Seconds after which no further reading is begun."""
    most: float = float("inf")
    """Seconds after which one that is being taken is broken off."""
    started: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def run(self, scenario: Scenario) -> Iterator[CaseResult]:
        """Every case of it, as each is done; a quick run leaves out those that have no quick size."""
        for case in scenario.cases:
            if case.quick or not self.quick:
                result, started = CaseResult(scenario.name, case.name, case.text, list(case.figures)), self.elapsed
                try:
                    self._case(result, case)
                except Exception as error:  # of the harness, or of what it stands on: the cases behind it are run all the same
                    result.skipped, result.failed = f"FAILED: {in_a_line(error)}", True
                result.seconds = round(self.elapsed - started, 2)
                yield result

    def _case(self, result: CaseResult, case: Case) -> None:
        sizes = case.quick if self.quick else case.full
        need = case.room(max(sizes))
        if self.elapsed > self.limit:
            result.skipped = TOO_LATE
        elif need > shutil.disk_usage(self.directory).free:
            result.skipped = f"needs {need / 1e9:.1f} GB of room on the disk"
        else:
            with scratch(self.directory) as folder:
                self._run(result, case, sizes, folder)
        result.judged = [judge(goal, case, result) for goal in case.goals if goal.quick or not self.quick]

    def _run(self, result: CaseResult, case: Case, sizes: tuple[int, ...], folder: Path) -> None:
        label = f"{result.scenario}: {case.name}"
        ground = folder / "ground"
        ground.mkdir()
        if case.prepare is not None:
            self.say(f"{label}: preparing")
            try:
                case.prepare(ground, sizes)
            except Exception as error:
                result.skipped = f"could not be prepared: {in_a_line(error)}"
                return
        turns: list[Turn] = []
        started, samples = self.elapsed, dict[int, list[float]]()
        for contender in (*case.contenders, *rivals(case, self.peers, QUICK_PATIENCE if self.quick else PATIENCE)):
            for size in sizes:
                row = Row(contender.name, contender.kind, size, contender.synced, contender.claim, cannot=contender.missing() or "")
                result.rows.append(row)
                if not row.cannot:
                    row.version = contender.version()
                    turns.append((contender, size, row))
        for turn in turns:
            if case.warm_up(turn[1]) and self.elapsed <= self.limit:
                self.say(f"{label}: warming up {turn[0].name}")
                self._turn(result, case, turn, Place(folder, case.warm_up(turn[1]), ground))
        rounds = min(self.repeats, case.most_repeats)
        for number in range(1, rounds + 1):
            if number > ENOUGH and self.elapsed - started > CASE_SECONDS:
                break
            for turn in turns:
                if turn[2].cannot or self.elapsed > self.limit:
                    continue
                self.say(f"{label}: round {number} of {rounds}, {turn[0].name}" + (f", {turn[1]:,}" if len(sizes) > 1 else ""))
                reading = self._turn(result, case, turn, Place(folder, turn[1], ground))
                if reading is not None:
                    for name, value in reading.values.items():
                        turn[2].values.setdefault(name, []).append(value)
                    samples.setdefault(id(turn[2]), []).extend(reading.samples)
        for _, _, row in turns:
            row.distribution = distributed(samples.get(id(row), ()))
            if not row.values and not row.cannot:
                row.cannot = TOO_LATE

    def _turn(self, result: CaseResult, case: Case, turn: Turn, place: Place) -> Reading | None:
        contender, _, row = turn
        if row.cannot:
            return None
        gc.collect()  # what the one before has left is not the next one's to clear away
        with scratch(place.folder) as folder:
            at = Place(folder, place.size, place.ground)
            try:
                with broken_off(self.most - self.elapsed):
                    if contender.alone:
                        return in_new_process(result.scenario, case.name, contender.name, at)
                    return reading_of(case, contender.run(at))
            except TimeIsUp:
                row.cannot = "" if row.values else TOO_LATE
            except Cannot as error:
                row.cannot = " ".join(str(error).split())[:300] or "it does not say why"
            except Exception as error:
                row.cannot, row.failed = in_a_line(error), True
        return None


class TimeIsUp(BaseException):
    """A reading took longer than there was time. No Exception, so that no contender takes it for one of its own."""


@contextmanager
def broken_off(seconds: float) -> Iterator[None]:
    """Raises TimeIsUp in the block after so long; for ever is for ever. On the main thread."""
    if seconds == float("inf"):
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- goals --------------------------------------------------------------------------------------------------------------


def judge(goal: Goal, case: Case, result: CaseResult) -> Judged:
    """What the values say of a goal. It is for the largest size."""
    figure = next(figure for figure in case.figures if figure.name == goal.figure)
    who = goal.who or next(contender.name for contender in case.contenders if contender.kind == "ours")
    largest = max(result.sizes, default=0)
    ours = result.row(who, largest)
    unit = f" {figure.unit}" if figure.unit != figure.name else ""
    text = f"{goal.figure} {'≥' if figure.higher_is_better else '≤'} {goal.bound:,g}" + (unit if goal.against == "itself" else f" × {goal.against}")
    text += f" at {largest:,}" if len(result.sizes) > 1 else ""
    judged = Judged(text, goal.figure, who, goal.firm, goal.bound, goal.against, 0.0, 0.0, 0.0, "not run", result.skipped)
    if ours is None:
        return judged
    if ours.cannot:
        return Judged(**{**vars(judged), "verdict": "failed" if ours.failed else "not run", "why": ours.cannot})
    values, why = ours.values.get(goal.figure, []), ""
    if goal.against != "itself":
        other = beside(goal, result, ours, figure.higher_is_better)
        values, why = (ratios(values, other.values.get(goal.figure, [])), "") if other is not None else ([], f"nothing to compare: no {goal.against}")
    if not values:
        return Judged(**{**vars(judged), "why": why})
    least = figure.least if goal.against == "itself" else 0.0
    found, reason = verdict(values, goal.bound, figure.higher_is_better, least)
    return Judged(**{**vars(judged), "value": median(values), "low": min(values), "high": max(values), "verdict": found, "why": reason})


def beside(goal: Goal, result: CaseResult, ours: Row, higher_is_better: bool) -> Row | None:
    """Whom the goal compares with."""
    if goal.against == "smallest":
        return result.row(ours.contender, min(result.sizes))
    return raw_limit(result, ours.size) if goal.against == "raw" else best_peer(result, ours.size, goal.figure, higher_is_better)


def raw_limit(result: CaseResult, size: int) -> Row | None:
    """The raw limit that was measured beside a row of this size."""
    return next((row for row in result.rows if row.kind == "raw" and row.size == size), None)


def best_peer(result: CaseResult, size: int, figure: str, higher_is_better: bool) -> Row | None:
    """The best of those whose work is on disk when they say so, as ours is."""
    peers = [row for row in result.rows if row.kind == "peer" and row.synced and row.size == size and row.values.get(figure)]
    pick = max if higher_is_better else min
    return pick(peers, key=lambda row: median(row.values[figure]), default=None)
