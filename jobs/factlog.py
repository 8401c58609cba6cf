"""The last facts of a library, by number, and what a listener who asks for those behind a number gets."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from callboard.jobs.events import ENDS, KINDS, Fact, FactsLost

FACTS_KEPT = 65_536

RawFact = tuple[int, bytes, str, tuple[object, ...]]
"""(its class's place in KINDS, job id, job name, further fields): the fact is built when someone is there to hear it. A tuple of plain values
costs the cyclic collector nothing, which goes through all that is kept again and again."""


CODES = {kind: code for code, kind in enumerate(KINDS)}


def is_end(raw: RawFact) -> bool:
    """Whether the job ended with it."""
    return raw[0] < len(ENDS)


def build(epoch: int, n: int, raw: RawFact) -> Fact:
    kind, job_id, name, more = raw
    return KINDS[kind](epoch, n, job_id, name, *more)


class FactLog:
    """Facts of one epoch, numbered from 1 without gaps; the oldest are dropped."""

    def __init__(self, epoch: int, kept: int = FACTS_KEPT) -> None:
        self.epoch = epoch
        self._facts: deque[RawFact] = deque(maxlen=kept)
        self.last = 0
        """Number of the newest; 0: none yet."""

    def add(self, first: int, facts: Sequence[RawFact]) -> None:
        """Raises AssertionError if there is a gap: every fact must pass through here."""
        if first != self.last + 1:
            raise AssertionError(f"fact {first} came behind fact {self.last}")
        self._facts.extend(facts)
        self.last += len(facts)

    def since(self, epoch: int, n: int, limit: int) -> tuple[Fact | FactsLost, ...]:
        """Those behind (`epoch`, `n`), at most `limit`.

        In front of them a FactsLost for those of this epoch that are not kept, if any; and always one for who names another epoch: of that
        one nothing is known, so it may be empty (`last` below `first`).
        """
        oldest = self.last - len(self._facts) + 1
        start = max(1, n + 1) if epoch == self.epoch else 1
        answer: list[Fact | FactsLost] = []
        if start < oldest or epoch != self.epoch:
            answer.append(FactsLost(self.epoch, start, oldest - 1))
            start = max(start, oldest)
        behind = islice(self._facts, start - oldest, start - oldest + max(0, limit))
        answer += [build(self.epoch, number, raw) for number, raw in enumerate(behind, start)]
        return tuple(answer)
