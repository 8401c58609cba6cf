"""`callboard doctor` and `callboard salvage`: what is wrong with a library, and all of it that is whole in a new one."""

from __future__ import annotations

import sys
from pathlib import Path

from callboard.actors.frontends import json_view
from callboard.actors.frontends.reach import library_at
from callboard.actors.joblog import escaped
from callboard.actors.machine import Ports
from callboard.jobs.errors import CallboardError
from callboard.persistence.examination import Finding, examine
from callboard.persistence.salvage import salvage

WHOLE, DAMAGED, NOT_LOOKED = 0, 1, 2


def look_for_damage(library: Path, *, as_json: bool) -> int:
    """Print what is found; the exit code."""
    try:
        found = list(examine(library_at(library)))
    except CallboardError as error:
        print(f"callboard: {escaped(str(error))}", file=sys.stderr)
        return NOT_LOOKED
    damaged = any(finding.damage for finding in found)
    if as_json:
        print(json_view.line({"library": library, "whole": not damaged, "findings": [finding._asdict() for finding in found]}))
    else:
        _print(found)
        print("damaged: `callboard salvage` saves what is whole" if damaged else "whole")
    return DAMAGED if damaged else WHOLE


def save_what_is_whole(source: Path, target: Path, ports: Ports, *, as_json: bool) -> int:
    """Print what became of it; 1 if something was left out."""
    done = salvage(library_at(source), target, int(ports.wall() * 1000))
    if as_json:
        left_out = [finding._asdict() for finding in done.left_out]
        print(json_view.line({"library": target, "kept": done.kept, "left_out": left_out}))
    else:
        _print(done.left_out)
        print("kept: " + ", ".join(f"{count:,} {table}" for table, count in done.kept.items() if count))
    return DAMAGED if done.left_out else WHOLE


def _print(findings: list[Finding]) -> None:
    for finding in findings:
        print(f"{'' if finding.damage else 'note: '}{escaped(f'{finding.where}: {finding.text}')}")
