"""`callboard torture`: tries every guarantee within its time, finds nothing in what is sound, and breaks on what was planted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from callboard.actors.testing.torture.child import Child
from callboard.actors.testing.torture.ledger import Ledger
from callboard.actors.testing.torture.tally import PROMISES, Tally
from callboard.actors.testing.torture.work import TWIN
from callboard.persistence.folder import LibraryFolder

MAIN = "import sys\nfrom callboard.actors.frontends.cli import main\n{planted}\nsys.exit(main(sys.argv[1:]))"


def torture(folder: Path, *arguments: str, planted: str = "", timeout: float = 300) -> tuple[int, str, str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MAIN.format(planted=planted), "torture", "--dir", str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


def lines_of(out: str) -> dict[str, Any]:
    return {line["id"]: line for line in json.loads(out)["guarantees"]}


def test_G1_to_G16_a_short_run_tries_every_guarantee_and_leaves_nothing(tmp_path: Path) -> None:
    code, out, err = torture(tmp_path, "--seconds", "2", "--seed", "1", "--json")
    assert (code, err) == (0, ""), out + err
    lines = lines_of(out)
    assert set(lines) == set(PROMISES)
    for name in lines:
        if name not in ("G2", "G7", "G9", "children"):  # whether these come up in so little time is chance
            assert sum(lines[name]["tried"].values()) > 0, name
        assert lines[name]["breaches"] == []
    assert lines["G1"]["tried"]["kills"] > 0 and lines["G1"]["tried"]["reopenings checked"] > 0
    assert lines["G5"]["tried"]["races of 2 to 8 openers"] > 0 and lines["G16"]["tried"]["trees compared"] > 0
    assert lines["G3"]["tried"]["batches sent again to their end"] > 0 and lines["G11"]["tried"]["jobs set aside"] > 0
    assert "a sync takes" in lines["disk"]["notes"][0]
    assert json.loads(out)["seed"] == 1 and list(tmp_path.iterdir()) == []


def test_where_it_cannot_try_it_says_so(tmp_path: Path) -> None:
    code, _, err = torture(tmp_path / "nowhere", "--seconds", "1")
    assert code == 2 and "does not exist" in err


# --- the ledger -----------------------------------------------------------------------------------------------------------


def ledger_of(folder: Path) -> tuple[Ledger, Tally]:
    LibraryFolder.open(folder / "a.library").close()
    tally = Tally()
    return Ledger(folder / "a.library", tally), tally


@pytest.mark.parametrize(
    ("lines", "broken"),
    [
        ([{"acked": "submit", "number": 1, "id": "00" * 16}], "G1"),
        ([{"sends": 1, "items": 3}, {"acked": "batch", "number": 1}], "G3"),
        ([{"saved": 1, "at": 2}, {"runs": 1, "at": 1, "twin": TWIN}], "G6"),
        ([{"runs": 1, "at": 1, "twin": 2 * TWIN}], "G6"),
        ([{"overlap": "n1"}], "G5"),
        ([{"failed": "ValueError: x"}], "G4"),
        ([{"saved": 1, "at": 2}, {"runs": 1, "at": 3, "twin": 3 * TWIN}, {"sends": 1, "items": 3}], None),
    ],
)
def test_the_ledger_sees_what_contradicts_it(tmp_path: Path, lines: list[Any], broken: str | None) -> None:
    ledger, tally = ledger_of(tmp_path)
    ledger.hear(lines, -9)
    ledger.check()
    assert [name for name, line in tally.lines.items() if line.breaches] == ([] if broken is None else [broken])


@pytest.mark.parametrize("answer", ["paused", "pausing"])
def test_G9_a_paused_job_that_runs_in_a_later_life_is_seen(tmp_path: Path, answer: str) -> None:
    ledger, tally = ledger_of(tmp_path)
    ledger.hear([{"asks": "pause", "number": 1}, {"acked": "pause", "number": 1, "status": answer}], -9)
    ledger.hear([{"asks": "resume", "number": 1}, {"runs": 1, "at": 0, "twin": 0}], -9)
    assert not tally.breaches
    ledger.hear([{"asks": "pause", "number": 1}, {"acked": "pause", "number": 1, "status": answer}], -9)
    ledger.hear([{"runs": 1, "at": 0, "twin": 0}], -9)
    assert tally.lines["G9"].breaches


def test_a_child_that_is_killed_has_told_all_that_it_told() -> None:
    def run(say: Any) -> None:
        for number in range(10_000_000):
            say(number=number)

    child = Child(run)
    assert child.wait_for("number", 30.0) == {"number": 0}
    child.kill()
    assert child.exit == -9
    assert [line["number"] for line in child.lines] == list(range(len(child.lines)))


def test_what_a_child_raises_is_told() -> None:
    child = Child(lambda say: Random("x").choice([]))
    assert child.listen(30.0) and child.exit == 70
    assert child.told("failed")[0]["failed"].startswith("IndexError")


# --- planted ----------------------------------------------------------------------------------------------------------------

LAZY_COMMIT = """
from callboard.persistence import store as module
class Lazy:
    def __init__(self, con):
        self._con, self._open = con, False
    def __getattr__(self, name):
        return getattr(self._con, name)
    def execute(self, sql, *bound):
        if sql == 'COMMIT':
            self._open = True
            return None
        if sql == 'BEGIN IMMEDIATE' and self._open:
            self._open = False
            self._con.execute('COMMIT')
        return self._con.execute(sql, *bound)
real = module.Store.__init__
def lazy(self, *given, **how):
    real(self, *given, **how)
    self._con = Lazy(self._con)
module.Store.__init__ = lazy
"""

AFTER_RECOVERY = """
from callboard.actors import runtime as module
real = module.recover
def recover(con, *given):
    real(con, *given)
    con.execute({sql!r})
module.recover = recover
"""

RESUMED = "UPDATE jobs SET status = 'queued', intent = 'run', pausers = 0 WHERE status = 'paused' AND requested_by IS NOT NULL"
UNREAD = """
from callboard.actors import hub as module
module.HubActor._tell = lambda self, stream, listener, n, raw: module.send(listener.request.subscriber, module.build(stream.facts.epoch, n, raw))
"""
TRUSTING = "from callboard.persistence import jobdata\njobdata.is_jobs_checksum = lambda *given: True"


@pytest.mark.long
@pytest.mark.parametrize(
    ("planted", "broken"),
    [
        (LAZY_COMMIT, "G1"),
        (AFTER_RECOVERY.format(sql="DELETE FROM jobs WHERE id = (SELECT max(id) FROM jobs)"), "G1"),
        (AFTER_RECOVERY.format(sql="DELETE FROM job_checkpoints WHERE kind <> 'children'"), "G6"),
        (AFTER_RECOVERY.format(sql=RESUMED), "G9"),
        (TRUSTING, "G15"),
        ("import fcntl\nfcntl.flock = lambda *given: None", "G5"),
        (AFTER_RECOVERY.format(sql="DELETE FROM batch_chunks"), "G3"),
        (AFTER_RECOVERY.format(sql="UPDATE jobs SET crashes = 0"), "G11"),
        ("from callboard.persistence.folder import LibraryFolder\nLibraryFolder.in_place = lambda self: True", "G12"),
        (UNREAD, "G14"),
    ],
    ids=[
        "acknowledged before the commit", "recovery loses a job", "checkpoints lost", "paused jobs resumed", "no checksums", "no lock",
        "batches forgotten", "crashes forgotten", "a lost database not missed", "listeners told without a limit",
    ],
)
def test_a_planted_bug_is_a_breach_with_exit_code_1(tmp_path: Path, planted: str, broken: str) -> None:
    code, out, err = torture(tmp_path, "--seconds", "20", "--seed", "1", "--json", planted=planted, timeout=600)
    assert code == 1, out + err
    assert lines_of(out)[broken]["breaches"], out
    assert json.loads(out)["left"] and list(tmp_path.iterdir())
