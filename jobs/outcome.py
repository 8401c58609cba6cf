"""What it means for a job that `run` was left: a pure reading of what came out, of what was asked, and of the retry policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from callboard.jobs.errors import CriticalError, Interrupted, RetryLater, Unwound, error_text, plain_text, traceback_text
from callboard.jobs.lifecycle import Event
from callboard.jobs.retry import MAX_DELAY, RetryPolicy

Asked = Literal["pause", "cancel", "close", "disk"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run ended."""

    event: Event
    error: str | None = None
    traceback_text: str | None = None
    retry_after: float | None = None
    """Seconds, for RETRY."""
    keep_state: bool = False
    """True if the live fields are to be saved; otherwise the job goes on from its last checkpoint."""


def returned(warnings: int) -> Outcome:
    """`run` returned; `warnings` is how many items failed."""
    return _RETURNED_WITH_ERRORS if warnings else _RETURNED


_RETURNED, _RETURNED_WITH_ERRORS = Outcome(Event.RETURN), Outcome(Event.RETURN_WITH_ERRORS)


def raised(
    error: BaseException, asked: Asked | None, ours: bool, resumable: bool, attempt: int, policy: RetryPolicy, chance: float
) -> Outcome:
    """`run` raised. `ours`: the Interrupted came from `ctx`, not from the author. `chance`: a number from [0, 1) for the jitter.

    Raises nothing, whatever an author made of his exception: it is called bare on the actor's stack.
    """
    if isinstance(error, Interrupted):
        return _interrupted(error, asked, ours, resumable)
    if isinstance(error, Unwound) and resumable:  # one that is not resumable is never asked to
        return Outcome(_LEAVE_FOR.get(asked, Event.AWAIT), keep_state=True)
    text, where = error_text(error), traceback_text(error)
    if isinstance(error, CriticalError):
        return Outcome(Event.FAIL, text, where)
    delay = policy.delay(attempt, chance)
    if isinstance(error, RetryLater):
        return Outcome(Event.RETRY, text, where, retry_after=_after(error, policy.first if delay is None else delay))
    if delay is None:
        return Outcome(Event.FAIL, text, where)
    return Outcome(Event.RETRY, text, where, retry_after=delay)


_LEAVE_FOR: dict[Asked | None, Event] = {"cancel": Event.STOP, "pause": Event.STOP, "close": Event.RELEASE, "disk": Event.YIELD}
"""What it was asked to leave for comes before what it left for."""


def _interrupted(error: Interrupted, asked: Asked | None, ours: bool, resumable: bool) -> Outcome:
    if asked == "cancel":
        return Outcome(Event.STOP, keep_state=True)
    reason = plain_text(error.reason)
    if not resumable:
        why = reason or "interrupted"
        return Outcome(Event.FAIL, f"{why}; the job is not resumable, so what it had done is lost", traceback_text(error))
    if asked == "close":
        return Outcome(Event.RELEASE, keep_state=True)
    if asked == "disk":
        return Outcome(Event.YIELD, reason, keep_state=True)
    if asked == "pause" or ours:
        return Outcome(Event.STOP, keep_state=True)
    return Outcome(Event.YIELD, reason or "the job paused itself", keep_state=True)


def _after(error: RetryLater, otherwise: float) -> float:
    """Seconds, within a year. The attribute may have been set by a subclass to anything."""
    after = error.after
    if isinstance(after, (int, float)):
        return float(min(max(0.0, after), MAX_DELAY))
    return otherwise
