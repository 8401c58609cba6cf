"""The simulator itself: a seed is a history, a crash is final, a deadlock is told, and the planted bugs are found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pykka
import pytest
from greenlet import getcurrent  # type: ignore[import-untyped]

from callboard.actors.actor import Actor, answer, send
from callboard.actors.ports import Abandoned, Ports
from callboard.actors.testing.simulation import Simulation, SimulationStuck


class Echo(Actor):
    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        answer(reply, message)


def busy_history(seed: int) -> Simulation:
    """Actors, scripts, timers, a crash and a second life."""
    with Simulation(seed) as simulation:
        for _ in range(2):
            ports = simulation.boot()
            echo = Echo.start(ports)

            def script(ports: Ports = ports, echo: pykka.ActorRef[Echo] = echo) -> None:
                for number in range(5):
                    ports.sleep(ports.random())
                    if echo.ask(number, timeout=1_000) != number:
                        raise AssertionError(number)

            simulation.spawn(script, "a")
            simulation.spawn(script, "b")
            simulation.crash_at(simulation.steps + 60)
            simulation.run()
        return simulation


# --- the same seed, the same history ----------------------------------------------------------------------------------


def test_a_seed_is_one_history() -> None:
    hashes = [busy_history(seed).trace_hash for seed in range(20)]
    assert hashes == [busy_history(seed).trace_hash for seed in range(20)]
    assert len(set(hashes)) == 20


def test_a_seed_is_one_history_in_every_process() -> None:
    program = f"import sys; sys.path.insert(0, {sys.path[0]!r})\n" + (
        "import importlib.util as u\n"
        f"spec = u.spec_from_file_location('history', {__file__!r}); module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(module.busy_history(7).trace_hash)"
    )
    seen = set()
    for hash_seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": hash_seed, "PATH": ""}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=200, check=True)
        seen.add(done.stdout.strip())
    assert seen == {busy_history(7).trace_hash}


def test_an_hour_takes_no_time_and_wakes_sleepers_in_order() -> None:
    woke: list[float] = []
    with Simulation(1) as simulation:
        ports = simulation.boot()
        for hours in (3, 1, 2):

            def sleeper(hours: int = hours) -> None:
                ports.sleep(hours * 3_600.0)
                woke.append(hours)

            simulation.spawn(sleeper, "sleeper")
        began = ports.wall()
        assert simulation.run() == "quiescent"
        assert woke == [1, 2, 3]
        assert ports.wall() - began == pytest.approx(3 * 3_600, abs=1)


def test_the_program_that_plays_fate_can_wait_too() -> None:
    with Simulation(1) as simulation:
        ports = simulation.boot()
        echo = Echo.start(ports)
        assert echo.ask("hello", timeout=60) == "hello"
        future = ports.future()
        ports.call_later(5.0, lambda: future.set("fired"))
        assert not future.wait(1.0)
        assert future.get(10.0) == "fired"
        assert simulation.run(until=lambda: True) == "until"
        assert echo.stop(timeout=1.0)


def test_rare_paths_are_taken_in_some_seeds() -> None:
    def taken(seed: int) -> int:
        with Simulation(seed) as simulation:
            ports = simulation.boot()
            return sum(ports.buggify("split the batch") for _ in range(100))

    counts = [taken(seed) for seed in range(100)]
    assert 50 < counts.count(0) < 95
    assert 0 < max(counts) < 40


# --- a crash ------------------------------------------------------------------------------------------------------------


class Diary(Actor):
    """Writes down all it does, also on its way out, into a list that outlives it."""

    def __init__(self, ports: Ports, pages: list[str], helper: pykka.ActorRef[Any] | None = None) -> None:
        super().__init__(ports)
        self.pages = pages
        self.helper = helper

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        try:
            self.ports.yield_point("work")
            if self.helper is not None:
                send(self.helper, message)
        finally:
            if self.ports.buggify("never"):  # a ghost gets no further than its first port
                pass
            self.pages.append("written")
            answer(reply)

    def stopped(self) -> None:
        self.ports.yield_point("goodbye")
        self.pages.append("stopped")


def test_a_crash_at_any_step_ends_all_that_was_going_on() -> None:
    pages: list[str] = []
    for step in range(1, 80):
        with Simulation(step) as simulation:
            ports = simulation.boot()
            echo = Echo.start(ports)
            diary = Diary.start(ports, pages, echo)

            def script(ref: pykka.ActorRef[Diary] = diary) -> None:
                while True:
                    ref.ask("work", timeout=1_000)

            simulation.spawn(script, "a")
            crash_step = simulation.steps + step
            simulation.crash_at(crash_step)
            assert simulation.run() == "crashed"
            assert simulation.steps == crash_step
            before = list(pages)
            assert not diary.is_alive() and diary not in pykka.ActorRegistry.get_all()
            assert simulation.run() == "quiescent"
        assert pages == before, f"step {step}: a dead actor wrote on"


def test_the_dead_cannot_reach_the_next_life() -> None:
    with Simulation(3) as simulation:
        ports = simulation.boot()
        heard: list[object] = []

        class Listener(Actor):
            def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
                heard.append(message)

        survivor: list[pykka.ActorRef[Any]] = []

        def script() -> None:
            try:
                ports.sleep(10.0)
            finally:
                send(survivor[0], "from a ghost")

        simulation.spawn(script, "a")
        simulation.run(until=lambda: bool(simulation.waits()))
        ports.call_later(1.0, lambda: heard.append("a timer of the dead"))
        simulation.crash()
        survivor.append(Listener.start(simulation.boot()))
        assert simulation.run() == "quiescent"
        assert simulation.now < 1.0
        survivor[0].tell("alive")
        simulation.run()
        inbox = survivor[0].actor_inbox
    assert heard == ["alive"] and not isinstance(inbox, list)
    with pytest.raises(Abandoned):
        ports.monotonic()


def test_who_asks_for_the_crash_dies_in_it() -> None:
    with Simulation(1) as simulation:
        simulation.boot()
        lived: list[str] = []

        def script() -> None:
            try:
                simulation.crash()
                lived.append("went on")
            except Exception:
                lived.append("caught it")

        simulation.spawn(script, "a")
        assert simulation.run() == "crashed"
    assert lived == []


def test_one_life_can_crash_beside_another() -> None:
    with Simulation(1) as simulation:
        first, second = simulation.boot(), simulation.boot()
        gone, stays = Echo.start(first), Echo.start(second)
        simulation.run()
        simulation.crash(first)
        assert stays.ask("here", timeout=1.0) == "here"
        assert not gone.is_alive()


def test_a_crash_calls_those_who_clean_up_after_a_process() -> None:
    with Simulation(1) as simulation:
        dropped: list[int] = []
        simulation.on_crash.append(lambda: dropped.append(simulation.boots[-1].number))
        simulation.boot()
        simulation.crash()
        simulation.boot()
        simulation.crash()
    assert dropped == [1, 2]


def test_a_ghost_leaves_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    class Sleeper(Actor):
        def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
            self.ports.sleep(1.0)

    class LateStarter(Actor):
        def started(self) -> None:
            self.ports.sleep(1.0)

    with Simulation(1) as simulation:
        ports = simulation.boot()
        parent = Echo.start(ports)
        Sleeper.start(ports, parent).tell("sleep")
        LateStarter.start(ports, parent)
        simulation.run(until=lambda: len(simulation.waits()) == 3)
        simulation.crash()
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_a_ghost_that_catches_everything_is_left_alone() -> None:
    with Simulation(1) as simulation:
        ports = simulation.boot()

        def stubborn() -> None:
            while True:
                try:
                    ports.sleep(1.0)
                except BaseException:
                    pass

        simulation.spawn(stubborn, "stubborn")
        simulation.run(until=lambda: bool(simulation.waits()))
        simulation.crash()


# --- what goes wrong is told ------------------------------------------------------------------------------------------------


def test_a_deadlock_is_told_with_who_waits_for_what() -> None:
    with Simulation(5) as simulation:
        ports = simulation.boot()
        left, right = ports.future(), ports.future()

        def wait_and_set(mine: Any, other: Any) -> Callable[[], None]:
            def script() -> None:
                mine.get(None)
                other.set()

            return script

        simulation.spawn(wait_and_set(left, right), "philosopher")
        simulation.spawn(wait_and_set(right, left), "philosopher")
        with pytest.raises(SimulationStuck, match=r"deadlock.*seed 5") as caught:
            simulation.run()
    assert "philosopher-1 waits for future-1" in str(caught.value)
    assert "philosopher-2 waits for future-2" in str(caught.value)


def test_a_circle_of_actors_that_ask_each_other_is_named() -> None:
    class Asking(Actor):
        def receive(self, message: Any, reply: pykka.Future[Any] | None) -> None:
            message.ask("and you?" if reply is None else self.actor_ref, timeout=None)

    class Echo(Actor):
        def receive(self, message: Any, reply: pykka.Future[Any] | None) -> None:
            other.ask(other, timeout=None)

    with Simulation(3) as simulation:
        ports = simulation.boot()
        other, echo = Asking.start(ports), Echo.start(ports)
        simulation.run()
        other.tell(echo)
        with pytest.raises(SimulationStuck, match="deadlock") as caught:
            simulation.run()
    assert "Asking-1, which waits for 1/Echo-1, which waits for 1/Asking-1" in str(caught.value) or (
        "Echo-1, which waits for 1/Asking-1, which waits for 1/Echo-1" in str(caught.value)
    )


def test_a_circle_of_threads_and_locks_is_named() -> None:
    with Simulation(4) as simulation:
        ports = simulation.boot()
        lock, threads = ports.lock(), list[Any]()

        def holds() -> None:
            with lock:
                ports.sleep(1.0)
                threads[0].join(None)

        def wants() -> None:
            ports.sleep(0.5)
            with lock:
                pass

        simulation.spawn(holds, "holder")
        threads.append(simulation.spawn(wants, "wanting"))
        with pytest.raises(SimulationStuck, match="a circle: 1/holder-1, which waits for 1/wanting-1, which waits for 1/holder-1"):
            simulation.run()


def test_an_actor_that_waits_for_messages_is_no_deadlock_but_one_that_waits_for_a_future_is() -> None:
    class Waiting(Actor):
        def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
            if message == "future":
                self.ports.future().get(None)
            self.inbox.next(None)

    with Simulation(1) as simulation:
        Waiting.start(simulation.boot()).tell("inbox")
        assert simulation.run() == "quiescent"
        Waiting.start(simulation.boots[0]).tell("future")
        with pytest.raises(SimulationStuck, match="deadlock"):
            simulation.run()


def test_what_never_ends_is_told() -> None:
    with Simulation(1) as simulation:
        ports = simulation.boot()

        def spin() -> None:
            while True:
                ports.yield_point("spin")

        simulation.spawn(spin, "spinner")
        with pytest.raises(SimulationStuck, match="1,000 steps"):
            simulation.run(max_steps=1_000)


def test_what_a_script_raises_comes_with_the_seed_and_the_trace() -> None:
    with Simulation(42) as simulation:
        ports = simulation.boot()

        def script() -> None:
            ports.yield_point("nearly")
            raise ValueError("script")

        simulation.spawn(script, "a")
        with pytest.raises(ValueError, match="script") as caught:
            simulation.run()
    (note,) = caught.value.__notes__
    assert "seed 42" in note and "yield nearly" in note


# --- planted bugs -------------------------------------------------------------------------------------------------------------


class Ledger(Actor):
    """Stores numbers on a disk that outlives it, with or without a defect."""

    def __init__(self, ports: Ports, disk: list[object], hasty: bool) -> None:
        super().__init__(ports)
        self.disk = disk
        self.hasty = hasty

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        if self.hasty:
            answer(reply, message)
        self.disk.append(message)
        if not self.hasty:
            answer(reply, message)


def lost_acknowledgements(seed: int, *, hasty: bool) -> set[object]:
    disk: list[object] = []
    acknowledged: list[object] = []
    with Simulation(seed) as simulation:
        ref = Ledger.start(simulation.boot(), disk, hasty)

        def script() -> None:
            for number in range(5):
                acknowledged.append(ref.ask(number, timeout=1_000))

        simulation.spawn(script, "a")
        simulation.crash_at(5 + int(simulation.rng.random() * 30))
        simulation.run()
    return set(acknowledged) - set(disk)


def test_an_acknowledgement_before_the_write_is_found() -> None:
    assert any(lost_acknowledgements(seed, hasty=True) for seed in range(100))
    assert not any(lost_acknowledgements(seed, hasty=False) for seed in range(100))


def lost_update(seed: int, *, locked: bool) -> bool:
    with Simulation(seed) as simulation:
        ports = simulation.boot()
        lock = ports.lock()
        total = [0]

        def add() -> None:
            for _ in range(3):
                if locked:
                    with lock:
                        seen = total[0]
                        ports.yield_point("between")
                        total[0] = seen + 1
                else:
                    seen = total[0]
                    ports.yield_point("between")
                    total[0] = seen + 1

        simulation.spawn(add, "a")
        simulation.spawn(add, "b")
        simulation.run()
        return total[0] != 6


def test_a_race_is_found_and_a_lock_ends_it() -> None:
    assert any(lost_update(seed, locked=False) for seed in range(20))
    assert not any(lost_update(seed, locked=True) for seed in range(100))


def test_a_thread_runs_on_the_stack_of_one_that_is_over_and_sees_nothing_of_it() -> None:
    left: ContextVar[str] = ContextVar("left", default="")
    seen: list[tuple[object, str]] = []

    def script(ports: Ports, steps: int) -> None:
        seen.append((getcurrent(), left.get()))
        left.set("by another one")
        for _ in range(steps):
            ports.yield_point("on and on")

    for steps, end in ((1, "quiescent"), (100, "crashed"), (1, "quiescent")):
        with Simulation(0) as simulation:
            ports = simulation.boot()
            simulation.spawn(lambda ports=ports, steps=steps: script(ports, steps), "script")  # type: ignore[misc]
            simulation.crash_at(50)
            assert simulation.run() == end
    assert {what for _, what in seen} == {""}
    assert len(seen) == 3 and len({id(stack) for stack, _ in seen}) == 1
