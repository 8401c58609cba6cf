"""The actor all of ours are made of: it never dies unheard, never takes another actor down, and answers when the answer is true.

What pykka leaves open (an error in a tell, an exit in user code, a tell to the dead, an error at the start, no supervision) has its
home here. pykka's own loop runs unmodified; only its three hooks for implementors are filled in.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pykka

from callboard.actors.mailbox import Asked, Control, Inbox
from callboard.actors.ports import Abandoned, AlreadySet, Ports, Reply
from callboard.jobs.errors import CallboardError, error_text

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActorFailed(Control):
    """Told to the parent: an actor died of an error."""

    ref: pykka.ActorRef[Any]
    """The dead actor."""
    error: str
    """Type and message of what it died of."""
    in_start: bool
    """It died in `started()`, before its first message."""


class EscapedError(RuntimeError):
    """A SystemExit or its like came out of an actor's code. In pykka's hands it would stop every actor of the process."""


class Actor(pykka.Actor):
    """Base of callboard's actors. A subclass has `receive`, one `match`, and if need be `started` and `stopped`.

    An error of callboard's own out of `receive` is an answer: the asker gets it (a tell's is logged), the actor lives. Any other is
    a defect: the asker gets it, the parent gets `ActorFailed`, the actor stops, and the asks in its inbox get pykka.ActorDeadError.
    """

    stop_overtakes: ClassVar[bool] = False
    """A stop goes in front of the data in the inbox. If not, what was sent before the stop is handled before it."""

    inbox: Inbox

    def __init__(self, ports: Ports, parent: pykka.ActorRef[Any] | None = None) -> None:
        self.ports = ports
        self.parent = parent
        super().__init__()

    # --- for subclasses -------------------------------------------------------------------------------------------------

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        """Handle one message. `reply` is set for an ask: `answer` it now or later, but once and always."""
        raise NotImplementedError(f"{type(self).__name__}.receive")

    def started(self) -> None:
        """On the actor's thread, before the first message. What it raises is told to the parent, and the actor stops."""

    def stopped(self) -> None:
        """On the actor's thread, after the last message of an actor that was stopped, not of one that failed."""

    # --- what pykka calls -----------------------------------------------------------------------------------------------

    def _create_actor_inbox(self) -> Inbox:  # type: ignore[override]  # pykka calls it on the instance, which has the ports
        self.inbox = self.ports.inbox(stop_overtakes=self.stop_overtakes)
        return self.inbox

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return Reply()

    def _start_actor_loop(self) -> None:
        try:
            self.ports.start_loop(self._actor_loop, type(self).__name__)
        except BaseException:
            # No thread to be had. Left in the registry, it would keep the host's stop_all() waiting for ever.
            pykka.ActorRegistry.unregister(self.actor_ref)
            self.actor_stopped.set()
            self.inbox.close()
            raise

    def on_start(self) -> None:
        self._guarded(self.started, in_start=True)

    def on_stop(self) -> None:
        self._guarded(self.stopped, in_start=False)

    def _guarded(self, hook: Callable[[], None], *, in_start: bool) -> None:
        try:
            hook()
        except Abandoned:
            self.actor_stopped.set()
        except BaseException as error:
            self._tell_parent(error, in_start=in_start)
            if isinstance(error, Exception):
                raise
            raise EscapedError(error_text(error)) from error

    def on_receive(self, message: Any) -> None:
        reply: pykka.Future[Any] | None = None
        if type(message) is Asked:
            message, reply = message
        try:
            self.receive(message, reply)
        except CallboardError as error:
            if reply is None:
                log.warning("%s: %s was refused: %s", type(self).__name__, type(message).__name__, error_text(error))
            answer_error(reply, error)
        except Abandoned:
            self.actor_stopped.set()
        except Exception as error:
            answer_error(reply, error)
            raise
        except BaseException as error:
            escaped = EscapedError(error_text(error))
            answer_error(reply, escaped)
            raise escaped from error

    def on_failure(self, exception_type: Any, exception_value: BaseException | None, traceback: Any) -> None:
        if exception_value is not None:
            self._tell_parent(exception_value, in_start=False)

    def _tell_parent(self, error: BaseException, *, in_start: bool) -> None:
        if self.parent is not None:
            send(self.parent, ActorFailed(self.actor_ref, error_text(error), in_start))


# --- speaking to actors that may be gone -----------------------------------------------------------------------------


def send(ref: pykka.ActorRef[Any], message: object) -> bool:
    """Tell, but a dead actor is no error: False then, and a line in the debug log."""
    try:
        ref.tell(message)
    except pykka.ActorDeadError:
        log.debug("dead letter: %s to %s", type(message).__name__, ref.actor_class.__name__)
        return False
    return True


def tell_stop(ref: pykka.ActorRef[Any]) -> None:
    """Have an actor stop, without waiting for it; one that has stopped is no error."""
    try:
        ref.stop(block=False)
    except pykka.ActorDeadError:
        log.debug("%s had stopped", ref.actor_class.__name__)


def answer(reply: pykka.Future[Any] | None, value: object = None) -> None:
    """Answer an ask. Nothing for a tell (None), and nothing if it has been answered already."""
    if reply is not None:
        try:
            reply.set(value)
        except AlreadySet:
            log.debug("an ask was answered twice")


def answer_error(reply: pykka.Future[Any] | None, error: BaseException) -> None:
    """Answer an ask with an error, which its `get` raises. Otherwise as `answer`."""
    if reply is not None:
        try:
            reply.set_exception((type(error), error, error.__traceback__))
        except AlreadySet:
            log.debug("an ask was answered twice")


# --- supervision: the part that only decides ----------------------------------------------------------------------------


class RestartBudget:
    """How often a parent may start a failed actor again: at most `limit` times in any `window` seconds."""

    def __init__(self, limit: int = 3, window: float = 60.0) -> None:
        self.limit = limit
        self.window = window
        self._restarts: deque[float] = deque()

    def allow(self, now: float) -> bool:
        """Whether one more restart at `now` (monotonic seconds) is within the budget; if so it is counted."""
        while self._restarts and self._restarts[0] <= now - self.window:
            self._restarts.popleft()
        if len(self._restarts) >= self.limit:
            return False
        self._restarts.append(now)
        return True
