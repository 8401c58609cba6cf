"""Every error callboard raises, grouped by who must act.

`UsageError`: the caller; the call itself is wrong and nothing was changed. `Refused`: the caller, later or otherwise; the call
is fine, the state says no. `StoreError`: whoever keeps the disk. `DataError`: whoever owns the file. `JobError`: how a job ended.
The group classes are not raised themselves, so an `except` can always say whose turn it is.

The last three are what a job author raises inside `run`: `Interrupted`, `CriticalError`, `RetryLater`.
"""

from __future__ import annotations

import traceback as _traceback

TEXT_LIMIT = 8_192
"""Longest error text kept, in characters: enough for any message meant for a person, small enough for a row."""


class CallboardError(Exception):
    """Base of all errors below, except the control flow `Interrupted`."""


# --- the caller must change the call ---------------------------------------------------------------------------------


class UsageError(CallboardError):
    """The call is wrong; nothing was changed. Not raised itself."""


class ConfigError(UsageError, ValueError):
    """An option has a value or a name that is not allowed. The text names the option, the value and the allowed range."""


class BadJobType(UsageError, TypeError):
    """A Job or Task class cannot be used: not a dataclass, a field no codec knows, a name taken by another class."""


class UnknownJobType(UsageError, LookupError):
    """No class is registered under this name in this process. Import the module that defines it."""


class NotEncodable(UsageError, TypeError):
    """A value cannot be stored. The text has the path, such as `$.files[3].size`, and what is allowed there."""


class BadSubmission(UsageError, ValueError):
    """A field of a Submission is out of its range. The text names the field and the value."""


class BadArgument(UsageError, ValueError):
    """An argument of a call has a value that is not allowed. The text names the argument, the value and what is allowed."""


class UnknownMessage(UsageError, TypeError):
    """An actor was sent something that it has no answer to."""


class WouldDeadlock(UsageError, RuntimeError):
    """A call that would wait for itself, such as a job waiting on its own handle."""


# --- the state says no ----------------------------------------------------------------------------------------------


class Refused(CallboardError):
    """The call is fine, the present state says no; nothing was changed. Not raised itself."""


class LibraryBusy(Refused):
    """Another process, or another handle of this one, owns the library. `pid` is the holder's where it can be known."""

    def __init__(self, text: str, *, pid: int | None = None) -> None:
        super().__init__(text)
        self.pid = pid


class LibraryClosed(Refused):
    """The library or its runtime has been closed; open it again."""


class NoSuchBatch(Refused, LookupError):
    """The library has no batch with this id."""


class NoSuchJob(Refused, LookupError):
    """No job of this id is in the library, neither live nor ended."""


class NotAllowed(Refused):
    """The job's status does not allow this, such as resuming one that has ended. The text says what to do instead."""


class Busy(Refused):
    """An inbox or a queue is full: the library takes no more until it has caught up. Try again."""


class InboxFull(Busy):
    """So many messages wait in the library's inbox that it takes no more of this kind. Try again when it has caught up, or use `block=`."""


class BatchMismatch(Refused):
    """A batch of this id is stored and has other content. Send what was sent then, or give the new batch an id of its own."""


class NoAnswer(Refused, TimeoutError):
    """Nothing came back within the time given. The request may still be carried out."""


# --- the disk, or whoever keeps it ----------------------------------------------------------------------------------


class StoreError(CallboardError):
    """The store could not write. Not raised itself."""


class NotAccepted(StoreError):
    """The write is not stored, for certain; sending it again is safe."""


class DiskFull(NotAccepted):
    """Not stored, as the disk is full. Running jobs are paused; make room, and the library goes on by itself within seconds."""


class OutcomeUnknown(StoreError):
    """The write may or may not be stored. `token` finds out after the library has been opened again."""

    def __init__(self, text: str, *, token: bytes = b"") -> None:
        super().__init__(text)
        self.token = token


class StoreUnavailable(StoreError):
    """The library met an I/O error and takes no writes; its record so far is safe. Mend the disk and open it again."""


# --- the file's owner -------------------------------------------------------------------------------------------------


class DataError(CallboardError):
    """A file or a stored value is not what it should be; it was not changed. Not raised itself."""


class NotALibrary(DataError):
    """The file is no callboard library (text, another application's database, a schema with additions)."""


class NewerSchema(DataError):
    """The library was written by a newer callboard. Upgrade callboard."""


class UnsafeLibrary(DataError):
    """The library's place is not safe for one: a network file system, a hard link, another owner. The text says which."""


class SqliteTooOld(DataError):
    """SQLite before 3.51.3 can corrupt a WAL database (the WAL-reset race). Upgrade apsw."""


class NotDecodable(DataError):
    """Stored bytes are damaged, too large, or do not fit the class. The text has the path."""


class NewerVersion(DataError):
    """A job was stored by a newer version of its class; it stays as it is until code of that version claims it."""


# --- how a job or task ended --------------------------------------------------------------------------------------


class JobError(CallboardError):
    """A job ended otherwise than by completing. Not raised itself. `job_id` is its id."""

    def __init__(self, text: str, *, job_id: object = None) -> None:
        super().__init__(text)
        self.job_id = job_id


class JobFailed(JobError):
    """The job failed. `traceback_text` is where, as text; the exception itself stays in the process that ran it."""

    def __init__(self, text: str, *, job_id: object = None, traceback_text: str = "") -> None:
        super().__init__(text, job_id=job_id)
        self.traceback_text = traceback_text


class JobCancelled(JobError):
    """The job was cancelled before it completed."""


class Superseded(JobCancelled):
    """A newer job of the same name and key took the job's place before it completed. `by` is the newer one's id."""

    def __init__(self, text: str, *, job_id: object = None, by: bytes = b"") -> None:
        super().__init__(text, job_id=job_id)
        self.by = by


class ChildrenFailed(JobError):
    """Children of a job did not complete. Raised in the parent by `ctx.wait_for_children`; `job_id` is the parent.

    `ids`: the first of those children; `count`: how many there are.
    """

    def __init__(self, text: str, *, job_id: object = None, ids: tuple[bytes, ...] = (), count: int = 0) -> None:
        super().__init__(text, job_id=job_id)
        self.ids, self.count = ids, count


class TaskFailed(CallboardError):
    """A task's `run` raised; `traceback_text` is where, as text. Raised by `TaskHandle.result()`."""

    def __init__(self, text: str, *, traceback_text: str = "") -> None:
        super().__init__(text)
        self.traceback_text = traceback_text


class TaskCancelled(CallboardError):
    """The task was cancelled or withdrawn before it ended. Raised by `TaskHandle.result()`."""


# --- what a job author raises in run() ------------------------------------------------------------------------------


class Interrupted(BaseException):
    """Control flow: the job leaves `run` now and goes on later (pause, shutdown) or not at all (cancel).

    A BaseException, so that an author's `except Exception` does not swallow it. Raised by `ctx.check_interrupt()` and by everything
    in `ctx` that waits. An author may raise it himself to pause his job: `Interrupted("the network is away")`.
    """

    reason: str = ""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Unwound(BaseException):
    """Control flow: the job leaves `run` to wait for its children, and is run again from its checkpoint when they have ended.

    Raised by `ctx.wait_for_children` when as many parents as may wait inside `run` do so. Not for authors to raise.
    """


class CriticalError(Exception):
    """Raised in `run`: the job fails for good, its retry policy is not asked."""


class RetryLater(Exception):
    """Raised in `run`: try the job again after `after` seconds (None: as its policy says). Counts as an attempt, but is never the last.

    A time that has passed counts as now, more than a year as a year. Raises `BadArgument` for what is no number of seconds.
    """

    after: float | None = None

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        if after is not None and (isinstance(after, bool) or not isinstance(after, (int, float)) or after != after):
            raise BadArgument(f"RetryLater: after={shown(after)} is not a number of seconds")
        self.after = after


# --- saying what went wrong, whatever it was -------------------------------------------------------------------------


def error_text(error: BaseException, limit: int = TEXT_LIMIT) -> str:
    """`TypeName: message`, at most `limit` characters; safe for an exception whose own `str()` raises."""
    message = plain_text(error, limit)
    return _cut(f"{type(error).__name__}: {message}" if message else type(error).__name__, limit)


def plain_text(value: object, limit: int = TEXT_LIMIT) -> str:
    """`str(value)`, at most `limit` characters, for a row; safe for a value whose own `str()` raises."""
    try:
        return _cut(str(value), limit)
    except BaseException as broken:  # noqa: BLE001 - the author's __str__ may raise anything, also SystemExit
        return f"(its str() raised {type(broken).__name__})"


def shown(value: object, limit: int = 120) -> str:
    """`repr(value)`, at most `limit` characters, for an error text; safe for a value whose own `repr()` raises."""
    try:
        return _cut(repr(value), limit)
    except BaseException as broken:  # noqa: BLE001 - as above; also ValueError, for an int of thousands of digits
        return f"<{type(value).__name__} whose repr() raised {type(broken).__name__}>"


def traceback_text(error: BaseException, limit: int = TEXT_LIMIT) -> str:
    """Where `error` was raised: file, line and function of each frame, innermost last, without any local values."""
    try:
        frames = _traceback.extract_tb(error.__traceback__, limit=-64)
        text = "".join(_traceback.format_list(frames))
    except BaseException as broken:  # noqa: BLE001 - source lines may be unreadable in any way
        text = f"(no traceback: {type(broken).__name__})\n"
    return _storable(text)[-limit:]


def _storable(text: str) -> str:
    """Lone surrogates cannot be written as UTF-8; show them as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(text: str, limit: int) -> str:
    """Storable, and at most `limit` characters; an ellipsis tells of a cut."""
    text = _storable(text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"
