"""Records and events as JSON: plain ASCII, ids as text, times as seconds since the epoch. Names of fields are for ever."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import PurePath
from typing import Any

from callboard.jobs.errors import CallboardError
from callboard.jobs.events import Fact, FactsLost, LibraryDegraded, ProgressMade
from callboard.jobs.identity import id_text
from callboard.jobs.progress import Progress
from callboard.jobs.record import JobRecord, Warned

_LEFT_OUT = ("result", "traceback_text", "progress", "pausers", "key", "status", "id", "retry_of", "parent", "superseded_by", "after")


def line(value: object) -> str:
    """One line of JSON, without anything that could steer a terminal."""
    return json.dumps(plain(value), separators=(", ", ": "), allow_nan=False)


def plain(value: Any) -> Any:
    """What JSON can hold: bytes and paths as text with escapes for what is none, NaN and infinities as text, other things as they print."""
    if value is None or isinstance(value, (bool, int, str)):
        return value if not isinstance(value, str) else _text(str(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, PurePath):
        return _text(str(value))
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(plain(key)): plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        return [plain(each) for each in value]
    return _text(str(value))


def _text(text: str) -> str:
    """Lone surrogates, which stand for bytes of a file name, would be no text as JSON."""
    if re.search("[\ud800-\udfff]", text) is None:
        return text
    bytes_of_names = re.sub("[\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)
    return bytes_of_names.encode("utf-8", "backslashreplace").decode()


def progress_view(progress: Progress | None) -> dict[str, object] | None:
    """A reading, with its fraction."""
    if progress is None:
        return None
    view: dict[str, object] = {field.name: getattr(progress, field.name) for field in fields(progress)}
    return {"fraction": progress.fraction, **view}


def record_view(record: JobRecord, owned: bool) -> dict[str, object]:
    """One job. `status` is `interrupted` for what a dead owner left running; `stored_status` is what the row says."""
    view: dict[str, object] = {
        "id": record.id_text,
        "name": record.name,
        "status": "interrupted" if record.status.claimed and not owned else str(record.status),
        "stored_status": str(record.status),
        "key": record.key,
        **{name: None if (other := getattr(record, name)) is None else id_text(other) for name in ("retry_of", "parent", "superseded_by", "after")},
        "paused_by": sorted(record.pausers),
        "progress": progress_view(record.progress),
    }
    view.update((field.name, getattr(record, field.name)) for field in fields(record) if field.name not in (*_LEFT_OUT, "name"))
    return view


def node_view(depth: int, record: JobRecord | None, parent: bytes, more: int, owned: bool) -> dict[str, object]:
    """One line of a tree: a job, or how many more children of `parent` there are."""
    if record is None:
        return {"depth": depth, "parent": id_text(parent), "more": more}
    return {"depth": depth, **record_view(record, owned)}


def whole_view(record: JobRecord, owned: bool, warnings: tuple[Warned, ...]) -> dict[str, object]:
    """One job with its result, traceback and warnings."""
    from callboard.persistence.jobdata import decode_result

    view = record_view(record, owned)
    try:
        view["result"] = decode_result(record.result)
    except CallboardError as error:
        view["result"], view["result_error"] = None, str(error)
    view["traceback"] = record.traceback_text
    view["warning_list"] = [{"n": each.n, "item": each.item, "message": each.message} for each in warnings]
    return view


def event_view(event: object) -> dict[str, object]:
    """A fact or a reading: `event` says which (`job_started`, `progress`, …)."""
    if isinstance(event, ProgressMade):
        return {"event": "progress", "id": id_text(event.job_id), "name": event.name, **(progress_view(event.progress) or {})}
    name = re.sub("(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    if isinstance(event, Fact):
        view: dict[str, object] = {"event": name, "id": id_text(event.job_id)}
        left_out = ("job_id", "result", "traceback_text")
        view.update((field.name, getattr(event, field.name)) for field in fields(event) if field.name not in left_out)
        return view
    if isinstance(event, (FactsLost, LibraryDegraded)):
        return {"event": name, **{field.name: getattr(event, field.name) for field in fields(event)}}
    return {"event": name}
