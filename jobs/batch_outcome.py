"""The answer to a batch: what became of every item, each index in exactly one place. Made of chunks; an item is made when asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from operator import index as integer
from typing import Any, ClassVar, Generic, TypeVar, overload

from callboard.jobs.batch_items import (
    BatchItem,
    ChunkOutcome,
    DeduplicatedItem,
    FailedItem,
    ItemKind,
    OverriddenItem,
    RejectedItem,
    RequeuedItem,
    SupersededItem,
    UnknownItem,
    reason,
)
from callboard.jobs.errors import BadArgument, error_text

T = TypeVar("T")
REPR_MOST = 3
"""So many elements are in a repr."""


class Column(Sequence[T], Generic[T]):
    """A sequence that is read out of chunks: some items of a batch, in input order. It compares with lists and tuples by its elements."""

    __slots__ = ("_ends", "_pieces", "_read")

    def __init__(
        self, pieces: Iterable[tuple[ChunkOutcome, Sequence[int]]], read: Callable[[ChunkOutcome, Sequence[int]], Iterator[T]]
    ) -> None:
        """`pieces`: chunks, and which of their items; `read` gives an element for each of some items of a chunk."""
        self._pieces = tuple((chunk, indices) for chunk, indices in pieces if indices)
        self._ends = tuple(accumulate(len(indices) for _, indices in self._pieces))
        self._read = read

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, slice):
            return [self._at(each) for each in range(*at.indices(len(self)))]
        at = integer(at)
        if not -len(self) <= at < len(self):
            raise IndexError(f"{at} is out of range: there are {len(self)}")
        return self._at(at % len(self))

    def __iter__(self) -> Iterator[T]:
        for chunk, indices in self._pieces:
            yield from self._read(chunk, indices)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Column, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        first = ", ".join(map(repr, islice(self, REPR_MOST)))
        return f"[{first}, … {len(self) - REPR_MOST} more]" if len(self) > REPR_MOST else f"[{first}]"

    def _at(self, at: int) -> T:
        piece = bisect_right(self._ends, at)
        chunk, indices = self._pieces[piece]
        begin = self._ends[piece] - len(indices)
        return next(self._read(chunk, indices[at - begin : at - begin + 1]))


def _items(chunk: ChunkOutcome, indices: Sequence[int]) -> Iterator[BatchItem]:
    return map(chunk.item, indices)


def _new_ids(chunk: ChunkOutcome, indices: Sequence[int]) -> Iterator[bytes]:
    return (job_id or b"" for job_id in chunk.job_ids(indices))


def _indices(chunk: ChunkOutcome, indices: Sequence[int]) -> Iterator[int]:
    return iter(indices)


class BatchOutcome(Column[BatchItem]):
    """What became of each item of a batch. `outcome[i]` is that of item i; the properties have those of one kind, in input order."""

    __slots__ = ("_batch_id", "_chunks", "_columns", "_error", "_tally")

    planned: ClassVar[bool] = False
    """True if nothing was to be stored: see `BatchPlan`."""

    def __init__(self, chunks: Iterable[ChunkOutcome], *, batch_id: bytes = b"", error: Exception | None = None) -> None:
        """Raises `BadArgument` unless each chunk begins where the one before it ends."""
        self._chunks = tuple(chunks)
        end = 0
        for chunk in self._chunks:
            if chunk.start != end:
                raise BadArgument(f"a chunk starts at item {chunk.start}, the one before it ends at {end}: they must follow each other")
            end += chunk.count
        super().__init__([(chunk, range(chunk.start, chunk.start + chunk.count)) for chunk in self._chunks], _items)
        self._batch_id, self._error = batch_id, error
        self._tally: Counter[ItemKind] = sum((chunk.tally() for chunk in self._chunks), Counter())
        self._columns: dict[ItemKind, Column[Any]] = {}

    @property
    def batch_id(self) -> bytes:
        """16 bytes."""
        return self._batch_id

    @property
    def error(self) -> Exception | None:
        """Why the batch stopped early: what the generator raised, `NotAccepted`, `Busy` …; None if it did not."""
        return self._error

    @property
    def complete(self) -> bool:
        """True if the batch was gone through to its end: nothing is unknown, nothing left over. Items may have failed."""
        return self._error is None and not self._tally[ItemKind.UNKNOWN] and not self._tally[ItemKind.NOT_STORED]

    @property
    def counts(self) -> dict[str, int]:
        """How many items came out how: the names of the properties below, without those of which there are none."""
        return {kind.name.lower(): self._tally[kind] for kind in ItemKind if self._tally[kind]}

    @property
    def ids(self) -> Sequence[bytes | None]:
        """For each index the job that stands for it: new, or (deduplicated) the one that does for both. None: there is none, or not yet."""
        return Column(self._pieces, ChunkOutcome.job_ids)

    @property
    def submitted(self) -> Sequence[bytes]:
        """Ids of the new jobs that have met no other. (In a plan: b"" for each.)"""
        return self._column(ItemKind.SUBMITTED, _new_ids)

    @property
    def deduplicated(self) -> Sequence[DeduplicatedItem]:
        """Those whose key is taken by a job that stands for both."""
        return self._column(ItemKind.DEDUPLICATED)

    @property
    def superseded(self) -> Sequence[SupersededItem]:
        """Those that took the place of an older job."""
        return self._column(ItemKind.SUPERSEDED)

    @property
    def requeued(self) -> Sequence[RequeuedItem]:
        """Those that wait for the end of an older job."""
        return self._column(ItemKind.REQUEUED)

    @property
    def rejected(self) -> Sequence[RejectedItem]:
        """Those whose key is taken, which was to be an error."""
        return self._column(ItemKind.REJECTED)

    @property
    def failed(self) -> Sequence[FailedItem]:
        """Those that are bad in themselves."""
        return self._column(ItemKind.FAILED)

    @property
    def overridden(self) -> Sequence[OverriddenItem]:
        """Those whose key a later item of the batch has: the last one wins."""
        return self._column(ItemKind.OVERRIDDEN)

    @property
    def unknown(self) -> Sequence[UnknownItem]:
        """Those that may or may not be stored, after an I/O error."""
        return self._column(ItemKind.UNKNOWN)

    @property
    def not_stored(self) -> Sequence[int]:
        """Indices of those that are not stored because the batch stopped before."""
        return self._column(ItemKind.NOT_STORED, _indices)

    def why(self, index: int) -> str:
        """Why item `index` is no plain new job, for a person; "" if it is one. Raises `IndexError`."""
        return reason(self[index])

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={count}" for name, count in self.counts.items())
        stopped = "" if self._error is None else f"; stopped by {error_text(self._error, 200)}"
        return f"{type(self).__name__}({len(self)} items: {counts or 'none'}{stopped})"

    def _column(self, kind: ItemKind, read: Callable[[ChunkOutcome, Sequence[int]], Iterator[Any]] = _items) -> Column[Any]:
        """Kept, since finding the items of a kind is a walk through the chunks."""
        if kind not in self._columns:
            self._columns[kind] = Column([(chunk, chunk.indices(kind)) for chunk in self._chunks], read)
        return self._columns[kind]


class BatchPlan(BatchOutcome):
    """What would become of each item if the batch were submitted now; `why` says why. Nothing is stored: what would be new has no id."""

    __slots__ = ()

    planned: ClassVar[bool] = True
