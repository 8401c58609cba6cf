"""How sizes, times, progress and facts are put for people. Whatever comes from a job is shown as one line that cannot steer a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from callboard.actors.joblog import escaped
from callboard.jobs.events import (
    BatchEnded,
    BatchSubmitted,
    Fact,
    FactsLost,
    JobCancelled,
    JobCancelling,
    JobCompleted,
    JobFailed,
    JobPaused,
    JobPausing,
    JobQuarantined,
    JobQueued,
    JobRequeued,
    JobResponsive,
    JobResumed,
    JobStarted,
    JobUnresponsive,
    LibraryDegraded,
)  # fmt: skip
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import Status
from callboard.jobs.progress import Progress
from callboard.jobs.record import JobRecord

__all__ = ["clock", "count", "counts_text", "duration", "escaped", "fact_text", "percent", "progress_text", "shortened", "size", "status_text"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(number: float) -> str:
    """A number of bytes: `512 B`, `1.5 GiB`."""
    unit = 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.0f} {_UNITS[unit]}" if unit == 0 or number >= 100 else f"{number:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """`0.3 s`, `42 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for big, small, length in (("d", "h", 86_400), ("h", "min", 3_600), ("min", "s", 60)):
        if whole >= length:
            rest = whole % length // {"h": 3_600, "min": 60, "s": 1}[small]
            return f"{whole // length} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def clock(seconds: float | None) -> str:
    """A time since the epoch as local time; a dash for None."""
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 file`, `12,345 files`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(progress: Progress | None) -> str:
    """`47 %`, or nothing."""
    fraction = None if progress is None else progress.fraction
    return "" if fraction is None else f"{100 * fraction:.0f} %"


def shortened(text: str, width: int) -> str:
    """At most `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def progress_text(progress: Progress, byte_rate: float | None = None, eta: float | None = None) -> str:
    """`copying: 47 %, 4,711 of 10,000, 1.2 GiB of 2.3 GiB, 120 MiB/s, 8.0 s left`, as much of it as is known.

    `byte_rate` and `eta`: as `Pace` has them; without them there is the reading's own rate, and no time left.
    """
    parts = [percent(progress)] if progress.fraction is not None else []
    if progress.done is not None:
        parts.append(f"{progress.done:,} of {progress.total:,}" if progress.total is not None else f"{progress.done:,} done")
    if progress.bytes_done is not None:
        of_total = f" of {size(progress.bytes_total)}" if progress.bytes_total is not None else " done" if progress.done is None else ""
        parts.append(size(progress.bytes_done) + of_total)
    if byte_rate is None and progress.done is None:
        byte_rate = progress.rate
    if byte_rate is not None:
        parts.append(f"{size(byte_rate)}/s")
    elif progress.rate is not None:
        parts.append(f"{progress.rate:,.1f}/s")
    if eta is not None:
        parts.append(f"{duration(eta)} left")
    text = ", ".join(parts)
    return f"{escaped(progress.phase)}: {text}" if progress.phase else text


def status_text(record: JobRecord, owned: bool) -> str:
    """The status; of a row that a dead owner left claimed: `interrupted`. `owned`: somebody has the library open."""
    if owned or not record.status.claimed:
        return str(record.status)
    return "interrupted" if record.status is Status.RUNNING else f"interrupted, {record.status}"


def counts_text(counts: Mapping[str, int]) -> str:
    """`3 submitted, 1 failed`."""
    return ", ".join(f"{number:,} {escaped(name.replace('_', ' '))}" for name, number in counts.items()) or "none"


def fact_text(fact: object) -> str:
    """What happened, in a few words."""
    match fact:
        case JobQueued():
            return "queued"
        case JobStarted():
            again = f" (attempt {fact.attempt})" if fact.attempt > 1 else ""
            return ("goes on" if fact.resumed else "started") + again
        case JobPausing() | JobCancelling():
            return "pausing" if isinstance(fact, JobPausing) else "cancelling"
        case JobPaused():
            return "paused" + (f": {escaped(fact.reason)}" if fact.reason else "")
        case JobResumed():
            return "resumed"
        case JobRequeued():
            why = f" after {escaped(fact.error)}" if fact.error else ""
            return ("waits again" if fact.run_at is None else f"waits until {clock(fact.run_at)}") + why
        case JobCompleted():
            return "completed" + (f" with {count(fact.errors, 'error')}" if fact.errors else "")
        case JobFailed():
            return f"failed: {escaped(fact.error)}"
        case JobCancelled():
            return "cancelled" if fact.superseded_by is None else f"superseded by {id_text(fact.superseded_by)}"
        case JobQuarantined():
            return f"quarantined: {escaped(fact.reason)}"
        case JobUnresponsive():
            return f"has not looked whether it is to stop for {fact.seconds:g} s; it is waited for"
        case JobResponsive():
            return "looks again"
        case BatchSubmitted():
            return f"batch of {count(fact.count, 'item')}: {counts_text(fact.counts)}"
        case BatchEnded():
            return f"the last job of the batch has ended: {counts_text(fact.counts)}"
        case FactsLost():
            return f"{count(fact.last - fact.first + 1, 'fact')} could not be delivered in time"
        case LibraryDegraded():
            return f"the library takes no more writes: {escaped(fact.error)}"
        case Fact():
            return type(fact).__name__
    return str(type(fact).__name__)
