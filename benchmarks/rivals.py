"""Peers as contenders: which are asked for, and how much work each gets, so that a slow one does not hold up the rest."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from callboard.benchmarks.ground import scratch
from callboard.benchmarks.peers import PEERS
from callboard.benchmarks.peers.peer import Peer
from callboard.benchmarks.scenario import Answer, Case, Contender, Place, quantile
from callboard.jobs.errors import BadArgument

PATIENCE = 2.0
"""Seconds of work, about, that a peer is given for one reading."""
FIRST = 100
"""Jobs of its unmeasured run, which tells how fast it is."""
LEAST = 20

BARE = ("apsw", "sqlite3")
"""A table and a loop: limits, not systems; the best peer is not sought among them."""

COPIERS = "callboard.benchmarks.peers.copiers"


def chosen(names: Sequence[str]) -> list[Peer]:
    """The adapters of these names. Raises BadArgument for one that there is none of."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise BadArgument(f"there is no peer {unknown[0]!r}; there are {', '.join(PEERS) or 'none'}")
    found = []
    for name in names:
        module, _, which = PEERS[name].partition(":")
        found.append(getattr(importlib.import_module(module), which)())
    return found


def rivals(case: Case, peers: Sequence[Peer]) -> list[Contender]:
    """The contenders that these peers are in this case."""
    if not case.peers:
        return []
    if case.peers == "copy":
        return [_copier(copier) for copier in _copiers()] if peers else []
    return [
        Contender(
            peer.name, _paced(getattr(peer, case.peers)), "raw" if peer.name in BARE else "peer", peer.synced, peer.claim, peer.missing, peer.version
        )
        for peer in peers
    ]  # fmt: skip


def _paced(method: Callable[[Path, int], float | list[float]]) -> Callable[[Place], Answer]:
    """`method` on as much work as it does in PATIENCE, and no more than is asked for."""
    per_second = 0.0

    def run(at: Place) -> Answer:
        nonlocal per_second
        count = min(at.size, max(LEAST, int(per_second * PATIENCE)) if per_second else FIRST)
        answer = method(at.folder, count)
        per_second = answer if isinstance(answer, float) else 1000 / max(1e-3, quantile(sorted(answer), 0.5))
        return answer

    return run


def _copiers() -> Sequence[Any]:
    try:
        return tuple(importlib.import_module(COPIERS).COPIERS)
    except ModuleNotFoundError:
        return ()


def _copier(copier: Any) -> Contender:
    """Copies the ground; to be named in the same units as ours, it answers seconds."""

    def run(at: Place) -> float:
        with scratch(at.folder) as target:
            return float(copier.copy(at.ground / str(at.size), target / "copy"))

    claim = getattr(copier, "claim", "on disk when it ends (sync)")
    return Contender(copier.name, run, "peer", getattr(copier, "synced", True), claim, copier.missing)
