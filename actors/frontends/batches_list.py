"""`callboard batches list` and `show`: how far each batch is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from callboard.actors.frontends import json_view
from callboard.actors.frontends.jobs_list import show
from callboard.actors.frontends.reach import Board, answer_of
from callboard.actors.frontends.wording import clock, count, counts_text
from callboard.actors.machine import Ports
from callboard.jobs.errors import NoSuchBatch, NoSuchJob
from callboard.jobs.identity import id_from_text, id_text
from callboard.jobs.record import BatchRecord

PAGE = 500


def list_batches(library: Path, ports: Ports, *, limit: int, as_json: bool) -> None:
    """Print at most `limit` batches (0: all), the newest first."""
    records = answer_of(library, ports, lambda anyone: list(_records(anyone, limit)))
    if as_json:
        print("[" + ",\n ".join(json_view.line(view(record)) for record in records) + "]")
    elif records:
        show([f"{id_text(each.id)}  {clock(each.created_at)}  {summary(each)}" for each in records])
    else:
        print("no batches", file=sys.stderr)


def show_batch(library: Path, ports: Ports, which: str, *, as_json: bool) -> None:
    """Print one. Raises `NoSuchBatch`."""
    try:
        batch_id = id_from_text(which)
    except NoSuchJob:
        raise NoSuchBatch(f"{which!r:.100} is no id of a batch; `callboard batches list` has them") from None
    record = answer_of(library, ports, lambda anyone: anyone.batch(batch_id))
    if as_json:
        print(json_view.line(view(record)))
        return
    lines = [("batch", id_text(record.id)), ("sent", clock(record.created_at)), ("by", record.requested_by or "-")]
    lines += [("items", f"{record.count:,}" + ("" if record.sealed else " so far; its sending was interrupted") + f": {counts_text(record.counts)}")]
    lines.append(("jobs", summary(record)))
    if record.completed_at is not None:
        lines.append(("ended", clock(record.completed_at)))
    print("\n".join(f"{name:8}{value}" for name, value in lines))


def summary(record: BatchRecord) -> str:
    """How far it is, in a few words."""
    ended = record.completed_at is not None
    text = f"{count(record.jobs, 'job')}, " + ("ended" if ended else f"{record.open:,} to go")
    return text if record.states is None else f"{text}: {counts_text(record.states)}"


def view(record: BatchRecord) -> dict[str, Any]:
    """As JSON. Names of fields are for ever."""
    return {
        "id": id_text(record.id), "created_at": record.created_at, "requested_by": record.requested_by, "count": record.count,
        "sealed": record.sealed, "counts": dict(record.counts), "jobs": record.jobs, "open": record.open,
        "states": None if record.states is None else dict(record.states), "completed_at": record.completed_at,
        "completed_by": None if record.completed_by is None else id_text(record.completed_by),
    }  # fmt: skip


def _records(anyone: Board, limit: int) -> Iterator[BatchRecord]:
    before: bytes | None = None
    left = limit or sys.maxsize
    while left:
        page = anyone.batches(before, min(PAGE, left))
        yield from page
        left -= len(page)
        if len(page) < PAGE:
            return
        before = page[-1].id
