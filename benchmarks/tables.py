"""A case as lines of text: each contender with its medians, spread and ratios, then each goal with its verdict."""

from __future__ import annotations

from collections.abc import Iterator

from callboard.benchmarks.harness import best_peer, raw_limit
from callboard.benchmarks.judging import NOISE, Judged, median, ratios, spread
from callboard.benchmarks.results import CaseResult, Row
from callboard.benchmarks.scenario import Figure

NAME_WIDTH = 30


def number(value: float) -> str:
    """Three or four digits that count: 25,200; 0.72; 13.1."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 or not size else f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.2g}"


def noisy(values: list[float], least: float = 0.0) -> str:
    """The mark of a figure that is not to be read to its digits; empty if there is none."""
    return f"spread {spread(values, least):.1f}: noise" if spread(values, least) > NOISE else ""


def compared(result: CaseResult, row: Row, figure: Figure) -> list[str]:
    """`0.44 × raw`, `1.6 × huey`: of pairs of one round, the best peer at equal durability."""
    found = []
    for other in (raw_limit(result, row.size), best_peer(result, row.size, figure.name, figure.higher_is_better)):
        if other is not None and other is not row and row.kind == "ours":
            pairs = ratios(row.values.get(figure.name, []), other.values.get(figure.name, []))
            if pairs:
                text = f"{number(median(pairs))} × {'raw' if other.kind == 'raw' else other.contender}"
                found.append(text + (f" ({noisy(pairs)})" if noisy(pairs) else ""))
    return found


def name_of(result: CaseResult, row: Row) -> str:
    return f"{row.contender}, {row.size:,}" if len(result.sizes) > 1 else row.contender


def table(result: CaseResult) -> Iterator[str]:
    """The lines of a case."""
    size = f" ({result.sizes[0]:,})" if len(result.sizes) == 1 else ""
    yield f"{result.scenario}: {result.name}{size}: {result.text}"
    if result.skipped:
        yield f"  not run: {result.skipped}"
    for row in result.rows:
        synced = "" if not row.values else "synced" if row.synced else "NOT synced"
        yield f"  {name_of(result, row):<{NAME_WIDTH}} {synced:<11} {'; '.join(_cells(result, row))}"
    for judged in result.judged:
        yield f"  {goal_text(judged)}"


def _cells(result: CaseResult, row: Row) -> Iterator[str]:
    for position, figure in enumerate(result.figures):
        values = row.values.get(figure.name, [])
        if not values:
            continue
        label = "" if figure.name == figure.unit else f"{figure.name} "
        noise = noisy(values, figure.least)
        more = [noise or f"spread {spread(values, figure.least):.1f}", *compared(result, row, figure)] if position == 0 else [noise]
        told = ", ".join(text for text in more if text)
        yield f"{label}{number(median(values))} {figure.unit}" + (f" ({told})" if told else "")
    if row.cannot:
        yield ("FAILED: " if row.failed else "cannot: ") + row.cannot


def goal_text(judged: Judged) -> str:
    """`goal jobs/s ≥ 20,000: reached, 25,200 (24,100 to 26,000)`."""
    values = f", {number(judged.value)} ({number(judged.low)} to {number(judged.high)})" if judged.low or judged.high else ""
    why = f" ({judged.why})" if judged.why else ""
    return f"{'goal' if judged.firm else 'aim '} {judged.who}, {judged.text}: {judged.verdict.upper()}{values}{why}"
