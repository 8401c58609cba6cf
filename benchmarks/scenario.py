"""What a scenario declares: cases of work, who does each of them, what is read off, and which goals stand for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal, TypeAlias, cast

from callboard.benchmarks.peers.peer import Cannot

__all__ = [
    "LATENCIES", "SCENARIOS", "Answer", "Cannot", "Case", "Contender", "Figure", "Goal", "Kind", "Place", "Reading", "Scenario", "latencies", "load",
    "quantile", "reading_of",
]  # fmt: skip

SCENARIOS: tuple[str, ...] = (
    "noop", "submit", "batch", "checkpoints", "pausing", "map", "idle", "depth", "busy", "opening", "importing", "events", "children", "copy",
    "kills", "published",
)  # fmt: skip
"""In the order in which they run: what the goals need first, what takes long last. Each is a module of `callboard.benchmarks.scenarios`."""

Kind: TypeAlias = Literal["ours", "raw", "peer", "bare"]
"""`raw`: the limit that a case names; `bare`: a peer that is SQLite and a loop, and so is no system that ours could be ahead of."""
Against: TypeAlias = Literal["itself", "raw", "peer", "smallest"]


@dataclass(frozen=True)
class Place:
    """Where a contender works."""

    folder: Path
    """Its own and empty, removed after each reading."""
    size: int
    """How much work."""
    ground: Path
    """What `Case.prepare` has made, shared by all contenders; nobody changes it."""


@dataclass(frozen=True)
class Reading:
    """What one run has shown: a value for each figure that it has, and for latencies each of them."""

    values: dict[str, float]
    samples: tuple[float, ...] = ()


Answer: TypeAlias = "Reading | float | list[float]"
"""A number is that of the case's first figure; a list is latencies."""


@dataclass(frozen=True)
class Figure:
    """Something that is read off each run."""

    name: str
    unit: str
    higher_is_better: bool
    least: float = 0.0
    """Below this nobody cares, and differences are no noise."""


@dataclass(frozen=True)
class Goal:
    """A bound for a figure of ours: at least or at most, whichever is better for the figure."""

    figure: str
    bound: float
    against: Against = "itself"
    """`raw`: as a multiple of the raw limit, of pairs of one round; `peer`: of the best peer that syncs; `smallest`: of ours at the least size."""
    who: str = ""
    """The contender it is for; empty: the first of ours."""
    firm: bool = True
    """False: an aim beyond, or a figure that only informs; missing it is no failure."""
    quick: bool = True
    """False: it says nothing at the size of a quick run, and is not judged there."""


@dataclass(frozen=True)
class Contender:
    """Who does the work."""

    name: str
    run: Callable[[Place], Answer]
    kind: Kind = "ours"
    synced: bool = True
    """Whether what it acknowledged lies on the disk by then."""
    claim: str = "an fsync at each commit"
    missing: Callable[[], str | None] = lambda: None
    version: Callable[[], str] = lambda: ""
    alone: bool = False
    """Runs in a new process each time, where memory and imports are its own."""


def _tenth(size: int) -> int:
    return max(1, size // 10)


@dataclass(frozen=True)
class Case:
    """One piece of work, done by each contender in turn."""

    name: str
    text: str
    figures: tuple[Figure, ...]
    contenders: tuple[Contender, ...]
    full: tuple[int, ...]
    """Sizes in a full run. More than one: a series."""
    quick: tuple[int, ...] = ()
    """Sizes in a quick run; none: not in it."""
    goals: tuple[Goal, ...] = ()
    peers: str = ""
    """What of a `Peer` does the same: the name of the method, "copy", or "killed". Empty: nothing."""
    prepare: Callable[[Path, tuple[int, ...]], object] | None = None
    """Makes the ground for these sizes, once."""
    warm_up: Callable[[int], int] = field(default=_tenth)
    """Size → that of the unmeasured run; 0: none."""
    most_repeats: int = 1_000
    room: Callable[[int], int] = lambda size: 0
    """Size → bytes of disk that it needs; without them it is left out."""


@dataclass(frozen=True)
class Scenario:
    """A module of `callboard.benchmarks.scenarios`."""

    name: str
    text: str
    """What work, what counts, what durability, which raw limit."""
    cases: tuple[Case, ...]


def load(name: str) -> Scenario:
    """Raises KeyError for a name that is none."""
    if name not in SCENARIOS:
        raise KeyError(name)
    module = import_module(f"callboard.benchmarks.scenarios.{name}")
    return Scenario(name, (module.__doc__ or "").strip(), cast("tuple[Case, ...]", module.CASES))


LATENCIES = (Figure("p50", "ms", False), Figure("p99", "ms", False), Figure("p99.9", "ms", False))
"""The figures of a case that takes latencies."""


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def latencies(milliseconds: Sequence[float], **more: float) -> Reading:
    """The reading of a run that took many times."""
    ordered = sorted(milliseconds)
    return Reading({"p50": quantile(ordered, 0.5), "p99": quantile(ordered, 0.99), "p99.9": quantile(ordered, 0.999), **more}, tuple(milliseconds))


def reading_of(case: Case, answer: Answer) -> Reading:
    """An answer in whatever form, as a reading."""
    if isinstance(answer, Reading):
        return answer
    return latencies(answer) if isinstance(answer, list) else Reading({case.figures[0].name: answer})
