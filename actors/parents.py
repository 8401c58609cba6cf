"""What the library does for parents: tells them of their children's ends, and carries what is wanted of them down to their children."""

from __future__ import annotations

from collections.abc import Callable

from callboard.actors.actor import send
from callboard.actors.messages import ChildrenEnded, PartSpawned, Ref, SpawnPart, WatchChildren
from callboard.jobs.lifecycle import Status
from callboard.persistence.aftermath import Aftermath, EndedLater
from callboard.persistence.writes import Answer, Cascade, Cascaded, Steered, Write

CASCADE_ROWS = 2_500
"""Children told in one commit, at most."""


HELD = frozenset({Status.ENDING, Status.AWAITING})
"""Of a job that has left its actor: nothing is told yet, since nothing has ended, and nothing is in line."""


class Parents:
    """Belongs to one library actor."""

    def __init__(
        self, write: Callable[[Write, object], None], steered: Callable[[Steered], None], ended: Callable[[EndedLater], None]
    ) -> None:
        """`write` sends a write of many rows to the store; the others are told of each job that was steered, or has ended."""
        self._write, self._steered, self._ended = write, steered, ended
        self._watchers: dict[bytes, tuple[Ref, bytes]] = {}
        """Batch of children → the parent's actor, and the parent."""
        self._of_parent: dict[bytes, list[bytes]] = {}
        self._cascading = False

    def spawn(self, message: SpawnPart) -> None:
        self._write(message.write, message)

    def spawned(self, request: object, answer: Answer) -> None:
        if isinstance(request, SpawnPart):
            send(request.reply_to, PartSpawned(answer))

    def watch(self, message: WatchChildren) -> None:
        self._watchers[message.ids.batch_id] = message.actor, message.job_id
        self._of_parent.setdefault(message.job_id, []).append(message.ids.batch_id)

    def forget(self, job_id: bytes) -> None:
        """The job has left its actor."""
        for batch_id in self._of_parent.pop(job_id, ()):
            self._watchers.pop(batch_id, None)

    def brought_about(self, aftermath: Aftermath) -> None:
        """What a group has done beside what it was asked for."""
        for later in aftermath.ended:
            self._ended(later)
        if self._watchers:
            for batch_id in aftermath.shrunk:
                watcher = self._watchers.get(batch_id)
                if watcher is not None:
                    send(watcher[0], ChildrenEnded(batch_id))
        if aftermath.cascades and not self._cascading:
            self._go_down()

    def cascaded(self, stored: Answer) -> None:
        """A step down is on disk; an error: the next group says again that there is something to be done."""
        self._cascading = False
        if not isinstance(stored, Cascaded):
            return
        for child in stored.changed:
            self._steered(child)
        if stored.more:
            self._go_down()

    def _go_down(self) -> None:
        self._cascading = True
        self._write(Cascade(CASCADE_ROWS), None)

