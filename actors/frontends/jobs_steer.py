"""`callboard jobs pause`, `resume`, `cancel` and `retry`: each id gets its own answer, and one that is refused stops none of the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from callboard.actors.frontends import json_view
from callboard.actors.frontends.job_ids import find
from callboard.actors.frontends.reach import Board, answer_of, board
from callboard.actors.frontends.wording import escaped
from callboard.actors.machine import Ports
from callboard.jobs.errors import LibraryBusy, LibraryClosed, Refused
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import Status

Verb = Literal["pause", "resume", "cancel", "retry"]


def steer(library: Path, ports: Ports, verb: Verb, ids: Sequence[str], *, ledger: str = "none", as_json: bool) -> int:
    """Carry it out for each id. The exit code: 0, or 1 if any was refused."""
    code = 0
    for which in ids:
        try:
            if verb == "retry":  # asked once: after an owner that vanished over it, a second one could make a second job
                job_id = answer_of(library, ports, lambda anyone: find(anyone, which))  # noqa: B023 - called here and now
                with board(library, ports) as anyone:
                    _retry(anyone, job_id, ledger, as_json)
            else:
                answer_of(library, ports, lambda anyone: _command(anyone, verb, which, as_json))  # noqa: B023
        except (LibraryBusy, LibraryClosed):
            raise
        except Refused as error:
            code = 1
            if as_json:
                print(json_view.line({"id": which, "error": type(error).__name__, "text": str(error)}), flush=True)
            print(f"callboard jobs {verb}: {escaped(str(error))}", file=sys.stderr, flush=True)
    return code


def _command(anyone: Board, verb: Verb, which: str, as_json: bool) -> None:
    job_id = find(anyone, which)
    status: Status = {"pause": anyone.pause, "resume": anyone.resume, "cancel": anyone.cancel}[verb](job_id)
    text = str(status)
    if status.claimed and not anyone.owned:
        text += ": it was interrupted, and the next process to open the library carries it out"
    elif status is Status.QUEUED and not anyone.owned:
        text += ": nobody has the library open; `callboard resume` runs it"
    _say(job_id, text, {"status": str(status)}, as_json)


def _retry(anyone: Board, job_id: bytes, ledger: str, as_json: bool) -> None:
    submitted = anyone.retry(job_id, ledger)
    new = id_text(submitted.job_id)
    if submitted.duplicate:
        text = f"has a live successor of the same key: {new}"
    else:
        text = f"retried as {new}" + ("" if anyone.owned else "; `callboard resume` runs it")
    _say(job_id, text, {"retried_as": new, "duplicate": submitted.duplicate}, as_json)


def _say(job_id: bytes, text: str, view: dict[str, object], as_json: bool) -> None:
    print(json_view.line({"id": id_text(job_id), **view}) if as_json else f"{id_text(job_id)} {text}", flush=True)
