"""A system that acknowledges before it stores: what the kill test must find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from callboard.benchmarks.peers.peer import Peer, Settings, Store, Work

KEPT = 64
"""Keys in memory before they are written."""


class Forgetful(Store):
    """A file of keys, written 64 at a time."""

    def __init__(self, file: Path) -> None:
        self.file, self.waiting = file, list[str]()

    def settings(self) -> Settings:
        return Settings("nothing is synced", synced=False)

    def put(self, job: Work) -> object:
        self.waiting.append(job.key)
        if len(self.waiting) == KEPT:
            with self.file.open("a") as file:
                file.write("".join(key + "\n" for key in self.waiting))
            self.waiting.clear()
        return job.key

    def keys(self) -> set[str]:
        return set(self.file.read_text().split()) if self.file.exists() else set()


class ForgetfulPeer(Peer):
    """Made to be found out."""

    name = "forgetful"
    claim = "none"

    @contextmanager
    def opened(self, place: Path) -> Iterator[Store]:
        yield Forgetful(place / "keys")


class MutePeer(ForgetfulPeer):
    """Ends by itself and acknowledges nothing."""

    def submit_for_ever(self, place: Path, acked: object) -> None:
        os.write(2, b"no more jobs today\n")
        raise SystemExit(3)
