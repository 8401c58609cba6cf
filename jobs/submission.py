"""A job and how to queue it. Every field is checked when the Submission is made, on the caller's thread, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from callboard.jobs.errors import BadSubmission, shown
from callboard.jobs.job import Job
from callboard.jobs.retry import MAX_DELAY, RetryPolicy

KEY_BYTES_MAX = 512
LABEL_CHARACTERS_MAX = 200
TAGS_MAX = 32
PRIORITY_LAST = 255
YEAR_10000 = 253_402_300_800.0
"""Seconds since the epoch: where datetime ends."""


class Priority(IntEnum):
    """Who goes first: 0 is the most urgent, 255 the least; any integer between will do. Within one priority: first come, first served."""

    URGENT = 0
    HIGH = 64
    NORMAL = 128
    LOW = 192
    IDLE = 255


class OnDuplicate(StrEnum):
    """What to do when a live job of the same name has the same key."""

    SKIP = "skip"
    """Keep the older one; the answer carries its id."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job plus how to queue it. Raises `BadSubmission` for a field that is out of its range."""

    job: Job
    """What to run. Its fields are read once, now or when the message that carries it is made."""
    key: str | bytes | None = None
    """Dedup key, at most 512 bytes, compared byte by byte: at most one live job per (job name, key)."""
    group: str | None = None
    """A label for limits and fairness: an endpoint, an account, a disk."""
    priority: int = Priority.NORMAL
    """0 first … 255 last; see `Priority`."""
    delay: float | None = None
    """Seconds from now before it may run. Not together with `run_at`."""
    run_at: float | None = None
    """Wall-clock time before which it does not run, seconds since the epoch."""
    retry: RetryPolicy | None = None
    """What to do when `run` raises; None: as the job's class says."""
    tags: tuple[str, ...] = field(default=())
    """Labels to filter by, at most 32."""
    on_duplicate: OnDuplicate = OnDuplicate.SKIP
    """What to do when the key is taken."""
    requested_by: str | None = None
    """Who asked, for the record; any text up to 200 characters."""

    def __post_init__(self) -> None:
        if not isinstance(self.job, Job):
            raise BadSubmission(f"job={shown(self.job)} is not a Job; submit an instance of a Job subclass")
        if self.key is not None:
            key_bytes(self.key)
        _label("group", self.group)
        _label("requested_by", self.requested_by)
        if isinstance(self.priority, bool) or not isinstance(self.priority, int) or not 0 <= self.priority <= PRIORITY_LAST:
            raise BadSubmission(f"priority={shown(self.priority)} is not an integer from 0 (first) to {PRIORITY_LAST} (last)")
        _seconds("delay", self.delay, MAX_DELAY, "a number of seconds")
        _seconds("run_at", self.run_at, YEAR_10000, "a number of seconds since the epoch, as datetime.timestamp() gives,")
        if self.delay is not None and self.run_at is not None:
            raise BadSubmission(f"delay={shown(self.delay)} and run_at={shown(self.run_at)}: give one of the two")
        if self.retry is not None and not isinstance(self.retry, RetryPolicy):
            raise BadSubmission(f"retry={shown(self.retry)} is not a RetryPolicy")
        if not isinstance(self.on_duplicate, OnDuplicate):
            ways = ", ".join(way.name for way in OnDuplicate)
            raise BadSubmission(f"on_duplicate={shown(self.on_duplicate)} is not a member of OnDuplicate; there are {ways}")
        if not isinstance(self.tags, (tuple, list)) or len(self.tags) > TAGS_MAX:
            raise BadSubmission(f"tags={shown(self.tags)} is not a tuple of at most {TAGS_MAX} labels")
        for index, tag in enumerate(self.tags):
            _label(f"tags[{index}]", tag, none_allowed=False)
        object.__setattr__(self, "tags", tuple(dict.fromkeys(self.tags)))


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submission, given after its commit."""

    job_id: bytes
    """Of the new job, or of the live one that has the key."""
    duplicate: bool = False
    """True if the key was taken and nothing new was queued."""
    run_at_ms: int | None = None
    """It waits for this time, ms since the epoch; None if it does not."""
    name: str = ""
    """Its type's name."""


def key_bytes(key: str | bytes) -> bytes:
    """The key as it is compared. Raises `BadSubmission` if it is empty, too long or no text."""
    try:
        raw = key.encode() if isinstance(key, str) else bytes(key) if isinstance(key, bytes) else None
    except UnicodeEncodeError:
        raise BadSubmission(f"key={shown(key)} has a lone surrogate; give the key as bytes") from None
    if raw is None or not 1 <= len(raw) <= KEY_BYTES_MAX:
        length = "" if raw is None else f", which has {len(raw)},"
        raise BadSubmission(f"key={shown(key)}{length} is not text or bytes of 1 to {KEY_BYTES_MAX} bytes")
    return raw


def _label(name: str, value: str | None, *, none_allowed: bool = True) -> None:
    if value is None and none_allowed:
        return
    if not isinstance(value, str) or not 1 <= len(value) <= LABEL_CHARACTERS_MAX:
        raise BadSubmission(f"{name}={shown(value)} is not text of 1 to {LABEL_CHARACTERS_MAX} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadSubmission(f"{name}={shown(value)} has a lone surrogate; labels are UTF-8 text") from None


def _seconds(name: str, value: float | None, most: float, what: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= most:
        raise BadSubmission(f"{name}={shown(value)} is not {what} from 0 to {most:.0f}")
