"""Many processes open one library in the same moment: exactly one gets it, and the others are told at once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

from callboard.actors.testing.torture.child import Child, Say
from callboard.actors.testing.torture.tally import Tally
from callboard.jobs.errors import LibraryBusy
from callboard.persistence.folder import LibraryFolder

RUNNERS_MOST = 8
ROUNDS = 10
PATIENCE = 120.0
SLOW_SECONDS = 30.0


def race_round(folder: Path, chance: Random, tally: Tally, until: float) -> None:
    """Some races for one library, the first of which makes it."""
    library = folder / "race.library"
    for _ in range(ROUNDS):
        _race(library, chance.randint(2, RUNNERS_MOST), tally)
        if time.monotonic() >= until:
            return


def _race(library: Path, runners: int, tally: Tally) -> None:
    start_out, start_in = os.pipe()
    end_out, end_in = os.pipe()
    children: list[Child] = []

    def run(say: Say) -> None:
        os.close(start_in)
        os.close(end_in)
        os.read(start_out, 1)  # the starter closes it
        began = time.monotonic()
        try:
            held = LibraryFolder.open(library)
        except LibraryBusy:
            say(busy=time.monotonic() - began)
            return
        say(won=held.epoch)
        os.read(end_out, 1)  # hold it until all have tried
        held.close()

    try:
        children += (Child(run) for _ in range(runners))
        os.close(start_in)
        start_in = -1
        for child in children:
            _wait_for_answer(child)
        _judge(children, tally)
    finally:
        for fd in (start_out, start_in, end_out, end_in):
            if fd >= 0:
                os.close(fd)
        for child in children:
            child.listen(PATIENCE)
            child.kill()


def _wait_for_answer(child: Child) -> None:
    until = time.monotonic() + PATIENCE
    while not child.lines and child.exit is None and time.monotonic() < until:
        child.listen(0.005)


def _judge(children: list[Child], tally: Tally) -> None:
    winners = sum(len(child.told("won")) for child in children)
    waits = [line["busy"] for child in children for line in child.told("busy")]
    tally.tried("G5", f"races of 2 to {RUNNERS_MOST} openers")
    if winners != 1:
        tally.breach("G5", f"{winners} of {len(children)} processes got the library")
    if waits and max(waits) > SLOW_SECONDS:
        tally.breach("G5", f"who came too late was told so after {max(waits):.1f} s")
    for child in children:
        for line in child.told("failed"):
            tally.breach("G5", f"an opener met {line['failed']}")
        if not child.lines:
            tally.breach("G5", f"an opener did not answer (exit {child.exit})")
