"""No file of the project names a package registry, or the machine that it was written on."""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|npmjs|crates|nodesource|anaconda)\.[a-z]{2,}|\bindex[-_]url\b.*=", re.IGNORECASE)
MADE = re.compile(r"\..*|__pycache__|build|dist|.*\.egg-info|.*\.library|typing_root")
"""Folders that tools make, and the second sight of the rooms for static checkers."""


def this_machine() -> set[str]:
    """What would give this machine away: where the checkout lies, and the hosts of the package indexes it is set up with."""
    places = [value for name, value in os.environ.items() if re.fullmatch(r"(PIP|UV)_\w*(INDEX|FIND_LINKS)\w*", name)]
    for path in ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf", f"{sys.prefix}/pip.conf"):
        config = configparser.RawConfigParser(strict=False)
        config.read(Path(path).expanduser())
        places += [value for section in config.sections() for name, value in config.items(section) if "index" in name or "links" in name]
    hosts = {urlsplit(place).hostname or "" for text in places for place in text.split()}
    return {f"{ROOT}/", *hosts} - {""}


def leaks(text: str, private: set[str]) -> list[str]:
    return [line.strip()[:200] for line in text.splitlines() if REGISTRY.search(line) or any(word in line for word in private)]


def project_files() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name == ".ci" or not MADE.fullmatch(name)]
        yield from (Path(folder, name) for name in names)


def test_no_file_names_a_package_registry_or_this_machine() -> None:
    private = this_machine()
    found = []
    for path in project_files():
        if path == Path(__file__).resolve():
            continue
        found += [f"{path.relative_to(ROOT)}: {line}" for line in leaks(path.read_bytes().decode("utf-8", "replace"), private)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", ["https://files.pythonhosted.org/x", "--extra-index-url=x", "at /srv/here/main/jobs", "host.internal"])
def test_a_registry_or_a_path_of_this_machine_is_caught(line: str) -> None:
    assert leaks(f"fine\n{line}\n", {"/srv/here/main/", "host.internal"}) == [line]
