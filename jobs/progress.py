"""How far a job is: one reading, when it is due to be told and to be written, and at what rate it goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from callboard.jobs.errors import BadArgument, shown
from callboard.jobs.value import Value

TELL_EVERY = 0.1
"""Seconds between readings told to subscribers. The first and the last are always told."""

WRITE_EVERY = 2.0
"""Seconds between readings written to the row; a checkpoint and the end write theirs anyhow."""

RATE_WINDOW = 30.0
"""Seconds over which the rate is taken."""

_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Progress(Value):
    """A reading. Every part is optional; `fraction` says the best known of them."""

    done: int | None = None
    """Items done."""
    total: int | None = None
    """Items in all, as far as known."""
    bytes_done: int | None = None
    bytes_total: int | None = None
    percentage: float | None = None
    """0.0 … 1.0, as reported by `report_percentage`."""
    phase: str | None = None
    """The name given to `report_phase`."""
    details: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    """What else was given to `report_phase`."""
    rate: float | None = None
    """Items a second (bytes a second where only bytes are reported) over the last 30 s of this run; None until it is known."""
    eta: float | None = None
    """Seconds left at that rate; None where it cannot be known."""
    of_children: bool = False
    """The job has reported nothing itself: it is as far as its children are. Each counts 1, one that has not ended its `fraction` of it."""

    @property
    def fraction(self) -> float | None:
        """0.0 … 1.0 from the percentage, else bytes, else items; None where no total is known."""
        if self.percentage is not None:
            return self.percentage
        for done, total in ((self.bytes_done, self.bytes_total), (self.done, self.total)):
            if done is not None and total:
                return min(1.0, done / total)
        return None


class ProgressGauge:
    """Takes a job's reports and keeps the reading: monotonic within a phase, rate over a window that begins with this run."""

    def __init__(self, start: Progress | None = None) -> None:
        """`start`: where an earlier run of the job left off; the rate does not count what was done before."""
        self.reading = replace(start, rate=None, eta=None) if start is not None else Progress()
        self._samples: deque[tuple[float, float]] = deque()
        """(when, how many), the oldest first."""
        self._sampled_bytes = False
        self._told_at: float | None = None
        self._written_at: float | None = None
        self._untold = False
        self._unwritten = False

    def count(self, done: int, total: int | None, now: float) -> None:
        """`done` of `total` items; None: how many there are in all is not known. Raises `BadArgument`, as the others do."""
        _whole("done", done)
        if total is not None:
            _whole("total", total)
        before = self._by_author()
        at_least = before.done or 0
        self._take(replace(before, done=max(done, at_least), total=total), now)

    def bytes(self, done: int, total: int | None, now: float) -> None:
        """The same of bytes."""
        _whole("done", done)
        if total is not None:
            _whole("total", total)
        before = self._by_author()
        at_least = before.bytes_done or 0
        self._take(replace(before, bytes_done=max(done, at_least), bytes_total=total), now)

    def of_children(self, ended: int, count: int, fractions: float, now: float) -> None:
        """So many of the job's children have ended; `fractions`: the sum of what is done of the others. It never goes back."""
        before = self._by_children()
        done, total = max(ended, before.done or 0), max(count, before.total or 0)
        fraction = max(before.percentage or 0.0, min(1.0, (ended + fractions) / count if count else 0.0))
        reading = replace(before, done=done, total=total, percentage=fraction, of_children=True)
        if (reading.done, reading.total, reading.percentage) != (self.reading.done, self.reading.total, self.reading.percentage):
            self._take(reading, now)

    def _by_author(self) -> Progress:
        """What the author's next report goes on from: what his children have done is none of it."""
        return Progress() if self.reading.of_children else self.reading

    def _by_children(self) -> Progress:
        return self.reading if self.reading.of_children else Progress()

    def percent(self, fraction: float, now: float) -> None:
        """0.0 … 1.0."""
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0.0 <= fraction <= 1.0:
            raise BadArgument(f"report_percentage({shown(fraction)}): give a number from 0.0 to 1.0")
        before = self._by_author()
        self._take(replace(before, percentage=max(float(fraction), before.percentage or 0.0)), now)

    def phase(self, name: str, details: Mapping[str, object], now: float) -> None:
        """A new phase starts its counts anew; the same name again, as a resumed job gives it, only changes the details."""
        if name == self.reading.phase:
            self._take(replace(self.reading, details=MappingProxyType(dict(details))), now)
            return
        self._samples.clear()
        self._take(Progress(phase=name, details=MappingProxyType(dict(details))), now)

    def due_to_tell(self, now: float) -> bool:
        """Whether there is something new, and the last was told long enough ago."""
        return self._untold and (self._told_at is None or now - self._told_at >= TELL_EVERY)

    def due_to_write(self, now: float) -> bool:
        """The same of writing."""
        return self._unwritten and (self._written_at is None or now - self._written_at >= WRITE_EVERY)

    def tell(self, now: float) -> Progress:
        """The reading, as told now."""
        self._told_at, self._untold = now, False
        return self.reading

    def written(self, now: float) -> Progress:
        """The reading, as written now."""
        self._written_at, self._unwritten = now, False
        return self.reading

    @property
    def untold(self) -> bool:
        """True if the reading has changed since it was told."""
        return self._untold

    @property
    def unwritten(self) -> bool:
        """True if the reading has changed since it was written."""
        return self._unwritten

    def seconds_until_tell(self, now: float) -> float:
        """How long it must not be told yet."""
        return 0.0 if self._told_at is None else max(0.0, self._told_at + TELL_EVERY - now)

    def _take(self, reading: Progress, now: float) -> None:
        in_bytes = reading.done is None
        measure, goal = (reading.bytes_done, reading.bytes_total) if in_bytes else (reading.done, reading.total)
        if measure is not None:
            if in_bytes is not self._sampled_bytes:
                self._samples.clear()
                self._sampled_bytes = in_bytes
            rate = self._rate(float(measure), now)
            eta = (goal - measure) / rate if goal is not None and rate else None
            reading = replace(reading, rate=rate, eta=None if eta is None else max(0.0, eta))
        self.reading = reading
        self._untold = self._unwritten = True

    def _rate(self, measure: float, now: float) -> float | None:
        samples = self._samples
        if not samples or now - samples[-1][0] >= TELL_EVERY:
            samples.append((now, measure))
        while len(samples) > 2 and now - samples[0][0] > RATE_WINDOW:
            samples.popleft()
        first_at, first = samples[0]
        return (measure - first) / (now - first_at) if now > first_at else None


def _whole(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise BadArgument(f"progress: {name}={shown(value)} is not a whole number from 0 on")
