"""A type of job for batches, and chunks of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench import Bench

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.job import Job
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.writes import Chunk, ChunkStored, InsertChunk

BATCH = b"batch of sixteen"


@dataclass
class Work(Job, name="work", version=1):
    n: int = 0
    colour: str = ""

    def run(self, ctx: Any) -> None: ...


def chunks(items: Iterable[Any], most: int | None = None, *, batch_id: bytes = BATCH, start: int = 0, **batch: Any) -> list[Chunk]:
    """The chunks of a batch, the last one said to be so."""
    submission = BatchSubmission(items, **batch)
    encoder, source = BatchEncoder(submission, batch_id, start=start), iter(submission.submissions)
    found: list[Chunk] = []
    while (chunk := encoder.chunk(source, most)) is not None:
        found.append(chunk)
    return found


def send(bench: Bench, items: Iterable[Any], most: int | None = None, **more: Any) -> list[ChunkStored]:
    """Commit a batch, a group for each chunk; raises what is answered with an error."""
    write = {name: more.pop(name) for name in ("requested_by", "on_complete") if name in more}
    return [bench.do(InsertChunk(chunk, **write)) for chunk in chunks(items, most, **more)]
