"""The options of the test command. No fixtures: a test shows what it uses."""

from __future__ import annotations

import pytest

LONG_SECONDS = 3_600
"""Time limit of a test marked `long` that sets none of its own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("callboard")
    group.addoption("--sim-seed", type=int, default=None, metavar="N", help="replay the simulated history of seed N, with its trace")
    group.addoption("--full", action="store_true", default=False, help="run the long campaigns too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    full = config.getoption("--full")
    for item in items:
        if item.get_closest_marker("long") is None:
            continue
        if not full:
            item.add_marker(pytest.mark.skip(reason="a long campaign: --full runs it"))
        elif item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))
