"""`callboard submit`: jobs from a file of JSON lines, as one batch; to the library's owner if it has one, else by taking its lock for a moment."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from callboard.actors.frontends import json_view
from callboard.actors.frontends.reach import Board, board
from callboard.actors.frontends.wording import counts_text, escaped
from callboard.actors.intake import new_id
from callboard.actors.machine import Ports
from callboard.actors.named_items import Item
from callboard.jobs.errors import CallboardError, ConfigError
from callboard.jobs.identity import id_text, nth

PART_ITEMS = 1_000
PART_CHARACTERS = 400_000
"""A part of the file is what fits in one request."""

SHOWN_MOST = 20
"""So many items that are no plain new job are listed for people; JSON has all."""


def submit_lines(
    library: Path, ports: Ports, name: str, source: str, options: Mapping[str, object], *, plan: bool, batch_id: bytes | None, as_json: bool
) -> int:
    """`source`: a path, or `-` for standard input. The exit code: 0, or 1 if an item failed or was rejected, or the batch stopped early."""
    batch_id = batch_id or new_id(ports)
    told = _Told(batch_id, plan, as_json)
    error: CallboardError | None = None
    with _opened(source) as lines:
        try:
            with board(library, ports) as anyone:
                for start, items, last in _parts(lines):
                    told.add(anyone.add_items(name, batch_id, start, items, options, last=last, plan=plan))
        except CallboardError as stopped:
            if not told.count:
                raise
            error = stopped
        told.show(error, anyone)
    return 1 if error is not None or any(told.counts[bad] for bad in ("failed", "rejected")) else 0


@contextlib.contextmanager
def _opened(source: str) -> Iterator[TextIO]:
    if source == "-":
        yield sys.stdin
        return
    try:
        file = open(source, encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror}") from None
    with file:
        yield file


def _parts(lines: TextIO) -> Iterator[tuple[int, list[Item], bool]]:
    """(index of the first item, items, whether they are the last)."""
    start, items, characters = 0, list[Item](), 0
    for line in _lines(lines):
        if len(items) >= PART_ITEMS or (items and characters + len(line) > PART_CHARACTERS):
            yield start, items, False
            start, items, characters = start + len(items), [], 0
        items.append(_item(line))
        characters += len(line)
    yield start, items, True


def _lines(lines: TextIO) -> Iterator[str]:
    try:
        yield from (line for line in lines if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the lines cannot be read: {error}") from None


def _item(line: str) -> Item:
    if len(line) > PART_CHARACTERS:
        return f"the line has {len(line):,} characters; at most {PART_CHARACTERS:,} can be sent"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"the line is no JSON: {error}"
    return found if isinstance(found, dict) else "the line is no JSON object with the fields of the job"


class _Told:
    """What came of the parts so far."""

    def __init__(self, batch_id: bytes, plan: bool, as_json: bool) -> None:
        self._batch_id, self._plan, self._as_json = batch_id, plan, as_json
        self.count = 0
        self.counts: Counter[str] = Counter()
        self._items: list[tuple[Any, ...]] = []
        self._ids: list[str] = []

    def add(self, view: Mapping[str, Any]) -> None:
        self.count += view["count"]
        self.counts.update(view["counts"])
        if self._as_json:
            self._items += view["told"]
            told = {item[0] for item in view["told"]}
            if view["first_id"] is not None:
                self._ids += (id_text(nth(view["first_id"], at)) for at in range(view["count"]) if view["start"] + at not in told)
        else:
            self._items += view["told"][: max(0, SHOWN_MOST - len(self._items))]

    def show(self, error: CallboardError | None, anyone: Board) -> None:
        if self._as_json:
            items = [
                {"index": index, "outcome": kind, "id": id_text(job_id) if job_id else None, "why": why}
                for index, kind, job_id, why in self._items
            ]
            view = {
                "batch_id": id_text(self._batch_id), "planned": self._plan, "count": self.count, "counts": dict(self.counts),
                "complete": error is None, "error": None if error is None else str(error), "submitted": self._ids, "items": items,
            }  # fmt: skip
            print(json_view.line(view), flush=True)
            return
        for index, kind, _, why in self._items:
            print(f"item {index}: {kind.replace('_', ' ')}: {escaped(why)}", file=sys.stderr)
        hidden = sum(self.counts.values()) - self.counts["submitted"] - len(self._items)
        if hidden > 0:
            print(f"… and {hidden:,} more; --json lists all of them", file=sys.stderr)
        if self._plan:
            print(f"would be: {counts_text(self.counts)}")
            return
        waits = "" if anyone.owned or not self.counts["submitted"] else "; nobody has the library open: `callboard resume` runs them"
        print(f"{id_text(self._batch_id)} {counts_text(self.counts)}{waits}")
        if error is not None:
            again = f"the same command with --batch-id {id_text(self._batch_id)} goes on"
            print(f"callboard submit: stopped after {self.count:,} items: {escaped(str(error))}; {again}", file=sys.stderr)


def read_options(
    group: str | None, priority: int | None, tags: Sequence[str], on_duplicate: str | None, requested_by: str | None
) -> dict[str, object]:
    """The options of the batch that are set."""
    options: dict[str, object] = {
        "default_group": group, "default_priority": priority, "default_tags": tuple(tags) or None, "on_duplicate": on_duplicate,
        "requested_by": requested_by,
    }  # fmt: skip
    return {name: value for name, value in options.items() if value is not None}
