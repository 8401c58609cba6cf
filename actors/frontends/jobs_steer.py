"""`callboard jobs pause`, `resume`, `cancel` and `retry`: each id gets its own answer, and one that is refused stops none of the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from callboard.actors.frontends import json_view
from callboard.actors.frontends.client import OwnerGone
from callboard.actors.frontends.job_ids import find
from callboard.actors.frontends.reach import Board, board
from callboard.actors.frontends.wording import escaped
from callboard.actors.machine import Ports
from callboard.jobs.errors import Refused
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import Status

Verb = Literal["pause", "resume", "cancel", "retry"]


def steer(library: Path, ports: Ports, verb: Verb, ids: Sequence[str], *, ledger: str = "none", as_json: bool) -> int:
    """Carry it out for each id. The exit code: 0, or 1 if any was refused."""
    code = 0
    left = list(ids)
    again = verb != "retry"
    while left:
        with board(library, ports) as anyone:
            try:
                while left:
                    code = max(code, _steer_one(anyone, verb, left[0], ledger, as_json))
                    del left[0]
            except OwnerGone:
                if not again:
                    raise  # whether it was carried out is not known: a second retry could make a second job
                again = False
    return code


def _steer_one(anyone: Board, verb: Verb, which: str, ledger: str, as_json: bool) -> int:
    try:
        job_id = find(anyone, which)
        view: dict[str, object] = {"id": id_text(job_id)}
        text = _retry(anyone, job_id, ledger, view) if verb == "retry" else _command(anyone, verb, job_id, view)
    except OwnerGone:
        raise
    except Refused as error:
        if as_json:
            print(json_view.line({"id": which, "error": type(error).__name__, "text": str(error)}), flush=True)
        print(f"callboard jobs {verb}: {escaped(str(error))}", file=sys.stderr, flush=True)
        return 1
    print(json_view.line(view) if as_json else f"{id_text(job_id)} {text}", flush=True)
    return 0


def _command(anyone: Board, verb: Verb, job_id: bytes, view: dict[str, object]) -> str:
    status: Status = {"pause": anyone.pause, "resume": anyone.resume, "cancel": anyone.cancel}[verb](job_id)
    view["status"] = str(status)
    if status.claimed and not anyone.owned:
        return f"{status}: it was interrupted, and the next process to open the library carries it out"
    if status is Status.QUEUED and not anyone.owned:
        return f"{status}: nobody has the library open; `callboard resume` runs it"
    return str(status)


def _retry(anyone: Board, job_id: bytes, ledger: str, view: dict[str, object]) -> str:
    submitted = anyone.retry(job_id, ledger)
    new = id_text(submitted.job_id)
    view |= {"retried_as": new, "duplicate": submitted.duplicate}
    if submitted.duplicate:
        return f"has a live successor of the same key: {new}"
    return f"retried as {new}" + ("" if anyone.owned else "; `callboard resume` runs it")
