"""A job and how to queue it. Every field is checked when the Submission is made, on the caller's thread, by name."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, final

from callboard.jobs.errors import BadSubmission, shown
from callboard.jobs.job import Job
from callboard.jobs.retry import MAX_DELAY, RetryPolicy

if TYPE_CHECKING:
    from callboard.jobs.duplicates import Answer

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
    """What to do when a live job of the same name has the same key. `callboard.jobs.duplicates` has it for every state of the older one."""

    SKIP = "skip"
    """Keep the older one; the answer carries its id. A more urgent priority is passed on to it as long as it has not begun."""
    SUPERSEDE = "supersede"
    """Replace it. One that runs is cancelled, and has stopped before the new one starts."""
    REQUEUE = "requeue"
    """Run once more after the older one has ended, with the newest fields; one that has not begun is kept as it is."""
    REJECT = "reject"
    """Queue nothing, and say so as an error."""


@final
@dataclass(frozen=True, slots=True, init=False)
class Submission:
    """A job plus how to queue it. Raises `BadSubmission` for a field that is out of its range.

    None is *unset*: the field then means what the batch says it does by default, else what is written below. A value given stays.
    """

    job: Job
    """What to run. Its fields are read once, now or when the message that carries it is made."""
    key: str | bytes | None = None
    """Dedup key, at most 512 bytes, compared byte by byte: at most one live job per (job name, key)."""
    group: str | None = None
    """A label for limits and fairness: an endpoint, an account, a disk."""
    priority: int | None = None
    """0 first … 255 last; see `Priority`. Unset: NORMAL."""
    delay: float | None = None
    """Seconds from now before it may run. Not together with `run_at`."""
    run_at: float | None = None
    """Wall-clock time before which it does not run, seconds since the epoch."""
    retry: RetryPolicy | None = None
    """What to do when `run` raises; None: as the job's class says."""
    tags: tuple[str, ...] | None = None
    """Labels to filter by, at most 32. Unset: none."""
    on_duplicate: OnDuplicate | None = None
    """What to do when the key is taken. Unset: SKIP."""
    requested_by: str | None = None
    """Who asked, for the record; any text up to 200 characters."""
    parent: str | None = None
    """Inside a batch: the `local` name of the item whose child this one is; if another job stands for that item, of that job. Without a job that
    lives when the item is stored it fails."""
    local: str | None = None
    """Inside a batch: a name for this item, by which others may refer to it. It is not stored."""

    def __new__(
        cls,
        job: Job,
        key: str | bytes | None = None,
        group: str | None = None,
        priority: int | None = None,
        delay: float | None = None,
        run_at: float | None = None,
        retry: RetryPolicy | None = None,
        tags: tuple[str, ...] | None = None,
        on_duplicate: OnDuplicate | None = None,
        requested_by: str | None = None,
        parent: str | None = None,
        local: str | None = None,
    ) -> Submission:
        if not isinstance(job, Job):
            raise BadSubmission(f"job={shown(job)} is not a Job; submit an instance of a Job subclass")
        # written out, and the common case first: a batch makes 100,000 of these
        if key is not None and not (type(key) is str and key.isascii() and 0 < len(key) <= KEY_BYTES_MAX):
            key_bytes(key)
        if group is not None and not (type(group) is str and group.isascii() and 0 < len(group) <= LABEL_CHARACTERS_MAX):
            check_label("group", group)
        if priority is not None:
            check_priority("priority", priority)
        if delay is not None or run_at is not None:
            _check_time(delay, run_at)
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise BadSubmission(f"retry={shown(retry)} is not a RetryPolicy")
        if tags is not None:
            tags = checked_tags("tags", tags)
        if on_duplicate is not None:
            check_on_duplicate(on_duplicate)
        if requested_by is not None:
            check_label("requested_by", requested_by)
        if parent is not None:
            check_label("parent", parent)
        if local is not None:
            check_label("local", local)
        made: Any = _object(_Unfrozen)  # a frozen object is written through object.__setattr__, at five times the price
        made.job = job
        made.key = key
        made.group = group
        made.priority = priority
        made.delay = delay
        made.run_at = run_at
        made.retry = retry
        made.tags = tags
        made.on_duplicate = on_duplicate
        made.requested_by = requested_by
        made.parent = parent
        made.local = local
        made.__class__ = cls
        return made  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[type[Submission], tuple[Any, ...]]:
        """A copy is made, and checked, like the first one."""
        return Submission, tuple(getattr(self, each.name) for each in fields(self))


class _Unfrozen:
    """A Submission while it is made: the same slots, which is what lets its class be set."""

    __slots__ = tuple(each.name for each in fields(Submission))


_object = object.__new__


class Met(NamedTuple):
    """The older job that a submission met under its key, and what came of it."""

    outcome: Answer
    older: bytes
    """Its id: of the job that stands, was superseded, or is in front."""
    raised: bool = False
    """It took the newer one's more urgent priority."""
    waiting: bool = False
    """The new job waits, as a successor."""


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
    met: Met | None = field(default=None, compare=False)
    """None: its key was free, or it has none."""


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


def check_label(name: str, value: object) -> None:
    """Raises `BadSubmission` for what is no label."""
    if type(value) is str and value.isascii() and 0 < len(value) <= LABEL_CHARACTERS_MAX:
        return
    if not isinstance(value, str) or not 1 <= len(value) <= LABEL_CHARACTERS_MAX:
        raise BadSubmission(f"{name}={shown(value)} is not text of 1 to {LABEL_CHARACTERS_MAX} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadSubmission(f"{name}={shown(value)} has a lone surrogate; labels are UTF-8 text") from None


def check_priority(name: str, value: object) -> None:
    """Raises `BadSubmission` for what is no priority."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= PRIORITY_LAST:
        raise BadSubmission(f"{name}={shown(value)} is not an integer from 0 (first) to {PRIORITY_LAST} (last)")


def check_on_duplicate(value: object) -> None:
    """Raises `BadSubmission` for what is no member of `OnDuplicate`."""
    if not isinstance(value, OnDuplicate):
        ways = ", ".join(way.name for way in OnDuplicate)
        raise BadSubmission(f"on_duplicate={shown(value)} is not a member of OnDuplicate; there are {ways}")


def checked_tags(name: str, value: object) -> tuple[str, ...]:
    """The tags, each once, in their order. Raises `BadSubmission`."""
    if not isinstance(value, (tuple, list)) or len(value) > TAGS_MAX:
        raise BadSubmission(f"{name}={shown(value)} is not a tuple of at most {TAGS_MAX} labels")
    for index, tag in enumerate(value):
        if not (type(tag) is str and tag.isascii() and 0 < len(tag) <= LABEL_CHARACTERS_MAX):
            check_label(f"{name}[{index}]", tag)
    return tuple(dict.fromkeys(value))


def _check_time(delay: object, run_at: object) -> None:
    _check_seconds("delay", delay, MAX_DELAY, "a number of seconds")
    _check_seconds("run_at", run_at, YEAR_10000, "a number of seconds since the epoch, as datetime.timestamp() gives,")
    if delay is not None and run_at is not None:
        raise BadSubmission(f"delay={shown(delay)} and run_at={shown(run_at)}: give one of the two")


def _check_seconds(name: str, value: object, most: float, what: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= most:
        raise BadSubmission(f"{name}={shown(value)} is not {what} from 0 to {most:.0f}")
