"""Job ids: UUIDv7 as 16 bytes, rising in order of arrival, never reused. Also how people write them."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from callboard.jobs.errors import BadArgument, NoSuchJob, NotDecodable, shown

ID_BYTES = 16
_VERSION, _VARIANT = 7 << 76, 2 << 62
_COUNTER_BITS = 74
_COUNTER_TOP = 1 << _COUNTER_BITS
_LOW = (1 << 62) - 1
"""The lower bits of the counter, which end the id; above them stands the variant."""
_YEAR_10000_MS = 253_402_300_800_000
"""No id is of a later time, save in a damaged library; it leaves room for as many ids as will ever be given."""


class IdSource:
    """Gives ids: the time in ms, then a counter that starts at a random place and only rises. Same or earlier time: the last id + 1."""

    def __init__(self, last: bytes | None = None) -> None:
        """`last`: the highest id given so far: ids rise over restarts and clocks set back. Raises `NotDecodable` if it is damaged."""
        self._time_ms = self._counter = 0
        if last is None:
            return
        self._time_ms, self._counter = _parts(last)
        if len(last) != ID_BYTES or self._time_ms >= _YEAR_10000_MS:
            raise NotDecodable(f"the highest job id, {last[:32].hex()}, is damaged: it is none that was ever given")
        if _joined(self._time_ms, self._counter) != last:  # written by something else: whatever its other bits say, the next one must be above it
            self._time_ms, self._counter = self._time_ms + 1, 0

    def next(self, now_ms: int, random_bytes: bytes) -> bytes:
        """The next id. `now_ms`: ms since the epoch. `random_bytes`: 8 fresh random bytes, used when the time has moved on."""
        if now_ms > self._time_ms:
            self._time_ms = now_ms
            self._counter = int.from_bytes(random_bytes, "big")  # 64 bits of the 74: room to count within the millisecond
        else:
            self._counter += 1
            if self._counter >= _COUNTER_TOP:
                self._time_ms, self._counter = self._time_ms + 1, 0
        return _joined(self._time_ms, self._counter)

    def take(self, count: int, now_ms: int, random_bytes: bytes) -> bytes:
        """The first of `count` ids in a row, all of one millisecond: `nth` gives the others. Raises `BadArgument` for a count below 1."""
        if count < 1:
            raise BadArgument(f"count={shown(count)} is not a number of ids from 1 on")
        if now_ms > self._time_ms:
            self._time_ms, first = now_ms, int.from_bytes(random_bytes, "big")
        else:
            first = self._counter + 1
            if first + count > _COUNTER_TOP:
                self._time_ms, first = self._time_ms + 1, 0
        self._counter = first + count - 1
        return _joined(self._time_ms, first)


def nth(first: bytes, i: int) -> bytes:
    """The id that an `IdSource` gives `i` ids after `first` (0: `first` itself). Raises `BadArgument` for an `i` below 0."""
    value = int.from_bytes(first, "big")
    if 0 <= i <= _LOW - (value & _LOW):
        return (value + i).to_bytes(ID_BYTES, "big")
    if i < 0:
        raise BadArgument(f"i={shown(i)} is not a number of ids from 0 on")
    time_ms, counter = _parts(first)
    over, counter = divmod(counter + i, _COUNTER_TOP)
    return _joined(time_ms + over, counter)


def run_of_ids(first: bytes, count: int) -> Iterator[bytes]:
    """`nth(first, 0)` to `nth(first, count - 1)`, for less than asking for each."""
    value = int.from_bytes(first, "big")
    if (value & _LOW) + count <= _LOW:
        return (each.to_bytes(ID_BYTES, "big") for each in range(value, value + count))
    return (nth(first, i) for i in range(count))


def _joined(time_ms: int, counter: int) -> bytes:
    return (time_ms << 80 | _VERSION | counter >> 62 << 64 | _VARIANT | counter & _LOW).to_bytes(ID_BYTES, "big")


def _parts(job_id: bytes) -> tuple[int, int]:
    value = int.from_bytes(job_id, "big")
    return value >> 80, (value >> 64 & 0xFFF) << 62 | value & _LOW


def uuid_bytes(value: object) -> bytes | None:
    """The 16 bytes of a UUID, or of what is 16 bytes already; None for anything else."""
    if isinstance(value, UUID):
        return value.bytes
    return value if isinstance(value, bytes) and len(value) == ID_BYTES else None


def id_text(job_id: bytes) -> str:
    """The usual form of a UUID: 36 characters."""
    return str(UUID(bytes=job_id))


def id_from_text(text: str) -> bytes:
    """The id that `id_text` wrote. Raises `NoSuchJob` for anything that is no UUID."""
    try:
        return UUID(text).bytes
    except (ValueError, AttributeError, TypeError):
        raise NoSuchJob(f"{shown(text)} is no job id; ids look like 0197a3c2-5b7e-7c00-8000-1f2e3d4c5b6a") from None
