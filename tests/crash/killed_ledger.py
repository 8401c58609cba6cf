"""What a library was asked for and has acknowledged over all its lives, kept by a process that is not killed, and held against its disk."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import apsw
from killed_work import CHILDREN, ITEMS, PART, result_of

from callboard.persistence.jobdata import decode_result

Line = dict[str, Any]
MEMORY = Path("/dev/shm")
USER = 1
"""The bit of a pause by the user."""
PARTS = frozenset((*range(0, ITEMS, PART), ITEMS))
LIVE = "SELECT id, requested_by, name, status, intent, pausers, key, after_id, claim, crashes FROM jobs ORDER BY id"
FIELDS = "SELECT job_id, name, value FROM job_checkpoints WHERE kind = 'field' AND name IN ('at', 'twin')"


class Live(NamedTuple):
    """A row of `jobs`."""

    id: bytes
    who: str
    name: str
    status: str
    intent: str
    pausers: int
    key: bytes | None
    after: bytes | None
    claim: int
    crashes: int


@dataclass
class Stored:
    """What is on disk."""

    live: dict[str, Live] = field(default_factory=dict)
    ended: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Whole rows, by who asked; the first columns are id, name, status, result, error."""
    twice: list[str] = field(default_factory=list)
    saved: dict[bytes, dict[str, int]] = field(default_factory=dict)
    """Fields in checkpoints, by id of the job."""
    integrity: str = "ok"

    def id_of(self, who: str) -> bytes | None:
        if who in self.live:
            return self.live[who].id
        return self.ended[who][0] if who in self.ended else None


def stored(library: Path, *, thoroughly: bool = False) -> Stored | None:
    """Looked at in a copy, without callboard, as the dead process has left it. None if there is no library yet."""
    found = Stored()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as copy:
        for name in ("jobs.db", "jobs.db-wal"):
            if (library / name).exists():
                shutil.copyfile(library / name, f"{copy}/{name}")
        connection = apsw.Connection(f"{copy}/jobs.db")
        try:
            if not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'job_history'").get:
                return None
            names = [name for row in connection.execute(LIVE) for name in (found.live.setdefault(row[1], Live(*row)).who,)]
            for row in connection.execute("SELECT requested_by, id, name, status, result, error, * FROM job_history"):
                names.append(row[0])
                found.ended[row[0]] = row[1:]
            for job, name, value in connection.execute(FIELDS):
                found.saved.setdefault(job, {})[name] = int(str(decode_result(value)))
            if thoroughly:
                found.integrity = connection.execute("PRAGMA integrity_check").get
        finally:
            connection.close()
    found.twice = [name for name, count in Counter(names).items() if count > 1]
    return found


class Ledger:
    """Of one library. `hear` takes what its processes tell, `hold` is asked after each death."""

    def __init__(self) -> None:
        self.acks = 0
        self.phase = "start"
        """Where the process is, or was when it died."""
        self.open_batches: list[int] = []
        """Those that were begun and never answered as complete."""
        self._before = Stored()
        self._opened = False
        self._ids: dict[str, str] = {}
        self._refused: set[str] = set()
        self._saved: Counter[int] = Counter()
        self._ended: dict[str, Line] = {}
        self._wanted: dict[str, str] = {}
        """pause, resume or cancel, by who; "?" while one is asked for and not answered."""
        self._doubt: dict[str, str] = {}
        """What was wanted before the command that is not answered."""
        self._duplicates: set[str] = set()
        self._running: set[int] = set()
        self._parts: Counter[str] = Counter()
        self._batches: dict[int, list[str]] = {}
        self._numbers: dict[str, int] = {}
        self._children: dict[int, list[str]] = {}
        self._breaches: list[str] = []

    # --- what is told -----------------------------------------------------------------------------------------------

    def hear(self, line: Line) -> None:
        kind = next(iter(line))
        getattr(self, f"_hear_{kind}")(line)

    def _hear_phase(self, line: Line) -> None:
        self.phase = line["phase"]
        self._opened |= self.phase == "work"

    def _hear_defect(self, line: Line) -> None:
        self._breaches.append(line["defect"])

    def _hear_asks(self, line: Line) -> None:
        number = line["number"]
        if line["asks"] == "batch":
            self._numbers[line["batch"]] = number
            if number not in self.open_batches:
                self.open_batches.append(number)
        elif line["asks"] != "submit":
            self._doubt.setdefault(f"n{number}", self._wanted.get(f"n{number}", "run"))
            self._wanted[f"n{number}"] = "?"

    def _hear_acked(self, line: Line) -> None:
        self.acks += 1
        kind: str = line["acked"]
        number: int = line["number"]
        if kind == "submit":
            if line["duplicate"]:
                self._duplicates.add(line["id"])
            else:
                self._ids[f"n{number}"] = line["id"]
        elif kind == "batch":
            self._hear_batch(line)
        else:
            self._doubt.pop(f"n{number}", None)
            # To a job that is being cancelled a pause and a resume say nothing; of a parent at its end they are for the children.
            means: str = {"paused": "rest", "cancelling": "cancel", "ending": "?"}.get(str(line["status"]), kind)
            self._wanted[f"n{number}"] = kind if means == "rest" and kind != "pause" else means

    def _hear_batch(self, line: Line) -> None:
        ids, before = line["ids"], self._batches.get(line["number"])
        if not line["complete"] or len(ids) != ITEMS or before not in (None, ids):
            self._breaches.append(f"a batch is answered with {line}, it was {before}")
        self._batches[line["number"]] = ids
        if line["number"] in self.open_batches:
            self.open_batches.remove(line["number"])

    def _hear_refused(self, line: Line) -> None:
        who = f"n{line['number']}"
        if line["refused"] == "submit":
            self._refused.add(who)
        else:
            self._wanted[who] = self._doubt.pop(who, "run")

    def _hear_part(self, line: Line) -> None:
        self.acks += 1
        self._parts[line["part"]] = max(self._parts[line["part"]], line["stored"])

    def _hear_runs(self, line: Line) -> None:
        number = line["runs"]
        who = f"n{number}"
        if number in self._running:
            self._breaches.append(f"two runs of it at once: {line}")
        self._running.add(number)
        if self._wanted.get(who) == "rest" or who in self._before.ended or who in self._ended:
            self._breaches.append(f"it runs though it was paused, or had ended: {line}")
        if "at" in line and (line["at"] < self._saved[number] or line["twin"] != 7 * line["at"]):
            self._breaches.append(f"it goes on from {line}, and saved was {self._saved[number]}")

    def _hear_left(self, line: Line) -> None:
        self._running.discard(line["left"])

    def _hear_saved(self, line: Line) -> None:
        self.acks += 1
        self._saved[line["saved"]] = line["at"]

    def _hear_spawned(self, line: Line) -> None:
        self.acks += 1
        before = self._children.setdefault(line["spawned"], line["ids"])
        if before != line["ids"] or len(before) != CHILDREN:
            self._breaches.append(f"its children are {line}, they were {before}")

    def _hear_ended(self, line: Line) -> None:
        self.acks += 1
        self._ended[f"n{line['ended']}"] = line

    # --- what is there ----------------------------------------------------------------------------------------------

    def hold(self, there: Stored | None) -> list[str]:
        """What does not agree with what is on disk; empty: nothing. The process must be dead."""
        self._running.clear()
        if there is None:
            return [*self._breaches, *(["the library is gone"] if self._opened else [])]
        found = [*self._breaches, *self._kept(there), *self._steered(there), *self._saves(there), *self._families(there), *self._keys(there)]
        self._before = there
        self._doubt.clear()
        for who, row in there.live.items():
            wanted = "cancel" if row.intent == "cancel" else "pause" if row.pausers & USER else "run"
            self._wanted[who] = "rest" if row.status == "paused" and row.pausers & USER else wanted
            if row.id in there.saved and who[1:].isdigit():
                self._saved[int(who[1:])] = max(self._saved[int(who[1:])], there.saved[row.id].get("at", 0))
        return found

    def _kept(self, there: Stored) -> Iterator[str]:
        if there.integrity != "ok":
            yield f"integrity: {there.integrity}"
        for who in there.twice:
            yield f"{who} is stored twice"
        for who, job in self._ids.items():
            at = there.id_of(who)
            if at is None or at.hex() != job:
                yield f"{who} was acknowledged as {job}, and is {at and at.hex()}"
        for who in self._refused:
            if there.id_of(who) is not None:
                yield f"{who} was refused, and is stored"
        ids = {row.id.hex() for row in there.live.values()} | {row[0].hex() for row in there.ended.values()}
        for job in self._duplicates:
            if job not in ids:
                yield f"a submission was answered with {job}, which is not there"
        for who, row in self._before.ended.items():
            if there.ended.get(who) != row:
                yield f"{who} had ended as {row}, and is now {there.ended.get(who)}"
        for who, told in self._ended.items():
            row = there.ended.get(who, ())
            if not row or row[2].removesuffix("_with_errors") != told["status"]:
                yield f"it had ended, {told}, and is {row or there.live.get(who)}"
        for who, row in there.live.items():
            if row.status == "quarantined" and row.crashes < 3:
                yield f"{row} was quarantined too early"
            if who in self._before.live and row.claim < self._before.live[who].claim:
                yield f"{row} was claimed {self._before.live[who].claim} times"

    def _steered(self, there: Stored) -> Iterator[str]:
        """The last intent that was answered stands, over all deaths; one that was asked for and not answered may."""
        for who, wanted in self._wanted.items():
            row = there.live.get(who)
            if row is None or wanted == "?":
                if row is None and wanted == "rest" and who not in self._before.ended:
                    yield f"{who} was paused, and has ended: {there.ended.get(who)}"
                continue
            good = {
                "run": row.intent != "cancel" and not row.pausers & USER,
                "resume": not row.pausers & USER and row.intent != "cancel",
                "pause": bool(row.pausers & USER) and row.intent == "pause",
                "rest": bool(row.pausers & USER) and row.intent == "pause" and row.status == "paused",
                "cancel": row.intent == "cancel",
            }[wanted]
            if not good and not (row.key is not None or "/" in who):
                yield f"wanted was {wanted}, and it is {row}"

    def _saves(self, there: Stored) -> Iterator[str]:
        for who, row in there.live.items():
            fields = there.saved.get(row.id, {})
            if row.name == "killed.steps" and who[1:].isdigit():
                at = fields.get("at", 0)
                if at < self._saved[int(who[1:])] or fields.get("twin", 0) != 7 * at:
                    yield f"its checkpoint has {fields}, acknowledged was {self._saved[int(who[1:])]}: {row}"

    def _families(self, there: Stored) -> Iterator[str]:
        """Parts of batches and sets of children are there as a whole, each once."""
        items: dict[str, list[int]] = {}
        for who in (*there.live, *there.ended):
            for sign in "#/":
                if sign in who:
                    items.setdefault(who.split(sign)[0] + sign, []).append(int(who.split(sign)[1]))
        for name, numbers in items.items():
            if sorted(numbers) != list(range(len(numbers))) or len(numbers) not in (PARTS if name.endswith("#") else (CHILDREN,)):
                yield f"of {name} there are {sorted(numbers)}"
        for batch, number in self._numbers.items():
            if len(items.get(f"n{number}#", ())) < self._parts[batch]:
                yield f"of batch {number} {self._parts[batch]} items were acknowledged, there are {items.get(f'n{number}#')}"
        for number, ids in self._batches.items():
            yield from self._as_given(there, [f"n{number}#{at}" for at in range(ITEMS)], ids)
        for number, ids in self._children.items():
            yield from self._as_given(there, [f"n{number}/{at}" for at in range(CHILDREN)], ids)

    def _as_given(self, there: Stored, names: list[str], ids: list[str]) -> Iterator[str]:
        for who, job in zip(names, ids, strict=True):
            at = there.id_of(who)
            if at is None or at.hex() != job:
                yield f"{who} was acknowledged as {job}, and is {at and at.hex()}"

    def _keys(self, there: Stored) -> Iterator[str]:
        for of, line in (("live", False), ("waiting", True)):
            keys = Counter(row.key for row in there.live.values() if row.key is not None and (row.after is not None) == line)
            for key, count in keys.items():
                if count > 1:
                    yield f"{count} {of} jobs have the key {key!r}"

    # --- between two lives, and at the end --------------------------------------------------------------------------

    def steerable(self) -> list[tuple[str, int]]:
        """(id, number) of jobs that somebody may steer in the next life."""
        return [(row.id.hex(), int(who[1:])) for who, row in self._before.live.items() if who[1:].isdigit() and row.key is None]

    def release(self) -> None:
        """From here on whatever was paused is let go on."""
        self._wanted.clear()

    def finished(self, there: Stored) -> list[str]:
        """What is wrong once everything was let go on to its end."""
        found = [f"it never ended: {row}" for row in there.live.values()]
        for who, (_, name, status, result, error, *_rest) in there.ended.items():
            expected = result_of(name, who)
            if status != "cancelled" and (status != "completed" or decode_result(result) != expected):
                found.append(f"{who} ended as {status} with {decode_result(result)}, {error}, and not with {expected}")
        if self.open_batches:
            found.append(f"batches that were never completed: {self.open_batches}")
        return found
