"""Other ways to copy a tree, each until it is on disk, in seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from callboard.benchmarks.peers.peer import Cannot, seconds

THREADS = 16


@dataclass(frozen=True)
class Copier:
    """One of them."""

    name: str
    work: Callable[[Path, Path], None]
    """Copies a folder to a path that does not exist."""
    program: str = ""
    """What has to be on the PATH; its package is called the same."""
    durable: bool = False
    """Whether the copy is on disk when `work` returns. If not, the target's file system is synced, and that is timed too."""
    synced: bool = True
    """At the end of `copy`, always."""

    @property
    def claim(self) -> str:
        return "an fsync of each file and folder" if self.durable else "nothing synced by itself; sync -f of the target's file system, timed"

    def missing(self) -> str | None:
        """None, or what is missing, with the line that installs it."""
        there = not self.program or shutil.which(self.program)
        return None if there else f"{self.program} is not installed: apt install {self.program}"

    def version(self) -> str:
        """The first line that the program says of itself."""
        if not self.program:
            return "Python"
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout
        return said.partition("\n")[0].strip()

    def copy(self, source: Path, target: Path) -> float:
        """Seconds until all of `source` is on disk as `target`, which must not exist. Raises Cannot with what a program said that failed."""

        def all_of_it() -> None:
            self.work(source, target)
            if not self.durable:
                _run("sync", "-f", str(target))

        return seconds(all_of_it)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        raise Cannot(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-200:]}")


def _cp(source: Path, target: Path) -> None:
    _run("cp", "-a", str(source), str(target))


def _rsync(source: Path, target: Path) -> None:
    _run("rsync", "-a", "--whole-file", f"{source}/", str(target))


def _rclone(source: Path, target: Path) -> None:
    """Without a configuration file, and more files at once than its four."""
    _run("rclone", "copy", "--config", "", "--links", "--transfers", str(THREADS), "--create-empty-src-dirs", str(source), str(target))


def _copytree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)


def _pool(source: Path, target: Path) -> None:
    """Many files at once, each synced by the thread that copied it; then the folders, so that the names are on disk too."""
    files: list[tuple[str, str]] = []

    def note(origin: str, copy: str) -> None:
        files.append((origin, copy))

    def one(pair: tuple[str, str]) -> None:
        shutil.copy2(*pair, follow_symlinks=False)
        if not os.path.islink(pair[1]):
            _sync(pair[1])

    shutil.copytree(source, target, symlinks=True, copy_function=note)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(one, files):
            pass
    for folder, _, _ in os.walk(target):
        _sync(folder)
    _sync(str(target.parent))


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


CP = Copier("cp -a", _cp, "cp")
COPIERS = (
    CP,
    Copier("rsync", _rsync, "rsync"),
    Copier("rclone", _rclone, "rclone"),
    Copier("shutil.copytree", _copytree),
    Copier(f"{THREADS} threads + fsync", _pool, durable=True),
)
