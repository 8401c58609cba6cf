"""What other processes may ask of a library, and the message that each request stands for. Nothing of a request is believed unchecked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

from callboard.actors.messages import (
    AddChunk,
    CancelBatch,
    CancelJob,
    Command,
    PauseBatch,
    PauseJob,
    Ping,
    PlanChunk,
    QueryBatch,
    QueryBatches,
    QueryChildren,
    QueryJob,
    QueryJobs,
    QueryStatistics,
    QueryWarnings,
    Ref,
    ResumeBatch,
    ResumeJob,
    RetryJob,
    Submit,
    Subscribe,
)  # fmt: skip
from callboard.actors.named_items import import_type, part_of, part_view
from callboard.actors.store import TellBack
from callboard.jobs.batch_items import ChunkOutcome
from callboard.jobs.errors import ConfigError, UnknownMessage
from callboard.jobs.identity import ID_BYTES
from callboard.jobs.record import PAGE_MOST, BatchRecord, JobFilter, JobPage
from callboard.jobs.submission import Submission
from callboard.persistence.codec import decode
from callboard.persistence.jobdata import job_by_name
from callboard.persistence.writes import ChunkStored

VERSION = 1
"""Of the protocol; it stands in every request."""

LAG = 1_000
"""How many events may wait for a client that does not read; beyond, it gets a `FactsLost` in their place."""

Fields = Mapping[str, Any]


def message_of(request: Mapping[str, Any], reply_to: Ref) -> Command:
    """The message to send to the library, to be answered to `reply_to`. Raises `UnknownMessage`, `ConfigError`, and what a bad job raises."""
    if request.get("v") != VERSION:
        raise UnknownMessage(f"this library's owner speaks version {VERSION} of the control protocol, not {request.get('v')!r:.20}")
    name, fields = request.get("do"), request.get("with", {})
    make = _MAKERS.get(name) if type(name) is str else None
    if make is None or type(fields) is not dict:
        raise UnknownMessage(f"the control socket has no answer to {name!r:.100}; it takes {', '.join(_MAKERS)}")
    return make(_Checked(name or "", fields), reply_to)


def stays_open(request: Mapping[str, Any]) -> bool:
    """True if events follow the answer."""
    return request.get("do") == "Subscribe" or (request.get("do") == "SubmitByName" and request.get("with", {}).get("follow") is True)


def without_results(answer: object) -> object:
    """An answer as it travels. A list does not carry what only one job's record needs: a result alone may be 1 MiB."""
    if isinstance(answer, ChunkStored):
        return part_view(answer.outcome)
    if isinstance(answer, ChunkOutcome):
        return part_view(answer)
    if isinstance(answer, BatchRecord):
        return asdict(answer)
    if isinstance(answer, tuple) and answer and isinstance(answer[0], BatchRecord):
        return tuple(map(asdict, answer))
    if isinstance(answer, JobPage):
        return replace(answer, records=tuple(replace(each, result=None, traceback_text=None) for each in answer.records))
    return answer


class _Checked:
    """The fields of a request, each taken with its type."""

    def __init__(self, name: str, fields: Fields) -> None:
        self.name = name
        self._fields = fields

    def take(self, field: str, kinds: type | tuple[type, ...], default: object = ...) -> Any:
        value = self._fields.get(field, default)
        if value is ... or (value is not default and type(value) not in (kinds if isinstance(kinds, tuple) else (kinds,))):
            raise ConfigError(f"{self.name}: {field}={None if value is ... else value!r:.100} is not what it takes")
        return value

    def job_id(self, default: object = ..., field: str = "job_id") -> Any:
        value = self.take(field, (bytes, type(None)), default)
        if value is not default and (value is None or len(value) != ID_BYTES):
            raise ConfigError(f"{self.name}: {field}={value!r:.100} is not {ID_BYTES} bytes")
        return value

    def batch_id(self) -> Any:
        return self.job_id(field="batch_id")

    def number(self, field: str, least: int, most: int, default: int) -> int:
        value: int = self.take(field, int, default)
        if not least <= value <= most:
            raise ConfigError(f"{self.name}: {field}={value!r:.100} is not from {least} to {most}")
        return value

    def choice(self, field: str, choices: tuple[str, ...]) -> Any:
        value = self.take(field, str, choices[0])
        if value not in choices:
            raise ConfigError(f"{self.name}: {field}={value!r:.100} is not one of {', '.join(choices)}")
        return value


def _query_jobs(fields: _Checked, reply_to: Ref) -> Command:
    blob = fields.take("filter", bytes, None)
    return QueryJobs(JobFilter() if blob is None else decode(JobFilter, blob), fields.take("ended", bool, False), reply_to)


def _query_warnings(fields: _Checked, reply_to: Ref) -> Command:
    return QueryWarnings(fields.job_id(), fields.number("after", 0, 2**63 - 1, 0), fields.number("limit", 1, PAGE_MOST, 1_000), reply_to)


def _submit(fields: _Checked, reply_to: Ref) -> Command:
    name = fields.take("name", str)
    import_type(name)
    job = job_by_name(name, fields.take("fields", dict))
    key, who = fields.take("key", (str, bytes, type(None)), None), fields.take("requested_by", (str, type(None)), None)
    return Submit(Submission(job, key=key, priority=fields.number("priority", 0, 255, 128), requested_by=who), reply_to)


def _add_items(fields: _Checked, reply_to: Ref) -> Command:
    items, options = fields.take("items", (tuple, list)), fields.take("options", dict, {})
    start, last = fields.number("start", 0, 2**62, 0), fields.take("last", bool)
    chunk = part_of(fields.take("name", str), fields.batch_id(), start, items, options, last=last)
    if fields.take("plan", bool, False):
        return cast(Command, PlanChunk(chunk, reply_to))
    who = options.get("requested_by")
    return cast(Command, AddChunk(chunk, TellBack(reply_to, "AddItems"), who if isinstance(who, str) else None))


def _subscribe(fields: _Checked, reply_to: Ref) -> Command:
    name = fields.take("name", (str, type(None)), None)
    return Subscribe(reply_to, fields.job_id(None), name, fields.take("progress", bool, True), LAG, reply_to)


_MAKERS: dict[str, Callable[[_Checked, Ref], Command]] = {
    "Ping": lambda fields, reply_to: Ping(reply_to),
    "QueryJobs": _query_jobs,
    "QueryJob": lambda fields, reply_to: QueryJob(fields.job_id(), reply_to),
    "QueryWarnings": _query_warnings,
    "QueryChildren": lambda fields, reply_to: QueryChildren(fields.job_id(), reply_to),
    "QueryStatistics": lambda fields, reply_to: QueryStatistics(reply_to),
    "PauseJob": lambda fields, reply_to: PauseJob(fields.job_id(), reply_to),
    "ResumeJob": lambda fields, reply_to: ResumeJob(fields.job_id(), reply_to),
    "CancelJob": lambda fields, reply_to: CancelJob(fields.job_id(), reply_to),
    "RetryJob": lambda fields, reply_to: RetryJob(fields.job_id(), fields.choice("ledger", ("none", "rest", "failed")), reply_to),
    "SubmitByName": _submit,
    "AddItems": _add_items,
    "QueryBatch": lambda fields, reply_to: QueryBatch(fields.batch_id(), reply_to),
    "QueryBatches": lambda fields, reply_to: QueryBatches(
        fields.job_id(None, "before"), fields.number("limit", 1, PAGE_MOST, 1_000), reply_to
    ),
    "PauseBatch": lambda fields, reply_to: PauseBatch(fields.batch_id(), reply_to),
    "ResumeBatch": lambda fields, reply_to: ResumeBatch(fields.batch_id(), reply_to),
    "CancelBatch": lambda fields, reply_to: CancelBatch(fields.batch_id(), reply_to),
    "Subscribe": _subscribe,
}
"""Request → message."""
