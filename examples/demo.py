"""The demonstration: `python3 examples/demo.py` copies a real tree in parallel, with progress, then shows the record of that job.

It sets up its own environment. The tree is the running Python's own library (thousands of files); copy and record go to a new folder
that is removed at the end, unless --keep is given or the copy was interrupted: then the command to go on with is printed.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

# Found through the line above: the test command makes its environment in the same way.
import checkout  # noqa: E402  # pyright: ignore[reportMissingImports]


def main() -> int:
    checkout.require_python()
    parser = argparse.ArgumentParser(prog="examples/demo.py", description=__doc__)
    parser.add_argument("--source", default=sysconfig.get_path("stdlib"), help="the folder to copy (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the copy and its record where they are")
    parser.add_argument("--here", action="store_true", help="no set-up: use this Python, which has callboard[cli] installed")
    options = parser.parse_args()
    try:
        python = sys.executable if options.here else checkout.python_with("cli")
    except checkout.SetupFailed as error:
        checkout.say(str(error))
        return 2
    folder = tempfile.mkdtemp(prefix="callboard-demo-")
    keep = options.keep
    try:
        code = demonstrate(python, options.source, folder)
        keep = keep or code == 130
        return code
    except KeyboardInterrupt:
        keep = True
        return 130
    finally:
        if keep:
            checkout.say(f"the copy and its record are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def demonstrate(python: str, source: str, folder: str) -> int:
    """Copies `source` into `folder` and shows the record; the exit code of the command that failed, else 0."""
    library = ["--library", f"{folder}/library"]
    copy = ["copy", source, f"{folder}/copy", *library]
    try:
        code = callboard(python, copy)
    except KeyboardInterrupt:
        code = 130
    if code == 130:
        checkout.say("interrupted; the same command goes on where it stopped:")
        print("    " + shlex.join([python, *MODULE, *copy]), flush=True)
    if code:
        return code
    listed = subprocess.run([python, *MODULE, "jobs", "list", "--json", *library], capture_output=True, text=True)
    ids = re.findall(r'"id":\s*"([^"]+)"', listed.stdout)
    return callboard(python, ["jobs", "list", *library]) or callboard(python, ["jobs", "show", *ids[:1], *library])


MODULE = ("-m", "callboard.actors.frontends.cli")


def callboard(python: str, arguments: list[str]) -> int:
    """Runs one `callboard` command on this terminal, after showing it; its exit code."""
    print("\n$ " + shlex.join(["callboard", *arguments]), flush=True)
    return subprocess.run([python, *MODULE, *arguments], env=checkout.clean_environment()).returncode


if __name__ == "__main__":
    sys.exit(main())
