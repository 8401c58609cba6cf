"""Every scenario declares what it is; the cheap ones really run, at sizes of a thousandth; nothing of them is left."""

from __future__ import annotations

import gc
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from callboard.actors.frontends.cli import main
from callboard.benchmarks import harness, raw, scenarios
from callboard.benchmarks.harness import Harness
from callboard.benchmarks.peers.peer import Peer
from callboard.benchmarks.results import CaseResult
from callboard.benchmarks.scenario import SCENARIOS, Case, Scenario, load
from callboard.persistence import wal

TINY = {"noop": 20, "submit": 32, "batch": 100, "checkpoints": 200, "map": 10, "pausing": 2, "events": 1, "children": 5, "copy": 2}
"""Scenario → size. What is not here starts processes, or fills libraries."""
SLOW = {("batch", "single beside"), ("batch", "million"), ("batch", "million, no order"), ("copy", "100 MiB"), ("copy", "4 GiB")}
MEASURES = {name for name in vars(Peer) if name.endswith(("singly", "batch", "jobs", "_ms"))}


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each reading the harness clears away garbage: in a process as full as that of the tests, a tenth of a second."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def cases() -> list[tuple[str, Case]]:
    return [(name, case) for name in SCENARIOS for case in load(name).cases]


def test_every_scenario_of_the_folder_is_listed() -> None:
    assert scenarios.__file__ is not None
    assert {path.stem for path in Path(scenarios.__file__).parent.glob("*.py")} - {"__init__"} == set(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_says_what_it_counts_how_durably_and_beside_which_limit(name: str) -> None:
    scenario = load(name)
    words = " ".join(scenario.text.split())
    assert "Counted" in words and "imit:" in words and len(words) > 150
    assert len({case.name for case in scenario.cases}) == len(scenario.cases) > 0


@pytest.mark.parametrize(("name", "case"), cases(), ids=lambda value: value if isinstance(value, str) else value.name)
def test_a_case_is_whole(name: str, case: Case) -> None:
    names = [figure.name for figure in case.figures]
    assert case.text and all(figure.unit for figure in case.figures) and len(set(names)) == len(names) > 0
    assert len({who.name for who in case.contenders}) == len(case.contenders)
    assert sum(who.kind == ("peer" if name == "published" else "ours") for who in case.contenders) >= 1 and all(who.claim for who in case.contenders)
    assert all(size > 0 for size in (*case.full, *case.quick)) and case.full
    assert case.peers in ("", "copy", "killed") or case.peers in MEASURES
    for goal in case.goals:
        assert goal.figure in names and (goal.against != "raw" or any(who.kind == "raw" for who in case.contenders))
        assert goal.against != "smallest" or len(case.full) > 1


def test_every_goal_that_the_design_sets_has_its_place() -> None:
    firm = {(name, case.name, goal.figure, goal.bound) for name, case in cases() for goal in case.goals if goal.firm}
    assert firm >= {
        ("noop", "many", "jobs/s", 20_000), ("noop", "alone", "p50", 1.0), ("noop", "alone", "p99", 5.0), ("submit", "one", "jobs/s", 0.7),
        ("submit", "sixteen", "jobs/s", 2.5), ("batch", "fresh", "jobs/s", 0.75), ("busy", "batch, 1", "jobs/s", 0.4),
        ("busy", "batch, 4", "jobs/s", 0.15), ("busy", "noop, 1", "jobs/s", 4_000), ("busy", "sixteen, 1", "jobs/s", 2.0),
        ("checkpoints", "by hand", "seconds", 1.5), ("checkpoints", "by hand", "written", 10.0), ("pausing", "pause", "p99", 50.0),
        ("opening", "recover", "opening", 1_000.0), ("depth", "throughput", "jobs/s", 0.8), ("map", "latency", "tasks/s", 9.5),
    }  # fmt: skip


def tiny(name: str, folder: Path) -> list[CaseResult]:
    """The scenario's cases at a thousandth of their size, one round, without the unmeasured run."""
    some = tuple(
        replace(case, full=(TINY[name],), warm_up=lambda size: 0, contenders=tuple(replace(who, alone=False) for who in case.contenders))
        for case in load(name).cases
        if (name, case.name) not in SLOW
    )
    return list(Harness(folder, repeats=1).run(Scenario(name, "", some)))


@pytest.mark.parametrize("name", TINY)
def test_a_cheap_scenario_runs_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    for result in tiny(name, tmp_path):
        assert not result.skipped and result.rows
        for row in result.rows:
            assert not row.cannot and row.values and all(value >= 0 for values in row.values.values() for value in values), row
    assert not list(tmp_path.iterdir())
    for thread in set(threading.enumerate()) - before:  # an actor's last lines run behind its farewell
        thread.join(100)
        assert not thread.is_alive(), thread


def test_the_raw_limits_write_into_a_wal_that_has_room_as_ours_does(tmp_path: Path) -> None:
    con = raw.connection(tmp_path)
    raw.with_room(con)
    assert (tmp_path / "raw.db-wal").stat().st_size >= wal.ROOM_PAGES * wal.FRAME_BYTES
    con.close()


def test_a_contender_in_a_process_of_its_own_answers_the_same(tmp_path: Path) -> None:
    idle = load("idle").cases[0]
    found = harness.in_new_process("idle", idle.name, "a process that sleeps", harness.Place(tmp_path, 0, tmp_path))
    assert set(found.values) == {figure.name for figure in idle.figures}
    with pytest.raises(RuntimeError, match="StopIteration"):
        harness.in_new_process("idle", idle.name, "nobody", harness.Place(tmp_path, 0, tmp_path))


def test_the_command_lists_its_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name}: " in f"\n{out}" for name in SCENARIOS) and "  q many: " in out and "peers: " in out


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_quick_run_ends_within_a_minute_or_so_and_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bench", "--quick", "--dir", str(tmp_path), "--out", str(tmp_path / "out"), "--json"])
    view = json.loads(capsys.readouterr().out)
    missed = [judged for case in view["cases"] for judged in case["judged"] if judged["firm"] and judged["verdict"] in ("missed", "failed")]
    assert code == bool(missed) and view["seconds"] < 60
    assert not [row["cannot"] for case in view["cases"] for row in case["rows"] if row["failed"]]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "report.html"}
