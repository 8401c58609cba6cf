"""The jobs that a torture runs. Each says what it does as it does it, and holds a lock of its own while it runs: a second runner is seen."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from callboard.actors.testing.torture.child import Say
from callboard.jobs.context import JobContext
from callboard.jobs.job import Job

TWIN = 7
"""`twin` is so many times `at` in every checkpoint: of two mixed ones it is not."""


class Scene(NamedTuple):
    """What the jobs find in `ctx.services`."""

    folder: Path
    say: Say

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Told as an overlap if somebody else is in here under the same name, in whatever process."""
        fd = os.open(self.folder / "running" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say(overlap=name)
            yield
        finally:
            os.close(fd)


@dataclass
class Steps(Job, name="torture.steps"):
    """Some steps, a checkpoint after each."""

    number: int
    steps: int
    at: int = 0
    twin: int = 0
    pad: str = ""
    """Takes room."""

    def run(self, ctx: JobContext) -> int:
        with ctx.services.alone(f"n{self.number}"):
            ctx.services.say(runs=self.number, at=self.at, twin=self.twin)
            while self.at < self.steps:
                ctx.check_interrupt()
                self.at += 1
                self.twin = TWIN * self.at
                ctx.checkpoint()
                ctx.services.say(saved=self.number, at=self.at)
        return self.at


@dataclass
class Leaf(Job, name="torture.leaf"):
    parent: int
    number: int

    def run(self, ctx: JobContext) -> int:
        with ctx.services.alone(f"leaf-{self.parent}-{self.number}"):
            return self.number


@dataclass
class Family(Job, name="torture.family"):
    """Children, and their sum."""

    number: int
    children: int

    def run(self, ctx: JobContext) -> int:
        with ctx.services.alone(f"n{self.number}"):
            ctx.services.say(runs=self.number, at=0, twin=0)
            ids = ctx.spawn_children([Leaf(self.number, number) for number in range(self.children)], name="leaves")
        return sum(int(str(end.result)) for end in ctx.wait_for_children(ids))


def seal(number: int) -> str:
    """Told together with the number in a job's fields: whoever changes one of them changes a seal."""
    return hashlib.blake2b(str(number).encode(), digest_size=12).hexdigest()


@dataclass
class Sealed(Job, name="torture.sealed"):
    """Says whether its fields are those that were submitted."""

    number: int
    seal: str

    def run(self, ctx: JobContext) -> None:
        ctx.services.say(ran=self.number, right=self.seal == seal(self.number))
