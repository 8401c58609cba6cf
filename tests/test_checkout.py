"""The two commands of README.md: an environment is made once, a failure says what to do, the last line is that of pytest."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


def script(name: str) -> ModuleType:
    """A script beside this file, as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


checkout = script("checkout")


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A checkout in an empty folder, whose environments are only noted down, not made."""
    done: list[str] = []
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    monkeypatch.setattr(checkout, "_make", lambda folder, of: (folder.mkdir(exist_ok=True), done.append("make")))
    monkeypatch.setattr(checkout, "_install", lambda python, extra: done.append(f"install {extra}"))
    return done


def test_an_environment_is_made_once(steps: list[str], tmp_path: Path) -> None:
    assert checkout.python_with("dev") == checkout.python_with("dev") == str(tmp_path / ".venv/bin/python")
    assert steps == ["make", "install dev"]


def test_an_environment_with_more_serves_a_command_that_needs_less(steps: list[str]) -> None:
    checkout.python_with("cli")
    checkout.python_with("dev")
    checkout.python_with("cli")
    assert steps == ["make", "install cli", "install dev"]


def test_a_changed_pyproject_installs_again_into_the_same_environment(steps: list[str], tmp_path: Path) -> None:
    checkout.python_with("cli")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    checkout.python_with("cli")
    assert steps == ["make", "install cli", "install cli"]


def test_an_environment_of_a_checkout_that_was_moved_is_made_anew(steps: list[str], tmp_path: Path) -> None:
    checkout.python_with("cli")
    stamp = tmp_path / ".venv/callboard.json"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "base": "/elsewhere/.venv 3.11"}))
    checkout.python_with("cli")
    assert steps == ["make", "install cli"] * 2


def test_an_installation_that_was_broken_off_is_done_again(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    install = checkout._install

    def broken_off(python: str, extra: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkout, "_install", broken_off)
    with pytest.raises(KeyboardInterrupt):
        checkout.python_with("cli")
    monkeypatch.setattr(checkout, "_install", install)
    checkout.python_with("cli")
    assert steps == ["make", "make", "install cli"]


def test_a_python_without_ensurepip_is_told_what_to_install(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'The virtual environment was not created: ensurepip is not available.'\nexit 1\n")
    bare.chmod(0o755)
    with pytest.raises(checkout.SetupFailed, match="apt install python3-venv"):
        checkout._make(tmp_path / ".venv", str(bare))


def test_an_index_out_of_reach_is_said_without_its_address(tmp_path: Path) -> None:
    offline = tmp_path / "python"
    offline.write_text("#!/bin/sh\necho 'no route to https://user:secret@index.internal/simple' >&2\nexit 1\n")
    offline.chmod(0o755)
    with pytest.raises(checkout.SetupFailed, match="no route to <address>") as raised:
        checkout._install(str(offline), "cli")
    assert "secret" not in str(raised.value)


def test_this_python_is_found_by_its_version_and_a_version_that_is_nowhere_is_not() -> None:
    assert checkout.find_python(".".join(map(str, sys.version_info[:2]))) == sys.executable
    assert checkout.find_python("3.999") is None


def test_a_shim_that_does_not_start_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python3.999"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout.find_python("3.999") is None
    shim.write_text("#!/bin/sh\necho 3.999\n")
    assert checkout.find_python("3.999") == str(shim)


def test_a_python_too_old_is_told_which_one_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and this is 3\.9\.18\. Try: python3\.11 "):
        checkout.require_python()


# --- the test command's last words ------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return script("run")


@pytest.mark.parametrize(
    ("failed_checks", "codes", "expected", "last"),
    [
        ([], [0], 0, ""),
        ([], [1], 1, ""),
        (["mypy"], [0], 1, "line of 0"),
        ([], [0, 0], 0, "line of 1"),
        ([], [1, 0], 1, "line of 0"),
        ([], [], 1, "no Python to run the tests on"),
    ],
)
def test_a_failure_anywhere_is_the_exit_code_and_a_summary_is_the_last_line(
    command: ModuleType, capsys: pytest.CaptureFixture[str], failed_checks: list[str], codes: list[int], expected: int, last: str
) -> None:
    runs = [command.Run(f"Python {number}", code, f"line of {number}") for number, code in enumerate(codes)]
    assert command.conclude(failed_checks, runs) == expected
    printed = capsys.readouterr().out.splitlines() or [""]
    assert printed[-1] == last


def test_the_summary_of_a_real_run_is_taken_without_colours(command: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_one(): pass\n")
    run = command.run_pytest(sys.executable, ["-n0", "--color=yes", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)])
    assert run.code == 0
    assert "1 passed in" in run.summary and "\x1b" not in run.summary
