"""Lets the tests of this folder import `histories`, whatever the import mode; and garbage is not looked for at any moment."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@functools.cache
def _freeze() -> None:
    """What the process is made of is not looked through again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def garbage_by_hand() -> Iterator[None]:
    """`histories` collects it after every few; to look for it all the time takes a tenth of the time."""
    _freeze()
    gc.disable()
    yield
    gc.enable()
