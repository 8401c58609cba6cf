"""One torture: rounds of each trial in turn, each in a folder of its own, until the time is over."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from callboard.actors.testing.torture.copies import copy_round
from callboard.actors.testing.torture.crowd import crowd_round
from callboard.actors.testing.torture.damage import damage_round
from callboard.actors.testing.torture.disks import full_round, sync_round
from callboard.actors.testing.torture.kills import kill_round
from callboard.actors.testing.torture.poison import poison_round
from callboard.actors.testing.torture.races import race_round
from callboard.actors.testing.torture.resending import resend_round
from callboard.actors.testing.torture.taken_away import taken_away_round
from callboard.actors.testing.torture.tally import Tally

Round = Callable[[Path, Random, Tally, float], None]

TRIALS: dict[str, tuple[Round, float]] = {
    "sync": (sync_round, 0.0),
    "kills": (kill_round, 0.37),
    "batches": (resend_round, 0.1),
    "poison": (poison_round, 0.05),
    "taken away": (taken_away_round, 0.03),
    "races": (race_round, 0.07),
    "crowd": (crowd_round, 0.03),
    "full disk": (full_round, 0.1),
    "damage": (damage_round, 0.1),
    "copy": (copy_round, 0.15),
}
"""Each with its share of the time; 0: once."""


@dataclass
class Session:
    """`run` does it all. The process must have no thread and no open library: it forks."""

    folder: Path
    """Where the libraries are made, each below a folder of its own. Those of rounds that found a breach are left."""
    seconds: float
    seed: int
    on_round: Callable[[Session, str], object] = lambda session, trial: None
    """Called before each round with its name."""
    tally: Tally = field(default_factory=Tally)
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TRIALS, 0.0))
    """Seconds, by trial."""
    rounds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TRIALS, 0))
    left: list[Path] = field(default_factory=list)
    """Folders with what broke."""
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def run(self) -> Tally:
        """Each trial once at least, then whichever is furthest behind its share. A round in progress is cut short, and ends cleanly."""
        disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # of what it breaks on purpose
        try:
            for trial in TRIALS:
                self._round(trial, self.seconds / 2 / len(TRIALS))
            while self.elapsed < self.seconds:
                self._round(min(TRIALS, key=self._lead), self.seconds - self.elapsed)
        finally:
            logging.disable(disabled)
        return self.tally

    def _lead(self, trial: str) -> float:
        share = TRIALS[trial][1]
        return self.spent[trial] / share if share else float("inf")

    def _round(self, trial: str, seconds: float) -> None:
        self.on_round(self, trial)
        self.rounds[trial] += 1
        began, breaches = time.monotonic(), self.tally.breaches
        folder = Path(tempfile.mkdtemp(prefix=f"{trial.replace(' ', '-')}-{self.rounds[trial]}-", dir=self.folder))
        try:
            chance = Random(f"{self.seed} {trial} {self.rounds[trial]}")
            TRIALS[trial][0](folder, chance, self.tally, began + seconds)
        finally:
            self.spent[trial] += time.monotonic() - began
            if self.tally.breaches > breaches:
                self.left.append(folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
