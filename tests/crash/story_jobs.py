"""The jobs of the stories. `ctx.services` is where they tell what they see and do."""

from __future__ import annotations

from dataclasses import dataclass

from callboard.jobs.context import JobContext
from callboard.jobs.errors import CriticalError
from callboard.jobs.job import Job
from callboard.jobs.retry import RetryPolicy
from callboard.jobs.task import Done, Task, TaskContext

ONCE = RetryPolicy(max_attempts=1)


@dataclass
class Steps(Job, name="story.steps", retry=ONCE):
    """Counts to `steps`, with a checkpoint and a nap at each; `twin` is always seven times `at`."""

    number: int
    steps: int = 2
    nap: float = 0.0
    at: int = 0
    twin: int = 0

    def run(self, ctx: JobContext) -> int:
        tell = ctx.services
        if tell is not None:
            tell(runs=self.number, at=self.at, twin=self.twin)
        while self.at < self.steps:
            self.at, self.twin = self.at + 1, (self.at + 1) * 7
            ctx.checkpoint()
            if tell is not None:
                tell(saved=self.number, at=self.at)
            if self.nap:
                ctx.sleep(self.nap)
        return self.number * 10


@dataclass
class Fails(Job, name="story.fails", retry=ONCE):
    number: int

    def run(self, ctx: JobContext) -> None:
        raise CriticalError("as it should")


@dataclass
class Warns(Job, name="story.warns", retry=ONCE):
    number: int

    def run(self, ctx: JobContext) -> str:
        ctx.warn("a little thing")
        return "done"


@dataclass
class Look(Task):
    item: int

    def run(self, ctx: TaskContext) -> int:
        return self.item * self.item


@dataclass
class Pictures(Job, name="story.pictures", retry=ONCE):
    """A map over items, with its ledger; `seen` is the sum of their squares."""

    number: int
    count: int
    seen: int = 0

    def run(self, ctx: JobContext) -> int:
        for end in ctx.map(Look, range(self.count), name="items"):
            assert isinstance(end, Done)
            self.seen += int(str(end.value))
        return self.seen
