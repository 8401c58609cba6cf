"""What was acknowledged, as the parent of those who are killed has read it; and what the library must therefore say after each reopening."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from callboard.actors.testing.torture.child import FAILED, Line
from callboard.actors.testing.torture.tally import Tally
from callboard.actors.testing.torture.work import TWIN
from callboard.jobs.errors import CallboardError
from callboard.persistence.examination import examine
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.jobdata import decode_result

LIVE = "SELECT id, name, status, key, requested_by, parent, NULL, 1 FROM jobs"
ENDED = "SELECT id, name, status, key, requested_by, parent, result, 0 FROM job_history"

SLOW_SECONDS = 60.0
"""Of an opening: on a busy machine, and never of so small a library."""

ALLOWED = {"paused": ("paused", "pausing"), "cancelled": ("cancelled", "cancelling", "ending")}
"""What was asked → what the job then is."""


class Row(NamedTuple):
    """A job on disk."""

    id: str
    name: str
    status: str
    key: bytes | None
    number: str | None
    parent: str | None
    result: bytes | None
    live: bool


class Ledger:
    """Of one library, over all lives of its process. `hear` what a life told, then `check` what is on disk."""

    def __init__(self, library: Path, tally: Tally) -> None:
        self._library, self._tally = library, tally
        self.known: dict[str, int] = {}
        """Jobs that were acknowledged: id → number."""
        self._batches: dict[int, tuple[int, bool]] = {}
        """Number → items, and whether it was acknowledged."""
        self._wants: dict[int, str | None] = {}
        """What was acknowledged last: "paused", "cancelled"; None where something was asked and not answered."""
        self._saved: dict[int, int] = {}
        self._ends: dict[str, tuple[str, bytes | None]] = {}
        self.steps: dict[int, int] = {}
        """What each job's result will be."""

    # --- what was told ----------------------------------------------------------------------------------------------

    def hear(self, lines: Iterable[Line], exit_code: int | None) -> None:
        """What a life of the process told, in order, and how it ended."""
        stopped = {number for number, wanted in self._wants.items() if wanted is not None}
        for line in lines:
            match line:
                case {"runs": number, "at": at, "twin": twin}:
                    self._runs(number, at, twin, number in stopped)
                case {"saved": number, "at": at}:
                    self._saved[number] = max(at, self._saved.get(number, 0))
                    self._tally.tried("G6", "checkpoints acknowledged")
                case {"asks": _, "number": number}:
                    stopped.discard(number)
                    self._wants[number] = None
                case {"submits": number, "result": result}:
                    self.steps[number] = result
                case {"sends": number, "items": items}:
                    self._batches[number] = (items, False)
                case {"acked": _}:
                    self._acked(line)
                case {"opened": _, "seconds": seconds}:
                    self._opened(seconds)
                case {"facts": count, "in_order": in_order}:
                    self._tally.tried("G8", "facts of last lives", count)
                    if not in_order:
                        self._tally.breach("G8", f"{count} facts are not in order")
                case {"overlap": name}:
                    self._tally.breach("G5", f"{name} ran twice at the same time")
                case {"failed": text}:
                    self._tally.breach("G4", f"the process raised {text}")
        if exit_code is not None and exit_code not in (0, -9, FAILED):
            self._tally.breach("G4", f"the process ended with {exit_code}")

    def _runs(self, number: int, at: int, twin: int, stopped: bool) -> None:
        self._tally.tried("G6", "resumptions" if at else "starts")
        self._tally.tried("G5", "runs under a lock of their own")
        if stopped:
            self._tally.breach("G9", f"job {number} was {self._wants[number]}, and ran")
        if twin != TWIN * at:
            self._tally.breach("G6", f"job {number} has fields of two checkpoints: {at} and {twin}")
        if at < self._saved.get(number, 0):
            self._tally.breach("G6", f"job {number} went on from {at}; {self._saved[number]} was acknowledged")

    def _opened(self, seconds: float) -> None:
        self._tally.took("G10", "openings after a kill", seconds)
        if seconds > SLOW_SECONDS:
            self._tally.breach("G10", f"an opening took {seconds:.1f} s")

    def _acked(self, line: Line) -> None:
        number = line["number"]
        match line["acked"]:
            case "submit":
                self.known[line["id"]] = number
                self._tally.tried("G1", "submissions acknowledged")
            case "batch":
                self._batches[number] = (self._batches[number][0], True)
                self._tally.tried("G3", "batches acknowledged")
            case "pause" | "cancel":
                self._wants[number] = next((wanted for wanted, meant in ALLOWED.items() if line["status"] in meant), None)  # cancel beats pause
                self._tally.tried("G9", "commands acknowledged")

    # --- what is there ----------------------------------------------------------------------------------------------

    def check(self) -> list[Row]:
        """Open the library without running anything, and hold it against all that was told. What is on disk."""
        self._tally.tried("G1", "reopenings checked")
        try:
            folder = LibraryFolder.open(self._library, create=False, stays=False)
        except CallboardError as error:
            self._tally.breach("G1", f"the library cannot be opened again: {error}")
            return []
        try:
            reader = folder.reader()
            rows = [_row(values) for sql in (LIVE, ENDED) for values in reader.execute(sql)]
            integrity = [text for (text,) in reader.execute("PRAGMA integrity_check")]
        finally:
            folder.abandon()
        if integrity != ["ok"]:
            self._tally.breach("G1", f"integrity_check: {integrity[:3]}")
        self._stored(rows)
        self._keys(rows)
        self._intents({row.number: row for row in rows if row.number is not None})
        self._ended(rows)
        return rows

    def _stored(self, rows: list[Row]) -> None:
        ids = Counter(row.id for row in rows)
        for job_id, number in self.known.items():
            if not ids[job_id]:
                self._tally.breach("G1", f"job {number} was acknowledged, and is not stored")
        for job_id, count in ids.items():
            if count > 1:
                self._tally.breach("G4", f"job {job_id} is there {count} times")
        for name, count in Counter(row.number for row in rows if row.number).items():
            if count > 1:
                self._tally.breach("G4", f"submission {name} is stored {count} times")
        items = Counter(row.key.partition(b":")[0] for row in rows if row.key and row.key.startswith(b"batch-"))
        for number, (size, acked) in self._batches.items():
            there = items[b"batch-%d" % number]
            self._tally.tried("G3", "batches looked at")
            if there not in ((size,) if acked else (0, size)):
                self._tally.breach("G3", f"{there} of {size} items of batch {number} are stored, {'' if acked else 'not '}acknowledged")

    def _keys(self, rows: list[Row]) -> None:
        live = Counter((row.name, row.key) for row in rows if row.live and row.key is not None and row.status != "waiting")
        self._tally.tried("G7", "live keys looked at", len(live))
        for (_, key), count in live.items():
            if count > 1:
                self._tally.breach("G7", f"{count} live jobs have the key {key!r}")

    def _intents(self, rows: dict[str | None, Row]) -> None:
        for number, wanted in self._wants.items():
            row = rows.get(f"n{number}")
            if row is None or wanted is None:
                continue
            self._tally.tried("G9", "intents looked at")
            if row.status not in ALLOWED[wanted] and row.status not in ("completed", "quarantined"):
                self._tally.breach("G9", f"job {number} was {wanted}, and is {row.status}")

    def _ended(self, rows: list[Row]) -> None:
        there = {row.id: row for row in rows}
        for job_id, end in self._ends.items():
            row = there.get(job_id)
            self._tally.tried("G4", "ends looked at again")
            if row is None or row.live or (row.status, row.result) != end:
                self._tally.breach("G4", f"job {job_id} had ended as {end[0]}, and is {'gone' if row is None else row.status}")
        self._ends.update((row.id, (row.status, row.result)) for row in rows if not row.live)

    def check_quiet(self) -> None:
        """When all that could run has run: nothing is left, and everything came to what it should."""
        rows = self.check()
        children = Counter(row.parent for row in rows if row.parent is not None)
        for row in rows:
            number = int(row.number[1:]) if row.number else None
            if row.live:
                self._tally.breach("G4", f"job {row.number or row.id} is {row.status}, with nothing left to run")
            elif row.status == "completed" and number in self.steps and decode_result(row.result) != self.steps[number]:
                self._tally.breach("G4", f"job {number} came to {decode_result(row.result)!r}, not to {self.steps[number]}")
            elif row.status == "failed":
                self._tally.breach("G4", f"job {row.number or row.id} has failed")
            elif row.name == "torture.family" and row.status == "completed" and number in self.steps:
                self._tally.tried("children", "families complete")
                size = children[row.id]
                if size * (size - 1) // 2 != self.steps[number]:
                    self._tally.breach("children", f"family {number} has {size} children, their sum should be {self.steps[number]}")
        self._tally.tried("G4", "jobs brought to their end", len(rows))
        for finding in examine(self._library):
            if finding.damage:
                self._tally.breach("G15", f"doctor, of a library that nobody damaged: {finding.where}: {finding.text}")


def _row(values: tuple[object, ...]) -> Row:
    job_id, name, status, key, number, parent, result, live = values
    assert isinstance(job_id, bytes)
    own = number is not None and parent is None  # a child has it from its parent
    return Row(
        job_id.hex(), str(name), str(status), key if isinstance(key, bytes) else None, str(number) if own else None,
        parent.hex() if isinstance(parent, bytes) else None, result if isinstance(result, bytes) else None, bool(live),
    )  # fmt: skip
