"""Durability as tested: a process that submits is killed, and what it had been acknowledged is looked for when the store is opened again.

A kill shows what a crash of the process loses. What a power cut loses it cannot show, for the page cache outlives the process: that is told by
the settings which the store answers.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from callboard.benchmarks.peers import load
from callboard.benchmarks.peers.peer import PATIENCE
from callboard.benchmarks.peers.servers import sweep

ACKS = 300
"""Acknowledged jobs before the kill; at least."""


@dataclass(frozen=True)
class Loss:
    """What was lost of what was acknowledged, over all kills."""

    kills: int
    acked: int
    lost: int
    settings: str
    synced: bool

    def __str__(self) -> str:
        power = "survives" if self.synced else "may lose acknowledged jobs"
        return f"lost {self.lost:,} of {self.acked:,} acked in {self.kills} kills; power loss: {power} ({self.settings}, read back)"


class ChildFailed(Exception):
    """The child ended by itself, or never acknowledged; the text has its last words."""


def killed(name: str, folder: Path | None = None, *, kills: int = 3, acks: int = ACKS) -> Loss:
    """Kill the peer `name` (of `PEERS`, or "module:Class") so often in new places below `folder`, and count.

    Raises ChildFailed."""
    adapter = load(name)
    acked = lost = 0
    for turn in range(kills):
        with tempfile.TemporaryDirectory(prefix="callboard-bench-", dir=folder, ignore_cleanup_errors=True) as place:
            # Not after the same number each time: that would hit the same moment of a checkpoint.
            said = _acknowledged(name, place, acks + 7 * turn)
            acked += len(said)
            lost += len(said - adapter.stored(Path(place)))
    return Loss(kills, acked, lost, adapter.settings.text, adapter.synced)


def _acknowledged(name: str, place: str, acks: int) -> set[str]:
    """What a child acknowledged until it was killed: every line that reached the pipe whole."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen([sys.executable, "-m", __name__, name, place], stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        assert child.stdout is not None
        said = b""
        try:
            while said.count(b"\n") < acks:
                ready, _, _ = select.select([child.stdout], [], [], PATIENCE)
                part = os.read(child.stdout.fileno(), 1 << 16) if ready else b""
                if not part:
                    errors.seek(0)
                    raise ChildFailed(f"{name} stopped after {len(said.splitlines())} jobs: {errors.read().decode(errors='replace')[-500:]}")
                said += part
        finally:
            child.send_signal(signal.SIGKILL)
            said += child.stdout.read()
            child.stdout.close()
            child.wait()
            sweep(Path(place))
    return set(said.decode().splitlines()[: said.count(b"\n")])


if __name__ == "__main__":  # the child: a line for each acknowledged job, written at once
    load(sys.argv[1]).submit_for_ever(Path(sys.argv[2]), lambda key: os.write(1, key.encode() + b"\n"))
