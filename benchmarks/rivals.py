"""Peers as contenders: which are asked for, and how much work each gets, so that a slow one does not hold up the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from callboard.benchmarks.ground import settle
from callboard.benchmarks.peers import PEERS, load
from callboard.benchmarks.peers.copiers import COPIERS, CP, Copier
from callboard.benchmarks.peers.killing import killed
from callboard.benchmarks.peers.peer import Peer
from callboard.benchmarks.scenario import Answer, Case, Contender, Kind, Place, Reading, quantile
from callboard.jobs.errors import BadArgument

PATIENCE, QUICK_PATIENCE = 0.8, 0.3
"""Seconds of work, about, that a peer is given for one reading."""
FIRST, GROWTH = 50, 4
"""Jobs of its first unmeasured run, which tells how fast it is; and so many times more each time, until a run takes long enough to tell."""
ENOUGH = 1 / 8
"""Share of the patience that is long enough. Some get slower with each job that waits: what fifty say of them is not true of thousands."""
LEAST = 20
BARE = ("apsw", "sqlite3")
"""A table and a loop: limits, not systems; the best peer is not sought among them."""


def chosen(names: Sequence[str]) -> list[Peer]:
    """The adapters of these names. Raises BadArgument for one that there is none of."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise BadArgument(f"there is no peer {unknown[0]!r}; there are {', '.join(PEERS)}")
    return [load(name) for name in names]


def rivals(case: Case, peers: Sequence[Peer], patience: float = PATIENCE) -> list[Contender]:
    """The contenders that these peers are in this case."""
    if not case.peers or not peers:
        return []
    if case.peers == "copy":
        return [copying(each, "peer") for each in COPIERS if each is not CP]
    return [_contender(case.peers, peer, patience) for peer in peers]


def copying(copier: Copier, kind: Kind) -> Contender:
    """A way to copy as a contender: once what others have written is on disk."""

    def run(at: Place) -> float:
        settle(at.folder)
        return copier.copy(at.ground / str(at.size), at.folder / "copied")

    return Contender(copier.name, run, kind, copier.synced, copier.claim, copier.missing, copier.version)


def _contender(measure: str, peer: Peer, patience: float) -> Contender:
    """A peer in one of its measures; what it says of its durability is read back from it when it is first opened, which may fail."""
    missing, synced, claim = peer.missing(), False, peer.claim
    if missing is None:
        try:
            synced, claim = peer.synced, f"{peer.claim} ({peer.settings.text})"
        except Exception as error:
            missing = in_a_line(error)
    claim += f"; {peer.notes[measure]}" if measure in peer.notes else ""
    run = partial(lose, peer.name) if measure == "killed" else _paced(getattr(peer, measure), patience)
    return Contender(peer.name, run, "bare" if peer.name in BARE else "peer", synced, claim, lambda: missing, peer.version)


def in_a_line(error: Exception) -> str:
    """What went wrong, for a cell."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _paced(method: Callable[[Path, int], float | list[float]], patience: float) -> Callable[[Place], Answer]:
    """`method` on as much work as it does in so many seconds, and no more than is asked for."""
    per_second = 0.0

    def measured(folder: Path, count: int) -> float | list[float]:
        nonlocal per_second
        answer = method(folder, count)
        per_second = answer if isinstance(answer, float) else 1000 / max(1e-3, quantile(sorted(answer), 0.5))
        return answer

    def run(at: Place) -> Answer:
        if per_second:
            return measured(at.folder, min(at.size, max(LEAST, int(per_second * patience))))
        count, answer = min(FIRST, at.size), measured(at.folder, min(FIRST, at.size))
        while count < at.size and count / per_second < patience * ENOUGH:
            count = min(at.size, GROWTH * count)
            (place := at.folder / str(count)).mkdir()
            answer = measured(place, count)
        return answer

    return run


def lose(name: str, at: Place) -> Reading:
    """Kill it `at.size` times while it submits."""
    loss = killed(name, at.folder, kills=at.size)
    return Reading({"lost": float(loss.lost), "acknowledged": float(loss.acked)})
