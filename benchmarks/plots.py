"""Small SVG plots, drawn by hand: bars, a distribution, a series. Colours are classes, so that the page decides light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT = 760, 210, 130
BAR, TOP, BOTTOM = 24, 26, 26
HEIGHT = 250
"""Of a plot with two axes."""
LOG_FROM = 12.0
"""Highest over lowest value from which on an axis is logarithmic."""


def short(value: float) -> str:
    """For axes: 20k, 1.5M, 0.1."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class Scale:
    """Values to pixels, along one axis."""

    low: float
    high: float
    begin: float
    end: float
    log: bool

    @classmethod
    def of(cls, values: Sequence[float], begin: float, end: float, *, zero: bool = True, log: bool | None = None) -> Scale:
        """Around these values. `zero`: a linear axis begins there; `log` None: if they lie far from each other."""
        above = [value for value in values if value > 0]
        low, high = min(above, default=1.0), max(above, default=1.0)
        if log if log is not None else high / low > LOG_FROM and len(above) == len(values):
            return cls(low / 1.6, high * 1.15, begin, end, True)
        return cls(0.0 if zero else low, high * 1.08, begin, end, False)

    def at(self, value: float) -> float:
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.begin + min(1.0, max(0.0, share)) * (self.end - self.begin), 1)

    def ticks(self) -> list[float]:
        if not self.log:
            raw = (self.high - self.low) / 5 or 1.0
            power = 10.0 ** math.floor(math.log10(raw))
            step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
            return [step * number for number in range(math.ceil(self.low / step), int(self.high / step) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        reach = self.high / self.low
        factors = (1,) if reach > 10_000 else (1, 3) if reach > 80 else (1, 2, 5) if reach > 10 else (1, 1.5, 2, 3, 5, 7)
        return [each for decade in decades for factor in factors if self.low <= (each := factor * 10.0**decade) <= self.high]


def _text(x: float, y: float, words: str, classes: str = "", anchor: str = "start") -> str:
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}" class="{classes}"{where}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, classes: str) -> str:
    return f'<path d="M{x1:g},{y1:g}L{x2:g},{y2:g}" class="{classes}"/>'


def _lines(ends: Sequence[tuple[float, float, float, float]], classes: str) -> str:
    """Many of one class, as one."""
    path = "".join(f"M{x1:g},{y1:g}L{x2:g},{y2:g}" for x1, y1, x2, y2 in ends)
    return f'<path d="{path}" class="{classes}"/>'


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img"><title>{escape(title)}</title>{"".join(parts)}</svg>'


# --- bars ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """A contender's figure."""

    name: str
    value: float
    low: float
    high: float
    label: str
    kind: str
    """"ours", "raw" or "peer": its class."""
    group: str
    """Bars of equal durability stand together under this."""


@dataclass(frozen=True)
class Mark:
    """A goal or a limit that is drawn in."""

    value: float
    label: str
    kind: str
    """"goal" or "limit"."""


def bars(rows: Sequence[Bar], marks: Sequence[Mark], title: str) -> str:
    """A bar each, in groups; a whisker from the lowest to the highest value; marks as lines from top to bottom."""
    values = [value for row in rows for value in (row.value, row.high, row.low)] + [mark.value for mark in marks]
    scale = Scale.of(values, LEFT, WIDTH - RIGHT)
    groups = list(dict.fromkeys(row.group for row in rows))
    heights = TOP + sum(18 + BAR * sum(row.group == group for row in rows) for group in groups)
    parts = [_lines([(scale.at(tick), TOP - 4, scale.at(tick), heights) for tick in scale.ticks()], "grid")]
    parts += [_text(scale.at(tick), heights + 16, short(tick), "small", "middle") for tick in scale.ticks()]
    if scale.log:
        parts.append(_text(LEFT - 10, heights + 16, "logarithmic", "small", "end"))
    y, labels = float(TOP), []
    for group in groups:
        parts.append(_text(0, y + 12, group, "small group"))
        y += 18
        for row in (row for row in rows if row.group == group):
            end, begin = scale.at(row.value), scale.at(0.0)
            parts.append(_text(LEFT - 10, y + 15, row.name, row.kind, "end"))
            parts.append(f'<rect x="{begin:g}" y="{y + 3:g}" width="{max(1.5, end - begin):g}" height="{BAR - 7}" rx="3" class="bar {row.kind}"/>')
            if row.high > row.low:
                parts.append(_line(scale.at(row.low), y + 11.5, scale.at(row.high), y + 11.5, "whisker"))
            labels.append(_text(max(end, scale.at(row.high)) + 7, y + 15, row.label, row.kind))
            y += BAR
    return _svg(heights + BOTTOM, [*parts, *_marked(marks, scale, heights), *labels], title)


def _marked(marks: Sequence[Mark], scale: Scale, bottom: float) -> list[str]:
    """Vertical lines, their labels above; two that are close to each other point away from each other."""
    parts = []
    ordered = sorted(marks, key=lambda mark: mark.value)
    for number, mark in enumerate(ordered):
        x = scale.at(mark.value)
        tight = number + 1 < len(ordered) and scale.at(ordered[number + 1].value) - x < 150
        anchor, shift = ("end", -4) if tight and x > LEFT + 60 else ("start", 4)
        parts += [_line(x, 4, x, bottom, mark.kind), _text(x + shift, 13, mark.label, f"small {mark.kind}", anchor)]
    return parts


# --- curves -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """A contender's points."""

    name: str
    points: tuple[tuple[float, float], ...]
    kind: str
    number: int = 0
    """Which of its kind: its shade."""


NAMED_SHARES = (0.0, 0.5, 0.9, 0.99, 0.999)


def distribution(samples: Sequence[tuple[str, str, Sequence[Sequence[float]]]], marks: Sequence[tuple[float, Mark]], title: str) -> str:
    """Milliseconds against the share of runs that took no longer, each nine as wide as the one before.

    `samples`: (name, kind, (share, milliseconds)...); `marks`: (share, bound).
    """
    curves = [
        Curve(name, tuple((_nines(share), value) for share, value in points), kind, number) for number, (name, kind, points) in enumerate(samples)
    ]
    last = max(x for curve in curves for x, _ in curve.points)
    x_scale = Scale(0.0, max(last, _nines(0.99)), 60, WIDTH - 190, False)
    named = [(_nines(share), "min" if not share else f"p{100 * share:g}") for share in NAMED_SHARES if _nines(share) <= x_scale.high + 0.01]
    return _curves(curves, [(_nines(share), mark) for share, mark in marks], x_scale, named, "ms", title)


def _nines(share: float) -> float:
    return -math.log10(1 - share) if share < 1 else 4.0


def series(curves: Sequence[Curve], marks: Sequence[Mark], unit: str, title: str) -> str:
    """A figure against the size, both logarithmic."""
    sizes = sorted({x for curve in curves for x, _ in curve.points})
    x_scale = Scale(sizes[0], max(sizes[-1], sizes[0] * 1.01), 60, WIDTH - 190, True)
    named = [(size, short(size)) for size in sizes]
    return _curves(curves, [(0.0, mark) for mark in marks], x_scale, named, unit, title)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent: y grows as x to the power of this. Least squares of the logarithms; 0.0 for fewer than two points."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len(logs) < 2:
        return 0.0
    middle_x, middle_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    across = sum((x - middle_x) ** 2 for x, _ in logs)
    return sum((x - middle_x) * (y - middle_y) for x, y in logs) / across if across else 0.0


def _curves(
    curves: Sequence[Curve], marks: Sequence[tuple[float, Mark]], x_scale: Scale, named: Sequence[tuple[float, str]], unit: str, title: str
) -> str:
    bottom = HEIGHT - BOTTOM
    values = [y for curve in curves for _, y in curve.points] + [mark.value for _, mark in marks]
    y_scale = Scale.of(values, bottom, TOP, log=True)
    parts = [_lines([(x_scale.begin, y_scale.at(tick), x_scale.end, y_scale.at(tick)) for tick in y_scale.ticks()], "grid")]
    parts += [_text(52, y_scale.at(tick) + 4, short(tick), "small", "end") for tick in y_scale.ticks()]
    parts += [_text(x_scale.at(x), bottom + 18, name, "small", "middle") for x, name in named]
    parts.append(_text(52, 12, unit, "small", "end"))
    for from_x, mark in marks:
        y, x = y_scale.at(mark.value), x_scale.at(from_x)
        begin, end = (x - 26, x + 26) if from_x else (x_scale.begin, x_scale.end)
        parts += [_line(begin, y, end, y, mark.kind), _text(end, y - 5, mark.label, f"small {mark.kind}", "end")]
    parts.append('<g class="curves">')
    taken: list[float] = []
    for curve in sorted(curves, key=lambda curve: curve.points[-1][1], reverse=True):
        path = " ".join(f"{x_scale.at(x):g},{y_scale.at(y):g}" for x, y in curve.points)
        parts.append(f'<polyline points="{path}" class="curve {curve.kind} n{curve.number % 6}"/>')
        if len(curve.points) < 8:
            dots = "".join(f'<circle cx="{x_scale.at(x):g}" cy="{y_scale.at(y):g}" r="3.2"/>' for x, y in curve.points)
            parts.append(f'<g class="dots {curve.kind} n{curve.number % 6}">{dots}</g>')
        y = max([y_scale.at(curve.points[-1][1]), *(each + 14 for each in taken[-1:])])
        taken.append(y)
        parts.append(_text(x_scale.at(curve.points[-1][0]) + 8, y + 4, curve.name, f"{curve.kind} n{curve.number % 6}"))
    return _svg(max(HEIGHT, max(taken, default=0) + 12), [*parts, "</g>"], title)


GAUGE = 4.0
"""A gauge reaches from this many times worse than the goal to as many times better."""


def gauge(low: float, value: float, high: float, bound: float, higher_is_better: bool, verdict: str) -> str:
    """Where the values lie beside a goal, which is the line in the middle; right of it is better. Logarithmic."""
    if not (bound > 0 and high > 0):
        return ""

    def at(one: float) -> float:
        share = math.log((one if one > 0 else bound / GAUGE) / bound, GAUGE) * (1 if higher_is_better else -1)
        return round(55 + 50 * min(1.0, max(-1.0, share)), 1)

    dot = f'<circle cx="{at(value):g}" cy="7" r="4" class="{verdict}"/>'
    parts = (_line(5, 7, 105, 7, "grid"), _line(55, 0, 55, 14, "goal"), _line(at(low), 7, at(high), 7, "whisker"), dot)
    return f'<svg class="gauge" viewBox="0 0 110 14" role="img"><title>{escape(verdict)}</title>{"".join(parts)}</svg>'
