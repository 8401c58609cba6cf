"""How a copy is to be made, and what it tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How to copy."""

    on_conflict: Literal["replace", "skip", "rename", "error"] = "replace"
    """What to do if a file or link has the name already; folders are merged. `rename` takes `name (1).ext` instead."""
    verify: bool = False
    """Read the copy back from the disk and compare it with the source before it takes its name."""
    preserve_setid: bool = False
    """Keep the setuid and setgid bits and file capabilities."""
    xattrs: bool = True
    """Extended attributes and ACLs."""
    fsync: bool = True
    """False: a copy told as done may be lost, or empty, after a power cut."""
    piece_bytes: int = 8 * MIB
    """Most bytes copied between two looks at whether to stop."""
    sync_bytes: int = 64 * MIB
    """A file of more than this tells a synced offset each time so many bytes are written."""


def _nothing(_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class CopyEvents:
    """What the copy of a file tells while it runs. Each may raise: at `Interrupted` the temporary file stays for a resume, else it goes."""

    between: Callable[[int], None] = _nothing
    """So many bytes of the file are copied; more follow."""
    synced: Callable[[int], None] = _nothing
    """So many bytes are on disk: the `resume_offset` of a later attempt. 0 takes back an earlier one and must be durable on return."""
    chosen: Callable[[bytes], None] = _nothing
    """The complete copy is about to take this name in the target folder. Must be durable on return, for a resume to know it."""


NO_EVENTS = CopyEvents()
