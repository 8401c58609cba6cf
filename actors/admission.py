"""What an application may send is checked as it comes in: a bad message is refused by name and value, and no actor behind ever sees it."""

from __future__ import annotations

from typing import Any, get_args

from pykka._envelope import Envelope

from callboard.actors.actor import answer_error, send
from callboard.actors.messages import (
    Answered,
    CancelBatch,
    CancelJob,
    Command,
    FactsSince,
    PauseBatch,
    PauseJob,
    PlanBatch,
    QueryBatch,
    QueryBatches,
    QueryChildren,
    QueryJob,
    QueryJobs,
    QueryStatistics,
    QueryWarnings,
    ResumeBatch,
    ResumeJob,
    RetryJob,
    Submit,
    SubmitBatch,
    Subscribe,
    Unsubscribe,
)  # fmt: skip
from callboard.jobs.errors import BadArgument, InboxFull, shown
from callboard.jobs.identity import ID_BYTES
from callboard.jobs.record import PAGE_MOST, JobFilter

PUBLIC = frozenset(get_args(Command))
"""What anyone may send to a library."""

WRITING: frozenset[type] = frozenset((Submit, SubmitBatch, RetryJob))
"""What goes on to the store, and waits there."""

BOUNDED: frozenset[type] = WRITING.union((
    PlanBatch, QueryJob, QueryJobs, QueryBatch, QueryBatches, QueryWarnings, QueryChildren,
    QueryStatistics,
))  # fmt: skip
"""What a full inbox turns away. Whoever steers, subscribes, or has work to report is always let in."""

INBOX_MOST = 100_000
"""Messages that wait in a library's inbox, with the writes that its store has not answered. It works off as many in a second or two; more
would only make all of them wait longer."""

INBOX_LOW = INBOX_MOST // 2
"""Who waits for room at the store tries again when no more are there: just below the most, each would only be turned away again, at once."""

LEDGERS = ("none", "rest", "failed")
NUMBER_MOST = 2**62


def is_ref(value: object) -> bool:
    """Whether this can be told something: an actor's reference, or what stands for one."""
    return all(hasattr(value, name) for name in ("tell", "is_alive", "actor_inbox", "actor_class"))


def admit(message: Command) -> None:
    """Raises `BadArgument` if a field has a value that its type does not allow."""
    if message.reply_to is not None:
        _ref(message, "reply_to")
    if type(message) in (Submit, SubmitBatch, PlanBatch):  # has checked itself when it was made
        return
    match message:
        case PauseJob() | ResumeJob() | CancelJob() | QueryJob() | QueryChildren():
            _job_id(message)
        case PauseBatch() | ResumeBatch() | CancelBatch() | QueryBatch():
            _id(message, "batch_id", "a batch id")
        case QueryBatches():
            if message.before is not None:
                _id(message, "before", "a batch id")
            _whole(message, "limit", 1, PAGE_MOST)
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


def turn_away(envelope: Envelope[Any]) -> None:
    """Answer a message for which there is no room with `InboxFull`, in the way that it asked; raise it at a teller who awaits no answer."""
    message = envelope.message
    many = f"{INBOX_MOST} messages wait for the library or its disk"
    error = InboxFull(f"{type(message).__name__}: {many}; try again when it has caught up, or use block=")
    follower: Any = getattr(message, "reply_to", None)
    if envelope.reply_to is not None:
        answer_error(envelope.reply_to, error)
    elif is_ref(follower):
        send(follower, Answered(message, None, error))
    else:
        raise error


def _job_id(message: Any) -> None:
    _id(message, "job_id", "a job id")


def _id(message: Any, name: str, what: str) -> None:
    value = getattr(message, name)
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        raise _refused(message, name, f"{what} ({ID_BYTES} bytes)")


def _ref(message: Any, name: str) -> None:
    if not is_ref(getattr(message, name)):
        raise _refused(message, name, "an actor's reference (pykka.ActorRef)")


def _whole(message: Any, name: str, low: int, high: int) -> None:
    value = getattr(message, name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _refused(message, name, f"a whole number from {low} to {high}")


def _refused(message: Any, name: str, wanted: str) -> BadArgument:
    return BadArgument(f"{type(message).__name__}: {name}={shown(getattr(message, name))} is not {wanted}")
