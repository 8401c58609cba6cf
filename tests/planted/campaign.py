"""Each planted bug in a copy of the checkout of its own, where the ordinary suite must turn red.

Caught is a bug only by a test that passes without it, and by what that test says: an error of collection or set-up, or code that does not
even run (a name that is not there, a statement that SQLite does not take) shows nothing about the suite.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from planting import Bug, NotPlantable, plant, problems

ROOT = Path(__file__).resolve().parent.parent.parent
NOT_COPIED = (".git", ".venv*", "build", "dist", "*.egg-info", ".hypothesis", ".*_cache")
NAMED_SECONDS = 300
"""So long at most for the tests that a bug names."""
WHOLE_SECONDS = 1_800
TEST_SECONDS = 150
"""A test that hangs has failed after so long."""

WHERE = "import importlib.util; print(importlib.util.find_spec('callboard').origin)"

ACCIDENTS = re.compile(r"\b(SyntaxError|IndentationError|ImportError|ModuleNotFoundError|NameError|UnboundLocalError|SQLError)\b|has no attribute")
"""What a mistake in the planting brings about."""


class NotReady(Exception):
    """The campaign cannot begin; the text says why."""


@dataclass(frozen=True)
class Verdict:
    """What became of one bug."""

    bug: Bug
    by: str | None
    """The test that has noticed; None: none has."""
    seconds: float
    says: str
    """What the test said, or why nothing is proved."""

    @property
    def caught(self) -> bool:
        return self.by is not None


@dataclass(frozen=True)
class Ended:
    """One test of a run that has not passed."""

    test: str
    says: str
    failed: bool
    """False: an error outside the test's own body."""

    @property
    def counts(self) -> bool:
        return self.failed and not ACCIDENTS.search(self.says)


@dataclass(frozen=True)
class Run:
    """One run of pytest."""

    passed: frozenset[str]
    bad: tuple[Ended, ...]
    ended: bool
    """False: it had to be stopped, or died."""
    output: str


class Campaign:
    """Copies of one checkout, and how its tests are run there. To be closed by leaving `with`."""

    def __init__(self, python: str, root: Path = ROOT) -> None:
        """`python`: has what the tests need; callboard itself is taken from the copies."""
        self._python, self._root = python, root
        self._place = tempfile.TemporaryDirectory(prefix="callboard-planted-", ignore_cleanup_errors=True)
        self._plain = Path(self._place.name) / "plain" / "callboard"
        self._running: set[subprocess.Popen[str]] = set()
        self._over = False

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing that was started goes on."""
        self._over = True
        for child in self._running.copy():
            _kill(child)
        self._place.cleanup()

    def prepare(self, bugs: Sequence[Bug], jobs: int = 1) -> frozenset[str]:
        """The tests that these bugs name and that pass without any bug; one that fails is given a second chance. Raises NotReady."""
        wrong = [problem for bug in bugs for problem in problems(bug, self._root)]
        if wrong:
            raise NotReady("\n".join(wrong))
        shutil.copytree(self._root, self._plain, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED, "__pycache__"))
        found = self._call(self._plain, [self._python, "-P", "-c", WHERE], 60)[0].strip()
        if found != str(self._plain / "__init__.py"):
            raise NotReady(f"in a copy of the checkout `import callboard` gives {found or 'nothing'}, not the copy")
        named = tuple(dict.fromkeys(test for bug in bugs for test in bug.tests))
        run = self.run(self._plain, [*(("-n", str(jobs)) if jobs > 1 else ()), *named], NAMED_SECONDS * 3)
        passed = set(run.passed)
        for bad in run.bad:
            passed |= self.run(self._plain, [bad.test], NAMED_SECONDS).passed
        return frozenset(passed)

    def judge(self, bug: Bug, good: frozenset[str], *, whole: bool = False) -> Verdict:
        """`good`: tests that pass without a bug. `whole`: if those that the bug names do not notice it, the whole suite is asked."""
        began = time.monotonic()
        asked = [test for test in bug.tests if any(names(test, each) for each in good)]
        if not asked:
            return Verdict(bug, None, 0.0, "none of its tests passes without it: nothing is proved")
        with self._copy(bug) as folder:
            run = self.run(folder, ["-x", *asked], NAMED_SECONDS)
            notices = [each for each in run.bad if each.counts and each.test in good]
            if not notices and whole:
                run = self.run(folder, ["-n", "2", "--dist", "loadgroup", "--maxfail=1", "--ignore=tests/planted", "tests"], WHOLE_SECONDS)
                notices = [each for each in run.bad if each.counts and each.test in self.run(self._plain, [each.test], NAMED_SECONDS).passed]
        seconds = time.monotonic() - began
        if notices:
            return Verdict(bug, notices[0].test, seconds, notices[0].says)
        if run.bad:
            return Verdict(bug, None, seconds, f"only an accident of the planting: {run.bad[0].says}")
        return Verdict(bug, None, seconds, "every test passed" if run.ended else f"pytest did not come to an end: {run.output[-300:]}")

    def judge_all(self, bugs: Sequence[Bug], *, whole: bool = False, jobs: int = 1) -> Iterator[Verdict]:
        """A verdict for each, as they come; `jobs` at a time. Raises NotReady before the first."""
        good = self.prepare(bugs, jobs)
        pool = ThreadPoolExecutor(jobs)
        try:
            for future in as_completed([pool.submit(self.judge, bug, good, whole=whole) for bug in bugs]):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _copy(self, bug: Bug) -> Iterator[Path]:
        """With what Python has compiled of the plain copy: a changed file has another time, and is compiled anew."""
        folder = Path(self._place.name) / bug.name / "callboard"
        shutil.copytree(self._plain, folder, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
        try:
            plant(bug, folder)
            yield folder
        except NotPlantable as error:
            raise NotReady(str(error)) from error
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)

    def run(self, folder: Path, arguments: Sequence[str], seconds: float) -> Run:
        """Run pytest in a copy. A test that hangs fails, instead of taking the process along."""
        report = folder.parent / f"{time.monotonic_ns()}.xml"
        command = [self._python, "-P", "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command += ["-o", "timeout_method=signal", f"--timeout={TEST_SECONDS}", f"--basetemp={folder.parent / 'temp'}", *arguments]
        output, ended = self._call(folder, command, seconds)
        if not report.is_file():
            return Run(frozenset(), (), False, output)
        passed, bad = read_report(report)
        return Run(passed, bad, ended, output)

    def _call(self, folder: Path, command: list[str], seconds: float) -> tuple[str, bool]:
        """What it printed, and whether it came to an end by itself."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "VIRTUAL_ENV"))}
        environment["PYTHONPATH"] = str(folder.parent)
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True,
        )  # fmt: skip
        self._running.add(child)
        try:
            if self._over:
                _kill(child)
            return child.communicate(timeout=seconds)[0], True
        except subprocess.TimeoutExpired:
            return "it took too long", False
        finally:
            _kill(child)
            self._running.discard(child)
            child.communicate()


def _kill(child: subprocess.Popen[str]) -> None:
    """With whatever it has started."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def read_report(path: Path) -> tuple[frozenset[str], tuple[Ended, ...]]:
    """What pytest's report says: node ids that passed, and what did not."""
    passed: dict[str, None] = {}
    bad: list[Ended] = []
    for case in ElementTree.parse(path).iter("testcase"):
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        wrong = [(child, child.tag == "failure") for child in case if child.tag in ("failure", "error")]
        bad += [Ended(test, _said(child), failed) for child, failed in wrong]
        if not wrong and case.find("skipped") is None:
            passed[test] = None
    return frozenset(passed), tuple(bad)


def _said(element: ElementTree.Element) -> str:
    """pytest's message, and the lines of the traceback that say what was raised."""
    lines = [line for line in (element.text or "").splitlines() if line.startswith("E ")]
    return "\n".join([element.get("message") or "", *lines])


def names(test: str, node: str) -> bool:
    """Whether the node id `node`, as pytest reports it, is `test` or one of its cases."""
    return node == test or node.startswith(test + "[")
