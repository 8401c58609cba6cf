"""What the figures were taken on: processor, kernel, file system, versions."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path

import apsw

from callboard.persistence.place import filesystem


def machine(directory: Path) -> dict[str, str]:
    """Of this machine and of the disk that `directory` is on; all of it text."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["callboard", *sys.argv[1:]]),
        "cpu": _cpu() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": filesystem(directory) or "unknown",
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        **{name: _version(name) for name in ("callboard", "apsw", "pykka", "msgpack")},
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))), "")
