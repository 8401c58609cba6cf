"""Leave to run jobs: never more than there is, a suspect alone, and everyone who waits gets a turn."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from callboard.jobs.queue import SlotPool

LIBRARIES = "ABCD"
libraries = st.sampled_from(LIBRARIES)


class Library:
    """What a library does with its slots: gives back free ones when called, the others as its jobs end."""

    def __init__(self) -> None:
        self.wanted = self.held = self.busy = 0
        self.alone = "no"
        self.recalled = False


class Libraries(RuleBasedStateMachine):
    """Libraries that keep to the protocol, in any order of steps."""

    @initialize(size=st.integers(1, 5))
    def start(self, size: int) -> None:
        self.pool: SlotPool[str] = SlotPool(size)
        self.all = {name: Library() for name in LIBRARIES}

    # --- what a library does ---

    @rule(name=libraries, slots=st.integers(0, 6))
    def asks(self, name: str, slots: int) -> None:
        self.pool.ask(name, slots)
        self.all[name].wanted = slots
        self._grant()

    @precondition(lambda self: any(each.alone == "no" for each in self.all.values()))
    @rule(data=st.data())
    def asks_to_be_alone(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name, each in self.all.items() if each.alone == "no"]))
        library = self.all[name]
        library.alone = "asked"
        self._give_back(name, library.held - library.busy)
        self.pool.ask_alone(name)
        self._grant()

    @rule(name=libraries, jobs=st.integers(1, 3))
    def begins_jobs(self, name: str, jobs: int) -> None:
        library = self.all[name]
        if library.alone != "asked" and not library.recalled:
            library.busy = min(library.held, library.busy + jobs)

    @rule(name=libraries)
    def ends_a_job(self, name: str) -> None:
        library = self.all[name]
        if not library.busy:
            return
        library.busy -= 1
        if library.alone == "granted":
            self._ends_alone(name)
        elif library.recalled or library.alone == "asked":
            self._give_back(name, 1)
        self._grant()

    @rule(name=libraries)
    def closes(self, name: str) -> None:
        self.pool.forget(name)
        self.all[name] = Library()
        self._grant()

    def _give_back(self, name: str, slots: int) -> None:
        self.pool.give_back(name, slots)
        self.all[name].held -= slots
        self.all[name].recalled = False

    def _ends_alone(self, name: str) -> None:
        self._give_back(name, 1)
        self.all[name].alone = "no"
        self.pool.end_alone(name)

    def _grant(self) -> None:
        """What the dispatcher does after each message."""
        for name, slots, alone in self.pool.grant():
            library = self.all[name]
            assert slots > 0
            library.held += slots
            if alone:
                assert library.alone == "asked"
                library.alone = "granted"
                library.busy = 1
            else:
                assert library.held <= library.wanted
            library.recalled = False
        for name in self.pool.recall():
            assert self.all[name].held, "who has nothing cannot give anything"
            assert self.all[name].alone != "granted", "a suspect is not called back: it ends"
            self.all[name].recalled = True

    # --- what always holds ---

    @invariant()
    def no_more_is_held_than_there_is(self) -> None:
        assert sum(each.held for each in self.all.values()) <= self.pool.size

    @invariant()
    def who_is_alone_is_alone(self) -> None:
        alone = [name for name, each in self.all.items() if each.alone == "granted"]
        if alone:
            assert {name: each.held for name, each in self.all.items() if each.held} == {alone[0]: 1}
            assert len(alone) == 1

    @invariant()
    def nothing_lies_idle_that_somebody_wants(self) -> None:
        free = self.pool.size - sum(each.held for each in self.all.values())
        somebody_alone = any(each.alone != "no" for each in self.all.values())
        assert somebody_alone or not free or all(each.held >= each.wanted for each in self.all.values())

    @invariant()
    def who_wants_to_be_alone_is_waited_for(self) -> None:
        asked = [each for each in self.all.values() if each.alone == "asked"]
        if asked and not any(each.alone == "granted" for each in self.all.values()):
            assert any(each.held for each in self.all.values()), "nobody is there, so one of them must have been let in"
            assert all(each.recalled for each in self.all.values() if each.held)

    @rule()
    def when_jobs_end_everyone_who_waits_gets_a_turn(self) -> None:
        waiting = {name for name, each in self.all.items() if each.wanted and not each.held}
        alone = {name for name, each in self.all.items() if each.alone == "asked"}
        for _ in range(3 * len(LIBRARIES)):
            for name, library in self.all.items():
                if library.alone == "granted":
                    self._ends_alone(name)
                    library.busy = 0
                elif library.recalled:
                    library.busy = 0
                    self._give_back(name, library.held)
                else:
                    continue
                self._grant()
                waiting -= {other for other, each in self.all.items() if each.held}
                alone -= {other for other, each in self.all.items() if each.alone == "granted"}
        assert not alone, f"{alone} never ran alone"
        assert not waiting, f"{waiting} never got a slot"


def test_whatever_libraries_do_nobody_gets_too_much_and_everybody_gets_a_turn() -> None:
    bounds = settings(max_examples=50, stateful_step_count=30, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(Libraries, settings=bounds)


def test_slots_are_shared_evenly_and_in_order_of_asking() -> None:
    pool: SlotPool[str] = SlotPool(7)
    for name in "ABC":
        pool.ask(name, 5)
    assert pool.grant() == [("A", 3, False), ("B", 2, False), ("C", 2, False)]
    assert pool.grant() == []


def test_nobody_gets_more_than_it_wants() -> None:
    pool: SlotPool[str] = SlotPool(10)
    pool.ask("A", 1)
    pool.ask("B", 3)
    assert pool.grant() == [("A", 1, False), ("B", 3, False)]


@pytest.mark.parametrize("size", [1, 2])
def test_more_libraries_than_slots_take_turns(size: int) -> None:
    pool: SlotPool[str] = SlotPool(size)
    for name in "ABC":
        pool.ask(name, 1)
    turns: list[str] = []
    holding: list[str] = []
    for _ in range(9):
        granted = [name for name, _, _ in pool.grant()]
        turns += granted
        holding += granted
        assert set(pool.recall()) == set(holding)
        pool.give_back(holding.pop(0), 1)
    assert turns[:9] == list("ABCABCABC")


def test_asking_again_keeps_the_turn() -> None:
    pool: SlotPool[str] = SlotPool(1)
    pool.ask("A", 1)
    pool.ask("B", 1)
    pool.ask("A", 2)
    assert pool.grant() == [("A", 1, False)]


def test_slots_are_called_back_only_if_somebody_has_none() -> None:
    pool: SlotPool[str] = SlotPool(2)
    pool.ask("A", 2)
    pool.grant()
    assert pool.recall() == []
    pool.ask("B", 1)
    assert pool.grant() == []
    assert pool.recall() == ["A"]
    pool.give_back("A", 1)
    assert pool.grant() == [("B", 1, False)]
    assert pool.recall() == [], "who holds fewer than it wants, but some, waits for nobody"


def test_a_suspect_waits_for_all_others_and_all_others_for_it() -> None:
    pool: SlotPool[str] = SlotPool(2)
    pool.ask("A", 1)
    pool.ask("B", 1)
    pool.grant()
    pool.ask_alone("B")
    assert pool.grant() == []
    assert pool.recall() == ["A", "B"]
    pool.give_back("A", 1)
    assert pool.grant() == []
    pool.give_back("B", 1)
    assert pool.grant() == [("B", 1, True)]
    assert pool.grant() == []
    assert pool.recall() == []
    pool.give_back("B", 1)
    pool.end_alone("B")
    assert pool.grant() == [("A", 1, False), ("B", 1, False)]


def test_a_library_that_goes_takes_nothing_with_it() -> None:
    pool: SlotPool[str] = SlotPool(1)
    pool.ask_alone("A")
    pool.ask("B", 1)
    assert pool.grant() == [("A", 1, True)]
    pool.forget("A")
    assert pool.grant() == [("B", 1, False)]
