"""Every piece of a hand goes to exactly one, wherever the dealer's steps fall between the actor's."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.queue import Hand

quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)
scripts = st.lists(st.sampled_from(["take", "back", "odd", "none", "all, one by one"]), max_size=12)


@given(st.integers(0, 12), scripts, st.lists(st.booleans(), max_size=60))
@quick
def test_every_piece_goes_to_exactly_one_of_the_two(size: int, script: list[str], interleaved: list[bool]) -> None:
    """`interleaved`: whether the actor takes a piece at each of the moments at which the dealer looks at one."""
    hand, taken, back = Hand(range(size)), list[int](), list[int]()
    moments = iter(interleaved)
    done = False

    def actor_takes() -> None:
        nonlocal done
        piece = hand.take()
        if piece is None:
            done = True
            return
        assert not done, "an actor that found nothing says that it is done: nothing may come after"
        taken.append(piece)

    def wanted(piece: int, step: str) -> bool:
        if next(moments, False):
            actor_takes()
        return step == "all, one by one" or (step == "odd" and piece % 2 == 1)

    for step in script:
        if step == "take":
            actor_takes()
        elif step == "back":
            back += hand.take_back()
        else:
            some = hand.take_back_if(lambda piece, step=step: wanted(piece, step))
            assert some == sorted(some)
            back += some
        assert not (done and len(hand))
    while (piece := hand.take()) is not None:
        assert not done
        taken.append(piece)
    assert taken == sorted(taken), "the actor takes in order"
    assert sorted(taken + back) == list(range(size))
    assert len(hand) == 0


def test_an_actor_that_takes_while_some_are_taken_back_still_finds_the_others() -> None:
    hand, taken = Hand("abc"), list[str | None]()

    def not_wanted(piece: str) -> bool:
        taken.append(hand.take())
        return False

    assert hand.take_back_if(not_wanted) == []
    assert taken == ["a", "b"]  # of the three it had a look at, two were still there to be looked at
    assert hand.take() == "c"


def test_a_piece_that_the_actor_takes_while_it_is_wanted_back_stays_with_the_actor() -> None:
    hand = Hand("a")
    assert hand.take_back_if(lambda piece: hand.take() == "a") == []


def test_what_is_taken_back_comes_in_order_and_the_rest_stays_in_order() -> None:
    hand = Hand(range(10))
    assert hand.take() == 0
    assert hand.take_back_if(lambda piece: piece % 3 == 0) == [3, 6, 9]
    assert (len(hand), hand.take(), hand.take()) == (6, 1, 2)
    assert hand.take_back() == [4, 5, 7, 8]
    assert hand.take() is None


def test_a_predicate_that_raises_loses_nothing() -> None:
    hand = Hand(range(3))
    with pytest.raises(ZeroDivisionError):
        hand.take_back_if(lambda piece: 1 // piece > 9)
    assert hand.take_back() == [0, 1, 2]


def test_two_threads_never_get_the_same_piece_and_none_is_lost() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(60):
            hand, taken, back = Hand(range(200)), list[int](), list[int]()

            def act(hand: Hand[int] = hand, taken: list[int] = taken) -> None:
                while (piece := hand.take()) is not None:
                    taken.append(piece)

            actor = threading.Thread(target=act)
            actor.start()
            for third in (0, 1, 2):
                back += hand.take_back_if(lambda piece, third=third: piece % 3 == third and piece % 2 == 0)
            actor.join()
            assert len(hand) == 0
            assert sorted(taken + back) == list(range(200))
    finally:
        sys.setswitchinterval(interval)
