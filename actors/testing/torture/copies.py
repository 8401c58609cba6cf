"""A copy of a tree that is killed again and again: never a part of a file under its name, and in the end the same tree."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

from callboard.actors.runtime import Runtime
from callboard.actors.testing.draining import drain
from callboard.actors.testing.torture.child import Child
from callboard.actors.testing.torture.tally import Tally
from callboard.actors.testing.torture.work import Scene
from callboard.jobs.files.copy import CopyFiles
from callboard.jobs.lifecycle import Status

FILES = 60
BYTES_MOST = 200_000
KILLS_MOST = 8
LIFE_SECONDS = 0.3
PATIENCE = 120.0
TEMPORARY = ".cb-"

Tree = dict[str, tuple[object, ...]]
"""Relative path → what is there: kind, content, mode and time."""


def copy_round(folder: Path, chance: Random, tally: Tally, until: float) -> None:
    """A tree, its copy, some kills."""
    source, target = folder / "source", folder / "target"
    _make_tree(source, chance)
    target.mkdir()
    before = _tree(source)
    for _ in range(chance.randint(1, KILLS_MOST)):
        with Child(lambda say: _copy(folder, Scene(folder, say))) as child:
            done = child.listen(chance.uniform(0.02, LIFE_SECONDS))
        _judge(child, tally)
        _no_parts(before, _tree(target / "source"), tally)
        if done:
            break
        tally.tried("G16", "kills")
        if time.monotonic() >= until:
            break
    with Child(lambda say: _copy(folder, Scene(folder, say))) as child:
        child.listen(PATIENCE)
    _judge(child, tally)
    if not child.told("copied"):
        tally.breach("G16", f"the copy did not complete: {child.lines[-1:]}")
    elif (copied := _tree(target / "source")) != before:
        different = sorted(name for name in before.keys() | copied.keys() if before.get(name) != copied.get(name))
        tally.breach("G16", f"the copy has completed, and differs in {different[:3]}")
    if _tree(source) != before:
        tally.breach("G16", "the source was changed")
    tally.tried("G16", "trees compared")


def _copy(folder: Path, scene: Scene) -> None:
    """Go on with the copy, or begin it."""
    with Runtime(workers=4) as runtime:
        library = runtime.open_library(folder / "copy.library", services=scene, control=False)
        for record in library.jobs(status=Status.QUARANTINED).records:
            library.resume(record.id)  # three kills before its first checkpoint
        if not library.jobs().records and not library.history().records:
            library.submit(CopyFiles((folder / "source",), folder / "target"))
        drain(library, PATIENCE)
        for record in library.history().records:
            scene.say(**{"copied" if record.status is Status.COMPLETED else "not_copied": str(record.status), "error": record.error})


def _judge(child: Child, tally: Tally) -> None:
    for line in child.told("failed"):
        tally.breach("G16", f"the copying process raised {line['failed']}")


def _no_parts(source: Tree, target: Tree, tally: Tally) -> None:
    for name, entry in target.items():
        if not os.path.basename(name).startswith(TEMPORARY) and entry[0] == "file":
            tally.tried("G16", "files looked at after a kill")
            if entry[1] != source.get(name, (None, None))[1]:
                tally.breach("G16", f"{name} has its final name, and is not whole")


def _make_tree(root: Path, chance: Random) -> None:
    folders = [root, *(root / f"folder {number}" / "deep" for number in range(4))]
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        path = chance.choice(folders) / f"file {number}"
        path.write_bytes(chance.randbytes(int(BYTES_MOST * chance.random() ** 3)))
        path.chmod(chance.choice((0o600, 0o644, 0o755)))
        os.utime(path, ns=(1_600_000_000_000_000_000 + number, 1_600_000_000_000_000_000 + number))
    (root / "link").symlink_to("file 1")


def _tree(root: Path) -> Tree:
    found: Tree = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder) / name
            status = path.lstat()
            relative = str(path.relative_to(root))
            if path.is_symlink():
                found[relative] = ("link", os.readlink(path))
            elif path.is_dir():
                found[relative] = ("folder", status.st_mode)
            else:
                found[relative] = ("file", path.read_bytes(), status.st_mode, status.st_mtime_ns)
    return found
