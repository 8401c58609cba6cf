"""`callboard jobs list`: a table of jobs, the live ones in order of arrival and then the ended ones, the latest first."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from callboard.actors.frontends import json_view
from callboard.actors.frontends.job_tree import OF_EACH, Node, Tree, more_text
from callboard.actors.frontends.reach import Board, answer_of
from callboard.actors.frontends.wording import clock, escaped, percent, shortened, status_text
from callboard.actors.machine import Ports
from callboard.jobs.lifecycle import ENDED, Status
from callboard.jobs.record import NO_PARENT, JobFilter, JobRecord

PAGE = 500
KEPT_BACK = "as many of its batch run as may run at once"
HEAD = ("ID", "STATUS", "PROGRESS", "NAME", "ARRIVED", "")
DEEPEST = 20
"""Levels that are indented."""
WIDEST = (36 + 2 * DEEPEST, 24, 8, 24, 19, 80)


def list_jobs(library: Path, ports: Ports, wanted: JobFilter, *, which: str, limit: int, as_json: bool, tree: bool = False) -> None:
    """Print at most `limit` jobs (0: all). `which`: `all`, `live` or `ended`. `tree`: the jobs that are nobody's children, each with its own."""
    rows, more = answer_of(library, ports, lambda anyone: (_tree_rows if tree else _rows)(anyone, wanted, which, limit, as_json))
    if as_json:
        print("[" + ",\n ".join(map(json_view.line, rows)) + "]")
    elif rows:
        show(table(rows))
    else:
        print("no such jobs" if wanted != JobFilter(limit=wanted.limit) else "no jobs", file=sys.stderr)
    if more:
        print(f"there are more than {limit:,}; --limit 0 lists all of them", file=sys.stderr)


def _rows(anyone: Board, wanted: JobFilter, which: str, limit: int, as_json: bool) -> tuple[list[Any], bool]:
    """At most `limit`, and whether there are more. Collected before any is shown: whoever reads for minutes must not hold the library."""
    rows: list[Any] = []
    for record in records(anyone, wanted, which):
        if limit and len(rows) == limit:
            return rows, True
        rows.append(json_view.record_view(record, anyone.owned) if as_json else row_of(record, anyone.owned))
    return rows, False


def _tree_rows(anyone: Board, wanted: JobFilter, which: str, limit: int, as_json: bool) -> tuple[list[Any], bool]:
    """As `_rows`: the jobs that are wanted and nobody's children, and below each its descendants; with a limit, some of each."""
    rows: list[Any] = []
    trees = Tree(anyone, which, lines=None, of_each=OF_EACH if limit else None)
    for root in records(anyone, replace(wanted, parent=NO_PARENT), which):
        for node in chain([Node(0, root, NO_PARENT)], trees.below(root.id)):
            if limit and len(rows) == limit:
                return rows, True
            rows.append(_node_row(node, anyone.owned, as_json))
    return rows, False


def _node_row(node: Node, owned: bool, as_json: bool) -> Any:
    if as_json:
        return json_view.node_view(node.depth, node.record, node.parent, node.more, owned)
    indent = "  " * min(node.depth, DEEPEST)
    if node.record is None:
        return (indent + more_text(node), "", "", "", "", "")
    job_id, *cells = row_of(node.record, owned)
    return (indent + job_id, *cells)


def records(anyone: Board, wanted: JobFilter, which: str) -> Iterator[JobRecord]:
    """Page by page."""
    for ended in (False, True):
        if which == ("live" if ended else "ended") or not _can_be(wanted, ended):
            continue
        after: bytes | None = None
        while True:
            page = anyone.page(replace(wanted, after=after, limit=PAGE), ended=ended)
            yield from page
            if len(page) < PAGE:
                break
            after = page[-1].id


def _can_be(wanted: JobFilter, ended: bool) -> bool:
    return wanted.statuses is None or any((status in ENDED) == ended for status in wanted.statuses)


def row_of(record: JobRecord, owned: bool) -> tuple[str, ...]:
    """The cells of one job."""
    return (
        record.id_text, status_text(record, owned), percent(record.progress), escaped(record.name), clock(record.created_at), remark(record),
    )  # fmt: skip


def remark(record: JobRecord) -> str:
    """What is worth knowing at a glance."""
    if record.passed_over:
        return f"passed over: {escaped(record.passed_over)}"
    if record.error:
        return escaped(record.error)
    if record.kept_back:
        return KEPT_BACK
    if record.run_at is not None:
        return f"not before {clock(record.run_at)}"
    if record.unresponsive_since is not None:
        return f"has not looked since {clock(record.unresponsive_since)}"
    if record.status is Status.PAUSED:
        return f"paused by {', '.join(sorted(record.pausers))}"
    return f"{record.warnings:,} failed" if record.warnings else ""


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines, each column as wide as its widest cell."""
    cells = [tuple(shortened(cell, width) for cell, width in zip(row, WIDEST, strict=True)) for row in rows]
    widths = [max(len(row[column]) for row in (HEAD, *cells)) for column in range(len(HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (HEAD, *cells)]


def show(lines: list[str]) -> None:
    """On a terminal that is too small, through the pager."""
    if sys.stdout.isatty() and len(lines) >= shutil.get_terminal_size().lines:
        import click

        click.echo_via_pager("\n".join(lines))
    else:
        print("\n".join(lines))
