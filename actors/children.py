"""The children of one run of a job, as its actor deals with them: spawned, waited for without a slot, streamed as they end.

Everything is a visit to the job actor's inbox; what has ended is read in pages of bounded size, however many children there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from callboard.actors.actor import send
from callboard.actors.messages import (
    ChildrenEnded,
    ChildrenLoaded,
    ChildrenSeen,
    ComeBack,
    Commit,
    LoadChildren,
    LookForChildren,
    PartSpawned,
    SlotForParent,
    StepAside,
    SteppedAside,
    StopChildren,
    SuspectCleared,
    WatchChildren,
)  # fmt: skip
from callboard.actors.spawning import Spawning
from callboard.jobs.children import (
    HOLES_MOST,
    NAMED_IN_ERRORS,
    ChildEnd,
    ChildIds,
    Frontier,
    OnFailure,
    check_max_running,
    check_name,
    check_on_failure,
    children_failed,
)  # fmt: skip
from callboard.jobs.errors import BadArgument, LibraryClosed, NotDecodable, StoreUnavailable, Unwound, error_text, shown
from callboard.jobs.identity import id_text
from callboard.jobs.job import Job
from callboard.jobs.submission import Submission
from callboard.persistence.jobdata import decode_result
from callboard.persistence.queries import EndedChild
from callboard.persistence.writes import ParentWaits

if TYPE_CHECKING:
    from callboard.actors.context import RunningContext

LOOK_AGAIN_SECONDS = 1.0
"""Who waits looks this often though nothing is told: a job that stands for a child of the same key may be none of the batch."""


class Children:
    """What a run has with its children."""

    def __init__(self, ctx: RunningContext) -> None:
        self._ctx = ctx
        self._known: dict[str, ChildIds] = {}
        """Spawned in this run, or found again."""
        self._spawned: list[Any] = []
        """Answers to parts that were sent, in order."""
        self._seen: ChildrenSeen | None = None
        self._loaded: ChildrenLoaded | None = None
        self._news = False
        """Some child may have ended since the last look."""
        self._stepped: bool | None = None
        """What the library said to stepping aside: True: keep the actor. None: nothing yet."""
        self._aside = self._admitted = False
        self._watched: dict[bytes, None] = {}
        self.awaits: bytes | None = None
        """The batch for which the job leaves `run`."""

    def take(self, message: object) -> bool:
        """False if it is none of ours."""
        match message:
            case PartSpawned():
                self._spawned.append(message.answer)
            case ChildrenSeen():
                self._seen = message
            case ChildrenLoaded():
                self._loaded = message
            case ChildrenEnded():
                self._news = True
            case SteppedAside() if message.job_id == self._ctx.job_id:
                self._stepped = message.kept
            case SlotForParent() if message.job_id == self._ctx.job_id:
                self._admitted = True
            case SteppedAside() | SlotForParent():
                return True  # of the job before this one
            case _:
                return False
        return True

    def spawn(self, jobs: Iterable[Job | Submission], name: str, detached: bool, max_running: int | None) -> ChildIds:
        check_name(name)
        check_max_running(max_running)
        if name in self._known:
            raise BadArgument(f"spawn_children: this run has children named {name!r} already; give these another name=")
        if isinstance(jobs, (Job, Submission, str, bytes)) or not hasattr(type(jobs), "__iter__"):
            raise BadArgument(f"spawn_children: {shown(jobs)} is not an iterable of jobs and submissions; give a list, or a generator")
        self._ctx.look()
        if self._ctx.asked is not None:
            self._ctx.leave()
        self._spawned.clear()
        spawning = Spawning(self._ctx, self, name)
        ids = self._known[name] = spawning.spawn(iter(jobs), detached, max_running)
        # Children of an earlier attempt may live: they are of its batch.
        self._watch([ids] if spawning.source is None else [ids, ChildIds(name, spawning.source)])
        return ids

    def await_spawned(self) -> object:
        """The answer to the part that is on its way."""
        self.wait_until(lambda: bool(self._spawned))
        return self._spawned.pop(0)

    # --- waiting ----------------------------------------------------------------------------------------------------

    def ended(self, ids: Iterable[bytes] | ChildIds | None, *, stream: bool) -> Iterator[ChildEnd]:
        """The ends as they become known. `stream`: the slot is taken back for each; otherwise only when nobody is left."""
        ctx = self._ctx
        wanted, sets = self._wanted(ids)
        self._watch(sets)
        frontier = Frontier(wanted)
        while asked := frontier.ask():
            self._news = False
            seen = self._look(asked, sets)
            frontier.ended(seen.missing)
            frontier.ended(each.job_id for each in seen.ended)
            ctx.reports.of_children(seen.family)
            if seen.ended:
                if stream:
                    self._come_back()
                yield from map(_child_end, seen.ended)
            elif not seen.missing:
                self._step_aside(asked[0], sets, seen.over)
                self.wait_until(lambda: self._news, LOOK_AGAIN_SECONDS, leave=True)
            ctx.look()
            if ctx.asked is not None:
                ctx.leave()
        self._come_back()

    def wait(self, ids: Iterable[bytes] | ChildIds | None, on_failure: OnFailure) -> list[ChildEnd]:
        """All of them, in the order of their ids."""
        check_on_failure(on_failure)
        ends: list[ChildEnd] = []
        failed: list[ChildEnd] = []
        count = 0
        stopped = False
        for end in self.ended(ids, stream=False):
            ends.append(end)
            if not end.ok:
                count += 1
                if len(failed) < NAMED_IN_ERRORS:
                    failed.append(end)
                if on_failure == "cancel_rest" and not stopped:
                    stopped = True
                    self._stop_all(ids)
        if count and on_failure != "collect":
            raise children_failed(failed, count, self._ctx.job_id)
        ends.sort(key=lambda end: end.id)
        return ends

    def _stop_all(self, ids: Iterable[bytes] | ChildIds | None) -> None:
        wanted, _ = self._wanted(ids)
        while some := list(islice(wanted, HOLES_MOST)):
            send(self._ctx.stage.library, StopChildren(self._ctx.job_id, tuple(some)))

    def _wanted(self, ids: Iterable[bytes] | ChildIds | None) -> tuple[Iterator[bytes], list[ChildIds]]:
        """The ids, and the sets of children that they are of. Raises `BadArgument` for one that is none of ours."""
        if ids is None:
            sets = list(self._known.values())
            return chain.from_iterable(sets), sets
        if isinstance(ids, ChildIds):
            if self._known.get(ids.name) is not ids:
                raise BadArgument(f"{ids!r} is not what this run's spawn_children gave")
            return iter(ids), [ids]
        named = tuple(ids)
        found: dict[str, ChildIds] = {}
        for job_id in named:
            owner = next((each for each in self._known.values() if job_id in each), None)
            if owner is None:
                text = id_text(job_id) if isinstance(job_id, bytes) and len(job_id) == 16 else shown(job_id)
                raise BadArgument(f"{text} is no child that this run has spawned")
            found[owner.name] = owner
        return iter(named), list(found.values())

    def _watch(self, sets: Sequence[ChildIds]) -> None:
        """Have the library tell when some of them have ended."""
        ctx = self._ctx
        for each in sets:
            if each.batch_id not in self._watched:
                self._watched[each.batch_id] = None
                send(ctx.stage.library, WatchChildren(ctx.me, ctx.job_id, each))

    def _look(self, asked: list[bytes], sets: Sequence[ChildIds]) -> ChildrenSeen:
        self._seen = None
        self._ask_reader(LookForChildren(self._ctx.job_id, tuple(asked), tuple(each.batch_id for each in sets), self._ctx.me))
        self.wait_until(lambda: self._seen is not None)
        seen = self._seen
        assert isinstance(seen, ChildrenSeen)
        if seen.error is not None:
            raise StoreUnavailable(seen.error)
        return seen

    def load(self, batch_id: bytes) -> ChildrenLoaded:
        self._loaded = None
        self._ask_reader(LoadChildren(batch_id, self._ctx.me))
        self.wait_until(lambda: self._loaded is not None)
        loaded = self._loaded
        assert isinstance(loaded, ChildrenLoaded)
        if loaded.error is not None:
            raise StoreUnavailable(loaded.error)
        return loaded

    def _ask_reader(self, question: object) -> None:
        if not send(self._ctx.stage.reader, question):
            raise StoreUnavailable("the library's reader has stopped; open the library again")

    def wait_until(self, arrived: Callable[[], bool], seconds: float | None = None, *, leave: bool = False) -> None:
        """Visit the inbox until it has come, or for so long; `leave`: or until the job is asked to leave."""
        ctx = self._ctx
        until = None if seconds is None else ctx.ports.monotonic() + seconds
        ctx.look()
        while not arrived() and not (leave and ctx.asked is not None):
            left = None if until is None else until - ctx.ports.monotonic()
            if left is not None and left <= 0:
                return
            ctx.wait(left)
            if not arrived() and not (ctx.stage.library.is_alive() and ctx.stage.reader.is_alive()):
                ctx.look()
                if not arrived():
                    raise LibraryClosed("the library has been closed; its actors have stopped")

    # --- without a slot ---------------------------------------------------------------------------------------------

    def _step_aside(self, first: bytes, sets: Sequence[ChildIds], over: frozenset[bytes]) -> None:
        """Give the slot away and keep the thread; or leave `run`, to be run again when the children have ended."""
        ctx = self._ctx
        if self._aside or ctx.asked is not None:
            return
        batch_id = next((each.batch_id for each in sets if each.batch_id not in over and first in each), None)
        must_stay = not type(ctx.job).job_resumable or batch_id is None
        self._stepped = None
        self._admitted = False
        if not send(ctx.stage.library, StepAside(ctx.me, ctx.job_id, must_stay)):
            raise LibraryClosed("the library has been closed; its actors have stopped")
        self.wait_until(lambda: self._stepped is not None)
        if self._stepped is False:
            self.awaits = batch_id
            raise Unwound
        self._aside = True
        if ctx.claimed.alone:
            send(ctx.stage.library, SuspectCleared(ctx.job_id))
        self._note_waits(True)

    def _come_back(self) -> None:
        """Wait for a slot, if it was given away."""
        ctx = self._ctx
        if not self._aside:
            return
        send(ctx.stage.library, ComeBack(ctx.me, ctx.job_id))
        self.wait_until(lambda: self._admitted, leave=True)
        if ctx.asked is not None:
            ctx.leave()
        self._aside = self._admitted = False
        self._note_waits(False)

    def _note_waits(self, waits: bool) -> None:
        """For whoever finds the job claimed after a crash. Nobody waits for it: at worst one crash is counted, or one is not."""
        ctx = self._ctx
        send(ctx.stage.store, Commit((ParentWaits(ctx.job_id, ctx.claimed.claim, waits),), ctx.me))


def _child_end(found: EndedChild) -> ChildEnd:
    try:
        return ChildEnd(found.job_id, found.status, decode_result(found.result), found.error)
    except NotDecodable as error:
        return ChildEnd(found.job_id, found.status, None, f"its result is damaged: {error_text(error, 300)}")
