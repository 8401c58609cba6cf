"""All that callboard makes is its user's alone: folders 0700, files 0600, whatever the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from callboard import Job, JobContext, Runtime
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.migrate import MIGRATIONS
from callboard.persistence.salvage import salvage

SECONDS = 100.0


@dataclass
class PermLogs(Job, name="test_permissions.logs"):
    def run(self, ctx: JobContext) -> None:
        ctx.log.info("a line")


def everything(top: Path) -> Iterator[tuple[str, int]]:
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            yield str(path.relative_to(top)), os.lstat(path).st_mode


def test_nothing_is_readable_by_others(tmp_path: Path) -> None:
    old = os.umask(0)
    seen: dict[str, int] = {}
    try:
        top = tmp_path / "top"
        top.mkdir()
        LibraryFolder.open(top / "library", migrations=MIGRATIONS[:1]).close()
        with Runtime(workers=1) as runtime:
            library = runtime.open_library(top / "library")  # which migrates it, with a backup beside
            library.submit(PermLogs()).wait(SECONDS)
            library.backup(top / "backup")
            seen.update(everything(top))
        salvage(top / "library", top / "saved", 0)
        seen.update(everything(top))
    finally:
        os.umask(old)
    assert {path for path, mode in seen.items() if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)} == set()
    made = {"library/jobs.db", "library/jobs.db-wal", "library/library.lock", "library/control.sock", "library/jobs.reserve", "library/logs"}
    assert made | {f"library/before-schema-{MIGRATIONS[-1].version}/jobs.db", "backup/jobs.db", "saved/jobs.db"} <= set(seen)
