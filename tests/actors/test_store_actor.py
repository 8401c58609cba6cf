"""The store's actor: what it was given is committed, whatever comes in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pykka
import pytest

from callboard.actors.actor import Actor, send, tell_stop
from callboard.actors.messages import Commit
from callboard.actors.store import CountSuspects, StoreActor
from callboard.actors.testing.simulation import Simulation
from callboard.jobs.errors import StoreUnavailable
from callboard.persistence.aftermath import Aftermath, nothing_besides
from callboard.persistence.writes import Answer, Claim, InsertChunk, Write


class Hearing(Actor):
    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None: ...


class Remembering:
    """A store that writes nothing."""

    def __init__(self) -> None:
        self.commits: list[list[Write]] = []

    def commit(self, writes: Sequence[Write]) -> list[Answer]:
        self.commits.append(list(writes))
        return [StoreUnavailable("nothing is stored here") for _ in writes]

    def take_aftermath(self) -> Aftermath:
        return nothing_besides()

    def suspects(self) -> int:
        return 0

    def paused_for_disk(self) -> bool:
        return False

    def tidy(self) -> None: ...


@pytest.mark.parametrize("behind", [(), ("what no store takes",)], ids=["a stop", "nonsense and a stop"])
def test_what_was_gathered_is_committed_before_a_stop_is_followed(behind: tuple[object, ...]) -> None:
    claims = [Claim(number) for number in range(3)]
    with Simulation(1) as simulation:
        ports, store = simulation.boot(), Remembering()
        hearing = Hearing.start(ports)
        actor = StoreActor.start(ports, None, cast(Any, store))
        for write in claims:
            send(actor, Commit((write,), hearing))
        for message in behind:
            send(actor, message)
        tell_stop(actor)
        simulation.run()
    assert [write for commit in store.commits for write in commit] == claims


def test_a_part_of_a_batch_is_committed_also_when_a_question_came_behind_it() -> None:
    part = InsertChunk(cast(Any, None))
    with Simulation(1) as simulation:
        ports, store = simulation.boot(), Remembering()
        hearing = Hearing.start(ports)
        actor = StoreActor.start(ports, None, cast(Any, store))
        send(actor, Commit((part,), hearing))
        send(actor, CountSuspects(hearing))
        simulation.run()
    assert store.commits == [[part]]
