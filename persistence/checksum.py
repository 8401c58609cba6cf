"""A short checksum over parts of a row, so that a flipped bit, or a blob moved to another row, is seen before it is used.

It guards against damage and mix-ups, not against someone who can write the file: it has no key.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

SIZE = 8
"""Length of a checksum in bytes."""


def checksum(*parts: bytes | str | int) -> bytes:
    """The 8-byte checksum of `parts`, in this order.

    Each part counts with its type and length, so `("ab", "c")`, `("a", "bc")` and `(b"ab", "c")` differ. TypeError for other types.
    """
    pieces: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            pieces += (b"b%d:" % len(part), part)
        elif isinstance(part, str):
            text = part.encode("utf-8", "surrogatepass")
            pieces += (b"s%d:" % len(text), text)
        elif isinstance(part, int):
            pieces.append(b"i%d:" % part)
        else:
            raise TypeError(f"a checksum is taken over bytes, str and int, not {type(part).__name__}")
    return blake2b(b"".join(pieces), digest_size=SIZE).digest()


def job_checksum(name: str, version: int, data: bytes) -> bytes:
    """Of what is stored of a job: `checksum(name, version, data)`, faster."""
    hashed = _begun(name, version).copy()
    hashed.update(b"b%d:%b" % (len(data), data))
    return hashed.digest()


ID_END = 8
"""With its checksum a row has the last bytes of its job's id: a payload that has got into another job's row is seen by them."""


def is_jobs_checksum(stored: bytes, job_id: bytes, name: str, version: int, data: bytes) -> bool:
    """Whether this is what was stored with these. Older rows have the checksum alone."""
    return stored[:SIZE] == job_checksum(name, version, data) and stored[SIZE:] in (b"", job_id[ID_END:])


def part_checksum(job_id: bytes, kind: str, name: str, page: int, sequence: int, value: bytes) -> bytes:
    """Of a part of a checkpoint: `checksum(job_id, kind, name, page, sequence, value)`, faster."""
    raw_kind, raw_name = kind.encode("utf-8", "surrogatepass"), name.encode("utf-8", "surrogatepass")
    return blake2b(
        b"b%d:%bs%d:%bs%d:%bi%d:i%d:b%d:%b"
        % (len(job_id), job_id, len(raw_kind), raw_kind, len(raw_name), raw_name, page, sequence, len(value), value),
        digest_size=SIZE,
    ).digest()


@lru_cache(maxsize=1024)
def _begun(name: str, version: int) -> blake2b:
    text = name.encode("utf-8", "surrogatepass")
    return blake2b(b"s%d:%bi%d:" % (len(text), text, version), digest_size=SIZE)
