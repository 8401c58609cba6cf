"""Tells facts and readings to whoever subscribed. A slow listener loses facts, and is told so in their place; it never slows anyone else."""

from __future__ import annotations

from dataclasses import dataclass, field

import pykka

from callboard.actors.actor import Actor, send
from callboard.actors.messages import (
    CloseStream,
    FactsSince,
    HubRequest,
    OpenStream,
    Publish,
    Reading,
    Ref,
    Subscribe,
    Unsubscribe,
)  # fmt: skip
from callboard.actors.ports import Ports
from callboard.actors.store import give
from callboard.jobs.errors import LibraryClosed, UnknownMessage
from callboard.jobs.events import FactsLost, LibraryDegraded, ProgressMade
from callboard.jobs.factlog import FactLog, RawFact, build, is_end


@dataclass(slots=True, eq=False)
class Listener:
    """One subscription."""

    request: Subscribe
    lost_from: int = 0
    """First fact it could not be given since it last kept up; 0: none."""
    until_end: bool = False
    """Ends with the job."""


@dataclass(slots=True, eq=False)
class Stream:
    """One library."""

    facts: FactLog
    everything: list[Listener] = field(default_factory=list)
    by_name: dict[str, list[Listener]] = field(default_factory=dict)
    by_job: dict[bytes, list[Listener]] = field(default_factory=dict)

    def listeners(self, job_id: bytes, name: str, *, progress: bool = False) -> list[Listener]:
        """Each subscriber once, also if several of its subscriptions fit. `progress`: only those that are for readings too."""
        found = [*self.everything, *self.by_name.get(name, ()), *self.by_job.get(job_id, ())]
        if progress:
            found = [each for each in found if each.request.progress]
        return found if len(found) < 2 else list({id(each.request.subscriber): each for each in reversed(found)}.values())

    def all(self) -> list[Listener]:
        return [each for group in (self.everything, *self.by_name.values(), *self.by_job.values()) for each in group]

    def group_of(self, request: Subscribe) -> list[Listener]:
        if request.job_id is not None:
            return self.by_job.setdefault(request.job_id, [])
        return self.everything if request.name is None else self.by_name.setdefault(request.name, [])

    def remove(self, subscriber: Ref) -> int:
        before = len(self.all())
        for each in self.all():
            if each.request.subscriber is subscriber:
                each.lost_from = 0
        self.everything = [each for each in self.everything if each.request.subscriber is not subscriber]
        for groups in (self.by_name, self.by_job):
            for key in list(groups):
                groups[key] = [each for each in groups[key] if each.request.subscriber is not subscriber]  # type: ignore[index]
                if not groups[key]:  # type: ignore[index]
                    del groups[key]  # type: ignore[arg-type]
        return before - len(self.all())


REMIND_SECONDS = 0.25
"""Those who were given less than there was are looked at so often, until they can be told so: perhaps no further fact ever comes."""


@dataclass(frozen=True, slots=True, eq=False)
class Remind:
    """A timer: tell those who fell behind what they have lost."""


class HubActor(Actor):
    """One a runtime."""

    def __init__(self, ports: Ports, parent: Ref | None) -> None:
        super().__init__(ports, parent)
        self._streams: dict[bytes, Stream] = {}
        self._behind: list[tuple[Stream, Listener]] = []

    def receive(self, message: object, reply: pykka.Future[object] | None) -> None:
        match message:
            case Publish():
                stream = self._streams.get(message.stream)
                if stream is not None:
                    self._publish(stream, message)
            case Reading():
                self._read(message)
            case HubRequest():
                give(message.reply, self._request(message))
            case Remind():
                self._remind()
            case OpenStream():
                self._streams[message.stream] = Stream(FactLog(message.epoch))
            case CloseStream():
                stream = self._streams.pop(message.stream, None)
                for listener in stream.all() if stream is not None and message.error is not None else ():
                    send(listener.request.subscriber, LibraryDegraded(message.error or ""))
            case _:
                raise UnknownMessage(f"the hub has no answer to {type(message).__name__}")

    def _publish(self, stream: Stream, message: Publish) -> None:
        stream.facts.add(message.first, message.facts)
        if not (stream.everything or stream.by_name or stream.by_job):
            return
        for n, raw in enumerate(message.facts, message.first):
            _, job_id, name, _ = raw
            for listener in stream.listeners(job_id, name):
                if not self._tell(stream, listener, n, raw):
                    stream.remove(listener.request.subscriber)
            if is_end(raw) and job_id in stream.by_job:
                kept = [each for each in stream.by_job[job_id] if not each.until_end]
                if kept:
                    stream.by_job[job_id] = kept
                else:
                    del stream.by_job[job_id]

    def _tell(self, stream: Stream, listener: Listener, n: int, raw: RawFact) -> bool:
        """False if the subscriber is dead."""
        subscriber = listener.request.subscriber
        if lag(subscriber) >= listener.request.lag:
            if not listener.lost_from:
                listener.lost_from = n
                self._behind.append((stream, listener))
                if len(self._behind) == 1:
                    self._remind_later()
            return subscriber.is_alive()
        if listener.lost_from:
            lost, listener.lost_from = FactsLost(stream.facts.epoch, listener.lost_from, n - 1), 0
            send(subscriber, lost)
        return send(subscriber, build(stream.facts.epoch, n, raw))

    def _remind_later(self) -> None:
        me = self.actor_ref
        self.ports.call_later(REMIND_SECONDS, lambda: send(me, Remind()) and None)

    def _remind(self) -> None:
        behind, self._behind = self._behind, []
        for stream, listener in behind:
            subscriber = listener.request.subscriber
            if not listener.lost_from or not subscriber.is_alive():
                continue
            if lag(subscriber) >= listener.request.lag:
                self._behind.append((stream, listener))
            else:
                lost, listener.lost_from = FactsLost(stream.facts.epoch, listener.lost_from, stream.facts.last), 0
                send(subscriber, lost)
        if self._behind:
            self._remind_later()

    def _read(self, message: Reading) -> None:
        stream = self._streams.get(message.stream)
        if stream is None:
            return
        for listener in stream.listeners(message.job_id, message.name, progress=True):
            request = listener.request
            if lag(request.subscriber) < request.lag:
                send(request.subscriber, ProgressMade(message.job_id, message.name, message.progress))

    def _request(self, message: HubRequest) -> object:
        stream = self._streams.get(message.stream)
        if stream is None:
            return LibraryClosed("the library has been closed")
        request = message.request
        match request:
            case Subscribe():
                # A job's listeners go when it ends: ids are never reused, so nothing would ever reach them again.
                group = stream.group_of(request)
                standing = next((each for each in group if each.request.subscriber is request.subscriber), None)
                if standing is not None:
                    standing.request = request
                else:
                    group.append(Listener(request, until_end=request.job_id is not None))
                return stream.facts.epoch, stream.facts.last
            case Unsubscribe():
                return stream.remove(request.subscriber)
            case FactsSince():
                return stream.facts.since(request.epoch, request.n, request.limit)
            case _:
                return UnknownMessage(f"the hub has no answer to {type(request).__name__}")


def lag(subscriber: Ref) -> int:
    """How many messages wait in an actor's mailbox; 0 where it cannot be known."""
    size = getattr(subscriber.actor_inbox, "qsize", None)
    return int(size()) if size is not None else 0
