"""The planted bugs still fit the checkout, and one of them is planted and caught. `python -m tests.planted` does so with all of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from campaign import ROOT, Campaign, Ended, NotReady, names, read_report
from planting import Bug, Edit, NotPlantable, plant, problems, read_bug, read_bugs

FEWEST = 80


def test_every_planted_bug_fits_the_checkout_once_and_names_tests_that_there_are() -> None:
    bugs = read_bugs()
    assert [problem for bug in bugs for problem in problems(bug, ROOT)] == []
    assert len(bugs) >= FEWEST
    assert len({bug.what for bug in bugs}) == len(bugs)


def test_a_planted_bug_is_caught_by_the_test_that_it_names() -> None:
    [bug] = [bug for bug in read_bugs() if bug.name == "piece_taken_twice"]
    with Campaign(sys.executable) as campaign:
        [verdict] = campaign.judge_all([bug])
    assert verdict.by is not None and verdict.by in bug.tests, verdict
    assert problems(bug, ROOT) == [], "the checkout itself is as it was"


BUG = Bug("less", "It takes away.", (Edit("sum.py", "a + b", "a - b"),), ("tests/test_sum.py::test_two_and_two_are_four",))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of one function and its test."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "sum.py").write_text("def both(a, b):\n    return a + b\n")
    (tmp_path / "tests" / "test_sum.py").write_text("def test_two_and_two_are_four():\n    assert both(2, 2) == 4\n")
    return tmp_path


def test_a_bug_is_planted_whole_or_not_at_all(root: Path) -> None:
    plant(BUG, root)
    assert (root / "sum.py").read_text() == "def both(a, b):\n    return a - b\n"
    before = (root / "sum.py").read_text()
    two = replace(BUG, edits=(Edit("sum.py", "a - b", "b - a"), Edit("sum.py", "a", "c")))
    with pytest.raises(NotPlantable, match="less: sum.py has this text 2 times, not once"):
        plant(two, root)
    assert (root / "sum.py").read_text() == before


@pytest.mark.parametrize(
    "wrong, says",
    [
        (replace(BUG, edits=()), "less: it has no edits"),
        (replace(BUG, tests=()), "less: it names no tests"),
        (replace(BUG, edits=(Edit("sums.py", "a", "b"),)), "sums.py has this text 0 times"),
        (replace(BUG, edits=(Edit("sum.py", "a + b", "a + b"),)), "or it is replaced by itself"),
        (replace(BUG, tests=("tests/test_sum.py::test_two",)), "there is no test tests/test_sum.py::test_two"),
        (replace(BUG, tests=("tests/test_sums.py::test_two_and_two_are_four",)), "there is no test tests/test_sums.py"),
    ],
)
def test_what_no_longer_fits_is_named(root: Path, wrong: Bug, says: str) -> None:
    assert any(says in problem for problem in problems(wrong, root))
    with Campaign(sys.executable, root) as campaign, pytest.raises(NotReady, match=says.partition("::")[0]):
        next(campaign.judge_all([wrong]))


def test_a_file_that_is_no_bug_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.toml").write_text('what = "It has no edits."\ntests = []\n')
    with pytest.raises(NotPlantable, match="half.toml: KeyError: 'edits'"):
        read_bug(tmp_path / "half.toml")


REPORT = """<testsuites><testsuite name="pytest">
<testcase classname="tests.test_sum" name="test_two[1]" time="0.1" />
<testcase classname="tests.test_sum" name="test_three"><failure message="assert 3 == 4">def test_three():
E   assert 3 == 4</failure></testcase>
<testcase classname="tests.test_sum" name="test_four"><error message="failed on setup">E   OSError: no</error></testcase>
<testcase classname="tests.test_sum" name="test_five"><failure message="Failed">E   NameError: name 'x' is not defined</failure></testcase>
<testcase classname="tests.test_sum" name="test_six"><skipped message="not here" /></testcase>
</testsuite></testsuites>"""


def test_only_what_a_test_says_of_itself_counts(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    passed, bad = read_report(tmp_path / "report.xml")
    assert passed == {"tests/test_sum.py::test_two[1]"}
    assert [(each.test.partition("::")[2], each.counts) for each in bad] == [("test_three", True), ("test_four", False), ("test_five", False)]
    assert bad[0] == Ended("tests/test_sum.py::test_three", "assert 3 == 4\nE   assert 3 == 4", True)


def test_a_test_is_named_with_all_of_its_cases_or_with_one() -> None:
    assert names("tests/a.py::test_b", "tests/a.py::test_b[1]") and names("tests/a.py::test_b[1]", "tests/a.py::test_b[1]")
    assert not names("tests/a.py::test_b", "tests/a.py::test_bc") and not names("tests/a.py::test_b[1]", "tests/a.py::test_b[2]")
