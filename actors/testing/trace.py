"""What happened in a simulated history: the latest lines to read, and a hash over all of them to compare two runs."""

from __future__ import annotations

import marshal
from collections import deque
from hashlib import blake2b

_LINES_KEPT = 1_000
_LINES_HASHED_TOGETHER = 512


class Trace:
    """Lines of step, time, who, what and a detail. Adding one costs a tuple; text is made when somebody reads."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._new: list[tuple[int, float, str, str, str]] = []
        self._kept: deque[tuple[int, float, str, str, str]] = deque(maxlen=_LINES_KEPT)

    def add(self, step: int, now: float, who: str, what: str, detail: str) -> None:
        self._new.append((step, now, who, what, detail))
        if len(self._new) >= _LINES_HASHED_TOGETHER:
            self._digest()

    def lines(self) -> list[str]:
        """The latest lines, oldest first."""
        self._digest()
        return [f"{step:6} {now:14.6f}  {who:16} {what:5} {detail}" for step, now, who, what, detail in self._kept]

    def hash(self) -> str:
        """A hash over every line so far, also those no longer kept."""
        self._digest()
        return self._hash.hexdigest()

    def _digest(self) -> None:
        # Version 2 of marshal writes equal values as equal bytes; later ones also tell which of them are one object.
        for line in self._new:
            self._hash.update(marshal.dumps(line, 2))
        self._kept.extend(self._new)
        self._new.clear()
