"""`callboard jobs watch`: a job's facts and progress until it ends, whoever runs it meanwhile. Watching changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from callboard.actors.frontends import json_view
from callboard.actors.frontends.client import Client, OwnerGone
from callboard.actors.frontends.job_ids import find
from callboard.actors.frontends.reach import answer_of, board
from callboard.actors.frontends.screen import Screen
from callboard.actors.frontends.signals import Signals
from callboard.actors.frontends.wording import escaped, status_text
from callboard.actors.machine import Ports
from callboard.jobs.events import ENDS, FactsLost
from callboard.jobs.lifecycle import Status
from callboard.jobs.record import JobRecord

LOOK_SECONDS = 5.0
"""The record is looked at this often when nothing is told."""
AGAIN_SECONDS = 0.1
HEIR_SECONDS = 1.5
"""How long another owner is waited for when the one that ran the job has gone."""


def watch_job(library: Path, ports: Ports, which: str, screen: Screen, *, as_json: bool) -> int:
    """0: it completed. 1: it ended otherwise, or nobody runs it. 130, 143, 129: a signal came."""
    job_id = answer_of(library, ports, lambda anyone: find(anyone, which))
    until = 0.0
    with Signals() as signals:
        try:
            while signals.taken is None:
                try:
                    with board(library, ports) as anyone:
                        record, owned = anyone.record(job_id), anyone.owned
                        if isinstance(anyone, Client) and not record.status.ended:
                            record = _follow(anyone, record, screen, signals)
                except OwnerGone:
                    until = ports.monotonic() + HEIR_SECONDS
                    ports.sleep(AGAIN_SECONDS)
                    continue
                if record.status.ended or not (owned or ports.monotonic() < until):
                    return _conclude(record, owned, screen, as_json)
                if signals.taken is None:
                    ports.sleep(AGAIN_SECONDS)
        finally:
            screen.close()
        return signals.exit_code


def _follow(client: Client, record: JobRecord, screen: Screen, signals: Signals) -> JobRecord:
    """The record once it has ended, or a signal came."""
    client.follow(record.id)
    record = client.record(record.id)
    screen.begin(record)
    while not record.status.ended:
        event = client.next_event(LOOK_SECONDS, signals.fileno())
        if signals.taken is not None:
            break
        if event is not None:
            screen.event(event)
        if event is None or isinstance(event, (*ENDS, FactsLost)):
            record = client.record(record.id)
    return record


def _conclude(record: JobRecord, owned: bool, screen: Screen, as_json: bool) -> int:
    screen.close()
    code = 0 if record.status is Status.COMPLETED else 1
    if as_json:
        print(json_view.line({"event": "result", "exit_code": code, **json_view.record_view(record, owned)}), flush=True)
        return code
    print(status_text(record, owned) + (f": {escaped(record.error)}" if record.error else ""), flush=True)
    if not record.status.ended:
        print("nobody has the library open; `callboard resume` runs its jobs", file=sys.stderr, flush=True)
    return code
