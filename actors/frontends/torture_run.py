"""`callboard torture`: a line for each guarantee with what was tried and what was found, and while it goes on how far it is."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from callboard.actors.frontends import json_view
from callboard.actors.frontends.wording import count, escaped
from callboard.actors.machine import Ports
from callboard.actors.testing.torture.session import Session
from callboard.actors.testing.torture.tally import PROMISES, Line, Tally
from callboard.persistence.place import check_folder

LINE_SECONDS = 10.0
"""Between two lines of progress, where there is no terminal."""


def torture(directory: Path, seconds: float, seed: int | None, ports: Ports, *, as_json: bool) -> int:
    """Try to break the guarantees in a new folder below `directory`. 0: nothing broke; 1: something did, and is left there."""
    drawn = int.from_bytes(ports.random_bytes(4), "big") if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="callboard-torture-", dir=directory))
    screen = _Progress(quiet=as_json)
    session = Session(folder, seconds, drawn, screen.round)
    try:
        check_folder(folder, allow_network_fs=False)
        session.run()
    finally:
        screen.clear()
        if not session.left:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        print(json_view.line(_view(session, directory)))
    else:
        _print(session, directory)
    return 1 if session.tally.breaches else 0


class _Progress:
    """On a terminal one line that changes; else a line now and then."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._moves = sys.stderr.isatty()
        self._said = 0.0

    def round(self, session: Session, trial: str) -> None:
        """A round begins."""
        if self._quiet or (not self._moves and session.elapsed - self._said < LINE_SECONDS):
            return
        self._said = session.elapsed
        kills = sum(line.tried["kills"] for line in session.tally.lines.values())
        breaches = count(session.tally.breaches, "breach", "breaches")
        text = f"{session.elapsed:.0f} of {session.seconds:g} s: {trial}; {count(kills, 'kill')}, {breaches}"
        print(f"\r{text}\x1b[K" if self._moves else text, end="" if self._moves else "\n", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Nothing of it is left on the terminal."""
        if self._moves and not self._quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _print(session: Session, directory: Path) -> None:
    for name, line in session.tally.lines.items():
        print(f"{name:8} {_verdict(line):9} {PROMISES[name]}: {_cases(line)}")
        for text in line.breaches:
            print(f"         {escaped(text)}")
        if line.more:
            print(f"         and {line.more:,} more")
        for text in line.notes:
            print(f"         {escaped(text)}")
    print(f"seed {session.seed}, {session.elapsed:.0f} s in {escaped(str(directory.absolute()))}: {_summary(session.tally)}")
    for left in session.left:
        print(f"left for you to look at: {escaped(str(left))}")


def _verdict(line: Line) -> str:
    return "BROKEN" if line.breaches else "held" if any(line.tried.values()) else "not tried"


def _cases(line: Line) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in line.tried.items() if number) or "time was too short"


def _summary(tally: Tally) -> str:
    return count(tally.breaches, "breach", "breaches") if tally.breaches else "nothing broke"


def _view(session: Session, directory: Path) -> dict[str, object]:
    return {
        "seed": session.seed,
        "seconds": round(session.elapsed, 3),
        "dir": str(directory.absolute()),
        "rounds": session.rounds,
        "guarantees": [{"verdict": _verdict(session.tally.lines[str(each["id"])]).lower(), **each} for each in session.tally.view()],
        "breaches": session.tally.breaches,
        "left": [str(left) for left in session.left],
    }
