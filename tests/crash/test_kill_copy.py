"""G1, G5, G6, G16: a copy that is killed with SIGKILL at random instants, also while it starts and recovers, ends in an equal tree."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("copying_child.py")
IN_FLIGHT_MOST = 16 * 512 + 256
"""Entries that one kill may have repeated: the window of a map, workers x chunk, and one piece of the source."""


class Copy:
    """One tree on its way, over as many processes as it takes."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.library, self.source, self.target = folder / "crash.library", source, folder / "target"

    def run(self, kill_after: float | None) -> bool:
        """One process; killed after so many seconds. True if it came to its end."""
        command = [sys.executable, str(CHILD), str(self.library), str(self.source), str(self.target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            try:
                out, err = child.communicate(timeout=300 if kill_after is None else kill_after)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.communicate()
                return False
        assert child.returncode == 0, err
        return "done" in out

    def finished(self) -> dict[str, int]:
        """Path → inode of every file that has its final name; a copy made again has another inode."""
        found = {}
        for folder, _, names in os.walk(self.target):
            for name in names:
                if not name.startswith(".cb-"):
                    path = os.path.join(folder, name)
                    found[os.path.relpath(path, self.target)] = os.lstat(path).st_ino
        return found


def description(tree: Path) -> dict[str, tuple[object, ...]]:
    """Every entry below a tree: kind, mode, mtime in ns, and content."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, names in os.walk(tree):
        for name in [*folders, *names, "."]:
            path = Path(folder) / name
            status = path.lstat()
            content: object = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            found[str(path.relative_to(tree))] = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_mtime_ns, content)
    return found


def make_tree(folder: Path, files: int) -> Path:
    tree = folder / "source"
    chance = random.Random(7)
    for number in range(files):
        place = tree / f"d{number % 23}" / f"e{number % 5}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file {number}").write_bytes(chance.randbytes(chance.choice((0, 17, 4096, 30_000))))
    (tree / "link").symlink_to("d1/e1")
    (tree / "empty").mkdir()
    os.utime(tree / "empty", ns=(1_000_000_007, 999_999_999))
    (tree / "d1" / "e1").chmod(0o555)
    return tree


def kill_until_done(copy: Copy, seed: int, kills: int, longest: float) -> int:
    """Kill it `kills` times at random instants, then let it finish. Answers how many files were copied more than once."""
    chance = random.Random(seed)
    again = 0
    for _ in range(kills):
        before = copy.finished()
        if copy.run(chance.uniform(0.0, longest)):
            break
        after = copy.finished()
        repeated = sum(1 for path, inode in before.items() if after.get(path, inode) != inode)
        assert repeated <= IN_FLIGHT_MOST
        assert not before.keys() - after.keys(), "a finished file went away"
        again += repeated
    assert copy.run(None)
    return again


def check(copy: Copy) -> None:
    assert description(copy.target) == description(copy.source)
    assert not [path for path in copy.target.rglob(".cb-*")]


@pytest.mark.parametrize("seed", range(5))
def test_G16_a_copy_killed_again_and_again_ends_in_an_equal_tree(seed: int, tmp_path: Path) -> None:
    copy = Copy(tmp_path, make_tree(tmp_path, 1_000))
    kill_until_done(copy, seed, kills=4, longest=1.5)
    check(copy)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_G16_two_hundred_kills_over_a_real_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fresh trees, and one tree killed until it is done: 200 kills in all over the Python library."""
    source = Path(sysconfig.get_path("stdlib"))
    kills = repeated = trees = 0
    while kills < 200:
        folder = tmp_path / f"tree{trees}"
        folder.mkdir()
        copy = Copy(folder, source)
        some = 1 if trees % 2 else 25
        repeated += kill_until_done(copy, trees, kills=some, longest=8.0)
        check(copy)
        shutil.rmtree(folder)
        kills, trees = kills + some, trees + 1
    with capsys.disabled():
        print(f"\n{kills} kills over {trees} trees of {source.name}: 0 unequal, 0 leftovers, {repeated} files in flight copied again")
