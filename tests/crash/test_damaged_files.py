"""G15: whatever has happened to a library's files: the process lives, no job runs with other data, other libraries work, what is whole is saved."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import damaged_child
import pytest
from damaged_child import COLUMNS, VALUES, Fuzzed, laxly, pad_of

from callboard import Library, Runtime, Submission
from callboard.jobs.errors import CallboardError

CHILD = Path(damaged_child.__file__)
LOT = 100
SECONDS = 30.0


def run_lots(base: Path, scratch: Path, count: int, seconds: float | None = None) -> dict[str, int]:
    """Seeds 0 to `count`, in children of a lot each, none begun after `seconds`. What was seen, in all."""
    until = None if seconds is None else time.monotonic() + seconds

    def lot(first: int) -> subprocess.CompletedProcess[str] | None:
        if until is not None and time.monotonic() > until:
            return None
        place = scratch / str(first)
        place.mkdir()
        command = [sys.executable, str(CHILD), str(base), str(place), str(first), str(min(LOT, count - first))]
        return subprocess.run(command, capture_output=True, text=True)

    seen: dict[str, int] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done in pool.map(lot, range(0, count, LOT)):
            if done is None:
                continue
            seeds, brace, report = done.stdout.partition("{")
            assert brace, f"the child died ({done.returncode}) over seed {seeds.split()[-1:]}: {done.stderr[-3_000:]}"
            told = json.loads(brace + report)
            seen["libraries"] = seen.get("libraries", 0) + len(seeds.split())
            assert told["wrong"] == []
            for what, times in told["seen"].items():
                seen[what] = seen.get(what, 0) + times
    return seen


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    damaged_child.make(folder)
    return folder


def test_G15_damaged_files_end_no_process_and_run_no_wrong_job(base: Path, tmp_path: Path) -> None:
    seen = run_lots(base, tmp_path, 60)
    assert seen["called damaged"] > 20 and seen["jobs run"] > 1_000 and seen["refused"] > 5 and seen["opened beside another"]


@pytest.mark.long
def test_G15_three_thousand_damaged_libraries(
    base: Path, tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = run_lots(base, tmp_path, 3_000, pytestconfig.getoption("--box"))
    with capsys.disabled():
        print(f"\n{seen['libraries']} damaged libraries, 0 breaches: {seen}", flush=True)
    assert seen["called damaged"] > seen["libraries"] // 3 and seen["refused to run"] > seen["libraries"] // 6


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Runtime, Library]]:
    with Runtime(workers=1) as runtime:
        yield runtime, runtime.open_library(tmp_path_factory.mktemp("other") / "library", control=False)


TOLD = ("status", "intent", "priority", "key", "run_at", "claim", "alone", "waiting_ms", "after_id")
"""Each of these has kept all others from running, or the library from being read."""


@pytest.mark.parametrize(
    ("column", "delay"),
    [
        pytest.param(column, delay, marks=[] if column in TOLD and not delay else pytest.mark.long, id=f"{column}{' later' if delay else ''}")
        for column in COLUMNS if column != "id" for delay in (None, 1e6)
    ],
)  # fmt: skip
def test_G15_whatever_stands_in_a_column_the_other_jobs_run(both: tuple[Runtime, Library], tmp_path: Path, column: str, delay: float | None) -> None:
    runtime, other = both
    with Runtime(workers=1) as before:
        library = before.open_library(tmp_path / "library", control=False, runs="own")
        ids = [library.submit(Submission(Fuzzed(n, pad_of(n)), key=f"key {n}", delay=delay or 1e6)).id for n in range(len(VALUES) + 1)]
    changes = [f"UPDATE jobs SET {column} = {value} WHERE id = x'{job_id.hex()}'" for job_id, value in zip(ids, VALUES, strict=False)]
    laxly(tmp_path / "library", "jobs", changes if delay else ["UPDATE jobs SET run_at = NULL", *changes])
    damaged_child.ran.clear()
    with runtime.open_library(tmp_path / "library", control=False) as library:
        assert library.submit(Submission(Fuzzed(7, pad_of(7)), priority=255)).wait(SECONDS) == 7
        if not delay:
            assert library.job(ids[-1]).wait(SECONDS) == len(VALUES)
        library.statistics()
        assert {record.id for page in (library.jobs(), library.history()) for record in page.records} > set(ids)
        for job_id in ids:
            for steer in library.pause, library.resume, library.cancel:
                with contextlib.suppress(CallboardError):
                    steer(job_id)
        assert library.submit(Fuzzed(8, pad_of(8))).wait(SECONDS) == 8
    for _, n, pad, _ in damaged_child.ran:
        assert pad == pad_of(n)
    assert other.submit(Fuzzed(9, pad_of(9))).wait(SECONDS) == 9
