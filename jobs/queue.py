"""Which is next: tasks waiting for a worker, jobs dealt to an actor, and who may run jobs at all. Plain data, no threads."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Hand(Generic[T]):
    """Work dealt to one actor: the actor takes from the front, whoever dealt it may take back from the rest.

    The one object that two actors share. A piece leaves by one atomic `dict.pop`, so each goes to exactly one of them, also while the
    actor is deep in user code and cannot read its inbox. None is ever put back: an actor that found nothing is done with the hand.
    """

    __slots__ = ("_next", "_size", "_waiting")

    def __init__(self, pieces: Iterable[T]) -> None:
        self._waiting: dict[int, T] = dict(enumerate(pieces))
        self._size = len(self._waiting)
        self._next = 0
        """Where the actor goes on; only it moves this."""

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> T | None:
        """The next piece for the actor, or None: then nothing is left, and nothing ever will be."""
        while self._next < self._size:
            self._next += 1
            piece = self._waiting.pop(self._next - 1, None)
            if piece is not None:
                return piece
        return None

    def take_back(self) -> list[T]:
        """Every piece not begun, in order."""
        return self.take_back_if(lambda piece: True)

    def take_back_if(self, wanted: Callable[[T], bool]) -> list[T]:
        """Every piece not begun of which `wanted` is true, in order. The others stay; one that the actor is just taking is the actor's."""
        taken: list[T] = []
        for place in range(self._size - 1, self._next - 1, -1):  # from the far end, where the actor comes last
            piece = self._waiting.get(place)
            if piece is not None and wanted(piece) and self._waiting.pop(place, None) is not None:
                taken.append(piece)
        taken.reverse()
        return taken


class TaskQueue(Generic[T]):
    """Tasks waiting for a worker: by priority, then first come first served, within what the lanes allow."""

    def __init__(self, lane_limits: dict[str, int]) -> None:
        self._limits = lane_limits
        self._busy: dict[str, int] = dict.fromkeys(lane_limits, 0)
        self._heaps: dict[str, list[tuple[int, int, T]]] = {}
        self._arrived = 0

    def __len__(self) -> int:
        return sum(len(heap) for heap in self._heaps.values())

    def put(self, lane: str, priority: int, task: T) -> None:
        self._arrived += 1
        heappush(self._heaps.setdefault(lane, []), (priority, self._arrived, task))

    def take(self) -> tuple[str, T] | None:
        """The best task whose lane has room, with its lane; the lane counts it as busy until `free`."""
        best: str | None = None
        for lane, heap in self._heaps.items():
            if heap and self._has_room(lane) and (best is None or heap[0][:2] < self._heaps[best][0][:2]):
                best = lane
        return None if best is None else (best, self._pop(best))

    def take_more(self, lane: str, like: Callable[[T], bool], most: int) -> list[T]:
        """Up to `most` further tasks from the head of a lane, as long as `like` is true of them; they count as one with the last one."""
        heap = self._heaps.get(lane, [])
        taken: list[T] = []
        while heap and len(taken) < most and like(heap[0][2]):
            taken.append(heappop(heap)[2])
        return taken

    def free(self, lane: str) -> None:
        """One that was taken from this lane has ended."""
        if lane in self._busy:
            self._busy[lane] -= 1

    def withdraw(self, wanted: Callable[[T], bool]) -> list[T]:
        """Remove and return the waiting tasks of which `wanted` is true, in order."""
        taken: list[tuple[int, int, T]] = []
        for lane, heap in self._heaps.items():
            kept: list[tuple[int, int, T]] = []
            for entry in heap:
                (taken if wanted(entry[2]) else kept).append(entry)
            if len(kept) < len(heap):
                heapify(kept)
                self._heaps[lane] = kept
        return [entry[2] for entry in sorted(taken, key=lambda entry: entry[:2])]

    def _has_room(self, lane: str) -> bool:
        return lane not in self._limits or self._busy[lane] < self._limits[lane]

    def _pop(self, lane: str) -> T:
        if lane in self._busy:
            self._busy[lane] += 1
        return heappop(self._heaps[lane])[2]


class SlotPool(Generic[K]):
    """Leave to run jobs, shared by the libraries of a runtime: at most `size` at once; a suspect runs when nobody else does.

    A library asks for slots and keeps them while it has work; when another one waits, its slots are called back as its jobs end. Whoever
    wants slots and lets go of those it is asked for gets its turn: who was given one last is the last of those who hold as few.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._held: dict[K, int] = {}
        self._wanted: dict[K, int] = {}
        """In the order in which they were last given one, or first asked."""
        self._alone_wanted: dict[K, None] = {}
        self._alone: K | None = None

    def ask(self, who: K, slots: int) -> None:
        """`who` wants this many in all, from now on (not in addition)."""
        if slots > 0:
            self._wanted[who] = slots
        else:
            self._wanted.pop(who, None)

    def ask_alone(self, who: K) -> None:
        """`who` wants the whole pool, for a suspect."""
        self._alone_wanted[who] = None

    def give_back(self, who: K, slots: int) -> None:
        left = self._held.get(who, 0) - slots
        if left > 0:
            self._held[who] = left
        else:
            self._held.pop(who, None)

    def end_alone(self, who: K) -> None:
        if self._alone == who:
            self._alone = None

    def forget(self, who: K) -> None:
        """`who` is gone, with everything it held."""
        self._held.pop(who, None)
        self._wanted.pop(who, None)
        self._alone_wanted.pop(who, None)
        self.end_alone(who)

    def grant(self) -> list[tuple[K, int, bool]]:
        """What can be given now: (who, slots, alone). Fair: one slot at a time to whoever holds fewest, of these who waits longest."""
        if self._alone is not None:
            return []
        if self._alone_wanted:
            if self._held:
                return []
            who = next(iter(self._alone_wanted))
            del self._alone_wanted[who]
            self._alone, self._held[who] = who, 1
            return [(who, 1, True)]
        given: dict[K, int] = {}
        while sum(self._held.values()) < self.size:
            hungry = [who for who, slots in self._wanted.items() if self._held.get(who, 0) < slots]
            if not hungry:
                break
            who = min(hungry, key=lambda each: self._held.get(each, 0))
            self._wanted[who] = self._wanted.pop(who)
            self._held[who] = self._held.get(who, 0) + 1
            given[who] = given.get(who, 0) + 1
        return [(who, slots, False) for who, slots in given.items()]

    def recall(self) -> list[K]:
        """Who should give back slots, those it does not use now, the others as its jobs end: someone has none, or wants to be alone."""
        if self._alone_wanted:
            return [who for who in self._held if who != self._alone]
        starving = [who for who in self._wanted if who not in self._held]
        if not starving or self._alone is not None:
            return []
        return list(self._held)
