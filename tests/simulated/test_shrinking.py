"""Of a history that breaks an invariant the least that does so is found, and it reads like an explanation."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from shrinking import least_history, played
from test_planted_bugs import restart_resumes_the_paused

from callboard.actors.crew import Crew


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert least_history(tries=25) is None


def pause_is_lost_when_the_job_has_begun() -> Any:
    """Only who was dealt a job and has not begun it hears of a pause."""
    whole = Crew.interrupt

    def interrupt(self: Crew, job_id: bytes, why: Any) -> None:
        held = self.cast.holder(job_id)
        if held is not None and self._pulses[held[0]].job_id != job_id:
            whole(self, job_id, why)

    return mock.patch.object(Crew, "interrupt", interrupt)


def test_the_least_history_of_a_planted_bug_is_short_and_says_where_the_order_matters() -> None:
    with pause_is_lost_when_the_job_has_begun():
        least = least_history(["pause"])
    assert least is not None
    print(least)
    assert (least.script, least.crash) == (("pause",), None)
    assert 1 <= len(least.told) == len(least.choices) <= 5 and "another goes on" in str(least)
    assert not played(least.script, least.crash, least.choices).breaches, "it is the planted bug that breaks it"


def test_the_least_history_dies_only_where_that_matters(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--full"):
        pytest.skip("--full: another three seconds")
    with restart_resumes_the_paused():
        least = least_history()
    assert least is not None and least.crash is not None
    print(least)
    assert (least.script, least.choices) == (("pause",), ())
    assert not played(least.script, least.crash, least.choices).breaches, "it is the planted bug that breaks it"
