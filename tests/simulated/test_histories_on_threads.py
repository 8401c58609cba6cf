"""The same hosts, jobs and invariants on real threads that are switched as often as can be: what a simulation cannot show.

Here a life ends by a close instead of a crash, and time is real: a second of the scripts is a few milliseconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commits import watched_commits
from histories import batches_cut_small, errors_noted, watched_folders
from host import Host
from invariants import breaches
from observed import Logged, Observed, Opened, Quiet, Told
from scripts import Life
from sent_batches import SentBatch

from callboard.actors.machine import Joinable
from callboard.actors.ports import ThreadPorts
from callboard.jobs.events import ENDS
from callboard.jobs.lifecycle import Status
from callboard.persistence.folder import LibraryFolder

SEEDS = range(12)
LIVES = 2
SCALE = 0.01
LOOKS = 2_000
LOOK_SECONDS = 0.01
"""How often, and how far apart, it is looked whether a library has come to rest."""


@pytest.fixture
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def live(seed: int, number: int, path: Path, observed: Observed, known: list[bytes], sent: list[SentBatch], folders: list[LibraryFolder]) -> None:
    ports = ThreadPorts()

    def spawn(run: Callable[[], object], name: str) -> Joinable:
        def noted() -> None:
            try:
                run()
            except BaseException as error:
                observed.add(Logged(number, f"{name} raised {error!r}"))
                raise

        return ports.thread(noted, name)

    host = Host(number, ports, path, observed, known, sent, folders)
    life = Life(seed, [host], spawn, last=number == LIVES, scale=SCALE)
    assert spawn(life.main, "main").join(60.0)
    for _ in range(LOOKS):
        if at_rest(host, life, observed):
            break
        ports.sleep(LOOK_SECONDS)
    observed.add(Quiet(number, *host.stored(), life.knows))
    assert spawn(life.end, "end").join(60.0)


def at_rest(host: Host, life: Life, observed: Observed) -> bool:
    """Nothing runs or is about to, and the ends of this life have been told."""
    host.drain()
    rows = host.rows()
    parents = {row.parent for row in rows.values() if not row.status.ended}
    before = next(entry.rows for entry in reversed(observed.entries) if isinstance(entry, Opened))
    told = {job for job, row in before.items() if row.status.ended}
    told.update(entry.fact.job_id for entry in observed.entries if isinstance(entry, Told) and isinstance(entry.fact, ENDS))
    return not any(
        (row.status.claimed and (row.id not in parents or row.status is not Status.RUNNING))
        or (row.status is Status.QUEUED and row.name in life.knows)
        or (row.status.ended and row.id not in told)
        for row in rows.values()
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("switching_often")
def test_no_history_on_threads_breaks_an_invariant(seed: int, tmp_path: Path) -> None:
    observed, known, sent, folders = Observed(), list[bytes](), list[SentBatch](), list[LibraryFolder]()
    path = tmp_path.resolve() / "library"
    with errors_noted(observed), watched_folders(folders), watched_commits({path: observed}), batches_cut_small():
        for number in range(1, LIVES + 1):
            live(seed, number, path, observed, known, sent, folders)
    log = "\n".join(f"{place:5} {entry}" for place, entry in enumerate(observed.entries))
    found = breaches(observed.entries)
    assert not found, "\n".join((log, *found))
    assert len(known) >= 3
