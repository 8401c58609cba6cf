"""G1, G3, G6, G9, G16: whatever a power cut leaves on the disk, at any moment, is a whole library with all that was acknowledged.

Each story is recorded once: all its changes of the disk, its syncs, and between them what it was told. From that images are made; in most of
them the database is looked at, in some the story goes on to its end. Of a copy all go on: its files must be whole before, and equal after.
"""

from __future__ import annotations

import copy
import errno
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import apsw
import pytest
from faulty_disk import FAIL_SYNC, KILLED, Fault, FaultyDisk, Told, evenly
from planted_bugs import PLANTED
from power_cut import Change, Disk, Image, read_log
from verdict import breaches, wrong_files

SECONDS = 0.7
"""A story's share of the suite."""
SECONDS_FULL = 180.0

STORIES = ("making", "submit", "batch", "checkpoint", "claim", "end", "migration", "copy", "copy alone")
SPARSE = 8
"""In one round of images one is made at each so many changes."""
FULLY_EACH = 12
"""Of so many images that differ, one is gone on with."""

ROWS = """
SELECT id, requested_by, status, claim, (SELECT sequence FROM job_checkpoints WHERE job_id = id AND kind = 'head') FROM jobs
UNION ALL SELECT id, requested_by, status, claim, NULL FROM job_history"""


def seconds_of(config: pytest.Config) -> float:
    """A story's share of this run."""
    return (config.getoption("--box") or SECONDS_FULL) if config.getoption("--full") else SECONDS


class Recorded(NamedTuple):
    """A story as it happened: the disk as it was before, and all changes."""

    folder: Path
    before: Disk
    changes: list[Change]
    fault: Fault | None = None


def record(disk: FaultyDisk, story: str, fault: Fault | None = None) -> Recorded:
    """Let the story happen once."""
    folder, log = disk.fresh(story), disk.folder / "log"
    before = Disk(folder)
    disk.step(story, "live", folder, log=str(log), fault=fault and list(fault))
    return Recorded(folder, before, list(read_log(log)), fault)


def images(recorded: Recorded, number: int) -> Iterator[Image]:
    """A round of images, spread over the story. In round 0: after each line that it was told, with nothing that was not synced."""
    disk, chance = copy.deepcopy(recorded.before), Random(number)
    first = chance.randrange(SPARSE)
    for place, change in enumerate(recorded.changes):
        disk.change(change)
        if change.kind == "n" if number == 0 else place % SPARSE == first and disk.in_doubt():
            yield disk.image(chance, "none" if number == 0 else chance.choice(("none", "order", "any", "any", "any", "all")))


def look(library: Path) -> Told:
    """What SQLite makes of it, without callboard."""
    if not (library / "jobs.db").exists():
        return Told([{"nothing": True}], 0)
    connection = apsw.Connection(str(library / "jobs.db"), vfs="unix-excl")
    try:
        lines = [{"integrity": connection.execute("PRAGMA integrity_check").get}]
        for job, name, status, claim, sequence in connection.execute(ROWS):
            lines.append({"found": name, "id": job.hex(), "status": status, "claim": claim} | ({} if sequence is None else {"sequence": sequence}))
        return Told(lines, 0)
    except apsw.Error as error:
        return Told([{"defect": f"SQLite: {error!r}"}], 0)
    finally:
        connection.close()


class Campaign:
    """Images of one story, each checked once."""

    def __init__(self, disk: FaultyDisk, story: str) -> None:
        self.disk, self.story = disk, story
        self.made = self.different = self.gone_on = 0
        self._seen: set[tuple[bytes, int]] = set()

    def check(self, recorded: Recorded, image: Image) -> list[str]:
        """What is wrong with it, if it was not seen before."""
        self.made += 1
        key = (image.digest(), image.told)
        if key in self._seen:
            return []
        self._seen.add(key)
        self.different += 1
        return self._check(recorded, image, fully=self.story.startswith("copy") or self.different % FULLY_EACH == 1)

    def _check(self, recorded: Recorded, image: Image, *, fully: bool) -> list[str]:
        folder = recorded.folder  # jobs have its path in them
        shutil.rmtree(folder)
        folder.mkdir()
        image.write(folder)
        ledger = [change for change in recorded.changes if change.kind == "n"][: image.told]
        live = Told(_lines(ledger), KILLED if recorded.fault is None else 0)
        seen = wrong_files(folder) if self.story.startswith("copy") else []
        self.gone_on += fully
        after = self.disk.step(self.story, "afterwards", folder) if fully else look(folder / "it.library")
        found = breaches(self.story if fully else f"{self.story} seen", folder, recorded.fault, live, after, seen)
        if found:
            found += ["it was told:", *map(str, live.lines), "afterwards:", *map(str, after.lines), *_shown(image)]
        return found

    def run(self, recorded: Recorded, until: float) -> list[str]:
        """Rounds of images until the time has come, or one is wrong: what is wrong with that."""
        number = 0
        while number == 0 or time.monotonic() < until:
            for image in images(recorded, number):
                found = self.check(recorded, image)
                if found:
                    return [f"{self.story}, an image of round {number}:", *found]
                if number and time.monotonic() > until:
                    break
            number += 1
        return []

    def __str__(self) -> str:
        return f"{self.story}: {self.made} images of a power cut, {self.different} that differ, {self.gone_on} gone on with"


def _lines(notes: list[Change]) -> list[dict[str, object]]:
    return [json.loads(note.more) for note in notes]


def _shown(image: Image) -> list[str]:
    return [f"{path!r}: {kind} {len(data)} bytes {mode:o}" for path, (kind, data, mode, _) in sorted(image.entries.items())]


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("story", STORIES)
def test_G1_whatever_a_power_cut_leaves_has_all_that_was_acknowledged(
    story: str, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultyDisk() as disk:
        campaign = Campaign(disk, story)
        recorded = record(disk, story)
        found = campaign.run(recorded, time.monotonic() + seconds_of(pytestconfig))
    with capsys.disabled():
        print(f"\n{campaign}, {'a breach' if found else '0 breaches'}", flush=True)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("story", ["submit", "checkpoint", "copy"])
def test_G12_a_power_cut_after_a_failed_sync_takes_nothing_that_was_acknowledged_and_mixes_nothing(
    story: str, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a failed sync was asked for stays in doubt, although the system shows it and calls later syncs of it a success."""
    full = pytestconfig.getoption("--full")
    made = different = 0
    found: list[str] = []
    with FaultyDisk() as disk:
        syncs = [change.number for change in record(disk, story).changes if change.kind in "sS"]
        until = time.monotonic() + seconds_of(pytestconfig)
        for number in evenly(len(syncs)):
            campaign = Campaign(disk, story)
            found = campaign.run(record(disk, story, Fault(FAIL_SYNC, syncs[number], errno.EIO)), time.monotonic() + (4.0 if full else 0.3))
            made, different = made + campaign.made, different + campaign.different
            if found or time.monotonic() > until:
                break
    with capsys.disabled():
        print(f"\n{story}: {made} images of a power cut after a failed sync, {different} that differ", flush=True)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_a_library_that_is_synced_at_checkpoints_only_is_found_to_lose_what_was_acknowledged() -> None:
    """The bug that no kill can show."""
    with FaultyDisk({PLANTED: "synchronous=NORMAL"}) as disk:
        found = Campaign(disk, "submit").run(record(disk, "submit"), time.monotonic() + 60)
    assert any("acknowledged, and not stored" in line for line in found)
