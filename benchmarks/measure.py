"""How figures are taken: ours and the raw limit in turn, in one run; medians of the pairs, and their spread. Ratios decide, absolutes inform."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line of a result."""

    name: str
    ours: float
    raw: float
    unit: str
    ratio: float
    """Ours against the raw limit; above 1 is better for us."""
    spread: float
    """Highest ratio of the pairs over the lowest."""
    goal: str


def pairs(
    name: str, ours: Callable[[], float], raw: Callable[[], float], *, unit: str, goal: str, repeats: int, higher_is_better: bool = True
) -> Figure:
    """Run the two in turn, once unmeasured and then `repeats` times. Each answers its own figure."""
    ours()
    raw()
    found = [(ours(), raw()) for _ in range(repeats)]
    ratios = [a / b if higher_is_better else b / a for a, b in found]
    return Figure(
        name,
        statistics.median(a for a, _ in found),
        statistics.median(b for _, b in found),
        unit,
        statistics.median(ratios),
        max(ratios) / min(ratios),
        goal,
    )


def show(figures: list[Figure], as_json: bool) -> None:
    """A table, or a JSON object a line."""
    for figure in figures:
        if as_json:
            print(json.dumps(asdict(figure)))
        else:
            print(
                f"{figure.name:<58} {figure.ours:>12,.2f} {figure.unit:<9} raw {figure.raw:>12,.2f}  ratio {figure.ratio:6.2f}"
                f"  (spread {figure.spread:4.2f})  goal: {figure.goal}"
            )
        sys.stdout.flush()


def options(description: str | None) -> argparse.Namespace:
    """The options that every script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=5, help="measured pairs (default 5)")
    parser.add_argument("--dir", type=Path, default=None, help="where to work (default: the temporary folder); it decides what a sync costs")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


@contextmanager
def scratch(where: Path | None) -> Iterator[Path]:
    """An empty folder, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def busy_threads(count: int) -> Iterator[None]:
    """So many Python threads that only count, as a host's own work may: each holds the GIL for whole switch intervals."""
    stop = False

    def spin() -> None:
        number = 0
        while not stop:
            number += 1

    threads = [threading.Thread(target=spin, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop = True
        for thread in threads:
            thread.join()


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
