"""G14 in parts: many open libraries in one process, sixteen submitting actors, listeners that never read: nothing is lost, memory is bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHILD = Path(__file__).with_name("load_child.py")
FOR_ALL_MIB = 32
"""What the jobs on their way, the actors that submit and the mailboxes of sixteen jobs' worth of facts may take."""
A_LIBRARY_MIB = 6
"""Its twelve threads, two connections with 2 MiB of pages each, its facts apart."""
FACT_BYTES = 160
"""Of those that are kept; 129 were measured."""
FACTS_KEPT = 65_536
THREADS, FILES = 13, 9
"""Of a library that may run eight jobs at once: their actors, its own, its store, its reader and its control socket make twelve threads."""


def load(folder: Path, libraries: int, seconds: float, *more: str) -> dict[str, Any]:
    command = [sys.executable, str(CHILD), str(folder), str(libraries), str(seconds), *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=2 * seconds + 300)
    assert done.returncode == 0
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def check(told: dict[str, Any], libraries: int, bound_mib: float, capsys: pytest.CaptureFixture[str]) -> None:
    before, opened, idle, closed = (told[when] for when in ("before", "opened", "idle", "closed"))
    most = max(idle["mib"], *told["mib"])
    with capsys.disabled():
        print(
            f"\n{libraries} libraries: {told['jobs']:,} jobs; {before['mib']:.0f} MiB before, {opened['mib']:.0f} open, {most:.0f} at most,"
            f" {closed['mib']:.0f} after; a library has {(opened['threads'] - before['threads']) / libraries:.1f} threads,"
            f" {(opened['files'] - before['files']) / libraries:.1f} files, {(opened['mib'] - before['mib']) / libraries:.2f} MiB"
        )
    assert told["wrong"] == []
    assert told["jobs"] > libraries and told["lost_to_sleepers"] > 0, "there was no load"
    assert most - before["mib"] <= bound_mib
    assert opened["threads"] - before["threads"] <= THREADS * libraries and opened["files"] - before["files"] <= FILES * libraries
    assert closed["threads"] <= before["threads"] + 4 and closed["files"] <= before["files"]


@pytest.mark.timeout(600)
def test_thirty_libraries_under_load_lose_nothing_and_keep_to_their_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(load(tmp_path, 30, 6.0), 30, FOR_ALL_MIB + 30 * A_LIBRARY_MIB, capsys)


@pytest.mark.long
def test_a_hundred_libraries_under_load_for_ten_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(load(tmp_path, 100, 600.0, "all"), 100, FOR_ALL_MIB + 100 * (A_LIBRARY_MIB + FACTS_KEPT * FACT_BYTES / 2**20), capsys)
