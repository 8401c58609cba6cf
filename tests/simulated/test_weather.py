"""What befalls histories from outside does so, and a message that is changed on its way is noticed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from unittest import mock

from weather import FAIR_UNTIL, Weather, unchanging

from callboard.actors.actor import Actor, send
from callboard.actors.testing.simulated_ports import SimArrivals
from callboard.actors.testing.simulation import Simulation

KINDS = ("slow", "torn", "set_clocks", "vanishing", "watched", "stopping")


@dataclass(frozen=True)
class Letter:
    lines: list[str]


class Reader(Actor):
    def receive(self, message: object, reply: object) -> None:
        pass


def changed_on_its_way(line: str | None, seed: int) -> list[str]:
    noted: list[str] = []
    with mock.patch.multiple(SimArrivals, **unchanging(noted.append)), Simulation(seed) as simulation:
        ports = simulation.boot()

        def write() -> None:
            letter = Letter(["as it was"])
            send(Reader.start(ports), letter)
            letter.lines.extend([] if line is None else [line])

        simulation.spawn(write, "writer")
        simulation.run()
    return noted


def test_a_message_that_is_changed_on_its_way_is_noticed() -> None:
    assert not any(changed_on_its_way(None, seed) for seed in range(20))
    noted = [text for seed in range(20) for text in changed_on_its_way("and a line more", seed)]
    assert noted and all("Letter" in text and "and a line more" in text for text in noted)


def test_every_weather_comes_and_the_kept_seeds_have_none() -> None:
    seen: Counter[str] = Counter()
    for seed in (*range(100), *range(FAIR_UNTIL, FAIR_UNTIL + 400)):
        weather = Weather(Simulation(seed), print)
        found = [kind for kind in KINDS if getattr(weather, kind)]
        assert not found or seed >= FAIR_UNTIL
        seen.update(found)
    assert all(10 <= seen[kind] <= 50 for kind in KINDS), seen
