"""What travels through a control socket: length-prefixed msgpack within limits, of plain values and of the records that are listed here.

Either side takes the other for a stranger: nothing but the classes below is ever made of a frame, whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from callboard.jobs import errors, events
from callboard.jobs.duplicates import Answer
from callboard.jobs.errors import CallboardError, NotDecodable, StoreUnavailable, error_text
from callboard.jobs.lifecycle import Pauser, Status
from callboard.jobs.progress import Progress
from callboard.jobs.record import JobPage, JobRecord, Statistics, Warned
from callboard.jobs.submission import Met, Submitted
from callboard.persistence.codec import decode_value, encode_value
from callboard.persistence.wire import Limits

REQUEST = Limits()
"""Of what a client sends: 1 MiB."""
REPLY = Limits(bytes=16 * 2**20, items=2_000_000)
"""Of what it is answered."""
HEAD = 4
"""Bytes of the length in front of each frame, most significant first."""

Frame = dict[str, Any]


def frame(content: Mapping[str, object], limits: Limits) -> bytes:
    """The bytes of one frame. Raises `NotEncodable` if it is over the limits, or holds what cannot travel."""
    blob = encode_value(_plain(content), limits)
    return len(blob).to_bytes(HEAD) + blob


class FrameReader:
    """Takes bytes as they come, gives whole frames."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = bytearray()

    @property
    def begun(self) -> bool:
        """True if a frame has begun and is not whole."""
        return bool(self._bytes)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises `NotDecodable` for what is no frame: nothing behind it can be read any more."""
        self._bytes += data
        found = []
        while len(self._bytes) >= HEAD:
            length = int.from_bytes(self._bytes[:HEAD])
            if not 1 <= length <= self._limits.bytes:
                raise NotDecodable(f"no frame of callboard's: its length would be {length:,} bytes, the limit is {self._limits.bytes:,}")
            if len(self._bytes) < HEAD + length:
                break
            content = decode_value(bytes(self._bytes[HEAD : HEAD + length]), self._limits)
            if type(content) is not dict or not {str}.issuperset(map(type, content)):
                raise NotDecodable("no frame of callboard's: it is no map of names")
            del self._bytes[: HEAD + length]
            found.append(content)
        return found


# --- records ------------------------------------------------------------------------------------------------------------


def _progress(stored: Any) -> Progress | None:
    return None if stored is None else Progress(**stored)


def _pausers(names: Iterable[str]) -> frozenset[Pauser]:
    return frozenset(map(Pauser, names))


def _met(stored: Any) -> Met | None:
    if stored is None:
        return None
    outcome, *more = stored
    return Met(Answer(outcome), *more)


def _records(stored: Iterable[Any]) -> tuple[JobRecord, ...]:
    return tuple(_made(JobRecord, each) for each in stored)


_FACTS = (each for each in vars(events).values() if isinstance(each, type) and issubclass(each, events.Fact))
_CLASSES = {
    each.__name__: each
    for each in (JobRecord, JobPage, Statistics, Warned, Submitted, *_FACTS, events.ProgressMade, events.FactsLost, events.LibraryDegraded)
}
_READ: dict[type, dict[str, Callable[[Any], object]]] = {
    JobRecord: {"status": Status, "pausers": _pausers, "progress": _progress},
    JobPage: {"records": _records},
    Submitted: {"met": _met},
    events.ProgressMade: {"progress": _progress},
}
"""How to read the fields that are not written as they are."""


def _plain(value: Any) -> object:
    """Builtins for it; a record becomes a map of its fields, with its name as `is`."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        tree: dict[str, object] = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        if type(value).__name__ in _CLASSES:
            tree["is"] = type(value).__name__
        return tree
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, frozenset)):
        return tuple(map(_plain, value))
    if isinstance(value, list):
        return list(map(_plain, value))
    return value


def value_of(tree: Any) -> Any:
    """What an answer or an event stands for. Raises `NotDecodable` for what does not fit its class."""
    if type(tree) in (tuple, list):
        return tuple(map(value_of, tree))
    if type(tree) is not dict or "is" not in tree:
        return tree
    made = _CLASSES.get(tree["is"]) if type(tree["is"]) is str else None
    if made is None:
        raise NotDecodable(f"the library's owner speaks of {tree['is']!r:.100}, which is not known here: upgrade callboard")
    return _made(made, tree)


def _made(cls: type, tree: Any) -> Any:
    read = _READ.get(cls, {})
    try:
        values = {name: read[name](value) if name in read else value for name, value in tree.items() if name != "is"}
        return cls(**values)
    except (TypeError, ValueError, AttributeError) as error:
        raise NotDecodable(f"an answer of the library's owner is no {cls.__name__}: {error_text(error, 200)}") from error


# --- errors -------------------------------------------------------------------------------------------------------------


_ERROR_PARTS: dict[str, type] = {"job_id": bytes, "by": bytes, "token": bytes, "pid": int, "count": int, "ids": tuple, "traceback_text": str}
"""Parts of errors that travel: keywords of their classes, and attributes."""


def error_tree(error: BaseException) -> dict[str, object]:
    """An error as it travels: its name, its text, and which jobs it is about."""
    if isinstance(error, CallboardError):
        parts = {name: value for name, kind in _ERROR_PARTS.items() if type(value := getattr(error, name, None)) is kind}
        return {"type": type(error).__name__, "text": str(error), **({"with": parts} if parts else {})}
    return {"type": StoreUnavailable.__name__, "text": f"the library's owner met an error: {error_text(error)}"}


def error_of(tree: Any) -> CallboardError:
    """The error to raise; one whose name is not known here is a plain `CallboardError`."""
    name, text = (tree.get("type"), tree.get("text")) if type(tree) is dict else (None, None)
    cls = getattr(errors, name, None) if type(name) is str else None
    text = text if type(text) is str else "the library's owner met an error"
    if not (isinstance(cls, type) and issubclass(cls, CallboardError)):
        return CallboardError(text)
    sent = tree.get("with")
    parts = {name: sent.get(name) for name, kind in _ERROR_PARTS.items() if type(sent.get(name)) is kind} if type(sent) is dict else {}
    try:
        return cls(text, **parts)
    except TypeError:  # another version's, with other parts
        return cls(text)
