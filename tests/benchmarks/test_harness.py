"""The harness with contenders that only say numbers: who has a turn when, what a verdict is, and which exit code comes of it."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from callboard.benchmarks import command, harness, judging
from callboard.benchmarks.harness import Harness
from callboard.benchmarks.judging import median, ratios, spread, verdict
from callboard.benchmarks.results import CaseResult, Run, read, to_text
from callboard.benchmarks.scenario import Answer, Cannot, Case, Contender, Figure, Goal, Kind, Place, Reading, Scenario
from callboard.benchmarks.tables import number, table
from callboard.jobs.errors import BadArgument

RATE = Figure("jobs/s", "jobs/s", True)


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each reading the harness clears away garbage: in a process as full as that of the tests, a tenth of a second."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


class Script:
    """Contenders that answer the next of their numbers; the first is that of the unmeasured run."""

    def __init__(self) -> None:
        self.turns: list[str] = []
        self.places: list[Place] = []

    def who(self, name: str, *values: float, kind: Kind = "ours", synced: bool = True) -> Contender:
        rest: Iterator[float] = iter((1.0, *values))

        def run(at: Place) -> float:
            self.turns.append(name)
            self.places.append(at)
            return next(rest)

        return Contender(name, run, kind, synced)


def case(*contenders: Contender, goals: tuple[Goal, ...] = (), figure: Figure = RATE, sizes: tuple[int, ...] = (100,)) -> Case:
    return Case("case", "work", (figure,), contenders, full=sizes, quick=sizes, goals=goals)


def run(folder: Path, *cases: Case, repeats: int = 3) -> CaseResult:
    return next(Harness(folder, repeats=repeats).run(Scenario("fake", "Fake.", cases)))


def test_each_has_an_unmeasured_run_and_then_they_take_turns(tmp_path: Path) -> None:
    script = Script()
    result = run(tmp_path, case(script.who("A", 10, 20, 30), script.who("B", 1, 2, 3, kind="raw")))
    assert script.turns == ["A", "B"] + ["A", "B"] * 3
    assert [row.values["jobs/s"] for row in result.rows] == [[10, 20, 30], [1, 2, 3]]
    assert [at.size for at in script.places] == [10, 10] + [100, 100] * 3


def test_each_reading_has_an_empty_folder_and_none_is_left(tmp_path: Path) -> None:
    seen: list[Path] = []

    def run_in(at: Place) -> float:
        assert not list(at.folder.iterdir()) and at.ground.is_dir()
        (at.folder / "left").write_text("behind")
        seen.append(at.folder)
        return 1.0

    run(tmp_path, case(Contender("A", run_in)))
    assert len(set(seen)) == 4 and not list(tmp_path.iterdir())


def test_one_that_cannot_has_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    def cannot(at: Place) -> float:
        raise Cannot("has no batches")

    def fails(at: Place) -> float:
        raise ValueError("broken\nin two lines")

    script = Script()
    who = (Contender("C", cannot, "peer"), Contender("F", fails, "peer"), Contender("M", fails, "peer", missing=lambda: "pip install it"))
    result = run(tmp_path, case(script.who("A", 1, 2, 3), *who))
    assert [(row.cannot, row.failed) for row in result.rows] == [
        ("", False),
        ("has no batches", False),
        ("ValueError: broken in two lines", True),
        ("pip install it", False),
    ]
    text = "\n".join(table(result))
    assert "cannot: has no batches" in text and "FAILED: ValueError" in text and "cannot: pip install it" in text


def test_a_series_is_run_at_each_size_and_judged_at_the_largest(tmp_path: Path) -> None:
    def slower(at: Place) -> float:
        return 1_000.0 if at.size <= 10 else 700.0

    goals = (Goal("jobs/s", 0.8, "smallest"), Goal("jobs/s", 0.6, "smallest"))
    result = run(tmp_path, case(Contender("A", slower), sizes=(10, 1_000), goals=goals))
    assert result.sizes == [10, 1_000]
    assert [(judged.verdict, judged.value) for judged in result.judged] == [("missed", 0.7), ("reached", 0.7)]


def test_the_ratio_is_the_median_of_the_pairs_of_a_round(tmp_path: Path) -> None:
    script = Script()
    goal = Goal("jobs/s", 0.5, "raw")
    result = run(tmp_path, case(script.who("A", 10, 40, 30), script.who("raw", 20, 40, 50, kind="raw"), goals=(goal,)))
    assert (result.judged[0].value, result.judged[0].low, result.judged[0].high) == (0.6, 0.5, 1.0)
    assert "0.60 × raw" in "\n".join(table(result))


def test_the_best_peer_is_one_that_syncs_as_we_do(tmp_path: Path) -> None:
    script = Script()
    synced = script.who("slow", 5, 5, 5, kind="peer"), script.who("slower", 4, 4, 4, kind="peer")
    fast, bare = script.who("fast", 90, 90, 90, kind="peer", synced=False), script.who("bare", 80, 80, 80, kind="bare")
    result = run(tmp_path, case(script.who("A", 10, 10, 10), fast, bare, *synced, goals=(Goal("jobs/s", 1.5, "peer"),)))
    assert result.judged[0].value == 2.0
    assert "2.00 × slow" in "\n".join(table(result)) and "NOT synced" in "\n".join(table(result))


@pytest.mark.parametrize(
    ("values", "bound", "higher", "expected"),
    [
        ([10, 11, 12], 11, True, "reached"),
        ([10, 11, 12], 13, True, "missed"),
        ([10, 11, 12], 11.5, True, "unclear"),
        ([10, 11, 12], 11, False, "reached"),
        ([10, 11, 12], 9, False, "missed"),
        ([10, 11, 12], 10.5, False, "unclear"),
        ([10, 11, 10 * judging.NOISE + 1], 1, True, "unclear"),
        ([10, 11, 10 * judging.NOISE + 1], 100, True, "unclear"),
        ([12, 12], 1, True, "unclear"),
        ([], 1, True, "unclear"),
    ],
)
def test_noise_is_never_called_reached_or_missed(values: list[float], bound: float, higher: bool, expected: str) -> None:
    assert verdict(values, bound, higher)[0] == expected


def test_median_spread_and_ratios() -> None:
    assert (median([3, 1, 2]), median([]), spread([2, 4, 3]), spread([]), spread([0.0, 0.0])) == (2, 0.0, 2.0, 1.0, 1.0)
    assert spread([0.0, 1.0]) == float("inf") and spread([0.0, 0.1], least=0.2) == 1.0
    assert ratios([1, 2, 3], [2, 0]) == [0.5]
    assert [number(value) for value in (25_200.4, 13.14, 0.724, 0.0012, 0)] == ["25,200", "13.1", "0.72", "0.0012", "0"]


def test_a_figure_with_a_wide_spread_is_marked(tmp_path: Path) -> None:
    result = run(tmp_path, case(Script().who("A", 10, 50, 30), goals=(Goal("jobs/s", 1),)))
    text = "\n".join(table(result))
    assert "spread 5.0: noise" in text and "UNCLEAR" in text


def test_latencies_are_read_as_quantiles_and_each_is_kept(tmp_path: Path) -> None:
    who = Contender("A", lambda at: [float(number) for number in range(at.size)])
    result = run(tmp_path, replace(case(who), figures=(Figure("p50", "ms", False), Figure("p99", "ms", False))))
    assert result.rows[0].values == {"p50": [50.0] * 3, "p99": [99.0] * 3, "p99.9": [99.0] * 3}
    kept = {share: value for share, value in result.rows[0].distribution}
    assert (kept[0.0], kept[0.5], kept[0.99]) == (0, 50, 99) and max(kept) < 1


def test_a_case_without_room_on_the_disk_is_left_out_with_the_reason(tmp_path: Path) -> None:
    large = replace(case(Script().who("A"), goals=(Goal("jobs/s", 1),)), room=lambda size: 1 << 60)
    result = run(tmp_path, large)
    assert "GB of room" in result.skipped and not result.rows and result.judged[0].verdict == "not run"

    def full(ground: Path, sizes: tuple[int, ...]) -> None:
        raise OSError(28, "No space left on device")

    assert "No space left" in run(tmp_path, replace(large, room=lambda size: 0, prepare=full)).skipped


def test_after_its_limit_nothing_is_begun(tmp_path: Path) -> None:
    script = Script()
    late = list(Harness(tmp_path, limit=-1.0).run(Scenario("fake", "", (case(script.who("A", 1, 2, 3)),))))
    assert late[0].skipped == harness.TOO_LATE and script.turns == []


def test_a_reading_that_takes_too_long_is_broken_off_and_what_was_read_before_it_stays(tmp_path: Path) -> None:
    turns: list[Place] = []

    def stuck(at: Place) -> float:
        turns.append(at)
        if len(turns) == 4:
            signal.pause()
        return 5.0

    who = replace(case(Contender("A", stuck), goals=(Goal("jobs/s", 1),)), warm_up=lambda size: 1)
    first, second = Harness(tmp_path, limit=0.3, most=0.4).run(Scenario("fake", "", (who, replace(who, name="behind"))))
    assert first.rows[0].values["jobs/s"] == [5.0, 5.0] and first.judged[0].why == "2 of 3 values"
    assert second.skipped == harness.TOO_LATE and not list(tmp_path.iterdir())
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_beyond_the_rounds_that_decide_a_slow_case_begins_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "CASE_SECONDS", 0.0)
    assert run(tmp_path, case(Script().who("A", 1, 2, 3, 4, 5)), repeats=5).rows[0].values["jobs/s"] == [1, 2, 3]


def test_a_quick_run_has_only_the_cases_with_a_quick_size(tmp_path: Path) -> None:
    script = Script()
    goals = (Goal("jobs/s", 1), Goal("jobs/s", 2, quick=False))
    some = (replace(case(script.who("A", 1, 2, 3)), quick=()), replace(case(script.who("B", 1, 2, 3)), quick=(20,), goals=goals))
    (result,) = Harness(tmp_path, quick=True, repeats=3).run(Scenario("fake", "", some))
    assert result.rows[0].size == 20 and [judged.bound for judged in result.judged] == [1]


# --- the command --------------------------------------------------------------------------------------------------------


def fails(at: Place) -> Answer:
    raise ValueError("broken")


@pytest.mark.parametrize(
    ("ours", "goals", "code"),
    [
        (lambda at: 10.0, (Goal("jobs/s", 5),), 0),
        (lambda at: 10.0, (Goal("jobs/s", 50),), 1),
        (lambda at: 10.0, (Goal("jobs/s", 50, firm=False),), 0),
        (lambda at: 10.0, (), 0),
        (fails, (Goal("jobs/s", 5),), 1),
    ],
    ids=["reached", "missed", "an aim missed", "no goal", "ours failed"],
)
def test_the_exit_code_says_whether_a_goal_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: Callable[[Place], Answer], goals: tuple[Goal, ...], code: int
) -> None:
    fake = Scenario("fake", "Fake.", (case(Contender("callboard", ours), goals=goals),))
    monkeypatch.setattr(command, "load", lambda name: fake)
    out = tmp_path / "out"
    assert command.bench(["fake"], tmp_path, out, quick=True, repeats=None, peers=None, as_json=False) == code
    assert {path.name for path in tmp_path.iterdir()} == {"out"} and {path.name for path in out.iterdir()} == {"results.json", "report.html"}


def test_a_case_that_fails_as_a_whole_is_told_and_those_behind_it_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_room(size: int) -> int:
        raise ZeroDivisionError("no such disk")

    good = case(Contender("callboard", lambda at: 10.0), goals=(Goal("jobs/s", 5),))
    fake = Scenario("fake", "Fake.", (replace(good, name="bad", room=no_room), good))
    monkeypatch.setattr(command, "load", lambda name: fake)
    assert command.bench(["fake"], tmp_path, tmp_path / "out", quick=True, repeats=None, peers=None, as_json=False) == 1
    assert [(each.failed, len(each.rows)) for each in read(tmp_path / "out" / "results.json").cases] == [(True, 0), (False, 1)]
    assert "fake: bad: FAILED: ZeroDivisionError: no such disk" in capsys.readouterr().err


def test_a_run_whose_time_is_up_says_what_it_did_not_reach_and_still_fails_for_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns: list[Place] = []

    def last(at: Place) -> float:
        turns.append(at)
        if len(turns) == 4:
            monkeypatch.setattr(Harness, "elapsed", command.QUICK_SECONDS + 1)
        return 10.0

    missed = case(Contender("callboard", last), goals=(Goal("jobs/s", 50),))
    fake = Scenario("fake", "Fake.", (missed, *(replace(missed, name=name) for name in ("second", "third"))))
    monkeypatch.setattr(command, "load", lambda name: fake)
    assert command.bench(["fake"], tmp_path, None, quick=True, repeats=3, peers=None, as_json=False) == 1
    assert "not reached, or not whole, when the time was up: fake: second; fake: third." in capsys.readouterr().err


def test_unclear_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Scenario("fake", "Fake.", (case(Script().who("callboard", 1, 9, 5), goals=(Goal("jobs/s", 100),)),))
    monkeypatch.setattr(command, "load", lambda name: fake)
    assert command.bench(["fake"], tmp_path, None, quick=True, repeats=3, peers=(), as_json=False) == 0


def test_a_scenario_or_a_peer_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="no scenario 'nothing'.*noop"):
        command.bench(["nothing"], tmp_path, None, quick=True, repeats=1, peers=None, as_json=False)
    with pytest.raises(BadArgument, match="no peer 'nobody'.*huey"):
        command.bench([], tmp_path, None, quick=True, repeats=1, peers=["nobody"], as_json=False)


def test_results_are_read_back_whole(tmp_path: Path) -> None:
    goals = (Goal("jobs/s", 1), Goal("jobs/s", 1, "raw"))
    result = run(tmp_path, case(Script().who("A", 10, 20, 30), Contender("L", lambda at: Reading({"jobs/s": 1.0}, (1.0, 2.0)), "raw"), goals=goals))
    before = Run({"cpu": "one"}, True, 3, {"fake": "Fake."}, [result], 1.5)
    (tmp_path / "results.json").write_text(to_text(before))
    assert read(tmp_path / "results.json") == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1, "cases": [{}]}'])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(BadArgument, match="results.json"):
        read(tmp_path / "results.json")


def test_an_interruption_keeps_what_was_done_and_answers_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(at: Place) -> float:
        raise KeyboardInterrupt

    script = Script()
    fake = Scenario("fake", "Fake.", (case(script.who("A", 1, 1, 1)), replace(case(Contender("B", interrupted)), name="second")))
    monkeypatch.setattr(command, "load", lambda name: fake)
    assert command.bench(["fake"], tmp_path, tmp_path / "out", quick=True, repeats=3, peers=(), as_json=False) == 130
    assert [each.name for each in read(tmp_path / "out" / "results.json").cases] == ["case"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
