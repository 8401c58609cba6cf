"""What values say: median, spread, ratio, and whether a goal is reached. Pure; noise is never called a result."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

NOISE = 2.0
"""Highest over lowest value of one figure: beyond this it is marked, and decides nothing."""
ENOUGH = 3
"""Fewer values than that decide nothing."""

Verdict: TypeAlias = Literal["reached", "missed", "unclear", "failed", "not run"]


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def spread(values: Sequence[float], least: float = 0.0) -> float:
    """Highest over lowest; 1.0 for a single value. What is below `least` counts as that."""
    low, high = max(least, min(values, default=1.0)), max(least, max(values, default=1.0))
    return high / low if low > 0 else 1.0 if high <= 0 else float("inf")


def ratios(ours: Sequence[float], other: Sequence[float]) -> list[float]:
    """Ours over the other's, round by round; of rounds that both have."""
    return [mine / its for mine, its in zip(ours, other, strict=False) if its > 0]


@dataclass(frozen=True)
class Judged:
    """A goal, and what was found."""

    text: str
    """The goal in words: "jobs/s ≥ 20,000"."""
    figure: str
    who: str
    firm: bool
    bound: float
    against: str
    value: float
    low: float
    high: float
    verdict: Verdict
    why: str = ""


def verdict(values: Sequence[float], bound: float, higher_is_better: bool, least: float = 0.0) -> tuple[Verdict, str]:
    """Reached: the median is. Missed: no single value is. Between them, or beyond the noise, it is unclear; and why."""
    if len(values) < ENOUGH:
        return "unclear", f"{len(values)} of {ENOUGH} values" if values else "no values"
    if spread(values, least) > NOISE:
        return "unclear", f"spread {spread(values, least):.1f}: noise"
    met = [value >= bound if higher_is_better else value <= bound for value in (median(values), *values)]
    if met[0]:
        return "reached", ""
    return ("unclear", "some values reach it") if any(met) else ("missed", "")
