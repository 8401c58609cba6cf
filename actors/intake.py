"""The library's side of batches on their way in: which parts are with the store, what is stored of each, and the one fact that tells of it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from callboard.actors.messages import Replies
from callboard.actors.ports import Ports
from callboard.actors.store import give
from callboard.jobs.batch_items import ChunkOutcome, FailedItem, ItemKind
from callboard.jobs.batch_outcome import BatchOutcome
from callboard.jobs.errors import CallboardError, OutcomeUnknown
from callboard.jobs.identity import ID_BYTES, IdSource, nth
from callboard.persistence.writes import Answer, Chunk, ChunkStored, Insert, InsertChunk

PARTS_AHEAD = 2
"""Parts of one message's batch with the store: one being written, the next one waiting."""

TOKEN_START_BYTES = 8


def token_of(batch_id: bytes, start: int) -> bytes:
    """Finds out later whether the part of the batch that begins at item `start` is stored: see `Library.resolve`."""
    return batch_id + start.to_bytes(TOKEN_START_BYTES, "big")


def of_token(token: bytes) -> tuple[bytes, int]:
    """The batch and the start of the part that `token_of` was given."""
    return token[:ID_BYTES], int.from_bytes(token[ID_BYTES:], "big")


def _not_taken(chunk: Chunk, kind: ItemKind) -> ChunkOutcome:
    """What became of the items of a chunk that is not stored, or may be."""
    bad = {index: item for index, item in chunk.others.items() if isinstance(item, FailedItem)}
    token = token_of(chunk.batch_id, chunk.start) if kind is ItemKind.UNKNOWN else b""
    return ChunkOutcome(start=chunk.start, count=chunk.count, kinds=kind, token=token, others=bad)


def new_id(ports: Ports) -> bytes:
    """An id for a batch: a UUIDv7, as those of jobs."""
    return IdSource().next(int(ports.wall() * 1000), ports.random_bytes(8))


class Account:
    """What became of a batch so far, part by part, in order."""

    def __init__(self, batch_id: bytes) -> None:
        self.batch_id = batch_id
        self._parts: list[ChunkOutcome] = []
        self.error: Exception | None = None
        """The first that was met."""
        self.kept = 0
        """Parts that are stored, or may be."""

    @property
    def end(self) -> int:
        """Index of the first item that is not accounted for."""
        return self._parts[-1].start + self._parts[-1].count if self._parts else 0

    def add(self, chunk: Chunk, stored: object) -> None:
        """`stored`: the answer to a chunk, or what was raised instead."""
        if isinstance(stored, ChunkStored):
            self._parts.append(stored.outcome)
            self.kept += 1
            return
        error = stored if isinstance(stored, Exception) else CallboardError(f"the store has no answer to a chunk but {stored!r:.100}")
        self.error = self.error or error
        # Parts follow each other: behind one that is not stored none is, whatever it was refused with.
        behind_gap = bool(self._parts) and self._parts[-1].kinds is ItemKind.NOT_STORED
        unknown = isinstance(error, OutcomeUnknown) and not behind_gap
        self._parts.append(_not_taken(chunk, ItemKind.UNKNOWN if unknown else ItemKind.NOT_STORED))
        self.kept += unknown

    def left_out(self, until: int) -> None:
        """The items up to `until` were never sent."""
        if until > self.end:
            self._parts.append(ChunkOutcome(start=self.end, count=until - self.end, kinds=ItemKind.NOT_STORED))

    def outcome(self) -> BatchOutcome:
        return BatchOutcome(self._parts, batch_id=self.batch_id, error=self.error)


@dataclass(slots=True, eq=False)
class _Arriving:
    """A batch of which parts have been stored since it was last told of."""

    end: int = 0
    first_id: bytes = b""
    last_id: bytes = b""
    tally: Counter[ItemKind] = field(default_factory=Counter)
    new: bool = False
    """Some of it was not stored before."""


@dataclass(slots=True, eq=False)
class _Message:
    """A SubmitBatch that is being carried out."""

    reply: Replies | None
    account: Account
    waiting: deque[InsertChunk]
    sender: object
    """Whose batches are stored one after another; None: of those that are told by somebody unknown."""
    begun: bool = False
    flying: int = 0


Commit = Callable[[InsertChunk], None]
Tell = Callable[[bytes, int, bytes, bytes, dict[str, int]], None]


class Intake:
    """Belongs to one library actor. `commit` sends a part to the store; `tell` tells of a batch: id, items, first and last id, counts."""

    def __init__(self, commit: Commit, tell: Tell) -> None:
        self._commit, self._tell = commit, tell
        self._arriving: dict[bytes, _Arriving] = {}
        self._with_store: dict[tuple[bytes, int], list[tuple[Replies | None, _Message | None]]] = {}
        """Who waits for which part."""
        self._lines: dict[object, deque[_Message]] = {}
        """Sender → his batches that have parts to be sent, in order: what he said last of a key is what counts."""

    def __len__(self) -> int:
        """How many parts are with the store."""
        return sum(map(len, self._with_store.values()))

    def add(self, write: InsertChunk, reply: Replies | None) -> None:
        """One part; its sender sees to the others."""
        self._send(write, reply, None)

    def add_all(
        self, batch_id: bytes, chunks: Sequence[Chunk], on_complete: Insert | None, requested_by: str | None, reply: Replies | None, sender: object
    ) -> None:
        """All parts of a batch, one after another, behind those that its sender sent before; `reply` gets the `BatchOutcome`, or, if nothing is
        stored, the error."""
        writes = (InsertChunk(replace(chunk, batch_id=batch_id), requested_by, on_complete) for chunk in chunks)
        self._lines.setdefault(sender, deque()).append(_Message(reply, Account(batch_id), deque(writes), sender))
        self._go_on(sender)

    def _go_on(self, sender: object) -> None:
        """Begin with the next of his batches once all parts of the one before are with the store, which keeps their order."""
        line = self._lines.get(sender)
        while line:
            first = line[0]
            for _ in range(0 if first.begun else PARTS_AHEAD):
                self._send_next(first)
            first.begun = True
            if first.waiting:
                return
            line.popleft()
        self._lines.pop(sender, None)

    def _send_next(self, message: _Message) -> None:
        if message.waiting:
            message.flying += 1
            self._send(message.waiting.popleft(), None, message)

    def _send(self, write: InsertChunk, reply: Replies | None, message: _Message | None) -> None:
        self._with_store.setdefault((write.chunk.batch_id, write.chunk.start), []).append((reply, message))
        self._commit(write)

    def stored(self, write: InsertChunk, stored: Answer) -> None:
        """A part came back from the store."""
        chunk = write.chunk
        place = chunk.batch_id, chunk.start
        reply, message = self._with_store[place].pop(0)
        if not self._with_store[place]:
            del self._with_store[place]
        if isinstance(stored, ChunkStored):
            self._count(chunk.batch_id, stored)
        if chunk.last or not isinstance(stored, ChunkStored):
            self.stop(chunk.batch_id)
        give(reply, stored)
        if message is None:
            return
        message.account.add(chunk, stored)
        message.flying -= 1
        if message.account.error is None:
            self._send_next(message)
        if not message.flying:
            self._answer(message)
        self._go_on(message.sender)

    def _count(self, batch_id: bytes, stored: ChunkStored) -> None:
        outcome = stored.outcome
        arriving = self._arriving.setdefault(batch_id, _Arriving())
        if outcome.start != arriving.end and arriving.end:  # two send it at once: it counts once
            return
        arriving.end = outcome.start + outcome.count
        arriving.new = arriving.new or not stored.again
        arriving.tally += outcome.tally()
        if outcome.first_id is not None and outcome.count:
            arriving.first_id = arriving.first_id or outcome.first_id
            arriving.last_id = nth(outcome.first_id, outcome.count - 1)

    def stop(self, batch_id: bytes) -> None:
        """Tell of what has been stored of this batch since it was last told of; no more of it comes, or comes later."""
        arriving = self._arriving.pop(batch_id, None)
        if arriving is not None and arriving.new:
            counts = {kind.name.lower(): arriving.tally[kind] for kind in ItemKind if arriving.tally[kind]}
            self._tell(batch_id, sum(counts.values()), arriving.first_id, arriving.last_id, counts)

    def _answer(self, message: _Message) -> None:
        account = message.account
        for write in message.waiting:
            account.left_out(write.chunk.start + write.chunk.count)
        message.waiting.clear()
        give(message.reply, account.outcome() if account.kept or account.error is None else account.error)

    def _refuse_lines(self, error: CallboardError) -> None:
        """Of whom nothing is with the store yet."""
        for line in self._lines.values():
            while line and not line[-1].begun:
                give(line.pop().reply, error)

    def refuse_waiting(self, error: CallboardError) -> None:
        """The library closes: what is not with the store yet is not stored."""
        self._refuse_lines(error)
        for message in self._messages():
            if message.waiting:
                message.account.error = message.account.error or error

    def give_up(self, error: CallboardError) -> None:
        """Nobody who waits will hear more than this. What is with the store may be stored."""
        unknown: Any = OutcomeUnknown(f"{error}; send the batch again under its batch_id: what is stored of it is not stored twice")
        for message in self._messages():
            give(message.reply, unknown)
        for waiting in self._with_store.values():
            for reply, _ in waiting:
                give(reply, unknown)
        self._with_store.clear()
        self._refuse_lines(error)
        self._lines.clear()

    def _messages(self) -> list[_Message]:
        found = (message for waiting in self._with_store.values() for _, message in waiting if message is not None)
        return list({id(message): message for message in found}.values())
