"""The actor's base: who hears of an error, who lives on, and what a stop leaves behind. On real threads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from callboard.actors.actor import Actor, ActorFailed, EscapedError, RestartBudget, answer, answer_error, send
from callboard.actors.ports import AlreadySet, Future, Reply, ThreadPorts
from callboard.jobs.errors import NoSuchJob

PATIENCE = 100.0
"""Seconds until a test gives up; none of them takes long."""


@pytest.fixture
def ports() -> Iterator[ThreadPorts]:
    made = ThreadPorts()
    yield made
    pykka.ActorRegistry.stop_all(timeout=PATIENCE)
    made.close()


class Parent(Actor):
    """Passes on what it hears of its children."""

    def __init__(self, ports: ThreadPorts, heard: Future) -> None:
        super().__init__(ports)
        self.heard = heard

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        self.heard.set(message)


class Fragile(Actor):
    """Raises what it is told."""

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        if isinstance(message, BaseException):
            raise message
        answer(reply, message)


def family(ports: ThreadPorts, child: type[Actor]) -> tuple[pykka.ActorRef[Any], Future]:
    heard = ports.future()
    return child.start(ports, Parent.start(ports, heard)), heard


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit("from str()")


@pytest.mark.parametrize("error", [ValueError("bad"), RecursionError(), UnprintableError(), MemoryError()])
def test_an_error_in_an_ask_goes_to_the_asker_and_to_the_parent_and_ends_the_actor(ports: ThreadPorts, error: Exception) -> None:
    ref, heard = family(ports, Fragile)
    with pytest.raises(type(error)) as caught:
        ref.ask(error, timeout=PATIENCE)
    assert caught.value is error
    failed = heard.get(PATIENCE)
    assert failed.ref == ref and not failed.in_start
    assert failed.error.startswith(type(error).__name__)
    assert not ref.is_alive()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_exit_in_an_actor_is_the_failure_of_that_actor_only(ports: ThreadPorts, error: BaseException) -> None:
    bystander = Fragile.start(ports)
    ref, heard = family(ports, Fragile)
    with pytest.raises(EscapedError, match=type(error).__name__):
        ref.ask(error, timeout=PATIENCE)
    assert type(error).__name__ in heard.get(PATIENCE).error
    assert bystander.ask("still there", timeout=PATIENCE) == "still there"


def test_a_tell_that_raises_is_told_to_the_parent(ports: ThreadPorts) -> None:
    ref, heard = family(ports, Fragile)
    ref.tell(SystemExit("told"))
    assert heard.get(PATIENCE) == ActorFailed(ref, "EscapedError: SystemExit: told", in_start=False)


def test_the_asks_behind_a_failure_are_answered(ports: ThreadPorts) -> None:
    entered, go = ports.future(), ports.future()

    class Slow(Actor):
        def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
            entered.set()
            go.get(PATIENCE)
            raise ValueError("after the others have queued")

    ref = Slow.start(ports)
    ref.tell("fail")
    entered.get(PATIENCE)
    asks = [ref.ask(number, block=False) for number in range(3)]
    go.set()
    for ask in asks:
        with pytest.raises(pykka.ActorDeadError):
            ask.get(timeout=PATIENCE)


def test_our_own_error_is_an_answer_and_the_actor_lives(ports: ThreadPorts, caplog: pytest.LogCaptureFixture) -> None:
    ref = Fragile.start(ports)
    with pytest.raises(NoSuchJob, match="7"):
        ref.ask(NoSuchJob("no job 7"), timeout=PATIENCE)
    with caplog.at_level(logging.WARNING, "callboard"):
        ref.tell(NoSuchJob("no job 8"))
        assert ref.ask("alive", timeout=PATIENCE) == "alive"
    assert "no job 8" in caplog.text


@pytest.mark.parametrize("error", [ValueError("no disk"), SystemExit(1)])
def test_an_actor_that_fails_in_started_is_told_to_its_parent(ports: ThreadPorts, error: BaseException) -> None:
    class Stillborn(Actor):
        def started(self) -> None:
            raise error

    bystander = Fragile.start(ports)
    ref, heard = family(ports, Stillborn)
    failed = heard.get(PATIENCE)
    assert failed.in_start and failed.ref == ref and type(error).__name__ in failed.error
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("hello", timeout=PATIENCE)
    assert bystander.is_alive()


@pytest.mark.parametrize("error", [ValueError("no disk"), SystemExit(1)])
def test_an_actor_that_fails_in_stopped_is_told_to_its_parent_and_stops(ports: ThreadPorts, error: BaseException) -> None:
    class Clumsy(Actor):
        def stopped(self) -> None:
            raise error

    bystander = Fragile.start(ports)
    ref, heard = family(ports, Clumsy)
    assert ref.stop(timeout=PATIENCE)
    assert type(error).__name__ in heard.get(PATIENCE).error
    assert bystander.ask("still there", timeout=PATIENCE) == "still there"


def test_a_failed_actor_with_a_dead_parent_just_stops(ports: ThreadPorts) -> None:
    parent = Parent.start(ports, ports.future())
    ref = Fragile.start(ports, parent)
    parent.stop(timeout=PATIENCE)
    ref.tell(ValueError("nobody hears"))
    assert ref.actor_stopped.wait(PATIENCE)


def test_what_was_sent_before_a_stop_is_handled_before_it_and_stopped_comes_last(ports: ThreadPorts) -> None:
    handled: list[object] = []

    class Store(Actor):
        def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
            handled.append(message)

        def stopped(self) -> None:
            handled.append("stopped")

    ref = Store.start(ports)
    for number in range(100):
        ref.tell(number)
    ref.stop(timeout=PATIENCE)
    assert handled == [*range(100), "stopped"]


def test_a_stop_reaches_an_actor_that_waits_in_its_own_inbox(ports: ThreadPorts) -> None:
    ended = ports.future()

    class Busy(Actor):
        stop_overtakes = True

        def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
            while (envelope := self.inbox.next(PATIENCE)) is not None:
                answer(getattr(envelope.message, "reply_to", None), "seen")
            ended.set(self.inbox.stopping)

    ref = Busy.start(ports)
    ref.tell("work")
    assert ref.ask("inside", timeout=PATIENCE) == "seen"
    assert ref.stop(timeout=PATIENCE)
    assert ended.get(0) is True


def test_stop_all_of_the_host_stops_ours_last_started_first(ports: ThreadPorts) -> None:
    order: list[str] = []

    class Named(Actor):
        def __init__(self, ports: ThreadPorts, name: str) -> None:
            super().__init__(ports)
            self.name = name

        def stopped(self) -> None:
            order.append(self.name)

    for name in "abc":
        Named.start(ports, name)
    assert pykka.ActorRegistry.stop_all(timeout=PATIENCE) == [True, True, True]
    assert order == ["c", "b", "a"]


def test_an_actor_that_gets_no_thread_is_not_left_in_the_registry(ports: ThreadPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(loop: object, name: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ports, "start_loop", no_thread)
    with pytest.raises(RuntimeError, match="new thread"):
        Fragile.start(ports)
    assert pykka.ActorRegistry.get_by_class(Fragile) == []


def test_send_to_the_dead_is_no_error_of_the_sender(ports: ThreadPorts) -> None:
    ref = Fragile.start(ports)
    assert send(ref, "alive")
    ref.stop(timeout=PATIENCE)
    assert not send(ref, "dead")


def test_an_ask_is_answered_once_and_a_tell_never() -> None:
    answer(None, 1)
    answer_error(None, ValueError())
    foreign: pykka.Future[Any] = pykka.ThreadingFuture()
    for reply in (Reply(), foreign):
        answer(reply, 1)
        answer(reply, 2)
        answer_error(reply, ValueError())
        assert reply.get(timeout=0) == 1
        with pytest.raises(AlreadySet):
            reply.set(3)


def test_a_proxy_of_an_actor_still_works(ports: ThreadPorts) -> None:
    class Counter(Actor):
        count = 3

        def double(self) -> int:
            return self.count * 2

    proxy: Any = Counter.start(ports).proxy()
    assert proxy.double().get(timeout=PATIENCE) == 6
    assert proxy.count.get(timeout=PATIENCE) == 3


def test_a_budget_of_three_restarts_a_minute() -> None:
    budget = RestartBudget(limit=3, window=60.0)
    assert [budget.allow(now) for now in (0, 10, 20, 30, 59)] == [True, True, True, False, False]
    assert [budget.allow(now) for now in (60, 69, 70)] == [True, False, True]


def test_a_budget_of_none_allows_none() -> None:
    assert not RestartBudget(limit=0).allow(0.0)
