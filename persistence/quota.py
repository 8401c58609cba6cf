"""How many live jobs a library, and a group in it, may hold. Counted, not read: exact with every commit, and loaded when first needed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

import apsw

from callboard.jobs.errors import Busy, shown
from callboard.persistence.rows import bound

LIVE = """
SELECT (SELECT count(*) FROM jobs WHERE status <> 'queued')
  + (SELECT count(*) FROM jobs WHERE status = 'queued' AND run_at IS NULL AND kept_back = 0 AND alone IN (0, 1))
  + (SELECT count(*) FROM jobs WHERE limited IS NOT NULL AND kept_back = 1 AND status = 'queued' AND run_at IS NULL)
  + (SELECT count(*) FROM jobs WHERE status = 'queued' AND run_at IS NOT NULL)"""
GROUPS = """
SELECT CAST(json_group_array(json_array(grp, n)) AS BLOB) FROM (
  SELECT grp, count(*) AS n FROM jobs WHERE grp IS NOT NULL GROUP BY grp)"""
GROUPS_ENDED = """
SELECT CAST(json_group_array(h.grp) AS BLOB) FROM carray(?) AS e CROSS JOIN job_history AS h ON h.id = e.value WHERE h.grp IS NOT NULL"""


class Quota:
    """`most`: live jobs of the library; `most_of_group`: of each group. None: as many as there are."""

    def __init__(self, con: apsw.Connection, most: int | None, most_of_group: int | None) -> None:
        self._con, self._most, self._most_of_group = con, most, most_of_group
        self.counts = most is not None or most_of_group is not None
        """Whether there is any limit; if not, nothing is counted."""
        self._live: int | None = None
        """None: to be counted."""
        self._groups: Counter[str] = Counter()

    def forget(self) -> None:
        """A group was not stored: what was counted may not be true."""
        self._live = None

    def why_not(self, groups: Sequence[str | None], beside: Counter[str | None] | None = None) -> Busy | None:
        """Whether there is no room for new jobs of these groups, beside others that are allowed already: group → how many."""
        if not self.counts:
            return None
        live = self._loaded() + (beside.total() if beside else 0)
        if self._most is not None and live + len(groups) > self._most:
            return Busy(
                f"{live} jobs of the library have not ended, the limit is {self._most} (max_queued), and {len(groups)} more would be over it:"
                " try again when some have ended, or open the library with a higher limit"
            )
        if self._most_of_group is not None:
            for group, count in Counter(group for group in groups if group is not None).items():
                there = self._groups[group] + (beside[group] if beside else 0)
                if there + count > self._most_of_group:
                    return Busy(
                        f"{there} jobs of group {shown(group)} have not ended, the limit is {self._most_of_group}"
                        f" (group_max_queued), and {count} more would be over it: try again when some have ended, or open the library with a"
                        " higher limit"
                    )
        return None

    def made(self, groups: Iterable[str | None]) -> None:
        """These new jobs were written, a group for each."""
        if self.counts and self._live is not None:
            found = list(groups)
            self._live += len(found)
            if self._most_of_group is not None:
                self._groups.update(group for group in found if group is not None)

    def ended(self, job_ids: Sequence[bytes]) -> None:
        """These are in the history now."""
        if self._live is None or not job_ids:
            return
        self._live -= len(job_ids)
        if self._most_of_group is not None:
            raw: bytes = self._con.execute(GROUPS_ENDED, (bound(job_ids),)).get
            self._groups.subtract(json.loads(raw.decode("utf-8", "replace")))

    def _loaded(self) -> int:
        if self._live is None:
            self._live = int(self._con.execute(LIVE).get)
            if self._most_of_group is not None:
                raw: bytes = self._con.execute(GROUPS).get
                self._groups = Counter(dict(json.loads(raw.decode("utf-8", "replace"))))
        return self._live
