"""Full libraries, broods with a limit, and plans: who is turned away is not stored, no more run than may, a plan is true and leaves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from case import Case, short
from observed import Asked, Bred, Died, Entered, Got, Left, NoRoom, Planned, Read, Refused, Sent

PATIENT = 40.0
"""Seconds: a library in which there is room tells whoever waits for it sooner."""


def who_is_turned_away_is_not_stored(case: Case) -> Iterator[str]:
    """`Busy` says that nothing was stored; whoever blocks waits as long as he said, and not while there is room."""
    if not case.of(NoRoom):
        return
    given = {entry.number: entry.data for _, entry in case.of(Asked) if entry.data is not None}
    asked = Counter(given.values())
    asked.update(item.data for _, entry in case.of(Sent) for item in entry.items if item is not None)
    turned_away = [(place, entry) for place, entry in case.of(Refused) if entry.kind == "Busy"]
    busy = {given[entry.number]: place for place, entry in turned_away if entry.number in given}
    for row in case.rows.values():
        if row.data in busy and asked[row.data] == 1 and row.parent is None and row.retry_of is None:
            yield f"{busy[row.data]}: {short(row.id)} was turned away, and is on disk"
    for place, entry in case.of(NoRoom):
        if entry.waited < entry.block:
            yield f"{place}: a submission was turned away after {entry.waited:g} of {entry.block:g} s"
        if entry.block >= PATIENT and entry.free >= PATIENT:
            yield f"{place}: a submission waited for room for {entry.waited:g} s, and for {entry.free:g} s there was some"


def no_more_of_a_brood_run_than_may(case: Case) -> Iterator[str]:
    """Of the children that an attempt queues with `max_running=n` never more than n are inside `run`; the same name is the same set in every
    run of one attempt."""
    most: dict[bytes, tuple[tuple[bytes, int], int]] = {}
    sets: dict[tuple[bytes, int], tuple[bytes, ...]] = {}
    inside: dict[bytes, int] = {}
    if not case.of(Bred):
        return
    for place, entry in case.of(Bred, Entered, Left, Died):
        match entry:
            case Bred():
                for child in entry.ids:
                    row = case.rows.get(child)
                    if row is not None and row.parent == entry.job:  # not one that was there, and stands for it
                        most.setdefault(child, ((entry.job, entry.attempt), entry.most))
                ids = sets.setdefault((entry.job, entry.attempt), entry.ids)
                if ids != entry.ids or len(ids) != entry.size:
                    yield f"{place}: the brood of {short(entry.job)} is {[*map(short, ids)]}, then {[*map(short, entry.ids)]}, of {entry.size}"
            case Entered() if entry.row is not None and entry.row.parent is not None:
                inside[entry.job] = entry.life
                if entry.job in most:
                    whose, limit = most[entry.job]
                    beside = [each for each in inside if each in most and most[each][0] == whose]
                    if len(beside) > limit:
                        yield f"{place}: {[*map(short, beside)]} of the brood of {short(whose[0])} run at once, {limit} may"
            case Left():
                inside.pop(entry.job, None)
            case Died():
                inside = {job: life for job, life in inside.items() if life != entry.life}
            case _:
                pass


def a_brood_gets_ahead(case: Case) -> Iterator[str]:
    """What is told of how far a job's children are never goes back, in one attempt and one life."""
    furthest: dict[tuple[int, bytes, int], float] = {}
    for place, entry in case.of(Read):
        run = entry.life, entry.job, entry.attempt
        before = furthest.get(run, 0.0)
        if entry.fraction < before - 1e-9 or entry.fraction > 1.0:
            yield f"{place}: {short(entry.job)} was at {before:.3f}, and is told to be at {entry.fraction:.3f}"
        furthest[run] = max(before, entry.fraction)


def a_plan_is_true_and_leaves_nothing(case: Case) -> Iterator[str]:
    """What is only planned is not stored; where nothing else went on, each item became what the plan had said."""
    planned: dict[bytes, tuple[int, Planned]] = {}
    for place, entry in case.of(Planned, Sent, Got):
        match entry:
            case Planned():
                planned[entry.batch_id] = place, entry
            case Sent():
                if entry.batch_id in planned and not planned[entry.batch_id][1].quiet:
                    del planned[entry.batch_id]
            case Got() if entry.batch_id in planned:
                _, plan = planned.pop(entry.batch_id)
                kinds = tuple(type(item).__name__ for item in entry.items)
                if kinds != plan.kinds:
                    yield f"{place}: the plan of {short(entry.batch_id)} was {plan.kinds}, and what came of it {kinds}"
            case _:
                pass
    for batch_id, (place, plan) in planned.items():
        items = {(item.name, item.data) for item in plan.items if item is not None}
        for row in case.rows.values():
            if not plan.quiet and (row.name, row.data) in items:
                yield f"{place}: {short(batch_id)} was planned and never sent, and {short(row.id)} of it is on disk"
