"""Job ids as people type them: whole, or so much of the beginning that it means one job."""

from __future__ import annotations

import re

from callboard.actors.frontends.reach import Board
from callboard.jobs.errors import NoSuchJob
from callboard.jobs.identity import id_from_text, id_text
from callboard.jobs.record import JobFilter

DIGITS = 32
CANDIDATES = 5


def find(anyone: Board, text: str) -> bytes:
    """The id of the one job whose id begins so. A whole id is not looked up. Raises `NoSuchJob` for none, and for more than one."""
    digits = text.replace("-", "").lower()
    if len(digits) == DIGITS or not re.fullmatch(f"[0-9a-f]{{1,{DIGITS}}}", digits):
        return id_from_text(text)
    first, last = int(digits.ljust(DIGITS, "0"), 16), int(digits.ljust(DIGITS, "f"), 16)
    found = []
    for ended, before in ((False, first - 1), (True, last + 1)):
        after = before.to_bytes(16) if 0 <= before < 1 << 128 else None
        page = anyone.page(JobFilter(after=after, limit=CANDIDATES), ended=ended)
        found += [record.id for record in page if first <= int.from_bytes(record.id) <= last]
    if not found:
        raise NoSuchJob(f"no job's id begins with {text!r}; `callboard jobs list` has them")
    if len(set(found)) > 1:
        some = ", ".join(sorted(map(id_text, found))[:CANDIDATES])
        raise NoSuchJob(f"more than one job's id begins with {text!r}: {some}; give more of it")
    return found[0]
