"""What changed between two results: only where all values of one lie beyond those of the other, and the medians differ by more than a spread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from callboard.benchmarks.judging import ENOUGH, median, spread
from callboard.benchmarks.results import CaseResult, Row, Run
from callboard.benchmarks.scenario import Figure
from callboard.benchmarks.tables import number

SAME_MACHINE = ("cpu", "cores", "kernel", "file system", "python", "sqlite")
"""Where these differ, figures of the two are not of the same thing, and it is said."""


@dataclass(frozen=True)
class Change:
    """A figure in both."""

    what: str
    unit: str
    old: float
    new: float
    beyond_noise: bool
    better: bool

    @property
    def text(self) -> str:
        times = self.new / self.old if self.old else float("inf")
        return f"{'better' if self.better else 'worse ':6} {self.what}: {number(self.old)} -> {number(self.new)} {self.unit} ({times:.2f} times)"


def changed(old: list[float], new: list[float]) -> bool:
    """Whether the two are apart: all of one below all of the other, and the medians further apart than the wider of the two spreads."""
    if min(len(old), len(new)) < ENOUGH:
        return False
    apart = max(old) < min(new) or max(new) < min(old)
    low, high = sorted((median(old), median(new)))
    return apart and (high / low if low > 0 else float("inf")) > max(spread(old), spread(new))


def compared(old: Run, new: Run) -> Iterator[Change]:
    """Every figure of the same contender at the same size in the same case."""
    before = {(case.scenario, case.name): case for case in old.cases}
    for case in new.cases:
        earlier = before.get((case.scenario, case.name))
        for row in case.rows if earlier is not None else ():
            was = earlier.row(row.contender, row.size) if earlier is not None else None
            if was is not None:
                yield from (change for figure in case.figures for change in _change(case, figure, was, row))


def _change(case: CaseResult, figure: Figure, was: Row, row: Row) -> Iterator[Change]:
    old, new = was.values.get(figure.name, []), row.values.get(figure.name, [])
    if old and new:
        what = f"{case.scenario}: {case.name} ({row.size:,}), {row.contender}" + ("" if figure.name == figure.unit else f", {figure.name}")
        better = (median(new) > median(old)) == figure.higher_is_better
        beyond = changed([max(figure.least, value) for value in old], [max(figure.least, value) for value in new])
        yield Change(what, figure.unit, median(old), median(new), beyond, better)


def changes(old: Run, new: Run) -> Iterator[str]:
    """Lines: what differs of the machines, what got worse, what got better, and how many figures did not change."""
    for name in SAME_MACHINE:
        if old.machine.get(name) != new.machine.get(name):
            yield f"not the same {name}: {old.machine.get(name)} -> {new.machine.get(name)}"
    found = list(compared(old, new))
    beyond = sorted((change for change in found if change.beyond_noise), key=lambda change: change.better)
    yield from (change.text for change in beyond)
    if not found:
        yield "nothing to compare: no contender at one size is in both"
    else:
        yield f"{len(beyond)} of {len(found)} figures changed beyond noise"
