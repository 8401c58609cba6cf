"""The options of the test command, and where its libraries are. No other fixtures: a test shows what it uses."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

LONG_SECONDS = 3_600
"""Time limit of a test marked `long` that sets none of its own."""


MEMORY = Path("/dev/shm")
MEMORY_BYTES = 1 << 30
"""So much has to be free there."""
COMMITTING = tuple(Path(__file__).parent / room for room in ("actors", "benchmarks", "persistence", "bad_input", "crash/test_damaged_files.py"))
DISK = Path(__file__).parent / "actors" / "frontends" / "test_torture.py"


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """pytest's own, save where the tests make a library each: there in memory, where a sync takes no time. Torture is for a disk."""
    place = request.path
    commits = place != DISK and any(room == place or room in place.parents for room in COMMITTING)
    if not commits or not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < MEMORY_BYTES:
        yield tmp_path_factory.mktemp(request.node.name[:30].replace("/", "-"))
        return
    with tempfile.TemporaryDirectory(prefix="callboard-test-", dir=MEMORY, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("callboard")
    group.addoption("--sim-seed", type=int, default=None, metavar="N", help="replay the simulated history of seed N, with its trace")
    group.addoption("--full", action="store_true", default=False, help="run the long campaigns too")
    group.addoption("--box", type=float, default=None, metavar="SECONDS", help="with --full: as much of each campaign as that is enough for")


LONG_FIRST = (
    "test_packaging.py",
    "test_histories.py",
    "test_store_model.py",
    "test_damaged_files.py",
    "test_load.py",
    "test_torture.py",
    "test_kill_randomly.py",
    "test_planting.py",
)
"""Their tests take many seconds each: one that begins last would run alone while the other workers are idle."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG_FIRST.index(item.path.name) if item.path.name in LONG_FIRST else len(LONG_FIRST))
    full = config.getoption("--full")
    for item in items:
        if item.get_closest_marker("long") is None:
            continue
        if not full:
            item.add_marker(pytest.mark.skip(reason="a long campaign: --full runs it"))
        elif item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))
