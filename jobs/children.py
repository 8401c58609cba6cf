"""Children of a job: a batch from inside it. Whose they are, in which order, and which of them are still to be waited for. Plain data."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from operator import index as integer
from typing import Literal, NamedTuple, overload

from callboard.jobs.batch_items import ChunkOutcome, FailedItem, ItemKind, OverriddenItem
from callboard.jobs.errors import BadArgument, BadSubmission, ChildrenFailed, error_text, shown
from callboard.jobs.identity import ID_BYTES, id_text, nth, run_of_ids
from callboard.jobs.lifecycle import Status
from callboard.jobs.submission import check_label

OnFailure = Literal["raise", "collect", "cancel_rest"]
ON_FAILURE: tuple[OnFailure, ...] = ("raise", "collect", "cancel_rest")

HOLES_MOST = 1_000
"""Children that are looked for at once: those that have not ended, however many are behind them."""

NAMED_IN_ERRORS = 3


def children_batch_id(parent: bytes, name: str, attempt: int = 1) -> bytes:
    """The id of the batch of children that this job spawns under this name in this attempt: the same whenever, and in whatever process, it is
    asked for."""
    return blake2b(parent + name.encode(), key=b"" if attempt == 1 else b"%d" % attempt).digest()[:ID_BYTES]


def check_name(name: object) -> str:
    """The name of a set of children. Raises `BadArgument`."""
    try:
        check_label("name", name)
    except BadSubmission as error:
        raise BadArgument(f"spawn_children: {error}") from None
    assert isinstance(name, str)
    return name


def check_max_running(value: object) -> None:
    """Raises `BadArgument`."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise BadArgument(f"spawn_children: max_running={shown(value)} is not a number from 1 on; None: as many as the library runs")


def check_chunk(outcome_others: Iterable[object]) -> None:
    """Children are all or none: `outcome_others` are the items of a chunk that have no row. Raises `BadArgument` for the first of them."""
    for item in outcome_others:
        if isinstance(item, FailedItem):
            raise BadArgument(f"spawn_children: child {item.index} cannot be queued: {error_text(item.error, 1_000)}") from item.error
        if isinstance(item, OverriddenItem):
            raise BadArgument(f"spawn_children: children {item.index} and {item.by_index} have the same key; give each its own, or none")


class ChildEnd(NamedTuple):
    """How a child ended."""

    id: bytes
    status: Status
    result: object = None
    """What its `run` returned; a dataclass comes back as a dict of its fields."""
    error: str | None = None

    @property
    def ok(self) -> bool:
        """True if it completed, with or without errors of single items."""
        return self.status in (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS)


class _Part(NamedTuple):
    count: int  # type: ignore[assignment]  # it hides a method of tuples that nobody wants
    first_id: bytes
    ids: bytes
    """Of each; b"": they are in a row from `first_id` on."""


class ChildIds(Sequence[bytes]):
    """The ids of the children of one name, in the order in which they were given. Those in a row cost nothing; it compares as a list."""

    __slots__ = ("_ends", "_parts", "batch_id", "detached", "name")

    def __init__(self, name: str, batch_id: bytes, chunks: Iterable[ChunkOutcome] = (), *, detached: bool = False) -> None:
        self.name, self.batch_id, self.detached = name, batch_id, detached
        self._parts: list[_Part] = []
        self._ends = array("Q")
        for chunk in chunks:
            self.append(chunk)

    def append(self, chunk: ChunkOutcome) -> None:
        """A further chunk, whose items all have jobs."""
        if not chunk.count:
            return
        last = self._parts[-1] if self._parts else None
        if chunk.kinds is ItemKind.SUBMITTED and not chunk.others and chunk.first_id is not None:
            if last is not None and not last.ids and nth(last.first_id, last.count) == chunk.first_id:
                self._parts[-1] = last._replace(count=last.count + chunk.count)
                self._ends[-1] += chunk.count
                return
            self._add(_Part(chunk.count, chunk.first_id, b""))
        else:
            found = chunk.job_ids(range(chunk.start, chunk.start + chunk.count))
            self._add(_Part(chunk.count, b"", b"".join(job_id or bytes(ID_BYTES) for job_id in found)))

    def _add(self, part: _Part) -> None:
        self._parts.append(part)
        self._ends.append(len(self) + part.count)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if part.ids:
                yield from (part.ids[at : at + ID_BYTES] for at in range(0, len(part.ids), ID_BYTES))
            else:
                yield from run_of_ids(part.first_id, part.count)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        at = integer(at)
        if not -len(self) <= at < len(self):
            raise IndexError(f"{at} is out of range: there are {len(self)} children")
        at %= len(self)
        place = bisect_right(self._ends, at)
        part = self._parts[place]
        at -= self._ends[place] - part.count
        return part.ids[at * ID_BYTES : at * ID_BYTES + ID_BYTES] if part.ids else nth(part.first_id, at)

    def __contains__(self, job_id: object) -> bool:
        if not isinstance(job_id, bytes):
            return False
        for part in self._parts:
            if not part.ids:
                if part.first_id <= job_id <= nth(part.first_id, part.count - 1):
                    return True
            elif any(part.ids[at : at + ID_BYTES] == job_id for at in range(0, len(part.ids), ID_BYTES)):
                return True
        return False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (ChildIds, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        first = ", ".join(map(id_text, islice(self, NAMED_IN_ERRORS)))
        more = f", … {len(self) - NAMED_IN_ERRORS} more" if len(self) > NAMED_IN_ERRORS else ""
        return f"<ChildIds {self.name!r}: {first or 'none'}{more}>"


class Frontier:
    """Which children are still to be waited for, in bounded memory: those up to the frontier that have not ended, and what is behind it."""

    def __init__(self, ids: Iterable[bytes], most: int = HOLES_MOST) -> None:
        """`most`: how many are looked for at once."""
        self._behind: Iterator[bytes] = iter(ids)
        self._most = most
        self._holes: dict[bytes, None] = {}
        self._exhausted = False

    def ask(self) -> list[bytes]:
        """Whom to look for now, in order. Empty: nobody is left."""
        room = self._most - len(self._holes)
        if room > 0 and not self._exhausted:
            taken = list(islice(self._behind, room))
            self._holes.update(dict.fromkeys(taken))
            self._exhausted = len(taken) < room
        return list(self._holes)

    def ended(self, ids: Iterable[bytes]) -> None:
        """These need not be looked for any more."""
        for job_id in ids:
            self._holes.pop(job_id, None)

    @property
    def done(self) -> bool:
        """Everybody has been looked for, and has ended."""
        return self._exhausted and not self._holes


def check_on_failure(value: object) -> None:
    """Raises `BadArgument`."""
    if value not in ON_FAILURE:
        raise BadArgument(f"on_failure={shown(value)} is not one of {', '.join(ON_FAILURE)}")


def children_failed(failed: Sequence[ChildEnd], count: int, job_id: bytes) -> ChildrenFailed:
    """The error that says so. `failed`: the first of them; `count`: how many in all."""
    named = "; ".join(f"{id_text(end.id)} {end.status}" + (f": {end.error[:300]}" if end.error else "") for end in failed[:NAMED_IN_ERRORS])
    more = f"; and {count - NAMED_IN_ERRORS} more" if count > NAMED_IN_ERRORS else ""
    said = "1 child has" if count == 1 else f"{count} children have"
    return ChildrenFailed(f"{said} not completed: {named}{more}", job_id=job_id, ids=tuple(end.id for end in failed[:NAMED_IN_ERRORS]), count=count)
