"""SIGKILL at random instants, on real threads and a real disk: what was acknowledged is kept by the process that kills, and is all there.

One library lives through some dozens of lives, is killed in each, also while it is opened and recovered, and is at last let go on to its end.
"""

from __future__ import annotations

import json
import math
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest
from faulty_disk import ROOT
from killed_bugs import PLANTED
from killed_ledger import Ledger, stored

KILLS, SECONDS = 200, 9.0
"""In the ordinary suite: so many, or as many as that time is enough for."""
LIVES = 40
"""Of a library."""
PHASES = {
    "start": "its start", "recovery": "recovery", "opening": "the rest of the opening", "work": "its work", "close": "its closing",
    "closed": "its end after that",
}  # fmt: skip
HANGS = 180.0
"""Seconds without a word."""


class When(NamedTuple):
    """When to kill: so many seconds after the process has told that it is in this phase."""

    phase: str
    seconds: float


class Killer:
    """A context manager: the process that forks for each life, and the order to kill it."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killed_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **(environment or {})},
        )
        self._lives = 0
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait(180)
        self._child.stdout.close()

    def life(self, ledger: Ledger, when: When | None, **request: Any) -> int:
        """One life of a process, until it is killed or has ended by itself. How it ended, negative: by that signal."""
        assert self._child.stdin is not None
        self._lives += 1
        self._send(life=self._lives, **request)
        due = time.monotonic() + when.seconds if when is not None and when.phase == "start" else None
        while True:
            lines = self._lines(HANGS if due is None else due - time.monotonic())
            if not lines:
                self._send(kill=self._lives)
                if due is None:
                    ledger.hear({"defect": f"it hangs in its {ledger.phase}"})
                due, when = None, None
            for line in lines:
                if "exit" in line:
                    exit_code: int = line["exit"]
                    return exit_code
                ledger.hear(line)
                if when is not None and due is None and line.get("phase") == when.phase:
                    due = time.monotonic() + when.seconds

    def _send(self, **line: Any) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(line).encode() + b"\n")

    def _lines(self, seconds: float) -> list[dict[str, Any]]:
        """What was told; empty if nothing was for so many seconds."""
        assert self._child.stdout is not None
        while select.select([self._child.stdout], [], [], max(0.0, seconds))[0]:
            chunk = os.read(self._child.stdout.fileno(), 65_536)
            assert chunk, "the process that forks has died"
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            if lines:
                return [json.loads(line) for line in lines]
        return []


class Campaign:
    """Libraries that are killed, one after the other, until there were so many kills."""

    def __init__(self, folders: list[Path], seed: int, killer: Killer) -> None:
        """`folders`: in which its libraries are, in turn."""
        self.folders, self.chance, self.killer, self.seed = folders, random.Random(seed), killer, seed
        self.lives, self.kills, self.acks = 0, 0, 0
        self.where: Counter[str] = Counter()

    def run(self, kills: int, seconds: float) -> list[str]:
        """What the first breach says; empty: there was none in so many kills, or as many as the seconds were enough for."""
        until = time.monotonic() + seconds
        while self.kills < kills and time.monotonic() < until:
            folder = self.folders[self.kills // LIVES % len(self.folders)]
            path = folder / f"{self.kills}.library"
            found = self._one_library(path, min(LIVES, kills - self.kills))
            if found:
                return [f"{path}, seed {self.seed}, after {self.kills} kills:", *found]
        return []

    def _one_library(self, path: Path, kills: int) -> list[str]:
        ledger, until = Ledger(), self.kills + kills
        while self.kills < until:
            self.lives += 1
            does = "close" if self.chance.random() < 0.05 else "work"
            self.chance.shuffle(known := ledger.steerable())
            exit_code = self.killer.life(
                ledger, self._when(does), does=does, path=str(path), seed=self.chance.randrange(1 << 30), first=self.lives * 10_000, known=known[:9],
                batches=ledger.open_batches[:3],
            )  # fmt: skip
            if exit_code == -9:
                self.kills += 1
                self.where[ledger.phase] += 1
            elif exit_code:
                return [f"its process ended with {exit_code}"]
            found = ledger.hold(stored(path, thoroughly=self.chance.random() < 0.1))
            if found:
                return found
        ledger.release()
        exit_code = self.killer.life(ledger, None, does="finish", path=str(path), batches=list(ledger.open_batches))
        self.acks += ledger.acks
        there = stored(path, thoroughly=True)
        assert there is not None
        return [*ledger.hold(there), *ledger.finished(there), *([f"its process ended with {exit_code}"] if exit_code else [])]

    def _when(self, does: str) -> When:
        if does == "close":
            return When("close", self.chance.uniform(0.0, 0.01))
        kind = self.chance.random()
        if kind < 0.15:
            return When("start", self.chance.uniform(0.0, 0.02))
        if kind < 0.25:
            return When("recovery", self.chance.uniform(0.0, 0.002))
        if kind < 0.35:
            return When("opening", self.chance.uniform(0.0, 0.01))
        return When("work", self.chance.expovariate(1 / 0.03))


def campaign(folders: list[Path], seed: int, kills: int, seconds: float, bug: str = "") -> tuple[Campaign, list[str]]:
    with Killer({PLANTED: bug}) as killer:
        it = Campaign(folders, seed, killer)
        return it, it.run(kills, seconds)


def judge(it: Campaign, found: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    where = ", ".join(f"{count} in {PHASES[phase]}" for phase, count in sorted(it.where.items()))
    with capsys.disabled():
        print(f"\n{it.kills} random kills ({where}), {it.acks} acknowledgements: {'a breach' if found else '0 breaches'}", flush=True)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


@pytest.mark.timeout(600)
def test_G1_whatever_instant_it_is_killed_at_nothing_is_lost_that_was_acknowledged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="callboard-killed-", dir=ROOT) as memory:
        it, found = campaign([Path(memory), tmp_path], random.SystemRandom().randrange(1 << 30), KILLS, SECONDS)
        judge(it, found, capsys)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_G1_ten_thousand_random_kills_on_the_disk(
    tmp_path: Path, seed: int, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    judge(*campaign([tmp_path], seed, 1_000, pytestconfig.getoption("--box") or math.inf), capsys)


@pytest.mark.parametrize(
    "bug",
    [
        "restart_resumes_the_paused",
        *(pytest.param(bug, marks=pytest.mark.long) for bug in (
            "ack_before_commit", "checkpoint_in_two_commits", "resend_makes_a_second_job", "lost_wakeup_after_resume",
        )),
    ],
)  # fmt: skip
def test_a_planted_bug_is_found_by_random_kills(tmp_path: Path, bug: str) -> None:
    _, found = campaign([tmp_path], 1, 1_000, 240.0, bug)
    assert found and not any(accident in breach for breach in found for accident in ("AttributeError", "TypeError")), found
