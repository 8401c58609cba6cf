"""How what happens is shown while it happens: a bar on a terminal, lines elsewhere, JSON on request. All but JSON goes to standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from callboard.actors.frontends import json_view
from callboard.actors.frontends.pace import Pace
from callboard.actors.frontends.wording import escaped, fact_text, percent, progress_text, shortened
from callboard.actors.machine import Ports
from callboard.jobs.events import ENDS, Fact, JobPaused, JobQuarantined, JobQueued, JobRequeued, ProgressMade
from callboard.jobs.identity import id_text
from callboard.jobs.progress import Progress
from callboard.jobs.record import JobRecord

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

LINE_SECONDS = 1.0
"""Least time between two lines of progress of one job …"""
WORTH_PERCENT = 10
QUIET_SECONDS = 10.0
"""… and after so long there is one even if less than a tenth was done since."""
BARS_MOST = 10
"""Jobs with a bar at the same time."""
NAME_WIDTH = 24


class Screen(Protocol):
    """Where events of one or many jobs are shown."""

    def begin(self, record: JobRecord) -> None:
        """The job as it stands when it is first looked at."""
        ...

    def event(self, event: object) -> None:
        """A fact, a reading, or what else a listener is told."""
        ...

    def note(self, text: str) -> None:
        """A remark for people; JSON has none."""
        ...

    def close(self) -> None:
        """Clear away what moves. Harmless twice."""
        ...


def screen_for(ports: Ports, *, as_json: bool, many: bool = False) -> Screen:
    """JSON if asked for, bars on a terminal, else lines. `many`: of more than one job, so each line says which."""
    if as_json:
        return JsonScreen()
    return BarScreen(ports, many) if sys.stderr.isatty() else LineScreen(ports, many)


class JsonScreen:
    """One object a line on standard output."""

    def begin(self, record: JobRecord) -> None:
        self._say({"event": "job", **json_view.record_view(record, owned=True)})

    def event(self, event: object) -> None:
        self._say(json_view.event_view(event))

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass

    def _say(self, view: object) -> None:
        print(json_view.line(view), flush=True)


class LineScreen:
    """Lines: each fact, and of progress the first reading and then one a second at most, as a tenth more is done or ten seconds have gone."""

    def __init__(self, ports: Ports, many: bool) -> None:
        self._ports = ports
        self._many = many
        self._said: dict[bytes, tuple[float, int]] = {}
        """Job → when a reading was shown, and its percents."""
        self._paces: dict[bytes, Pace] = {}

    def begin(self, record: JobRecord) -> None:
        self._line(record.id, record.name, str(record.status) + (f", {percent(record.progress)}" if percent(record.progress) else ""))

    def event(self, event: object) -> None:
        if isinstance(event, ProgressMade):
            self._progress(event)
        elif isinstance(event, Fact):
            self._line(event.job_id, event.name, fact_text(event))
            if isinstance(event, ENDS):
                self._said.pop(event.job_id, None)
                self._paces.pop(event.job_id, None)
        else:
            self.note(fact_text(event))

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass

    def _progress(self, event: ProgressMade) -> None:
        now, percents = self._ports.monotonic(), round(100 * (event.progress.fraction or 0.0))
        rate, eta = self._paces.setdefault(event.job_id, Pace()).take(event.progress, now)
        said = self._said.get(event.job_id)
        if said is not None:
            since, more = now - said[0], percents - said[1]
            if since < LINE_SECONDS or (more < WORTH_PERCENT and since < QUIET_SECONDS):
                return
        self._said[event.job_id] = (now, percents)
        self._line(event.job_id, event.name, progress_text(event.progress, rate, eta))

    def _line(self, job_id: bytes, name: str, text: str) -> None:
        self.note(f"{id_text(job_id)} {escaped(name)}: {text}" if self._many else text)


class BarScreen:
    """A bar for each running job, and above the bars a line for what is worth one."""

    def __init__(self, ports: Ports, many: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        self._ports = ports
        self._many = many
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[text]}", markup=False))
        console = Console(stderr=True)
        self._bars: Bars = Bars(*columns, console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._tasks: dict[bytes, TaskID] = {}
        self._paces: dict[bytes, Pace] = {}
        self._bars.start()

    def begin(self, record: JobRecord) -> None:
        if record.status.claimed or record.progress is not None:
            self._show(record.id, record.name, record.progress or Progress())
        else:
            self._bars.refresh()

    def event(self, event: object) -> None:
        if isinstance(event, ProgressMade):
            rate, eta = self._paces.setdefault(event.job_id, Pace()).take(event.progress, self._ports.monotonic())
            self._show(event.job_id, event.name, event.progress, rate, eta)
        elif isinstance(event, Fact):
            if isinstance(event, (*ENDS, JobPaused, JobRequeued, JobQuarantined)):
                self._remove(event.job_id)
            if not isinstance(event, JobQueued):
                which = f"{id_text(event.job_id)} {escaped(event.name)}: " if self._many else ""
                self.note(which + fact_text(event))
        else:
            self.note(fact_text(event))

    def note(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        for job_id in list(self._tasks):
            self._remove(job_id)
        self._bars.stop()

    def _show(self, job_id: bytes, name: str, progress: Progress, rate: float | None = None, eta: float | None = None) -> None:
        if job_id not in self._tasks:
            if len(self._tasks) >= BARS_MOST:
                return
            label = shortened(escaped(name), NAME_WIDTH)
            self._tasks[job_id] = self._bars.add_task(label, total=None, text="")
        total = None if progress.fraction is None else 1.0
        text = progress_text(progress, rate, eta)
        self._bars.update(self._tasks[job_id], total=total, completed=progress.fraction or 0.0, text=text, refresh=True)

    def _remove(self, job_id: bytes) -> None:
        self._paces.pop(job_id, None)
        task = self._tasks.pop(job_id, None)
        if task is not None:
            self._bars.remove_task(task)
