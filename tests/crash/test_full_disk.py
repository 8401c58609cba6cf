"""G13 on a file system that is really full: a tmpfs of 24 MiB in a mount namespace, which needs no root where user namespaces are allowed.

The same with a quota that is used up: that is the same tmpfs, whose errors are told as a quota's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faulty_disk import shim

CHILD = Path(__file__).with_name("full_disk_child.py")
UNSHARE = ["unshare", "-rm"]


@pytest.mark.parametrize("quota", [False, pytest.param(True, marks=pytest.mark.long)], ids=["full", "quota"])
def test_G13_a_full_disk_pauses_what_runs_and_lets_it_go_on_when_there_is_room(tmp_path: Path, quota: bool) -> None:
    environment = {**os.environ, "LD_PRELOAD": str(shim("quota.c"))} if quota else None
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        probe = subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no unshare(1)")
    if probe.returncode:
        pytest.skip(f"no mount namespace: {probe.stderr.decode()}")
    done = subprocess.run([*UNSHARE, sys.executable, str(CHILD), str(folder)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4_000:]
    seen = json.loads(done.stdout)
    assert seen == {
        "too little": True,
        "reserve": True,
        "full": True,
        "paused": [[["disk"], "the disk is full"]] * 3,
        "refused": "the disk is full: not stored. Make room; the library goes on by itself",
        "other": True,
        "reserve when full": False,
        "still": {"paused": 3},
        "results": [60, "went on"],
        "a user's pause": "paused",
        "at last": 60,
        "full at last": False,
    }
