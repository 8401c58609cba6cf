"""What a run reports: told to listeners at most every 100 ms, written to the row at most every 2 s, first and last always."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from callboard.actors.actor import send
from callboard.actors.messages import Commit, Reading
from callboard.jobs.errors import BadArgument
from callboard.jobs.progress import Progress, ProgressGauge
from callboard.persistence.codec import encode_value
from callboard.persistence.families import Family, progress_blob, progress_from
from callboard.persistence.writes import WriteProgress

if TYPE_CHECKING:
    from callboard.actors.context import RunningContext


class Reports:
    """The gauge of one run, and who is told of it. Made at the first report: most quick jobs have none."""

    def __init__(self, ctx: RunningContext, before: bytes | None) -> None:
        """`before`: the reading that an earlier run stored."""
        self._ctx = ctx
        self._gauge = ProgressGauge(progress_from(before))
        self._telling = False
        self._own = False
        """The author reports: his readings are not written over with those of the children."""

    @property
    def reading(self) -> Progress:
        return self._gauge.reading

    def of_children(self, family: Family) -> None:
        """What is told of a parent that says nothing itself. It never goes back, also when the parent is run again."""
        if not self._own and family.total and (self.reading.of_children or self.reading == Progress()):
            now = self._ctx.ports.monotonic()
            self._gauge.of_children(family.ended, family.total, family.fractions, now)
            self._reported(now)

    def count(self, done: int, total: int | None) -> None:
        now = self._ctx.ports.monotonic()
        self._gauge.count(done, total, now)
        self._by_author(now)

    def size(self, done: int, total: int | None) -> None:
        now = self._ctx.ports.monotonic()
        self._gauge.bytes(done, total, now)
        self._by_author(now)

    def percentage(self, fraction: float) -> None:
        now = self._ctx.ports.monotonic()
        self._gauge.percent(fraction, now)
        self._by_author(now)

    def phase(self, name: str, details: Mapping[str, object]) -> None:
        if not isinstance(name, str) or not 1 <= len(name) <= 200:
            raise BadArgument(f"report_phase: name={name!r:.60} is not text of 1 to 200 characters")
        encode_value([name, details])  # here, where the author sees what it says, and not in a checkpoint later on
        now = self._ctx.ports.monotonic()
        self._gauge.phase(name, details, now)
        self._by_author(now)

    def stored(self) -> bytes:
        """The reading as it is stored; it counts as written."""
        return progress_blob(self._gauge.written(self._ctx.ports.monotonic()))

    def tell_last(self) -> None:
        """The last reading is always told."""
        if self._gauge.untold:
            self._tell(self._ctx.ports.monotonic())

    def _by_author(self, now: float) -> None:
        self._own = True
        self._reported(now)

    def _reported(self, now: float) -> None:
        gauge, ctx = self._gauge, self._ctx
        if gauge.due_to_tell(now):
            self._tell(now)
        elif gauge.untold and not self._telling:
            self._telling = True
            ctx.ports.call_later(gauge.seconds_until_tell(now), self._tell_later)
        if gauge.due_to_write(now):
            send(ctx.stage.store, Commit((WriteProgress(ctx.job_id, ctx.claimed.claim, self.stored()),), ctx.stage.library))

    def _tell_later(self) -> None:
        """On the timer's thread, as the job may be computing: the reading is one immutable value."""
        self._telling = False
        self.tell_last()

    def _tell(self, now: float) -> None:
        ctx = self._ctx
        # By way of the library, which tells that the job has started before it takes this, and that it has ended behind it.
        send(ctx.stage.library, Reading(ctx.stage.stream, ctx.job_id, ctx.claimed.name, self._gauge.tell(now)))
