"""The contract of the ports: the same small actor systems on both twins, on threads and under many seeds of the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pykka
import pytest

from callboard.actors.actor import Actor, answer, send
from callboard.actors.mailbox import Asked, Control, Inbox
from callboard.actors.ports import AlreadySet, Ports, Reply, ThreadPorts
from callboard.actors.testing.simulation import Simulation
from callboard.jobs.errors import NoAnswer

PATIENCE = 100.0
"""Seconds until a test gives up; none of them takes long."""


class World(Protocol):
    """A twin, and a way to play scripts in it at the same time, each like a thread of the host."""

    ports: Ports

    def play(self, *scripts: Callable[[], object]) -> None: ...


class ThreadWorld:
    def __init__(self) -> None:
        self.ports: Ports = ThreadPorts()

    def play(self, *scripts: Callable[[], object]) -> None:
        errors: list[BaseException] = []

        def guarded(script: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                try:
                    script()
                except BaseException as error:
                    errors.append(error)

            return run

        threads = [self.ports.thread(guarded(script), "script") for script in scripts]
        assert all(thread.join(PATIENCE) for thread in threads)
        if errors:
            raise errors[0]


class SimulatedWorld:
    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.ports: Ports = simulation.boot()

    def play(self, *scripts: Callable[[], object]) -> None:
        for script in scripts:
            self.simulation.spawn(script, "script")
        self.simulation.run()


@pytest.fixture(params=["threads", *range(12)], ids=lambda param: param if param == "threads" else f"seed-{param}")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param != "threads":
        with Simulation(request.param, time_lapse=0) as simulation:
            yield SimulatedWorld(simulation)
        return
    threads = ThreadWorld()
    yield threads
    pykka.ActorRegistry.stop_all(timeout=PATIENCE)
    threads.ports.close()


# --- the actors -------------------------------------------------------------------------------------------------------


class Counter(Actor):
    """Passes a number to and fro with its peer until it is 0, then tells the end."""

    def __init__(self, ports: Ports, end: Any) -> None:
        super().__init__(ports)
        self.end = end

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        match message:
            case (pykka.ActorRef() as peer, int() as number) if number:
                send(peer, (self.actor_ref, number - 1))
            case (_, 0):
                self.end.set("done")


class Bank(Actor):
    """Answers a deposit only when a commit comes, as the store does."""

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports)
        self.waiting: list[pykka.Future[Any] | None] = []

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        match message:
            case "commit":
                for number, waiter in enumerate(self.waiting):
                    answer(waiter, number)
                answer(reply, len(self.waiting))
            case _:
                self.waiting.append(reply)


class Urgent(Control):
    """A control message."""


class Recorder(Actor):
    """Keeps what it is told, from when it is let go on."""

    def __init__(self, ports: Ports, go: Any, entered: Any = None) -> None:
        super().__init__(ports)
        self.go = go
        self.entered = ports.future() if entered is None else entered
        self.seen: list[str] = []

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        self.entered.set()
        self.go.get(PATIENCE)
        if message != "start":
            self.seen.append(type(message).__name__)
        if reply is not None:
            answer(reply, tuple(self.seen))

    def stopped(self) -> None:
        self.seen.append("stopped")


class HastyRecorder(Recorder):
    """The same, but a stop goes in front of the data."""

    stop_overtakes = True


# --- the contract -------------------------------------------------------------------------------------------------------


def test_two_actors_play_ping_pong(world: World) -> None:
    end = world.ports.future()
    first, second = Counter.start(world.ports, end), Counter.start(world.ports, end)
    first.tell((second, 25))
    world.play(lambda: end.get(PATIENCE))
    assert end.get(0) == "done"


def test_an_ask_can_be_answered_after_later_messages(world: World) -> None:
    bank = Bank.start(world.ports)

    def script() -> None:
        deposits = [bank.ask("deposit", block=False) for _ in range(5)]
        assert bank.ask("commit", timeout=PATIENCE) == 5
        assert pykka.get_all(deposits, timeout=PATIENCE) == [0, 1, 2, 3, 4]

    world.play(script)


def test_asks_of_several_scripts_at_once_are_each_answered(world: World) -> None:
    class Doubler(Actor):
        def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
            assert isinstance(message, int)
            answer(reply, message * 2)

    doubler = Doubler.start(world.ports)

    def script() -> None:
        for number in range(10):
            assert doubler.ask(number, timeout=PATIENCE) == number * 2

    world.play(script, script, script)


def test_a_control_message_overtakes_what_waits(world: World) -> None:
    go = world.ports.future()
    ref = Recorder.start(world.ports, go)

    def script() -> None:
        for message in ("start", 1, 2, Urgent(), 3):
            ref.tell(message)
        go.set()
        assert ref.ask("what?", timeout=PATIENCE) == ("Urgent", "int", "int", "int", "str")

    world.play(script)


def test_a_stop_is_handled_in_its_place(world: World) -> None:
    go = world.ports.future()
    ref = Recorder.start(world.ports, go)
    actor = ref._actor_weakref()
    assert actor is not None

    def script() -> None:
        for number in range(20):
            ref.tell(number)
        go.set()
        assert ref.stop(timeout=PATIENCE)

    world.play(script)
    assert actor.seen == ["int"] * 20 + ["stopped"]


def test_a_stop_that_overtakes_leaves_the_data_undone_and_answers_its_asks(world: World) -> None:
    go, entered = world.ports.future(), world.ports.future()
    ref = HastyRecorder.start(world.ports, go, entered)

    def script() -> None:
        ref.tell("start")
        entered.get(PATIENCE)
        ask = ref.ask("never seen", block=False)
        stop = ref.stop(block=False)
        assert isinstance(ref.actor_inbox, Inbox) and ref.actor_inbox.stopping
        go.set()
        assert stop.get(timeout=PATIENCE)
        with pytest.raises(pykka.ActorDeadError):
            ask.get(timeout=PATIENCE)

    world.play(script)


def test_a_stopped_actor_answers_no_ask_takes_no_tell_and_is_stopped_once(world: World) -> None:
    ref = Bank.start(world.ports)

    def script() -> None:
        assert ref.stop(timeout=PATIENCE) is True
        assert ref.stop(timeout=PATIENCE) is False
        with pytest.raises(pykka.ActorDeadError):
            ref.ask("anyone?", timeout=PATIENCE)
        with pytest.raises(pykka.ActorDeadError):
            ref.tell("hello")
        assert send(ref, "hello") is False

    world.play(script)
    assert ref not in pykka.ActorRegistry.get_all()


def test_an_exit_in_one_actor_leaves_the_others(world: World) -> None:
    class Leaver(Actor):
        def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
            raise SystemExit("job code")

    bank, leaver = Bank.start(world.ports), Leaver.start(world.ports)

    def script() -> None:
        with pytest.raises(RuntimeError, match="SystemExit: job code"):
            leaver.ask("work", timeout=PATIENCE)
        assert bank.ask("commit", timeout=PATIENCE) == 0

    world.play(script)


def test_an_actor_can_wait_in_its_own_inbox(world: World) -> None:
    empty = world.ports.future()

    class Job(Actor):
        def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
            assert self.inbox.next(0.001) is None
            empty.set()
            results = []
            while len(results) < 3:
                envelope = self.inbox.next(PATIENCE)
                assert envelope is not None and isinstance(envelope.message, Asked)
                results.append(envelope.message.message)
                answer(envelope.message.reply_to, len(results))
            answer(reply, results)

    job = Job.start(world.ports)

    def script() -> None:
        outcome = job.ask("run", block=False)
        empty.get(PATIENCE)
        assert [job.ask(letter, timeout=PATIENCE) for letter in "abc"] == [1, 2, 3]
        assert outcome.get(timeout=PATIENCE) == ["a", "b", "c"]

    world.play(script)


# --- futures ------------------------------------------------------------------------------------------------------------


def test_the_first_set_of_a_future_wins_and_all_who_wait_get_it(world: World) -> None:
    future = world.ports.future()
    wins: list[str] = []
    got: list[str] = []

    def setter(name: str) -> Callable[[], None]:
        return lambda: wins.append(name) if future.set(name) else None

    def getter() -> None:
        got.append(future.get(PATIENCE))

    world.play(getter, setter("a"), getter, setter("b"), getter)
    assert len(wins) == 1 and got == wins * 3
    assert future.set_error(ValueError()) is False
    assert future.done()


def test_a_future_raises_the_error_it_was_set_to(world: World) -> None:
    future = world.ports.future()
    assert future.set_error(KeyError("lost")) is True
    for _ in range(2):
        with pytest.raises(KeyError, match="lost"):
            future.get(0)


def test_a_future_that_is_not_set_is_no_answer_in_time(world: World) -> None:
    future = world.ports.future()

    def script() -> None:
        for timeout in (0, -1, 0.002):
            with pytest.raises(NoAnswer):
                future.get(timeout)
        assert future.wait(0) is False
        with pytest.raises(pykka.Timeout):
            world.ports.pykka_future().get(timeout=0.002)

    world.play(script)
    assert future.set(1) and future.get(None) == 1


def test_callbacks_of_a_future_are_made_once_also_when_it_is_set_already_and_may_raise(world: World) -> None:
    future = world.ports.future()
    called: list[str] = []

    def bad(_: object) -> None:
        called.append("bad")
        raise SystemExit

    def adder() -> None:
        future.add_done_callback(bad)
        future.add_done_callback(lambda done: called.append(done.get(0)))

    world.play(adder, lambda: future.set("value"), adder)
    assert sorted(called) == ["bad", "bad", "value", "value"]


def test_a_pykka_future_is_set_once_and_can_be_mapped(world: World) -> None:
    future = world.ports.pykka_future()
    doubled = future.map(lambda value: value * 2)
    both = future.join(doubled)
    future.set(4)
    assert isinstance(future, Reply)
    assert (doubled.get(timeout=0), both.get(timeout=0)) == (8, [4, 8])
    with pytest.raises(AlreadySet):
        future.set(5)
    with pytest.raises(AlreadySet):
        doubled.set(5)
    with pytest.raises(AlreadySet):
        future.set_get_hook(lambda _: 5)


# --- time, threads, locks, chance -----------------------------------------------------------------------------------------


def test_timers_call_in_the_order_of_their_times_and_not_when_cancelled(world: World) -> None:
    quickly: list[list[str]] = []

    def script() -> None:
        called: list[str] = []
        end = world.ports.future()
        began = world.ports.monotonic()
        world.ports.call_later(0.06, lambda: end.set())
        withdrawn = world.ports.call_later(0.03, lambda: called.append("withdrawn"))
        world.ports.call_later(0.04, lambda: called.append("late"))
        world.ports.call_later(0.02, lambda: called.append("soon"))
        world.ports.call_later(0.0, lambda: called.append("now"))
        withdrawn.cancel()
        withdrawn.cancel()
        quick = world.ports.monotonic() - began < 0.01
        assert end.get(PATIENCE) is None
        if quick:  # else their times are in another order
            quickly.append(called)

    while not quickly:
        world.play(script)
    assert quickly == [["now", "soon", "late"]]


def test_a_timer_set_later_can_be_due_first(world: World) -> None:
    def script() -> None:
        world.ports.call_later(3_000.0, lambda: None)
        for _ in range(3):
            world.ports.sleep(0.002)  # time for the timer thread to fall asleep
            future = world.ports.future()
            world.ports.call_later(0.0, future.set)
            assert future.get(PATIENCE) is None

    world.play(script)


def test_cancelled_timers_do_not_pile_up() -> None:
    ports = ThreadPorts()
    kept = [ports.call_later(3_000.0 + number, lambda: None) for number in range(10)]
    for number in range(10_000):
        ports.call_later(1_000.0 + number, lambda: None).cancel()
    assert len(kept) <= len(ports._timers._heap) < 200
    ports.close()


def test_a_timer_that_raises_does_not_stop_the_others(world: World) -> None:
    end = world.ports.future()

    def bad() -> None:
        raise SystemExit

    def script() -> None:
        world.ports.call_later(0.0, bad)
        world.ports.call_later(0.01, lambda: end.set("next"))
        assert end.get(PATIENCE) == "next"

    world.play(script)


def test_closed_ports_make_no_more_calls(world: World) -> None:
    called: list[str] = []
    took: list[float] = []
    future = world.ports.future()

    def script() -> None:
        began = world.ports.monotonic()
        world.ports.call_later(0.04, lambda: called.append("set before"))
        world.ports.close()
        took.append(world.ports.monotonic() - began)
        world.ports.call_later(0.0, lambda: called.append("set after")).cancel()
        world.ports.call_later(0.0, lambda: called.append("set after"))
        with pytest.raises(NoAnswer):
            future.get(0.08)

    world.play(script)
    assert called == [] or (took[0] >= 0.04 and called == ["set before"])  # which was due before they were closed


def test_time_goes_forward_by_what_was_slept(world: World) -> None:
    def script() -> None:
        began, wall = world.ports.monotonic(), world.ports.wall()
        world.ports.sleep(0.02)
        assert world.ports.monotonic() - began >= 0.0199
        assert wall > 1_500_000_000

    world.play(script)


def test_a_thread_can_be_joined_with_a_limit(world: World) -> None:
    go = world.ports.future()

    def script() -> None:
        thread = world.ports.thread(lambda: go.get(PATIENCE), "server")
        assert thread.join(0.001) is False
        go.set()
        assert thread.join(PATIENCE) is True
        assert thread.join(0) is True

    world.play(script)


def test_a_lock_lets_one_in(world: World) -> None:
    lock = world.ports.lock()
    inside = 0

    def script() -> None:
        nonlocal inside
        for _ in range(20):
            with lock:
                inside += 1
                assert inside == 1
                world.ports.yield_point("inside")
                inside -= 1

    world.play(script, script, script)


def test_chance_is_within_its_bounds(world: World) -> None:
    assert all(0 <= world.ports.random() < 1 for _ in range(100))
    draws = {world.ports.random_bytes(16) for _ in range(100)}
    assert len(draws) == 100 and {len(draw) for draw in draws} == {16}
    assert isinstance(world.ports.buggify("rare"), bool)


def test_stop_all_of_the_host_stops_our_actors(world: World) -> None:
    refs = [Bank.start(world.ports) for _ in range(3)]
    world.play(lambda: pykka.ActorRegistry.stop_all(timeout=PATIENCE))
    assert not any(ref.is_alive() for ref in refs)
