"""`python -m tests.planted`, from the checkout: plants each bug of bugs/ in a copy of it, and says which test has noticed.

Exit code 0: all are caught; 1: some are not; 2: it could not be tried.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from campaign import Campaign, NotReady, Verdict  # noqa: E402
from planting import NotPlantable, read_bugs  # noqa: E402

from tests.checkout import SetupFailed, python_with  # noqa: E402


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started ends with us
    try:
        bugs = [bug for bug in read_bugs() if not options.only or bug.name in options.only]
        unknown = set(options.only) - {bug.name for bug in bugs}
        if unknown or not bugs:
            raise NotReady(f"there is no planted bug {', '.join(sorted(unknown))}; --list names them")
        if options.list:
            for bug in bugs:
                print(f"{bug.name:40} {bug.what}")
            return 0
        began = time.monotonic()
        say(f"{len(bugs)} bugs; first their tests without any of them")
        verdicts: list[Verdict] = []
        with Campaign(sys.executable if options.here else python_with("dev")) as campaign:
            for verdict in campaign.judge_all(bugs, whole=options.whole, jobs=options.jobs):
                verdicts.append(verdict)
                say(f"{len(verdicts):3} of {len(bugs)}  {line_of(verdict)}")
    except (NotReady, NotPlantable, SetupFailed) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    verdicts.sort(key=lambda verdict: (verdict.caught, verdict.bug.name))
    print(as_json(verdicts) if options.json else table_of(verdicts, time.monotonic() - began))
    return 0 if all(verdict.caught for verdict in verdicts) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this bug (may be given again)")
    parser.add_argument("--whole", action="store_true", help="where the tests that a bug names do not notice it, the whole suite is run")
    parser.add_argument("--jobs", type=int, default=max(1, min(2, os.cpu_count() or 1)), metavar="N", help="bugs at a time (%(default)s)")
    parser.add_argument("--json", action="store_true", help="the result as JSON; progress goes to standard error")
    parser.add_argument("--list", action="store_true", help="name the bugs, and plant none")
    parser.add_argument("--here", action="store_true", help="no set-up: use this Python, which has callboard[dev] installed")
    return parser.parse_args()


def say(text: str) -> None:
    """Progress, at once."""
    print(text, file=sys.stderr, flush=True)


def line_of(verdict: Verdict) -> str:
    if verdict.by is not None:
        return f"caught      {verdict.bug.name:40} {verdict.seconds:6.1f} s  {verdict.by.partition('::')[2]:.100}"
    return f"NOT CAUGHT  {verdict.bug.name:40} {verdict.seconds:6.1f} s  {' '.join(verdict.says.split()):.300}"


def table_of(verdicts: list[Verdict], seconds: float) -> str:
    lines = [""]
    for verdict in verdicts:
        lines.append(line_of(verdict))
        lines += textwrap.wrap(verdict.bug.what, 130, initial_indent=" " * 12, subsequent_indent=" " * 12)
    caught = sum(verdict.caught for verdict in verdicts)
    return "\n".join([*lines, "", f"{caught} of {len(verdicts)} planted bugs caught, in {seconds:.0f} s"])


def as_json(verdicts: list[Verdict]) -> str:
    found = [
        {"bug": each.bug.name, "what": each.bug.what, "caught": each.caught, "by": each.by, "seconds": round(each.seconds, 1), "says": each.says}
        for each in verdicts
    ]
    return json.dumps({"caught": sum(each.caught for each in verdicts), "of": len(verdicts), "bugs": found}, indent=2)


if __name__ == "__main__":
    sys.exit(main())
