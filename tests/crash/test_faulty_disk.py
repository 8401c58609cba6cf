"""G1, G2, G3, G4, G6, G9, G12, G16: at every change of the disk the process is killed, the write torn, or the call fails; nothing is lost, and
nothing that was told was a lie.

Each story runs on simulated ports over real files, so that change number N is the same change each time; `--full` tries all of them, with all
faults, the suite as many as fit in its seconds, spread evenly.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterator

import pytest
from faulty_disk import FAIL, FAIL_SYNC, KILL, KILL_AFTER, SHORT, TORN, Fault, FaultyDisk, evenly
from planted_bugs import PLANTED
from stories import STORIES
from verdict import breaches, wrong_files

SECONDS = 0.8
"""A story's share of the suite."""

EACH = 2
"""Cases of a story that are tried however slow the machine is: the least that can show that it works at all."""

KINDS = (
    Fault(KILL, 0),
    Fault(FAIL_SYNC, 0, errno.EIO, True),
    Fault(FAIL, 0, errno.EIO),
    Fault(TORN, 0),
    Fault(FAIL, 0, errno.ENOSPC, True),
    Fault(FAIL_SYNC, 0, errno.EIO),
    Fault(FAIL, 0, errno.EIO, True),
    Fault(FAIL, 0, errno.ENOSPC),
    Fault(FAIL, 0, errno.EDQUOT, True),
    Fault(SHORT, 0),
    Fault(KILL_AFTER, 0),
    Fault(SHORT, 0, 0, True),
    Fault(FAIL, 0, errno.EDQUOT),
)
"""What can happen, the most telling first."""


def faults(changes: int) -> Iterator[Fault]:
    """Every kind at every change, each once; the first few of them are spread over both."""
    order = list(evenly(changes))
    for step in range(len(order)):
        for number, kind in enumerate(KINDS):
            yield kind._replace(at=1 + order[(step + number * len(order) // len(KINDS)) % len(order)])


def try_one(disk: FaultyDisk, story: str, fault: Fault, **how: object) -> list[str]:
    """What went wrong in one case."""
    folder = disk.fresh(story)
    live = disk.step(story, "live", folder, fault=list(fault), **how)
    seen = wrong_files(folder) if story.startswith("copy") else []
    after = disk.step(story, "afterwards", folder)
    found = breaches(story, folder, fault, live, after, seen)
    if found:
        return [f"{story}, {fault}:", *found, "what it told:", *map(str, live.lines), "afterwards:", *map(str, after.lines)]
    shutil.rmtree(folder)
    return []


def changes_of(disk: FaultyDisk, story: str) -> int:
    """How many changes of the disk a story is, where nothing fails; it comes to its end then, and breaks nothing."""
    folder = disk.fresh(story)
    live = disk.step(story, "live", folder, fault=[0, 0, 0, 0])
    seen = wrong_files(folder) if story.startswith("copy") else []
    assert breaches(story, folder, None, live, disk.step(story, "afterwards", folder), seen) == []
    changes: int = live.lines[-1]["changes"]
    return changes


def run_campaign(disk: FaultyDisk, story: str, seconds: float | None) -> tuple[int, int, list[str]]:
    """Cases tried, cases there are, and what the first one that broke a promise has to say. `seconds`: how long at most; None: all."""
    until = None if seconds is None else time.monotonic() + seconds
    every = list(faults(changes_of(disk, story)))
    for tried, fault in enumerate(every):
        if until is not None and tried >= EACH and time.monotonic() > until:
            return tried, len(every), []
        found = try_one(disk, story, fault)
        if found:
            return tried + 1, len(every), found
    return len(every), len(every), []


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("story", STORIES)
def test_G12_at_whatever_change_the_disk_fails_or_the_process_dies_nothing_is_lost_and_nothing_was_a_lie(
    story: str, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultyDisk() as disk:
        tried, there_are, found = run_campaign(disk, story, pytestconfig.getoption("--box") if pytestconfig.getoption("--full") else SECONDS)
    with capsys.disabled():
        print(f"\n{story}: {tried} of {there_are} faults of the disk, {'a breach' if found else '0 breaches'}", flush=True)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_G13_a_quota_that_is_used_up_is_a_full_disk_and_not_a_broken_one() -> None:
    with FaultyDisk() as disk:
        changes = changes_of(disk, "submit")
        whys: set[str] = set()
        for at in range(changes // 3, changes, changes // 6):
            live = disk.step("submit", "live", disk.fresh("submit"), fault=list(Fault(FAIL, at, errno.EDQUOT, True)))
            whys |= {line["why"].partition("(")[0] for line in live.all("refused")}
            assert not live.all("unknown") and not live.all("defect")
    assert whys == {"DiskFull"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", ["submit", "checkpoint", "copy"])
def test_G1_on_real_threads_too_nothing_is_lost_to_a_kill(story: str, pytestconfig: pytest.Config) -> None:
    with FaultyDisk() as disk:
        folder = disk.fresh(story)
        changes = disk.step(story, "live", folder, fault=[0, 0, 0, 0], threads=True).lines[-1]["changes"]
        for number in range(200 if pytestconfig.getoption("--full") else 3):
            at = 1 + int((0.3 + number * 0.6180339887) % 1.0 * changes)
            assert try_one(disk, story, Fault(KILL, at), threads=True) == []


def test_G16_an_empty_folder_that_a_power_cut_has_taken_is_made_again() -> None:
    """No file of it is copied any more, and its name was not synced yet."""
    with FaultyDisk() as disk:
        folder = disk.fresh("copy")
        killed = Fault(KILL, disk.step("copy", "live", folder, fault=[0, 0, 0, 0]).lines[-1]["changes"] * 7 // 10)
        folder = disk.fresh("copy")
        live = disk.step("copy", "live", folder, fault=list(killed))
        (folder / "copy" / "source" / "empty").rmdir()
        assert breaches("copy", folder, killed, live, disk.step("copy", "afterwards", folder), []) == []


@pytest.mark.parametrize(
    "bug, story, kind, where, says",
    [
        ("names that are copied to", "copy", Fault(KILL, 0), 0.5, "neither the old file nor the new one"),
        ("checkpoints that swallow their errors", "submit", Fault(FAIL_SYNC, 0, errno.EIO), 0.8, "tried again on the same handle"),
    ],
)
def test_a_planted_bug_is_found(bug: str, story: str, kind: Fault, where: float, says: str) -> None:
    """By one fault at every change, beginning where in the story it is likely to be found, and however long that takes."""
    with FaultyDisk({PLANTED: bug}) as disk:
        changes = changes_of(disk, story)
        order = sorted(range(1, changes + 1), key=lambda at: abs(at - where * changes))
        found = next(filter(None, (try_one(disk, story, kind._replace(at=at)) for at in order)), [])
    assert any(says in line for line in found)
