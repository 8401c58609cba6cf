"""Items of a batch as names and values, as a file of lines or a client of the control socket gives them; and what became of them, as plain values."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.batch_items import ChunkOutcome, FailedItem, ItemKind, SubmittedItem, reason
from callboard.jobs.errors import BadSubmission, ConfigError, shown
from callboard.jobs.registry import REGISTRY
from callboard.jobs.submission import OnDuplicate, Submission
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.jobdata import job_by_name
from callboard.persistence.writes import Chunk

BUILT_IN = {"copy_files": "callboard.jobs.files.copy"}
"""Job types that come with callboard, and the module to import when one is submitted by name."""

OPTIONS = "@"
"""No field has this name: under it an item has the options of its submission."""

ITEM_OPTIONS = ("key", "group", "priority", "delay", "run_at", "tags", "on_duplicate", "requested_by")
BATCH_OPTIONS = ("default_group", "default_priority", "default_tags", "on_duplicate", "requested_by")

Item = Mapping[str, Any] | str
"""Its fields, and maybe its options; or, as text, why it is none."""


class _NoItem:
    """Stands for an item that could not be made."""


def import_type(name: str) -> None:
    """So that a job type of callboard's own is known by its name."""
    if name in BUILT_IN:
        importlib.import_module(BUILT_IN[name])


def part_of(name: str, batch_id: bytes, start: int, items: Sequence[Item], options: Mapping[str, Any], *, last: bool) -> Chunk:
    """The items from `start` on, encoded as jobs of the type `name`. One that cannot be made fails alone.

    Raises `UnknownJobType`, and `ConfigError` or `BadSubmission` for options of the batch that are none.
    """
    import_type(name)
    REGISTRY.get(name)
    batch = BatchSubmission((), batch_id=batch_id, **_options(options, BATCH_OPTIONS))
    errors: dict[int, Exception] = {}
    encoder = BatchEncoder(batch, batch_id, start=start)
    made: Any = _made(name, start, items, errors)
    chunk = encoder.chunk(made, None, None)
    if chunk is None:
        raise encoder.error or BadSubmission("a part of a batch has no items")
    others = {index: FailedItem(index, errors[index]) if index in errors else item for index, item in chunk.others.items()}
    return replace(chunk, others=others, last=last)


def _made(name: str, start: int, items: Sequence[Item], errors: dict[int, Exception]) -> Iterator[object]:
    for index, item in enumerate(items, start):
        try:
            yield _submission(name, item)
        except Exception as error:  # noqa: BLE001 - a job's __post_init__ may raise anything
            errors[index] = error
            yield _NoItem()


def _submission(name: str, item: Item) -> Submission:
    if not isinstance(item, Mapping):
        raise BadSubmission(item if isinstance(item, str) else f"{shown(item)} is no map of fields")
    options = item.get(OPTIONS, {})
    fields = {field: value for field, value in item.items() if field != OPTIONS}
    return Submission(job_by_name(name, fields), **_options(options, ITEM_OPTIONS))


def _options(options: object, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise ConfigError(f"options={shown(options)} is no map; there are {', '.join(known)}")
    taken: dict[str, Any] = {}
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"there is no option {shown(option)}; there are {', '.join(known)}")
        taken[option] = value
    if taken.get("on_duplicate") is not None:
        ways = tuple(OnDuplicate)
        if taken["on_duplicate"] not in ways:
            raise ConfigError(f"on_duplicate={shown(taken['on_duplicate'])} is not one of {', '.join(ways)}")
        taken["on_duplicate"] = OnDuplicate(taken["on_duplicate"])
    return taken


def part_view(outcome: ChunkOutcome) -> dict[str, Any]:
    """What became of a part, as plain values: how many came out how, and of each item that is no plain new job (index, kind, id, why)."""
    tally = outcome.tally()
    told = []
    if tally[ItemKind.SUBMITTED] < outcome.count:
        for index in range(outcome.start, outcome.start + outcome.count):
            item = outcome.item(index)
            if not isinstance(item, SubmittedItem):
                [job_id] = outcome.job_ids([index])
                told.append((index, _kind(item), job_id or b"", reason(item)))
    return {
        "start": outcome.start, "count": outcome.count, "first_id": outcome.first_id,
        "counts": {kind.name.lower(): tally[kind] for kind in ItemKind if tally[kind]}, "told": tuple(told),
    }  # fmt: skip


def _kind(item: object) -> str:
    return type(item).__name__.removesuffix("Item").lower()

