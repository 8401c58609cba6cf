"""What was measured, as data: every single value, written to results.json and read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from callboard.benchmarks.judging import Judged
from callboard.benchmarks.scenario import Figure
from callboard.jobs.errors import BadArgument

SCHEMA = 2
"""Of results.json; a reader refuses another."""
SHARES = (0.0, 0.1, 0.25, 0.5, 0.65, 0.75, 0.82, 0.87, 0.9, 0.93, 0.95, 0.97, 0.98, 0.985, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999, 0.9995)
"""Of which latencies are kept."""


@dataclass
class Row:
    """A contender at a size."""

    contender: str
    kind: str
    size: int
    synced: bool
    claim: str
    version: str = ""
    cannot: str = ""
    """Why it has no values, or no more of them."""
    failed: bool = False
    """`cannot` is an error that nobody expected."""
    values: dict[str, list[float]] = field(default_factory=dict)
    """Figure → a value for each round."""
    distribution: list[list[float]] = field(default_factory=list)
    """Of latencies: [share, milliseconds that so many took no longer], over all rounds together."""


@dataclass
class CaseResult:
    """What came of a case."""

    scenario: str
    name: str
    text: str
    figures: list[Figure]
    rows: list[Row] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    skipped: str = ""
    """Why it was not run."""
    failed: bool = False
    """`skipped` is an error of the harness, or of what it stands on."""
    seconds: float = 0.0
    """How long all of it took."""

    @property
    def sizes(self) -> list[int]:
        return sorted({row.size for row in self.rows})

    def row(self, contender: str, size: int) -> Row | None:
        return next((row for row in self.rows if (row.contender, row.size) == (contender, size)), None)


@dataclass
class Run:
    """All of it."""

    machine: dict[str, str]
    quick: bool
    repeats: int
    scenarios: dict[str, str] = field(default_factory=dict)
    """Name → its docstring."""
    cases: list[CaseResult] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def judged(self) -> list[tuple[CaseResult, Judged]]:
        return [(case, judged) for case in self.cases for judged in case.judged]

    @property
    def fell_short(self) -> bool:
        """Whether a firm goal is missed beyond doubt, or ours failed, or a case could not be judged at all."""
        return any(case.failed for case in self.cases) or any(judged.firm and judged.verdict in ("missed", "failed") for _, judged in self.judged)


def distributed(samples: Sequence[float]) -> list[list[float]]:
    """What `Row.distribution` keeps of latencies; shares that so few cannot tell are left out."""
    ordered = sorted(samples)
    return [[share, ordered[int(share * len(ordered))]] for share in SHARES if share <= 1 - 1 / max(1, len(ordered))] if ordered else []


def to_text(run: Run) -> str:
    """JSON, values rounded to what a clock can tell."""
    return json.dumps({"schema": SCHEMA, **_rounded(asdict(run))}, ensure_ascii=False)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, (list, tuple)) else value


def read(path: Path) -> Run:
    """A results.json. Raises BadArgument for anything else."""
    try:
        view = json.loads(path.read_text())
        if view["schema"] != SCHEMA:
            raise BadArgument(f"{str(path)!r} has schema {view['schema']!r:.20}, and this version reads {SCHEMA}")
        del view["schema"]
        cases = [_case(each) for each in view.pop("cases")]
        return Run(cases=cases, **view)
    except OSError as error:
        raise BadArgument(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadArgument(f"{str(path)!r} is no results.json of `callboard bench`: {error!r:.80}") from error


def _case(view: dict[str, Any]) -> CaseResult:
    view = dict(view)
    figures = [Figure(**each) for each in view.pop("figures")]
    rows = [Row(**each) for each in view.pop("rows")]
    judged = [Judged(**each) for each in view.pop("judged")]
    return CaseResult(figures=figures, rows=rows, judged=judged, **view)
