"""The least history that breaks an invariant: what the host does, where the process dies, and the few steps at which the order matters.

A seed cannot be made smaller, so here everything is drawn from short lists that hypothesis shrinks. Without a choice the schedule is a tame
one: whoever runs goes on until he waits, and no time passes while somebody can go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from history_jobs import Steps
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from invariants import breaches
from scenario import Scenario, scenario

from callboard.actors.testing.simulation import Simulation, SimulationStuck
from callboard.jobs.submission import Submission

TAME = 0.5
"""What is drawn where nothing was chosen: go on, first do and then step, the one in the middle, no time passes."""

WAYS = {"another goes on": 0.95, "its effect comes late": 0.3, "time passes": 0.01}
"""Choices, and the number that each is to the scheduler."""

VERBS = ("sleep", "pause", "resume", "cancel", "submit")
"""What the host does with its first job, which it submits first; or it submits another."""


class Choice(NamedTuple):
    """One draw that is not tame, behind so many that are."""

    behind: int
    way: str


class Least(NamedTuple):
    """A history, as short as it could be made."""

    script: tuple[str, ...]
    crash: int | None
    """The step of the first life at which the process dies; None: it does not."""
    choices: tuple[Choice, ...]
    breaches: list[str]
    told: list[str]
    """What happened at each choice."""

    def __str__(self) -> str:
        end = "and lives on" if self.crash is None else f"and dies at step {self.crash}"
        return "\n".join((f"the host does: {', '.join(['submit', *self.script])}; {end}", *self.told, *self.breaches))


class Chosen(Random):
    """Draws that were chosen, among tame ones."""

    def __init__(self, choices: Sequence[Choice], simulation: Simulation) -> None:
        super().__init__(0)
        self._places: dict[int, str] = {}
        self._simulation, self._draws = simulation, 0
        self.told: list[str] = []
        place = 0
        for choice in choices:
            place += choice.behind + 1
            self._places[place] = choice.way

    def random(self) -> float:
        """The next draw."""
        self._draws += 1
        way = self._places.get(self._draws)
        if way is None:
            return TAME
        simulation = self._simulation
        thread = "nobody" if simulation.current is None else simulation.current.name
        before = simulation.trace[-1].split(None, 3)[-1] if simulation.trace else "the start"
        self.told.append(f"at step {simulation.steps}, {thread} ({before}): {way}")
        return WAYS[way]


def least_history(verbs: Sequence[str] = VERBS, *, tries: int = 400) -> Least | None:
    """Look for a history that breaks an invariant, and make it as short as can be; None: none was found."""
    histories = st.tuples(
        st.lists(st.sampled_from(verbs), max_size=4),
        st.none() | st.integers(1, 120),
        st.lists(st.builds(Choice, st.integers(0, 60), st.sampled_from(tuple(WAYS))), max_size=8),
    )
    how = settings(
        max_examples=tries, database=None, deadline=None, derandomize=True, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
    )  # fmt: skip
    try:
        script, crash, choices = find(histories, lambda drawn: bool(played(*drawn).breaches), settings=how)
    except NoSuchExample:
        return None
    return played(script, crash, choices)


def played(script: Sequence[str], crash: int | None, choices: Sequence[Choice]) -> Least:
    """Play a history: what it breaks, and what its choices were in it."""
    chosen: list[Chosen] = []
    found: list[str] = []
    try:
        with scenario(judged=False) as told:
            simulation = told.simulation
            chosen.append(Chosen(choices, simulation))
            simulation.rng = chosen[0]
            setattr(simulation, "_stay", 0.9)  # noqa: B010
            setattr(simulation, "_slowness", 0)  # noqa: B010
            simulation.spawn(script_of(told, script), "host")
            if crash is not None:
                simulation.crash_at(simulation.steps + crash)
            if simulation.run() == "crashed":
                told.boot()
            simulation.crash_at(1 << 60)
            told.quiet()
            found += breaches(told.observed.entries)
    except SimulationStuck as stuck:
        found.append(str(stuck).splitlines()[0])
    return Least(tuple(script), crash, tuple(choices), found, chosen[0].told if chosen else [])


def script_of(told: Scenario, verbs: Sequence[str]) -> Callable[[], None]:
    """A thread of the host that does one thing after the other with its first job."""

    def run() -> None:
        host, job = told.host, b""
        for verb in ("submit", *verbs):
            if verb == "submit":
                handle = host.submit(Submission(Steps(3, 1, 0.05)))
                job = job or (b"" if handle is None else handle.id)
            elif verb == "sleep":
                host.ports.sleep(0.3)
            elif job:
                host.command(verb, job, lambda library, verb=verb, job=job: getattr(library, verb)(job))

    return run
