"""What the rows of the catalogue share: a library at work, what is in it before and after, and where another test proves a row."""

from __future__ import annotations

import ast
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from callboard import Job, JobContext, Library, Runtime
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import DATABASE

PATIENCE = 100.0
TESTS = Path(__file__).resolve().parent.parent


@dataclass
class Play(Job, name="bad_input.play"):
    """Does what the service of this name does; its other fields hold what a row puts in."""

    part: str = "nothing"
    value: Any = None
    more: list[Any] = field(default_factory=list)

    def run(self, ctx: JobContext) -> object:
        part: Callable[[Play, JobContext], object] = ctx.services[self.part]
        return part(self, ctx)


class Gate:
    """A job waits here without looking; the row sees that it has come, and lets it go."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Semaphore(0), threading.Event()

    def __call__(self, *_: Any) -> object:
        self._reached.release()
        assert self._open.wait(PATIENCE)
        return "through"

    def reached(self) -> None:
        assert self._reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.set()


@contextmanager
def at_work(
    top: Path, *, ports: Any = None, options: dict[str, Any] | None = None, **parts: Callable[[Any, JobContext], object] | list[Any]
) -> Iterator[Library]:
    """The library `top/library`, whose jobs find these parts."""
    with Runtime(workers=1, ports=ports) as runtime:
        services = {"nothing": lambda job, ctx: None, **parts}
        yield runtime.open_library(top / "library", services=services, control=False, **(options or {}))


def state_of(library: Library) -> tuple[object, ...]:
    """All that a caller can see of it."""
    return library.jobs().records, library.history().records, library.batches(), library.statistics()


@contextmanager
def refused(library: Library, error: type[Exception], match: str) -> Iterator[None]:
    """This error, with these words, and a library in which nothing has changed."""
    before = state_of(library)
    with pytest.raises(error, match=match):
        yield
    assert state_of(library) == before


def files_in(folder: Path) -> dict[str, bytes | str]:
    """What lies in a folder, save the lock file; of what is no file, its type."""
    return {
        path.name: path.read_bytes() if path.is_file() else oct(path.lstat().st_mode)
        for path in folder.iterdir()
        if path.name not in ("library.lock", "control.sock")
    }


def not_opened(folder: Path, error: type[Exception], match: str) -> None:
    """The library is refused with these words, again and again, and its files are as they were."""
    before = files_in(folder)
    for _ in range(2):
        with pytest.raises(error, match=match), Runtime(workers=1) as runtime:
            runtime.open_library(folder)
    assert files_in(folder) == before


def closed(top: Path) -> Path:
    """A library that was closed cleanly."""
    LibraryFolder.open(top / "library").close()
    return top / "library"


def change(library: Path, *statements: str) -> None:
    """Change a closed library as somebody with SQLite's shell could."""
    with closing(sqlite3.connect(library / DATABASE, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def until(library: Library, job_id: bytes, status: str) -> None:
    """Wait until the job has this status."""
    for each in library.job(job_id).updates(timeout=PATIENCE):
        if each == status:
            return
    assert library.record(job_id).status == status


@cache
def tests_of(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def proved_by(file: str, *names: str) -> None:
    """These tests are there, in a file that pytest collects."""
    assert Path(file).name.startswith("test_") and not file.startswith("typing_root")
    missing = [name for name in names if name not in tests_of(file)]
    assert not missing, f"tests/{file} has no {', '.join(missing)}"
