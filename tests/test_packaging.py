"""What a user installs: the wheel has all packages and nothing else, needs only the core dependencies, and clashes with no host's files.

Built once, from a copy of the checkout: the sdist first, and the wheel from the sdist, so that both are known to be complete.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import callboard

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("jobs", "persistence", "actors", "benchmarks")
DATA = {"py.typed", "persistence/schema.sql", "persistence/schema_2.sql"}
PLUGIN = "callboard_pytest/__init__.py"
"""The pytest plugin, which is imported without the rest."""
CORE_BYTES = 12 * 2**20
"""Upper limit of the core install: callboard, pykka, apsw, msgpack, without compiled .pyc files; in MB as `du -m` counts them."""

pytestmark = pytest.mark.xdist_group("packaging")


@dataclass(frozen=True)
class Built:
    checkout: Path
    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel and its core dependencies, without pip."""

    python: Path
    site: Path

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return run([str(self.python), *arguments], cwd=cwd)


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def build(copy: Path, out: Path, *what: str) -> list[Path]:
    """The wheel, and the sdist unless `--wheel` alone is asked for."""
    done = run([sys.executable, "-P", "-m", "build", "--no-isolation", *what, "--outdir", str(out), str(copy)], cwd=out.parent)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    return [*out.glob("*.whl"), *out.glob("*.tar.gz")]


def copy_of_the_checkout(to: Path) -> Path:
    made = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "*.library", "build", "dist")
    return Path(shutil.copytree(ROOT, to, symlinks=True, ignore=made))


def in_wheel(wheel: Path) -> set[str]:
    """The files of the package in the wheel, relative to callboard/."""
    names = zipfile.ZipFile(wheel).namelist()
    return {name.removeprefix("callboard/") for name in names if not name.startswith("callboard-0") and not name.endswith("/")}


def on_disk(checkout: Path) -> set[str]:
    """The files that the wheel should have: the root's __init__.py, every module of the rooms, and DATA."""
    modules = {path.relative_to(checkout).as_posix() for room in ROOMS for path in (checkout / room).rglob("*.py")}
    return {"__init__.py", *modules, *DATA, PLUGIN}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("build")
    copy = copy_of_the_checkout(folder / "checkout")
    return Built(copy, *build(copy, folder / "out"))


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env/bin/python"
    pip = [sys.executable, "-P", "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--no-compile"]
    done = run([*pip, str(built.wheel)], cwd=folder)
    if done.returncode and run([*pip, "--no-deps", "--dry-run", "pykka"], cwd=folder).returncode:
        pytest.skip("pip reaches no package index")
    assert done.returncode == 0, "the wheel or its dependencies cannot be installed: " + done.stderr.splitlines()[-1]
    return Installed(python, next((folder / "env/lib").glob("python3*")) / "site-packages")


def test_the_tests_import_this_checkout() -> None:
    assert Path(callboard.__file__).resolve().parent == ROOT


def test_the_wheel_has_exactly_the_packages_on_disk(built: Built) -> None:
    assert in_wheel(built.wheel) == on_disk(built.checkout)


def test_a_forgotten_package_and_a_stray_module_at_the_root_are_caught(tmp_path: Path) -> None:
    copy = copy_of_the_checkout(tmp_path / "checkout")
    (copy / "jobs/forgotten").mkdir()
    (copy / "jobs/forgotten/__init__.py").write_text('"""Not in pyproject.toml."""\n')
    (copy / "stray.py").write_text('"""At the root."""\n')
    [wheel] = build(copy, tmp_path / "out", "--wheel")
    assert on_disk(copy) - in_wheel(wheel) == {"jobs/forgotten/__init__.py"}
    assert in_wheel(wheel) - on_disk(copy) == {"stray.py"}


def test_the_sdist_has_the_tests_and_the_two_commands_but_not_the_typing_tree(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"pyproject.toml", "LICENSE", ".ci/run", "tests/run.py", "tests/checkout.py", "tests/conftest.py", "examples/demo.py"}
    assert names >= {page.name for page in built.checkout.glob("*.md")}
    assert not [name for name in names if "typing_root" in name or "__pycache__" in name]


def test_the_core_install_is_small(installed: Installed, record_property: Callable[[str, object], None]) -> None:
    files = [path for path in installed.site.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    size = sum(path.stat().st_size for path in files)
    record_property("core_install_bytes", size)
    assert (installed.site / "callboard/__init__.py") in files
    assert size <= CORE_BYTES, f"{size:,} bytes"


def test_every_module_imports_with_the_core_dependencies_alone(built: Built, installed: Installed, tmp_path: Path) -> None:
    """Except those that exist for an extra: the simulator (greenlet) and the modules behind the command line (click, rich)."""
    files = sorted(on_disk(built.checkout) - DATA - {PLUGIN})
    core = [name for name in files if not name.startswith(("actors/testing/", "actors/frontends/"))]
    modules = [".".join(["callboard", *Path(name).with_suffix("").parts]).removesuffix(".__init__") for name in core]
    done = installed.run("-c", f"import importlib\nfor name in {modules}: importlib.import_module(name)", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_hosts_own_modules_named_like_our_folders_do_not_clash(installed: Installed, tmp_path: Path) -> None:
    for name in ROOMS:
        (tmp_path / f"{name}.py").write_text(f"HOST = {name!r}\n")
    (tmp_path / "main.py").write_text(
        "import callboard, jobs, persistence, actors, benchmarks\n"
        "import callboard.jobs, callboard.persistence, callboard.actors, callboard.benchmarks\n"
        "import json\n"
        "print(json.dumps([[m.HOST for m in (jobs, persistence, actors, benchmarks)],\n"
        "    [m.__file__ for m in (callboard.jobs, callboard.persistence, callboard.actors, callboard.benchmarks)]]))\n"
    )
    done = installed.run("main.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    hosts, ours = json.loads(done.stdout)
    assert hosts == list(ROOMS)
    assert ours == [str(installed.site / f"callboard/{name}/__init__.py") for name in ROOMS]


def test_the_command_without_its_extra_says_how_to_get_it(built: Built, installed: Installed, tmp_path: Path) -> None:
    if not (built.checkout / "actors/frontends/cli.py").is_file():
        pytest.skip("actors/frontends/cli.py is not here yet")
    done = run([str(installed.python.with_name("callboard")), "--help"], cwd=tmp_path)
    assert done.returncode == 2
    assert "callboard[cli]" in done.stderr and "Traceback" not in done.stderr


def test_importing_callboard_brings_no_extra_and_no_event_loop(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    code = (
        "import json, sys, pykka, apsw, msgpack\nbefore = set(sys.modules)\nimport callboard\n"
        "print(json.dumps([len(set(sys.modules) - before), sorted(sys.modules)]))"
    )
    done = run([sys.executable, "-c", code], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    more, modules = json.loads(done.stdout)
    record_property("modules_beyond_the_dependencies", more)
    assert not {"click", "rich", "greenlet", "asyncio", "multiprocessing"} & set(modules)
