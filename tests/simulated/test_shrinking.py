"""Of a history that breaks an invariant the least that does so is found, and it reads like an explanation."""

from __future__ import annotations

import pytest
from shrinking import least_history, played
from test_planted_bugs import event_before_commit, restart_resumes_the_paused


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert least_history(tries=25) is None


def test_the_least_history_of_a_planted_bug_is_short_and_says_where_the_order_matters(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--full"):
        pytest.skip("--full: three threads must give way at the right steps, which takes some thousand tries")
    with event_before_commit():
        least = least_history(["pause", "cancel"], tries=10_000)
    assert least is not None
    print(least)
    assert len(least.script) <= 2 and least.crash is None
    assert 1 <= len(least.told) == len(least.choices) <= 6 and " goes on" in str(least)
    assert not played(least.script, least.crash, least.choices).breaches, "it is the planted bug that breaks it"


def test_the_least_history_dies_only_where_that_matters() -> None:
    with restart_resumes_the_paused():
        least = least_history()
    assert least is not None and least.crash is not None
    print(least)
    assert (least.script, least.choices) == (("pause",), ())
    assert not played(least.script, least.crash, least.choices).breaches, "it is the planted bug that breaks it"
