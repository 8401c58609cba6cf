"""report.html: what was measured, as a page that needs nothing but itself; light or dark as the reader has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from callboard.benchmarks.harness import raw_limit
from callboard.benchmarks.judging import NOISE, Judged, median, spread
from callboard.benchmarks.plots import Bar, Curve, Mark, bars, distribution, gauge, series, slope
from callboard.benchmarks.results import CaseResult, Row, Run
from callboard.benchmarks.scenario import Figure
from callboard.benchmarks.tables import compared, name_of, noisy, number

STYLE = """
:root{--bg:#fbfaf8;--ink:#23262b;--soft:#6d7278;--rule:#e3e0da;--card:#fff;--ours:#1f6feb;--raw:#9aa1a9;--peer:#c9a227;--good:#1a7f37;--bad:#c4322b;
--dim:#8a6d1a;--p1:#b0552f;--p2:#7d5ba6;--p3:#2a8c82;--p4:#b23a77;--p5:#6b7d2a}
@media(prefers-color-scheme:dark){:root{--bg:#15171a;--ink:#e2e4e7;--soft:#9097a0;--rule:#2c3036;--card:#1c1f23;--ours:#62a1ff;--raw:#767e88;
--peer:#d8b64a;--good:#4cc46a;--bad:#ff7b72;--dim:#e0b94c;--p1:#e08a63;--p2:#b795e0;--p3:#5cc4b8;--p4:#e67db1;--p5:#b1c466}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:860px;margin:0 auto;padding:40px 24px 80px}h1{font-size:30px;margin:0 0 4px;letter-spacing:-.02em}
h2{font-size:21px;margin:56px 0 4px;padding-top:20px;border-top:1px solid var(--rule)}h3{font-size:15px;margin:0 0 2px}
p{margin:4px 0 14px}.soft,.doc,caption{color:var(--soft)}.doc{font-size:14px}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:16px 18px;margin:14px 0}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}th{text-align:left;font-weight:600;color:var(--soft)}
td,th{padding:4px 10px 4px 0;border-bottom:1px solid var(--rule);vertical-align:top}tr:last-child td{border-bottom:0}
td i{display:block;font-style:normal;color:var(--soft)}td i.noise{color:var(--dim)}.n{text-align:right;white-space:nowrap}.ours td{font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr max-content 1fr;
gap:0 14px;font-size:13px;margin:10px 0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.pill{display:inline-block;min-width:64px;padding:0 8px;border-radius:9px;font-size:12px;text-align:center;border:1px solid currentColor}
.reached{color:var(--good)}.missed,.failed{color:var(--bad)}.unclear,.noise{color:var(--dim)}.not{color:var(--soft)}
svg.gauge{width:110px;margin:2px 0 0;display:inline-block}.gauge circle.reached{fill:var(--good)}.gauge circle{fill:var(--dim)}
.gauge circle.missed,.gauge circle.failed{fill:var(--bad)}.chips{font-size:13px;margin:0 0 8px}.chips span+span{margin-left:12px}
code{font-size:.94em}.axis{color:var(--soft);margin:8px 0 0;font-size:12px}a{color:inherit}
summary{cursor:pointer;font-size:13px;color:var(--soft);margin-top:8px}
svg{display:block;width:100%;height:auto;margin:6px 0}svg text{font:12.5px system-ui,sans-serif;fill:var(--ink);
paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
svg .small{font-size:11px;fill:var(--soft)}
svg text.ours{font-weight:600;fill:var(--ours)}svg text.raw,svg text.bare{fill:var(--soft)}.grid{stroke:var(--rule)}.bar.ours{fill:var(--ours)}
.bar.raw,.bar.bare{fill:var(--raw)}.bar.peer{fill:var(--peer)}.whisker{stroke:var(--ink);stroke-width:1.5;opacity:.55}
.goal{stroke:var(--good);stroke-dasharray:5 3;stroke-width:1.5}.limit{stroke:var(--raw);stroke-dasharray:1.5 3;stroke-width:1.5}
svg text.goal,svg text.limit{stroke:var(--card);stroke-width:4px;stroke-dasharray:none}svg text.goal{fill:var(--good)}.curve{fill:none;stroke-width:2}
.curve.ours{stroke:var(--ours);stroke-width:2.6}
.dots.ours{fill:var(--ours)}.curve.raw,.curve.bare{stroke:var(--raw)}.dots.raw,.dots.bare{fill:var(--raw)}.curve.peer{stroke:var(--peer)}.dots.peer{fill:var(--peer)}
.curve.peer.n1{stroke:var(--p1)}.curve.peer.n2{stroke:var(--p2)}.curve.peer.n3{stroke:var(--p3)}.curve.peer.n4{stroke:var(--p4)}
.curve.peer.n5{stroke:var(--p5)}
svg g.curves text.peer.n0{fill:var(--peer)}svg text.peer.n1{fill:var(--p1)}svg text.peer.n2{fill:var(--p2)}svg text.peer.n3{fill:var(--p3)}
svg text.peer.n4{fill:var(--p4)}svg text.peer.n5{fill:var(--p5)}svg text.group{font-style:italic}
"""
HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
SYNCED, UNSYNCED = "on disk when acknowledged", "not on disk when acknowledged"


def report(run: Run) -> str:
    """The whole page."""
    parts = [*_head(run), *_goals(run)]
    for name, text in run.scenarios.items():
        parts.append(f'<h2 id="{escape(name)}">{escape(name)}</h2>')
        parts += [f'<p class="doc">{_prose(paragraph)}</p>' for paragraph in text.split("\n\n")]
        for case in run.cases:
            if case.scenario == name:
                parts += _case(case)
    return f'{HEAD}<title>callboard bench</title><style>{STYLE}</style><main>{"".join(parts)}</main></html>\n'


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(text.split())))


def _head(run: Run) -> Iterator[str]:
    kind, rounds = "A quick run" if run.quick else "A full run", "1 round" if run.repeats == 1 else f"{run.repeats} rounds"
    yield f'<h1>callboard bench</h1><p class="soft">{kind}: {rounds}, {run.seconds / 60:.1f} minutes. Contenders took turns; each value'
    yield f" is the median of its rounds, a thin line goes from the lowest to the highest. Beyond a spread of {NOISE:g} it is noise, and decides"
    yield " nothing. Ratios are medians of pairs of one round.</p><dl>"
    yield from (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in run.machine.items())
    yield "</dl>"


def _goals(run: Run) -> Iterator[str]:
    firm = [(case, judged) for case, judged in run.judged if judged.firm]
    if not run.judged:
        return
    told = ", ".join(f"{sum(judged.verdict == kind for _, judged in firm)} {kind}" for kind in ("reached", "missed", "unclear", "not run", "failed"))
    yield f'<h2 id="goals">Goals</h2><p class="soft">{told}; aims go beyond the goals.</p><div class="card"><table>'
    yield "<tr><th>verdict<th>what<th>goal<th>worse | better<th class=n>median<th class=n>lowest to highest</tr>"
    for case, judged in run.judged:
        why = _span("soft", f" ({judged.why})") if judged.why else ""
        yield f'<tr><td>{_pill(judged)}<td><a href="#{escape(case.scenario)}">{escape(case.scenario)}: {escape(case.name)}</a>{why}'
        yield f"<td>{'' if judged.firm else 'aim: '}{escape(judged.text)}<td>"
        yield gauge(judged.low, judged.value, judged.high, judged.bound, _better(case, judged), judged.verdict) + "<td class=n>"
        yield f"{number(judged.value)}<td class=n>{number(judged.low)} to {number(judged.high)}</tr>" if judged.high else "<td></tr>"
    yield "</table></div>"


def _better(case: CaseResult, judged: Judged) -> bool:
    return next(figure.higher_is_better for figure in case.figures if figure.name == judged.figure)


def _span(classes: str, text: str) -> str:
    return f'<span class="{classes}">{escape(text)}</span>'


def _pill(judged: Judged) -> str:
    return _span(f"pill {judged.verdict.split()[0]}", judged.verdict)


# --- a case -------------------------------------------------------------------------------------------------------------


def _case(case: CaseResult) -> Iterator[str]:
    size = f" ({case.sizes[0]:,})" if len(case.sizes) == 1 else ""
    yield f'<div class="card"><h3>{escape(case.name)}{size}</h3><p class="soft">{escape(case.text)}</p>'
    if case.judged:
        chips = (f"<span>{_pill(judged)} {'' if judged.firm else 'aim: '}{escape(judged.text)}</span>" for judged in case.judged)
        yield f'<p class="chips">{"".join(chips)}</p>'
    if case.skipped:
        yield f'<p class="{"failed" if case.failed else "not"}">Not run: {escape(case.skipped)}.</p></div>'
        return
    yield from _drawn(case)
    yield f"<details><summary>figures</summary>{''.join(_table(case))}</details></div>"


def _drawn(case: CaseResult) -> Iterator[str]:
    if any(row.distribution for row in case.rows):
        yield _distribution(case)
        return
    judged = {judged.figure for judged in case.judged}
    for position, figure in enumerate(case.figures):
        if position == 0 or figure.name in judged:
            if len(case.sizes) > 1:
                yield _series(case, figure)
            elif any(row.values.get(figure.name) for row in case.rows):
                yield _bars(case, figure)


def _title(figure: Figure) -> str:
    return f"{figure.name if figure.name != figure.unit else figure.unit}: {'more' if figure.higher_is_better else 'less'} is better"


def _bars(case: CaseResult, figure: Figure) -> str:
    rows = []
    for row in sorted(case.rows, key=lambda row: median(row.values.get(figure.name, [])), reverse=figure.higher_is_better):
        values = row.values.get(figure.name, [])
        if values:
            label = f"{number(median(values))} {figure.unit}" + (" (noise)" if noisy(values, figure.least) else "")
            group = SYNCED if row.synced else UNSYNCED
            rows.append(Bar(row.contender, median(values), min(values), max(values), label, row.kind, group))
    rows.sort(key=lambda bar: bar.group == UNSYNCED)
    return f'<p class="axis">{escape(_title(figure))}</p>' + bars(rows, _marks(case, figure), _title(figure))


def _marks(case: CaseResult, figure: Figure) -> list[Mark]:
    """The firm goals of a figure, in its own unit, and the raw limit; of a series those of its largest size."""
    size = max(case.sizes)
    limit = raw_limit(case, size)
    raw = limit.values.get(figure.name, []) if limit is not None else []
    marks = [Mark(median(raw), "raw limit", "limit")] if raw and len(case.sizes) == 1 else []
    for judged in case.judged:
        if not judged.firm or judged.figure != figure.name:
            continue
        if judged.against == "itself":
            marks.append(Mark(judged.bound, "goal", "goal"))
        elif judged.against == "raw" and raw:
            marks.append(Mark(judged.bound * median(raw), f"goal: {judged.bound:g} × raw", "goal"))
        elif judged.against == "smallest":
            first = case.row(judged.who, min(case.sizes))
            values = first.values.get(figure.name, []) if first is not None else []
            marks += [Mark(judged.bound * median(values), f"goal: {judged.bound:g} × the smallest", "goal")] if values else []
    return marks


def _distribution(case: CaseResult) -> str:
    rows = sorted((row for row in case.rows if row.distribution), key=lambda row: row.kind != "peer")
    samples = [(row.contender, row.kind, row.distribution) for row in rows]
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    marks = [(shares[judged.figure], Mark(judged.bound, f"goal {judged.bound:g} ms", "goal")) for judged in case.judged if judged.firm]
    text = "milliseconds, by the share of all that took no longer; of all rounds together"
    return f'<p class="axis">{text}</p>' + distribution(samples, marks, text)


def _series(case: CaseResult, figure: Figure) -> str:
    curves = []
    for number_of, name in enumerate(dict.fromkeys(row.contender for row in case.rows)):
        found = [row for row in case.rows if row.contender == name and row.values.get(figure.name)]
        points = tuple((float(row.size), median(row.values[figure.name])) for row in found if median(row.values[figure.name]) > 0)
        if points:
            curves.append(Curve(f"{name} ~ n^{slope(points):.2f}", points, found[0].kind, number_of))
    if not curves:
        return ""
    text = f"{_title(figure)}; against the size n"
    return f'<p class="axis">{escape(text)}</p>' + series(curves, _marks(case, figure), figure.unit, text)


def _table(case: CaseResult) -> Iterator[str]:
    """Every median, its spread, its ratios; and what each contender promises."""
    names = (figure.name + (f", {figure.unit}" if figure.unit != figure.name else "") for figure in case.figures)
    heads = "".join(f"<th class=n>{escape(name)}" for name in names)
    yield f"<table><tr><th>who{heads}<th>compared<th>durability</tr>"
    for row in case.rows:
        version = f"<i>{escape(row.version)}</i>" if row.version else ""
        yield f'<tr class="{row.kind}"><td>{escape(name_of(case, row))}{version}'
        yield from (_cell(row, figure) for figure in case.figures)
        told = "; ".join(f"{figure.name} {text}" for figure in case.figures for text in compared(case, row, figure))
        cannot = _span("missed", f"{'FAILED' if row.failed else 'cannot'}: {row.cannot}") if row.cannot else ""
        yield f"<td>{escape(told)}{cannot}<td>{escape(row.claim)}</tr>"
    yield "</table>"


def _cell(row: Row, figure: Figure) -> str:
    values = row.values.get(figure.name, [])
    if not values:
        return "<td>"
    noise = noisy(values, figure.least)
    told = f'<i class="noise">{noise}</i>' if noise else f"<i>spread {spread(values, figure.least):.1f}</i>"
    return f"<td class=n>{number(median(values))}{told}"
