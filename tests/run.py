"""The test command: `python3 tests/run.py` sets up its own environment, checks style and types, and runs every test.

The last line it prints is pytest's own summary. The exit code is 0 only if every check and every test passed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from typing import NamedTuple

import checkout
from checkout import ROOT, say

PYTHONS = ("3.11", "3.12", "3.13")
TYPING_ROOT = ROOT / "tests" / "typing_root"


class Run(NamedTuple):
    """One run of pytest."""

    name: str
    code: int
    summary: str
    """pytest's own last line."""


def main() -> int:
    checkout.require_python()
    parser = argparse.ArgumentParser(
        prog="tests/run.py", description=__doc__, allow_abbrev=False, epilog="All other arguments are handed to pytest."
    )
    parser.add_argument("--pythons", action="store_true", help="the tests on each of " + ", ".join(PYTHONS) + " that is installed")
    parser.add_argument("--full", action="store_true", help="the long campaigns too (many minutes)")
    parser.add_argument("--here", action="store_true", help="no set-up: use this Python, which has callboard[dev] installed")
    options, pytest_args = parser.parse_known_args()
    if options.full:
        pytest_args.append("--full")
    try:
        python = sys.executable if options.here else checkout.python_with("dev")
        failed = [name for name, passed in check(python) if not passed]
        runs = run_pythons(python, pytest_args) if options.pythons else [run_pytest(python, pytest_args)]
    except checkout.SetupFailed as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    return conclude(failed, runs)


def check(python: str) -> list[tuple[str, bool]]:
    """Style and types: (name, passed) of each check. One that cannot start on this machine is reported and left out."""
    results = [("ruff", run_check("ruff", [python, "-m", "ruff", "check", "--quiet", "--output-format=concise", "."]))]
    if not TYPING_ROOT.is_dir():
        say("mypy, pyright: skipped (no tests/typing_root, the tree of symlinks that only a checkout has)")
        return results
    results.append(("mypy", run_check("mypy --strict", [python, "-m", "mypy"])))
    if pyright_starts(python):
        results.append(("pyright", run_check("pyright", [python, "-m", "pyright", "--pythonpath", python])))
    else:
        say("pyright: skipped (it could not start; the first time it fetches node from the network)")
    return results


def run_check(name: str, command: list[str]) -> bool:
    done = subprocess.run(command, cwd=ROOT, env=tool_environment(), capture_output=True, text=True)
    say(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'}")
    if done.returncode:
        print(checkout.without_addresses(done.stdout + done.stderr), flush=True)
    return done.returncode == 0


def pyright_starts(python: str) -> bool:
    try:
        command = [python, "-m", "pyright", "--version"]
        return subprocess.run(command, cwd=ROOT, env=tool_environment(), capture_output=True, timeout=300).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def tool_environment() -> dict[str, str]:
    return {**checkout.clean_environment(), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}


def run_pythons(own: str, args: list[str]) -> list[Run]:
    """The tests on each of PYTHONS; one that is not installed is named, and is no failure."""
    runs = []
    for version in PYTHONS:
        of = checkout.find_python(version)
        if of is None:
            say(f"Python {version}: skipped (not installed)")
            continue
        python = own if of == sys.executable else checkout.python_with("dev", of, f".venv-{version}")
        say(f"Python {version}")
        runs.append(run_pytest(python, args, f"Python {version}"))
    return runs


def run_pytest(python: str, args: list[str], name: str = "pytest") -> Run:
    """Runs pytest; what it prints is shown as it comes."""
    command = [python, "-P", "-m", "pytest"]  # -P: `import jobs` must not find the checkout's folder
    if not any(arg.startswith(("-n", "--pdb", "--dist")) for arg in args):
        command += ["-n", str(max(2, min(4, os.cpu_count() or 2))), "--dist", "loadgroup"]
    if sys.stdout.isatty():
        command.append("--color=yes")
    sys.stdout.flush()
    tail = b""
    with subprocess.Popen(command + args, cwd=ROOT, env=checkout.clean_environment(), stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdout is not None
        while chunk := child.stdout.read(65_536):
            os.write(1, chunk)
            tail = (tail + chunk)[-4_096:]
    lines = re.sub(r"\x1b\[[0-9;]*m", "", tail.decode("utf-8", "replace")).strip().splitlines()
    return Run(name, child.returncode, lines[-1] if lines else "pytest printed nothing")


def conclude(failed_checks: list[str], runs: list[Run]) -> int:
    """The exit code. Says again what failed where pytest's output has scrolled over it; the last line is that of a failed run, if any."""
    failed_runs = [run for run in runs if run.code]
    if failed_checks or len(runs) != 1:
        for name in failed_checks:
            say(f"{name}: FAILED (see above)")
        for run in runs if len(runs) > 1 else ():
            say(f"{run.name}: {'FAILED' if run.code else 'ok'}")
        print((failed_runs or runs)[-1].summary if runs else "no Python to run the tests on", flush=True)
    return 1 if failed_checks or failed_runs or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
