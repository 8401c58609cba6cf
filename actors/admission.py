"""What an application may send is checked as it comes in: a bad message is refused by name and value, and no actor behind ever sees it."""

from __future__ import annotations

from typing import Any, get_args

from callboard.actors.messages import (
    CancelJob,
    Command,
    FactsSince,
    PauseJob,
    QueryJob,
    QueryJobs,
    QueryWarnings,
    ResumeJob,
    RetryJob,
    Submit,
    Subscribe,
    Unsubscribe,
)  # fmt: skip
from callboard.jobs.errors import BadArgument, shown
from callboard.jobs.identity import ID_BYTES
from callboard.jobs.record import PAGE_MOST, JobFilter

PUBLIC = frozenset(get_args(Command))
"""What anyone may send to a library."""

LEDGERS = ("none", "rest", "failed")
NUMBER_MOST = 2**62


def is_ref(value: object) -> bool:
    """Whether this can be told something: an actor's reference, or what stands for one."""
    return all(hasattr(value, name) for name in ("tell", "is_alive", "actor_inbox", "actor_class"))


def admit(message: Command) -> None:
    """Raises `BadArgument` if a field has a value that its type does not allow."""
    if message.reply_to is not None:
        _ref(message, "reply_to")
    if type(message) is Submit:  # has checked itself when it was made
        return
    match message:
        case PauseJob() | ResumeJob() | CancelJob() | QueryJob():
            _job_id(message)
        case RetryJob():
            _job_id(message)
            if message.ledger not in LEDGERS:
                raise _refused(message, "ledger", f"one of {', '.join(LEDGERS)}")
        case QueryWarnings():
            _job_id(message)
            _whole(message, "after", 0, NUMBER_MOST)
            _whole(message, "limit", 1, PAGE_MOST)
        case QueryJobs():
            if not isinstance(message.filter, JobFilter):
                raise _refused(message, "filter", "a JobFilter")
        case Subscribe():
            _ref(message, "subscriber")
            if message.job_id is not None:
                _job_id(message)
            if message.name is not None and not isinstance(message.name, str):
                raise _refused(message, "name", "the name of a job type")
            _whole(message, "lag", 1, NUMBER_MOST)
        case Unsubscribe():
            _ref(message, "subscriber")
        case FactsSince():
            _whole(message, "epoch", 0, NUMBER_MOST)
            _whole(message, "n", 0, NUMBER_MOST)
            _whole(message, "limit", 1, NUMBER_MOST)


def _job_id(message: Any) -> None:
    if not isinstance(message.job_id, bytes) or len(message.job_id) != ID_BYTES:
        raise _refused(message, "job_id", f"a job id ({ID_BYTES} bytes)")


def _ref(message: Any, name: str) -> None:
    if not is_ref(getattr(message, name)):
        raise _refused(message, name, "an actor's reference (pykka.ActorRef)")


def _whole(message: Any, name: str, low: int, high: int) -> None:
    value = getattr(message, name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _refused(message, name, f"a whole number from {low} to {high}")


def _refused(message: Any, name: str, wanted: str) -> BadArgument:
    return BadArgument(f"{type(message).__name__}: {name}={shown(getattr(message, name))} is not {wanted}")
