"""A planted bug: text of the checkout that is replaced, exactly once, and the tests that must notice. One TOML file each, in bugs/."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

BUGS = Path(__file__).parent / "bugs"


class NotPlantable(Exception):
    """The bug no longer fits the checkout. The text says what is wrong with it."""


class Edit(NamedTuple):
    """One replacement of text in one file."""

    file: str
    """Relative to the checkout."""
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """One plausible mistake."""

    name: str
    """Of its file."""
    what: str
    """One line, for people."""
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """Node ids of the ordinary suite, the one that should notice first."""


def read_bugs(folder: Path = BUGS) -> list[Bug]:
    """All of them, by name. Raises NotPlantable for a file that is none."""
    return [read_bug(path) for path in sorted(folder.glob("*.toml"))]


def read_bug(path: Path) -> Bug:
    """Raises NotPlantable."""
    try:
        found = tomllib.loads(path.read_text("utf-8"))
        edits = tuple(Edit(edit["file"], edit["old"], edit["new"]) for edit in found["edits"])
        return Bug(path.stem, found["what"], edits, tuple(found["tests"]))
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise NotPlantable(f"{path.name}: {type(error).__name__}: {error}; it needs what, tests, and [[edits]] of file, old and new") from error


def problems(bug: Bug, root: Path) -> list[str]:
    """Why the bug cannot be planted in the checkout `root`, or nothing could notice it; empty: all is well."""
    found = [] if bug.edits else ["it has no edits"]
    found += [] if bug.tests else ["it names no tests"]
    for edit in bug.edits:
        path = root / edit.file
        times = path.read_text("utf-8").count(edit.old) if path.is_file() else 0
        if times != 1 or edit.old == edit.new:
            found.append(f"{edit.file} has this text {times} times, not once, or it is replaced by itself: {edit.old.strip()!r:.100}")
    for test in bug.tests:
        file, _, name = test.partition("::")
        path = root / file
        defined = rf"^(async )?def {re.escape(name.partition('[')[0])}\("
        if not path.is_file() or not re.search(defined, path.read_text("utf-8"), re.MULTILINE):
            found.append(f"there is no test {test}")
    return [f"{bug.name}: {problem}" for problem in found]


def plant(bug: Bug, root: Path) -> None:
    """Make the edits in the checkout `root`, which must be a copy. Raises NotPlantable, and then nothing is changed."""
    wrong = problems(bug, root)
    if wrong:
        raise NotPlantable("; ".join(wrong))
    for edit in bug.edits:
        path = root / edit.file
        path.write_text(path.read_text("utf-8").replace(edit.old, edit.new), "utf-8")
