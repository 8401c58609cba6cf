"""`jobs.db` is moved away, or another file put in its place, while the library is open: from then on nothing is acknowledged, and others go on."""

from __future__ import annotations

from pathlib import Path
from random import Random

from callboard.actors.door import Library
from callboard.actors.runtime import Runtime
from callboard.actors.testing.torture.child import Child, Say
from callboard.actors.testing.torture.ledger import ENDED, LIVE
from callboard.actors.testing.torture.tally import Tally
from callboard.actors.testing.torture.work import Scene, Steps
from callboard.jobs.errors import OutcomeUnknown, Refused, StoreError
from callboard.jobs.submission import Submission
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import DATABASE

BEFORE = 5
AFTER = 5
PATIENCE = 120.0


def taken_away_round(folder: Path, chance: Random, tally: Tally, _until: float) -> None:
    """One library that loses its database, one beside it that does not; then it is put back, and looked at."""
    library = folder / "moved.library"
    (folder / "running").mkdir()
    replaced = chance.random() < 0.5
    with Child(lambda say: _live(library, Scene(folder, say), replaced)) as child:
        if not child.listen(PATIENCE):
            tally.breach("G12", f"without its database the library did not answer for {PATIENCE:g} s")
    tally.tried("G12", "databases replaced while open" if replaced else "databases moved away while open")
    tally.tried("G12", "submissions refused from then on", len(child.told("refused")))
    for line in child.told("failed"):
        tally.breach("G12", f"the process raised {line['failed']}")
    for line in child.told("late"):
        tally.breach("G12", f"submission {line['late']} was acknowledged, and jobs.db was not there")
    if child.told("degraded") != [{"degraded": True, "other": True}] and not child.told("failed"):
        tally.breach("G12", f"the library does not say that it takes no more, or another one does not go on: {child.told('degraded')}")
    (folder / DATABASE).rename(library / DATABASE)
    _look(library, child, tally)


def _live(path: Path, scene: Scene, replaced: bool) -> None:
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(path, services=scene, control=False)
        other = runtime.open_library(scene.folder / "other.library", services=scene, control=False)
        _submit(library, range(BEFORE), "acked", scene.say)
        database = path / DATABASE
        if replaced:
            (path / "copy").write_bytes(bytes(4_096))
        database.rename(scene.folder / DATABASE)
        if replaced:
            (path / "copy").rename(database)
        _submit(library, range(BEFORE, BEFORE + AFTER), "late", scene.say)
        goes_on = other.submit(Submission(Steps(0, 0))).wait(PATIENCE) == 0
        scene.say(degraded=library.statistics().degraded != "", other=goes_on)


def _submit(library: Library, numbers: range, word: str, say: Say) -> None:
    for number in numbers:
        try:
            handle = library.submit(Submission(Steps(number, 0), delay=3_600.0, requested_by=f"n{number}"))
        except OutcomeUnknown:
            continue
        except (Refused, StoreError) as error:
            say(refused=number, error=type(error).__name__)
        else:
            say(**{word: number, "id": handle.id.hex()})


def _look(path: Path, child: Child, tally: Tally) -> None:
    folder = LibraryFolder.open(path, create=False, stays=False)
    try:
        reader = folder.reader()
        there = {str(values[4]) for sql in (LIVE, ENDED) for values in reader.execute(sql)}
    finally:
        folder.abandon()
    for line in child.told("acked"):
        if f"n{line['acked']}" not in there:
            tally.breach("G12", f"submission {line['acked']} was acknowledged before, and is gone")
    for line in child.told("refused"):
        if f"n{line['refused']}" in there:
            tally.breach("G2", f"submission {line['refused']} was refused with {line['error']}, and is stored")
