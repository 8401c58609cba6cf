"""What some histories have beside the ordinary, drawn from their seed: full libraries, broods with a limit and with keys, lineages in a batch, plans.

Each has its own stream of chance, so that a history without it is the one it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any
from unittest import mock

import pykka
from brood import Brood
from history_jobs import Quick, Steps
from host import PATIENCE, Host
from observed import NoRoom, Planned, Read, Torn
from sent_batches import SentBatch, items_of

from callboard.actors import children as children_module
from callboard.actors.actor import Actor
from callboard.actors.messages import Subscribe
from callboard.actors.testing.scheduler import Scheduler
from callboard.jobs.errors import Busy, CallboardError
from callboard.jobs.events import JobStarted, ProgressMade
from callboard.jobs.submission import OnDuplicate, Submission
from callboard.persistence.store import Store

FAIR_UNTIL = 6_000
"""Histories of lower seeds have none of it: those that are kept for what they found stay what they were."""

SHARE, SHARE_OF_LIGHT = 0.08, 0.01
"""So many histories have each; of the light ones, to which it would be much."""

KEYS = ("a", "b", "c")
GROUPS = (None, "north", "south")
PLACES = ("root", "left", "right", "leaf")
LONG_BLOCK = 60.0

LIVE = "SELECT count(*) FROM jobs WHERE id NOT IN (SELECT completed_by FROM batches WHERE completed_by IS NOT NULL)"
"""The job for the end of a batch is never turned away."""
LIVE_OF_GROUPS = "SELECT grp, count(*) FROM jobs WHERE grp IS NOT NULL GROUP BY grp"
OVER_THE_LIMIT = """
SELECT hex(j.limited), count(*), b.max_running FROM jobs AS j JOIN batches AS b ON b.id = j.limited
WHERE j.status IN ('running', 'pausing', 'cancelling') GROUP BY j.limited HAVING count(*) > b.max_running"""

Script = tuple[Callable[[], object], str]


class Variety:
    """Of one history."""

    def __init__(self, seed: int, *, light: bool = False) -> None:
        self._seed, share = seed, SHARE_OF_LIGHT if light else SHARE
        rng = Random(f"variety {seed}")
        self.crowded, self.brooding, self.lineages, self.planning = (seed >= FAIR_UNTIL and rng.random() < share for _ in range(4))
        self._most, self._most_of_group = rng.choice((4, 5, 7)), rng.choice((None, 2, 3))
        self._keyed = rng.random() < 0.5
        self._free_since: float | None = None
        self._now: Callable[[], float] = float

    @property
    def options(self) -> dict[str, Any]:
        """For `open_library`."""
        return {"max_queued": self._most, "group_max_queued": self._most_of_group} if self.crowded else {}

    def kinds(self) -> tuple[type[Brood], ...]:
        """Job types of its own."""
        return (Brood,) if self.brooding else ()

    def scripts(self, host: Host) -> list[Script]:
        """Threads of one life."""
        if not (self.crowded or self.brooding or self.lineages or self.planning):
            return []
        rng = Random(f"variety {self._seed} {host.life}")
        some: list[tuple[bool, Callable[[Host, Random], object], str]] = [
            (self.crowded, self._crowd, "crowding"), (self.brooding, self._brood, "brooding"),
            (self.lineages, self._found_lineages, "lineages"), (self.planning, self._plan_only, "planning"),
        ]  # fmt: skip
        return [(lambda run=run: run(host, rng), name) for wanted, run, name in some if wanted]  # type: ignore[misc]

    @contextmanager
    def over(self, scheduler: Scheduler, note: Callable[[Torn], None]) -> Iterator[None]:
        """While a history runs."""
        self._now = lambda: scheduler.now
        with ExitStack() as stack:
            if self.crowded or self.brooding:
                stack.enter_context(mock.patch.object(Store, "commit", self._counting(Store.commit, note)))
            if self.brooding and self._keyed:  # nobody is told of the end of a job that stands for a child
                stack.enter_context(mock.patch.object(children_module, "LOOK_AGAIN_SECONDS", 1.0))
            yield

    def _counting(self, commit: Callable[..., Any], note: Callable[[Torn], None]) -> Callable[..., Any]:
        def counted(store: Any, writes: Any) -> Any:
            answers = commit(store, writes)
            if store.failure is None:
                for text in self._too_many(store._con, any(store._limits)):
                    note(Torn(f"behind a commit: {text}"))
            return answers

        return counted

    def _too_many(self, con: Any, limited: bool) -> Iterator[str]:
        if self.brooding:
            for batch, count, most in con.execute(OVER_THE_LIMIT):
                yield f"{count} children of {batch} run, of which {most} may"
        if self.crowded and limited:
            live = con.execute(LIVE).get
            groups = dict(con.execute(LIVE_OF_GROUPS).fetchall())
            if live > self._most:
                yield f"{live} jobs are live, the limit is {self._most}"
            if self._most_of_group is not None and max(groups.values(), default=0) > self._most_of_group:
                yield f"so many jobs of groups are live: {groups}, the limit is {self._most_of_group}"
            free = live + con.execute("SELECT count(*) FROM batches WHERE completed_by IS NOT NULL").get < self._most and not groups
            self._free_since = None if not free else self._now() if self._free_since is None else self._free_since

    # --- the scripts ------------------------------------------------------------------------------------------------

    def _crowd(self, host: Host, rng: Random) -> None:
        """Submits more than there is room for, now and then with patience."""
        for number in range(rng.choice((3, 6, 9))):
            rest(host, rng)
            mark = 7_000_000 + 10_000 * host.life + number
            job = Quick(mark=mark) if rng.random() < 0.5 else Steps(2, 1, rng.choice((0.0, 0.2)), mark=mark)
            group, key = rng.choice(GROUPS) if self._most_of_group else None, rng.choice((None, None, *KEYS))
            way = rng.choice((None, *OnDuplicate))
            self._submit(host, Submission(job, key=key, group=group, on_duplicate=way), rng.choice((None, None, 0.01, 1.0, LONG_BLOCK)))

    def _submit(self, host: Host, submission: Submission, block: float | None) -> None:
        library = host.library
        if library is None:
            return
        number, began = host.ask_to_submit(submission), self._now()
        try:
            handle = library.submit(submission, block=block)
        except CallboardError as error:
            host.refused(number, error)
            if isinstance(error, Busy):
                free = 0.0 if self._free_since is None else self._now() - self._free_since
                host.observed.add(NoRoom(host.life, number, self._now() - began, block or 0.0, free))
            return
        host.submitted(number, handle.id, handle.duplicate)

    def _brood(self, host: Host, rng: Random) -> None:
        """Parents of which only some children run at once; some have keys."""
        gauge = Gauge.start(host.ports, host)
        if host.library is not None:
            host.library.ask(Subscribe(gauge, name="history.brood"), timeout=PATIENCE)
        for _ in range(1 if host.life == 1 else rng.choice((0, 0, 1))):
            rest(host, rng)
            size = rng.choice((2, 3, 5, 7))
            keys = tuple(rng.choice((*KEYS, "")) for _ in range(size)) if self._keyed else ()
            how, trouble = rng.choice(("collect", "collect", "raise", "leave")), rng.choice(("", "", "always", "pause", "once", "retried"))
            nap, way = rng.choice((0.0, 0.1, 0.3)), rng.choice(("skip", "skip", "supersede", "requeue"))
            host.submit(Submission(Brood(size, rng.choice((1, 1, 2, 3)), nap, keys, way, how, trouble)))

    def _found_lineages(self, host: Host, rng: Random) -> None:
        """Batches whose items are each other's parents; some name nobody, or themselves by a detour."""
        for _ in range(rng.choice((1, 1, 2))):
            rest(host, rng)
            batch = lineage(rng, 3_000_000 + 1_000 * (len(host.sent) + 1))
            host.sent.append(batch)
            host.submit_batch(batch)
            if rng.random() < 0.3:
                rest(host, rng)
                host.submit_batch(batch)

    def _plan_only(self, host: Host, rng: Random) -> None:
        """Plans in the middle of everything, and goes away."""
        for number in range(rng.choice((1, 2))):
            rest(host, rng)
            plan(host, planned_batch(rng, 8_000_000 + 10_000 * host.life + 100 * number))

    def plan_and_do(self, host: Host) -> None:
        """When nothing goes on: what a plan says is what then becomes of the batch."""
        rng = Random(f"variety {self._seed} {host.life} quiet")
        batch = planned_batch(rng, 9_000_000 + 10_000 * host.life)
        plan(host, batch, quiet=True)
        host.sent.append(batch)
        host.submit_batch(batch)


class Gauge(Actor):
    """Hears how far the broods are."""

    def __init__(self, ports: Any, host: Host) -> None:
        super().__init__(ports)
        self._host = host
        self._attempts: dict[bytes, int] = {}

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        if isinstance(message, JobStarted):
            self._attempts[message.job_id] = message.attempt
        elif isinstance(message, ProgressMade) and message.progress.of_children:
            attempt = self._attempts.get(message.job_id, 0)
            self._host.observed.add(Read(self._host.life, message.job_id, attempt, message.progress.fraction or 0.0))


def rest(host: Host, rng: Random) -> None:
    """No time, or some."""
    most = rng.choice((0.0, 0.0001, 0.003, 0.8))
    if most:
        host.ports.sleep(rng.uniform(0, most))


def plan(host: Host, batch: SentBatch, *, quiet: bool = False) -> None:
    """Ask what would become of it."""
    library = host.library
    if library is None:
        return
    number = host.observed.ask(host.life, "plan")
    try:
        planned = library.plan(batch.submission())
    except CallboardError as error:
        host.refused(number, error)
        return
    kinds = tuple(type(item).__name__ for item in planned)
    host.observed.add(Planned(host.life, batch.batch_id, items_of(batch.items), kinds, quiet))


def planned_batch(rng: Random, mark: int) -> SentBatch:
    """In one part, as a plan knows nothing of another one that is not stored; no two payloads alike."""
    items: list[Any] = []
    for each in range(rng.choice((2, 4, 6))):
        job = Quick(mark=mark + each) if rng.random() < 0.5 else Steps(2, 1, mark=mark + each)
        items.append(Submission(job, key=rng.choice((*KEYS, *KEYS, None)), on_duplicate=rng.choice((None, *OnDuplicate))))
    if rng.random() < 0.3:
        items[rng.randrange(len(items))] = 42
    return SentBatch(rng.randbytes(16), tuple(items), rng.choice(tuple(OnDuplicate)), None, rng.random() < 0.5, False, whole=True)


def lineage(rng: Random, mark: int) -> SentBatch:
    """A few items, most of which are the children of others."""
    items: list[Any] = []
    for each in range(rng.choice((2, 3, 4, 6))):
        job = Quick(mark=mark + each) if rng.random() < 0.4 else Steps(2, 1, rng.choice((0.0, 0.1)), mark=mark + each)
        local = PLACES[each] if each < len(PLACES) else None
        before = PLACES[: max(1, each)]
        parent = None if each == 0 and rng.random() < 0.8 else rng.choice((*before, *before, rng.choice((*PLACES, "nobody"))))
        key = rng.choice((None, None, None, *KEYS))
        items.append(Submission(job, key=key, parent=parent, local=local, on_duplicate=rng.choice((None, *OnDuplicate))))
    if rng.random() < 0.2:
        rng.shuffle(items)
    return SentBatch(
        rng.randbytes(16), tuple(items), rng.choice(tuple(OnDuplicate)), None, rng.random() < 0.3, rng.random() < 0.2, rng.random() < 0.3
    )
