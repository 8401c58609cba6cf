"""How the children of one name come to be: all in one order, part by part, and never twice, whatever crashes in between and in whatever attempt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from callboard.actors.actor import send
from callboard.actors.messages import CHUNK_ROWS, SpawnPart, SuspectCleared
from callboard.jobs.batch import BatchSubmission
from callboard.jobs.batch_items import ChunkOutcome
from callboard.jobs.children import ChildIds, check_chunk, children_batch_id
from callboard.jobs.errors import LibraryClosed, NotDecodable, StoreUnavailable
from callboard.jobs.job import Job
from callboard.jobs.submission import Submission
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.codec import CHECKPOINT, decode_value, encode_value
from callboard.persistence.writes import ChunkStored, Fenced, InsertChunk, Part, SaveCheckpoint, SpawnAgain, SpawnChildren

if TYPE_CHECKING:
    from callboard.actors.children import Children
    from callboard.actors.context import RunningContext

KIND = "children"
"""Of the part of a checkpoint that names a set of children."""

RENEWED_AT_ONCE = 500
"""Children of an earlier attempt that are looked at in one commit, each of which may have to be queued anew."""


class Begun(NamedTuple):
    """What a checkpoint says of the children of one name."""

    batch_id: bytes
    detached: bool
    source: bytes | None
    """The batch of the earlier attempt, whose children these are as far as they completed."""


class Spawning:
    """One call of `spawn_children`."""

    def __init__(self, ctx: RunningContext, children: Children, name: str) -> None:
        self._ctx, self._children, self._name = ctx, children, name
        self._saving: SaveCheckpoint | None = None
        """The checkpoint that goes with the part that is on its way."""
        self.source: bytes | None = None
        """As `Begun.source`."""

    def spawn(self, jobs: Iterator[Job | Submission], detached: bool, max_running: int | None) -> ChildIds:
        """Find those of this attempt, or make them of an earlier attempt's; queue what is missing."""
        current = children_batch_id(self._ctx.job_id, self._name, self._ctx.attempt)
        begun = self._begun()
        if begun is not None and begun.batch_id == current:
            self.source = begun.source
            loaded = self._children.load(current)
            if loaded.sealed:
                return self._ids(begun, loaded.chunks)
            return self._complete(begun, loaded.chunks, None, jobs, max_running)
        earlier = None if begun is None else self._earlier(begun, jobs, max_running)
        new = Begun(current, detached, None) if earlier is None else Begun(current, earlier.detached, earlier.batch_id)
        self.source = new.source
        return self._complete(new, (), (KIND, self._name, 0, encode_value(tuple(new), CHECKPOINT)), jobs, max_running)

    def _ids(self, begun: Begun, chunks: Iterable[ChunkOutcome] = ()) -> ChildIds:
        return ChildIds(self._name, begun.batch_id, chunks, detached=begun.detached)

    def _begun(self) -> Begun | None:
        for kind, stored_name, _, value in self._ctx.stored.parts if self._ctx.stored is not None else ():
            if kind == KIND and stored_name == self._name:
                try:
                    return Begun(*decode_value(value, CHECKPOINT))
                except (TypeError, ValueError) as error:
                    raise NotDecodable(f"what is stored of the children {self._name!r} is damaged: {error}") from None
        return None

    def _earlier(self, begun: Begun, jobs: Iterator[Job | Submission], max_running: int | None) -> Begun | None:
        """Children of an earlier attempt, all of them stored; None: there are none, as another job was cut off while it queued them."""
        loaded = self._children.load(begun.batch_id)
        if loaded.sealed:
            return begun
        if all(begun.batch_id != children_batch_id(self._ctx.job_id, self._name, attempt) for attempt in range(1, self._ctx.attempt)):
            return None if begun.source is None else Begun(begun.source, begun.detached, None)
        self._complete(begun, loaded.chunks, None, jobs, max_running)
        return begun

    # --- sending ----------------------------------------------------------------------------------------------------

    def _complete(
        self, begun: Begun, chunks: tuple[ChunkOutcome, ...], part: Part | None, jobs: Iterator[Job | Submission], max_running: int | None
    ) -> ChildIds:
        """Queue what is not stored yet. `part` names them in the checkpoint."""
        self._ctx.await_saved(self._ctx.sequence)  # what went before must be stored before what is saved with the children
        if begun.source is not None:
            ids = self._ids(begun, chunks)
            self._renew(ids, begun.source, part)
        else:
            ids = self._ids(begun)
            self._send_all(jobs, ids, [chunk.count for chunk in chunks], part, max_running)
        return ids

    def _send_all(self, jobs: Iterator[Job | Submission], ids: ChildIds, cuts: list[int], part: Part | None, max_running: int | None) -> None:
        """Cut, encode and send; one part is on its way while the next is made. What was cut before is cut the same way again."""
        ctx = self._ctx
        encoder = BatchEncoder(BatchSubmission((), requested_by=ctx.requested_by), ids.batch_id, parent=None if ids.detached else ctx.job_id)
        sizes = chain(cuts, iter(lambda: CHUNK_ROWS, None))
        on_way = False
        while (chunk := encoder.chunk(jobs, next(sizes))) is not None:
            if on_way:
                self._take_spawned(ids)
            check_chunk(chunk.others.values())
            self._leave_if_asked()
            write = InsertChunk(chunk, ctx.requested_by, max_running=max_running)
            self._send(SpawnChildren(ctx.job_id, ctx.claimed.claim, write, self._save(part)))
            part, on_way = None, True
        if on_way:
            self._take_spawned(ids)
        if encoder.error is not None:
            raise encoder.error

    def _renew(self, ids: ChildIds, source: bytes, part: Part | None) -> None:
        """Take over what has completed of the earlier attempt, and have the others queued anew."""
        ctx = self._ctx
        count = sum(chunk.count for chunk in self._children.load(source).chunks)
        while part is not None or len(ids) < count:
            self._leave_if_asked()
            self._send(
                SpawnAgain(
                    ctx.job_id, ctx.claimed.claim, source, ids.batch_id, len(ids), RENEWED_AT_ONCE, ids.detached, ctx.requested_by, self._save(part)
                )
            )  # fmt: skip
            part = None
            self._take_spawned(ids)

    def _leave_if_asked(self) -> None:
        if self._ctx.asked is not None:
            self._ctx.leave()

    def _save(self, part: Part | None) -> SaveCheckpoint | None:
        ctx = self._ctx
        self._saving = None
        if part is not None:
            parts = ctx.collect()
            self._saving = SaveCheckpoint(
                ctx.job_id, ctx.claimed.claim, ctx.sequence, (*parts, part), ctx.take_warnings(), ctx.claimed.crashes > 0
            )
        return self._saving

    def _send(self, write: SpawnChildren | SpawnAgain) -> None:
        if not send(self._ctx.stage.library, SpawnPart(write, self._ctx.me)):
            raise LibraryClosed("the library has been closed; no children are queued any more")

    def _take_spawned(self, ids: ChildIds) -> None:
        """Wait for the answer to the part that is on its way."""
        ctx = self._ctx
        answer = self._children.await_spawned()
        if isinstance(answer, Fenced):
            ctx.asked = "close"
            raise StoreUnavailable("this job is held by another actor")
        if isinstance(answer, Exception):
            if self._saving is not None:
                ctx.not_saved(self._saving.warnings)
            ctx.save_error = answer
            ctx.raise_save_error()
        assert isinstance(answer, ChunkStored)
        if self._saving is not None:
            ctx.is_saved()
        elif not answer.again and ctx.claimed.alone:
            send(ctx.stage.library, SuspectCleared(ctx.job_id))
        ids.append(answer.outcome)
