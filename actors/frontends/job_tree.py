"""A job's children and theirs, as far as they fit: some of each, and how many more there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from callboard.actors.frontends.reach import Board
from callboard.actors.frontends.wording import count, escaped, percent, status_text
from callboard.jobs.record import JobFilter, JobRecord

PAGE = 500
OF_EACH = 10
"""Children drawn of a job; the others are counted."""
LINES = 60
"""Drawn in all by `jobs show`."""


class Node(NamedTuple):
    """One line of a tree."""

    depth: int
    record: JobRecord | None
    """None: more children of the job above that are not drawn."""
    parent: bytes
    """Whose child or children."""
    more: int = 0


class Tree:
    """Walks the trees of jobs; draws at most `lines` jobs in all, and `of_each` children of each. None: all."""

    def __init__(self, anyone: Board, which: str = "all", *, lines: int | None = LINES, of_each: int | None = OF_EACH) -> None:
        """`which`: `all`, `live` or `ended`."""
        self._anyone, self._which, self._left, self._of_each = anyone, which, lines, of_each

    def below(self, parent: bytes, depth: int = 1) -> Iterator[Node]:
        """The descendants of a job, each behind its parent: live ones in order of arrival, then ended ones, the latest first."""
        live, ended = self._anyone.children(parent)
        total = {"live": live, "ended": ended}.get(self._which, live + ended)
        drawn = 0
        for record in self._children(parent) if total else ():
            if self._left == 0 or drawn == self._of_each:
                break
            self._left = None if self._left is None else self._left - 1
            drawn += 1
            yield Node(depth, record, parent)
            yield from self.below(record.id, depth + 1)
        if total > drawn:
            yield Node(depth, None, parent, total - drawn)

    def _children(self, parent: bytes) -> Iterator[JobRecord]:
        size = PAGE if self._of_each is None else min(PAGE, self._of_each)
        for ended in (False, True):
            if self._which == ("live" if ended else "ended"):
                continue
            wanted = JobFilter(parent=parent, limit=size)
            while page := self._anyone.page(wanted, ended=ended):
                yield from page
                if len(page) < size:
                    break
                wanted = replace(wanted, after=page[-1].id)


def more_text(node: Node) -> str:
    return f"… and {count(node.more, 'more', 'more')}"


def tree_line(node: Node, owned: bool) -> str:
    """One line of `jobs show`."""
    indent = "  " * node.depth
    if node.record is None:
        return indent + more_text(node)
    record = node.record
    how_far = percent(record.progress)
    error = f": {escaped(record.error)}" if record.error else ""
    return f"{indent}{record.id_text}  {status_text(record, owned)}{' ' + how_far if how_far else ''}  {escaped(record.name)}{error}"
