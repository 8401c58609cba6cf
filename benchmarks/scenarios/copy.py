"""Copying files durably: 1,000 of 1 MiB, 20 of 100 MiB, 50,000 of 4 KiB, one of 4 GiB. (Many slow ones: see `map`.)

Counted: seconds until everything is on disk. callboard's copy is a job with 16 workers that syncs each file, records which are done, and goes
on after a kill. Raw limit: `cp -a` and then `sync -f`, of the same tree on the same disk; the tree has just been read. Targets are removed, and
all is synced, before the next one begins. All but the first take so long that each is read once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from callboard import Runtime
from callboard.benchmarks.ground import seconds, settle
from callboard.benchmarks.peers.copiers import CP
from callboard.benchmarks.rivals import copying
from callboard.benchmarks.scenario import Case, Contender, Figure, Goal, Place
from callboard.benchmarks.work import PATIENCE, Noop
from callboard.jobs.files.copy import CopyFiles

BLOCK = 1 << 20
A_FOLDER = 1_000
"""Files in one."""


def make_tree(tree: Path, count: int, size: int) -> None:
    block = os.urandom(min(size, BLOCK))
    for number in range(count):
        folder = tree / str(number // A_FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{number:05}", "wb") as file:
            for _ in range(0, size, BLOCK):
                file.write(block)


def trees(size: int) -> Callable[[Path, tuple[int, ...]], None]:
    """For each count a tree of it, and one of a tenth to warm up with."""

    def prepare(ground: Path, counts: tuple[int, ...]) -> None:
        for count in {some for whole in counts for some in (whole, max(1, whole // 10))}:
            make_tree(ground / str(count), count, size)
        settle(ground)

    return prepare


def ours(at: Place) -> float:
    source, target = at.ground / str(at.size), at.folder / "copied"
    with Runtime(workers=16) as runtime:
        library = runtime.open_library(at.folder / "copy.library")
        library.submit(Noop(0)).wait(30)
        settle(at.folder)
        return seconds(lambda: library.submit(CopyFiles((source,), target)).wait(PATIENCE))


def case(name: str, count: int, size: int, repeats: int = 1_000) -> Case:
    text = f"files of {size >> 20} MiB" if size >= BLOCK else f"files of {size >> 10} KiB"
    return Case(
        name, text, (Figure("seconds", "s", False),),
        (Contender("callboard", ours, claim="each file synced"), copying(CP, "raw")),
        full=(count,), goals=(Goal("seconds", 1.0, "raw", firm=False), Goal("seconds", 1.0, "peer", firm=False)),
        peers="copy", prepare=trees(size), warm_up=lambda count: count // 10, most_repeats=repeats,
        room=lambda count: int(count * max(size, 8192) * 2.4),
    )  # fmt: skip


CASES = (
    case("1 MiB", 1_000, 1 << 20),
    case("100 MiB", 20, 100 << 20, repeats=1),
    case("4 KiB", 50_000, 4 << 10, repeats=1),
    case("4 GiB", 1, 4 << 30, repeats=1),
)
