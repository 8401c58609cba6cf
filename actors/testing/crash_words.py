"""A kill, and what it did, in words for the author of a job: which write, which line, what was done twice, what is missing."""

from __future__ import annotations

import linecache
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from callboard.actors.testing.scheduler import SimThread
from callboard.actors.testing.simulation import Simulation
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import Event
from callboard.jobs.task import Done, Task
from callboard.persistence.writes import (
    Claim,
    End,
    Insert,
    InsertChunk,
    Leave,
    SaveCheckpoint,
    SpawnAgain,
    SpawnChildren,
    Write,
    WriteProgress,
)

DIFFERENCES_MOST = 10
SHOWN_CHARACTERS = 120


# --- where ------------------------------------------------------------------------------------------------------------------


def writes_text(writes: Sequence[Write]) -> str:
    """A group of writes, as one commit: `the checkpoint 3`."""
    texts = list(dict.fromkeys(_write_text(write) for write in writes))
    return ", with ".join(texts[:3]) + (", and more" if len(texts) > 3 else "")


def _write_text(write: Write) -> str:
    match write:
        case Insert():
            return "the submission"
        case InsertChunk():
            return "a part of a batch"
        case Claim():
            return "the claim (the job is about to start)"
        case SaveCheckpoint():
            return f"checkpoint {write.sequence}"
        case SpawnChildren() | SpawnAgain():
            return "the spawning of children"
        case End():
            return "the end of a job" + (" (it failed)" if write.event is Event.FAIL else "")
        case Leave():
            return "the leaving of a job (it waits, is paused, or is to be tried again)"
        case WriteProgress():
            return "a progress reading"
        case _:
            return f"a {type(write).__name__}"


def task_text(about: Any) -> str:
    """A task and how it ended."""
    task: Task = about[0]
    how = "" if isinstance(about[1], Done) else f" ({type(about[1]).__name__.lower()})"
    return f"task {_shown(task)}{how}"


def reached_lines(simulation: Simulation) -> tuple[str, ...]:
    """The lines at which jobs are in their `run`, outermost first."""
    threads = [thread for ports in simulation.boots if not ports.dead for thread in ports.threads]
    return tuple(line for thread in threads for line in _lines_of(thread, simulation.current))


def _lines_of(thread: SimThread, current: SimThread | None) -> Iterator[str]:
    frame: FrameType | None = sys._getframe() if thread is current else thread.greenlet.gr_frame
    while frame is not None:
        if frame.f_code.co_name == "run" and isinstance(frame.f_locals.get("self"), Job):
            name, number = frame.f_code.co_filename, frame.f_lineno
            yield f"{os.path.relpath(name)}:{number}: {linecache.getline(name, number).strip()}"
            return
        frame = frame.f_back


# --- what ---------------------------------------------------------------------------------------------------------------------


def contents(outside: Any) -> object:
    """What is compared where the author does not say: the files of a folder, the lines of each; of anything else itself."""
    if not isinstance(outside, Path):
        return outside
    found: dict[str, object] = {}
    for path in sorted(outside.rglob("*")):
        name = str(path.relative_to(outside))
        if path.is_symlink():
            found[name] = f"a link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_bytes().decode("utf-8", "backslashreplace").splitlines()
        else:
            found[name] = "a folder"
    return found


def differences(expected: object, found: object, where: str) -> list[str]:
    """How they differ, a line each; empty: they are equal."""
    return [] if expected == found else list(_differences(expected, found, where)) or [_otherwise(where, expected, found)]


def _differences(expected: object, found: object, where: str) -> Iterator[str]:
    if expected == found:
        return
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        counts = all(type(value) is int for value in (*expected.values(), *found.values()))
        if counts and isinstance(expected, Counter):
            yield from _counted(expected, Counter(found), where)
            return
        for key in [*expected, *(key for key in found if key not in expected)]:
            if key not in found:
                yield f"{where}: {_shown(key)} is missing"
            elif key not in expected:
                yield f"{where}: {_shown(key)} is there, and is not when nobody kills it: {_shown(found[key])}"
            else:
                yield from _differences(expected[key], found[key], f"{where}: {_shown(key)}")
    elif isinstance(expected, (list, tuple, set, frozenset)) and isinstance(found, (list, tuple, set, frozenset)):
        yield from _counted(Counter(map(_shown, expected)), Counter(map(_shown, found)), where)
    elif isinstance(expected, str) and isinstance(found, str) and "\n" in expected + found:
        yield from _differences(expected.splitlines(), found.splitlines(), where)
    else:
        yield _otherwise(where, expected, found)


def _counted(expected: Mapping[Any, int], found: Mapping[Any, int], where: str) -> Iterator[str]:
    """Things that are there more often than they should be, and less often."""
    any_yet = False
    for thing in [*expected, *(thing for thing in found if thing not in expected)]:
        before, now = expected.get(thing, 0), found.get(thing, 0)
        shown = thing if isinstance(thing, str) else _shown(thing)
        if now > before > 0:
            yield f"{where}: done twice: {shown} is there {_times(now)}, and {_times(before)} when nobody kills it"
        elif now > before:
            yield f"{where}: {shown} is there, and is not when nobody kills it"
        elif now < before:
            yield f"{where}: missing: {shown} is there {_times(now)}, and {_times(before)} when nobody kills it"
        any_yet = any_yet or now != before
    if not any_yet:
        yield f"{where}: the same things are there in another order (if they have none, let check() sort them)"


def _otherwise(where: str, expected: object, found: object) -> str:
    return f"{where}: it is {_shown(found)}, and {_shown(expected)} when nobody kills it"


def _times(count: int) -> str:
    return "not at all" if count == 0 else "once" if count == 1 else f"{count} times"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def unsafe_text(number: int, what: str, lines: Sequence[str], different: Sequence[str]) -> str:
    """What the author reads."""
    more = len(different) - DIFFERENCES_MOST
    return "\n".join((
        f"not safe to repeat. Killed {what} (place {number}), and resumed:",
        *(f"  {text}" for text in different[:DIFFERENCES_MOST]),
        *([f"  and {more} more differences"] if more > 0 else []),
        *(f"  {'the job was at' if index == 0 else 'another was at'} {line}" for index, line in enumerate(lines[:3])),
        "What a job does after its last checkpoint it does again after a crash. Let the step look whether it was done, or do it under a name",
        "that is the same each time (ctx.token of a task), so that doing it again changes nothing.",
    ))  # fmt: skip
