"""Whom to ask about a library: its owner if it has one, else nobody, and then its lock is taken for a moment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from callboard.actors.frontends.client import Client, OwnerGone
from callboard.actors.machine import Ports
from callboard.jobs.errors import LibraryBusy, NotALibrary

if TYPE_CHECKING:
    from callboard.actors.frontends.visit import Visit

PATIENCE = 5.0
"""Seconds to wait for the socket of an owner that stays, or for one that passes."""
STEP = 0.02
"""Seconds between two tries."""

Board: TypeAlias = "Client | Visit"
T = TypeVar("T")


def default_library() -> Path:
    """`callboard` in the user's folder for state."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return Path(state if os.path.isabs(state) else os.path.expanduser("~/.local/state"), "callboard")


def library_at(path: Path) -> Path:
    """The folder of an existing library, as its owner knows it. Raises `NotALibrary`."""
    folder = Path(os.path.realpath(path))
    if not folder.is_dir():
        raise NotALibrary(f"there is no library {str(path)!r}; name another with --library, or make it by a `callboard copy`")
    return folder


@contextlib.contextmanager
def board(path: Path, ports: Ports) -> Iterator[Board]:
    """The owner of the library, or a visit to it. Raises `LibraryBusy` after two seconds of neither, and as `Client.reach`, `Visit.enter`."""
    folder = library_at(path)
    found = reach(folder, ports)
    try:
        yield found
    finally:
        found.close()


def answer_of(path: Path, ports: Ports, question: Callable[[Board], T]) -> T:
    """What whoever is reached answers; asked again, of whoever is there then, if the owner vanishes over it. So it must bear being repeated."""
    until = ports.monotonic() + PATIENCE
    while True:
        try:
            with board(path, ports) as anyone:
                return question(anyone)
        except OwnerGone:  # one that is killed accepts connections until its last descriptor is closed
            if ports.monotonic() >= until:
                raise
        ports.sleep(STEP)


def reach(folder: Path, ports: Ports) -> Board:
    """As `board`; the caller closes what is found."""
    until = ports.monotonic() + PATIENCE
    while True:
        client = Client.reach(folder, ports)
        if client is not None:
            return client
        from callboard.actors.frontends.visit import Visit  # SQLite need not be loaded to talk to an owner

        try:
            return Visit.enter(folder, ports)
        except LibraryBusy as busy:
            if ports.monotonic() >= until:
                raise LibraryBusy(f"{busy}; it answers no commands", pid=busy.pid) from None
        ports.sleep(STEP)
