"""New jobs whose key is taken: who stands there, and what becomes of both, by the table of `callboard.jobs.duplicates` alone.

One function for single jobs and for batches. The statements are as many as there are different fates, however many the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import apsw

from callboard.jobs.batch_items import ItemKind
from callboard.jobs.duplicates import DECISIONS, Answer, Decision, NewRow, OldJob, Standing, raises_priority
from callboard.jobs.lifecycle import Event, Status, transition
from callboard.jobs.submission import OnDuplicate
from callboard.persistence.aftermath import Replaced
from callboard.persistence.children import HELD_AT_END, give_way, with_live_children
from callboard.persistence.newrows import (
    ALL_BYTES,
    BORN_ENDED,
    ID,
    INSERT,
    INSERT_EACH,
    INSERT_ONE,
    NAME,
    NOBODY,
    PRIORITY,
    RUN_AT,
    STANDING,
    STANDING_BEHIND,
    STRATEGY,
    TAKEN,
    NewRows,
)
from callboard.persistence.rows import bound

NO_KEY, OWN = b"-="
"""Codes of rows that have met nobody."""
_CODES = {
    "q": Standing.QUEUED, "d": Standing.DELAYED, "w": Standing.WAITING, "p": Standing.PAUSED, "g": Standing.PAUSING, "r": Standing.RUNNING,
    "c": Standing.CANCELLING, "n": Standing.QUARANTINED,
}  # fmt: skip
_PARENTS = {"k": Standing.CHILDREN_RUNNING, "e": Standing.CANCELLING}
"""Jobs with children that have not ended: those that run, wait or stand still, and those that are being cancelled with them."""
STANDINGS = {ord(code): standing for code, standing in (*_CODES.items(), *_PARENTS.items())}
_PARENT_CODES = frozenset(map(ord, _PARENTS))
NEVER_CLAIMED = {ord(code.upper()): standing for code, standing in _CODES.items()}
"""Capital letters: it may be of the same batch, and was never claimed."""
_STATUS = {standing: Status.QUEUED if standing is Standing.DELAYED else Status(standing) for standing in _CODES.values()}
_NAMES = {status: status.encode() for status in Status}
_ENDS_NOW = {
    code: _STATUS[standing] for code, standing in (*STANDINGS.items(), *NEVER_CLAIMED.items())
    if DECISIONS[OnDuplicate.SUPERSEDE, standing][1:3] == (NewRow.QUEUED, OldJob.ENDS)
}  # fmt: skip
"""Codes of older jobs that end when they are superseded, and leave their place in line: their status until then."""
KIND_OF = {
    Answer.SUBMITTED: ItemKind.SUBMITTED, Answer.DEDUPLICATED: ItemKind.DEDUPLICATED, Answer.SUPERSEDED: ItemKind.SUPERSEDED,
    Answer.REQUEUED: ItemKind.REQUEUED, Answer.REJECTED: ItemKind.REJECTED,
}  # fmt: skip
_TO_DO = 255
SAMPLE = 32
"""So many keys of a chunk are looked up to guess whether some are taken (less than twice as many)."""


def _table(strategy: OnDuplicate) -> bytes:
    """Code → kind, where nothing is to be done but to say so."""
    table = bytearray([_TO_DO]) * 256
    table[NO_KEY] = table[OWN] = ItemKind.SUBMITTED
    for code, standing in STANDINGS.items():
        decision = DECISIONS[strategy, standing]
        if decision.new is NewRow.NONE and decision.old is OldJob.STAYS:
            table[code] = KIND_OF[decision.outcome]
    return bytes(table)


_TABLES = {strategy: _table(strategy) for strategy in OnDuplicate}

SUPERSEDED = "superseded by a newer job of the same key"
FIRST_OF_NO_BATCH = b"\xff" * ID

_OLD, _BY, _BEFORE = "substr(e.value, 1, 16)", "substr(e.value, 17, 16)", "CAST(substr(e.value, 33) AS TEXT)"
END_OLD = f"""
INSERT INTO job_history (id, name, version, status, priority, key, grp, parent, retry_of, resumable, retry, tags, requested_by,
  created_at, started_at, ended_at, claim, attempt, crashes, running_ms, waiting_ms, warnings, error, progress, data, checksum, superseded_by)
SELECT j.id, j.name, j.version, 'cancelled', j.priority, j.key, j.grp, j.parent, j.retry_of, j.resumable, j.retry, j.tags, j.requested_by,
  j.created_at, j.started_at, ?2, j.claim, j.attempt, j.crashes, j.running_ms,
  j.waiting_ms + iif(j.status = 'queued' AND j.run_at IS NULL, max(0, ?2 - j.queued_at), 0), j.warnings, ?3, j.progress, j.data, j.checksum, {_BY}
FROM carray(?1) AS e CROSS JOIN jobs AS j ON j.id = {_OLD} WHERE j.status = {_BEFORE}"""
REMOVE_OLD = """
DELETE FROM jobs WHERE id IN (SELECT substr(value, 1, 16) FROM carray(?)) AND status NOT IN ('running', 'pausing', 'cancelling')"""
CANCEL_OLD = f"""
UPDATE jobs SET status = 'cancelling', intent = 'cancel', superseded_by = {_BY}
FROM carray(?) AS e WHERE jobs.id = {_OLD} AND jobs.status = {_BEFORE}"""
RAISE = f"""
UPDATE jobs SET priority = CAST(substr(e.value, 17, 3) AS INTEGER)
FROM carray(?) AS e WHERE jobs.id = {_OLD} AND jobs.status = CAST(substr(e.value, 20) AS TEXT)"""


class Met(NamedTuple):
    """Who has the key of each row, as it was read."""

    olders: bytes
    codes: bytes
    priorities: bytes
    fronts: bytes
    raised: int
    """How many rows are more urgent than the job that has their key."""

    def front(self, place: int) -> bytes:
        return self.fronts[ID * place : ID * place + ID]


class Older(NamedTuple):
    """The job that the next one of its key will meet."""

    id: bytes
    standing: Standing
    status: Status
    priority: int
    front: bytes
    """The job that it waits behind."""
    place: int | None = None
    """The row that it is, if that is not written yet."""


class Settled:
    """What is to be done about the rows of a group whose key was taken, and what was."""

    def __init__(self, met: Met, kinds: bytes | bytearray) -> None:
        self.met, self.kinds = met, kinds
        """`kinds`: an `ItemKind` for each row."""
        self.olders: bytes | bytearray = met.olders if isinstance(kinds, bytes) else bytearray(met.olders)
        """The id of the older job for each row; of those that met none their own, or NOBODY."""
        self.waiting: dict[int, bytes] = {}
        """Row → the job in front of it."""
        self.queued: set[int] = set()
        """Rows that take the place of an older one at once."""
        self.born_ended: dict[int, bytes] = {}
        """Row → the newer one."""
        self.ended: dict[bytes, tuple[Status, bytes]] = {}
        """Older job → its status until now, and the newer one."""
        self.free: list[int] = []
        """Rows that have met none and are not written yet."""
        self.cancelled: dict[bytes, tuple[Older, bytes, str]] = {}
        self.raised: dict[bytes, tuple[int, Status]] = {}
        self.raised_later: dict[bytes, tuple[int, Status]] = {}
        """The same, of jobs that are themselves rows not yet written."""
        self.replaced: list[Replaced] = []
        self.unready: list[bytes] = []
        """New jobs that are in no line: they wait behind another, or have ended already."""
        self.parents: dict[bytes, bytes] = {}
        """Jobs with children that are to end for the sake of newer ones when these have ended, and the newer ones."""
        self.waiting_ended = 0
        """So many successors have ended."""

    def made(self, place: int) -> bool:
        """A job was made of this row."""
        return self.met.codes[place] in (NO_KEY, OWN) or place in self.queued or place in self.waiting or place in self.born_ended

    @property
    def members(self) -> int:
        """So many jobs were made."""
        codes = self.met.codes
        return codes.count(NO_KEY) + codes.count(OWN) + len(self.queued) + len(self.waiting) + len(self.born_ended)

    @property
    def met_some(self) -> int:
        """So many rows have met an older job."""
        codes = self.met.codes
        return len(codes) - codes.count(NO_KEY) - codes.count(OWN)

    def older(self, place: int) -> bytes:
        """NOBODY for a row that has met none."""
        return NOBODY if self.met.codes[place] in (NO_KEY, OWN) else bytes(self.olders[ID * place : ID * place + ID])


def put(
    con: apsw.Connection,
    new: NewRows,
    now_ms: int,
    *,
    claimed: bool = False,
    behind: bool = False,
    chains: bool = False,
    mine: Sequence[tuple[bytes, bytes]] = (),
    parents: bytes = b"",
    ask_first: bool = False,
) -> Settled | None:
    """Write the rows; None if no key was taken. `behind`: successors may be waiting in the library. `chains`: rows may have equal keys.

    `mine`: first and last ids of the parts of their batch that are stored: what is of it, and was never claimed, gives way. `parents`: an id
    for each row, NOBODY for none: whose children these are was decided by who has a key now, and a job that has children by then is another
    case. `ask_first`: a few keys are looked up, and if one is taken no attempt to write all is made. Neither with `chains`.
    """
    single = len(new.rows) == 1 and not (ask_first or parents)
    if single:
        con.execute(INSERT_ONE, new.one(now_ms, claimed))
        if con.changes():
            return None
    packed = bound(new.rows)
    asked = ask_first and not parents
    if parents or (asked and _some_are_taken(con, new)):
        settled = settle(new, look(con, packed, new, behind=behind, mine=mine, filled=asked), mine=mine)
        settled.free = [place for place, code in enumerate(settled.met.codes) if code == NO_KEY]
        settled.unready = [new.id(place) for place in settled.waiting]
        _carry_out(con, new, settled, now_ms, parents)
        return settled if settled.met_some else None
    inserted = 0
    if not single:
        INSERT.execute(con, (packed, new.ids, now_ms, int(claimed)), new.shapes, filled=asked)
        inserted = con.changes()
    if inserted == len(new.rows):
        return None
    met = look(con, packed, new, behind=behind, mine=mine, filled=not single)
    if inserted != met.codes.count(NO_KEY) + met.codes.count(OWN):
        raise AssertionError(f"{inserted} of {len(new.rows)} new jobs were written, and the keys of others are free")
    settled = settle(new, met, claimed=claimed, chains=chains, mine=mine)
    settled.unready = [new.id(place) for place in (*settled.waiting, *settled.born_ended)]
    _carry_out(con, new, settled, now_ms, parents)
    return settled


def look(
    con: apsw.Connection, packed: Any, new: NewRows, *, behind: bool, mine: Sequence[tuple[bytes, bytes]] = (), filled: bool = False
) -> Met:
    """Who has the keys of these rows: one statement, one row."""
    first = mine[0][0] if mine else FIRST_OF_NO_BATCH
    statement = STANDING_BEHIND if behind else STANDING
    for row in statement.execute(con, (packed, new.ids, first, ALL_BYTES), new.shapes, filled=filled):
        return Met(*row)
    raise AssertionError("an aggregate has one row")


def _some_are_taken(con: apsw.Connection, new: NewRows) -> bool:
    """Whether keys of these rows are likely taken: whether one is of a few that stand far apart."""
    few = new.rows[:: max(1, len(new.rows) // SAMPLE)]
    return bool(TAKEN.execute(con, (bound(few),), new.shapes).get)


def settle(
    new: NewRows, met: Met, *, claimed: bool = False, chains: bool = False, mine: Sequence[tuple[bytes, bytes]] = ()
) -> Settled:
    """Decide for every row. Changes nothing."""
    strategies = {shape[STRATEGY] for shape in new.shapes}
    names = {shape[NAME] for shape in new.shapes}
    superseding = strategies == {OnDuplicate.SUPERSEDE} and len(names) == 1 and next(iter(names))
    equal_keys = chains and _some_keys_are_equal(new, met)
    if len(strategies) == 1 and not equal_keys and not (met.raised and OnDuplicate.SKIP in strategies):
        kinds = met.codes.translate(_TABLES[strategies.pop()])
        if _TO_DO not in kinds:
            return Settled(met, kinds)
    settled = Settled(met, bytearray(len(met.codes)))
    heirs: dict[tuple[str, bytes], Older] | None = {} if equal_keys else None
    for place, code in enumerate(met.codes):
        if code == NO_KEY:
            continue
        shape = new.shape(place)
        if heirs is not None:
            key = shape[NAME], new.key(place)
            if code == OWN:
                heirs[key] = _written(new, place, claimed)
            else:
                heirs[key] = _meet(settled, new, place, heirs.get(key) or _older(met, place), shape[STRATEGY])
        elif superseding is not False and code in _ENDS_NOW:  # as `_meet` would, for a batch of these
            at = ID * place
            old, by = met.olders[at : at + ID], new.ids[at : at + ID]
            settled.ended[old] = _ENDS_NOW[code], by
            settled.queued.add(place)
            settled.kinds[place] = ItemKind.SUPERSEDED  # type: ignore[index]
            settled.replaced.append(Replaced(old, superseding, by, True))
        elif code != OWN:
            older = _older(met, place)
            same_batch = code in NEVER_CLAIMED and any(first <= older.id <= last for first, last in mine)
            _meet(settled, new, place, older, OnDuplicate.SUPERSEDE if same_batch else shape[STRATEGY])
    return settled


def _some_keys_are_equal(new: NewRows, met: Met) -> bool:
    keys = [(new.shape(place)[NAME], new.key(place)) for place, code in enumerate(met.codes) if code != NO_KEY]
    return len(set(keys)) < len(keys)


def _older(met: Met, place: int) -> Older:
    code = met.codes[place]
    standing = STANDINGS.get(code) or NEVER_CLAIMED[code]
    at = ID * place
    status = HELD_AT_END if code in _PARENT_CODES else _STATUS[standing]
    return Older(met.olders[at : at + ID], standing, status, met.priorities[place], met.front(place))


def _written(new: NewRows, place: int, claimed: bool) -> Older:
    """A row that was written just now, as the next one meets it: a claim comes after all that is new."""
    shape = new.shape(place)
    standing = Standing.QUEUED if shape[RUN_AT] is None else Standing.DELAYED
    return Older(new.id(place), standing, Status.RUNNING if claimed else Status.QUEUED, shape[PRIORITY], NOBODY)


def _meet(settled: Settled, new: NewRows, place: int, older: Older, strategy: OnDuplicate) -> Older:
    """One row meets the job that has its key; who the next one will meet."""
    decision = DECISIONS[strategy, older.standing]
    settled.olders[ID * place : ID * place + ID] = older.id  # type: ignore[index]
    kinds: Any = settled.kinds
    kinds[place] = KIND_OF[decision.outcome]
    if decision.new is NewRow.NONE:
        priority = new.shape(place)[PRIORITY]
        if not raises_priority(strategy, older.standing, older.priority, priority):
            return older
        kinds[place] = ItemKind.RAISED
        (settled.raised if older.place is None else settled.raised_later)[older.id] = priority, older.status
        return older._replace(priority=priority)
    shape, job_id = new.shape(place), new.id(place)
    _old_gives_way(settled, decision, older, job_id, shape[NAME])
    if decision.new is NewRow.QUEUED:
        settled.queued.add(place)
        standing = Standing.QUEUED if shape[RUN_AT] is None else Standing.DELAYED
        return Older(job_id, standing, Status.QUEUED, shape[PRIORITY], NOBODY, place)
    front = settled.waiting[place] = older.id if decision.new is NewRow.BEHIND else older.front
    return Older(job_id, Standing.WAITING, Status.WAITING, shape[PRIORITY], front, place)


def _old_gives_way(settled: Settled, decision: Decision, older: Older, by: bytes, name: str) -> None:
    if decision.old is OldJob.CANCELLING:
        settled.cancelled[older.id] = older, by, name
        return
    if decision.old is OldJob.STAYS:
        return
    settled.raised_later.pop(older.id, None)
    settled.replaced.append(Replaced(older.id, name, by, True))
    if older.place is None:
        settled.ended[older.id] = older.status, by
        settled.waiting_ended += older.standing is Standing.WAITING
    else:
        settled.queued.discard(older.place)
        settled.waiting.pop(older.place, None)
        settled.born_ended[older.place] = by


def _carry_out(con: apsw.Connection, new: NewRows, settled: Settled, now_ms: int, parents: bytes) -> None:
    """Each fate in one statement, or two: first whoever makes room, then whoever takes it."""
    _raise(con, settled.raised)  # before they end, if they do: the history has what the job had
    _hold_parents(con, settled, now_ms)
    if settled.ended:
        rows = bound([b"%b%b%b" % (old, by, _NAMES[status]) for old, (status, by) in settled.ended.items()])
        con.execute(END_OLD, (rows, now_ms, SUPERSEDED))
        _check(con, len(settled.ended), "were written to the history")
        con.execute(REMOVE_OLD, (rows,))
        _check(con, len(settled.ended), "were removed from the queue")
    if settled.cancelled:
        for older, by, name in settled.cancelled.values():
            transition(older.status, Event.CANCEL)
            settled.replaced.append(Replaced(older.id, name, by, False))
        rows = [b"%b%b%b" % (old, by, older.status.encode()) for old, (older, by, _) in settled.cancelled.items() if old not in settled.parents]
        if rows:
            con.execute(CANCEL_OLD, (bound(rows),))
            _check(con, len(rows), "were asked to cancel")
    later = sorted((*settled.queued, *settled.waiting, *settled.free))
    if later:
        afters = b"".join([settled.waiting.get(place, NOBODY) for place in later]) if settled.waiting else bytes(ID * len(later))
        of_parents = b"".join(parents[ID * place : ID * place + ID] for place in later) if parents else bytes(len(afters))
        whole = len(later) == len(new.rows)
        packed = bound(new.rows if whole else [new.rows[place] for place in later])
        ids = new.ids if whole else b"".join(map(new.id, later))
        INSERT_EACH.execute(con, (packed, ids, now_ms, afters, of_parents), new.shapes, filled=True)
        _check(con, len(later), "were written")
    if settled.born_ended:
        packed = bound(new.rows[place] for place in settled.born_ended)
        ids = b"".join(map(new.id, settled.born_ended))
        newer = b"".join(settled.born_ended.values())
        BORN_ENDED.execute(con, (packed, ids, now_ms, newer, SUPERSEDED), new.shapes, filled=True)
        _check(con, len(settled.born_ended), "were written to the history")
    _raise(con, settled.raised_later)


def _hold_parents(con: apsw.Connection, settled: Settled, now_ms: int) -> None:
    """Who has children that live ends when they have ended; of those in line it is known already, of a successor it is looked up here."""
    settled.parents = {old: by for old, (older, by, _) in settled.cancelled.items() if older.status is HELD_AT_END}
    waiting = with_live_children(con, [old for old, (status, _) in settled.ended.items() if status is Status.WAITING])
    if waiting:
        settled.parents.update((old, settled.ended.pop(old)[1]) for old in waiting)
        settled.replaced = [each._replace(ended=False) if each.job_id in waiting else each for each in settled.replaced]
    give_way(con, settled.parents, now_ms)


def _raise(con: apsw.Connection, raised: Mapping[bytes, tuple[int, Status]]) -> None:
    if raised:
        con.execute(RAISE, (bound(b"%b%3d%b" % (old, priority, status.encode()) for old, (priority, status) in raised.items()),))
        _check(con, len(raised), "got another priority")


def _check(con: apsw.Connection, expected: int, what: str) -> None:
    if con.changes() != expected:
        raise AssertionError(f"{expected} jobs that were read in this transaction, and {con.changes()} {what}")
