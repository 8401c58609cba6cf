"""Thousands of seeded histories of the whole system, each with jobs, commands and crashes, and not one breach of an invariant.

A failure says its seed; `pytest tests/simulated --sim-seed N` runs just that one again and prints all of it.
"""

from __future__ import annotations

import pytest
from histories import FOUND, run_history

SEEDS = 11_000
SEEDS_FULL = 500_000
SEEDS_A_TEST = 100
"""Small enough that the workers of a parallel run share the work evenly."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "first" in metafunc.fixturenames:
        seeds = SEEDS_FULL if metafunc.config.getoption("--full") else SEEDS
        alone = metafunc.config.getoption("--sim-seed") is not None
        metafunc.parametrize("first", [] if alone else range(0, seeds, SEEDS_A_TEST))


def test_the_history_of_the_seed_that_was_asked_for(pytestconfig: pytest.Config) -> None:
    seed = pytestconfig.getoption("--sim-seed")
    if seed is None:
        pytest.skip("--sim-seed N runs the history of seed N, and prints it")
    outcome = run_history(seed, closely=True)
    print(outcome.report)
    assert not outcome.breaches


def test_no_history_breaks_an_invariant(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        outcome = run_history(seed)
        if outcome.breaches:
            pytest.fail(outcome.report, pytrace=False)
        assert outcome.jobs >= 3 and outcome.crashes >= 1, f"seed {seed} is too tame: {outcome}"


def test_a_seed_is_one_history_to_the_last_step(first: int) -> None:
    one, other = run_history(first, closely=True), run_history(first, closely=True)
    assert one.fingerprint == other.fingerprint, f"seed {first} was two histories: {one.steps} and {other.steps} steps"


@pytest.mark.parametrize("seed", FOUND)
def test_a_seed_that_once_found_a_defect(seed: int, pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--sim-seed") is not None:
        pytest.skip("--sim-seed: only that one")
    outcome = run_history(seed)
    if outcome.breaches:
        pytest.fail(outcome.report, pytrace=False)
