"""Many threads that encode and decode at once never mix up each other's bytes."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from callboard.persistence.codec import decode, decode_value, encode, encode_value, plan_of

THREADS = 8
ROUNDS = 60


@dataclass(frozen=True)
class Item:
    path: Path
    id: UUID


@dataclass
class Job:
    name: str
    at: datetime
    items: tuple[Item, ...]
    kinds: set[str]
    any: Any


def job(number: int) -> Job:
    items = tuple(Item(Path(f"/{number}/{index}"), UUID(int=number * 1_000 + index)) for index in range(20))
    return Job(
        f"n{number}" * 20, datetime(2000 + number, 1, 1), items, {f"{number}-{index}" for index in range(9)}, {number: (number,) * 9}
    )


def test_eight_threads_at_once_never_corrupt_a_blob() -> None:
    expected = [encode(job(number)) for number in range(THREADS)]
    wrong: list[object] = []
    start = threading.Barrier(THREADS)

    def work(number: int) -> None:
        mine = job(number)
        start.wait(timeout=30)
        for _ in range(ROUNDS):
            try:
                blob = encode(mine)
                if blob != expected[number] or decode(Job, blob) != mine or decode_value(encode_value(mine.any)) != mine.any:
                    wrong.append(blob)
            except Exception as error:
                wrong.append(error)

    run_in_threads(work)
    assert not wrong


def test_threads_that_compile_one_class_at_once_all_get_a_whole_plan() -> None:
    for _ in range(10):

        @dataclass
        class Fresh:
            next: Fresh | None
            items: tuple[Item, ...] = ()

        start = threading.Barrier(THREADS)
        names: list[list[str]] = []

        def work(number: int, cls: type = Fresh, start: threading.Barrier = start, names: list[list[str]] = names) -> None:
            start.wait(timeout=30)
            names.append([one.name for one in plan_of(cls).fields])

        run_in_threads(work)
        assert names == [["next", "items"]] * THREADS


def run_in_threads(work: Any) -> None:
    """Run `work(0)` … `work(7)` at once, with as many switches between them as the interpreter can make."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    finally:
        sys.setswitchinterval(before)
