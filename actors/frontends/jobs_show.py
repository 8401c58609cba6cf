"""`callboard jobs show` and `log`: everything that is known of one job."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from callboard.actors.frontends import json_view
from callboard.actors.frontends.job_ids import find
from callboard.actors.frontends.job_tree import Node, Tree, tree_line
from callboard.actors.frontends.jobs_list import KEPT_BACK
from callboard.actors.frontends.reach import Board, answer_of
from callboard.actors.frontends.wording import clock, count, duration, escaped, progress_text, status_text
from callboard.actors.machine import Ports
from callboard.jobs.errors import CallboardError, NoSuchJob
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import Status
from callboard.jobs.record import JobRecord, Warned

WARNINGS_SHOWN = 20
WARNINGS_MOST = 10_000


def show_job(library: Path, ports: Ports, which: str, *, all_warnings: bool, as_json: bool) -> None:
    """Print one job's record. Raises `NoSuchJob`."""
    most = WARNINGS_MOST if all_warnings or as_json else WARNINGS_SHOWN

    def ask(anyone: Board) -> tuple[JobRecord, tuple[Warned, ...], list[Node], tuple[int, int], bool]:
        record = anyone.record(find(anyone, which))
        warnings = tuple(_warnings(anyone, record, most)) if record.warnings else ()
        return record, warnings, list(Tree(anyone).below(record.id)), anyone.children(record.id), anyone.owned

    record, warnings, tree, children, owned = answer_of(library, ports, ask)
    if as_json:
        view = json_view.whole_view(record, owned, warnings)
        view["children"] = dict(zip(("live", "ended"), children, strict=True))
        view["tree"] = [json_view.node_view(node.depth, node.record, node.parent, node.more, owned) for node in tree]
        print(json_view.line(view))
        return
    for name, value in facts(record, owned, library):
        print(f"{name + ':':<14}{value}")
    if tree:
        print(f"children:     {children[0]:,} live, {children[1]:,} ended")
    for node in tree:
        print(tree_line(node, owned))
    _print_warnings(record, warnings)
    if record.traceback_text:
        print("traceback:")
        for line in record.traceback_text.splitlines():
            print(f"    {escaped(line)}")


def _warnings(anyone: Board, record: JobRecord, most: int) -> Iterator[Warned]:
    after = 0
    while most > 0:
        page = anyone.warnings(record.id, after, min(most, 1_000))
        yield from page
        if not page:
            return
        after, most = page[-1].n, most - len(page)


def facts(record: JobRecord, owned: bool, library: Path) -> Iterator[tuple[str, str]]:
    """(name, value) of what there is to say."""
    yield "id", record.id_text
    yield "type", f"{escaped(record.name)}, version {record.version}"
    yield "status", status_text(record, owned) + _remedy(record, owned)
    if record.passed_over:
        yield "passed over", escaped(record.passed_over)
    if record.pausers:
        yield "paused by", ", ".join(sorted(record.pausers))
    if record.progress is not None:
        yield "progress", progress_text(record.progress)
    if record.error:
        yield "error", escaped(record.error)
    if record.unresponsive_since is not None:
        yield "unresponsive", f"has not looked whether it is to stop since {clock(record.unresponsive_since)}"
    yield "arrived", clock(record.created_at)
    for name, when in (("not before", record.run_at), ("started", record.started_at), ("ended", record.ended_at)):
        if when is not None:
            yield name, clock(when)
    yield "time", f"{duration(record.running_seconds)} running, {duration(record.waiting_seconds)} waiting"
    if record.attempt > 1 or record.crashes:
        yield "attempts", f"{record.attempt}" + (f", {count(record.crashes, 'crash', 'crashes')}" if record.crashes else "")
    yield "priority", str(record.priority)
    if record.key is not None:
        yield "key", escaped(record.key.decode("utf-8", "backslashreplace"))
    for name, text in (("group", record.group), ("tags", " ".join(record.tags)), ("requested by", record.requested_by)):
        if text:
            yield name, escaped(text)
    if record.kept_back:
        yield "kept back", KEPT_BACK
    for name, other in (
        ("parent", record.parent), ("waits for", record.after), ("superseded by", record.superseded_by), ("retry of", record.retry_of),
    ):  # fmt: skip
        if other is not None:
            yield name, id_text(other)
    if record.memory_mb is not None:
        yield "memory", f"{record.memory_mb:.0f} MiB at most"
    if record.result is not None:
        yield "result", _result(record.result)
    log = log_file(library, record.id)
    if log.exists():
        yield "log", escaped(str(log))


def _remedy(record: JobRecord, owned: bool) -> str:
    if record.status.claimed and not owned:
        return " (the process that ran it is gone; `callboard resume` goes on with it)"
    if record.status is Status.QUARANTINED:
        return f" (`callboard jobs resume {record.id_text}` lets it run once more, alone)"
    return ""


def _result(blob: bytes) -> str:
    from callboard.persistence.jobdata import decode_result

    try:
        return json_view.line(decode_result(blob))
    except CallboardError as error:
        return f"cannot be read: {escaped(str(error))}"


def _print_warnings(record: JobRecord, warnings: tuple[Warned, ...]) -> None:
    if not record.warnings:
        return
    print(f"failed:       {count(record.warnings, 'item')}")
    for each in warnings:
        item = "" if each.item is None else f"{escaped(each.item)}: "
        print(f"    {item}{escaped(each.message)}")
    if record.warnings > len(warnings):
        print(f"    and {record.warnings - len(warnings):,} more; --warnings shows up to {WARNINGS_MOST:,}")


# --- the job's own log --------------------------------------------------------------------------------------------------


def log_file(library: Path, job_id: bytes) -> Path:
    """Where the job's log is, if it has written any."""
    return Path(library, "logs", f"{id_text(job_id)}.log")


def print_log(library: Path, ports: Ports, which: str, *, as_json: bool) -> None:
    """Print what the job has logged, over all its runs. Raises `NoSuchJob`."""
    job_id = answer_of(library, ports, lambda anyone: anyone.record(find(anyone, which)).id)
    path = log_file(library, job_id)
    try:
        file = open(path, encoding="utf-8", errors="backslashreplace", opener=_not_a_link)
    except FileNotFoundError:
        print("it has logged nothing", file=sys.stderr)
        return
    except OSError as error:
        raise NoSuchJob(f"the log {str(path)!r} cannot be read: {error.strerror}") from None
    with file:
        for text in file:
            print(json_view.line(log_view(text.rstrip("\n"))) if as_json else escaped(text.rstrip("\n")))


def log_view(text: str) -> dict[str, object]:
    """One line of a log: its time, level and attempt, as far as it has them."""
    found = re.match(r"(\d+\.\d+) ([A-Z]+) attempt=(\d+) (.*)", text)
    if found is None:
        return {"text": text}
    return {"time": float(found[1]), "level": found[2], "attempt": int(found[3]), "text": found[4]}


def _not_a_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
