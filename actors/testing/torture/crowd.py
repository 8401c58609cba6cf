"""Libraries of one process are told more than they can store, each with a listener that never reads: what waits, and what it takes, is bounded."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from random import Random

import pykka

from callboard.actors.admission import INBOX_MOST
from callboard.actors.hub import lag
from callboard.actors.messages import Submit
from callboard.actors.runtime import Runtime
from callboard.actors.testing.torture.child import Child
from callboard.actors.testing.torture.tally import Tally
from callboard.actors.testing.torture.work import Scene, Steps
from callboard.jobs.errors import InboxFull
from callboard.jobs.submission import Submission

LIBRARIES_MOST = 6
LAG = 50
"""Messages that may wait for a listener; a `FactsLost` may come with the last of them."""
STEERING = 100
"""So many messages of those that are always let in may wait for a library besides."""
SECONDS = (0.1, 1.0)
PATIENCE = 120.0
BATCH = 50
A_LIBRARY_MIB, A_MESSAGE_MIB = 6, 2 / 1_024


class Sleeper(pykka.ThreadingActor):
    """Reads its first message for ever."""

    use_daemon_thread = True

    def on_receive(self, message: object) -> None:
        threading.Event().wait()


def crowd_round(folder: Path, chance: Random, tally: Tally, until: float) -> None:
    """Some libraries, told jobs for a second at most; then it is counted what they have stored."""
    count, seconds = chance.randint(2, LIBRARIES_MOST), min(max(until - time.monotonic(), SECONDS[0]), SECONDS[1])
    with Child(lambda say: _live(count, seconds, Scene(folder, say))) as child:
        if not child.listen(PATIENCE):
            tally.breach("G14", f"{count} libraries that were told too much did not answer for {PATIENCE:g} s")
    for line in child.told("failed"):
        tally.breach("G14", f"the process raised {line['failed']}")
    for line in child.told("let_in"):
        let_in, stored, mib = line["let_in"], line["stored"], line["mib"]
        tally.tried("G14", "libraries with a listener that never reads", count)
        tally.tried("G14", "submissions told", let_in)
        tally.tried("G14", "turned away by a full inbox", line["turned_away"])
        if stored != let_in:
            tally.breach("G14", f"{let_in} submissions were let in, and {stored} jobs are stored")
        if line["unread"] > LAG + 1:
            tally.breach("G14", f"{line['unread']} messages waited for a listener for whom {LAG} may")
        if line["waited"] > INBOX_MOST + STEERING:
            tally.breach("G14", f"{line['waited']} messages waited for a library for which {INBOX_MOST} may")
        if mib > count * A_LIBRARY_MIB + let_in * A_MESSAGE_MIB:
            tally.breach("G14", f"{count} libraries took {mib:.0f} MiB more with {let_in} submissions")


def _live(count: int, seconds: float, scene: Scene) -> None:
    before, let_in, turned_away, waited = _resident_mib(), 0, 0, 0
    with Runtime(workers=1) as runtime:
        libraries = [runtime.open_library(scene.folder / f"{number}.library", services=scene, control=False) for number in range(count)]
        sleepers = [Sleeper.start() for _ in libraries]
        for library, sleeper in zip(libraries, sleepers, strict=True):
            library.subscribe(sleeper, lag=LAG)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for library in libraries:
                for _ in range(BATCH):
                    try:
                        library.tell(Submit(Submission(Steps(let_in, 0), delay=3_600.0)))
                        let_in += 1
                    except InboxFull:
                        turned_away += 1
                waited = max(waited, lag(library.ref))
        mib = _resident_mib() - before
        for library in libraries:
            library.submit(Submission(Steps(0, 0), delay=3_600.0), block=PATIENCE)  # stored behind all the others
        stored = sum(library.statistics().live["queued"] - 1 for library in libraries)
        unread = max(lag(sleeper) for sleeper in sleepers)
        scene.say(let_in=let_in, turned_away=turned_away, stored=stored, waited=waited, unread=unread, mib=mib)


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
