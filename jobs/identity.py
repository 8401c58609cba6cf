"""Job ids: UUIDv7 as 16 bytes, rising in order of arrival, never reused. Also how people write them."""

from __future__ import annotations

from uuid import UUID

from callboard.jobs.errors import NoSuchJob, NotDecodable, shown

ID_BYTES = 16
_VERSION, _VARIANT = 7 << 76, 2 << 62
_COUNTER_BITS = 74
_COUNTER_TOP = 1 << _COUNTER_BITS
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
        if self._id() != last:  # written by something else: whatever its other bits say, the next one must be above it
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
        return self._id()

    def _id(self) -> bytes:
        high, low = self._counter >> 62, self._counter & ((1 << 62) - 1)
        return (self._time_ms << 80 | _VERSION | high << 64 | _VARIANT | low).to_bytes(ID_BYTES, "big")


def _parts(job_id: bytes) -> tuple[int, int]:
    value = int.from_bytes(job_id, "big")
    return value >> 80, (value >> 64 & 0xFFF) << 62 | value & ((1 << 62) - 1)


def id_text(job_id: bytes) -> str:
    """The usual form of a UUID: 36 characters."""
    return str(UUID(bytes=job_id))


def id_from_text(text: str) -> bytes:
    """The id that `id_text` wrote. Raises `NoSuchJob` for anything that is no UUID."""
    try:
        return UUID(text).bytes
    except (ValueError, AttributeError, TypeError):
        raise NoSuchJob(f"{shown(text)} is no job id; ids look like 0197a3c2-5b7e-7c00-8000-1f2e3d4c5b6a") from None
