"""What becomes of one item of a batch, and of a chunk of them: a few bytes an item, from which the item is made when it is asked for."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from callboard.jobs.errors import BadArgument, error_text, shown
from callboard.jobs.identity import ID_BYTES, id_text, nth, run_of_ids
from callboard.jobs.value import Value


class ItemKind(IntEnum):
    """How an item came out. The number is its byte in `ChunkOutcome.kinds`."""

    SUBMITTED = 0
    DEDUPLICATED = 1
    RAISED = 2
    """DEDUPLICATED, and the older job took the item's priority. Told and counted as DEDUPLICATED."""
    SUPERSEDED = 3
    REQUEUED = 4
    REJECTED = 5
    FAILED = 6
    OVERRIDDEN = 7
    UNKNOWN = 8
    NOT_STORED = 9


# The field `index` hides a tuple's method of that name, which nobody wants of these; hence the `type: ignore` at each.


class SubmittedItem(NamedTuple):
    """A new job."""

    index: int  # type: ignore[assignment]
    """Which item of the batch, 0 first."""
    job_id: bytes
    """Of the new job; b"" in a plan."""


class DeduplicatedItem(NamedTuple):
    """The key is taken, and the job that has it stands."""

    index: int  # type: ignore[assignment]
    key: bytes
    job_id: bytes
    """Of the job that stands."""
    raised: bool = False
    """True if that job took the item's more urgent priority."""


class SupersededItem(NamedTuple):
    """A new job in the place of an older one."""

    index: int  # type: ignore[assignment]
    job_id: bytes
    """Of the new job; b"" in a plan."""
    replaced: bytes
    """The older one."""


class RequeuedItem(NamedTuple):
    """A new job that waits for the end of an older one."""

    index: int  # type: ignore[assignment]
    job_id: bytes
    """Of the new job; b"" in a plan."""
    after: bytes
    """The older one."""


class RejectedItem(NamedTuple):
    """The key is taken, and that is an error."""

    index: int  # type: ignore[assignment]
    key: bytes
    job_id: bytes
    """Of the job that has the key."""


class FailedItem(NamedTuple):
    """The item itself is bad; nothing is stored of it."""

    index: int  # type: ignore[assignment]
    error: Exception


class OverriddenItem(NamedTuple):
    """A later item of the batch has the same key."""

    index: int  # type: ignore[assignment]
    by_index: int
    """The item that won."""


class UnknownItem(NamedTuple):
    """An I/O error came in between: the item may or may not be stored."""

    index: int  # type: ignore[assignment]
    token: bytes
    """Finds out, after the library has been opened again."""


class NotStoredItem(NamedTuple):
    """The batch stopped before it; nothing is stored of it, and sending it again is safe."""

    index: int  # type: ignore[assignment]


BatchItem = (
    SubmittedItem | DeduplicatedItem | SupersededItem | RequeuedItem | RejectedItem
    | FailedItem | OverriddenItem | UnknownItem | NotStoredItem
)  # fmt: skip

_KINDS: dict[type[BatchItem], ItemKind] = {
    SubmittedItem: ItemKind.SUBMITTED,
    DeduplicatedItem: ItemKind.DEDUPLICATED,
    SupersededItem: ItemKind.SUPERSEDED,
    RequeuedItem: ItemKind.REQUEUED,
    RejectedItem: ItemKind.REJECTED,
    FailedItem: ItemKind.FAILED,
    OverriddenItem: ItemKind.OVERRIDDEN,
    UnknownItem: ItemKind.UNKNOWN,
    NotStoredItem: ItemKind.NOT_STORED,
}
_TOLD_AS = tuple(ItemKind.DEDUPLICATED if kind is ItemKind.RAISED else kind for kind in ItemKind)
_CODES: dict[ItemKind, bytes] = {told_as: bytes(kind for kind in ItemKind if _TOLD_AS[kind] is told_as) for told_as in _TOLD_AS}
_ALL_CODES = bytes(ItemKind)
_WITH_KEY = frozenset({ItemKind.DEDUPLICATED, ItemKind.RAISED, ItemKind.REJECTED})
_WITH_OLDER = _WITH_KEY | {ItemKind.SUPERSEDED, ItemKind.REQUEUED}
_BY_ITEM = frozenset({ItemKind.FAILED, ItemKind.OVERRIDDEN})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ChunkOutcome(Value):
    """What became of `count` items from index `start` on. Raises `BadArgument` for columns that do not fit together.

    A column has one entry for each item, needed or not. The usual chunk has none: all new, their ids in a row.
    """

    start: int
    count: int
    first_id: bytes | None = None
    """Id of the first item if that is new; the i-th one's is `nth(first_id, i)`, whatever became of those between. None: in a plan."""
    kinds: ItemKind | bytes = ItemKind.SUBMITTED
    """One kind for all, or a byte for each: the numbers of `ItemKind`."""
    ids: bytes = b""
    """16 bytes for each: the older job, of those that have one."""
    keys: Sequence[bytes | None] = ()
    """Their keys; needed of those whose key is taken."""
    token: bytes = b""
    """Of UNKNOWN ones."""
    others: Mapping[int, BatchItem] = field(default_factory=dict)
    """Exceptions, by index in the batch: whatever the columns say, this became of them. FAILED and OVERRIDDEN ones are only here."""

    def __post_init__(self) -> None:
        if self.start < 0 or self.count < 0:
            raise self._misfit("neither may be below 0")
        kinds = {self.kinds} if isinstance(self.kinds, ItemKind) else {kind for kind in ItemKind if kind in self.kinds}
        if isinstance(self.kinds, bytes) and (len(self.kinds) != self.count or self.kinds.translate(None, _ALL_CODES)):
            raise self._misfit(f"kinds={shown(self.kinds)} is not one ItemKind for each")
        if len(self.ids) != self.count * ID_BYTES and (self.ids or kinds & _WITH_OLDER):
            raise self._misfit(f"ids has {len(self.ids)} bytes, not {ID_BYTES} for each")
        if len(self.keys) != self.count and (self.keys or kinds & _WITH_KEY):
            raise self._misfit(f"keys has {len(self.keys)}, not one for each")
        for index, item in self.others.items():
            if item.index != index or not self.start <= index < self.start + self.count:
                raise self._misfit(f"others has {shown(item)} under {index}")
        for kind in kinds & _BY_ITEM:
            for index in self._by_columns(kind):
                if index not in self.others:
                    raise self._misfit(f"item {index} is {kind.name}, and others does not have it")

    def _misfit(self, what: str) -> BadArgument:
        return BadArgument(f"chunk of {self.count} items from {self.start} on: {what}")

    def item(self, index: int) -> BatchItem:
        """What became of the item `index` of the batch, which must be one of the chunk."""
        return self.others.get(index) or _MAKE[self._code(index)](self, index, index - self.start)

    def job_ids(self, indices: Sequence[int]) -> Iterator[bytes | None]:
        """The job that each of these items stands for: the new one, or the one that does for it; None: there is none, or not yet."""
        if self.kinds is ItemKind.SUBMITTED and not self.others and self.first_id is not None and isinstance(indices, range):
            return run_of_ids(nth(self.first_id, indices.start - self.start), len(indices))
        return (_job_id(self.item(index)) for index in indices)

    def indices(self, kind: ItemKind) -> Sequence[int]:
        """Which items are of this kind, in order. RAISED ones are among the DEDUPLICATED."""
        found = self._by_columns(kind)
        if not self.others:
            return found
        merged = [index for index in found if index not in self.others]
        merged += (index for index, item in self.others.items() if _KINDS[type(item)] is kind)
        return array("Q", sorted(merged))

    def tally(self) -> Counter[ItemKind]:
        """How many items there are of each kind. RAISED ones are among the DEDUPLICATED."""
        found: Counter[ItemKind] = Counter()
        for kind, codes in _CODES.items():
            if isinstance(self.kinds, bytes):
                found[kind] = sum(self.kinds.count(code) for code in codes)
            elif self.kinds in codes:
                found[kind] = self.count
        for index, item in self.others.items():
            found[_TOLD_AS[self._code(index)]] -= 1
            found[_KINDS[type(item)]] += 1
        return +found

    def _by_columns(self, kind: ItemKind) -> Sequence[int]:
        codes = _CODES[kind]
        if isinstance(self.kinds, bytes):
            return array("Q", (index for index, code in enumerate(self.kinds, self.start) if code in codes))
        return range(self.start, self.start + self.count) if self.kinds in codes else ()

    def _code(self, index: int) -> int:
        return self.kinds[index - self.start] if isinstance(self.kinds, bytes) else self.kinds

    def _new_id(self, at: int) -> bytes:
        return b"" if self.first_id is None else nth(self.first_id, at)

    def _older(self, at: int) -> bytes:
        return self.ids[at * ID_BYTES : (at + 1) * ID_BYTES]

    def _key(self, at: int) -> bytes:
        return self.keys[at] or b""


def _not_in_others(chunk: ChunkOutcome, index: int, at: int) -> BatchItem:
    raise AssertionError("checked when the chunk was made")


_MAKE: tuple[Callable[[ChunkOutcome, int, int], BatchItem], ...] = (
    lambda chunk, index, at: SubmittedItem(index, chunk._new_id(at)),
    lambda chunk, index, at: DeduplicatedItem(index, chunk._key(at), chunk._older(at)),
    lambda chunk, index, at: DeduplicatedItem(index, chunk._key(at), chunk._older(at), True),
    lambda chunk, index, at: SupersededItem(index, chunk._new_id(at), chunk._older(at)),
    lambda chunk, index, at: RequeuedItem(index, chunk._new_id(at), chunk._older(at)),
    lambda chunk, index, at: RejectedItem(index, chunk._key(at), chunk._older(at)),
    _not_in_others,
    _not_in_others,
    lambda chunk, index, at: UnknownItem(index, chunk.token),
    lambda chunk, index, at: NotStoredItem(index),
)
"""By the number of the kind."""


def _job_id(item: BatchItem) -> bytes | None:
    if isinstance(item, (SubmittedItem, SupersededItem, RequeuedItem, DeduplicatedItem)):
        return item.job_id or None
    return None


def reason(item: BatchItem) -> str:
    """Why the item is no plain new job, for a person; "" if it is one."""
    match item:
        case SubmittedItem():
            return ""
        case DeduplicatedItem(_, key, job_id, raised):
            return f"key {shown(key)} is taken by job {id_text(job_id)}, which stands" + (", now with this priority" if raised else "")
        case SupersededItem(_, _, replaced):
            return f"takes the place of job {id_text(replaced)}"
        case RequeuedItem(_, _, after):
            return f"runs after job {id_text(after)}"
        case RejectedItem(_, key, job_id):
            return f"key {shown(key)} is taken by job {id_text(job_id)}, and on_duplicate is REJECT"
        case FailedItem(_, error):
            return error_text(error)
        case OverriddenItem(_, by_index):
            return f"superseded in the batch by item {by_index}, which has the same key"
        case UnknownItem():
            return "may or may not be stored; its token finds out after the library has been opened again"
        case NotStoredItem():
            return "not stored; send it again"
