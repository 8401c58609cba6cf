"""Which of a job's items are done: a bitmap in pages, so that what is written follows the change and not the size.

One ledger belongs to one `ctx.map` of a job, by its name. Items count by position. A page covers 4,096 positions in 512 bytes. What is
stored of a ledger, and only where it changed: `done` pages, `failed` pages (done, but to be listed and tried again by
`retry(failed_only=True)`), `items` (what a source that is no sequence yielded, in chunks, recorded before it is dispatched), `notes`
(what a task recorded of an item in flight).
"""

from __future__ import annotations

from collections.abc import Iterator

PAGE_BYTES = 512
PAGE_POSITIONS = PAGE_BYTES * 8
POSITIONS_MAX = 2**40
"""More than any source will ever have: a position from a damaged row must not make us allocate."""


class Bitmap:
    """A set of positions, in pages; knows which pages changed since they were last taken."""

    __slots__ = ("_changed", "_full_below", "_pages", "count")

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._changed: dict[int, None] = {}
        self._full_below = 0
        self.count = 0

    def __contains__(self, position: int) -> bool:
        if position < self._full_below:
            return True
        page = self._pages.get(position // PAGE_POSITIONS)
        return page is not None and bool(page[position % PAGE_POSITIONS >> 3] & 1 << (position & 7))

    def add(self, position: int) -> bool:
        """False if it was in already."""
        number, bit = divmod(position, PAGE_POSITIONS)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(PAGE_BYTES)
        mask = 1 << (bit & 7)
        if page[bit >> 3] & mask:
            return False
        page[bit >> 3] |= mask
        self._changed[number] = None
        self.count += 1
        return True

    def first_missing(self) -> int:
        """The lowest position that is not in. Everything below it stays in, so the search goes on where it last ended."""
        position = self._full_below
        while True:
            page = self._pages.get(position // PAGE_POSITIONS)
            if page is None:
                break
            if position % 8 == 0 and page[position % PAGE_POSITIONS >> 3] == 0xFF:
                position += 8
            elif page[position % PAGE_POSITIONS >> 3] & 1 << (position & 7):
                position += 1
            else:
                break
        self._full_below = position
        return position

    def take_changes(self) -> list[tuple[int, bytes]]:
        """(page number, bytes) of each page that changed since the last call."""
        changes = [(number, bytes(self._pages[number])) for number in self._changed]
        self._changed.clear()
        return changes

    def changed(self) -> bool:
        return bool(self._changed)

    def touch_all(self) -> None:
        """Every page counts as changed: a save has failed."""
        self._changed.update(dict.fromkeys(self._pages))

    def load(self, number: int, page: bytes) -> None:
        """Put a stored page in place. Raises ValueError for one of another size or place."""
        if len(page) != PAGE_BYTES or not 0 <= number < POSITIONS_MAX // PAGE_POSITIONS:
            raise ValueError(f"ledger page {number} of {len(page)} bytes; a page has {PAGE_BYTES}")
        before = self._pages.get(number, b"")
        self._pages[number] = bytearray(page)
        self._full_below = min(self._full_below, number * PAGE_POSITIONS)
        self.count += int.from_bytes(page, "big").bit_count() - int.from_bytes(before, "big").bit_count()

    def __iter__(self) -> Iterator[int]:
        """The positions, rising."""
        for number in sorted(self._pages):
            page, base = self._pages[number], number * PAGE_POSITIONS
            for index, byte in enumerate(page):
                if byte:
                    for bit in range(8):
                        if byte & 1 << bit:
                            yield base + index * 8 + bit


class Ledger:
    """What one map has done so far. Not thread-safe: it belongs to the job's actor."""

    def __init__(self) -> None:
        self.done = Bitmap()
        self.failed = Bitmap()
        self.only: Bitmap | None = None
        """If set, only these positions are to be done: a retry of what failed."""
        self.notes: dict[int, bytes] = {}
        """Position → what its task recorded, encoded."""
        self.recorded = 0
        """How many items of a source that is no sequence are recorded; the next one gets this position."""
        self.exhausted = False
        """True once such a source has ended and its last item is recorded."""
        self._changed_notes: dict[int, None] = {}

    def is_done(self, position: int) -> bool:
        return position in self.done or (self.only is not None and position not in self.only)

    def finish(self, position: int, *, failed: bool) -> None:
        """The item is done; a second call changes nothing."""
        if not self.done.add(position):
            return
        if failed:
            self.failed.add(position)
        if self.notes.pop(position, None) is not None:
            self._changed_notes[position] = None

    def note(self, position: int, value: bytes) -> None:
        self.notes[position] = value
        self._changed_notes[position] = None

    def changed(self) -> bool:
        return bool(self._changed_notes) or self.done.changed() or self.failed.changed()

    def take_notes(self) -> list[tuple[int, bytes | None]]:
        """(position, value or None for one to be deleted) of each note that changed since the last call."""
        changes = [(position, self.notes.get(position)) for position in self._changed_notes]
        self._changed_notes.clear()
        return changes

    def touch_all(self) -> None:
        """Everything counts as changed: a save has failed."""
        self.done.touch_all()
        self.failed.touch_all()
        self._changed_notes.update(dict.fromkeys(self.notes))
