"""Items of a batch as packed rows, on the caller's thread. Every item is checked by itself: a bad one fails alone."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from hashlib import blake2b
from itertools import chain, islice
from operator import attrgetter
from typing import Any

import msgpack

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.batch_items import BatchItem, FailedItem, OverriddenItem
from callboard.jobs.errors import BadSubmission, shown
from callboard.jobs.job import Job, check_job_type
from callboard.jobs.submission import Priority, Submission, key_bytes
from callboard.persistence.checksum import job_checksum
from callboard.persistence.codec import PAYLOAD, encode, plan_of
from callboard.persistence.scalar import Float, Plain
from callboard.persistence.writes import Chunk, Shape

CHUNK_BYTES = 8 * 2**20
"""A chunk ends early when its rows come to this."""
DIGEST_BYTES = 16


class _JobType:
    """What is the same for all jobs of a class, looked up once."""

    __slots__ = ("encode", "name", "resumable", "seen", "version")

    def __init__(self, cls: type[Job], seen: dict[bytes, int]) -> None:
        """Raises `BadJobType`."""
        check_job_type(cls)
        self.name, self.version, self.resumable = cls.job_name, cls.job_version, cls.job_resumable
        self.seen = seen
        """Key → index of the item that has it, of all jobs of this name in the chunk."""
        self.encode = _encoder(cls)


def _encoder(cls: type[Job]) -> Callable[[Job], bytes]:
    """`codec.encode`, faster for a class whose fields are all plain. Not for two threads at once."""
    slots = plan_of(cls).record.slots
    types = tuple(float if isinstance(slot.kind, Float) else slot.kind.cls if isinstance(slot.kind, Plain) else None for slot in slots)
    if len(slots) < 2 or None in types:
        return encode
    names = tuple(slot.name for slot in slots)
    read = attrgetter(*names)
    packer: Any = msgpack.Packer()
    most = PAYLOAD.bytes

    def encode_flat(job: Job) -> bytes:
        nonlocal packer
        try:
            values = read(job)
            if tuple(map(type, values)) == types:
                blob: bytes = packer.pack(dict(zip(names, values)))  # noqa: B905 - as many as there are names
                if len(blob) <= most:
                    return blob
        except Exception:  # noqa: BLE001
            packer = msgpack.Packer()
        return encode(job)  # which takes what can be converted, and says what is wrong with the others

    return encode_flat


class BatchEncoder:
    """Encodes a batch, chunk by chunk. Owned by one thread at a time."""

    def __init__(self, batch: BatchSubmission, batch_id: bytes, *, start: int = 0, parent: bytes | None = None) -> None:
        """`batch_id`: 16 bytes, the batch's own if it has one. `start`: index of the first item that is given. `parent`: whose children all are."""
        self._batch, self._batch_id, self.parent = batch, batch_id, parent
        self._next = start
        self._types: dict[type, _JobType] = {}
        self._seen: dict[str, dict[bytes, int]] = {}
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        self._locals: dict[str, int | None] = {}
        """Local name → index of the item; None if that is bad."""
        self._ahead: list[Any] = []
        """An item that was asked for to see whether there is one."""
        self.ended = False
        """Nothing is left; `chunk` answers None."""
        self.error: Exception | None = None
        """What the iterable raised: what it gave before is in the chunks, and none of them is the last."""

    def chunk(self, items: Iterator[Submission | Job], most: int | None, most_bytes: int | None = CHUNK_BYTES) -> Chunk | None:
        """Encode the next `most` items (None: all), fewer if their rows come to `most_bytes`; None if nothing is left.

        A batch of no items is one empty chunk.
        """
        if self.ended:
            return None
        filling = _Filling(self, self._next)
        try:
            filling.fill(chain(self._ahead, items), most, most_bytes)
            self._ahead = list(islice(items, 1)) if filling.cut_short else []
        except Exception as error:  # noqa: BLE001 - whatever the caller's generator raises
            self._ahead, self.error = [], error
        self.ended = not self._ahead
        if self.error is not None and not filling.count:
            return None
        self._next += filling.count
        return filling.finish(last=self.ended and self.error is None)

    def job_type(self, job: object) -> _JobType:
        """Raises `BadSubmission` for what is no job, `BadJobType` for a class that cannot be stored."""
        if not isinstance(job, Job):
            raise BadSubmission(f"{shown(job)} is not a Job or a Submission")
        cls = type(job)
        found = self._types[cls] = _JobType(cls, self._seen.setdefault(cls.job_name, {}))
        return found


class _Filling:
    """One chunk while it is filled."""

    def __init__(self, encoder: BatchEncoder, start: int) -> None:
        self._encoder, self._start = encoder, start
        self.count = 0
        self.cut_short = False
        """It ended because it was full."""
        self._rows: list[bytes | None] = []
        """One for each item."""
        self._keys: list[bytes | None] = []
        self._others: dict[int, BatchItem] = {}
        self._shapes: dict[Shape, int] = {}
        self._prefixes: dict[tuple[Any, ...], bytes] = {}
        self._wanted: dict[int, str] = {}
        """Item → the local name of its parent."""
        self._gave_way: dict[int, tuple[int, bytes | None]] = {}
        """Item → the earlier one of its key, and that one's row."""
        self._back = False
        """One that had given way counts again."""
        for seen in encoder._seen.values():
            seen.clear()

    def fill(self, items: Iterable[Any], most: int | None, most_bytes: int | None) -> None:
        types, prefixes, encoder = self._encoder._types, self._prefixes, self._encoder
        rows, keys, put_row, put_key = self._rows, self._keys, self._rows.append, self._keys.append
        left = most_bytes if most_bytes is not None else 2**62
        place = self._start - 1
        try:
            for place, item in enumerate(islice(items, most), self._start):
                try:
                    if type(item) is Submission:
                        job, key = item.job, item.key
                        kind = types.get(type(job)) or encoder.job_type(job)
                        look = kind, item.group, item.priority, item.tags, item.on_duplicate, item.requested_by, item.delay, item.run_at, item.retry
                        if item.local is not None or item.parent is not None:
                            self._refer(place, item)
                    else:
                        job, key = item, None
                        kind = types.get(type(job)) or encoder.job_type(job)
                        look = kind, None, None, None, None, None, None, None, None
                    data = kind.encode(job)
                    prefix = prefixes.get(look) or self._prefix(look)
                    if key is None:
                        row = b"%b  0%b%b" % (prefix, job_checksum(kind.name, kind.version, data), data)
                    else:
                        key = key.encode() if type(key) is str else key_bytes(key)
                        row = b"%b%3d%b%b%b" % (prefix, len(key), job_checksum(kind.name, kind.version, data), key, data)
                        earlier = kind.seen.get(key)
                        if earlier is not None:
                            self._override(earlier, place)
                        kind.seen[key] = place
                except Exception as error:  # noqa: BLE001 - an item is anything, and its fields are the author's
                    del rows[place - self._start :], keys[place - self._start :]
                    self._fail(place, error)
                    put_row(None)
                    put_key(None)
                    continue
                put_row(row)
                put_key(key)
                left -= len(row)
                if left <= 0:
                    break
        finally:  # what the iterable gave before it raised counts
            self.count = place - self._start + 1
        self.cut_short = self.count == most or left <= 0

    def _prefix(self, look: tuple[Any, ...]) -> bytes:
        """The number of the shape of what looks so."""
        shape = self._encoder._shapes.get(look)
        if shape is None:
            shape = self._encoder._shapes[look] = _shape(self._encoder._batch, *look)._replace(parent=self._encoder.parent)
        number = self._shapes.setdefault(shape, len(self._shapes))
        prefix = self._prefixes[look] = b"%6d" % number
        return prefix

    def _override(self, earlier: int, place: int) -> None:
        self._gave_way[place] = earlier, self._rows[earlier - self._start]
        self._rows[earlier - self._start] = None
        self._others[earlier] = OverriddenItem(earlier, place)

    def _fail(self, place: int, error: Exception) -> None:
        self._others[place] = FailedItem(place, error)

    def _refer(self, place: int, item: Submission) -> None:
        local, names = item.local, self._encoder._locals
        if item.parent is not None:
            self._wanted[place] = item.parent
        if local is not None:
            if local in names:
                raise BadSubmission(f"local={shown(local)} is the name of item {names[local]} already; give each its own")
            names[local] = place

    def finish(self, *, last: bool) -> Chunk:
        parents = self._parents() if self._wanted else {}
        self._name_winners()
        rows = tuple(row for row in self._rows if row is not None)
        places = None
        if len(rows) < self.count:
            places = tuple(place for place, row in enumerate(self._rows, self._start) if row is not None)
        names = self._encoder._locals
        if names and self._others:
            bad = {place for place, item in self._others.items() if isinstance(item, FailedItem)}
            names.update({name: None if place in bad else self._winner(place) for name, place in names.items() if place in self._others})
        parents = {place: parent for place, parent in parents.items() if place not in self._others}
        shapes = tuple(self._shapes)
        return Chunk(
            self._encoder._batch_id, self._start, self.count, rows, places, shapes, tuple(self._keys), self._digest(rows, shapes, parents),
            last, self._others, parents,
        )  # fmt: skip

    def _parents(self) -> dict[int, int]:
        """Item → its parent. Those whose parent does not exist, or is bad, or descends from them, fail."""
        while True:
            self._back = False
            found = self._resolved()
            if not self._back:  # else it may have a parent itself
                return found

    def _resolved(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for place, name in self._wanted.items():
            if place in self._others:
                continue
            parent = self._winner(self._encoder._locals.get(name))
            if parent is None:
                known = "is no item" if name not in self._encoder._locals else "failed"
                self._drop(place, f"parent={shown(name)} {known}: a parent is an item of the batch that is not more than a chunk behind")
            else:
                found[place] = parent
        for place in self._wanted:
            seen, at = {place}, found.get(place)
            while at is not None and at not in seen:
                seen.add(at)
                at = found.get(at)
            if at == place:
                self._drop(place, f"parent={shown(self._wanted[place])} descends from this item itself")
        while True:
            orphans = [place for place, parent in found.items() if isinstance(self._others.get(parent), FailedItem) and place not in self._others]
            for place in orphans:
                self._drop(place, f"parent={shown(self._wanted[place])} failed")
            if not orphans:
                return found

    def _winner(self, place: int | None) -> int | None:
        """The item itself, or the one that has overridden it."""
        while place is not None and isinstance(item := self._others.get(place), OverriddenItem):
            place = item.by_index
        return place

    def _drop(self, place: int, why: str) -> None:
        self._rows[place - self._start] = None
        self._fail(place, BadSubmission(why))
        earlier, row = self._gave_way.pop(place, (place, None))
        if row is not None:  # whoever is bad takes nobody's place
            self._rows[earlier - self._start], self._back = row, True
            del self._others[earlier]

    def _name_winners(self) -> None:
        """Of three with one key the first is overridden by the third, not by the second."""
        for place in sorted(self._others, reverse=True):
            item = self._others[place]
            if isinstance(item, OverriddenItem):
                later = self._others.get(item.by_index)
                if isinstance(later, OverriddenItem):
                    self._others[place] = OverriddenItem(place, later.by_index)

    def _digest(self, rows: tuple[bytes, ...], shapes: tuple[Shape, ...], parents: dict[int, int]) -> bytes:
        hashed = blake2b(array("Q", map(len, rows)).tobytes(), digest_size=DIGEST_BYTES)
        hashed.update(b"".join(rows))
        bad = [(place, getattr(item, "by_index", -1)) for place, item in sorted(self._others.items())]
        hashed.update(repr((self.count, [(*shape[:-1], str(shape[-1])) for shape in shapes], bad, sorted(parents.items()))).encode())
        return hashed.digest()


def _shape(
    batch: BatchSubmission, kind: _JobType, group: Any, priority: Any, tags: Any, on_duplicate: Any, who: Any, delay: Any, run_at: Any, retry: Any
) -> Shape:
    """What the unset fields of an item mean is decided here: what the batch says, else what a Submission says."""
    if priority is None:
        priority = Priority.NORMAL if batch.default_priority is None else batch.default_priority
    return Shape(
        name=kind.name,
        version=kind.version,
        priority=int(priority),
        group=batch.default_group if group is None else group,
        parent=None,
        resumable=kind.resumable,
        retry=None if retry is None else json.dumps(asdict(retry)),
        tags=(batch.default_tags or ()) if tags is None else tags,
        requested_by=batch.requested_by if who is None else who,
        run_at_ms=None if run_at is None else round(run_at * 1000),
        delay_ms=None if delay is None else round(delay * 1000),
        on_duplicate=batch.on_duplicate if on_duplicate is None else on_duplicate,
    )
