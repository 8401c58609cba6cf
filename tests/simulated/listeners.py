"""A host's actors: one hears every fact in its own mailbox, one submits by message. What they hear is written to the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pykka
from disk import BatchRow, Row
from observed import Logged, Observed, Told

from callboard.actors.actor import Actor, send
from callboard.actors.machine import Ports
from callboard.actors.messages import Answered, Submit
from callboard.jobs.events import BatchEnded, BatchSubmitted, Fact, FactsLost, LibraryDegraded
from callboard.jobs.submission import Submission, Submitted

if TYPE_CHECKING:
    from host import Host


@dataclass(frozen=True, slots=True)
class Caught:
    """To the listener: what was told before it began to listen."""

    facts: tuple[Fact | FactsLost, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """To the listener: set this when all that came before is noted."""

    future: Any


@dataclass(frozen=True, slots=True)
class Burst:
    """To the sender: submit these, none waiting for another."""

    submissions: tuple[Submission, ...]


class Listener(Actor):
    """Subscribes to everything."""

    def __init__(
        self, ports: Ports, observed: Observed, life: int, look: Callable[[bytes], Row | None], look_at_batch: Callable[[bytes], BatchRow | None]
    ) -> None:
        """`look`: what is on disk of a job, `look_at_batch`: of a batch; LookupError if the library has been closed."""
        super().__init__(ports)
        self._observed, self._life, self._look, self._look_at_batch = observed, life, look, look_at_batch
        self._early: list[Fact] | None = []

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        match message:
            case Fact():
                if self._early is None:
                    self._note(message)
                else:
                    self._early.append(message)
            case Caught():
                early, self._early = self._early or [], None
                for fact in (*message.facts, *early):
                    if isinstance(fact, Fact):
                        self._note(fact)
            case Drain():
                message.future.set(None)
            case FactsLost() | LibraryDegraded():
                self._observed.add(Logged(self._life, f"the listener was told {message}"))
            case _:
                pass

    def _note(self, fact: Fact) -> None:
        try:
            if isinstance(fact, (BatchSubmitted, BatchEnded)):
                self._observed.add(Told(self._life, fact, None, batch=self._look_at_batch(fact.batch_id)))
            else:
                self._observed.add(Told(self._life, fact, self._look(fact.job_id)))
        except LookupError:
            self._observed.add(Told(self._life, fact, None, seen=False))


class Sender(Actor):
    """Submits with `reply_to`, many on their way at once; the answers come into its mailbox."""

    def __init__(self, ports: Ports, host: Host) -> None:
        super().__init__(ports)
        self._host = host
        self._sent: list[tuple[Submit, int]] = []

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        host = self._host
        match message:
            case Burst():
                for submission in message.submissions:
                    submit = Submit(submission, reply_to=self.actor_ref)
                    self._sent.append((submit, host.ask_to_submit(submission)))
                    library = host.library
                    if library is not None:
                        send(library.ref, submit)
            case Answered():
                number = next(number for submit, number in self._sent if submit is message.request)
                if isinstance(message.value, Submitted):
                    host.submitted(number, message.value.job_id, message.value.duplicate)
                elif message.error is not None:
                    host.refused(number, message.error)
            case _:
                pass
