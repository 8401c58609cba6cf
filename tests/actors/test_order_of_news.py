"""In which order a subscriber hears of a job: that it has started, then what it reports, then its end. Under many schedules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykka

from callboard import Job, JobContext, Runtime
from callboard.actors.actor import Actor
from callboard.actors.messages import Subscribe
from callboard.actors.ports import Ports
from callboard.actors.testing.simulation import Simulation
from callboard.jobs.events import JobCompleted, JobStarted, ProgressMade

SCHEDULES = 40


@dataclass
class Reporting(Job, name="test_order_of_news.reporting"):
    def run(self, ctx: JobContext) -> None:
        ctx.report_count(1, 1)


class Recorder(Actor):
    def __init__(self, ports: Ports, heard: list[type]) -> None:
        super().__init__(ports)
        self._heard = heard

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        if isinstance(message, (JobStarted, ProgressMade, JobCompleted)):
            self._heard.append(type(message))


def heard_in(seed: int, folder: Path) -> list[type]:
    """What is heard of a job that reports at once."""
    heard: list[type] = []

    def script() -> None:
        with Runtime(workers=1, ports=ports) as runtime:
            library = runtime.open_library(folder / f"{seed}.library", control=False)
            recorder = Recorder.start(ports, heard)
            library.ask(Subscribe(recorder, progress=True))
            library.submit(Reporting()).wait(timeout=200)
        recorder.stop(timeout=200)

    with Simulation(seed, time_lapse=0) as simulation:
        ports = simulation.boot()
        simulation.spawn(script, "script")
        simulation.run()
    return heard


def test_no_reading_of_a_job_is_heard_before_it_has_started_nor_behind_its_end(tmp_path: Path) -> None:
    assert {tuple(heard_in(seed, tmp_path)) for seed in range(SCHEDULES)} == {(JobStarted, ProgressMade, JobCompleted)}
