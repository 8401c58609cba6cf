"""A checkout's own virtual environments: made where missing or out of date, reused otherwise. Standard library only.

`python_with(extra)` is all that the two commands of README.md need before they can run anything. The code stays within what Python 3.8
parses, so that an old `python3` is told which one it needs instead of meeting a syntax error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator  # noqa: UP035 - must be found by a Python too old to run the rest

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
INCLUDED_IN = {"cli": ("cli", "dev"), "testing": ("testing", "dev"), "dev": ("dev",)}
"""An extra of pyproject.toml, and the extras whose installation has it as well."""


class SetupFailed(Exception):
    """The environment could not be made. The text says why and what to do."""


def say(text: str) -> None:
    """One line of progress, at once."""
    print(f"callboard: {text}", flush=True)


def require_python() -> None:
    """SystemExit, with the way out, if this Python is too old."""
    if sys.version_info < OLDEST:
        have, need = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, OLDEST))
        script = os.path.relpath(sys.argv[0])
        raise SystemExit(f"callboard needs Python {need} or newer, and this is {have}. Try: python{need} {script}")


def clean_environment() -> dict[str, str]:
    """This process's environment without what would put other modules in front of the checkout's."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def python_with(extra: str, of: str = sys.executable, name: str = ".venv") -> str:
    """The Python of the environment `name` in the checkout, with callboard (editable) and `extra` installed.

    Made by the interpreter `of` if it is missing, moved, or made by another Python; installed again when pyproject.toml changed.
    Raises SetupFailed.
    """
    folder = ROOT / name
    python = str(folder / "bin" / "python")
    stamp = folder / "callboard.json"
    base = str(folder) + " " + _answer([of, "-c", "import sys; print(sys.version)"])
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    with _one_at_a_time():
        have = _read(stamp)
        if have.get("base") == base and have.get("pyproject") == wanted and have.get("extra") in INCLUDED_IN[extra]:
            return python
        stamp.unlink(missing_ok=True)  # whatever is stopped half-way from here on is seen as unfinished
        if have.get("base") != base:
            say(f"making {name} (once)")
            _make(folder, of)
        say(f"installing callboard[{extra}] into {name} (a minute or so the first time)")
        _install(python, extra)
        stamp.write_text(json.dumps({"base": base, "pyproject": wanted, "extra": extra}) + "\n")
    return python


def find_python(version: str) -> str | None:
    """An interpreter of `version` ("3.12") that really starts: this one, on PATH, or among those of pyenv and uv; else None."""
    found = [sys.executable] if version == ".".join(map(str, sys.version_info[:2])) else []
    found += [path for path in [shutil.which(f"python{version}")] if path]
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    found += [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)]
    found += [str(path) for path in sorted(uv.glob(f"cpython-{version}.*/bin/python{version}"), reverse=True)]
    for python in found:
        try:
            if _answer([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]) == version:
                return python
        except SetupFailed:
            continue  # a pyenv shim is on PATH whether its version is there or not
    return None


def without_addresses(text: str) -> str:
    """`text` without URLs: a package index may be a private one, and its address may hold a password."""
    return re.sub(r"\w+://\S+", "<address>", text)


def _make(folder: Path, of: str) -> None:
    made = subprocess.run([of, "-I", "-m", "venv", "--clear", str(folder)], env=clean_environment(), capture_output=True, text=True)
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        said = (made.stdout + made.stderr).strip()
        hint = "this Python has no working `venv` with `ensurepip`"
        if "ensurepip" in said or "No module named venv" in said:
            hint += " (on Debian and Ubuntu: apt install python3-venv)"
        raise SetupFailed(f"{of} -m venv failed: {hint}.\n{said}")


def _install(python: str, extra: str) -> None:
    command = [python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", f"{ROOT}[{extra}]"]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
    if done.returncode:
        said = without_addresses((done.stdout + done.stderr).strip())
        raise SetupFailed(f"pip could not install callboard[{extra}]. Is a package index within reach?\n{said}")


def _answer(command: list[str]) -> str:
    try:
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
    except OSError as error:
        raise SetupFailed(f"{command[0]} does not start: {error}") from error
    if done.returncode:
        raise SetupFailed(f"{command[0]} does not start: {done.stderr.strip()}")
    return done.stdout.strip()


def _read(stamp: Path) -> dict[str, str]:
    try:
        return dict(json.loads(stamp.read_text()))
    except (OSError, ValueError):
        return {}


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two commands started together must not build one environment into each other."""
    with open(ROOT / ".venv.lock", "w") as file:
        try:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another set-up of this checkout to end")
                fcntl.flock(file, fcntl.LOCK_EX)
        except ImportError:
            pass  # no such lock on this system: as safe as pip itself
        yield
