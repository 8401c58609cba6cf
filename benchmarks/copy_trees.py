"""Copying durably: 1,000 files of 1 MiB, and a real tree of many small ones (the Python library), against `cp -a` and then `sync`.

Raw limit: `cp -a` and `sync` of the same tree on the same disk. Goal for the 1,000 x 1 MiB: faster than that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from measure import options, pairs, scratch, seconds, show

from callboard import Runtime
from callboard.jobs.files.copy import CopyFiles


def make_tree(folder: Path, count: int, size: int) -> Path:
    tree = folder / "tree"
    tree.mkdir()
    block = os.urandom(size)
    for number in range(count):
        (tree / f"{number:05}").write_bytes(block)
    os.sync()
    return tree


def ours(source: Path, folder: Path) -> float:
    target = folder / "ours"
    with Runtime(workers=16) as runtime:
        library = runtime.open_library(folder / "copy.library")

        def work() -> None:
            library.submit(CopyFiles((source,), target)).wait(600)

        took = seconds(work)
    shutil.rmtree(target)
    os.sync()
    return took


def cp(source: Path, folder: Path) -> float:
    target = folder / "cp"

    def work() -> None:
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)
        os.sync()

    took = seconds(work)
    shutil.rmtree(target)
    os.sync()
    return took


def main() -> None:
    chosen = options(__doc__)
    repeats = chosen.repeats
    with scratch(chosen.dir) as folder:
        tree = make_tree(folder, 1_000, 1 << 20)
        show(
            [pairs("copy 1,000 x 1 MiB, durable, against cp -a + sync", lambda: ours(tree, folder), lambda: cp(tree, folder), unit="s",
                   goal="ratio > 1", repeats=repeats, higher_is_better=False)],
            chosen.json,
        )  # fmt: skip
        shutil.rmtree(tree)
        library = Path(sysconfig.get_path("stdlib"))
        show(
            [pairs(f"copy {library.name} (small files), durable, against cp -a + sync", lambda: ours(library, folder),
                   lambda: cp(library, folder), unit="s", goal="stated", repeats=min(3, repeats), higher_is_better=False)],
            chosen.json,
        )  # fmt: skip


if __name__ == "__main__":
    main()
