"""A job of 100,000 items that checkpoints every 100 of them (FULL): by hand with `ctx.checkpoint()`, and through the ledger of `ctx.map`.

Raw limit: a loop that writes one changed 512-byte page of a bitmap and commits, 1,000 times. Goal: at most 1.5 times its seconds, 10 MB written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import apsw
from measure import options, pairs, scratch, seconds, show

from callboard import Job, JobContext, Runtime, Task

ITEMS = 100_000
EVERY = 100


@dataclass
class Counting(Job, name="benchmark_counting"):
    """Counts its items and saves how far it is."""

    items: int
    every: int
    done: int = 0

    def run(self, ctx: JobContext) -> int:
        while self.done < self.items:
            self.done += 1
            if self.done % self.every == 0:
                ctx.checkpoint()
        return self.done


@dataclass
class Nothing(Task):
    """A task that does nothing."""

    item: int

    def run(self, ctx: object) -> None:
        return None


@dataclass
class Mapping(Job, name="benchmark_mapping"):
    """Runs a task an item, with the ledger."""

    items: int

    def run(self, ctx: JobContext) -> int:
        return sum(1 for _ in ctx.map(Nothing, range(self.items)))


def written_bytes() -> int:
    """Bytes that this process has had written to a block device so far."""
    with open("/proc/self/io") as file:
        return int(next(line for line in file if line.startswith("write_bytes")).split()[1])


bytes_of: dict[str, int] = {}


def ours(folder: Path, job: Job) -> float:
    with scratch(folder) as place, Runtime(workers=2) as runtime:
        library = runtime.open_library(place / "checkpoints.library")
        library.submit(Counting(1, 1)).wait(30)
        before = written_bytes()
        took = seconds(lambda: library.submit(job).wait(600))
        bytes_of[type(job).__name__] = written_bytes() - before
        return took


def raw(folder: Path) -> float:
    with scratch(folder) as place:
        con = apsw.Connection(str(place / "raw.db"), vfs="unix-excl")
        con.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 0")
        con.execute("CREATE TABLE bitmap (page INTEGER PRIMARY KEY, bits BLOB)")
        pages = [bytearray(512) for _ in range(ITEMS // 4096 + 1)]

        def work() -> None:
            for start in range(0, ITEMS, EVERY):
                for item in range(start, start + EVERY):
                    pages[item // 4096][item % 4096 >> 3] |= 1 << (item & 7)
                with con:
                    con.execute("INSERT OR REPLACE INTO bitmap VALUES (?, ?)", (start // 4096, bytes(pages[start // 4096])))

        before = written_bytes()
        took = seconds(work)
        bytes_of["raw"] = written_bytes() - before
        con.close()
        return took


def main() -> None:
    chosen = options(__doc__)
    where, repeats = chosen.dir, chosen.repeats
    figures = [
        pairs(
            "100,000 items, ctx.checkpoint() every 100", lambda: ours(where, Counting(ITEMS, EVERY)), lambda: raw(where), unit="s",
            goal="<= 1.5x raw, that is a ratio >= 0.67", repeats=repeats, higher_is_better=False,
        ),
        pairs(
            "100,000 no-op tasks, ctx.map with its ledger", lambda: ours(where, Mapping(ITEMS)), lambda: raw(where), unit="s",
            goal="informs", repeats=repeats, higher_is_better=False,
        ),
    ]  # fmt: skip
    show(figures, chosen.json)
    if not chosen.json:
        print("written, MB:", {name: round(size / 1e6, 1) for name, size in bytes_of.items()}, "goal <= 10;", f"pid {os.getpid()}")


if __name__ == "__main__":
    main()
