"""How far parents without an actor are: those that wait to be run again, or for their end. Told at the pace of all readings, not per child."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from callboard.actors.actor import send
from callboard.actors.messages import FamiliesLoaded, LoadFamilies, LookAtFamilies, Reading, Ref
from callboard.actors.ports import Ports
from callboard.actors.stage import LibraryParts
from callboard.jobs.progress import TELL_EVERY, Progress, ProgressGauge
from callboard.persistence.families import HeldParent, progress_blob
from callboard.persistence.writes import ParentProgress


class FamilyNews:
    """Belongs to one library actor. What it has told it keeps until the parent has left."""

    def __init__(self, ports: Ports, me: Ref, parts: LibraryParts, write: Callable[[ParentProgress], None]) -> None:
        self._ports, self._me, self._parts, self._write = ports, me, parts, write
        self._batches: dict[bytes, None] = {}
        self._jobs: dict[bytes, None] = {}
        self._parents: dict[bytes, None] = {}
        self._waits = False
        """A timer is set, or the reader is asked."""
        self._some = True
        """There may be such a parent; nothing is asked where there is none."""
        self._gauges: dict[bytes, ProgressGauge] = {}

    def held(self, job_id: bytes) -> None:
        """It has left its actor and waits for its children: what they told since it last looked nobody else has looked at."""
        self._some = True
        self._parents[job_id] = None
        self._look_later()

    def gone(self, job_id: bytes) -> None:
        """It has ended, or goes on."""
        self._gauges.pop(job_id, None)

    def shrunk(self, batches: Iterable[bytes]) -> None:
        """Some jobs of these have ended."""
        if self._some:
            self._batches.update(dict.fromkeys(batches))
            self._look_later()

    def advanced(self, job_id: bytes) -> None:
        """This job's reading is on disk."""
        if self._some:
            self._jobs[job_id] = None
            self._look_later()

    def look(self) -> None:
        """It is time."""
        asked = LoadFamilies(tuple(self._batches), tuple(self._jobs), tuple(self._parents), self._me)
        self._batches.clear()
        self._jobs.clear()
        self._parents.clear()
        if not send(self._parts.reader, asked):
            self._waits = False

    def loaded(self, message: FamiliesLoaded) -> None:
        self._waits, self._some = False, message.any or bool(self._parents)
        for parent in message.parents:
            self._tell(parent)
        self._look_later()

    def _tell(self, parent: HeldParent) -> None:
        if parent.progress is not None and not parent.progress.of_children and parent.progress != Progress():
            return  # its author reports
        now = self._ports.monotonic()
        gauge = self._gauges.get(parent.job_id)
        if gauge is None:
            gauge = self._gauges[parent.job_id] = ProgressGauge(parent.progress)
        gauge.of_children(parent.family.ended, parent.family.total, parent.family.fractions, now)
        if gauge.untold:
            send(self._parts.hub, Reading(self._parts.stream, parent.job_id, parent.name, gauge.tell(now)))
        if gauge.due_to_write(now):
            self._write(ParentProgress(parent.job_id, progress_blob(gauge.written(now))))

    def _look_later(self) -> None:
        if not self._waits and (self._batches or self._jobs or self._parents):
            self._waits = True
            self._ports.call_later(TELL_EVERY, self._ring)

    def _ring(self) -> None:
        send(self._me, LookAtFamilies())
