"""What was tried for each guarantee, and what was found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

BREACHES_KEPT = 20

PROMISES = {
    "G1": "what was acknowledged is on disk",
    "G2": "what was refused is not stored",
    "G3": "a part of a batch is stored whole or not at all, and once, however often the batch is sent",
    "G4": "each job comes to one end, once, and it never changes",
    "G5": "one owner of a library, one runner of a job",
    "G6": "a job goes on from its last checkpoint or a newer one, never a mix",
    "G7": "one live job a key",
    "G8": "facts come in the order of their commits, numbered without gaps",
    "G9": "paused and cancelled stays so",
    "G10": "a library whose process was killed opens within seconds",
    "G11": "a job that takes its process with it is set aside after its third time, and no other job is",
    "G12": "a library that has lost its database acknowledges nothing, and others go on",
    "G13": "a full disk loses nothing that was acknowledged",
    "G14": "what waits is bounded, however much is told and however little is read, and none of it is lost",
    "G15": "damage is refused or set aside: no wrong job runs, nothing crashes",
    "G16": "a copied file is absent or complete, the source is never changed",
    "children": "children are there once, and before their parent ends",
    "disk": "the disk keeps what it says it has synced",
}


@dataclass
class Line:
    """One guarantee."""

    tried: Counter[str] = field(default_factory=Counter)
    """Cases, by what they are."""
    breaches: list[str] = field(default_factory=list)
    more: int = 0
    """Breaches beyond those kept."""
    notes: list[str] = field(default_factory=list)
    slowest: float = 0.0
    """Seconds."""


class Tally:
    """All of them."""

    def __init__(self) -> None:
        self.lines = {name: Line() for name in PROMISES}

    def tried(self, name: str, what: str, count: int = 1) -> None:
        """So many cases more."""
        self.lines[name].tried[what] += count

    def breach(self, name: str, text: str) -> None:
        """A guarantee did not hold."""
        line = self.lines[name]
        if text in line.breaches:
            return
        if len(line.breaches) < BREACHES_KEPT:
            line.breaches.append(text)
        else:
            line.more += 1

    def note(self, name: str, text: str) -> None:
        """Worth knowing, and no breach."""
        if text not in self.lines[name].notes:
            self.lines[name].notes.append(text)

    def took(self, name: str, what: str, seconds: float) -> None:
        """One case more, and how long it took: the slowest is worth a note."""
        line = self.lines[name]
        line.tried[what] += 1
        line.slowest = max(line.slowest, seconds)
        line.notes = [f"the slowest took {line.slowest * 1e3:,.0f} ms"]

    @property
    def breaches(self) -> int:
        return sum(len(line.breaches) + line.more for line in self.lines.values())

    def view(self) -> list[dict[str, object]]:
        """As JSON has it."""
        return [
            {"id": name, "promise": PROMISES[name], "tried": dict(line.tried), "breaches": line.breaches, "more": line.more, "notes": line.notes}
            for name, line in self.lines.items()
        ]
