"""Flipped bytes, zeroed blocks, cut ends: a copy of a library is damaged, opened and run. It may be refused; what runs must be what was submitted."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from random import Random

from callboard.actors.door import Library
from callboard.actors.runtime import Runtime
from callboard.actors.testing.draining import drain
from callboard.actors.testing.torture.child import Child, Say
from callboard.actors.testing.torture.tally import Tally
from callboard.actors.testing.torture.work import Scene, Sealed, seal
from callboard.jobs.errors import CallboardError, StoreUnavailable
from callboard.jobs.submission import Submission
from callboard.persistence.examination import examine
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import DATABASE

JOBS = 60
COPIES = 10
PATIENCE = 120.0
RUN_SECONDS = 5.0
LOOK_SECONDS = 0.5


def damage_round(folder: Path, chance: Random, tally: Tally, until: float) -> None:
    """A library, and some damaged copies of it."""
    whole = folder / "whole.library"
    with Child(lambda say: _make(whole, Scene(folder, say))) as child:
        child.listen(PATIENCE)
    if child.exit != 0:
        tally.breach("G15", f"no library could be made: {child.told('failed')}")
        return
    for number in range(COPIES):
        _try(whole, folder / f"damaged-{number}.library", chance, tally)
        if time.monotonic() >= until:
            return


def _make(path: Path, scene: Scene) -> None:
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(path, services=scene, control=False)
        for number in range(JOBS):
            library.submit(Submission(Sealed(number, seal(number)), delay=3_600.0))
    folder = LibraryFolder.open(path)
    folder.writer.execute("UPDATE jobs SET run_at = NULL")  # now they may run; closed cleanly, all is in the database
    folder.close()


def _try(whole: Path, copy: Path, chance: Random, tally: Tally) -> None:
    before = tally.breaches
    copy.mkdir(0o700)
    data = bytearray((whole / DATABASE).read_bytes())
    how = _damage(data, chance)
    (copy / DATABASE).write_bytes(data)
    (copy / DATABASE).chmod(0o600)
    with Child(lambda say: _open(copy, Scene(copy, say))) as child:
        ended = child.listen(PATIENCE)
    tally.tried("G15", f"files with {how}")
    tally.tried("G15", "refused, at opening or by a write" if child.told("refused") else "opened, and run")
    tally.tried("G15", "jobs that ran unharmed", sum(1 for line in child.told("ran") if line["right"]))
    for line in child.told("stuck"):
        tally.tried("G15", "jobs left standing, which doctor explains")
        if not any(finding.damage for finding in examine(copy)):
            tally.breach("G15", f"{how}: {line['stuck']}, and doctor does not know why")
    if not ended:
        tally.breach("G15", f"{how}: still going on after {PATIENCE:g} s")
    elif child.exit is not None and child.exit < 0:
        tally.breach("G15", f"{how}: the process died of signal {-child.exit}")
    for line in child.lines:
        if "failed" in line:
            tally.breach("G15", f"{how}: the process raised {line['failed']}")
        elif "ran" in line and not line["right"]:
            tally.breach("G15", f"{how}: job {line['ran']} ran with fields that nobody had submitted")
    if tally.breaches == before:
        shutil.rmtree(copy)


def _damage(data: bytearray, chance: Random) -> str:
    """Damage it. What was done, in words."""
    draw = chance.random()
    if draw < 0.7:
        in_payload = chance.random() < 0.5
        for _ in range(count := chance.choice((1, 1, 1, 2, 8, 64))):
            data[_in_payload(data, chance) if in_payload else chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return "a flipped bit" if count == 1 else "flipped bits"
    if draw < 0.9:
        start = chance.randrange(len(data) // 512) * 512
        data[start : start + 512] = bytes(512)
        return "a zeroed sector"
    del data[chance.randrange(len(data)) :]
    return "its end cut off"


def _in_payload(data: bytearray, chance: Random) -> int:
    """Where the fields of some job are, if that can be found: most of the file is something else."""
    found = data.find(seal(chance.randrange(JOBS)).encode())
    return chance.randrange(len(data)) if found < 0 else found + chance.randrange(24)


def _open(path: Path, scene: Scene) -> None:
    try:
        with Runtime(workers=1) as runtime:
            library = runtime.open_library(path, services=scene, create=False, control=False)
            _run_all(library, scene.say)
    except CallboardError as error:
        scene.say(refused=str(error))


def _run_all(library: Library, say: Say) -> None:
    """Until all has run, or the damage has been met by a write: then the library says that it takes no more of them. Or nothing moves any more,
    as when the damage is in an index.
    """
    until, before = time.monotonic() + RUN_SECONDS, library.statistics()
    while True:
        try:
            return drain(library, LOOK_SECONDS)
        except TimeoutError as error:
            now = library.statistics()
            if now.degraded:
                raise StoreUnavailable(now.degraded) from None
            if (now.live, now.ended) != (before.live, before.ended):
                until, before = time.monotonic() + RUN_SECONDS, now
            elif time.monotonic() >= until:
                say(stuck=str(error))
                return
