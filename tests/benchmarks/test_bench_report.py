"""report.html holds every figure and needs nothing but itself; a comparison tells what changed from what is noise."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from callboard.actors.frontends.cli import main
from callboard.benchmarks.comparing import changed, changes
from callboard.benchmarks.harness import judge
from callboard.benchmarks.judging import median
from callboard.benchmarks.peers import PEERS
from callboard.benchmarks.peers.copiers import COPIERS
from callboard.benchmarks.plots import Bar, Mark, Scale, bars, gauge, slope
from callboard.benchmarks.report import report
from callboard.benchmarks.results import CaseResult, Row, Run, distributed, to_text
from callboard.benchmarks.scenario import SCENARIOS, Case, load
from callboard.benchmarks.tables import number

BYTES_MOST = 200_000
"""Of a report of all scenarios."""


def row(name: str, kind: str, size: int, case: Case, base: float, synced: bool = True) -> Row:
    made = Row(name, kind, size, synced, ("synced" if synced else "nothing") + 14 * "word ", "some 12.34.5 <&>")
    for position, figure in enumerate(case.figures):
        made.values[figure.name] = [base * (position + 1) * factor for factor in (1.0, 1.11, 0.93, 1.05, 1.2)]
    if {"p50", "p99"} <= set(made.values):
        made.distribution = distributed([base * (1 + number / 200) for number in range(1_000)])
    return made


def made_up() -> Run:
    """All scenarios, as if they had been run, with all peers where there are any."""
    run = Run({"cpu": "one <fast> & only", "python": "3"}, False, 5, seconds=60)
    for name in SCENARIOS:
        scenario = load(name)
        run.scenarios[name] = scenario.text
        for case in scenario.cases:
            result = CaseResult(name, case.name, case.text, list(case.figures))
            for size in case.full:
                result.rows += [row(who.name, who.kind, size, case, 1_234.5 + position, who.synced) for position, who in enumerate(case.contenders)]
                some = [copier.name for copier in COPIERS] if case.peers == "copy" else PEERS if case.peers else ()
                result.rows += [row(peer, "peer", size, case, 50.0 * n + 7, n % 2 > 0) for n, peer in enumerate(some, 1)]
            result.judged = [judge(goal, case, result) for goal in case.goals]
            run.cases.append(result)
    run.cases[-1].rows.append(Row("<script>", "peer", run.cases[-1].rows[0].size, False, "", cannot="has no <batches>"))
    return run


class Page(HTMLParser):
    """What a browser would be told to fetch, and what it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.shown = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "xlink:href", "data")]

    def handle_data(self, data: str) -> None:
        self.shown += f" {data} "


def test_the_report_has_every_figure_and_needs_nothing_from_elsewhere() -> None:
    run = made_up()
    text = report(run)
    page = Page(text)
    for case in run.cases:
        assert f" {case.scenario} " in page.shown and case.text in page.shown
        for each in case.rows:
            assert all(number(median(values)) in page.shown for values in each.values.values()), (case.name, each.contender)
    for _, judged in run.judged:
        assert judged.text in page.shown
    assert all(link.startswith("#") for link in page.links) and "url(" not in text and "@import" not in text and "://" not in text
    assert not {"script", "link", "img", "iframe"} & page.tags and "<script>" in page.shown and "has no <batches>" in page.shown
    assert len(text.encode()) < BYTES_MOST and len(to_text(run).encode()) < BYTES_MOST


def test_no_number_of_a_plot_is_none() -> None:
    """As "nan" or "inf" would be, which a browser draws at nought."""
    coordinates = re.findall(r'(?: d|x|y|cx|cy|width|height|points)="([^"]*)"', report(made_up()))
    assert len(coordinates) > 1_000 and not re.search("[a-z]", "".join(coordinates))


def test_a_case_that_was_not_run_says_why() -> None:
    run = Run({}, True, 3, {"noop": "Nothing."}, [CaseResult("noop", "many", "jobs", [], skipped="the time was up")])
    assert "Not run: the time was up" in Page(report(run)).shown


def test_far_values_stand_on_a_logarithmic_axis_and_near_ones_on_one_from_nought() -> None:
    far, near = Scale.of([1, 1_000], 0, 100), Scale.of([8, 10], 0, 100)
    assert far.log and not near.log and near.at(0) == 0
    assert far.at(1) < far.at(31.6) < far.at(1_000) <= 100 and {1, 10, 100, 1_000} <= set(far.ticks()) | {1}
    some = [Bar("a", 1, 1, 1, "1", "ours", "g"), Bar("b", 1_000, 900, 1_100, "1,000", "peer", "g")]
    assert "logarithmic" in bars(some, [Mark(10, "goal", "goal")], "t") and "logarithmic" not in bars(some[:1], [], "t")


def test_the_slope_is_the_exponent() -> None:
    assert slope([(10, 7), (100, 70), (1_000, 700)]) == pytest.approx(1.0)
    assert slope([(10, 7), (1_000, 7)]) == pytest.approx(0.0) and slope([(10, 7)]) == 0.0


def test_right_of_the_gauges_middle_is_better() -> None:
    def dot(text: str) -> float:
        return float(re.search(r'cx="([\d.]+)"', text)[1])  # type: ignore[index]

    assert dot(gauge(1, 2, 3, 1, True, "reached")) > 55 > dot(gauge(1, 2, 3, 1, False, "missed"))
    assert gauge(0, 0, 0, 1, True, "reached") == ""


# --- comparing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([100, 110, 105], [200, 210, 205], True),
        ([100, 110, 105], [50, 55, 52], True),
        ([100, 110, 105], [104, 114, 109], False),
        ([100, 110, 105], [111, 121, 115], False),
        ([100, 300, 200], [310, 320, 330], False),
        ([100, 100, 190], [180, 201, 201], False),
        ([100, 110], [200, 210], False),
    ],
    ids=["twice", "half", "overlap", "apart by less than the spread", "one is wide", "one value among the others", "too few"],
)
def test_a_change_is_beyond_noise_or_none(old: list[float], new: list[float], expected: bool) -> None:
    assert changed(old, new) == changed(new, old) == expected


def one_run(**values: list[float]) -> Run:
    scenario = load("noop")
    case = scenario.cases[0]
    rows = [Row(name, "ours", 100, True, "", values={"jobs/s": some}) for name, some in values.items()]
    return Run({"cpu": "one"}, False, 3, {}, [CaseResult("noop", case.name, case.text, list(case.figures), rows)])


def test_two_results_are_compared_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = one_run(a=[100, 101, 102], b=[100, 101, 102], c=[1, 1, 1]), one_run(a=[50, 51, 52], b=[101, 100, 102], d=[1, 1, 1])
    new.machine["cpu"] = "another"
    for name, run in (("old.json", old), ("new.json", new)):
        (tmp_path / name).write_text(to_text(run))
    assert main(["bench", "--compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "not the same cpu: one -> another",
        "worse  noop: many (100), a: 101 -> 51.0 jobs/s (0.50 times)",
        "1 of 2 figures changed beyond noise",
    ]
    assert list(changes(old, one_run(z=[1, 1, 1]))) == ["nothing to compare: no contender at one size is in both"]
    (tmp_path / "new.json").write_text("{}")
    assert main(["bench", "--compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 2
