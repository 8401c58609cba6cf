"""A tree of jobs that is killed with SIGKILL at random instants, while parents spawn and while they wait, has every child once in the end."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import pytest

from callboard.persistence.folder import LibraryFolder

CHILD = Path(__file__).with_name("family_child.py")


def one_life(library: Path, count: int, kept: int, kill_after: float | None) -> str:
    """What it has printed."""
    command = [sys.executable, str(CHILD), str(library), str(count), str(kept)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            out, err = child.communicate(timeout=120 if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            return child.communicate()[0]
    assert child.returncode == 0, err
    return out


def rows(library: Path, sql: str) -> list[Any]:
    folder = LibraryFolder.open(library, recover=lambda con, epoch, clean: None)
    try:
        connection: apsw.Connection = folder.reader()
        return connection.execute(sql).fetchall()
    finally:
        folder.abandon()


def kill_until_done(library: Path, seed: int, kills: int, count: int, kept: int) -> None:
    chance = random.Random(seed)
    for _ in range(kills):
        if "result" in one_life(library, count, kept, chance.uniform(0.2, 1.6)):
            break
    out = one_life(library, count, kept, None)
    assert f"result {3 * sum(range(count))}" in out
    ended = Counter(rows(library, "SELECT name, status, count(*) FROM job_history GROUP BY 1, 2"))
    assert set(ended) == {
        ("family.root", "completed", 1), ("family.middle", "completed", 3), ("family.leaf", "completed", 3 * count),
    }  # fmt: skip
    assert rows(library, "SELECT count(*) FROM jobs") == [(0,)]
    assert rows(library, "SELECT count(*), sum(open), sum(sealed), sum(members) FROM batches") == [(4, 0, 4, 3 + 3 * count)]


@pytest.mark.parametrize("kept", [0, 8], ids=["parents are run again", "parents wait on their actors"])
def test_a_family_that_is_killed_again_and_again_has_every_child_once(tmp_path: Path, kept: int) -> None:
    kill_until_done(tmp_path / "family.library", seed=kept, kills=5, count=1_500, kept=kept)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_the_same_many_times(tmp_path: Path, seed: int) -> None:
    kill_until_done(tmp_path / "family.library", seed=seed, kills=20, count=5_000, kept=seed % 4)
