"""A disk that is full at some byte (a limit on the size of files stands for it), and whether the disk takes the time that a sync must take."""

from __future__ import annotations

import os
import resource
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from callboard.actors.runtime import Runtime
from callboard.actors.testing.torture.child import Child
from callboard.actors.testing.torture.ledger import ENDED, LIVE
from callboard.actors.testing.torture.tally import Tally
from callboard.actors.testing.torture.work import Scene, Steps
from callboard.jobs.errors import CallboardError, OutcomeUnknown, Refused, StoreError
from callboard.jobs.submission import Submission
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import filesystem

SUBMISSIONS_MOST = 400
PATIENCE = 120.0
PAD = "x" * 1_500
SYNCS = 200
SYNC_SECONDS = 0.5
IMPLAUSIBLE_SECONDS = 15e-6
"""A sync is a round trip to the disk: the fastest with power-loss protection take more than this."""
NOT_ON_A_DISK = ("tmpfs", "ramfs")


def full_round(folder: Path, chance: Random, tally: Tally, _until: float) -> None:
    """A library is filled until the disk is full, and looked at with room again."""
    library = folder / "full.library"
    (folder / "running").mkdir()
    room, items = chance.randrange(0, 300_000), chance.randint(0, 200)
    with Child(lambda say: _fill(library, Scene(folder, say), room, items)) as child:
        if not child.listen(PATIENCE):
            tally.breach("G13", f"with {room} bytes left the process did not answer for {PATIENCE:g} s")
    tally.tried("G13", "full disks")
    tally.tried("G13", "submissions acknowledged", len(child.told("acked")))
    tally.tried("G2", "submissions refused", len(child.told("refused")))
    for line in child.told("failed"):
        tally.breach("G13", f"with {room} bytes left: {line['failed']}")
    if child.exit is not None and child.exit < 0:
        tally.breach("G13", f"with {room} bytes left the process died of signal {-child.exit}")
    _look(library, child, tally)


def _fill(path: Path, scene: Scene, room: int, items: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    runtime = Runtime(workers=1)
    library = runtime.open_library(path, services=scene, control=False)
    library.submit_batch([Submission(Steps(number, 2), requested_by=f"first{number}") for number in range(items)])
    limit = max((entry.stat().st_size for entry in path.iterdir() if entry.name.startswith("jobs.db")), default=0) + room
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    refused = 0
    for number in range(SUBMISSIONS_MOST):
        try:
            handle = library.submit(Submission(Steps(1_000 + number, 1, pad=PAD), requested_by=f"n{number}"))
        except OutcomeUnknown:
            scene.say(unknown=number)
        except (StoreError, Refused) as error:
            scene.say(refused=number, error=type(error).__name__)
            refused += 1
        else:
            scene.say(acked=number, id=handle.id.hex())
        if refused >= 10:
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _look(path: Path, child: Child, tally: Tally) -> None:
    if not path.exists():
        return
    try:
        folder = LibraryFolder.open(path, create=False, stays=False)
    except CallboardError as error:
        tally.breach("G13", f"with room again the library cannot be opened: {error}")
        return
    try:
        reader = folder.reader()
        found = {values[4]: values[0] for sql in (LIVE, ENDED) for values in reader.execute(sql)}
        integrity = [text for (text,) in reader.execute("PRAGMA integrity_check")]
    finally:
        folder.abandon()
    numbers = {str(name) for name in found}
    ids = {value.hex() for value in found.values() if isinstance(value, bytes)}
    if integrity != ["ok"]:
        tally.breach("G13", f"integrity_check after a full disk: {integrity[:3]}")
    for line in child.told("acked"):
        if line["id"] not in ids:
            tally.breach("G13", f"submission {line['acked']} was acknowledged on a disk that ran full, and is not stored")
    for line in child.told("refused"):
        if f"n{line['refused']}" in numbers:
            tally.breach("G2", f"submission {line['refused']} was refused with {line['error']}, and is stored")


def sync_round(folder: Path, _chance: Random, tally: Tally, _until: float) -> None:
    """How long a sync takes, of a file and of a submission."""
    fd = os.open(folder / "sync", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        median = _median(lambda number: _sync(fd, number))
    finally:
        os.close(fd)
    tally.tried("disk", "trials of syncs")
    with Child(lambda say: _time_submissions(folder / "sync.library", Scene(folder, say))) as child:
        child.listen(PATIENCE)
    latency = "".join(f", a durable submission {line['median'] * 1e6:,.0f} µs" for line in child.told("median"))
    kind = filesystem(folder)
    tally.note("disk", f"a sync takes {median * 1e6:,.0f} µs{latency} (medians; {kind or 'unknown file system'})")
    if kind in NOT_ON_A_DISK:
        tally.note("disk", f"{kind} is memory: nothing on it survives a power cut; say --dir with a folder on the disk that you mean to use")
    elif median < IMPLAUSIBLE_SECONDS:
        tally.note("disk", "no disk syncs that fast: this one, or what stands before it, only says so. A power cut may lose what was acknowledged")


def _time_submissions(path: Path, scene: Scene) -> None:
    (scene.folder / "running").mkdir(exist_ok=True)
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(path, services=scene, control=False)
        scene.say(median=_median(lambda number: library.submit(Submission(Steps(number, 0), delay=3_600.0))))


def _sync(fd: int, number: int) -> None:
    os.pwrite(fd, os.urandom(4_096), number * 4_096)
    os.fdatasync(fd)


def _median(act: Callable[[int], object]) -> float:
    """Seconds that a call takes, over some calls and a part of a second."""
    times: list[float] = []
    until = time.monotonic() + SYNC_SECONDS / 2
    for number in range(SYNCS):
        began = time.perf_counter()
        act(number)
        times.append(time.perf_counter() - began)
        if time.monotonic() >= until:
            break
    return statistics.median(times)


