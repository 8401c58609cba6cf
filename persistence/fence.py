"""The fence: a job actor's write names its claim, and only the actor that holds the job may change it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import apsw

from callboard.jobs.lifecycle import Status
from callboard.persistence.rows import Layout, bound
from callboard.persistence.writes import End, Leave, SaveCheckpoint, SpawnAgain, SpawnChildren

Claimant = tuple[bytes, int]
"""(job id, claim)"""

HOLDS = "j.claim = e.claim AND j.status IN ('running', 'pausing', 'cancelling')"
"""`j` is the job's row, `e` the write."""

_CLAIM = Layout(id=16, claim="int")

HELD = f"""
SELECT json_group_array(json_array(hex(j.id), j.claim, j.status)) FROM (SELECT {_CLAIM.select()} FROM carray(?)) AS e
CROSS JOIN jobs AS j ON j.id = e.id WHERE {HOLDS}"""


HELD_ONE = "SELECT status FROM jobs WHERE id = ? AND claim = ? AND status IN ('running', 'pausing', 'cancelling')"


def held(con: apsw.Connection, writes: Sequence[SaveCheckpoint | End | Leave | SpawnChildren | SpawnAgain]) -> dict[Claimant, Status]:
    """The status of the job of each write whose actor holds it. One statement, however many they are."""
    if len(writes) == 1:
        claimant = writes[0].job_id, writes[0].claim
        status = con.execute(HELD_ONE, claimant).get
        return {} if status is None else {claimant: Status(status)}
    claims = bound(_CLAIM.pack((write.job_id, write.claim)) for write in writes)
    found: list[tuple[str, int, str]] = json.loads(con.execute(HELD, (claims,)).get)
    return {(bytes.fromhex(job_id), claim): Status(status) for job_id, claim, status in found}
