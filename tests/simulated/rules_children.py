"""Children: each set of a name once, in whatever life it was begun; none outlives its parent; what is wanted of a parent is wanted of them."""

from __future__ import annotations

from collections.abc import Iterator

from case import Case, short
from observed import Quiet, Spawned

from callboard.jobs.lifecycle import ENDED, GOES_DOWN, PAUSER_BITS, Pauser, Status

BY_PARENT = PAUSER_BITS[Pauser.PARENT]


def children_are_spawned_once(case: Case) -> Iterator[str]:
    """The same name gives the same children in every run of one attempt of a job, as many as there are to be, and nobody else is a child of it."""
    sets: dict[tuple[bytes, str, int], tuple[bytes, ...]] = {}
    whose: dict[bytes, tuple[bytes, str]] = {}

    def first(job: bytes) -> bytes:
        """Whom it was retried from: the new job takes the old one's children over."""
        while (row := case.rows.get(job)) is not None and row.retry_of is not None:
            job = row.retry_of
        return job

    for place, entry in case.of(Spawned):
        ids = sets.setdefault((entry.job, entry.name, entry.attempt), entry.ids)
        if ids != entry.ids or len(ids) != entry.size or len(set(ids)) != len(ids):
            yield f"{place}: {entry.name!r} of {short(entry.job)} has {entry.size} children: {[*map(short, ids)]}, then {[*map(short, entry.ids)]}"
        for child in entry.ids:
            if whose.setdefault(child, (first(entry.job), entry.name)) != (first(entry.job), entry.name):
                yield f"{place}: {short(child)} is a child twice"
    for place, entry in case.of(Spawned):
        for child in entry.ids:
            row = case.rows.get(child)
            if row is None or (row.parent is not None and first(row.parent) != first(entry.job)):
                yield f"{place}: {short(child)} was spawned by {short(entry.job)}, and on disk it is {row}"


def no_child_outlives_its_parent(case: Case) -> Iterator[str]:
    """A parent has ended only when its children have."""
    for place, snapshot in case.snapshots:
        for row in snapshot.rows.values():
            parent = None if row.parent is None or row.status in ENDED else snapshot.rows.get(row.parent)
            if parent is not None and parent.superseded_by is not None and (not isinstance(snapshot, Quiet) or row.status is Status.ENDING):
                continue  # a successor that was replaced before its turn ends at once; its children are told next
            if row.parent is not None and row.status not in ENDED and (parent is None or parent.status in ENDED):
                yield f"{place}: {short(row.id)} is {row.status}, and its parent {parent}"


def nobody_waits_for_himself(case: Case) -> Iterator[str]:
    """A job waits for the one in front of it, and at its end for its children: nobody waits by any detour for himself."""
    for place, snapshot in case.snapshots:
        children: dict[bytes, list[bytes]] = {}
        for row in snapshot.rows.values():
            if row.parent is not None and row.status not in ENDED:
                children.setdefault(row.parent, []).append(row.id)
        if not children:
            continue
        for row in snapshot.rows.values():
            seen, ahead = set[bytes](), [*children.get(row.id, ()), row.after_id]
            while ahead:
                job = ahead.pop()
                if job == row.id:
                    yield f"{place}: {short(row.id)} ({row.status}) waits for itself"
                    break
                other = None if job is None else snapshot.rows.get(job)
                if other is not None and other.id not in seen and other.status not in ENDED:
                    seen.add(other.id)
                    ahead += [*children.get(other.id, ()), other.after_id]


def a_pause_reaches_the_tree(case: Case) -> Iterator[str]:
    """When nothing can go on, the children of who is paused, or is held so by its own parent, are held by it; those of others are not."""
    for place, snapshot in case.snapshots:
        if not isinstance(snapshot, Quiet):
            continue
        for row in snapshot.rows.values():
            parent = None if row.parent is None or row.status in ENDED else snapshot.rows.get(row.parent)
            if parent is None or parent.status is Status.QUARANTINED or row.status is Status.QUARANTINED:
                continue
            if bool(parent.pausers & GOES_DOWN) != bool(row.pausers & BY_PARENT):
                yield f"{place}: {short(row.id)} is {row.status} (pausers {row.pausers}), its parent {parent.status} (pausers {parent.pausers})"
