"""`callboard bench`: runs scenarios, prints a table each, writes results.json and report.html; lists them; compares two results."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from callboard.benchmarks.comparing import changes
from callboard.benchmarks.harness import TOO_LATE, Harness
from callboard.benchmarks.machine import machine
from callboard.benchmarks.peers import PEERS
from callboard.benchmarks.report import report
from callboard.benchmarks.results import Run, read, to_text
from callboard.benchmarks.rivals import chosen
from callboard.benchmarks.scenario import SCENARIOS, Scenario, load
from callboard.benchmarks.tables import table
from callboard.jobs.errors import BadArgument

QUICK_SECONDS, QUICK_MOST = 50.0, 56.0
"""After so long a quick run begins nothing more, and breaks off what it is at, so that it has ended within a minute."""
QUICK_REPEATS, FULL_REPEATS = 3, 5
MEMORY = ("tmpfs", "ramfs")
INTERRUPTED = 130


def bench(
    names: Sequence[str], directory: Path, out: Path | None, *, quick: bool, repeats: int | None, peers: Sequence[str] | None, as_json: bool
) -> int:
    """Run these scenarios, or all. Answers 1 if a goal is missed beyond doubt, or ours failed; 130 if it was interrupted; else 0.

    `peers` None: all in a full run, none in a quick one.
    """
    scenarios = [_load(name) for name in names or SCENARIOS]
    rivals = chosen((() if quick else tuple(PEERS)) if peers is None else peers)
    progress = Progress()
    harness = Harness(directory.absolute(), quick, repeats or (QUICK_REPEATS if quick else FULL_REPEATS), rivals, progress.say)
    if quick:
        harness.limit, harness.most = QUICK_SECONDS, QUICK_MOST
    run = Run(machine(directory), quick, harness.repeats)
    if run.machine["file system"] in MEMORY:
        progress.line(f"{directory} is in memory, where a sync costs nothing: --dir names a folder on the disk that is to be measured")
    if float(run.machine["load before"]) > float(run.machine["cores"]) / 2:
        progress.line(f"this machine is busy (load {run.machine['load before']}): much will be unclear, and absolute figures are of such an hour")
    if out is None and not quick and not as_json:
        progress.line("without --out nothing but these tables is kept")
    interrupted = False
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no folder and no server is left
    try:
        for number, scenario in enumerate(scenarios, 1):
            progress.part = f"{number} of {len(scenarios)}"
            if quick and names and not any(case.quick for case in scenario.cases):
                progress.line(f"{scenario.name}: nothing of it is in a quick run")
            run.scenarios[scenario.name] = scenario.text
            for case in harness.run(scenario):
                run.cases.append(case)
                progress.clear()
                if not as_json:
                    print("\n".join(table(case)), flush=True)
            if out is not None:
                run.seconds = harness.elapsed
                _write(run, out)  # what is done is kept, whatever comes behind it
    except KeyboardInterrupt:
        interrupted = True
        progress.line("interrupted: what was done is kept")
    finally:
        signal.signal(signal.SIGTERM, before)
        progress.clear()
        run.seconds = harness.elapsed
    if as_json:
        print(to_text(run))
    for line in unreached(run):
        progress.line(line)
    if out is not None:
        _write(run, out)
        progress.line(f"written: {out / 'results.json'} and report.html")
    return INTERRUPTED if interrupted else 1 if run.fell_short else 0


def _load(name: str) -> Scenario:
    try:
        return load(name)
    except KeyError:
        raise BadArgument(f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}") from None


def unreached(run: Run) -> list[str]:
    """Lines: which cases failed as a whole, and to which the run did not come in its time."""
    failed = [f"{case.scenario}: {case.name}: {case.skipped}" for case in run.cases if case.failed]
    late = [case for case in run.cases if case.skipped == TOO_LATE or any(row.cannot == TOO_LATE for row in case.rows)]
    names = "; ".join(f"{case.scenario}: {case.name}" for case in late)
    return failed + ([f"not reached, or not whole, when the time was up: {names}. By its name alone each is run"] if late else [])


def _write(run: Run, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(to_text(run) + "\n")
    (out / "report.html").write_text(report(run))


def show_list() -> None:
    """Each scenario with its cases; `q` marks what a quick run does."""
    for name in SCENARIOS:
        scenario = load(name)
        print(f"{name}: {' '.join(scenario.text.split(chr(10) * 2)[0].split())}")
        for case in scenario.cases:
            print(f"  {'q' if case.quick else ' '} {case.name}: {case.text}")
    print("peers: " + ", ".join(PEERS))


def compare(old: Path, new: Path) -> None:
    """Print what changed beyond noise between two results.json. Raises BadArgument for a file that is none."""
    print("\n".join(changes(read(old), read(new))))


class Progress:
    """What is being done: on a terminal one line that changes, else a line now and then. On standard error."""

    EVERY = 10.0
    """Seconds between two lines where there is no terminal."""

    def __init__(self) -> None:
        self._moves = sys.stderr.isatty()
        self._said = self._started = time.perf_counter()
        self.part = ""
        """Which of all scenarios: "3 of 16"."""

    def say(self, text: str) -> None:
        """Something else begins."""
        now = time.perf_counter()
        if self._moves or now - self._said >= self.EVERY:
            self._said = now
            text = f"{now - self._started:.0f} s, {self.part}: {text}"
            print(f"\r{text[:110]}\x1b[K" if self._moves else text, end="" if self._moves else "\n", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """A remark that stays."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Nothing that moves is left on the terminal."""
        if self._moves:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
