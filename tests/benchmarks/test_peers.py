"""The systems callboard is measured beside: each answers its four measures or says why not, and the kill test finds what is lost."""

from __future__ import annotations

import importlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from callboard.benchmarks import rivals
from callboard.benchmarks.peers import OURS, PEERS, load
from callboard.benchmarks.peers.copiers import COPIERS, Copier
from callboard.benchmarks.peers.killing import ChildFailed, killed
from callboard.benchmarks.peers.peer import Cannot, Peer, TimeUp, satisfied, sqlite_settings, work
from callboard.benchmarks.peers.servers import NOTE, program, served, sweep
from callboard.benchmarks.scenario import Place

ALWAYS = ("apsw", "sqlite3", "concurrent.futures", "callboard")
MEASURES = ("submit_singly", "submit_batch", "noop_jobs", "alone_ms")


def present(name: str) -> Peer:
    """The adapter, or a skip that says what is missing."""
    adapter = load(name)
    if (why := adapter.missing()) and name not in ALWAYS:
        pytest.skip(why)
    assert not why
    return adapter


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_answers_its_measures_or_says_why_not(name: str, tmp_path: Path) -> None:
    adapter = present(name)
    refused = []
    for measure in MEASURES:
        place = tmp_path / measure
        place.mkdir()
        try:
            answer = getattr(adapter, measure)(place, 5)
        except Cannot as why:
            assert str(why)
            refused.append(measure)
        else:
            assert len(answer) == 5 and min(answer) > 0 if measure == "alone_ms" else answer > 0
    assert refused in ([], ["submit_batch"])
    assert adapter.claim and adapter.version()
    assert adapter.settings.text and adapter.synced is adapter.settings.synced


@pytest.mark.parametrize("name", [*PEERS, *OURS])
def test_what_a_peer_was_given_is_there_when_it_is_opened_again(name: str, tmp_path: Path) -> None:
    adapter = present(name)
    acked: list[str] = []

    def note(key: str) -> None:
        acked.append(key)
        if len(acked) == 5:
            raise EOFError

    with pytest.raises(EOFError):
        adapter.submit_for_ever(tmp_path, note)
    assert adapter.stored(tmp_path) == (set() if name == "concurrent.futures" else {work(number).key for number in range(5)})
    assert len(acked) == 5


def test_the_synced_ones_are_known_by_what_they_answer() -> None:
    assert load("apsw").synced and load("sqlite3").synced and load("callboard").synced
    assert not load("concurrent.futures").synced


@pytest.mark.parametrize(
    ("mode", "level", "synced"),
    [("wal", 2, True), ("WAL", 1, False), ("wal", 0, False), ("delete", 2, False), ("delete", 3, True), ("truncate", 2, True)],
)
def test_durable_is_what_sqlite_syncs_at_each_commit(mode: str, level: int, synced: bool) -> None:
    settings = sqlite_settings({"journal_mode": mode, "synchronous": level}.__getitem__)
    assert settings.synced is synced
    assert mode.lower() in settings.text


def test_what_is_missing_comes_with_the_line_that_installs_it() -> None:
    class Elsewhere(Peer):
        name = "elsewhere"
        requires = ("no-such-distribution>=1,<2", "apsw>=3")
        claim = "none"

    assert Elsewhere().missing() == "no-such-distribution>=1,<2 is not installed: pip install 'callboard[bench]'"
    assert not Elsewhere().synced
    assert Copier("none", lambda source, target: None, "no-such-program").missing() == "no-such-program is not installed: apt install no-such-program"


def test_a_version_out_of_range_is_missing() -> None:
    assert satisfied("apsw>=3.51.3,<4") and satisfied("apsw")
    assert not satisfied("apsw>=4") and not satisfied("apsw>=3,<3.2") and not satisfied("no-such-distribution")


def test_nothing_is_imported_that_was_not_asked_for() -> None:
    code = "import sys, callboard.benchmarks.peers.sqlite_queue; print(*{'huey', 'dbos', 'sqlalchemy', 'redis', 'psycopg'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_an_unknown_peer_is_told_which_there_are() -> None:
    with pytest.raises(KeyError, match="no peer is called 'hugh'; there are apsw, "):
        load("hugh")


@pytest.mark.parametrize("name", PEERS)
def test_each_name_is_that_of_its_adapter_and_stands_in_the_extra(name: str) -> None:
    module, which = PEERS[name].split(":")
    adapter = getattr(importlib.import_module(module), which)
    assert adapter.name == name and adapter.claim
    extra = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    own = [text for text in adapter.requires[:1] if not text.startswith("apsw")]
    assert all(f'"{text}"' in extra for text in own), f"{own} is not in the bench extra of pyproject.toml"


# --- killing ------------------------------------------------------------------------------------------------------------


def test_a_kill_loses_nothing_that_apsw_acknowledged(tmp_path: Path) -> None:
    found = killed("apsw", tmp_path, kills=2, acks=30)
    assert (found.kills, found.lost, found.synced) == (2, 0, True) and found.acked >= 60
    assert str(found).startswith("lost 0 of ") and "survives (synchronous=FULL, journal_mode=wal, read back)" in str(found)
    assert not list(tmp_path.iterdir())


def test_a_planted_loss_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importable(monkeypatch)
    found = killed("forgetful_peer:ForgetfulPeer", tmp_path, kills=2, acks=100)
    assert 0 < found.lost < 2 * 64 + 2 < found.acked
    assert "may lose acknowledged jobs (nothing is synced, read back)" in str(found)


def test_a_child_that_ends_by_itself_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importable(monkeypatch)
    with pytest.raises(ChildFailed, match="stopped after 0 jobs: no more jobs today"):
        killed("forgetful_peer:MutePeer", tmp_path, kills=1)
    assert not list(tmp_path.iterdir())


def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted peers, here and in children."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])))


# --- servers ------------------------------------------------------------------------------------------------------------

STARTER = """
import signal, sys
from callboard.benchmarks.peers.servers import served, started_as
with served([*started_as(None, signal.SIGKILL), "sleep", "600"], signal.SIGTERM) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


REDIS = """
import sys
from pathlib import Path
from callboard.benchmarks.peers.servers import redis
with redis(Path(sys.argv[1])) as address:
    print(address, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(program("setpriv") is None, reason="setpriv is not installed: apt install util-linux")
def test_a_server_does_not_outlive_who_started_it_even_if_that_is_killed() -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert starter.stdin and starter.stdout
    server = os.pidfd_open(int(starter.stdout.readline()))
    starter.kill()
    ended, _, _ = select.select([server], [], [], 100)
    starter.communicate()
    os.close(server)
    assert ended


@pytest.mark.skipif(program("setpriv") is None or program("redis-server") is None, reason="redis-server is not installed: apt install redis-server")
def test_the_sockets_of_a_killed_server_are_swept_away(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 20)
    place.mkdir()
    starter = subprocess.Popen([sys.executable, "-c", REDIS, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert starter.stdout
    sockets = Path(starter.stdout.readline().strip()).parent
    starter.kill()
    starter.communicate()
    assert sockets.parent == Path("/tmp") and sockets.is_dir()
    sweep(place)
    assert not sockets.exists()


def test_what_a_killed_process_left_to_be_swept_is_never_another_folder(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / NOTE).write_text(str(tmp_path / "kept"))
    sweep(tmp_path)
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize(("cost", "expected"), [(lambda n: 1e-4 * n, 8_000), (lambda n: 1e-6 * n * n, 894)], ids=["the same", "more with the depth"])
def test_what_fifty_jobs_take_is_not_believed_of_thousands(cost: Callable[[int], float], expected: int, tmp_path: Path) -> None:
    counts: list[int] = []

    def method(place: Path, count: int) -> float:
        counts.append(count)
        return count / cost(count)

    run = rivals._paced(method, 0.8)
    run(Place(tmp_path, 10_000, tmp_path))
    run(Place(tmp_path, 100_000, tmp_path))
    assert counts[0] == 50 and expected / 3 < counts[-1] < expected * 3


def test_a_server_is_stopped_whatever_happens_beside_it() -> None:
    with pytest.raises(ZeroDivisionError), served(["sleep", "600"], signal.SIGTERM) as server:
        raise ZeroDivisionError
    assert server.returncode == -signal.SIGTERM


def test_a_server_that_does_not_start_has_its_last_words_told() -> None:
    with pytest.raises(TimeUp, match="not ready: no room for a database"):
        with served(["sh", "-c", "echo no room for a database; exit 3"], signal.SIGTERM) as server:
            server.wait(100)
            raise TimeUp("not ready")
    with pytest.raises(Cannot, match="^no batches$"), served(["echo", "I am well"], signal.SIGTERM) as server:
        server.wait(100)
        raise Cannot("no batches")


# --- copying ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copier", COPIERS, ids=lambda copier: copier.name)
def test_a_copier_copies_all_of_a_tree(copier: Copier, tmp_path: Path) -> None:
    if why := copier.missing():
        pytest.skip(why)
    source = tmp_path / "from"
    (source / "sub").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "sub" / "file").write_bytes(b"content")
    (source / "link").symlink_to("sub/file")
    assert copier.copy(source, tmp_path / "to") > 0
    assert sorted(path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*")) == ["empty", "link", "sub", "sub/file"]
    assert (tmp_path / "to" / "sub" / "file").read_bytes() == b"content" and (tmp_path / "to" / "link").is_symlink()
    assert copier.claim and copier.version()


def test_a_program_that_fails_says_so_instead_of_being_timed(tmp_path: Path) -> None:
    with pytest.raises(Cannot, match="cp ended with 1: .*No such file"):
        COPIERS[0].copy(tmp_path / "nowhere", tmp_path / "to")
