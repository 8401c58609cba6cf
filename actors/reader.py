"""The reader actor: answers questions from its own read-only connection, whatever the store is doing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pykka

from callboard.actors.actor import Actor, send
from callboard.actors.messages import (
    CheckpointLoaded,
    ChildrenLoaded,
    ChildrenSeen,
    DiskState,
    FamiliesLoaded,
    LoadCheckpoint,
    LoadChildren,
    LoadFamilies,
    Look,
    LookForChildren,
    PlanBatch,
    PlanChunk,
    QueryBatch,
    QueryBatches,
    QueryChildren,
    QueryChunks,
    QueryJob,
    QueryJobs,
    QueryStatistics,
    QueryWarnings,
    Ref,
    StoreFailed,
)  # fmt: skip
from callboard.actors.ports import Ports
from callboard.actors.store import give
from callboard.jobs.batch_outcome import BatchPlan
from callboard.jobs.errors import CallboardError, DataError, StoreUnavailable, UnknownMessage, error_text
from callboard.jobs.record import JobPage, Statistics
from callboard.persistence.families import Family
from callboard.persistence.queries import Reader

log = logging.getLogger("callboard.reader")


class ReaderActor(Actor):
    """One a library."""

    def __init__(self, ports: Ports, parent: Ref | None, open_reader: Callable[[], Reader]) -> None:
        """`open_reader` makes a reader on a new connection: the store closes all of them when it opens the database anew."""
        super().__init__(ports, parent)
        self._open_reader = open_reader
        self._reader = open_reader()
        self._disk_full, self._degraded = False, ""

    def receive(self, message: object, reply: pykka.Future[object] | None) -> None:
        match message:
            case Look():
                give(message.reply, self._look(message))
            case LoadCheckpoint():
                send(message.reply_to, self._load(message))
            case LoadChildren():
                send(message.reply_to, self._load_children(message))
            case LoadFamilies():
                send(message.reply_to, self._load_families(message))
            case DiskState():
                self._disk_full = message.full
            case StoreFailed():
                self._degraded = message.error
            case LookForChildren():
                send(message.reply_to, self._look_for_children(message))
            case _:
                raise UnknownMessage(f"the reader has no answer to {type(message).__name__}")

    def stopped(self) -> None:
        self._reader.close()

    def _load(self, message: LoadCheckpoint) -> CheckpointLoaded:
        try:
            self._refresh()
            return CheckpointLoaded(message.job_id, self._reader.checkpoint(message.job_id))
        except DataError as error:
            return CheckpointLoaded(message.job_id, None, error_text(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the job that waits must hear of it
            log.error("a checkpoint could not be read: %s", error_text(error))
            return CheckpointLoaded(message.job_id, None)  # no word of damage: it can be tried again

    def _load_children(self, message: LoadChildren) -> ChildrenLoaded:
        try:
            self._refresh()
            return ChildrenLoaded(*self._reader.children(message.batch_id))
        except Exception as error:  # noqa: BLE001 - whatever it is, the job that waits must hear of it
            return ChildrenLoaded(False, (), f"its children could not be read: {error_text(error)}")

    def _look_for_children(self, message: LookForChildren) -> ChildrenSeen:
        try:
            self._refresh()
            return ChildrenSeen(*self._reader.ended(message.ids, message.batches), self._reader.family(message.job_id))
        except Exception as error:  # noqa: BLE001 - as above
            return ChildrenSeen((), (), frozenset(), Family(0, 0, 0.0), f"its children could not be read: {error_text(error)}")

    def _load_families(self, message: LoadFamilies) -> FamiliesLoaded:
        try:
            self._refresh()
            parents, some = self._reader.held_parents(message.batches, message.jobs, message.parents)
            return FamiliesLoaded(tuple(parents), some)
        except Exception as error:  # noqa: BLE001 - a reading is never worth an error
            log.warning("how far parents are could not be read: %s", error_text(error))
            return FamiliesLoaded((), True)

    def _now_ms(self) -> int:
        return int(self.ports.wall() * 1000)

    def _refresh(self) -> None:
        if self._reader.closed():
            self._reader = self._open_reader()

    def _without_database(self, request: object) -> object:
        """Of a library that takes no more writes, and that cannot be read either: why. None if that is not so."""
        if not self._degraded:
            return None
        if isinstance(request, QueryStatistics):
            return Statistics({}, {}, None, self._disk_full, self._degraded)
        return StoreUnavailable(self._degraded)

    def _look(self, message: Look) -> object:
        request = message.request
        try:
            self._refresh()
            match request:
                case QueryJob():
                    return self._reader.job(request.job_id)
                case QueryJobs():
                    found = self._reader.history(request.filter) if request.ended else self._reader.jobs(request.filter)
                    return JobPage(tuple(found), message.epoch, message.n)
                case QueryBatch():
                    return self._reader.batch(request.batch_id)
                case QueryBatches():
                    return tuple(self._reader.batches(request.limit, request.before))
                case QueryChunks():
                    return tuple(self._reader.batch_chunks(request.batch_id))
                case PlanChunk():
                    return self._reader.plan(request.chunk, self._now_ms())
                case PlanBatch():
                    chunks = () if request.chunk is None else (self._reader.plan(request.chunk, self._now_ms()),)
                    return BatchPlan(chunks, batch_id=request.batch_id or b"")
                case QueryWarnings():
                    return tuple(self._reader.warnings(request.job_id, request.after, request.limit))
                case QueryChildren():
                    return self._reader.children_of(request.job_id)
                case QueryStatistics():
                    return replace(self._reader.statistics(), disk_full=self._disk_full, degraded=self._degraded)
                case _:
                    return UnknownMessage(f"the reader has no answer to {type(request).__name__}")
        except StoreUnavailable as error:
            return self._without_database(request) or error
        except CallboardError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a damaged page met by one question must not end the others
            return self._without_database(request) or StoreUnavailable(f"the library could not be read: {error_text(error)}")
