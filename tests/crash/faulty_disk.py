"""Cases on a faulty disk: a process with io_faults.c preloaded forks one for each, from a prepared folder, and its ledger is read here."""

from __future__ import annotations

import atexit
import errno
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest

HERE = Path(__file__).parent
ROOT = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
"""A kill loses nothing that was written, wherever it was written to."""

Line = dict[str, Any]


class Fault(NamedTuple):
    """What happens at change number `at` of the disk; `for_ever`: and at all later ones."""

    what: int
    at: int
    error: int = 0
    for_ever: bool = False

    @property
    def dies(self) -> bool:
        return self.what in (KILL, KILL_AFTER, TORN)

    def __str__(self) -> str:
        error = errno.errorcode.get(self.error, "")
        return f"{WHAT[self.what]} {error} at change {self.at}{' and ever after' if self.for_ever else ''}".replace("  ", " ")


NOTHING, KILL, KILL_AFTER, TORN, FAIL, FAIL_SYNC, SHORT = range(7)
WHAT = ("nothing", "killed before", "killed after", "half a write, killed", "an error", "syncs fail", "half a write")

KILLED = -9


class Told(NamedTuple):
    """The ledger of a case: what it told, in order, and how its process ended."""

    lines: list[Line]
    exit: int

    def all(self, key: str) -> list[Line]:
        """The lines with this key."""
        return [line for line in self.lines if key in line]


@functools.cache
def shim(source: str = "io_faults.c") -> Path:
    """A library to be preloaded, compiled. Skips the test where there is no C compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc, clang): faults of the disk cannot be made")
    built = Path(tempfile.mkdtemp(prefix="callboard-faults-")) / "preloaded.so"
    atexit.register(shutil.rmtree, built.parent, ignore_errors=True)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(built), str(HERE / source), "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{source} does not compile here (glibc on Linux is needed): {done.stderr[:500]}")
    return built


class FaultyDisk:
    """A context manager: the process that forks, and a folder for the cases, which is removed at the end."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        library = str(shim())
        self.folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="callboard-faulty-", dir=ROOT)))
        self._templates: dict[str, Path] = {}
        self._child = subprocess.Popen(
            [sys.executable, str(HERE / "io_child.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {}), "LD_PRELOAD": library, "PYTHONHASHSEED": "0"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait(180)
        shutil.rmtree(self.folder, ignore_errors=True)

    def step(self, story: str, step: str, folder: Path, **how: Any) -> Told:
        """Have one step of a story done in `folder`; `how`: `fault`, `log`, `threads`, `seed`."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps({"story": story, "step": step, "folder": str(folder), **how}).encode() + b"\n")
        self._child.stdin.flush()
        lines: list[Line] = []
        for text in self._child.stdout:
            line = json.loads(text)
            if "exit" in line:
                return Told(lines, line["exit"])
            lines.append(line)
        raise AssertionError(f"the process that forks has died; the last it said: {lines[-1:]}")

    def fresh(self, story: str) -> Path:
        """A folder of its own, as the story begins."""
        if story not in self._templates:
            template = self.folder / f"{story} template"
            template.mkdir()
            told = self.step(story, "prepare", template)
            assert told.exit == 0 and not told.all("defect"), told
            self._templates[story] = template
        case = Path(tempfile.mkdtemp(prefix=f"{story} ", dir=self.folder))
        shutil.copytree(self._templates[story], case, symlinks=True, dirs_exist_ok=True)
        return case


def evenly(count: int) -> Iterator[int]:
    """0 to `count` - 1, each once, so that the first few of them are spread over all."""
    step = max(1, round(count * 0.6180339887))
    while count > 1 and _common(step, count) > 1:
        step += 1
    yield from ((number * step) % count for number in range(count))


def _common(one: int, other: int) -> int:
    while other:
        one, other = other, one % other
    return one
